"""The paper's main experiment: mask heads alike when fully supervised differ on unseen classes."""

import re
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf
import tf_keras
from matplotlib.figure import Figure

from deepmac.core.machine import flops
from deepmac.inference.load import without_warnings
from deepmac.modeling.mask_heads import build_mask_head
from deepmac.suite.results import Claim, Measurement, ResultRow, higher
from deepmac.suite.study import Study, row_config
from deepmac.suite.suite import Row
from deepmac.suite.tables import with_interval

SHALLOW, DEEP = "resnet4", ("hourglass20", "hourglass52")
SAME_DEPTH = ("hourglass20", "resnet20")
FAMILIES = ("resnet", "hourglass")
# On the same classes for all rows: unseen by those that saw masks of VOC classes only.
_NON_VOC, _VOC = "gt_boxes/mask/non_voc/AP", "gt_boxes/mask/voc/AP"
_TITLES = {"voc_only": "VOC", "non_voc_only": "non-VOC", "all_classes": "all"}
_DEPTH_TICKS = (4, 10, 20, 50, 100)
_BOXES, _CALLS = 32, 9  # of which the time is taken


class HeadResult(NamedTuple):
    """A mask head trained with masks of some classes.

    Attributes:
        head: its name.
        classes: "voc_only", "non_voc_only" or "all_classes".
        row: the training of the first seed.
        voc: AP of the VOC classes.
        non_voc: AP of the others.
        late_change: of the mask loss over the last quarter of the first seed's schedule, in percent.
    """

    head: str
    classes: str
    row: Row
    voc: Measurement
    non_voc: Measurement
    late_change: Measurement


class HeadCost(NamedTuple):
    """Of one mask head.

    Attributes:
        parameters: trained numbers.
        flops: floating-point operations for one box, a multiplication and an addition counted as two.
        milliseconds: wall-clock time of a box, in float32, 32 boxes at once; median of 9 calls.
    """

    parameters: int
    flops: int
    milliseconds: float


def head_results(study: Study) -> list[HeadResult]:
    """The results of a trained study: one for each head and set of classes that the profile runs."""
    results = []
    for line in study.lines:
        classes = next(name for name in _TITLES if line.key.startswith(name))
        curve = study.curve(line.key, "deep_mask_estimation")
        before = curve[curve.index <= 0.75 * curve.index.max()]
        change = None if before.empty else 100 * (curve.iloc[-1] / before.iloc[-1] - 1)
        head = line.key.removeprefix(f"{classes}_")
        voc, non_voc = (study.measurement(line.key, metric) for metric in (_VOC, _NON_VOC))
        results.append(
            HeadResult(head, classes, line.runs[0], voc, non_voc, late_change=Measurement.exact(change))
        )
    return results


def head_cost(row: Row) -> HeadCost:
    """Measures the mask head of a row's configuration, with random weights."""
    head, instances, pixels = _head_and_inputs(row)

    @tf.function
    def masks(instances, pixels):
        return head(instances, pixels, training=False)

    masks(instances, pixels)  # traces, and creates the variables
    seconds = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        masks(instances, pixels).numpy()
        seconds.append(time.perf_counter() - start)
    with without_warnings():
        operations = flops(masks.get_concrete_function(instances[:1], pixels[:1]))
    return HeadCost(trained_parameters(row), operations, 1000 * statistics.median(seconds) / _BOXES)


def trained_parameters(row: Row) -> int:
    """Counts the trained numbers in the mask head of a row's configuration."""
    head, instances, pixels = _head_and_inputs(row)
    head(instances[:1], pixels[:1], training=False)  # creates the variables
    return sum(variable.shape.num_elements() for variable in head.trainable_variables)


def _head_and_inputs(row: Row) -> tuple[tf_keras.layers.Layer, tf.Tensor, tf.Tensor]:
    """A mask head and random embeddings: of instances (N, C) and of pixels (N, S, S, C)."""
    model = row_config(row).task.model
    config = model.mask_head
    with without_warnings():
        head = build_mask_head(config)
    size = model.input_size[0] // 4 if config.predict_full_resolution_masks else config.mask_size
    channels = config.pixel_embedding_dim + (2 if config.use_xy else 0)
    instances = tf.random.normal([_BOXES, config.dim])
    return head, instances, tf.random.normal([_BOXES, size, size, channels])


