"""Squares of a large picture around objects that would be small in the network's input."""

from typing import NamedTuple

import numpy as np

# Objects are small below both, in pixels and as part of the network's input: see docs/measurements.md.
_SMALL_PIXELS, _SMALL_PART = 90, 0.24
_LEAST_SIDE = 256  # pixels of a picture: smaller ones have nothing more to show from closer
_CONTEXT = 2.5  # side of a square, at least, in longer sides of its objects
_STEPS = 4  # squares begin at multiples of this part of their side


class Square(NamedTuple):
    """A part of a picture in pixels; it may reach beyond the bottom and the right edge."""

    top: int
    left: int
    side: int


def plan_crops(boxes: np.ndarray, height: int, width: int, input_size: int | None) -> dict[Square, list[int]]:
    """Chooses squares for the small objects of a picture that is larger than the network's input.

    Squares have few sizes and places, so that neighbours share one; an object's square depends on its box
    alone, and so does its mask.

    Args:
        boxes: float [N, 4], (ymin, xmin, ymax, xmax) normalised to the picture.
        height, width: of the picture in pixels.
        input_size: side of the network's input in pixels; None: it sees pictures as they are, and no squares.

    Returns:
        Square -> indices of its boxes. The others are seen best in the whole picture.
    """
    crops: dict[Square, list[int]] = {}
    if input_size is None or max(height, width) <= max(input_size, _LEAST_SIDE):
        return crops
    small = min(_SMALL_PIXELS, _SMALL_PART * input_size)
    for index, box in enumerate(np.asarray(boxes, np.float64) * [height, width, height, width]):
        longer = (box[2:] - box[:2]).max()
        if longer * input_size >= small * max(height, width):
            continue
        side = int(2 ** (np.ceil(2 * np.log2(_CONTEXT * max(longer, 1))) / 2))  # two sizes an octave
        step = max(1, side // _STEPS)
        low = ((box[:2] + box[2:] - side) / 2 / step).round().astype(int) * step
        top, left = np.clip(low, 0, np.maximum([height - side, width - side], 0)).tolist()
        crops.setdefault(Square(top, left, side), []).append(index)
    return crops
