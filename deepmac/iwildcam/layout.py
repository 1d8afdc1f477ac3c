"""Where things are in a collection: pictures, metadata, detections, masks.

As released (and unpacked, so that a folder may hold another one of its name):

    train/<ID>.jpg  test/<ID>.jpg  instance_masks/<ID>.png
    metadata/iwildcam2022_mdv4_detections.json        2021: iwildcam2021_megadetector_results.json
    metadata/iwildcam2022_train_annotations.json      COCO Camera Traps
    metadata/iwildcam2022_test_information.json
    metadata/train_sequence_counts.csv                2022 only

Another collection keeps its pictures in folders as it likes; its masks lie in the same folders under
`instance_masks`, or a folder with the report of `deepmac iwildcam-masks`; its detections, the only file, JSON
or animl's table, that holds such, or the `datapackage.json` of a Camtrap DP, at the top or in `metadata`.
"""

import contextlib
import dataclasses
import os
import posixpath
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from deepmac.core.errors import InputError
from deepmac.core.images import PICTURE_SUFFIXES
from deepmac.jobs.pictures import MASKS_REPORT

SPLITS = ("train", "test")
# An id in place of a file name: pictures of the releases are JPEG.
_SUFFIXES_OF_IDS = (".jpg", ".JPG", ".jpeg", ".png")
_TRIED = 20  # names; the pictures of the first ones may be missing
_HEAD = 100_000  # characters of a JSON file that tell what it holds


@dataclasses.dataclass(frozen=True)
class Layout:
    """The files of a collection.

    Attributes:
        images: folder that the names of pictures start from.
        detections: results of MegaDetector or another program, as `read_detections` takes them.
        masks: folder of the label images; it may not exist yet.
        metadata: COCO Camera Traps files; there may be none.
        counts: CSV of animals in each sequence, if there is one.
    """

    images: Path
    detections: Path
    masks: Path
    metadata: tuple[Path, ...] = ()
    counts: Path | None = None


def find_layout(
    root: str | os.PathLike,
    detections: str | os.PathLike | None = None,
    masks: str | os.PathLike | None = None,
) -> Layout:
    """Finds the files of a collection.

    Args:
        root: the folder of its pictures.
        detections: the file of them; found in the folder unless given.
        masks: the folder of the label images; likewise.

    Raises:
        InputError: no such folder; no detections are given or found, or several files of them.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"no such folder: {root}")

    def unpacked(name: str) -> Path:
        """`root/name`, or `root/name/name` where an archive with such a folder was unpacked into one."""
        inner = root / name / name
        return inner if inner.is_dir() else root / name

    places = root, unpacked("metadata")
    files, tables = (
        sorted(path for place in places for path in place.glob(end)) for end in ("*.json", "*.csv")
    )
    found = [path for path in files if _holds(path, '"detections"', '"failure"', '"detection_categories"')]
    found += [path for path in tables if _holds(path, "bbox1", "bbox_x")]
    found = found or [path for path in files if path.name == "datapackage.json"]
    if detections is None and len(found) != 1:
        raise InputError(
            f"{root} needs one file of detections, results of MegaDetector for example; found "
            f"{' and '.join(map(str, found)) or 'none'}: name the one to use as `detections`"
        )
    metadata = [path for path in files if path not in found and _holds(path, '"images"', '"annotations"')]
    reports = [unpacked("instance_masks"), *(path.parent for path in root.glob(f"*/{MASKS_REPORT}*.json"))]
    return Layout(
        images=root,
        detections=found[0] if detections is None else Path(detections),
        masks=next(filter(Path.is_dir, reports), reports[0]) if masks is None else Path(masks),
        metadata=tuple(sorted(metadata, key=lambda path: ("train" not in path.name.lower(), path))),
        counts=next(iter(sorted(unpacked("metadata").glob("*sequence_counts.csv"))), None),
    )


def _holds(path: Path, *keys: str) -> bool:
    """Whether one of the keys is near the beginning of a JSON file or a table."""
    with path.open(encoding="utf-8", errors="replace") as file:
        head = file.read(_HEAD)
    return any(key in head for key in keys)


def relative_names(names: Sequence[str], images: Path) -> list[str]:
    """Makes the names of pictures relative to a folder.

    They may start from a folder of the machine where they were made: what stands most often before the end
    that leads to a picture, or if no end does and all are absolute, the folder that they share. Others that
    are absolute or lead out of the folder belong to the picture to which the longest end of their path leads;
    without one, or if it has a name already, to one that is missing.

    Args:
        names: paths with forward slashes, or ids.
        images: the folder.

    Raises:
        InputError: a name with nothing in it.
    """
    ends = {name: _end(name, images) for name in names[:_TRIED]}
    starts = Counter(name.removesuffix(end) for name, end in ends.items() if end)
    start = max(starts, key=starts.__getitem__, default="")
    if not starts and all(map(_is_foreign, names)):
        with contextlib.suppress(ValueError):  # no names, or of several machines
            start = posixpath.commonpath([posixpath.dirname(name) for name in names]).rstrip("/") + "/"
    relative = {name: rest for name in names if not _is_foreign(rest := name.removeprefix(start))}
    taken = set(relative.values())
    for name in dict.fromkeys(name for name in names if name not in relative):
        end = _end(name, images)
        parts = [part.rstrip(":") for part in name.split("/") if part not in ("", "..")]
        relative[name] = end if end and end not in taken else "/".join(parts)
        taken.add(relative[name])
    if "" in taken:
        raise InputError(f"a picture of {images} has no name")
    return [relative[name] for name in names]


def _is_foreign(name: str) -> bool:
    """Whether a name is absolute, also on Windows, or leads out of its folder."""
    return name.startswith("/") or name[1:2] == ":" or ".." in name.split("/")


def _end(name: str, images: Path) -> str:
    """The longest end of a name that leads to a picture in the folder; "" if none does."""
    parts = name.split("/")
    ends = ("/".join(parts[k:]) for k in range(len(parts)))
    return next((end for end in ends if not _is_foreign(end) and picture_path(images, end)), "")


def picture_id(name: str) -> str:
    """The name of a picture without its suffix, and for `train/<ID>.jpg` and `test/<ID>.jpg` the ID alone."""
    path = PurePosixPath(name)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        path = path.with_suffix("")
    is_released = len(path.parts) == 2 and path.parts[0] in SPLITS
    return path.name if is_released else path.as_posix()


def mask_path(masks: Path, name: str) -> Path:
    """Where the label image of a picture, a relative name or an id, lies in their folder."""
    return masks / f"{picture_id(name)}.png"


def picture_path(images: Path, name: str) -> Path | None:
    """Finds a picture, a relative name or an id, in a folder: of a release its root, or that of a split."""
    names, path = [name], PurePosixPath(name)
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        folders = ("", "train/", "test/", "train/train/", "test/test/")
        names += [f"{folder}{name}{suffix}" for folder in folders for suffix in _SUFFIXES_OF_IDS]
    else:
        names += [str(path.with_suffix(case)) for case in (path.suffix.lower(), path.suffix.upper())]
    if len(path.parts) == 2 and path.parts[0] in SPLITS:
        names += [f"{path.parts[0]}/{name}", path.name]
    return next((path for name in names if (path := images / name).is_file()), None)
