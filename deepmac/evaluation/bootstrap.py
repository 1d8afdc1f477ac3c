"""Bootstrap over images: how much would AP vary with another draw of as many images?

Detections are matched once; a resample only weights the images. An image drawn n times counts n times
in every sum, so the precision of a resample is a weighted cumulative sum, without another COCOeval run.
"""

import contextlib
from collections.abc import Sequence

import numpy as np
from pycocotools.cocoeval import COCOeval

_RECALLS = np.linspace(0, 1, 101)  # COCO's recall thresholds


def class_average_precisions(evaluation: COCOeval, weights: np.ndarray) -> np.ndarray:
    """AP of the masks of each class, of instances of any size, in draws of the images.

    Args:
        evaluation: of pycocotools, from `coco_ap.coco_eval`.
        weights: int [R, I], how often each image counts in each draw.

    Returns:
        float64 [R, K], mean over IoU thresholds and 101 recall thresholds, 0 to 1; NaN without ground truth.
        Weights that are all one give COCOeval's AP.
    """
    evaluation.params.areaRng = evaluation.params.areaRng[:1]
    evaluation.params.areaRngLbl = ["all"]
    with contextlib.redirect_stdout(None):
        evaluation.evaluate()
    images, classes = len(evaluation.params.imgIds), range(len(evaluation.params.catIds))
    of_classes = [evaluation.evalImgs[k * images : (k + 1) * images] for k in classes]
    return np.stack([_average_precisions(results, weights) for results in of_classes], axis=1)


def _average_precisions(image_results: Sequence[dict | None], weights: np.ndarray) -> np.ndarray:
    """AP of one class, float64 [R]; COCOeval's results are None for an image without the class."""
    positives = np.array(
        [0 if row is None else np.count_nonzero(row["gtIgnore"] == 0) for row in image_results]
    )  # (I,) instances to find
    values = np.full(len(weights), np.nan)
    if not positives.any():
        return values
    # Detections of all images, the best score first; those matched with a crowd region count neither way.
    found = [(index, row) for index, row in enumerate(image_results) if row is not None]
    order = np.argsort(-np.concatenate([row["dtScores"] for _, row in found]), kind="stable")  # (D,)
    image = np.repeat([index for index, _ in found], [len(row["dtScores"]) for _, row in found])[order]
    matched = np.concatenate([row["dtMatches"] > 0 for _, row in found], axis=1)[:, order]  # (T, D)
    counted = np.concatenate([row["dtIgnore"] == 0 for _, row in found], axis=1)[:, order]
    true_positive, false_positive = matched & counted, ~matched & counted
    for draw in np.flatnonzero(weights @ positives):
        count = weights[draw, image]  # (D,)
        right = np.cumsum(count * true_positive, axis=1)  # (T, D)
        wrong = np.cumsum(count * false_positive, axis=1)
        precision = right / (right + wrong + np.spacing(1))
        # Interpolated: the best at this recall or beyond; zero where the recall is not reached.
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        precision = np.pad(precision, ((0, 0), (0, 1)))
        recall = right / int(weights[draw] @ positives)
        total = sum(
            at_threshold[np.searchsorted(reached, _RECALLS)].sum()
            for at_threshold, reached in zip(precision, recall, strict=True)
        )
        values[draw] = float(total) / (len(precision) * len(_RECALLS))
    return values


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
