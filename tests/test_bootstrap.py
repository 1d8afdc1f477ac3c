import copy

import numpy as np
import pytest
from evaluation_data import SEEN_IDS, Predictions, add_all, blobs, imperfect, scenes

from deepmac.evaluation import MaskEvaluator, confidence_interval
from deepmac.evaluation.bootstrap import bootstrap_weights


@pytest.fixture(scope="module")
def data():
    content, _ = scenes(images=30, seed=2)
    _, with_crowds = scenes(images=30, seed=2, crowds=False)
    return content, imperfect(with_crowds, seed=3)


def test_the_first_value_is_that_of_cocoeval(data):
    content, detections = data
    evaluator = add_all(MaskEvaluator(content, SEEN_IDS), detections)
    samples, result = evaluator.bootstrap(resamples=3), evaluator.result()
    assert samples.keys() == {key for key in result if key.startswith("mask/") and key.endswith("/AP")}
    for key, values in samples.items():
        assert values.shape == (4,)
        np.testing.assert_allclose(values[0], result[key], rtol=0, atol=1e-9)


def test_a_resample_equals_cocoeval_on_the_images_repeated(data):
    content, detections = data
    rng = np.random.default_rng(0)
    distinct = {
        image_id: Predictions(p.boxes, p.classes, rng.random(len(p.scores)), p.mask_probs)
        for image_id, p in detections.items()
    }
    evaluator = add_all(MaskEvaluator(content, SEEN_IDS), distinct)
    samples = evaluator.bootstrap(resamples=2, seed=5)
    repeated, again = {"images": [], "annotations": [], "categories": content["categories"]}, {}
    for image, count in zip(content["images"], bootstrap_weights(30, 2, seed=5)[2], strict=True):
        for _ in range(count):
            new = len(repeated["images"]) + 1
            repeated["images"].append(image | {"id": new})
            for row in content["annotations"]:
                if row["image_id"] == image["id"]:
                    number = len(repeated["annotations"]) + 1
                    repeated["annotations"].append(copy.deepcopy(row) | {"id": number, "image_id": new})
            again[new] = distinct[image["id"]]
    evaluator = MaskEvaluator(repeated, SEEN_IDS)
    evaluator.backend = "pycocotools"
    result = add_all(evaluator, again).result()
    for key, values in samples.items():
        np.testing.assert_allclose(values[2], result[key], rtol=0, atol=1e-9)


def test_weights_are_draws_with_replacement():
    weights = bootstrap_weights(40, 500, seed=0)
    assert weights.shape == (501, 40)
    assert (weights[0] == 1).all()
    assert (weights.sum(1) == 40).all()
    assert np.mean(weights[1:] == 0) == pytest.approx((1 - 1 / 40) ** 40, abs=0.01)
    np.testing.assert_array_equal(weights, bootstrap_weights(40, 500, seed=0))
    assert (weights[1:] != bootstrap_weights(40, 500, seed=1)[1:]).any()


def test_intervals_lie_around_the_value_and_narrow_with_more_images():
    width = {}
    for images in (15, 120):
        content, perfect = scenes(images, seed=4)
        evaluator = add_all(MaskEvaluator(content, SEEN_IDS), imperfect(perfect, seed=4))
        value, *resampled = evaluator.bootstrap(resamples=100)["mask/AP"]
        low, high = confidence_interval(value, np.array(resampled))
        assert low < value < high
        width[images] = high - low
    assert width[120] < width[15] / 1.5
    resamples = np.arange(1001) / 10 + 7  # uniform from 7 to 107, mean 57
    assert confidence_interval(50, resamples) == (pytest.approx(2.5), pytest.approx(97.5))


def test_mean_iou_is_resampled_with_the_same_images():
    content, _ = scenes(images=12, seed=9)
    rng = np.random.default_rng(0)
    evaluator = MaskEvaluator(content, SEEN_IDS)
    evaluator.add_from_boxes(lambda image_id, boxes: blobs(rng, len(boxes)))
    samples = evaluator.bootstrap(resamples=50, seed=1)
    assert samples["mask/unseen/mIoU"][0] == pytest.approx(evaluator.result()["mask/unseen/mIoU"])
    # An evaluator on one image at a time gives the parts of the mean.
    rng = np.random.default_rng(0)
    sums, counts = np.zeros(12), np.zeros(12)
    for index, image_id in enumerate(evaluator.image_ids):
        counts[index] = len(evaluator.ground_truth(image_id).boxes)
        if counts[index]:
            rows = [row for row in content["annotations"] if row["image_id"] == image_id]
            image = content["images"][index]
            single = MaskEvaluator(content | {"images": [image], "annotations": rows})
            single.add_from_boxes(lambda image_id, boxes: blobs(rng, len(boxes)))
            sums[index] = single.result()["mask/mIoU"] * counts[index]
    weights = bootstrap_weights(12, 50, seed=1)
    np.testing.assert_allclose(samples["mask/mIoU"], weights @ sums / (weights @ counts))
