"""What the notebook records: whether masks have the released format and, on composed pictures, are good."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from deepmac.core import masks
from deepmac.core.label_images import read_label_image
from deepmac.evaluation.baselines import BASELINES
from deepmac.iwildcam.checks import Problem
from deepmac.iwildcam.collection import CameraTrapPicture, Collection
from deepmac.scenes.camera_traps import TRUTH_FOLDER
from deepmac.suite.results import Claim, Measurement, ResultRow, higher, write_results

_SAMPLES_PER_BOX = 65
_RESAMPLES = 1000
# Faults of the masks, not of the pictures or boxes.
_OF_MASKS = ("missing masks", "unreadable masks", "size mismatch", "unknown detection", "masks of no picture")


def format_claim(problems: Sequence[Problem], num_pictures: int) -> Claim:
    """Claims that all masks are there and in the released format.

    Args:
        problems: of the collection, as `deepmac.iwildcam.checks.check_collection` returns.
        num_pictures: of the collection.
    """
    counts = Counter(problem.kind for problem in problems)
    found = ", ".join(f"{count} x {kind}" for kind, count in sorted(counts.items())) or "no problem"
    holds = num_pictures > 0 and not any(kind in counts for kind in _OF_MASKS)
    text = "every picture with detections has instance masks in the released format"
    return Claim(text, holds, f"{num_pictures} pictures checked: {found}")


def has_truth(collection: Collection) -> bool:
    """Whether the collection is composed, so that the true masks are known."""
    return (collection.layout.images / TRUTH_FOLDER).is_dir()


def compare_with_truth(collection: Collection) -> pd.DataFrame:
    """Compares masks with the true ones of composed pictures.

    Returns:
        A row for each detection of an animal: `picture` (row), `number`, and IoU in percent of `masks`, and
        of what looks at nothing but the box: `ellipse` inscribed in it, and `full_box`.
    """
    rows = [
        {"picture": row, **scores}
        for row, picture in enumerate(collection.pictures)
        for scores in _compare(collection, picture)
    ]
    return pd.DataFrame(rows, columns=["picture", "number", "masks", *BASELINES])


def _compare(collection: Collection, picture: CameraTrapPicture):
    detections = collection.detections(picture)
    if not len(detections):
        return
    truth = read_label_image(collection.layout.images / TRUTH_FOLDER / f"{picture.id}.png")
    labels = read_label_image(collection.mask_path(picture))
    for number, box in enumerate(detections.corners, start=1):
        true = truth == number
        if not true.any():
            continue  # a false alarm
        scores = {"number": number, "masks": _iou(labels == number, true)}
        for name, baseline in BASELINES.items():
            guess = masks.paste_masks(baseline(_SAMPLES_PER_BOX)[None], box[None], *true.shape)[0]
            scores[name] = _iou(guess, true)
        yield scores


def _iou(mask: np.ndarray, true: np.ndarray) -> float:
    return 100 * np.count_nonzero(mask & true) / np.count_nonzero(mask | true)


def truth_rows(scores: pd.DataFrame, model: str) -> tuple[list[ResultRow], Claim]:
    """The mean IoU of the masks and of guesses from the box, and the claim that masks are better.

    Args:
        scores: as `compare_with_truth` returns.
        model: name of what made the masks.
    """
    measured = {name: _mean(scores, name) for name in ("masks", *BASELINES)}
    names = {"masks": f"masks of {model}", "ellipse": "inscribed ellipse", "full_box": "whole box"}
    rows = [ResultRow(names[name], "composed/mIoU", value) for name, value in measured.items()]
    text = "masks of composed animals beat the inscribed ellipse"
    return rows, higher(text, measured["masks"], measured["ellipse"])


def _mean(scores: pd.DataFrame, name: str) -> Measurement:
    """The mean over detections; samples draw pictures with replacement, the same ones for every name."""
    by_picture = scores.groupby("picture")[name].agg(["sum", "count"]).to_numpy()
    draws = np.random.default_rng(0).integers(len(by_picture), size=(_RESAMPLES, len(by_picture)))
    sums, counts = by_picture[draws].sum(axis=1).T
    return Measurement(float(scores[name].mean()), sums / counts, seeds=0)


def write(path: str | Path | None, parameters: dict, rows, claims, seconds: float) -> None:
    """Writes the results JSON of the notebook; None writes nothing."""
    if path is not None:
        sha256 = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()
        write_results(path, "iwildcam", parameters, sha256, rows, claims, seconds)
