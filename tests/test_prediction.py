import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from deepmac.core.errors import InputError
from deepmac.inference.prediction import Prediction, quality_words

HEIGHT, WIDTH = 11, 13
INTERVALS = st.tuples(st.integers(0, 9), st.integers(1, 9))


def _prediction(boxes, mask_probs, size=(40, 60), **options):
    image = np.zeros((*size, 3), np.uint8)
    return Prediction(image, np.array(boxes, np.float32), np.array(mask_probs, np.float32), **options)


def _random_prediction(count, seed, size=(40, 60)):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 0.6, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.05, 0.4, (count, 2))], axis=1)
    return _prediction(boxes, rng.uniform(0, 1, (count, 8, 8)), size)


def _rectangles(intervals):
    """Boxes (ymin, xmin, ymax, xmax) from pixel to pixel, and the pixels each covers."""
    boxes, covered = [], []
    for (top, height), (left, width) in intervals:
        bottom, right = min(top + height, HEIGHT - 1), min(left + width, WIDTH - 1)
        boxes.append([top / (HEIGHT - 1), left / (WIDTH - 1), bottom / (HEIGHT - 1), right / (WIDTH - 1)])
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[top : bottom + 1, left : right + 1] = True
        covered.append(mask)
    return np.array(boxes).reshape(-1, 4), covered


def test_masks_are_the_probabilities_interpolated_between_the_box_edges():
    prediction = _prediction([[0.1, 0.25, 0.6, 0.75]], [[[0.9, 0.1], [0.9, 0.1]]], size=(101, 201))
    rows, columns = np.arange(101) / 100, np.arange(201) / 200
    left_half = (columns >= 0.25) & (columns < 0.5)  # the probability falls below 0.5 in the middle
    expected = ((rows >= 0.1 - 1e-6) & (rows <= 0.6 + 1e-6))[:, None] & left_half
    assert prediction.masks.dtype == bool
    np.testing.assert_array_equal(prediction.masks, expected[None])


def test_another_threshold_gives_other_masks():
    prediction = _random_prediction(3, seed=0)
    areas = [
        dataclasses.replace(prediction, threshold=threshold).masks.sum() for threshold in (0.2, 0.5, 0.8)
    ]
    assert areas[0] > areas[1] > areas[2]
    assert dataclasses.replace(prediction).masks.sum() == areas[1]
    for threshold in (0, 1, -3, np.nan):
        with pytest.raises(InputError, match="threshold"):
            dataclasses.replace(prediction, threshold=threshold)


def test_quality_is_the_iou_that_the_probabilities_predict():
    """Compared with the mean IoU of objects drawn from the probabilities."""
    rng = np.random.default_rng(0)
    probs = rng.beta(0.5, 0.5, (1, 32, 32)).astype(np.float32)
    mask, objects = probs[0] > 0.4, rng.random((2000, 32, 32)) < probs
    ious = (objects & mask).sum((1, 2)) / (objects | mask).sum((1, 2))
    prediction = _prediction([[0, 0, 1, 1]], probs, threshold=0.4)
    np.testing.assert_allclose(prediction.quality, [ious.mean()], atol=1e-3)
    assert prediction.quality.dtype == np.float32


def test_quality_is_calibrated_clipped_and_0_of_nothing():
    probs = [np.full((4, 4), 0.8), np.full((4, 4), 0.1), np.full((4, 4), 0.99)]
    prediction = _prediction([[0, 0, 1, 1]] * 3, probs, calibration=(0.1, 1.0))
    np.testing.assert_allclose(prediction.quality, [0.9, 0, 1], rtol=1e-6)
    words = quality_words(np.array([0.0, 0.59, 0.6, 0.8, 1.0]))
    assert words == ["doubtful", "doubtful", "check", "good", "good"]


def test_a_prediction_is_shown_in_a_line():
    prediction = _prediction([[0, 0, 1, 1]] * 2, [np.full((4, 4), 0.9), np.full((4, 4), 0.1)])
    height, width = prediction.image.shape[:2]
    assert repr(prediction) == f"<Prediction of 2 masks in {width} x {height} pixels: good, doubtful>"


