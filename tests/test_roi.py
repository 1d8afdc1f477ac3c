import cv2
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmac.core.errors import InputError
from deepmac.modeling import roi

RNG = np.random.default_rng(0)
SEED = (3, 4)


def random_boxes(num_images, num_boxes, low=0.0, high=1.0):
    corners = RNG.uniform(low, high, (num_images, num_boxes, 2, 2)).astype(np.float32)
    return np.concatenate([corners.min(axis=2), corners.max(axis=2)], axis=-1)


def native_crops(feature_map, boxes, size):
    num_images, num_boxes = boxes.shape[:2]
    crops = tf.image.crop_and_resize(
        feature_map, boxes.reshape(-1, 4), np.repeat(np.arange(num_images), num_boxes), size
    )
    return crops.numpy().reshape(num_images, num_boxes, *size, feature_map.shape[-1])


@pytest.mark.parametrize(
    ("map_size", "crop_size"),
    [((32, 32), (32, 32)), ((128, 40), (14, 14)), ((7, 90), (5, 5)), ((16, 16), (1, 1)), ((1, 5), (4, 6))],
)
def test_crops_have_the_values_of_crop_and_resize(map_size, crop_size):
    feature_map = RNG.normal(size=(2, *map_size, 3)).astype(np.float32)
    boxes = random_boxes(2, 40, -0.4, 1.4)
    boxes[0, 0] = [0.0, 0.0, 1.0, 1.0]
    boxes[0, 1] = [0.4, 0.4, 0.4, 0.4]
    boxes[0, 2] = [0.9, 0.8, 0.1, 0.2]  # inverted: mirrored
    boxes[0, 3] = 0.0
    boxes[1, 0] = [1.5, 1.5, 2.0, 2.0]  # outside
    crops = roi.crop_boxes(feature_map, boxes, crop_size)
    np.testing.assert_allclose(crops, native_crops(feature_map, boxes, crop_size), atol=1e-5)
    assert not np.any(crops[1, 0])


def test_a_box_that_ends_at_the_edge_keeps_its_last_samples():
    # 27 steps of 127 / 27 cells round to beyond 127, where tf.image.crop_and_resize gives 0.
    feature_map = tf.ones([1, 128, 128, 1])
    crops = roi.crop_boxes(feature_map, tf.constant([[[0.0, 0.0, 1.0, 1.0]]]), 28)
    np.testing.assert_allclose(crops, 1.0, rtol=1e-5)


def test_crops_have_the_gradient_of_crop_and_resize():
    feature_map = tf.constant(RNG.normal(size=(2, 12, 20, 2)), tf.float32)
    boxes = random_boxes(2, 3)

    def gradient(crop):
        with tf.GradientTape() as tape:
            tape.watch(feature_map)
            loss = tf.reduce_sum(tf.square(crop()))
        return tape.gradient(loss, feature_map)

    ours = gradient(lambda: roi.crop_boxes(feature_map, boxes, 6))
    native = gradient(
        lambda: tf.image.crop_and_resize(feature_map, boxes.reshape(-1, 4), np.repeat([0, 1], 3), [6, 6])
    )
    np.testing.assert_allclose(ours, native, atol=1e-4)


def test_crops_of_unknown_shapes_compile_and_may_be_none():
    spec = [tf.TensorSpec([None, None, None, 2]), tf.TensorSpec([None, None, 4])]
    dynamic = tf.function(lambda features, boxes: roi.crop_boxes(features, boxes, 8), input_signature=spec)
    features, boxes = RNG.normal(size=(2, 9, 30, 2)).astype(np.float32), random_boxes(2, 3)
    expected = native_crops(features, boxes, (8, 8))
    np.testing.assert_allclose(dynamic(features, boxes), expected, atol=1e-5)
    assert dynamic(features, boxes[:, :0]).shape == (2, 0, 8, 8, 2)
    compiled = tf.function(lambda features, boxes: roi.crop_boxes(features, boxes, 8), jit_compile=True)
    np.testing.assert_allclose(compiled(features, boxes), expected, atol=1e-5)


