"""Layers: what is laid over a scene lies inside it and is premultiplied."""

import numpy as np
import pytest

from deepmac.scenes.artwork import ARTWORK, artworks
from deepmac.scenes.layers import _colour_jitter, distractor_layer, object_layer


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


def test_colour_jitter_keeps_grey_grey():
    for seed in range(10):
        matrix = _colour_jitter(np.random.default_rng(seed))
        for grey in (0.0, 0.3, 1.0):
            red, green, blue = matrix @ np.array([grey, grey, grey, 1.0])
            assert red == pytest.approx(green, abs=1e-5) and red == pytest.approx(blue, abs=1e-5)
