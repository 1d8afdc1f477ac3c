"""Finds what is wrong with a collection, and lists all of it."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from deepmac.core.errors import InputError
from deepmac.core.executors import ahead, threads
from deepmac.core.images import read_image
from deepmac.core.label_images import read_label_image
from deepmac.iwildcam.collection import CameraTrapPicture, Collection


class Problem(NamedTuple):
    """Something wrong with a picture or its masks.

    Attributes:
        kind: "missing picture", "unreadable picture", "missing masks", "unreadable masks", "size mismatch",
            "unknown detection", "unusable box" or "masks of no picture".
        name: of the picture, or the file of the masks.
        text: the particulars.
    """

    kind: str
    name: str
    text: str


def check_collection(
    collection: Collection, min_conf: float = 0.0, workers: int | None = None, progress: bool = False
) -> list[Problem]:
    """Checks every picture, its detections and its masks.

    Args:
        collection: what to check.
        min_conf: pictures without a detection of this confidence need no masks.
        workers: threads; one for each core unless given.
        progress: whether to show a progress bar.

    Returns:
        All problems, in the order of the pictures; masks of no picture last.
    """

    def check(picture: CameraTrapPicture) -> list[Problem]:
        return [Problem(kind, picture.name, text) for kind, text in _check(collection, picture, min_conf)]

    with threads(workers) as pool:
        found = ahead(pool, check, collection.pictures)
        bar = tqdm(found, total=len(collection), unit="picture", disable=not progress)
        problems = [problem for of_picture in bar for problem in of_picture]
    folder = collection.layout.masks
    known = {collection.mask_path(picture) for picture in collection.pictures}
    for path in sorted(folder.rglob("*.png")):
        if path not in known and not path.name.startswith("."):
            name = path.relative_to(folder).as_posix()
            problems.append(Problem("masks of no picture", name, "the detections name no such picture"))
    return problems


def _check(collection: Collection, picture: CameraTrapPicture, min_conf: float) -> Iterator[tuple[str, str]]:
    """Kind and particulars of what is wrong with a picture."""
    detections = collection.detections(picture)
    for number in np.flatnonzero(~detections.usable) + 1:
        yield "unusable box", f"detection {number} has no area in the picture"
    path, masks = collection.picture_path(picture), collection.mask_path(picture)
    size = labels = None
    if path is None:
        yield "missing picture", f"not in {collection.layout.images}"
    else:
        try:
            size = read_image(path).shape[:2]
        except InputError as error:
            yield "unreadable picture", str(error)
    if masks.is_file():
        try:
            labels = read_label_image(masks)
        except InputError as error:
            yield "unreadable masks", str(error)
    else:
        wanted = np.count_nonzero((detections.confidences >= min_conf) & detections.usable)
        if wanted:
            yield "missing masks", f"{wanted} detections, but no {masks}"
    if labels is None:
        return
    if size is not None and labels.shape != size:
        (height, width), (mask_height, mask_width) = size, labels.shape
        yield "size mismatch", f"picture {width} x {height}, masks {mask_width} x {mask_height} pixels"
    if labels.max(initial=0) > len(detections):
        yield "unknown detection", f"masks of detection {labels.max()}, but {len(detections)} detections"
