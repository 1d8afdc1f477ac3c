"""Which boxes of a sequence's pictures show the same animal, by where they are."""

import numpy as np
import pandas as pd

_FARTHEST = 2.0  # boxes that differ more, as `_difference` has it, show different animals


def tracks(animals: pd.DataFrame) -> np.ndarray:
    """Gives every animal a number, the same one in all pictures of its sequence in which it is found again.

    The boxes of a picture are compared with where the sequence's animals were last, the closest pair first.

    Args:
        animals: table of `Collection`, pictures in the order of time.

    Returns:
        For each line a number, 1 for the most confident animal of a first picture, 0 for no animal.
    """
    boxes = animals[["xmin", "ymin", "width", "height"]].to_numpy(float)
    found = animals[animals["number"] > 0]
    by_confidence = found.sort_values("confidence", ascending=False, kind="stable")
    of_picture = by_confidence.groupby("picture", sort=False).groups  # its lines
    track = np.zeros(len(animals), int)
    for pictures in found.groupby("sequence", sort=False)["picture"].unique():
        last: dict[int, int] = {}  # animal -> line where it was seen last
        for picture in pictures:
            lines = of_picture[picture]
            pairs = [
                (_difference(boxes[line], boxes[seen]), animal, line)
                for animal, seen in last.items()
                for line in lines
            ]
            again: dict[int, int] = {}
            for difference, animal, line in sorted(pairs):
                if difference <= _FARTHEST and line not in again and animal not in again.values():
                    again[line] = animal
            for line in lines:
                track[line] = again.get(line) or len(last) + 1
                last[track[line]] = line
    return track


def _difference(box: np.ndarray, other: np.ndarray) -> float:
    """Distance of two boxes' middles in their mean side, plus the logarithm of how their sides differ."""
    side, other_side = (np.sqrt(max(width * height, 1e-8)) for _, _, width, height in (box, other))
    apart = box[:2] + box[2:] / 2 - other[:2] - other[2:] / 2
    return 2 * np.hypot(*apart) / (side + other_side) + abs(np.log(side / other_side))
