"""Where things are in a collection: pictures, metadata, detections, masks.

As released (and unpacked, so that a folder may hold another one of its name):

    train/<ID>.jpg  test/<ID>.jpg  instance_masks/<ID>.png
    metadata/iwildcam2022_mdv4_detections.json        2021: iwildcam2021_megadetector_results.json
    metadata/iwildcam2022_train_annotations.json      COCO Camera Traps
    metadata/iwildcam2022_test_information.json
    metadata/train_sequence_counts.csv                2022 only

Another collection keeps its pictures in folders as it likes; its masks lie in the same folders under
`instance_masks`, and its detections, a file with `detections` or `megadetector` in its name, at the top or in
`metadata`.
"""

import dataclasses
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from deepmac.core.errors import InputError
from deepmac.jobs.pictures import PICTURE_SUFFIXES

SPLITS = ("train", "test")
MASK_FOLDER = "instance_masks"
# An id in place of a file name: pictures of the releases are JPEG.
_SUFFIXES_OF_IDS = (".jpg", ".JPG", ".jpeg", ".png")


@dataclasses.dataclass(frozen=True)
class Layout:
    """The files of a collection.

    Attributes:
        images: folder that the names of pictures start from.
        detections: MegaDetector's results.
        masks: folder of the label images; it may not exist yet.
        metadata: COCO Camera Traps files; there may be none.
        counts: CSV of animals in each sequence, if there is one.
    """

    images: Path
    detections: Path
    masks: Path
    metadata: tuple[Path, ...] = ()
    counts: Path | None = None


def find_layout(root: str | os.PathLike) -> Layout:
    """Finds the files of a collection.

    Raises:
        InputError: no such folder; no detections, or several files of them.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"no such folder: {root}")
    metadata_folder = _unpacked(root, "metadata")
    files = sorted([*root.glob("*.json"), *metadata_folder.glob("*.json")], key=_train_first)
    detections = [path for path in files if _names(path, "detections", "megadetector")]
    if len(detections) != 1:
        found = "none" if not detections else " and ".join(str(path) for path in detections)
        raise InputError(
            f"{root} needs one JSON file of MegaDetector's results, at the top or in metadata/, with "
            f"'detections' or 'megadetector' in its name; found {found}"
        )
    counts = next(iter(sorted(metadata_folder.glob("*sequence_counts.csv"))), None)
    return Layout(
        images=root,
        detections=detections[0],
        masks=_unpacked(root, MASK_FOLDER),
        metadata=tuple(path for path in files if _names(path, "annotations", "information")),
        counts=counts,
    )


def _train_first(path):
    return "train" not in path.name.lower(), path


def _names(path, *words):
    return any(word in path.name.lower() for word in words)


def _unpacked(root: Path, name: str) -> Path:
    """`root/name`, or `root/name/name` where an archive with such a folder was unpacked into one."""
    inner = root / name / name
    return inner if inner.is_dir() else root / name


def relative_names(names: Sequence[str], images: Path) -> list[str]:
    """Makes the names of pictures relative to a folder.

    Absolute ones, as MegaDetector writes them, may start from the folder as it is called here, or from the
    folder that all of them share as it was called where MegaDetector ran.

    Args:
        names: paths with forward slashes, or ids.
        images: the folder.

    Raises:
        InputError: a name that leads out of the folder, or absolute and relative names mixed.
    """
    absolute = [_is_absolute(name) for name in names]
    if any(absolute) and not all(absolute):
        raise InputError(f"{names[absolute.index(True)]} is absolute and other pictures' names are not")
    relative = _without_start(names, images) if any(absolute) else list(names)
    for name in relative:
        if not name or ".." in PurePosixPath(name).parts:
            raise InputError(f"{name!r} is not the name of a picture in {images}")
    return relative


def _is_absolute(name):
    return name.startswith("/") or name[1:2] == ":"  # of Windows


def _without_start(names, images):
    for folder in (images.absolute(), images.resolve()):
        start = f"{folder.as_posix().rstrip('/')}/"
        if all(name.startswith(start) for name in names):
            return [name[len(start) :] for name in names]
    shared = posixpath.commonpath([posixpath.dirname(name) for name in names])
    return [name[len(shared) :].lstrip("/") for name in names]


def picture_id(name: str) -> str:
    """The name of a picture without its suffix, and for `train/<ID>.jpg` and `test/<ID>.jpg` the ID alone."""
    path = PurePosixPath(name)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        path = path.with_suffix("")
    is_released = len(path.parts) == 2 and path.parts[0] in SPLITS
    return path.name if is_released else path.as_posix()


def mask_path(masks: Path, name: str) -> Path:
    """Where the label image of a picture lies.

    Args:
        masks: folder of the label images.
        name: of the picture, relative or an id.
    """
    return masks / f"{picture_id(name)}.png"


def picture_path(images: Path, name: str) -> Path | None:
    """Finds a picture's file.

    Args:
        images: folder of the pictures; of a release its root, or the folder of a split.
        name: of the picture, relative or an id.

    Returns:
        The file; None if there is none.
    """
    return next((path for path in _candidates(images, name) if path.is_file()), None)


def _candidates(images: Path, name: str):
    yield images / name
    path = PurePosixPath(name)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        if len(path.parts) == 2 and path.parts[0] in SPLITS:
            yield images / path.parts[0] / name
            yield images / path.name
        return
    for folder in ("", *SPLITS, *(f"{split}/{split}" for split in SPLITS)):
        for suffix in _SUFFIXES_OF_IDS:
            yield images / folder / f"{name}{suffix}"
