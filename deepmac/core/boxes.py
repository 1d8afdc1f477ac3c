"""Boxes as people give them: formats, checks, clipping."""

import functools
import warnings
from collections.abc import Callable

import numpy as np
from pycocotools import mask as coco_mask

from deepmac.core.errors import InputError

# Format -> how a box of it is written. An image spans 0 to width and 0 to height in pixels.
BOX_FORMATS = {
    "yxyx_norm": "[ymin, xmin, ymax, xmax], 0 to 1",
    "xyxy": "[xmin, ymin, xmax, ymax] in pixels",
    "xywh": "[xmin, ymin, width, height] in pixels",
}
# Boxes that reach less than this beyond the image (of its size) were rounded: clipped without a warning.
EDGE_TOLERANCE = 1e-3


def normalized_boxes(
    boxes, box_format: str, height: int, width: int, tell: Callable[[str], object] | None = None
) -> np.ndarray:
    """Checks boxes and brings them to one format.

    Args:
        boxes: numbers [N, 4], N at least 1.
        box_format: one of `BOX_FORMATS`.
        height, width: of the image in pixels.
        tell: takes the warning; Python's `warnings` do unless given.

    Returns:
        float32 [N, 4], (ymin, xmin, ymax, xmax) normalised to the image and clipped to it.

    Raises:
        InputError: no boxes, not N x 4 numbers, all in the first pixel, or a box (named by its index) that is
            inverted, has no area, is not finite or lies outside the image.

    Warns:
        UserWarning: boxes that reach beyond the image; they are clipped.
    """
    given = _array_of_boxes(boxes, box_format)
    if box_format != "yxyx_norm" and given.max() <= 1 + EDGE_TOLERANCE and max(height, width) > 1:
        raise InputError(f"boxes are {BOX_FORMATS[box_format]}; numbers from 0 to 1 need yxyx_norm")
    exact = _to_yxyx_norm(given, box_format, height, width)
    clipped = np.clip(exact, 0, 1).astype(np.float32)
    _refuse_impossible(given, exact, clipped, box_format)
    beyond = np.flatnonzero(np.abs(exact - clipped).max(axis=1) > EDGE_TOLERANCE)
    if len(beyond):
        which = ", ".join(str(i) for i in beyond[:5]) + (", ..." if len(beyond) > 5 else "")
        tell = tell or functools.partial(warnings.warn, stacklevel=3)
        tell(f"clipped to the image: box {which}")
    return clipped


def pixel_xywh(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Turns boxes [N, 4], (ymin, xmin, ymax, xmax) normalised to an image of `height` and `width` in pixels.

    Returns COCO's (xmin, ymin, width, height) in pixels, float64 [N, 4].
    """
    ymin, xmin, ymax, xmax = np.asarray(boxes, np.float64).T * np.array([[height], [width]] * 2)
    return np.stack([xmin, ymin, xmax - xmin, ymax - ymin], axis=1)


def _array_of_boxes(boxes, box_format):
    if box_format not in BOX_FORMATS:
        raise InputError(f"unknown box_format {box_format!r}: use one of {', '.join(BOX_FORMATS)}")
    expected = f"boxes must be N x 4 numbers, each {BOX_FORMATS[box_format]}"
    try:
        array = np.asarray(boxes, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{expected}; {_odd_one_out(boxes)}") from error
    if array.size == 0:
        raise InputError(f"no boxes given: {expected}")
    if array.shape == (4,):
        raise InputError(f"{expected}; for a single box write [[...]], a list of one box")
    if array.ndim != 2 or array.shape[1] != 4:
        raise InputError(f"{expected}, not an array of shape {list(array.shape)}")
    return array


def apart(boxes: np.ndarray, max_overlap: float) -> np.ndarray:
    """Non-maximum suppression: rows of boxes [N, 4], the surest first, no two with a larger IoU."""
    sides = pixel_xywh(boxes, 1, 1)
    overlaps = np.reshape(coco_mask.iou(sides, sides, [0] * len(boxes)), (len(boxes), len(boxes)))
    kept: list[int] = []
    for row in range(len(boxes)):
        if (overlaps[row, kept] <= max_overlap).all():
            kept.append(row)
    return np.array(kept, np.int64)


def _odd_one_out(boxes):
    """Names the first box that is not four numbers."""
    for index, box in enumerate(boxes if np.iterable(boxes) else ()):
        try:
            is_box = np.asarray(box, np.float64).shape == (4,)
        except (TypeError, ValueError):
            is_box = False
        if not is_box:
            return f"box {index} is {box!r:.60}"
    return f"not {boxes!r:.60}"


def _to_yxyx_norm(boxes, box_format, height, width):
    if box_format == "yxyx_norm":
        return boxes
    xmin, ymin, xmax, ymax = boxes.T
    if box_format == "xywh":
        with np.errstate(over="ignore", invalid="ignore"):  # reported as not finite
            xmax, ymax = xmin + xmax, ymin + ymax
    return np.stack([ymin / height, xmin / width, ymax / height, xmax / width], axis=1)


def _refuse_impossible(given, exact, clipped, box_format):
    # Pixels given as normalised coordinates are the usual mistake.
    large = box_format == "yxyx_norm" and np.abs(given).max() > 2
    hint = "; pixels need the box format xyxy or xywh, percent is to be divided by 100" if large else ""
    low, high = exact[:, :2], exact[:, 2:]
    for impossible, problem in (
        (~np.isfinite(exact), "has a coordinate that is not a finite number"),
        (high < low, f"is inverted: {box_format} boxes are {BOX_FORMATS[box_format]}"),
        (high == low, "has no area"),
        ((high <= 0) | (low >= 1), f"lies outside the image{hint}"),
        (clipped[:, 2:] <= clipped[:, :2], "is too small to hold anything"),
    ):
        indices = np.flatnonzero(impossible.any(axis=1))
        if len(indices):
            numbers = ", ".join(f"{value:g}" for value in given[indices[0]])
            raise InputError(f"box {indices[0]} [{numbers}] {problem}")
