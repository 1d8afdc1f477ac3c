"""Finds the folder of a model by name or path, and says what kind of model it holds."""

import dataclasses
import hashlib
import os
import tarfile
import zlib
from pathlib import Path

import pooch
import requests
from tqdm.auto import tqdm

from deepmac.core.errors import InputError
from deepmac.core.files import atomic_file, atomic_folder

PARAMS_FILE = "params.yaml"
PIPELINE_FILE = "pipeline.config"
# Models that come with the package: name -> folder in the layout of a model directory.
SHIPPED = {"mini": Path(__file__).parents[1] / "weights" / "mini"}


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """Where a model is.

    Attributes:
        folder: holds `params.yaml` and a checkpoint, `pipeline.config` and `checkpoint/`, or is a SavedModel.
        is_graph: whether it is a SavedModel: an exported graph, which can be run but not changed.
    """

    folder: Path
    is_graph: bool = False


def find_model(name_or_path: str | os.PathLike) -> ModelFolder:
    """Finds a model; a published one is downloaded at its first use.

    Args:
        name_or_path: "mini", a key of `deepmac.inference.find.PUBLISHED_MODELS`, or a folder: a `model_dir`
            written by training, one in the published layout (`pipeline.config` and `checkpoint/`), one
            with `saved_model/`, or a SavedModel. A folder goes before a published name, a checkpoint
            before the SavedModel beside it.

    Raises:
        InputError: no such model, or one that cannot be downloaded.
    """
    if name_or_path in SHIPPED:
        folder = SHIPPED[name_or_path]
        if not (folder / PARAMS_FILE).is_file():
            raise InputError(
                f"this installation has no weights for {name_or_path!r} ({folder} is missing): "
                "give the folder of a model you trained"
            )
        return ModelFolder(folder)
    folder = Path(name_or_path)
    if not folder.exists() and str(name_or_path) in PUBLISHED_MODELS:
        folder = published_model(str(name_or_path))
    if (folder / PARAMS_FILE).is_file():
        return ModelFolder(folder)
    graph = next((f for f in (folder, folder / "saved_model") if (f / "saved_model.pb").is_file()), None)
    if (folder / PIPELINE_FILE).is_file() and (_has_checkpoint(folder) or not graph):
        return ModelFolder(folder)
    if graph:
        return ModelFolder(graph, is_graph=True)
    names = ", ".join(map(repr, [*SHIPPED, *PUBLISHED_MODELS]))
    raise InputError(
        f"no model {str(name_or_path)!r}: give {names}, a model_dir written by training (params.yaml and a "
        "checkpoint), a folder with pipeline.config and checkpoint/, or one with saved_model/"
    )


