import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from deepmac.core.masks import paste_masks
from deepmac.core.polygons import polygon, rings
from deepmac.evaluation.baselines import ellipse_mask

BOX = np.array([0.1, 0.2, 0.9, 0.7], np.float32)
WHOLE = np.array([0.0, 0.0, 1.0, 1.0])


def _bitmap(polygons, height, width):
    if not polygons:
        return np.zeros((height, width), bool)
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))).astype(bool)


def outline(*mask_and_place):
    return [polygon(island) for island in rings(*mask_and_place)]


def _signed_area(polygon):
    x, y = np.reshape(polygon, (-1, 2)).T
    return (np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _iou(one, other):
    return (one & other).sum() / max(1, (one | other).sum())


@given(st.integers(0, 10**6), st.integers(30, 400), st.integers(30, 400))
def test_a_smooth_mask_and_its_polygons_cover_the_same_pixels(seed, height, width):
    rng = np.random.default_rng(seed)
    axis = np.linspace(-1, 1, 32)
    waves = sum(
        rng.normal()
        * np.cos(rng.uniform(0, 5) * axis[:, None] + rng.uniform(0, 5) * axis + rng.uniform(0, 6))
        for _ in range(4)
    )
    mask_prob = 1 / (1 + np.exp(-3 * waves))
    bitmap = paste_masks(mask_prob[None], BOX[None], height, width)[0]
    drawn = _bitmap(outline(mask_prob, BOX, height, width), height, width)
    difference = (bitmap ^ drawn).sum()
    edges = (bitmap[1:] ^ bitmap[:-1]).sum() + (bitmap[:, 1:] ^ bitmap[:, :-1]).sum()
    assert difference <= 0.75 * edges + 4, "only pixels at the edge differ"


def test_an_ellipse_has_its_area_and_few_corners():
    (polygon,) = outline(ellipse_mask(32), BOX, 1000, 2000)
    assert len(polygon) < 2 * 150
    assert _signed_area(polygon) == pytest.approx(np.pi / 4 * 0.8 * 999 * 0.5 * 1999, rel=0.01)
    (polygon,) = outline(np.ones((32, 32)), BOX, 101, 201)  # reaches the edges of the box
    x, y = np.reshape(polygon, (-1, 2)).T
    np.testing.assert_allclose([y.min(), x.min(), y.max(), x.max()], [10.5, 40.5, 90.5, 140.5], atol=0.02)


def test_holes_are_cut_out_and_islands_come_one_by_one():
    ring = np.zeros((32, 32))
    ring[2:20, 2:20] = 1
    ring[8:14, 8:14] = 0
    ring[26:30, 26:30] = 1
    polygons = outline(ring, WHOLE, 320, 320)
    assert len(polygons) == 2
    borders = [[_signed_area(border) for border in island] for island in rings(ring, WHOLE, 320, 320)]
    assert [np.sign(island).tolist() for island in borders] == [[1, -1], [1]]
    assert [sum(island) for island in borders] == pytest.approx([abs(_signed_area(one)) for one in polygons])
    bitmap = paste_masks(ring[None], WHOLE[None], 320, 320)[0]
    assert not bitmap[110, 110] and _iou(bitmap, _bitmap(polygons, 320, 320)) > 0.97
    assert outline(np.zeros((32, 32)), BOX, 100, 100) == []


@pytest.mark.parametrize("side", [40, 400])
def test_polygons_have_few_corners_none_far_from_the_outline(side):
    [[ring]] = rings(ellipse_mask(65), WHOLE, side, side)
    corners = np.reshape(polygon([ring]), (-1, 2))
    assert 8 < len(corners) <= (len(ring) / 3 if side == 40 else len(ring) - 1)
    edges = np.roll(corners, -1, axis=0) - corners
    offsets = ring[:, None] - corners  # (points, edges, 2)
    along = np.clip((offsets * edges).sum(-1) / (edges**2).sum(-1), 0, 1)
    distances = np.linalg.norm(offsets - along[..., None] * edges, axis=-1).min(axis=1)
    assert distances.max() <= 0.15 + 1e-9
    square = np.ones((33, 33))
    assert len(polygon(rings(square, WHOLE, side, side)[0])) == 8
