"""What `iwildcam.ipynb` shows of a collection's masks, and how good they are where the truth is known."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from deepmac.core.label_images import read_label_image
from deepmac.core.masks import paste_masks
from deepmac.evaluation.baselines import BASELINES
from deepmac.iwildcam.checks import Problem
from deepmac.iwildcam.collection import Collection
from deepmac.scenes.camera_traps import TRUTH_FOLDER
from deepmac.suite.results import Claim, Measurement, ResultRow, higher

_SAMPLES_PER_BOX = 65
_RESAMPLES = 1000
_MOST_GROUPS = 16  # categories or locations that a figure shows
# Faults of the masks, not of the pictures or boxes.
_OF_MASKS = ("missing masks", "unreadable masks", "size mismatch", "unknown detection", "masks of no picture")


def plot_masks(objects: pd.DataFrame) -> Figure:
    """Plots masks against their boxes: areas, how much of the box is filled, and how confident the box is.

    Args:
        objects: as `deepmac.iwildcam.tables.objects_table` returns.
    """
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    (areas, fill), (confidence, confidence_fill) = figure.subplots(2, 2)
    groups = list(objects.groupby("detection_category"))
    for name, group in groups:
        seen = group[group["mask_area"] > 0]
        areas.scatter(seen["box_area"], seen["mask_area"], s=8, alpha=0.6, label=name)
    seen = objects[objects["mask_area"] > 0]
    if len(seen):
        ends = np.array([seen["box_area"].min() / 1.5, 1.0])
        areas.plot(ends, ends, "-", color="grey", lw=1, label="whole box")
        areas.plot(ends, np.pi / 4 * ends, "--", color="grey", lw=1, label="inscribed ellipse")
        areas.set(xscale="log", yscale="log", xlim=ends)
        areas.legend(frameon=False, fontsize="small")
    areas.set(xlabel="box area / picture area", ylabel="mask area / picture area")
    fill.hist(objects["fill_ratio"].dropna().clip(0, 1), bins=np.linspace(0, 1, 26), color="#4c72b0")
    fill.axvline(np.pi / 4, ls="--", color="grey", lw=1)
    fill.set(xlabel="fill ratio: mask area / box area", ylabel="detections")
    if groups:
        names, parts = zip(*((name, group["confidence"]) for name, group in groups), strict=True)
        confidence.hist(parts, bins=np.linspace(0, 1, 21), stacked=True, label=names)
        confidence.legend(frameon=False)
    confidence.set(xlabel="confidence", ylabel="detections")
    confidence_fill.scatter(objects["confidence"], objects["fill_ratio"].clip(0, 1), s=8, alpha=0.5)
    confidence_fill.set(xlabel="confidence", ylabel="fill ratio", xlim=(0, 1), ylim=(0, 1))
    return figure


def plot_groups(pictures: pd.DataFrame, objects: pd.DataFrame, column: str) -> Figure:
    """Plots pictures, detections and fill ratios of each category or location, the most frequent ones.

    Args:
        pictures: as `deepmac.iwildcam.tables.pictures_table` returns.
        objects: as `objects_table` returns.
        column: of the pictures, "category" or "location".
    """
    known = pictures[pictures[column] != ""]
    joined = objects.join(pictures[column], on="picture")
    count = pd.DataFrame({"pictures": known[column].value_counts()}).head(_MOST_GROUPS)
    count["detections"] = joined[column].value_counts()
    figure = Figure(figsize=(11, 1.2 + 0.3 * max(1, len(count))), layout="constrained")
    counts, fill = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(count))
    for offset, (label, values) in zip((-0.2, 0.2), count.items(), strict=True):
        counts.barh(places + offset, values.fillna(0), 0.4, label=label)
    counts.set(ylabel=column)
    counts.invert_yaxis()
    counts.legend(frameon=False, fontsize="small")
    if len(count):
        ratios = [
            joined.loc[joined[column] == name, "fill_ratio"].dropna().clip(0, 1) for name in count.index
        ]
        fill.boxplot(ratios, positions=places, orientation="horizontal", widths=0.6, sym=".")
    fill.set(yticks=places, yticklabels=count.index, xlabel="fill ratio: mask area / box area", xlim=(0, 1))
    return figure


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
    rows = []
    for row, picture in enumerate(collection.pictures):
        detections = collection.detections(picture)
        if not len(detections):
            continue
        truth = read_label_image(collection.layout.images / TRUTH_FOLDER / f"{picture.id}.png")
        labels = read_label_image(collection.mask_path(picture))
        for number, box in enumerate(detections.corners, start=1):
            true, masks = truth == number, {"masks": labels == number}
            if not true.any():
                continue  # a false alarm
            for name, baseline in BASELINES.items():
                masks[name] = paste_masks(baseline(_SAMPLES_PER_BOX)[None], box[None], *true.shape)[0]
            ious = {name: 100 * (mask & true).sum() / (mask | true).sum() for name, mask in masks.items()}
            rows.append({"picture": row, "number": number, **ious})
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
    return rows, higher(text, measured["masks"], measured["ellipse"])