def weights_sha256(name_or_path: str | os.PathLike) -> str:
    """Hash that tells one state of a model from another without loading it, the same on every machine.

    Hashes what describes the model, and the index of its weights, which holds a checksum of every tensor.

    Raises:
        InputError: no such model.
    """
    model = find_model(name_or_path)
    described = (PARAMS_FILE, PIPELINE_FILE, "checkpoint", "saved_model.pb")
    files = [model.folder / name for name in described]
    for folder in (model.folder, model.folder / "checkpoint", model.folder / "variables"):
        files += folder.glob("*.index")
    digest = hashlib.sha256()
    for path in sorted(path for path in files if path.is_file()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _has_checkpoint(folder):
    return any(folder.glob("checkpoint/*.index")) or any(folder.glob("*.index"))


PUBLISHED_MODELS = {
    "deepmac_1024x1024_coco17": (
        "https://download.tensorflow.org/models/object_detection/tf2/20210329/deepmac_1024x1024_coco17.tar.gz"
    ),
}
_CHUNK = 1 << 20  # bytes
_TIMEOUT = 30  # seconds without an answer


def cache_folder() -> Path:
    """Where what can be had again is kept: the folder `DEEPMAC_CACHE` names, else the user's cache folder."""
    return Path(os.environ.get("DEEPMAC_CACHE") or pooch.os_cache("deepmac")).absolute()


def published_model(name: str, cache: str | os.PathLike | None = None) -> Path:
    """Returns the folder of a published model, downloaded and unpacked on first use.

    The publisher gives no checksum, so the one of the first download is trusted: it is kept beside the
    archive, in the format of `sha256sum`, and every later download must have it.

    Args:
        name: a key of `PUBLISHED_MODELS`.
        cache: where archives and models are kept; `cache_folder()` by default.

    Returns:
        A folder with `pipeline.config`, `checkpoint/` and `saved_model/`.

    Raises:
        InputError: unknown name, no connection, or an archive that is damaged, unsafe, or not the one
            seen first.
    """
    if name not in PUBLISHED_MODELS:
        raise InputError(f"unknown model {name!r}: use one of {', '.join(PUBLISHED_MODELS)}")
    cache = Path(cache or cache_folder())
    folder = cache / name
    if not folder.is_dir():
        archive = _fetch(PUBLISHED_MODELS[name], cache)
        _unpack(archive, folder)
        _keep_checksum(archive)
    return next(path.parent for path in sorted(folder.rglob("pipeline.config")))


def _fetch(url: str, cache: Path) -> Path:
    """Returns the archive in the cache, downloaded if it is not there or not the one seen first."""
    archive = cache / url.rsplit("/", 1)[1]
    record = _checksum_file(archive)
    known_hash = record.read_text().split()[0] if record.is_file() else None
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(
            url, known_hash, fname=archive.name, path=cache, downloader=_ResumingDownloader(archive)
        )
    except requests.RequestException as error:
        raise InputError(
            f"cannot download {url} ({error}): run again to continue, or fetch it elsewhere and put it at "
            f"{archive}"
        ) from error
    except ValueError as error:  # pooch: another checksum
        raise InputError(
            f"{url} is not the file that was downloaded first, whose checksum {record} keeps: "
            "delete that file if the publisher has changed the model"
        ) from error
    return archive


def _checksum_file(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.sha256")


def _keep_checksum(archive: Path) -> None:
    """Records the checksum of an archive that could be unpacked."""
    with atomic_file(_checksum_file(archive)) as path:
        path.write_text(f"{pooch.file_hash(archive)}  {archive.name}\n")


class _ResumingDownloader:
    """Downloads for pooch; what arrived stays beside the archive, and the next attempt continues it."""

    def __init__(self, archive: Path):
        self._partial = archive.with_name(f"{archive.name}.part")
        self._version = archive.with_name(f"{archive.name}.part.etag")

    def __call__(self, url, output_file, _pooch, check_only=False):
        """Downloads `url` to the path `output_file`."""
        headers = {"Accept-Encoding": "identity"}
        if self._partial.is_file() and self._version.is_file():
            # The server sends the rest if it still has the same version, else everything.
            headers["Range"] = f"bytes={self._partial.stat().st_size}-"
            headers["If-Range"] = self._version.read_text()
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                self._forget()  # what is there is not a part of this file
                return self(url, output_file, _pooch)
            response.raise_for_status()
            resumed = response.status_code == requests.codes.partial_content
            self._remember(response.headers.get("ETag", ""))
            self._write(response, resumed)
        self._partial.replace(output_file)
        return self._forget()

    def _write(self, response, resumed):
        start = self._partial.stat().st_size if resumed else 0
        length = int(response.headers.get("Content-Length", 0))
        with (
            self._partial.open("ab" if resumed else "wb") as file,
            tqdm(
                desc=self._partial.stem,
                initial=start,
                total=start + length if length else None,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
            ) as progress,
        ):
            for chunk in response.iter_content(_CHUNK):
                progress.update(file.write(chunk))

    def _remember(self, version):
        if version and not version.startswith("W/"):  # a weak version does not promise equal bytes
            self._version.write_text(version)
        else:
            self._version.unlink(missing_ok=True)

    def _forget(self):
        self._partial.unlink(missing_ok=True)
        self._version.unlink(missing_ok=True)


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
        if not any(temporary.rglob("pipeline.config")):
            raise InputError(f"{archive} holds no pipeline.config: it is no published model")
