"""Finds what is wrong with a collection, and lists all of it."""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from deepmac.core.errors import InputError
from deepmac.core.executors import ahead, threads
from deepmac.core.label_images import read_label_image
from deepmac.iwildcam.collection import CameraTrapPicture, Collection

_ORIENTATION = 0x0112  # EXIF tag
_TURNED_BY_90_DEGREES = (5, 6, 7, 8)


@dataclasses.dataclass(frozen=True)
class Problem:
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
    problems = []
    with threads(workers) as pool:
        results = ahead(pool, lambda picture: _check(collection, picture, min_conf), collection.pictures)
        for found in tqdm(results, total=len(collection), unit="picture", disable=not progress):
            problems += found
    return problems + _masks_of_no_picture(collection)


def _check(collection: Collection, picture: CameraTrapPicture, min_conf: float) -> list[Problem]:
    found = []

    def report(kind, text):
        found.append(Problem(kind, picture.name, text))

    detections = collection.detections(picture)
    for number in np.flatnonzero(~detections.usable) + 1:
        report("unusable box", f"detection {number} has no area in the picture")
    size = None
    path = collection.picture_path(picture)
    if path is None:
        report("missing picture", f"not in {collection.layout.images}")
    else:
        try:
            size = picture_size(path)
        except InputError as error:
            report("unreadable picture", str(error))
    wanted = (detections.confidences >= min_conf) & detections.usable
    masks = collection.mask_path(picture)
    if masks.is_file():
        for kind, text in _check_masks(masks, len(detections), size):
            report(kind, text)
    elif wanted.any():
        report("missing masks", f"{wanted.sum()} detections, but no {masks}")
    return found


def _check_masks(path: Path, num_detections: int, size: tuple[int, int] | None):
    try:
        labels = read_label_image(path)
    except InputError as error:
        yield "unreadable masks", str(error)
        return
    if size is not None and labels.shape != size:
        (height, width), (mask_height, mask_width) = size, labels.shape
        yield "size mismatch", f"picture {width} x {height}, masks {mask_width} x {mask_height} pixels"
    if labels.max(initial=0) > num_detections:
        yield "unknown detection", f"masks of detection {labels.max()}, but {num_detections} detections"


def _masks_of_no_picture(collection: Collection) -> list[Problem]:
    folder = collection.layout.masks
    known = {collection.mask_path(picture) for picture in collection.pictures}
    files = sorted(path for path in folder.rglob("*.png") if not path.name.startswith("."))
    return [
        Problem(
            "masks of no picture", path.relative_to(folder).as_posix(), "the detections name no such picture"
        )
        for path in files
        if path not in known
    ]


def picture_size(path: Path) -> tuple[int, int]:
    """Returns height and width of a picture as it is meant to be seen, without decoding it.

    Raises:
        InputError: not a picture, or a damaged header.
    """
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            turned = picture.getexif().get(_ORIENTATION) in _TURNED_BY_90_DEGREES
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    return (width, height) if turned else (height, width)
