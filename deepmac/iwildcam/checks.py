"""Finds what is wrong with a collection, and lists all of it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from deepmac.core.errors import InputError
from deepmac.core.executors import ahead, threads
from deepmac.core.label_images import read_label_image
from deepmac.data.picture_files import measure
from deepmac.iwildcam.collection import Collection, lines_of_pictures

_ROUNDING = 2  # pixels by which masks may reach outside their boxes


class Problem(NamedTuple):
    """Something wrong with a picture or its masks.

    Attributes:
        kind: "missing picture", "unreadable picture", "missing masks", "unreadable masks", "size mismatch",
            "unknown detection", "masks of other detections" or "unusable box".
        name: of the picture.
        text: the particulars.
    """

    kind: str
    name: str
    text: str


def check_collection(collection: Collection, min_conf: float = 0.0, progress: bool = False) -> list[Problem]:
    """Checks every picture, its detections and its masks, and lists all problems, picture by picture.

    Args:
        collection: what to check.
        min_conf: pictures without a detection of this confidence need no masks; nor do those without a file.
        progress: whether to show a progress bar.
    """
    count = collection.animals["picture"].nunique()
    with threads() as pool:
        pictures = lines_of_pictures(collection.animals)
        found = ahead(pool, lambda picture: [*_check(collection, *picture, min_conf)], pictures)
        bar = tqdm(found, "checking", total=count, unit="picture", disable=not progress)
        return [problem for of_picture in bar for problem in of_picture]


def _check(collection: Collection, name: str, lines: list[Any], min_conf: float) -> Iterator[Problem]:
    """What is wrong with a picture, of which these are the lines of the table."""
    animals = [animal for animal in lines if animal.number > 0]
    for animal in animals:
        if animal.box_share != animal.box_share:
            yield Problem("unusable box", name, f"detection {animal.number} has no area in the picture")
    path, masks, labels = collection.picture_path(name), collection.mask_path(name), None
    wanted = sum(animal.confidence >= min_conf and animal.box_share > 0 for animal in animals)
    try:
        labels = read_label_image(masks) if masks.is_file() else None
    except InputError as error:
        yield Problem("unreadable masks", name, str(error))
    if path is None:
        yield Problem("missing picture", name, f"not in {collection.layout.images}")
    elif isinstance(size := measure(path), str):
        yield Problem("unreadable picture", name, size)
    elif wanted and not masks.is_file():
        yield Problem("missing masks", name, f"{wanted} detections, but no {masks}")
    elif labels is not None and labels.shape[::-1] != size.upright:
        sizes = *size.upright, *labels.shape[::-1]
        yield Problem("size mismatch", name, "picture {} x {}, masks {} x {} pixels".format(*sizes))
    if labels is None:
        return
    if labels.max(initial=0) > len(animals):
        text = f"masks of detection {labels.max()}, but {len(animals)} detections"
        yield Problem("unknown detection", name, text)
        return
    sides = np.array(labels.shape[::-1])
    for animal in animals:  # what is in its box is taken away
        low, high = np.array([[animal.xmin, animal.ymin], [animal.width, animal.height]]).cumsum(0) * sides
        corners = np.clip([np.ceil(low - _ROUNDING), np.floor(high + _ROUNDING)], 0, sides)
        (left, top), (right, bottom) = np.nan_to_num(corners).astype(int)
        part = labels[top:bottom, left:right]
        part[part == animal.number] = 0
    if labels.any():
        text = f"mask {labels[labels > 0].min()} leaves its box: run iwildcam-masks again"
        yield Problem("masks of other detections", name, text)
