"""Backgrounds: their range, their variety, and the regions they are cut from."""

import numpy as np
import pytest

from deepmac.scenes import backgrounds
from deepmac.scenes.backgrounds import PHOTOGRAPHS, TEXTURES, background, texture


def test_all_pictures_are_in_the_wheel():
    pictures = backgrounds._pictures()
    assert len(pictures) == len(PHOTOGRAPHS) + len(TEXTURES)
    assert all(min(picture.shape) >= 50 for picture in pictures)


@pytest.mark.parametrize("size", [32, 128, 300])
def test_background_is_a_picture(size):
    for seed in range(10):
        picture = background(np.random.default_rng(seed), size)
        assert picture.shape == (size, size, 3) and picture.dtype == np.float32
        assert picture.min() >= 0 and picture.max() <= 1


def test_backgrounds_differ_and_repeat_with_the_seed():
    pictures = [background(np.random.default_rng(seed), 32) for seed in range(20)]
    again = [background(np.random.default_rng(seed), 32) for seed in range(20)]
    assert all((one == other).all() for one, other in zip(pictures, again, strict=True))
    means = np.array([picture.mean(axis=(0, 1)) for picture in pictures])
    distances = np.abs(means[:, None] - means).max(axis=-1)[np.triu_indices(20, 1)]
    assert np.median(distances) > 0.1
    assert np.median([picture.std() for picture in pictures]) > 0.03


def test_texture_has_the_shape_asked_for():
    assert texture(np.random.default_rng(0), 7, 19).shape == (7, 19, 3)
    assert texture(np.random.default_rng(1), 1, 1).shape == (1, 1, 3)
