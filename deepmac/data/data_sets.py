"""Data sets to train on: the splits of a folder, or of annotation files."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from deepmac.core.errors import InputError
from deepmac.data import flaws
from deepmac.data.annotation_folders import find_splits
from deepmac.data.coco import CocoData, NothingAnnotatedError, read_coco
from deepmac.data.flaws import TRAINING, summary
from deepmac.data.splits import draw_validation


def read_coco_folder(
    coco_dir: str | os.PathLike, splits: Sequence[str] = (), ids: set[int] | dict[str, set[int]] | None = None
) -> dict[str, CocoData]:
    """Reads and checks a folder for training: split -> its annotations.

    Args:
        coco_dir: the folder, in COCO's layout or that of an annotation tool.
        splits: names of the splits; those of `find_splits` unless given.
        ids: image ids to use, of all splits or by split; None uses all.

    Raises:
        InputError: as `read_coco`, or listed ids are in none of the splits.
    """
    places = find_splits(Path(coco_dir), tuple(splits))
    ids_of = {split: ids.get(split, set()) if isinstance(ids, dict) else ids for split in places}
    read, empty = {}, []
    for split, (file, pictures) in places.items():
        try:
            read[split] = read_coco(file, TRAINING, ids_of[split], pictures)
        except NothingAnnotatedError as error:
            if splits or len(places) == 1 or split.lower().startswith("train"):
                raise
            empty.append(f"{split}: {error}")
    if not read:
        raise InputError(empty[0])
    if empty:
        told = next((split for split in read if split.lower().startswith("train")), next(iter(read)))
        read[told].repairs[f"{flaws.EMPTY.name} {flaws.EMPTY.mended}"] = empty
    read = _with_common_categories(read)
    if ids is not None:
        lost = set().union(*ids_of.values()).difference(*(data.images for data in read.values()))
        if lost:
            files = ", ".join(data.name for data in read.values())
            raise InputError(f"{summary('listed image ids', [str(i) for i in sorted(lost)])} not in {files}")
    return read


def read_annotation_files(
    annotations: str | os.PathLike,
    image_dir: str | os.PathLike | None = None,
    val_annotations: str | os.PathLike | None = None,
    val_fraction: float = 0.0,
    ids: set[int] | None = None,
) -> dict[str, CocoData]:
    """Reads and checks annotation files for training, whatever they are called.

    Args:
        annotations: a file, or a folder of files for each picture, in a format of `load_annotations`.
        image_dir: folder of the pictures. None: `annotations` is a folder as `read_coco_folder` takes it, of
            which the splits to train and to validate with are used; pictures are called as seen from there.
        val_annotations: a second one, of the pictures to validate with.
        val_fraction: part of the pictures, 0 to 1, that `draw_validation` draws where there is no such file.
        ids: image ids to use; None uses all.

    Returns:
        "train", and if there is one "val" -> its annotations.

    Raises:
        InputError: as `read_coco`, or the folder has nothing to train with.
    """
    if image_dir is None:
        splits = _training_splits(Path(annotations), ids)
    else:
        splits = {"train": read_coco(annotations, TRAINING, ids, Path(image_dir))}
        if val_annotations:
            splits["val"] = read_coco(val_annotations, TRAINING, None, Path(image_dir))
        splits = _with_common_categories(splits)
    if "val" in splits:
        return splits
    data = splits["train"]
    drawn = draw_validation(data.images, data.annotations, val_fraction)
    if not drawn:
        return {"train": data}
    repairs_told_once = data._replace(repairs={}).part(drawn)
    return {"train": data.part(data.images.keys() - drawn), "val": repairs_told_once}


def _training_splits(folder: Path, ids: set[int] | None) -> dict[str, CocoData]:
    """Of a folder's splits "train", or the only one, and "val", if they are called so; the others are told.

    InputError: none or several could be "train", or several "val".
    """
    read = read_coco_folder(folder, ids=ids)
    if len(read) == 1:
        read = {"train": read.popitem()[1]}
    splits = {}
    for use in ("train", "val"):
        called = [split for split in read if split.lower().startswith(use)]
        if len(called) > 1 or (use == "train" and not called):
            raise InputError(
                f"{folder} has {', '.join(read)}: name the annotations to train with, and their --images; "
                "others to validate with by --val"
            )
        for split in called:
            splits[use] = read.pop(split).seen_from(folder)
    if read:
        unused = [f"{split}: {len(data.images)} images" for split, data in read.items()]
        splits["train"].repairs[f"{flaws.UNUSED.name} {flaws.UNUSED.mended}"] = unused
    return splits


def read_image_ids(path: str | os.PathLike) -> set[int]:
    """Reads a list of image ids: JSON, or text with ids between white space or commas (`#` starts a comment).

    Raises:
        InputError: anything else is in it.
    """
    try:
        lines = [line.partition("#")[0] for line in Path(path).read_text().splitlines()]
        return {int(word) for line in lines for word in re.split(r"[\s,\[\]]+", line) if word}
    except ValueError as error:
        raise InputError(f"{path}: not a list of image ids (text or JSON): {error}") from error


def _with_common_categories(splits: dict[str, CocoData]) -> dict[str, CocoData]:
    """The same splits; categories of the same names have the same ids, if only these tell them apart."""
    listed = [{entry["name"]: entry["id"] for entry in data.categories} for data in splits.values()]
    have_the_same_names = all(ids.keys() == listed[0].keys() for ids in listed)
    are_renumbered = have_the_same_names and any(ids != listed[0] for ids in listed)
    if not are_renumbered and not all(data.are_names for data in splits.values()):
        return splits
    entries = {entry["name"]: entry for data in splits.values() for entry in data.categories}
    ids = {name: number for number, name in enumerate(entries, start=1)}

    def numbered_alike(data: CocoData) -> CocoData:
        names = {entry["id"]: entry["name"] for entry in data.categories}
        annotations = [
            entry | {"category_id": ids[names[entry["category_id"]]]} for entry in data.annotations
        ]
        categories = [entry | {"id": ids[entry["name"]]} for entry in data.categories]
        return data._replace(categories=categories, annotations=annotations)

    return {split: numbered_alike(data) for split, data in splits.items()}
