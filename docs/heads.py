"""Draws the README's figure of results from the committed ones: `python docs/heads.py`."""

import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
METRIC = "gt_boxes/mask/non_voc/AP"
ELLIPSE = ("inscribed ellipse, non-VOC classes", "gt_boxes/mask/unseen/AP")  # masks without any network
PROFILES = {"mini": "drawings (profile mini)", "subset": "photographs of COCO (profile subset)"}
HEADS = ("resnet4", "resnet20", "hourglass10", "hourglass20", "hourglass52")
# Supervision -> label, colour and marker: told apart without colours, too.
SUPERVISION = {
    "voc_only": ("masks of the 20 VOC classes only", "#d55e00", "o"),
    "all_classes": ("masks of all classes", "#0072b2", "s"),
}


def results(profile: str, notebook: str) -> dict[tuple[str, str], dict]:
    """The rows of a notebook's committed results, by name and metric."""
    document = json.loads((ROOT / "papermill_runs" / profile / f"{notebook}.json").read_text())
    return {(row["name"], row["metric"]): row for row in document["rows"]}


def main():
    """Writes `heads.png` beside this file: AP on the 60 non-VOC classes, with 95 % intervals."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    for ax, (profile, title) in zip(figure.subplots(1, 2), PROFILES.items(), strict=True):
        rows = {
            name: row
            for (name, metric), row in results(profile, "table_mask_heads").items()
            if metric == METRIC
        }
        ellipse = results(profile, "table_partially_supervised")[ELLIPSE]["measured"]
        heads = [head for head in HEADS if f"{head}, voc_only" in rows]
        for shift, (supervision, (label, colour, marker)) in zip(
            (-0.1, 0.1), SUPERVISION.items(), strict=True
        ):
            shown = [(i, row) for i, head in enumerate(heads) if (row := rows.get(f"{head}, {supervision}"))]
            values = np.array([row["measured"] for _, row in shown])
            low, high = np.array([row["ci95"] for _, row in shown]).T
            ax.errorbar(
                [i + shift for i, _ in shown],
                values,
                [values - low, high - values],
                fmt=marker,
                color=colour,
                capsize=3,
                label=label,
            )
        ax.set_xticks(range(len(heads)), heads)
        ax.set_title(f"{title}; inscribed ellipse: {ellipse:.1f}", fontsize=10)
        ax.grid(axis="y", alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("mask AP on the 60 non-VOC classes\n(from annotated boxes)")
    figure.axes[1].legend(frameon=False, fontsize=9)
    figure.savefig(Path(__file__).with_name("heads.png"), dpi=110)


if __name__ == "__main__":
    main()