def test_coco_results_can_be_loaded_and_name_what_they_are_about():
    prediction = _random_prediction(2, seed=1)
    results = prediction.to_coco("cat.jpg", category_ids=[3, 5], scores=[0.25, 0.75])
    truth = COCO()
    truth.dataset = {"info": {}, "annotations": [], "categories": [{"id": 3}, {"id": 5}]}
    truth.dataset["images"] = [{"id": "cat.jpg", "height": 40, "width": 60}]
    truth.createIndex()
    loaded = truth.loadRes(results).loadAnns([1, 2])
    assert [a["category_id"] for a in loaded] == [3, 5]
    assert [a["score"] for a in loaded] == [0.25, 0.75]
    for annotation, mask in zip(loaded, prediction.masks, strict=True):
        np.testing.assert_array_equal(truth.annToMask(annotation), mask)
    (result,) = _prediction([[0.25, 0.5, 0.75, 1]], [np.full((4, 4), 0.99)]).to_coco(1)
    assert (result["bbox"], result["score"], result["category_id"]) == ([30, 10, 30, 20], 0.99, 1)
    with pytest.raises(ValueError, match="zip"):
        prediction.to_coco(1, category_ids=[1])


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 8), seed=st.integers(0, 10**6))
def test_the_label_image_shows_the_smallest_mask_of_each_pixel(count, seed):
    prediction = _random_prediction(count, seed)
    areas = prediction.masks.sum(axis=(1, 2))
    # Of equally small masks the later one: argmin over the reversed order finds it first.
    candidates = np.where(prediction.masks, areas[:, None, None], np.inf)[::-1]
    expected = np.where(prediction.masks.any(axis=0), count - candidates.argmin(axis=0), 0)
    labels = prediction.to_label_image()
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, expected)


def test_more_than_255_labels_take_16_bits():
    edges = np.linspace(0, 1, 301)
    boxes = [[0, left, 1, right] for left, right in itertools.pairwise(edges)]
    for count, dtype in ((255, np.uint8), (256, np.uint16), (300, np.uint16)):
        labels = _prediction(boxes[:count], np.ones((count, 2, 2)), size=(3, 601)).to_label_image()
        assert labels.dtype == dtype
        assert set(np.unique(labels)) - {0} == set(range(1, count + 1))
    with pytest.raises(InputError, match="65535"):
        _prediction(np.zeros((65536, 4)), np.zeros((65536, 1, 1))).to_label_image()
    box = _prediction([[0, 0, 1, 1]], np.ones((1, 2, 2)))
    for number, dtype in ((255, np.uint8), (300, np.uint16)):
        labels = box.to_label_image([number], [0.5])
        assert labels.max() == number and labels.dtype == dtype
    with pytest.raises(InputError, match="detection 65536, and masks of 16 bits"):
        box.to_label_image([65536], [0.5])


@given(st.lists(st.tuples(INTERVALS, INTERVALS, st.sampled_from([0.2, 0.5, 0.9])), max_size=6), st.randoms())
def test_every_pixel_belongs_to_its_most_confident_detection(detections, random):
    boxes, covered = _rectangles([(y, x) for y, x, _ in detections])
    confidences = [confidence for _, _, confidence in detections]
    numbers = sorted(random.sample(range(1, 256), len(detections)))
    prediction = _prediction(boxes, np.ones((len(boxes), 2, 2)), (HEIGHT, WIDTH))
    labels = prediction.to_label_image(numbers, confidences)
    assert (labels.dtype, labels.shape) == (np.uint8, (HEIGHT, WIDTH))
    for y, x in np.ndindex(HEIGHT, WIDTH):
        there = [i for i in range(len(numbers)) if covered[i][y, x]]
        best = max(there, key=lambda i: (confidences[i], -numbers[i]), default=None)
        assert labels[y, x] == (0 if best is None else numbers[best])
