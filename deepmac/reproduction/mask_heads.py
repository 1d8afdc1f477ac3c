"""The paper's main experiment: mask heads alike when fully supervised differ on unseen classes."""

from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from deepmac.reproduction.head_costs import HeadCost, head_cost
from deepmac.reproduction.results import Claim, Measurement, ResultRow, higher
from deepmac.reproduction.study import Study

SHALLOW, DEEP = "resnet4", ("hourglass20", "hourglass52")
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
    """

    head: str
    classes: str
    voc: Measurement
    non_voc: Measurement


class MaskHeadComparison:
    """What a study of mask heads shows.

    Attributes:
        results: one for each head and set of classes that the profile runs.
        costs: head -> what it costs.
    """

    def __init__(self, study: Study):
        """Takes the results of a trained study and measures the heads' costs."""
        self.results = []
        self.costs: dict[str, HeadCost] = {}
        for line in study.lines:
            classes = next(name for name in _TITLES if line.key.startswith(name))
            head = line.key.removeprefix(f"{classes}_")
            measured = (study.measurement(line.key, metric) for metric in (_VOC, _NON_VOC))
            self.results.append(HeadResult(head, classes, *measured))
            if head not in self.costs:
                self.costs[head] = head_cost(line.runs[0])

    def rows(self) -> list[ResultRow]:
        """The lines of the results JSON."""
        lines = []
        for result in self.results:
            name = f"{result.head}, {result.classes}"  # as in `reproduction.yaml`
            lines.append(ResultRow(name, _VOC, result.voc))
            lines.append(ResultRow(name, _NON_VOC, result.non_voc))
        for head, cost in self.costs.items():
            for what, value in cost._asdict().items():
                lines.append(ResultRow(head, what, Measurement.exact(float(value))))
        return lines

    def table(self):
        """Shows heads as lines: AP of non-VOC and VOC classes under each supervision, and costs."""
        cells = {}
        for result in self.results:
            cell = cells.setdefault(result.head, {})
            title = f"masks of {_TITLES[result.classes]}"
            cell[title, "non-VOC AP"] = _with_interval(result.non_voc)
            cell[title, "VOC AP"] = _with_interval(result.voc)
        for head, cost in self.costs.items():
            cells[head]["cost", "parameters"] = f"{cost.parameters:,}"
            cells[head]["cost", "MFLOP a box"] = f"{cost.flops / 1e6:,.0f}"
            cells[head]["cost", "ms a box"] = f"{cost.milliseconds:.2f}"
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
        return claims

    def plot(self, against: str = "depth") -> Figure:
        """Plots AP against depth or parameters of the heads, with 95 % intervals.

        Args:
            against: "depth" (layers, the number in a head's name; heads without one are left out) or
                "parameters".
        """
        figure = Figure(figsize=(8, 4), layout="constrained")
        axes = figure.subplots()
        curves = (
            ("voc_only", "voc", "masks of VOC: VOC (seen)", "C0", "--"),
            ("voc_only", "non_voc", "masks of VOC: non-VOC (unseen)", "C0", "-"),
            ("all_classes", "non_voc", "masks of all: non-VOC (seen)", "C1", "-"),
        )
        for classes, split, label, color, style in curves:
            points = sorted(
                (position, getattr(result, split), result.head)
                for result in self.results
                if result.classes == classes and (position := self._position(result.head, against))
            )
            if not points:
                continue
            x, measured = [point[0] for point in points], [point[1] for point in points]
            axes.plot(x, [m.value for m in measured], style, color=color, marker="o", label=label)
            low, high = zip(*(m.ci95 or (m.value, m.value) for m in measured), strict=True)
            axes.fill_between(x, low, high, color=color, alpha=0.15 if style == "-" else 0.07)
            if classes == "voc_only" and split == "non_voc":
                for position, result, head in points:
                    axes.annotate(
                        head,
                        (position, result.value),
                        (0, 6),
                        textcoords="offset points",
                        ha="center",
                        size=8,
                    )
        axes.set(xscale="log", xlabel=f"{against} of the mask head", ylabel="AP from ground-truth boxes")
        ticks = sorted({position for head in self.costs if (position := self._position(head, against))})
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.minorticks_off()
        axes.margins(x=0.1)  # room for the last head's name
        axes.grid(alpha=0.3)
        figure.legend(loc="outside upper center", ncols=len(curves), frameon=False)
        return figure

    def _position(self, head: str, against: str) -> int | None:
        if against == "parameters":
            return self.costs[head].parameters
        digits = head.removeprefix("resnet").removeprefix("hourglass")
        return int(digits) if digits.isdigit() else None


def _with_interval(measurement: Measurement) -> str:
    if measurement.value is None:
        return "-"
    low, high = measurement.ci95 or (None, None)
    interval = "" if low is None else f" ({low:.1f} to {high:.1f})"
    return f"{measurement.value:.1f}{interval}, {measurement.seeds} seed{'s' * (measurement.seeds > 1)}"
