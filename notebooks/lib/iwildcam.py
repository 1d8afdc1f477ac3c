"""How good a collection's masks are, where the truth is known."""

import numpy as np
import pandas as pd

from deepmac.core.label_images import read_label_image
from deepmac.core.masks import paste_masks
from deepmac.evaluation.baselines import BASELINES
from deepmac.iwildcam.collection import Collection
from deepmac.iwildcam.layout import picture_id
from deepmac.scenes.camera_traps import TRUTH_FOLDER
from deepmac.suite.results import Claim, Measurement, ResultRow, higher

_SAMPLES_PER_BOX = 65
_RESAMPLES = 1000


def compare_with_truth(collection: Collection) -> pd.DataFrame:
    """Compares masks with the true ones of composed pictures.

    Returns:
        A row for each detection of an animal: `picture`, `number`, and IoU in percent of `masks`, and
        of what looks at nothing but the box: `ellipse` inscribed in it, and `full_box`.
    """
    rows = []
    animals = collection.animals
    for picture, found in animals[animals["number"] > 0].groupby("picture", sort=False):
        truth = read_label_image(collection.layout.images / TRUTH_FOLDER / f"{picture_id(picture)}.png")
        labels = read_label_image(collection.mask_path(picture))
        low, sides = found[["ymin", "xmin"]].to_numpy(), found[["height", "width"]].to_numpy()
        for number, box in zip(found["number"], np.clip(np.hstack([low, low + sides]), 0, 1), strict=True):
            true, masks = truth == number, {"masks": labels == number}
            if not true.any():
                continue  # a false alarm
            for name, baseline in BASELINES.items():
                masks[name] = paste_masks(baseline(_SAMPLES_PER_BOX)[None], box[None], *true.shape)[0]
            ious = {name: 100 * (mask & true).sum() / (mask | true).sum() for name, mask in masks.items()}
            rows.append({"picture": picture, "number": number, **ious})
    return pd.DataFrame(rows, columns=["picture", "number", "masks", *BASELINES])


def truth_rows(scores: pd.DataFrame, model: str) -> tuple[list[ResultRow], Claim]:
    """The mean IoU of the masks and of guesses from the box, and the claim that masks are better.

    Args:
        scores: as `compare_with_truth` returns.
        model: name of what made the masks.
    """
    names = {"masks": f"masks of {model}", "ellipse": "inscribed ellipse", "full_box": "whole box"}
    by_picture = scores.groupby("picture")[list(names)]
    sums, counts = by_picture.sum(), by_picture.size().to_numpy()
    # Samples draw pictures with replacement, the same ones for every name.
    draws = np.random.default_rng(0).integers(len(counts), size=(_RESAMPLES, len(counts)))
    measured = {}
    for name in names:
        samples = sums[name].to_numpy()[draws].sum(axis=1) / counts[draws].sum(axis=1)
        measured[name] = Measurement(float(scores[name].mean()), samples, seeds=0)
    rows = [ResultRow(names[name], "composed/mIoU", value) for name, value in measured.items()]
    text = "masks of composed animals beat the inscribed ellipse"
    return rows, higher(text, measured["masks"], measured["ellipse"], "software")
