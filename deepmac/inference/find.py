"""Finds the folder of a model by name or path, and says what kind of model it holds."""

import dataclasses
import hashlib
import json
import os
import tarfile
import zlib
from pathlib import Path
from typing import Any

import yaml

from deepmac.core.errors import InputError
from deepmac.core.files import atomic_folder

PARAMS_FILE = "params.yaml"
PIPELINE_FILE = "pipeline.config"
QUALITY_FILE = "quality.json"
GRAPHS_FILE = "graphs.json"
# Name -> archive.
PUBLISHED_MODELS = {
    "deepmac_1024x1024_coco17": (
        "https://download.tensorflow.org/models/object_detection/tf2/20210329/deepmac_1024x1024_coco17.tar.gz"
    )
}
# Models that come with the package: name -> folder in the layout of a model directory.
SHIPPED: dict[str | os.PathLike, Path] = {"mini": Path(__file__).parents[1] / "weights" / "mini"}


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """Where a model is; what was exported can be run but not changed."""

    folder: Path  # of `params.yaml` and a checkpoint, `pipeline.config` and `checkpoint/`, or graphs
    kind: str = "checkpoint"  # or "saved_model", "onnx"

    @property
    def onnx(self) -> Path | None:
        """The folder of ONNX files: its own, or `onnx/` beside the checkpoint they were made from."""
        if self.kind != "checkpoint":
            return self.folder if self.kind == "onnx" else None
        beside = self.folder / "onnx"
        if not (beside / GRAPHS_FILE).is_file():
            return None
        is_theirs = read_graphs(beside)["weights_sha256"] == self.weights_sha256
        return beside if is_theirs else None  # the weights may have been trained further

    @property
    def weights_sha256(self) -> str:
        """Hash that tells one state of a model from another without loading it, the same on every machine.

        Hashes what describes the model, and the index of its weights, which holds a checksum of every tensor;
        of an ONNX export all of it.
        """
        described = (PARAMS_FILE, PIPELINE_FILE, "checkpoint", "saved_model.pb")
        files = [self.folder / name for name in described]
        for folder in (self.folder, self.folder / "checkpoint", self.folder / "variables"):
            files += folder.glob("*.index")
        if self.kind == "onnx":
            files += self.folder.glob("*.onnx")
        digest = hashlib.sha256()
        for path in sorted(path for path in files if path.is_file()):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    @property
    def detects(self) -> bool:
        """Whether it finds objects: it was trained to, and is no exported graph.

        Raises:
            InputError: what describes it is damaged.
        """
        params = self.folder / PARAMS_FILE
        if self.kind != "checkpoint" or not params.is_file():
            return self.kind == "checkpoint"  # the published configurations all do
        try:
            return bool(read_params(params)["task"]["losses"]["detection"]["object_center_weight"])
        except (KeyError, TypeError) as error:
            raise InputError(f"{params} does not describe a DeepMAC experiment: no {error}") from error

    @property
    def calibration(self) -> tuple[float, float]:
        """Intercept and slope of `Prediction.quality`, of a model that has been measured.

        Raises:
            InputError: the file with them is damaged.
        """
        path = self.folder / QUALITY_FILE
        if not path.is_file():
            return 0.0, 1.0
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return float(content["intercept"]), float(content["slope"])
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{path} must hold the numbers intercept and slope: {error}") from error


