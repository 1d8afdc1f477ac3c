"""Figures of results, for notebooks and report."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deepmac.suite.results import NO_DIFFERENCE, Measurement, ResultRow
from deepmac.suite.tables import MINUS, metric_title

# Told apart by the colour-blind (Okabe and Ito).
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
# Of every figure of results: readable at page width. For `matplotlib.rc_context`.
STYLE = {
    "axes.grid": True,
    "axes.prop_cycle": matplotlib.cycler(linestyle=("-", "--", ":") * 7, color=PALETTE * 3),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "errorbar.capsize": 3,
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}
# Verdict -> marker and colour: told apart without colours, too.
_MARKS = {
    "holds": ("o", PALETTE[0]),
    "contradicted": ("X", PALETTE[1]),
    "no difference": ("s", PALETTE[3]),
    "undecided": ("D", "black"),
}


@matplotlib.rc_context(STYLE)
def training_curves(curves: Mapping[str, pd.Series]) -> Figure:
    """Plots losses against steps: name of a line -> step -> loss; the highest at the end comes first."""
    figure = Figure(figsize=(10, 4))
    axes = figure.subplots()
    for name, curve in sorted(curves.items(), key=lambda item: -item[1].iloc[-1:].sum()):
        axes.plot(curve.index, curve.to_numpy(), label=name, marker="." if len(curve) < 20 else "")
    axes.set(xlabel="step", ylabel="training loss")
    figure.legend(loc="outside right upper", fontsize="small")
    return figure


@matplotlib.rc_context(STYLE)
def results_plot(rows: Sequence[ResultRow], metric: str) -> Figure:
    """Draws a metric of each line with its 95 % interval, and beside it differences from the line's base.

    Hollow markers are lines of one seed, squares those for which nothing was trained.
    """
    found = [row for row in rows if row.metric == metric and row.measurement.value is not None]
    differences = {row.name.split(MINUS)[0]: row for row in found if MINUS in row.name}
    lines = [row for row in found if MINUS not in row.name][::-1]
    figure = Figure(figsize=(10, 1 + 0.32 * len(lines)))
    panels = figure.subplots(ncols=2 if differences else 1, sharey=True, squeeze=False)[0]
    for place, row in enumerate(lines):
        _dot(panels[0], row.measurement, place, PALETTE[0])
        if row.name in differences:
            _dot(panels[1], differences[row.name].measurement, place, PALETTE[1])
    panels[0].set_yticks(range(len(lines)), [row.name for row in lines])
    panels[0].set_xlabel(metric_title(metric))
    for axes in panels:
        axes.locator_params(axis="x", nbins=7)
    if differences:
        bases = sorted({row.name.split(MINUS)[1] for row in differences.values()})
        panels[1].set_xlabel(f"difference from {' or '.join(bases)}")
        panels[1].axvline(0, color="0.4", linewidth=1)
    return figure


def _dot(axes: Axes, measurement: Measurement, place: int, color: str) -> None:
    value, (low, high) = measurement.value, measurement.ci95 or (measurement.value, measurement.value)
    fill = "white" if measurement.seeds == 1 else color
    marker = "o" if measurement.seeds else "s"
    axes.errorbar(value, place, xerr=[[value - low], [high - value]], fmt=marker, color=color, mfc=fill)


@matplotlib.rc_context(STYLE)
def forest_plot(claims: Sequence[dict]) -> Figure:
    """Draws the difference that decides each claim, with its 95 % interval, which all have; a line for each.

    A gray band is where a claim expects it. Narrow, so that it is readable on a phone, too.
    """
    figure = Figure(figsize=(8, 1 + 0.39 * len(claims)))
    axes = figure.subplots()
    low, high = (end(part for claim in claims for part in claim["ci95"]) for end in (min, max))
    axes.set_xlim(min(low, -NO_DIFFERENCE) - 0.5, max(high, NO_DIFFERENCE) + 0.5)
    axes.axvline(0, color="0.4", linewidth=1)
    for place, claim in enumerate(reversed(claims)):
        marker, color = _MARKS[claim["verdict"]]
        low, high = claim["ci95"]
        value = claim["difference"]
        ends = [[value - low], [high - value]]
        axes.errorbar(value, place, xerr=ends, fmt=marker, color=color, markersize=7)
        expected = (-NO_DIFFERENCE, NO_DIFFERENCE) if claim.get("alike") else (0, axes.get_xlim()[1])
        axes.fill_between(expected, place - 0.4, place + 0.4, color="0.9", linewidth=0, zorder=0)
    for verdict, (marker, color) in _MARKS.items():
        if any(claim["verdict"] == verdict for claim in claims):
            axes.plot([], [], marker, color=color, label=verdict)
    names = [textwrap.fill(f"{claim['text']}, n={claim['seeds']}", 50) for claim in reversed(claims)]
    axes.set_yticks(range(len(claims)), names)
    axes.set_ylim(-0.6, len(claims) - 0.4)
    axes.set_xlabel("difference of mask AP")
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper right", ncols=len(_MARKS), handletextpad=0.2)
    return figure
