"""The paper's main experiment: mask heads alike when fully supervised differ on unseen classes."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
import tensorflow as tf
import tf_keras
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator

from deepmac.core.machine import flops
from deepmac.inference.load import without_warnings
from deepmac.modeling.mask_heads import build_mask_head
from deepmac.suite.plots import PALETTE, STYLE
from deepmac.suite.report import CENTRAL
from deepmac.suite.results import Claim, Measurement, ResultRow, alike, higher
from deepmac.suite.study import Study, row_config
from deepmac.suite.suite import Row
from deepmac.suite.tables import MINUS

SHALLOW, DEEP = "resnet4", ("hourglass20", "hourglass52")
SAME_DEPTH = ("hourglass20", "resnet20")
FAMILIES = ("resnet", "hourglass")
# On the same classes for all rows: unseen by those that saw masks of VOC classes only.
NON_VOC, _VOC = "gt_boxes/mask/non_voc/AP", "gt_boxes/mask/voc/AP"
_TITLES = {"voc_only": "VOC", "non_voc_only": "non-VOC", "all_classes": "all"}
_SUPERVISIONS = {"voc_only": "o-", "all_classes": "s--"}  # compared on the same classes; marker and line
_DEPTH_TICKS = (4, 10, 20, 50, 100)


class HeadResult(NamedTuple):
    """A mask head trained with masks of some classes.

    Attributes:
        head: its name.
        classes: "voc_only", "non_voc_only" or "all_classes".
        row: the training of the first seed.
        voc: AP of the VOC classes.
        non_voc: AP of the others.
        late_change: of the mask loss over the last quarter of the schedule, in percent; mean over seeds.
    """

    head: str
    classes: str
    row: Row
    voc: Measurement
    non_voc: Measurement
    late_change: float


class HeadCost(NamedTuple):
    """Of one mask head.

    Attributes:
        parameters: trained numbers.
        flops: floating-point operations for one box, a multiplication and an addition counted as two.
    """

    parameters: int
    flops: int


def head_results(study: Study) -> list[HeadResult]:
    """The results of a trained study: one for each head and set of classes that the profile runs."""
    results = []
    for line in study.lines:
        classes = next(name for name in _TITLES if line.key.startswith(name))
        head = line.key.removeprefix(f"{classes}_")
        voc, non_voc = (study.measurement(line.key, metric) for metric in (_VOC, NON_VOC))
        changes = []
        for run in range(len(line.runs)):
            curve = study.curve(line.key, "deep_mask_estimation", run)
            before = curve[curve.index <= 0.75 * curve.index.max()].iloc[-1:].mean()  # NaN of a short one
            changes.append(100 * (curve.iloc[-1] / before - 1))
        results.append(HeadResult(head, classes, line.runs[0], voc, non_voc, late_change=np.mean(changes)))
    return results


def head_cost(row: Row) -> HeadCost:
    """Counts what the mask head of a row's configuration needs."""
    head, *embeddings = _head_and_inputs(row)
    masks = tf.function(lambda *inputs: head(*inputs, training=False)).get_concrete_function(*embeddings)
    with without_warnings():
        return HeadCost(trained_parameters(row), flops(masks))


def trained_parameters(row: Row) -> int:
    """Counts the trained numbers in the mask head of a row's configuration."""
    head, *embeddings = _head_and_inputs(row)
    head(*embeddings, training=False)  # creates the variables
    return sum(variable.shape.num_elements() for variable in head.trainable_variables)


def _head_and_inputs(row: Row) -> tuple[tf_keras.layers.Layer, tf.Tensor, tf.Tensor]:
    """A mask head and embeddings for one box: of the instance (1, C) and of pixels (1, S, S, C)."""
    model = row_config(row).task.model
    config = model.mask_head
    with without_warnings():
        head = build_mask_head(config)
    size = model.input_size[0] // 4 if config.predict_full_resolution_masks else config.mask_size
    channels = config.pixel_embedding_dim + (2 if config.use_xy else 0)
    return head, tf.zeros([1, config.dim]), tf.zeros([1, size, size, channels])


def result_rows(results: Sequence[HeadResult], costs: Mapping[str, HeadCost]) -> list[ResultRow]:
    """The lines of the table: results, differences from the shallowest head with the same masks, costs.

    Args:
        results: of each head.
        costs: of heads, in their first line; may be empty.
    """
    shallow = {result.classes: result for result in results if result.head == SHALLOW}
    left, lines = dict(costs), []
    for result in sorted(results, key=lambda result: list(_TITLES).index(result.classes)):
        name = f"{result.head.replace('_', ' ')}, masks of {_TITLES[result.classes]}"
        lines.append(ResultRow(name, NON_VOC, result.non_voc))
        lines.append(ResultRow(name, _VOC, result.voc))
        if result.head != SHALLOW and result.classes in shallow:
            difference = result.non_voc - shallow[result.classes].non_voc
            lines.append(ResultRow(f"{name}{MINUS}{SHALLOW}", NON_VOC, difference))
        lines.append(ResultRow.exact(name, "change of the mask loss, last quarter (%)", result.late_change))
        if result.head in left:
            costs_of_head = left.pop(result.head)._asdict()
            lines += [ResultRow.exact(name, what, value) for what, value in costs_of_head.items()]
    return lines


