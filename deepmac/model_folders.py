"""Finds the folder of a model by name or path, and says what kind of model it holds."""

import dataclasses
import hashlib
import os
from pathlib import Path

from deepmac.downloads import PUBLISHED_MODELS, published_model
from deepmac.errors import InputError

PARAMS_FILE = "params.yaml"
PIPELINE_FILE = "pipeline.config"
# Models that come with the package: name -> folder in the layout of a model directory.
SHIPPED = {"mini": Path(__file__).parent / "weights" / "mini"}


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
        name_or_path: "mini", a key of `deepmac.downloads.PUBLISHED_MODELS`, or a folder: a `model_dir`
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