def find_model(name_or_path: str | os.PathLike) -> ModelFolder:
    """Finds a model; a published one is downloaded at its first use.

    Args:
        name_or_path: "mini", a key of `deepmac.inference.find.PUBLISHED_MODELS`, or a folder: a `model_dir`
            written by training, one in the published layout (`pipeline.config` and `checkpoint/`), one
            with `saved_model/`, a SavedModel, or an ONNX export. A folder goes before a published name, a
            checkpoint before the SavedModel beside it.

    Raises:
        InputError: no such model, or one that cannot be downloaded.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise InputError(f"a model is a name or a folder, not {name_or_path!r}")
    folder = SHIPPED.get(name_or_path) or Path(name_or_path)
    if not folder.exists() and str(name_or_path) in PUBLISHED_MODELS:
        folder = published_model(str(name_or_path))
    if (folder / PARAMS_FILE).is_file():
        return ModelFolder(folder)
    graph = next((f for f in (folder, folder / "saved_model") if (f / "saved_model.pb").is_file()), None)
    has_checkpoint = any(folder.glob("checkpoint/*.index")) or any(folder.glob("*.index"))
    if (folder / PIPELINE_FILE).is_file() and (has_checkpoint or not graph):
        return ModelFolder(folder)
    if graph:
        return ModelFolder(graph, "saved_model")
    if (folder / "encoder.onnx").is_file():
        return ModelFolder(folder, "onnx")
    names = ", ".join(map(repr, [*SHIPPED, *PUBLISHED_MODELS]))
    raise InputError(
        f"no model {str(name_or_path)!r}: give {names}, a model_dir written by training (params.yaml and a "
        "checkpoint), a folder with pipeline.config and checkpoint/, one with saved_model/, or an ONNX export"
    )


def read_params(path: Path) -> Any:
    """What a `params.yaml` holds.

    Raises:
        InputError: not YAML.
    """
    try:
        return _ParamsLoader(path.read_text(encoding="utf-8")).get_single_data()
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


class _ParamsLoader(yaml.SafeLoader):
    """Safe YAML in which Model Garden's tuples are lists."""


_ParamsLoader.add_constructor("tag:yaml.org,2002:python/tuple", yaml.SafeLoader.construct_yaml_seq)


def read_graphs(folder: Path) -> dict[str, Any]:
    """What an export says of itself; see `deepmac.export`.

    Raises:
        InputError: `graphs.json` is missing, damaged, or of an earlier version.
    """
    path = folder / GRAPHS_FILE
    try:
        graphs = json.loads(path.read_text(encoding="utf-8"))
        if missing := {"input_size", "most_boxes", "weights_sha256", "graphs"} - set(graphs):
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"cannot read {path}: {error}; export the model again") from error
    return graphs


def published_model(name: str) -> Path:
    """Returns the folder of one of `PUBLISHED_MODELS`, downloaded and unpacked on first use.

    It holds `pipeline.config`, `checkpoint/` and `saved_model/`. Archives and models are kept in the folder
    that `DEEPMAC_CACHE` names, else in the user's cache folder.

    Raises:
        InputError: no connection, or an archive that is damaged or unsafe.
    """
    import pooch  # not above: both take longer to import than `mini` to load
    import requests

    url = PUBLISHED_MODELS[name]
    cache = Path(os.environ.get("DEEPMAC_CACHE") or pooch.os_cache("deepmac")).absolute()
    folder, archive = cache / name, cache / url.rsplit("/", 1)[1]
    if not folder.is_dir():
        pooch.get_logger().setLevel("WARNING")
        downloader = pooch.HTTPDownloader(progressbar=True, chunk_size=1 << 20)
        try:
            # The publisher gives no checksum.
            pooch.retrieve(url, None, fname=archive.name, path=cache, downloader=downloader)
        except requests.RequestException as error:
            lost = isinstance(error, requests.ConnectionError)
            reason = f"no connection ({_innermost(error)})" if lost else error
            raise InputError(
                f"cannot download {url}: {reason}; run again, or fetch it elsewhere and put it at {archive}"
            ) from error
        _unpack(archive, folder)
    return next(path.parent for path in sorted(folder.rglob(PIPELINE_FILE)))


def _innermost(error: BaseException) -> str:
    """What the first of errors said; those around it repeat it, with what only their authors understand."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return getattr(error, "strerror", None) or str(error)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks an archive that holds a model; nothing is written outside `folder`."""
    with atomic_folder(folder) as temporary:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(temporary, filter="data")
        except tarfile.FilterError as error:
            raise InputError(f"{archive} is refused: it would write outside its folder ({error})") from error
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise InputError(f"{archive} cannot be unpacked ({error}): delete it and run again") from error
        if not any(temporary.rglob(PIPELINE_FILE)):
            raise InputError(f"{archive} holds no pipeline.config: it is no published model")