def test_crops_stay_in_bfloat16_with_float32_positions():
    # A ramp over 256 columns: positions rounded to bfloat16 would be off by up to a whole column.
    ramp = np.tile(np.linspace(0.0, 1.0, 256, dtype=np.float32), (1, 8, 1)).reshape(1, 8, 256, 1)
    boxes = np.array([[[0.0, 0.9, 1.0, 0.95]]], np.float32)
    crops = roi.crop_boxes(tf.cast(ramp, tf.bfloat16), boxes, 4)
    assert crops.dtype == tf.bfloat16
    expected = np.linspace(0.9, 0.95, 4)
    np.testing.assert_allclose(tf.cast(crops, tf.float32)[0, 0, 0, :, 0], expected, rtol=2**-8)


def test_centres_read_the_cell_they_lie_in():
    features = RNG.normal(size=(2, 6, 9, 4)).astype(np.float32)
    boxes = random_boxes(2, 30, -0.3, 1.3)
    gathered = roi.gather_points(features, roi.box_centers(boxes)).numpy()
    for image in range(2):
        for box in range(30):
            ymin, xmin, ymax, xmax = boxes[image, box]
            row = min(max(int(np.floor((ymin + ymax) / 2 * 6)), 0), 5)
            column = min(max(int(np.floor((xmin + xmax) / 2 * 9)), 0), 8)
            np.testing.assert_array_equal(gathered[image, box], features[image, row, column])


def test_filled_boxes_hold_the_pixels_between_their_edges():
    boxes = random_boxes(2, 10)
    boxes[0, 0] = [0.25, 0.5, 0.75, 1.0]  # edges on pixels count
    filled = roi.fill_boxes(boxes, 8, 12).numpy()
    for image, box in np.ndindex(2, 10):
        ymin, xmin, ymax, xmax = boxes[image, box]
        for y, x in np.ndindex(8, 12):
            inside = ymin * 8 <= y <= ymax * 8 and xmin * 12 <= x <= xmax * 12
            assert filled[image, box, y, x] == inside
    assert filled[0, 0].sum() == 5 * 6


def test_resizing_is_bilinear_between_pixel_centres():
    maps = RNG.normal(size=(2, 3, 5, 7)).astype(np.float32)
    resized = roi.resize_maps(maps, 20, 14).numpy()
    for image, index in np.ndindex(2, 3):
        expected = cv2.resize(maps[image, index], (14, 20), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(resized[image, index], expected, atol=1e-5)


def sizes_and_centres(boxes):
    return boxes[..., 2:] - boxes[..., :2], (boxes[..., 2:] + boxes[..., :2]) / 2


def boxes_strategy():
    """Up to six boxes in the image, some of which touch its edges."""
    edges = st.tuples(
        st.one_of(st.just(0.0), st.floats(0.0, 0.9)), st.one_of(st.just(1.0), st.floats(0.01, 1.0))
    ).map(lambda pair: (pair[0], pair[0] + (1.0 - pair[0]) * pair[1]))
    box = st.tuples(edges, edges).map(lambda axes: np.transpose(axes).ravel())
    return st.lists(box, min_size=1, max_size=6).map(lambda rows: np.array([rows], np.float32))


JITTER = {
    "boxes": boxes_strategy(),
    "ratio": st.floats(0.0, 0.9),
    "mode": st.sampled_from(list(roi.JITTER_MODES)),
    "seed": st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)),
}


