"""Crops, flips and colour jitters: every output pixel must come from where the view says."""

import numpy as np
import pytest
import tensorflow as tf
from official.projects.centernet.ops import preprocess_ops as centernet_ops
from official.vision.ops import preprocess_ops
from scipy import ndimage

from deepmac.data.augmentation import (
    jitter_colors,
    move_points,
    random_flip,
    random_scale_crop,
    random_square_crop,
    sample_mask,
)

CROPS = pytest.mark.parametrize("crop", [random_square_crop, random_scale_crop])


def coordinates_image(height, width):
    """A picture whose channels are row + 1 and column + 1, and a constant."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32) + 1
    return np.stack([rows, columns, np.full_like(rows, 7.0)], axis=-1)


def seed_of(index):
    return tf.stack([7, tf.cast(index, tf.int32)])


def draw_views(crop, image, boxes, size, draws, scale_min=0.6, scale_max=1.3):
    """Many views of one picture, through tf.data and without AutoGraph, as in training."""

    @tf.autograph.experimental.do_not_convert
    def draw(index):
        return crop(
            tf.constant(image), tf.constant(boxes, tf.float32), size, scale_min, scale_max, seed_of(index)
        )

    return list(tf.data.Dataset.range(draws).map(draw).as_numpy_iterator())


@CROPS
@pytest.mark.parametrize("shape", [(60, 90), (81, 40), (64, 64)])
def test_pixels_come_from_the_rows_and_columns_told(crop, shape):
    image = coordinates_image(*shape)
    for view in draw_views(crop, image, np.zeros((0, 4)), 48, 25):
        inside = (view.rows >= 0)[:, np.newaxis] & (view.columns >= 0)
        assert inside.any()
        shown = view.image[..., 2] > 0  # up to two pixels further, by interpolation
        assert shown[inside].all()
        assert ndimage.binary_dilation(inside, np.ones((5, 5)))[shown].all()
        # Away from the edge of the picture, where interpolation mixes in the zeros outside:
        interior = view.image[..., 2] > 6.999
        assert (inside | ~interior).all()
        rows = np.broadcast_to(view.rows[:, np.newaxis], inside.shape)
        columns = np.broadcast_to(view.columns, inside.shape)
        for source, channel in ((rows, 0), (columns, 1)):
            difference = (view.image[..., channel] - 1 - source)[interior]
            assert difference.min() > -1e-3 and difference.max() < 1.001  # nearest is the pixel at or before


@CROPS
def test_image_info_maps_coordinates_and_boxes(crop):
    height, width, size = 60, 90, 48
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1, (20, 2, 2))
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    boxes[0], boxes[1] = [0, 0, 0.01, 0.01], [0.99, 0.99, 1, 1]  # outside most crops
    dropped = 0
    for view in draw_views(crop, coordinates_image(height, width), boxes, size, 25):
        picture, output, scale, offset = view.image_info
        assert picture.tolist() == [height, width] and output.tolist() == [size, size]
        for axis, source in enumerate((view.rows, view.columns)):
            index = np.arange(size)[source >= 0]
            told = (index + offset[axis]) / scale[axis]
            assert np.abs(told - source[source >= 0]).max() <= 1
        expected = boxes * np.tile([height, width], 2) * np.tile(scale, 2) - np.tile(offset, 2)
        clipped = expected.clip(0, size)
        (kept,) = np.nonzero((clipped[:, 2:] > clipped[:, :2]).all(axis=1))
        np.testing.assert_array_equal(view.kept, kept)
        np.testing.assert_allclose(view.boxes, clipped[kept], atol=1e-3)
        dropped += len(boxes) - len(kept)
    assert dropped  # or nothing was tested


@pytest.mark.parametrize(
    ("length", "border"), [(640, 128), (257, 128), (256, 64), (200, 64), (128, 32), (60, 16)]
)
def test_square_crop_draws_as_published(length, border):
    """8 scales of the longer side; centres from border to length - border, both included."""
    views = draw_views(random_square_crop, coordinates_image(length, 30), np.zeros((0, 4)), 8, 400)
    infos = np.stack([view.image_info for view in views])
    sides = np.round(8 / infos[:, 2, 0]).astype(int)
    possible = np.linspace(0.6, 1.3, 8) * length
    assert {int(np.abs(possible - side).argmin()) for side in sides} == set(range(8))
    assert np.abs(sides[:, np.newaxis] - possible).min(axis=1).max() < 1.5  # cut to whole pixels
    centers = np.round(infos[:, 3, 0] / infos[:, 2, 0]).astype(int) + sides // 2
    assert border <= centers.min() and centers.max() <= length - border
    spread = length - 2 * border
    assert centers.min() < border + 0.1 * spread + 1 and centers.max() > length - border - 0.1 * spread - 1


def test_square_crop_of_model_garden_agrees(monkeypatch):
    """Model Garden's own random draws, played back, give the same picture and boxes."""
    height, width, size = 300, 420, 64
    image = coordinates_image(height, width)
    boxes = tf.constant([[0.1, 0.1, 0.4, 0.3], [0.5, 0.5, 0.9, 1.0], [0.0, 0.0, 0.02, 0.02]])
    uniform = tf.random.uniform
    for seed in range(5):
        draws = []

        def record(*args, draws=draws, **kwargs):
            draws.append(uniform(*args, **kwargs))
            return draws[-1]

        tf.random.set_seed(seed)
        monkeypatch.setattr(tf.random, "uniform", record)
        theirs, their_boxes, _ = centernet_ops.random_square_crop_by_scale(image, boxes, tf.range(3))
        monkeypatch.undo()
        monkeypatch.setattr(tf.random, "stateless_uniform", lambda *args, draws=draws: draws.pop(0))
        view = random_square_crop(image, boxes, size, 0.6, 1.3, seed_of(0))
        monkeypatch.undo()
        assert not draws
        np.testing.assert_allclose(view.boxes, their_boxes * size, atol=1e-4)
        side = theirs.shape[0]
        every = np.floor(np.arange(size) * np.float32(side / size)).astype(int)
        nearest = theirs.numpy()[every][:, every]
        rows = sample_mask(tf.constant(image[..., 0]), view.rows, view.columns)
        np.testing.assert_array_equal(rows, nearest[..., 0])


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.3])
def test_scale_crop_has_the_geometry_of_model_garden(scale):
    image = coordinates_image(50, 70)
    _, theirs = preprocess_ops.resize_and_crop_image(
        image, [48, 48], [48, 48], aug_scale_min=scale, aug_scale_max=scale
    )
    for view in draw_views(random_scale_crop, image, np.zeros((0, 4)), 48, 10, scale, scale):
        np.testing.assert_allclose(view.image_info[:3], theirs[:3], rtol=1e-6)
        scaled = np.round(np.array([50, 70]) * view.image_info[2])
        excess = np.maximum(scaled - 48, 0)
        assert (view.image_info[3] <= excess).all()
        np.testing.assert_array_equal(view.unpadded_shape, [*np.minimum(scaled, 48), 3])
        unpadded = view.image[..., 2] > 0
        assert unpadded.any(axis=1).sum() == view.unpadded_shape[0]
        assert unpadded.any(axis=0).sum() == view.unpadded_shape[1]


