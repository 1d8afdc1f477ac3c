"""Draws the README's figure of results from the committed ones: `python docs/heads.py`."""

import json
import re
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from deepmac.suite.plots import PALETTE, STYLE

ROOT = Path(__file__).resolve().parents[1]
METRIC = "gt_boxes/mask/non_voc/AP"
ELLIPSE = ("inscribed ellipse, non-VOC classes", "gt_boxes/mask/unseen/AP")  # masks without any network
PROFILES = {
    "mini": "drawings (profile mini)",
    "styles": "drawings, unseen classes in\nanother style (profile styles)",
    "subset": "photographs (profile subset)",
    "photographs": "photographs, ImageNet\nbackbone (profile photographs)",
}
HEADS = ("resnet4", "resnet20", "hourglass10", "hourglass20", "hourglass52")
# Classes with masks -> label, colour and marker: told apart without colours, too.
CLASSES = {
    "VOC": ("masks of the 20 VOC classes only", PALETTE[1], "o"),
    "all": ("masks of all classes", PALETTE[0], "s"),
}


def results(profile: str, notebook: str) -> dict[tuple[str, str], dict]:
    """The rows of a notebook's committed results, by name and metric."""
    document = json.loads((ROOT / "papermill_runs" / profile / f"{notebook}.json").read_text())
    return {(row["name"], row["metric"]): row for row in document["rows"]}


@matplotlib.rc_context(STYLE)
def main():
    """Writes `heads.png` beside this file: AP on non-VOC classes, 95 % intervals; hollow: one seed."""
    figure = Figure(figsize=(7.8, 6.2), dpi=200)  # narrow: readable on a phone, too
    axes = figure.subplots(2, 2, width_ratios=[5, 4], sharey=True).ravel()
    for ax, (profile, title) in zip(axes, PROFILES.items(), strict=True):
        rows = results(profile, "table_mask_heads")
        ellipse = results(profile, "table_partially_supervised")[ELLIPSE]["measured"]
        heads = [head for head in HEADS if (f"{head}, masks of VOC", METRIC) in rows]
        for shift, (classes, (label, colour, marker)) in zip((-0.1, 0.1), CLASSES.items(), strict=True):
            found = [(i, rows.get((f"{head}, masks of {classes}", METRIC))) for i, head in enumerate(heads)]
            shown = [(i + shift, row) for i, row in found if row]
            values = np.array([row["measured"] for _, row in shown])
            low, high = np.array([row["ci95"] for _, row in shown]).T
            ends = [values - low, high - values]
            ax.errorbar([i for i, _ in shown], values, ends, fmt=marker, color=colour, label=label)
            once = [(i, row["measured"]) for i, row in shown if row["seeds"] == 1]
            ax.plot(*np.reshape(once, (-1, 2)).T, marker, color=colour, mfc="white", zorder=3)
        ax.set_xticks(range(len(heads)), [re.sub(r"(?=\d)", "\n", head, count=1) for head in heads])
        ax.margins(x=0.1)
        ax.axhline(ellipse, color="0.4", linestyle="--", label="inscribed ellipse in the box")
        ax.set_title(title, fontsize="medium")
        ax.grid(axis="x", visible=False)
    figure.supylabel("mask AP on non-VOC classes, in annotated boxes", fontsize="medium")
    axes[0].legend(loc="center", bbox_to_anchor=(0.5, 0.3))
    figure.savefig(Path(__file__).with_name("heads.png"))


if __name__ == "__main__":
    main()