@settings(max_examples=60, deadline=None)
@given(**JITTER)
def test_jitter_keeps_what_its_mode_promises(boxes, ratio, mode, seed):
    jittered, again = (roi.jitter_boxes(boxes, ratio, mode, seed).numpy() for _ in range(2))
    np.testing.assert_array_equal(jittered, again)
    np.testing.assert_allclose(roi.jitter_boxes(boxes, 0.0, mode, seed), boxes, atol=1e-5)
    assert jittered.min() >= 0 and jittered.max() <= 1
    assert np.all(jittered[..., :2] <= jittered[..., 2:])
    grown = np.concatenate([boxes[..., :2] - jittered[..., :2], jittered[..., 2:] - boxes[..., 2:]], axis=-1)
    assert not mode.startswith("shrink") or grown.max() <= 1e-5
    assert not mode.startswith("expand") or grown.min() >= -1e-5

    sizes, centres = sizes_and_centres(boxes)
    low = 0.0 if mode.startswith("expand") else -ratio
    high = 0.0 if mode.startswith("shrink") else ratio
    steps = np.concatenate([centres - jittered[..., :2], jittered[..., 2:] - centres], axis=-1)
    halves = np.concatenate([sizes, sizes], axis=-1) / 2
    clipped = (jittered == 0) | (jittered == 1)
    # One edge at the image's stops both edges of a symmetric mode, in "_xy" those of the other axis too.
    if "symmetric" in mode:
        np.testing.assert_allclose(sizes_and_centres(jittered)[1], centres, atol=1e-5)
        clipped |= np.roll(clipped, 2, axis=-1)
    if mode.endswith("_xy"):
        clipped |= clipped.any(axis=-1, keepdims=True)
    assert np.all(steps <= halves * (1 + high) + 1e-5)
    assert np.all((steps >= halves * (1 + low) - 1e-5) | clipped | (halves * (1 + low) >= 0.5 - 1e-3))


def test_plain_jitter_moves_each_edge_of_each_box_on_its_own():
    boxes = np.tile(np.array([0.4, 0.4, 0.6, 0.6], np.float32), (1, 400, 1))
    for mode, low, high in (("default", -0.5, 0.5), ("expand", 0.0, 0.5), ("shrink", -0.5, 0.0)):
        steps = np.abs(roi.jitter_boxes(boxes, 0.5, mode, SEED).numpy()[0] - 0.5) / 0.1 - 1
        assert len(np.unique(steps.round(6))) > 1500
        np.testing.assert_allclose(steps.min(axis=0), low, atol=0.03)
        np.testing.assert_allclose(steps.max(axis=0), high, atol=0.03)


@pytest.mark.parametrize("mode", [mode for mode in roi.JITTER_MODES if "symmetric" in mode])
def test_symmetric_jitter_scales_both_sides_by_themselves_and_xy_by_one_ratio(mode):
    boxes = random_boxes(1, 300, 0.05, 0.95)
    sizes, _ = sizes_and_centres(boxes)
    new_sizes, _ = sizes_and_centres(roi.jitter_boxes(boxes, 0.8, mode, SEED).numpy())
    big = sizes.min(axis=-1) > 0.05
    ratios = new_sizes[big] / sizes[big]
    assert np.ptp(ratios) > 0.2
    if mode.endswith("_xy"):
        np.testing.assert_allclose(ratios[:, 0], ratios[:, 1], atol=1e-4)
    else:
        assert np.mean(np.abs(ratios[:, 0] - ratios[:, 1]) > 0.01) > 0.8


def test_symmetric_jitter_stops_where_an_edge_leaves_the_image_and_other_modes_are_refused():
    boxes = np.tile(np.array([0.0, 0.4, 0.5, 0.6], np.float32), (1, 50, 1))
    jittered = roi.jitter_boxes(boxes, 0.9, "expand_symmetric", SEED).numpy()
    np.testing.assert_allclose(jittered[..., [0, 2]], boxes[..., [0, 2]], atol=1e-6)
    assert np.ptp(jittered[..., 3]) > 0.01
    with pytest.raises(InputError, match="shrink_symmetric_xy"):
        roi.jitter_boxes(boxes, 0.1, "sideways", SEED)