def claims(results: Sequence[HeadResult]) -> list[Claim]:
    """The paper's claims, for each deep head against the shallowest one."""
    ap = {(result.head, result.classes): result.non_voc for result in results}
    found = []
    for deep in DEEP:
        unseen, seen = ([ap.get((head, classes)) for head in (deep, SHALLOW)] for classes in _SUPERVISIONS)
        if all((*unseen, *seen)):
            gains = (one - other for one, other in (unseen, seen))
            found.append(higher(f"{deep} beats {SHALLOW} on unseen classes", *unseen, "paper"))
            text = f"{deep} and {SHALLOW} do equally well with masks of all classes"
            found.append(alike(text, *seen, "paper"))
            found.append(higher(f"{deep} leads {SHALLOW} {CENTRAL}", *gains, "paper"))
    for better, worse, which in ((*SAME_DEPTH, "of the same depth"), (*DEEP[::-1], "which is shallower")):
        if {(better, "voc_only"), (worse, "voc_only")} <= ap.keys():
            text = f"{better} beats {worse}, {which}, on unseen classes"
            found.append(higher(text, ap[better, "voc_only"], ap[worse, "voc_only"], "paper"))
    return found


@matplotlib.rc_context(STYLE)
def plot(results: Sequence[HeadResult], against: str) -> Figure:
    """Plots heads of each family against depth or parameters, with 95 % intervals; hollow: one seed.

    From left to right: AP on the classes without masks, also with masks of all classes; gains over the
    shallowest head in both cases; and the difference of the two gains, claimed by the paper to be above zero.

    Args:
        results: of each head.
        against: "depth" (layers, the number in a head's name) or "parameters".
    """
    ap = {(result.head, result.classes): result.non_voc for result in results}
    rows = {result.head: result.row for result in results}
    family = {head: match[1] for head in rows if (match := re.fullmatch(r"(resnet|hourglass)\d+", head))}
    if against == "depth":
        position = {head: int(head.removeprefix(family[head])) for head in family}
    else:
        position = {head: trained_parameters(rows[head]) for head in family}
    figure = Figure(figsize=(11, 4.2))
    absolute, gains, gap = figure.subplots(ncols=3)
    for side, color, name in zip((-1, 1), PALETTE, FAMILIES, strict=False):
        heads = sorted((head for head in family if family[head] == name), key=position.get)
        gains_of = {
            position[head]: [ap[head, classes] - ap[SHALLOW, classes] for classes in _SUPERVISIONS]
            for head in heads
            if ap.keys() >= {(one, classes) for one in (head, SHALLOW) for classes in _SUPERVISIONS}
        }
        for index, (classes, style) in enumerate(_SUPERVISIONS.items()):
            known = {position[head]: ap[head, classes] for head in heads if (head, classes) in ap}
            shift = 1.06 ** (side + index - 0.5)
            _curve(absolute, known, style, color, shift, f"{name}, masks of {_TITLES[classes]}")
            _curve(gains, {place: pair[index] for place, pair in gains_of.items()}, style, color, shift)
        _curve(gap, {place: pair[0] - pair[1] for place, pair in gains_of.items()}, "D-", color, 1.06**side)
    titles = ("AP of non-VOC classes", f"gain over {SHALLOW}", "difference of the two gains")
    for axes, title in zip((absolute, gains, gap), titles, strict=True):
        axes.set(title=title, xscale="log", xlabel=f"{against} of the mask head")
        if against == "depth":
            axes.set_xticks(_DEPTH_TICKS, [str(tick) for tick in _DEPTH_TICKS])
        else:
            axes.xaxis.set(major_locator=LogLocator(subs=(1, 3)), major_formatter=EngFormatter(sep=""))
        axes.minorticks_off()
    for axes in (gains, gap):
        axes.axhline(0, color="0.4", linewidth=1)
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def _curve(axes, known: Mapping[float, Measurement], style: str, color: str, shift: float, label="") -> None:
    """A curve of position -> value, moved by a factor so that intervals beside each other are seen."""
    points = [(place * shift, one.value, *(one.ci95 or (one.value,) * 2)) for place, one in known.items()]
    places, values, low, high = np.array(points, float).reshape(-1, 4).T
    axes.errorbar(places, values, (values - low, high - values), fmt=style, color=color, label=label)
    once = np.array([one.seeds == 1 for one in known.values()], bool)
    axes.plot(places[once], values[once], style[0], color=color, mfc="white", zorder=3)
