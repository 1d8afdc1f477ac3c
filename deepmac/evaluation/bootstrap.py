"""Bootstrap over images: how much would AP vary with another draw of as many images?

Detections are matched once; a resample only weights the images. An image drawn n times counts n times
in every sum, so the precision of a resample is a weighted cumulative sum, without another COCOeval run.
"""

import contextlib
import dataclasses
from collections.abc import Sequence

import numpy as np

from deepmac.evaluation.coco_ap import coco_eval

_RECALLS = np.linspace(0, 1, 101)  # COCO's recall thresholds


@dataclasses.dataclass(frozen=True)
class ClassMatches:
    """The detections of one class over all images, best score first, matched at T IoU thresholds.

    Attributes:
        image: int64 [D], position of the detection's image.
        true_positive: bool [T, D].
        false_positive: bool [T, D]; detections matched with a crowd region are neither.
        positives: int64 [I], instances to find in each image.
    """

    image: np.ndarray
    true_positive: np.ndarray
    false_positive: np.ndarray
    positives: np.ndarray


def match_detections(truth: dict, detections: list[dict]) -> list[ClassMatches]:
    """Matches masks of detections with ground truth as COCOeval does, for instances of any size.

    Arguments are those of `coco_ap.coco_eval`; returns the matches of each category, in their order.
    """
    evaluation = coco_eval(truth, detections, "mask", "pycocotools")
    evaluation.params.areaRng = evaluation.params.areaRng[:1]
    evaluation.params.areaRngLbl = ["all"]
    with contextlib.redirect_stdout(None):
        evaluation.evaluate()
    images = len(truth["images"])
    return [
        _class_matches(evaluation.evalImgs[k * images : (k + 1) * images], len(evaluation.params.iouThrs))
        for k in range(len(truth["categories"]))
    ]


def class_average_precision(matches: ClassMatches, weights: np.ndarray) -> float:
    """AP of one class when every image counts as often as its weight, int [I], says.

    Returns:
        Mean over IoU thresholds and 101 recall thresholds, 0 to 1; NaN without ground truth. All weights one
        give COCOeval's AP.
    """
    positives = int(weights @ matches.positives)
    if positives == 0:
        return float("nan")
    count = weights[matches.image]  # (D,)
    found = np.cumsum(count * matches.true_positive, axis=1)  # (T, D)
    wrong = np.cumsum(count * matches.false_positive, axis=1)
    precision = found / (found + wrong + np.spacing(1))
    # Interpolated precision: the best at this recall or beyond; zero where the recall is not reached.
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    precision = np.pad(precision, ((0, 0), (0, 1)))
    recall = found / positives
    total = sum(
        at_threshold[np.searchsorted(reached, _RECALLS)].sum()
        for at_threshold, reached in zip(precision, recall, strict=True)
    )
    return float(total) / (len(precision) * len(_RECALLS))


def bootstrap_weights(images: int, resamples: int, seed: int) -> np.ndarray:
    """Draws as many images as there are with replacement; equal seeds draw equal images.

    Returns:
        int64 [1 + resamples, images], how often each image was drawn; the first row is all ones, the data
        themselves.
    """
    drawn = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=resamples)
    return np.concatenate([np.ones((1, images), np.int64), drawn])


def confidence_interval(value: float, resampled: np.ndarray) -> tuple[float, float]:
    """95 % interval of a value: what another draw of as many images would give.

    AP grows when a class has fewer distinct instances, and a resample has fewer than the data: its mean
    lies above the value, often by more than the width of the interval. So the percentiles are taken
    around the resamples' mean and laid around the value.

    The difference of two models has an interval of its own: subtract the samples of two evaluators with
    the same images, resamples and seed, and pass the differences.

    Args:
        value: of the images themselves.
        resampled: float [resamples], that of each draw of images, finite; at least one.
    """
    low, high = value - resampled.mean() + np.percentile(resampled, [2.5, 97.5])
    return float(low), float(high)


def _class_matches(image_results: Sequence[dict | None], thresholds: int) -> ClassMatches:
    """Joins COCOeval's results of one class; None stands for an image without the class."""
    positives = np.array(
        [0 if row is None else np.count_nonzero(row["gtIgnore"] == 0) for row in image_results], np.int64
    )
    found = [(index, row) for index, row in enumerate(image_results) if row is not None]
    scores = np.concatenate([np.zeros(0)] + [row["dtScores"] for _, row in found])
    order = np.argsort(-scores, kind="stable")
    image = np.repeat([index for index, _ in found], [len(row["dtScores"]) for _, row in found])
    empty = np.zeros((thresholds, 0), bool)
    matched = np.concatenate([empty] + [row["dtMatches"] > 0 for _, row in found], axis=1)[:, order]
    ignored = np.concatenate([empty] + [row["dtIgnore"] > 0 for _, row in found], axis=1)[:, order]
    return ClassMatches(
        image=image.astype(np.int64)[order],
        true_positive=matched & ~ignored,
        false_positive=~matched & ~ignored,
        positives=positives,
    )
