"""A picture with its masks at any size, or a part of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from deepmac.core.errors import InputError
from deepmac.core.images import open_picture_file, read_image
from deepmac.core.label_images import read_label_image

Window = tuple[float, ...]  # xmin, ymin, xmax, ymax in parts of a picture
WHOLE: Window = (0.0, 0.0, 1.0, 1.0)
_MISSING = (90, 90, 90)


class View(NamedTuple):
    """A picture, or a part of it, and the masks of some of its animals.

    Attributes:
        image: uint8 RGB [H, W, 3].
        labels: uint16 [H, W]; k + 1 is the mask of the k-th animal asked for, 0 belongs to none of them.
        problem: why there is no picture; "" if there is one.
    """

    image: np.ndarray
    labels: np.ndarray
    problem: str = ""


def read_view(
    picture: Path | None, masks: Path, numbers: Sequence[int], size: tuple[int, int], window: Window = WHOLE
) -> View:
    """Reads a picture and its masks.

    Args:
        picture: its file; None if it is missing.
        masks: the label image; without it there are no masks.
        numbers: of the animals that are asked for.
        size: width and height in pixels that the view must not exceed.
        window: the part to see.
    """
    problem = ""
    try:
        if picture is None:
            raise InputError("The picture is missing.")
        with open_picture_file(picture) as (opened, _):
            if window == WHOLE:
                opened.draft("RGB", size)  # JPEG is decoded at the size that is needed, several times as fast
            image = read_image(opened)
    except InputError as error:
        image, problem = np.full((size[0] * 3 // 4, size[0], 3), _MISSING, np.uint8), str(error)
    try:
        labels = read_label_image(masks)
    except InputError:  # `deepmac.iwildcam.checks` says what is wrong
        labels = np.zeros((1, 1), np.uint8)
    return fit_view(image, labels, numbers, size, window)._replace(problem=problem)


def fit_view(
    image: np.ndarray,
    labels: np.ndarray,
    numbers: Sequence[int],
    size: tuple[int, int],
    window: Window = WHOLE,
) -> View:
    """Makes a picture, uint8 RGB [H, W, 3], and its label image fit; other arguments as of `read_view`."""
    index = np.zeros(max(int(labels.max(initial=0)), 0, *numbers) + 1, np.uint16)
    index[list(numbers)] = np.arange(1, len(numbers) + 1)
    part, masks = (_cut(Image.fromarray(array), window) for array in (image, index[labels]))
    scale = min(1, size[0] / part.width, size[1] / part.height)
    fitting = max(1, round(scale * part.width)), max(1, round(scale * part.height))
    part, masks = part.resize(fitting, Image.Resampling.BOX), masks.resize(fitting, Image.Resampling.NEAREST)
    return View(np.asarray(part), np.asarray(masks))


def _cut(image: Image.Image, window: Window) -> Image.Image:
    xmin, ymin, xmax, ymax = np.array(window) * (*image.size, *image.size)
    return image.crop((int(xmin), int(ymin), max(int(xmin) + 1, int(xmax)), max(int(ymin) + 1, int(ymax))))
