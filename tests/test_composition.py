"""One scene: its layers, visible masks, occlusion, and what is refused."""

import numpy as np
import pytest

from deepmac.scenes.artwork import ARTWORK, artworks
from deepmac.scenes.composition import (
    MIN_VISIBLE_PIXELS,
    Layer,
    _Canvas,
    compose_scene,
    distractor_layer,
    object_layer,
)
from deepmac.scenes.sprites import sprite_pools


def _square(top, left, side, shade=1.0, area=None):
    """An opaque grey square, on a canvas of 64 pixels."""
    alpha = np.ones((min(side, 64 - top), min(side, 64 - left), 1), np.float32)
    colour = np.repeat(alpha * np.float32(shade), 3, axis=-1)
    return Layer(colour, alpha, top, left, side * side if area is None else area)


@pytest.fixture
def canvas():
    return _Canvas(np.zeros((64, 64, 3), np.float32))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_later_layers_cut_earlier_ones(canvas, rng):
    assert canvas.place(rng, _square(10, 10, 20, shade=0.25), is_object=True)
    assert canvas.place(rng, _square(20, 10, 20, shade=0.75), is_object=True)
    assert (canvas.owner == 1).sum() == 200 == canvas.visible[1]
    assert (canvas.owner == 2).sum() == 400 == canvas.visible[2]
    assert (canvas.picture[20:40, 10:30] == 0.75).all()
    assert (canvas.picture[10:19, 10:30, 0] <= 0.25).all()  # possibly shaded


def test_a_layer_that_hides_too_much_is_refused(canvas, rng):
    assert canvas.place(rng, _square(10, 10, 20), is_object=True)
    before = canvas.picture.copy()
    assert not canvas.place(rng, _square(10, 10, 18), is_object=True)  # would leave 76 of 400
    assert not canvas.place(rng, _square(10, 10, 18), is_object=False)
    assert (canvas.picture == before).all() and canvas.visible == [0, 400]
    assert canvas.place(rng, _square(10, 10, 16), is_object=True)  # leaves 144, more than 30 %
    assert canvas.visible == [0, 144, 256]
    assert not canvas.place(rng, _square(24, 24, 6), is_object=True)  # would leave 120 - 12 of 400


def test_an_object_that_is_small_or_mostly_outside_is_refused(canvas, rng):
    assert not canvas.place(rng, _square(0, 0, 4), is_object=True)  # 16 pixels
    assert not canvas.place(rng, _square(60, 40, 20), is_object=True)  # 80 of 400 pixels
    assert canvas.place(rng, _square(57, 40, 20), is_object=True)  # 140 of 400 pixels


def test_a_distractor_in_front_owns_no_object(canvas, rng):
    canvas.place(rng, _square(10, 10, 20), is_object=True)
    assert canvas.place(rng, _square(10, 10, 10), is_object=False)
    assert canvas.visible == [0, 300] and (canvas.owner == 1).sum() == 300 and canvas.owner.max() == 1


@pytest.mark.parametrize("size", [32, 96, 160])
def test_masks_of_a_scene_are_disjoint_and_large_enough(size):
    pool = sprite_pools()["val"]
    numbers = []
    for seed in range(25):
        scene = compose_scene(np.random.default_rng(seed), pool, size)
        assert scene.image.shape == (size, size, 3) and scene.image.dtype == np.uint8
        numbers.append(len(scene.objects))
        if scene.objects:
            masks = np.stack([one.mask for one in scene.objects])
            assert masks.sum(axis=0).max() <= 1
            assert masks.sum(axis=(1, 2)).min() >= MIN_VISIBLE_PIXELS
        assert all(one.category_id in pool for one in scene.objects)
    assert max(numbers) <= 8 and np.mean(numbers) > 3


def test_objects_overlap_and_are_cut_by_the_border():
    pool = sprite_pools()["train"]
    at_the_border = touching = total = 0
    for seed in range(30):
        scene = compose_scene(np.random.default_rng(seed), pool, 96)
        for number, one in enumerate(scene.objects):
            total += 1
            at_the_border += one.mask[[0, -1]].any() or one.mask[:, [0, -1]].any()
            others = np.zeros_like(one.mask)
            for other in scene.objects[:number]:
                others |= other.mask
            touching += (one.mask[1:] & others[:-1]).any()
    assert at_the_border > 0.15 * total and touching > 0.15 * total


def _layers(size, count=60):
    rng = np.random.default_rng(0)
    pictures = [one.variants[0] for name in ("dog", "fork", "book") for one in artworks(ARTWORK[name])]
    for number in range(count):
        yield object_layer(rng, pictures[number % len(pictures)], size)
        yield distractor_layer(rng, size)


@pytest.mark.parametrize("size", [32, 128])
def test_layers_lie_inside_the_scene_and_are_premultiplied(size):
    layers = [layer for layer in _layers(size) if layer is not None]
    assert len(layers) > 100
    for layer in layers:
        rows, columns = layer.region
        assert 0 <= rows.start < rows.stop <= size and 0 <= columns.start < columns.stop <= size
        assert layer.colour.shape == (*layer.alpha.shape[:2], 3)
        assert layer.colour.dtype == layer.alpha.dtype == np.float32
        assert layer.colour.min() >= 0 and (layer.colour <= layer.alpha + 1e-6).all()
        assert layer.alpha.max() <= 1 + 1e-6


def test_area_counts_the_pixels_of_an_object_that_is_not_cut():
    found = 0
    for layer in _layers(200, count=100):
        if layer is None or layer.area < 400:
            continue
        border = [layer.alpha[0], layer.alpha[-1], layer.alpha[:, 0], layer.alpha[:, -1]]
        if max(edge.max() for edge in border) == 0:
            found += 1
            assert np.count_nonzero(layer.mask) == pytest.approx(layer.area, rel=0.15)
    assert found > 40


def test_scale_covers_small_and_large_objects():
    areas = [layer.area for layer in _layers(128, count=300) if layer is not None]
    sides = np.sqrt(areas) / 128
    assert np.quantile(sides, 0.05) < 0.15 and np.quantile(sides, 0.98) > 0.5
