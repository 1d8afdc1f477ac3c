"""The paper's main experiment: mask heads alike when fully supervised differ on unseen classes."""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deepmac.suite.results import Claim, Measurement, ResultRow, higher
from deepmac.suite.study import Study
from deepmac.suite.tables import with_interval
from lib.head_costs import HeadCost, head_cost, trained_parameters

SHALLOW, DEEP = "resnet4", ("hourglass20", "hourglass52")
SAME_DEPTH = ("hourglass20", "resnet20")
FAMILIES = ("resnet", "hourglass")
# On the same classes for all rows: unseen by those that saw masks of VOC classes only.
_NON_VOC, _VOC = "gt_boxes/mask/non_voc/AP", "gt_boxes/mask/voc/AP"
_TITLES = {"voc_only": "VOC", "non_voc_only": "non-VOC", "all_classes": "all"}


class HeadResult(NamedTuple):
    """A mask head trained with masks of some classes.

    Attributes:
        head: its name.
        classes: "voc_only", "non_voc_only" or "all_classes".
        voc: AP of the VOC classes.
        non_voc: AP of the others.
        late_change: of the mask loss over the last quarter of the first seed's schedule, in percent.
    """

    head: str
    classes: str
    voc: Measurement
    non_voc: Measurement
    late_change: Measurement


class MaskHeadComparison:
    """What a study of mask heads shows.

    Attributes:
        results: one for each head and set of classes that the profile runs.
    """

    def __init__(self, study: Study):
        """Takes the results of a trained study."""
        self._study = study
        self.results = []
        for line in study.lines:
            classes = next(name for name in _TITLES if line.key.startswith(name))
            head = line.key.removeprefix(f"{classes}_")
            measured = (study.measurement(line.key, metric) for metric in (_VOC, _NON_VOC))
            change = _late_change(study.curve(line.key, "deep_mask_estimation"))
            self.results.append(HeadResult(head, classes, *measured, Measurement.exact(change)))
        self._rows = {
            result.head: line.runs[0] for result, line in zip(self.results, study.lines, strict=True)
        }

    @functools.cached_property
    def parameters(self) -> dict[str, int]:
        """Head -> trained numbers in it."""
        return {head: trained_parameters(row) for head, row in self._rows.items()}

    def costs(self) -> dict[str, HeadCost]:
        """Measures what each head costs on this machine; nothing else should run on it."""
        return {head: head_cost(row) for head, row in self._rows.items()}

    def rows(self, costs: Mapping[str, HeadCost]) -> list[ResultRow]:
        """The lines of the results JSON.

        Args:
            costs: of each head; may be empty.
        """
        lines = []
        for result in self.results:
            name = f"{result.head}, {result.classes}"  # as in `reproduction.yaml`
            lines.append(ResultRow(name, _VOC, result.voc))
            lines.append(ResultRow(name, _NON_VOC, result.non_voc))
            lines.append(ResultRow(name, "mask loss, change over the last quarter (%)", result.late_change))
        for head, cost in costs.items():
            for what, value in cost._asdict().items():
                lines.append(ResultRow(head, what, Measurement.exact(float(value))))
        return lines

    def table(self, costs: Mapping[str, HeadCost]):
        """Shows heads as lines: AP of non-VOC and VOC classes under each supervision, and costs.

        Args:
            costs: of each head.
        """
        cells = {}
        for result in self.results:
            cell = cells.setdefault(result.head, {})
            title = f"masks of {_TITLES[result.classes]}"
            cell[title, "non-VOC AP"] = with_interval(result.non_voc)
            cell[title, "VOC AP"] = with_interval(result.voc)
            cell[title, "seeds"] = str(result.voc.seeds)
            cell[title, "loss, last quarter"] = f"{with_interval(result.late_change, sign=True)} %"
        for head, cost in costs.items():
            cells[head]["cost", "parameters"] = f"{cost.parameters:,}"
            cells[head]["cost", "MFLOP a box"] = f"{cost.flops / 1e6:,.0f}"
            cells[head]["cost", "ms a box"] = f"{cost.milliseconds:.2f}"
        for name in self._study.not_run:
            cells.setdefault(name.split(",")[0], {})  # heads that are run with no masks at all
        frame = pd.DataFrame.from_dict(cells, orient="index")
        frame.columns = pd.MultiIndex.from_tuples(frame.columns)
        return frame.style.format(na_rep="not run")

    def claims(self) -> list[Claim]:
        """The paper's claims, for each deep head against the shallowest one."""
        found = {(result.head, result.classes): result for result in self.results}
        claims = []
        for deep in DEEP:
            pairs = [(found.get((deep, c)), found.get((SHALLOW, c))) for c in ("voc_only", "all_classes")]
            if not all(part for pair in pairs for part in pair):
                continue
            (unseen_deep, unseen_shallow), (full_deep, full_shallow) = pairs
            claims.append(
                higher(
                    f"{deep} beats {SHALLOW} on classes without masks",
                    unseen_deep.non_voc,
                    unseen_shallow.non_voc,
                )
            )
            claims.append(
                higher(
                    f"{deep} gains more over {SHALLOW} on classes without masks than fully supervised",
                    unseen_deep.non_voc - unseen_shallow.non_voc,
                    full_deep.non_voc - full_shallow.non_voc,
                )
            )
        hourglass, resnet = (found.get((head, "voc_only")) for head in SAME_DEPTH)
        if hourglass and resnet:
            text = f"{hourglass.head} beats {resnet.head}, of the same depth, on classes without masks"
            claims.append(higher(text, hourglass.non_voc, resnet.non_voc))
        return claims

    def plot(self, against: str = "depth") -> Figure:
        """Plots AP against depth or parameters of the heads, a curve for each family, with 95 % intervals.

        Args:
            against: "depth" (layers, the number in a head's name; heads without one are left out) or
                "parameters" (heads that have none of their own are left out).
        """
        figure = Figure(figsize=(11, 4), layout="constrained")
        panels = (
            ("voc_only", "voc", "VOC: seen, masks of VOC"),
            ("voc_only", "non_voc", "non-VOC: unseen, masks of VOC"),
            ("all_classes", "non_voc", "non-VOC: seen, masks of all"),
        )
        for axes, (classes, split, title) in zip(figure.subplots(ncols=3, sharey=True), panels, strict=True):
            found = [
                (position, getattr(result, split), result.head)
                for result in self.results
                if result.classes == classes and (position := self._position(result.head, against))
            ]
            for color, family in enumerate(FAMILIES):
                points = [point for point in found if _family_and_depth(point[2])[0] == family]
                _plot_curve(axes, sorted(points, key=lambda point: point[0]), f"C{color}", family)
            others = (point for point in found if not _family_and_depth(point[2])[0])
            for (position, measurement, head), marker in zip(others, "s^Dv", strict=False):
                axes.plot(position, measurement.value, marker, color="gray", label=head.replace("_", " "))
            axes.set(title=title, xscale="log", xlabel=f"{against} of the mask head")
            if against == "depth":
                axes.set_xticks(_DEPTH_TICKS, [str(tick) for tick in _DEPTH_TICKS])
                axes.minorticks_off()
            else:
                _write_depths(axes, found)
            axes.margins(x=0.15, y=0.1)  # room for names
            axes.grid(alpha=0.3)
        figure.axes[0].set_ylabel("AP from ground-truth boxes")
        handles, labels = figure.axes[1].get_legend_handles_labels()  # where most heads are
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
        return figure

    def _position(self, head: str, against: str) -> int | None:
        if against == "parameters":
            return self.parameters[head] or None
        return _family_and_depth(head)[1]


