"""Figures of the benchmark."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

_LABEL_RATIO = 1.3  # of labelled values, at least


def scaling_chart(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Plots time against what it grows with.

    Args:
        tables: what the horizontal axis is -> index value -> column "ratio", see `scaling.scaling`.
    """
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    panels = figure.subplots(1, len(tables))
    for axes, (axis, table) in zip(panels, tables.items(), strict=True):
        axes.plot(table.index, table["ratio"], marker="o", label="measured")
        first = table.index[0]
        power = 2 if axis == "input size" else 1
        axes.plot(table.index, (table.index / first) ** power, "--", color="0.6", label="in proportion")
        axes.set(xlabel=axis, ylabel=f"time / that of {first}", xscale="log", yscale="log")
        axes.set_xticks(table.index, _labels(table.index), rotation=45)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].legend(frameon=False)
    return figure


def _labels(values: Sequence[int]) -> list[str]:
    """Labels of ticks on a logarithmic axis, empty where they would run into the one before."""
    labels, last = [], 0.0
    for value in values:
        labels.append(str(value) if value > _LABEL_RATIO * last else "")
        last = value if labels[-1] else last
    return labels
