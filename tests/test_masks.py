import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from deepmac.core.masks import encode_masks, paste_mask, paste_masks

coordinates = st.floats(-0.25, 1.25, width=32)
boxes = st.tuples(coordinates, coordinates, coordinates, coordinates)
sides = st.integers(2, 40)


def bilinear_loop(mask, box, height, width):
    """Probability of every pixel, one at a time, from the definition."""
    samples = mask.shape[0]
    image = np.zeros((height, width))
    for p in range(height):
        for q in range(width):
            v = (p / (height - 1) - box[0]) / (box[2] - box[0])
            u = (q / (width - 1) - box[1]) / (box[3] - box[1])
            if 0 <= v <= 1 and 0 <= u <= 1:
                y, x = v * (samples - 1), u * (samples - 1)
                i, j = min(int(y), samples - 2), min(int(x), samples - 2)
                a, b = y - i, x - j
                top = (1 - b) * mask[i, j] + b * mask[i, j + 1]
                bottom = (1 - b) * mask[i + 1, j] + b * mask[i + 1, j + 1]
                image[p, q] = (1 - a) * top + a * bottom
    return image


def undecided(probs, box, height, width):
    """Pixels where rounding may decide: near the threshold or near an edge of the box."""
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    near = [abs(rows - box[k] * (height - 1)) < 1e-3 for k in (0, 2)]
    near += [abs(columns - box[k] * (width - 1)) < 1e-3 for k in (1, 3)]
    return (abs(probs - 0.5) < 1e-3) | np.logical_or.reduce(np.broadcast_arrays(*near))


def random_masks(seed, count, samples):
    return np.random.default_rng(seed).uniform(size=(count, samples, samples)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(box=boxes, height=sides, width=sides, samples=st.integers(2, 9), seed=st.integers(0, 99))
def test_pixels_equal_a_loop_over_the_definition(box, height, width, samples, seed):
    box = (min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]) + 0.01, max(box[1], box[3]) + 0.01)
    mask = random_masks(seed, 1, samples)
    probs = bilinear_loop(mask[0].astype(float), box, height, width)
    pasted = paste_masks(mask, np.array([box]), height, width)[0]
    sure = ~undecided(probs, box, height, width)
    np.testing.assert_array_equal(pasted[sure], (probs > 0.5)[sure])


@pytest.mark.parametrize("samples", [7, 32])
def test_pixels_equal_the_published_reframing(samples):
    import tensorflow as tf

    height, width, count = 61, 83, 20
    rng = np.random.default_rng(samples)
    corner = rng.uniform(-0.2, 0.7, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.02, 0.6, (count, 2))], 1).astype(np.float32)
    masks = random_masks(samples, count, samples)
    # The image's corners in the frame of each box: cropping the mask with them is its inverse crop.
    size = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    inverse = (np.array([0, 0, 1, 1], np.float32) - np.tile(boxes[:, :2], 2)) / size
    probs = tf.image.crop_and_resize(masks[..., None], inverse, np.arange(count), (height, width)).numpy()[
        ..., 0
    ]
    pasted = paste_masks(masks, boxes, height, width)
    for mask, prob, box in zip(pasted, probs, boxes, strict=True):
        sure = ~undecided(prob, box, height, width)
        assert sure.mean() > 0.9
        np.testing.assert_array_equal(mask[sure], (prob > 0.5)[sure])


def test_a_pixel_belongs_to_the_mask_only_above_the_threshold():
    box = np.array([[0.0, 0.0, 1.0, 1.0]])
    assert not paste_masks(np.full((1, 5, 5), 0.5), box, 11, 17).any()
    assert paste_masks(np.full((1, 5, 5), 0.501), box, 11, 17).all()
    assert not paste_masks(np.full((1, 5, 5), 0.501), box, 11, 17, threshold=0.6).any()


def test_box_edges_are_included_although_boxes_are_float32():
    height = 481
    for first, last in [(0, 480), (1, 2), (7, 300), (123, 479), (240, 241), (333, 480)]:
        box = np.array([first / 480, 0, last / 480, 1], np.float32)
        crop, y0, x0 = paste_mask(np.ones((3, 3)), box, height, 5)
        assert (y0, x0, crop.shape) == (first, 0, (last - first + 1, 5))
        assert crop.all()


@pytest.mark.parametrize(
    "box",
    [
        (0.2, 0.2, 0.2, 0.8),
        (0.2, 0.8, 0.9, 0.1),
        (0.2, 0.2, np.nan, 0.8),
        (0.2, 0.2, 0.8, np.inf),
        (1.2, 0.2, 1.4, 0.8),
        (-0.5, 0.2, -0.1, 0.8),
        (0.501, 0.501, 0.502, 0.502),  # between two pixels
    ],
)
def test_empty_boxes_give_empty_masks(box):
    ones, box = np.ones((1, 4, 4)), np.array([box])
    assert not paste_masks(ones, box, 10, 12).any()
    assert paste_mask(ones[0], box[0], 10, 12)[0].size == 0
    assert coco_mask.area(encode_masks(ones, box, 10, 12)).tolist() == [0]


def test_no_boxes_and_single_pixels():
    assert paste_masks(np.zeros((0, 4, 4)), np.zeros((0, 4)), 5, 6).shape == (0, 5, 6)
    assert encode_masks(np.zeros((0, 4, 4)), np.zeros((0, 4)), 5, 6) == []
    assert paste_masks(np.ones((1, 4, 4)), np.array([[0.2, 0, 0.9, 1]]), 1, 3).tolist() == [[[True] * 3]]
    pasted = paste_masks(np.ones((1, 1, 1)), np.array([[0.0, 0, 1, 0.5]]), 2, 3)
    assert pasted.tolist() == [[[True, True, False]] * 2]


@settings(max_examples=80, deadline=None)
@given(
    boxes=st.lists(boxes, min_size=1, max_size=4),
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    samples=st.integers(1, 9),
    seed=st.integers(0, 99),
)
@example(
    boxes=[(0, 0.25, 1, 0.75), (-1, -1, 2, 2)], height=7, width=9, samples=3, seed=0
)  # runs cross columns
def test_streamed_rle_is_the_rle_of_the_bitmap(boxes, height, width, samples, seed):
    probs, boxes = random_masks(seed, len(boxes), samples) ** (seed % 3), np.array(boxes, np.float32)
    bitmaps = paste_masks(probs, boxes, height, width)
    for rle, bitmap in zip(encode_masks(probs, boxes, height, width), bitmaps, strict=True):
        expected = coco_mask.encode(np.asfortranarray(bitmap.astype(np.uint8)))
        assert rle == {"size": [height, width], "counts": expected["counts"].decode()}


def test_encoding_holds_no_bitmap_of_the_image():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 0.9, (40, 2))
    boxes = np.concatenate([corner, corner + 0.05], 1)
    probs = random_masks(0, 40, 32)
    tracemalloc.start()
    encode_masks(probs, boxes, 4000, 6000)  # a bitmap is 24 MB, a crop 60 kB
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6