def result_rows(results: Sequence[HeadResult], costs: Mapping[str, HeadCost]) -> list[ResultRow]:
    """The lines of the results JSON; costs may be empty."""
    lines = []
    for result in results:
        name = f"{result.head}, {result.classes}"  # as in `reproduction.yaml`
        lines.append(ResultRow(name, _VOC, result.voc))
        lines.append(ResultRow(name, _NON_VOC, result.non_voc))
        lines.append(ResultRow(name, "mask loss, change over the last quarter (%)", result.late_change))
    for head, cost in costs.items():
        for what, value in cost._asdict().items():
            lines.append(ResultRow.exact(head, what, value))
    return lines


def table(results: Sequence[HeadResult], costs: Mapping[str, HeadCost], not_run: Sequence[str]):
    """Shows heads as lines: AP of non-VOC and VOC classes under each supervision, and costs.

    Heads whose lines (names in `not_run`) the profile leaves out are shown as not run.
    """
    cells = {}
    for result in results:
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
    for name in not_run:
        cells.setdefault(name.split(",")[0], {})  # heads that are run with no masks at all
    frame = pd.DataFrame.from_dict(cells, orient="index")
    frame.columns = pd.MultiIndex.from_tuples(frame.columns)
    return frame.style.format(na_rep="not run")


def claims(results: Sequence[HeadResult]) -> list[Claim]:
    """The paper's claims, for each deep head against the shallowest one."""
    ap = {(result.head, result.classes): result.non_voc for result in results}
    found = []
    for deep in DEEP:
        pairs = [((deep, classes), (SHALLOW, classes)) for classes in ("voc_only", "all_classes")]
        if all(key in ap for pair in pairs for key in pair):
            text = f"{deep} beats {SHALLOW} on classes without masks"
            found.append(higher(text, *(ap[key] for key in pairs[0])))
            text = f"{deep} gains more over {SHALLOW} on classes without masks than fully supervised"
            found.append(higher(text, *(ap[better] - ap[worse] for better, worse in pairs)))
    hourglass, resnet = ((head, "voc_only") for head in SAME_DEPTH)
    if hourglass in ap and resnet in ap:
        text = f"{hourglass[0]} beats {resnet[0]}, of the same depth, on classes without masks"
        found.append(higher(text, ap[hourglass], ap[resnet]))
    return found


def plot(results: Sequence[HeadResult], against: str) -> Figure:
    """Plots AP with its 95 % interval against depth or parameters of the heads, a curve for each family.

    Args:
        results: of each head.
        against: "depth" (layers, the number in a head's name; heads without one are left out) or
            "parameters" (heads that have none of their own are left out).
    """
    panels = (
        ("voc_only", "voc", "VOC: seen, masks of VOC"),
        ("voc_only", "non_voc", "non-VOC: unseen, masks of VOC"),
        ("all_classes", "non_voc", "non-VOC: seen, masks of all"),
    )
    curves: dict[str, list[str]] = {family: [] for family in FAMILIES}  # name -> heads
    depth, position = {}, {}
    for head, row in {result.head: result.row for result in results}.items():
        match = re.fullmatch(rf"({'|'.join(FAMILIES)})(\d+)", head)  # no variant of a family
        depth[head] = int(match[2]) if match else None
        position[head] = depth[head] if against == "depth" else trained_parameters(row)
        if position[head]:
            curves.setdefault(match[1] if match else head, []).append(head)
    found = {(result.head, result.classes): result for result in results}
    figure = Figure(figsize=(11, 4), layout="constrained")
    for axes, (classes, split, title) in zip(figure.subplots(ncols=3, sharey=True), panels, strict=True):
        for (label, heads), marker in zip(curves.items(), "oos^Dv", strict=False):
            shown = sorted((h for h in heads if (h, classes) in found), key=position.get)
            ap = [getattr(found[head, classes], split) for head in shown]
            x, values = [position[head] for head in shown], np.array([m.value for m in ap])
            ends = np.array([m.ci95 or (m.value, m.value) for m in ap]).reshape(-1, 2)
            color = f"C{FAMILIES.index(label)}" if label in FAMILIES else "gray"
            name = label.replace("_", " ")
            axes.errorbar(x, values, np.abs(ends.T - values), marker=marker, color=color, label=name)
            if against == "parameters" and label in FAMILIES:
                for head, at in zip(shown, zip(x, values, strict=True), strict=True):
                    axes.annotate(depth[head], at, (3, 3), textcoords="offset points", size=7)
        axes.set(title=title, xscale="log", xlabel=f"{against} of the mask head")
        if against == "depth":
            axes.set_xticks(_DEPTH_TICKS, [str(tick) for tick in _DEPTH_TICKS])
            axes.minorticks_off()
        axes.margins(x=0.15, y=0.1)  # room for names
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("AP from ground-truth boxes")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return figure