_DEPTH_TICKS = (4, 10, 20, 50, 100)


def _plot_curve(axes: Axes, points: Sequence[tuple[int, Measurement, str]], color: str, label: str):
    """Plots (position, measurement, head) with their 95 % intervals."""
    positions = [position for position, *_ in points]
    values = [measurement.value for _, measurement, _ in points]
    ends = [measurement.ci95 or (measurement.value, measurement.value) for _, measurement, _ in points]
    low, high = zip(*ends, strict=True) if ends else ((), ())
    axes.plot(positions, values, color=color, marker="o", label=label)
    axes.vlines(positions, low, high, color=color, alpha=0.5, linewidth=1)
    axes.fill_between(positions, low, high, color=color, alpha=0.15)


def _write_depths(axes: Axes, points: Sequence[tuple[int, Measurement, str]]):
    """Writes above each point of a curve how deep the head is."""
    for position, measurement, head in points:
        _, depth = _family_and_depth(head)
        if depth:
            where = (position, measurement.value)
            axes.annotate(str(depth), where, (0, 6), textcoords="offset points", ha="center", size=7)


def _family_and_depth(head: str) -> tuple[str | None, int | None]:
    """("hourglass", 20) for "hourglass20"; two None for a head of no family, or a variant of one."""
    match = re.fullmatch(rf"({'|'.join(FAMILIES)})(\d+)", head)
    return (match[1], int(match[2])) if match else (None, None)


def _late_change(curve: pd.Series) -> float | None:
    """By how many percent a loss changes in the last quarter of the steps."""
    before = curve[curve.index <= 0.75 * curve.index.max()]
    return None if before.empty else 100 * (curve.iloc[-1] / before.iloc[-1] - 1)
