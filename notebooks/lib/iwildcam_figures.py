"""Statistics of a collection's masks as matplotlib figures."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from deepmac.core.drawing import instance_colors

_MOST_GROUPS = 16  # categories or locations that a figure shows


def mask_against_box(objects: pd.DataFrame) -> Figure:
    """Plots the area of each mask against that of its box, and how much of the box it fills.

    Args:
        objects: as `deepmac.iwildcam.tables.objects_table` returns.
    """
    figure = Figure(figsize=(11, 4), layout="constrained")
    areas, fill = figure.subplots(1, 2)
    seen = objects[objects["mask_area"] > 0]
    names = sorted(objects["detection_category"].unique())
    for name, color in zip(names, instance_colors(len(names)) / 255, strict=True):
        part = seen[seen["detection_category"] == name]
        areas.scatter(part["box_area"], part["mask_area"], s=8, alpha=0.6, color=color, label=name)
    if len(seen):
        ends = np.array([seen["box_area"].min() / 1.5, 1.0])
        for ratio, style in ((1.0, "-"), (np.pi / 4, "--")):
            name = "whole box" if ratio == 1 else "inscribed ellipse"
            areas.plot(ends, ratio * ends, style, color="grey", lw=1, label=name)
        areas.set(xscale="log", yscale="log", xlim=ends)
        areas.legend(frameon=False, fontsize="small")
    areas.set(xlabel="box area / picture area", ylabel="mask area / picture area")
    fill.hist(objects["fill_ratio"].dropna().clip(0, 1), bins=np.linspace(0, 1, 26), color="#4c72b0")
    fill.axvline(np.pi / 4, ls="--", color="grey", lw=1)
    fill.set(xlabel="fill ratio: mask area / box area", ylabel="detections")
    return figure


def confidences(objects: pd.DataFrame) -> Figure:
    """Plots how confident the detections are, and how many a picture has at each threshold.

    Args:
        objects: as `deepmac.iwildcam.tables.objects_table` returns.
    """
    figure = Figure(figsize=(11, 3.5), layout="constrained")
    histogram, against_fill = figure.subplots(1, 2)
    names = sorted(objects["detection_category"].unique())
    parts = [objects.loc[objects["detection_category"] == name, "confidence"] for name in names]
    if parts:
        colors = [tuple(color / 255) for color in instance_colors(len(names))]
        histogram.hist(parts, bins=np.linspace(0, 1, 21), stacked=True, label=names, color=colors)
        histogram.legend(frameon=False)
    histogram.set(xlabel="confidence", ylabel="detections")
    against_fill.scatter(objects["confidence"], objects["fill_ratio"].clip(0, 1), s=8, alpha=0.5)
    against_fill.set(xlabel="confidence", ylabel="fill ratio", xlim=(0, 1), ylim=(0, 1))
    return figure


def by_group(pictures: pd.DataFrame, objects: pd.DataFrame, column: str) -> Figure:
    """Plots pictures, detections and fill ratios of each category or location, the most frequent ones.

    Args:
        pictures: as `deepmac.iwildcam.tables.pictures_table` returns.
        objects: as `objects_table` returns.
        column: of the pictures, "category" or "location".
    """
    known = pictures[pictures[column] != ""]
    names = known[column].value_counts().index[:_MOST_GROUPS].tolist()
    joined = objects.join(pictures[column], on="picture")
    figure = Figure(figsize=(11, 1.2 + 0.3 * max(1, len(names))), layout="constrained")
    counts, fill = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(names))
    counts.barh(places - 0.2, [(known[column] == name).sum() for name in names], 0.4, label="pictures")
    counts.barh(places + 0.2, [(joined[column] == name).sum() for name in names], 0.4, label="detections")
    counts.set(yticks=places, yticklabels=names, ylabel=column)
    counts.invert_yaxis()
    counts.legend(frameon=False, fontsize="small")
    ratios = [joined.loc[joined[column] == name, "fill_ratio"].dropna().clip(0, 1) for name in names]
    if names:
        fill.boxplot(ratios, positions=places, orientation="horizontal", widths=0.6, sym=".")
        fill.set(yticks=places, yticklabels=names)
    fill.set(xlabel="fill ratio: mask area / box area", xlim=(0, 1))
    return figure