def test_scale_crop_without_scaling_is_the_picture():
    image = coordinates_image(48, 40)
    (view,) = draw_views(random_scale_crop, image, [[0.0, 0.25, 0.5, 1.0]], 48, 1, 1.0, 1.0)
    np.testing.assert_array_equal(view.image[:, :40], image)
    assert not view.image[:, 40:].any()
    np.testing.assert_allclose(view.boxes, [[0, 10, 24, 40]])


def test_flip_tells_the_columns():
    image = coordinates_image(4, 6)
    boxes = tf.constant([[0.0, 0.0, 0.5, 0.25]])
    points = tf.constant([[[0.25, 0.125], [0.5, float("nan")]]])
    seen = []
    for index in range(100):
        flipped, flipped_boxes, flipped_points, columns = random_flip(image, boxes, points, seed_of(index))
        np.testing.assert_array_equal(flipped, image[:, columns.numpy()])
        left, right = flipped_boxes.numpy()[0, [1, 3]]
        assert (left, right) == ((0.0, 0.25) if columns[0] == 0 else (0.75, 1.0))
        x = 0.125 if columns[0] == 0 else 0.875
        np.testing.assert_array_equal(flipped_points, [[[0.25, x], [0.5, np.nan]]])
        seen.append(int(columns[0]))
    assert set(seen) == {0, 5} and 25 < seen.count(5) < 75, "half of the draws"


@CROPS
def test_points_move_with_the_pixels_they_lie_in(crop):
    """A point in the middle of a pixel comes to where the crop shows this pixel, NaN if it does not."""
    height, width, size = 60, 90, 48
    image = coordinates_image(height, width)
    rows, columns = np.mgrid[2:height:7, 2:width:7].reshape(2, -1)
    points = np.stack([(rows + 0.5) / height, (columns + 0.5) / width], axis=-1)[:, np.newaxis]
    inside = outside = 0
    for view in draw_views(crop, image, np.zeros((0, 4)), size, 10):
        moved = move_points(tf.constant(points, tf.float32), tf.constant(view.image_info)).numpy()[:, 0]
        for row, column, (y, x) in zip(rows, columns, moved, strict=True):
            if np.isnan(y):
                outside += 1
                assert np.isnan(x)
                # Not shown, but for what lies on the very edge.
                assert row not in view.rows[1:-1] or column not in view.columns[1:-1]
                continue
            inside += 1
            cells = np.minimum(np.array([y, x]) * size, size - 1).astype(int)
            pixel = 1 / view.image_info[2]  # of the view, in pixels of the picture
            for axis, (source, told) in enumerate(((view.rows, row), (view.columns, column))):
                shown = source[cells[axis]]  # -1 in the picture's last row, which the crop leaves out
                assert shown < 0 or abs(shown - told) <= 1 + pixel[axis]
    assert inside > 50 and outside > 50


@pytest.mark.parametrize("name", ["hue", "contrast", "saturation", "brightness"])
def test_color_jitters_stay_small_and_in_range(name):
    image = tf.constant(np.random.default_rng(0).uniform(30, 220, (16, 16, 3)), tf.float32)
    changes = []
    for index in range(10):
        jittered = jitter_colors(image, [name], seed_of(index))
        assert jittered.shape == image.shape
        assert tf.reduce_min(jittered) >= 0 and tf.reduce_max(jittered) <= 255
        changes.append(float(tf.reduce_mean(tf.abs(jittered - image))))
    assert 0.1 < max(changes) < 60 and len(set(changes)) == 10
    np.testing.assert_array_equal(jitter_colors(image, [], seed_of(0)), image)
