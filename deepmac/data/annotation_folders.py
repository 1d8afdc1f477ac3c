"""Folders as annotation tools lay them out: where annotations, pictures and names of classes are."""

import re
from pathlib import Path

from deepmac.core.errors import InputError
from deepmac.core.images import PICTURE_SUFFIXES

LABEL_SUFFIXES = (".xml", ".json", ".txt")  # of files that each belong to a picture
SPLITS = ("train2017", "val2017")  # of COCO
_PICTURES = ("{0}", "images/{0}", "data/{0}", "obj_{0}_data", "images", "data", "JPEGImages", "pictures", ".")
# Where folders of annotation tools have the annotations of a split: of COCO and CVAT, Roboflow, Ultralytics.
_OF_SPLIT = (
    "annotations/instances_{0}.json",
    "{0}/_annotations.coco.json",
    "annotations/person_keypoints_{0}.json",
    "annotations/{0}.json",
    "{0}.json",
    "labels/{0}",
    "{0}/labels",
    "{0}",  # beside the pictures
)
# Of the only split: of FiftyOne, Label Studio, datumaro.
_OF_ALL = (
    "labels.json",
    "result.json",
    "annotations.json",
    "annotations/annotations.json",
    "annotations/instances.json",
)


def find_splits(folder: Path, splits: tuple[str, ...] = ()) -> dict[str, tuple[Path, Path]]:
    """Finds annotations and pictures in a folder laid out by an annotation tool.

    That is COCO, CVAT, Label Studio, Roboflow, datumaro, FiftyOne, VGG Image Annotator, Ultralytics (YOLO) or
    Pascal VOC. No splits stand for COCO's, or all that there are, else "train".

    Returns:
        Split -> file or folder of the annotations, folder of the pictures.

    Raises:
        InputError: no such folder; a split is not there; which file has the annotations is not known.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; it must hold annotations and pictures, such as COCO's")
    if not splits:
        like = {pattern: _splits_like(pattern, folder) for pattern in _OF_SPLIT}
        splits = next(filter(None, like.values()), ("train",))
        if splits == like[_OF_SPLIT[1]]:  # other splits of the tool may have other files
            splits = tuple(dict.fromkeys((*splits, *like[_OF_SPLIT[-1]])))
        splits = SPLITS if set(SPLITS) <= set(splits) else splits
    return {split: _find_split(folder, split) for split in splits}


def _splits_like(pattern: str, folder: Path) -> tuple[str, ...]:
    """The splits whose annotations lie like this; where other files may lie, too, those of usual names."""
    start, end = pattern.split("{0}")
    paths = [path.relative_to(folder).as_posix() for path in sorted(folder.glob(pattern.format("*")))]
    names = [path.removeprefix(start).removesuffix(end) for path in paths]
    usual = [name for name in names if re.fullmatch(r"(train|val|test)[a-z]*\d*", name.lower())]
    if pattern == _OF_SPLIT[-1]:
        usual = [name for name in usual if _beside_pictures(folder / name)]
    return tuple(names if pattern in _OF_SPLIT[:3] else usual if len(usual) > 1 else ())


def _beside_pictures(folder: Path) -> list[Path]:
    """Annotations in a folder of pictures: itself if files in it are called like these, else its JSON."""
    files = [path for path in sorted(folder.glob("*")) if not path.name.startswith(".")]
    stems = {path.stem for path in files if path.suffix.lower() in PICTURE_SUFFIXES}
    if any(path.suffix.lower() in LABEL_SUFFIXES and path.stem in stems for path in files):
        return [folder]
    return [path for path in files if path.suffix.lower() == ".json" and path.name != "notes.json"]


def _find_split(folder: Path, split: str) -> tuple[Path, Path]:
    pictures = next(path for name in _PICTURES if (path := folder / name.format(split)).is_dir())
    named = (folder / pattern.format(split) for pattern in (*_OF_SPLIT[:-1], *_OF_ALL))
    last = (folder / "labels", folder / "Annotations")
    found = [path for path in named if path.exists()][:1]
    found = found or _beside_pictures(folder / split) or _beside_pictures(folder)
    found = found or [path for path in last if path.exists()][:1] or _beside_pictures(pictures)
    if found and found[0].parent == folder / split:  # a second file of all pictures must not be lost
        found = [path for path in _beside_pictures(folder / split) if path.is_file()] or found
    if len(found) > 1:
        raise InputError(f"{folder}: {found[0]} or {found[1]}? Name one of the files, with its --images")
    if found:
        return found[0], found[0] if found[0] == folder else pictures
    raise InputError(
        f"{folder} has no annotations of {split}: neither annotations/instances_{split}.json, as COCO, nor "
        "the files of a tool that is known; name them by --annotations and --images"
    )
