"""Finds what is wrong with a collection, and lists all of it."""

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from deepmac.core.errors import InputError
from deepmac.core.executors import ahead, threads
from deepmac.core.images import read_image
from deepmac.core.label_images import read_label_image
from deepmac.iwildcam.collection import Collection

_ROUNDING = 2  # pixels by which masks may reach outside their boxes


class Problem(NamedTuple):
    """Something wrong with a picture or its masks.

    Attributes:
        kind: "missing picture", "unreadable picture", "missing masks", "unreadable masks", "size mismatch",
            "unknown detection", "masks of other detections", "unusable box" or "masks of no picture".
        name: of the picture, or the file of the masks.
        text: the particulars.
    """

    kind: str
    name: str
    text: str


def check_collection(collection: Collection, min_conf: float = 0.0, progress: bool = False) -> list[Problem]:
    """Checks every picture, its detections and its masks.

    Args:
        collection: what to check.
        min_conf: pictures without a detection of this confidence need no masks; nor do those without a file.
        progress: whether to show a progress bar.

    Returns all problems, in the order of the pictures; masks of no picture last, if the collection is whole.
    """

    def check(item: tuple[str, pd.DataFrame]) -> list[Problem]:
        return [Problem(kind, item[0], text) for kind, text in _check(collection, *item, min_conf)]

    pictures = collection.animals.groupby("picture", sort=False)
    with threads() as pool:
        found = ahead(pool, check, pictures)
        bar = tqdm(found, "checking", total=len(pictures), unit="picture", disable=not progress)
        problems = [problem for of_picture in bar for problem in of_picture]
    folder = collection.layout.masks
    known = {collection.mask_path(name) for name in collection.animals["picture"].unique()}
    for path in sorted(folder.rglob("*.png")) if collection.is_whole else ():
        if path not in known and not path.name.startswith("."):
            name = path.relative_to(folder).as_posix()
            problems.append(Problem("masks of no picture", name, "the detections name no such picture"))
    return problems


def _check(
    collection: Collection, name: str, animals: pd.DataFrame, min_conf: float
) -> Iterator[tuple[str, str]]:
    """Kind and particulars of what is wrong with a picture."""
    animals = animals[animals["number"] > 0]
    for number in animals["number"][animals["box_share"].isna()]:
        yield "unusable box", f"detection {number} has no area in the picture"
    path, masks = collection.picture_path(name), collection.mask_path(name)
    wanted = ((animals["confidence"] >= min_conf) & animals["box_share"].notna()).sum()
    size = labels = None
    try:
        size = None if path is None else read_image(path).shape[:2]
    except InputError as error:
        yield "unreadable picture", str(error)
    try:
        labels = read_label_image(masks) if masks.is_file() else None
    except InputError as error:
        yield "unreadable masks", str(error)
    if path is None:
        yield "missing picture", f"not in {collection.layout.images}"
    elif size is not None and wanted and not masks.is_file():
        yield "missing masks", f"{wanted} detections, but no {masks}"
    if labels is None:
        return
    if size is not None and labels.shape != size:
        (height, width), (mask_height, mask_width) = size, labels.shape
        yield "size mismatch", f"picture {width} x {height}, masks {mask_width} x {mask_height} pixels"
    if labels.max(initial=0) > len(animals):
        yield "unknown detection", f"masks of detection {labels.max()}, but {len(animals)} detections"
    low = animals[["xmin", "ymin"]].to_numpy() * labels.shape[::-1]
    high = low + animals[["width", "height"]].to_numpy() * labels.shape[::-1]
    for number, start, end in zip(animals["number"], low - _ROUNDING, high + _ROUNDING, strict=True):
        seen = Image.fromarray(labels == number).getbbox()
        if seen and not ((seen[:2] >= start).all() and (seen[2:] <= end).all()):
            yield "masks of other detections", f"mask {number} leaves its box: run iwildcam-masks again"
            return
