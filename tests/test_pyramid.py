"""Resampling: the coordinate convention and the absence of aliasing."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepmac.scenes.pyramid import build_pyramid

BORDER = cv2.BORDER_CONSTANT


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (48, 64, 4), np.uint8)


def test_identity_shift_and_mirror_move_whole_pixels(picture):
    pyramid = build_pyramid(picture)
    identity = pyramid.warp(np.array([[1.0, 0, 0], [0, 1, 0]]), 48, 64, BORDER)
    assert (identity == picture).all()
    shifted = pyramid.warp(np.array([[1.0, 0, 5], [0, 1, -3]]), 48, 64, BORDER)
    assert (shifted[:45, 5:] == picture[3:, :59]).all()
    # (0, 0) is the outer corner of the first pixel, so a mirror image is x -> width - x.
    mirrored = pyramid.warp(np.array([[-1.0, 0, 64], [0, 1, 0]]), 48, 64, BORDER)
    assert (mirrored == picture[:, ::-1]).all()


@pytest.mark.parametrize("factor", [2, 4])
def test_shrinking_averages(picture, factor):
    pyramid = build_pyramid(picture.astype(np.float32), smallest=4)
    shrunk = pyramid.warp(
        np.array([[1 / factor, 0, 0], [0, 1 / factor, 0]]), 48 // factor, 64 // factor, BORDER
    )
    mean = picture.reshape(48 // factor, factor, 64 // factor, factor, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(shrunk, mean, atol=1e-3)


@given(st.floats(0.1, 2.0), st.floats(0, 6.3), st.integers(20, 70), st.integers(20, 70))
def test_area_of_a_warped_square_follows_the_determinant(scale, angle, height, width):
    pyramid = build_pyramid(np.full((height, width, 1), 255, np.uint8), smallest=4)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = np.array([128.0, 128.0]) - linear @ (width / 2, height / 2)
    warped = pyramid.warp(np.column_stack([linear, shift]), 256, 256, BORDER) / 255
    expected = height * width * scale**2
    perimeter = 2 * (height + width) * scale
    assert abs(warped.sum() - expected) < 0.25 * perimeter + 2
    ys, xs = np.mgrid[:256, :256] + 0.5
    weights = warped[..., 0]
    if expected > 50:  # its centre is where the matrix puts it
        assert abs((xs * weights).sum() / weights.sum() - 128) < 0.2
        assert abs((ys * weights).sum() / weights.sum() - 128) < 0.2
