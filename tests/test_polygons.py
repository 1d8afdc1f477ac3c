"""Polygons of masks: `pycocotools` must turn them back into exactly the same mask."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as rle

from deepmac.scenes.polygons import mask_to_polygons

masks = arrays.arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 24)))


def _decode(polygons: list, height: int, width: int) -> np.ndarray:
    """As pycocotools' annToMask does."""
    return rle.decode(rle.merge(rle.frPyObjects(polygons, height, width))).astype(bool)


@given(masks)
def test_polygons_are_exact(mask):
    polygons = mask_to_polygons(mask)
    if not mask.any():
        assert polygons == []
        return
    assert (_decode(polygons, *mask.shape) == mask).all()
    assert all(len(polygon) >= 8 for polygon in polygons)  # fewer numbers would be read as a box


@given(st.integers(0, 2**32 - 1))
def test_blobs_with_holes_are_exact(seed):
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.random((9, 9)) < rng.uniform(0.3, 0.9), np.ones((7, 5), bool))
    if mask.any():
        assert (_decode(mask_to_polygons(mask), *mask.shape) == mask).all()


def test_corners_lie_on_pixel_edges():
    mask = np.zeros((6, 9), bool)
    mask[2:5, 3:7] = True
    (polygon,) = mask_to_polygons(mask)
    assert sorted(zip(polygon[::2], polygon[1::2], strict=True)) == [(3, 2), (3, 5), (7, 2), (7, 5)]


def test_a_hole_is_joined_to_the_nearest_corner():
    mask = np.ones((40, 40), bool)
    mask[2:4, 30:38] = False
    (polygon,) = mask_to_polygons(mask)
    points = np.array(polygon).reshape(-1, 2)
    steps = np.abs(np.roll(points, -1, axis=0) - points)
    slanted = steps[(steps > 0).all(axis=1)]
    assert slanted.tolist() == [[2, 2], [2, 2]]  # there and back, from (40, 0) to (38, 2)
