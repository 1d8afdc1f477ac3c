"""One scene: visible masks, occlusion, and what is refused; `test_scenes.py` has whole ones."""

import numpy as np
import pytest

from deepmac.scenes.composition import (
    Layer,
    _Canvas,
)


def _square(top, left, side, shade=1.0, area=None):
    """An opaque grey square, on a canvas of 64 pixels."""
    alpha = np.ones((min(side, 64 - top), min(side, 64 - left), 1), np.float32)
    colour = np.repeat(alpha * np.float32(shade), 3, axis=-1)
    region = slice(top, top + side), slice(left, left + side)
    return Layer(colour, alpha, region, side * side if area is None else area)


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
