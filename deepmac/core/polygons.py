"""Masks as COCO polygons, drawn where the probability passes the threshold, at no size in particular."""

import functools
import itertools
from collections.abc import Sequence

import contourpy
import numpy as np

_EDGE = 1e-3  # samples; how far beyond the last ones the probability falls to zero
_TOLERANCE = 0.15  # pixels; corners that move the outline by less are left out of polygons
_MIN_AREA = 1.0  # pixels; smaller islands are dropped, unless there is no other


def rings(
    mask_prob: np.ndarray, box: np.ndarray, height: int, width: int, threshold: float = 0.5
) -> list[list[np.ndarray]]:
    """Outlines a mask predicted in a box.

    Between samples the probability is interpolated, as `deepmac.core.masks` does for bitmaps; its contour has
    the corners of the sampling, few and smooth however large the picture is.

    Args:
        mask_prob: float [S, S], probabilities inside the box.
        box: float [4], (ymin, xmin, ymax, xmax) normalised to the image.
        height, width: of the image in pixels.
        threshold: a point belongs to the mask when its probability is greater.

    Returns:
        For each island, the largest first, its border and those of its holes, the other way round: float64
        [n, 2], x and y in pixels, not closed; none for an empty mask. The image spans 0 to width and 0 to
        height: the middle of its first pixel is 0.5.
    """
    ymin, xmin, ymax, xmax = np.asarray(box, np.float64)
    padded = np.pad(np.asarray(mask_prob, np.float64), 1)
    ys = _sample_positions(ymin, ymax, mask_prob.shape[0], height)
    xs = _sample_positions(xmin, xmax, mask_prob.shape[1], width)
    generator = contourpy.contour_generator(xs, ys, padded, fill_type=contourpy.FillType.OuterOffset)
    islands = [
        [points[start : end - 1] for start, end in itertools.pairwise(offsets)]
        for points, offsets in zip(*generator.filled(threshold, np.inf), strict=True)
    ]
    islands.sort(key=_area_of_island, reverse=True)
    kept = [island for island in islands if _area_of_island(island) >= _MIN_AREA] or islands[:1]
    return [[np.clip(ring, 0, [width, height]).round(2) for ring in island] for island in kept]


def polygon(island: Sequence[np.ndarray]) -> list[float]:
    """An island of `rings` as a polygon [x0, y0, x1, y1, ...], with corners as few as its shape needs.

    A hole is joined to the border around it by an edge there and back, which covers nothing.
    """
    return functools.reduce(join, map(_simplified, island)).ravel().tolist()


def _simplified(ring: np.ndarray) -> np.ndarray:
    """The corners of a closed outline [n, 2] that matter, by Douglas and Peucker (1973)."""
    corners = np.concatenate([ring, ring[:1]])
    farthest = int(((ring - ring[0]) ** 2).sum(axis=1).argmax())
    kept, parts = {0, farthest}, [(0, farthest), (farthest, len(ring))]
    while parts:
        start, end = parts.pop()
        offsets, chord = corners[start + 1 : end] - corners[start], corners[end] - corners[start]
        along = np.clip(offsets @ chord / max(chord @ chord, 1e-12), 0, 1)
        distances = np.hypot(*(offsets - along[:, None] * chord).T)
        if distances.max(initial=0) > _TOLERANCE:
            middle = start + 1 + int(distances.argmax())
            kept.add(middle)
            parts += [(start, middle), (middle, end)]
    return ring[sorted(kept)] if len(kept) > 2 else ring


def join(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Joins two closed outlines [n, 2] and [m, 2] into one by the shortest edge between their corners."""
    squared = ((outer[:, None] - inner) ** 2).sum(axis=-1)  # (n, m)
    start, entry = np.unravel_index(squared.argmin(), squared.shape)
    outer, inner = np.roll(outer, -start, axis=0), np.roll(inner, -entry, axis=0)
    return np.concatenate([outer, outer[:1], inner, inner[:1]])


def _sample_positions(low: float, high: float, samples: int, pixels: int) -> np.ndarray:
    """Where the samples along one axis lie in the image, with zeros before and after them: [samples + 2]."""
    steps = np.concatenate([[-_EDGE], np.arange(samples), [samples - 1 + _EDGE]])
    return (low + steps / max(samples - 1, 1) * (high - low)) * (pixels - 1) + 0.5


def area(outline: np.ndarray) -> float:
    """Area of a polygon [n, 2] in squares of its unit, that of holes joined to it taken off."""
    x, y = outline.T
    return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


def _area_of_island(rings_of_island: Sequence[np.ndarray]) -> float:
    border, *holes = map(area, rings_of_island)
    return border - sum(holes)
