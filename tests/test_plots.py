import numpy as np
import pandas as pd
import pytest

from deepmac.suite.plots import forest_plot, results_plot, training_curves
from deepmac.suite.results import Measurement, ResultRow

METRIC = "gt_boxes/mask/unseen/AP"


def _row(name, value, seeds, metric=METRIC):
    return ResultRow(name, metric, Measurement(value, np.array([value - 1, value + 1]), seeds))


def test_every_line_has_a_dot_and_those_with_a_base_a_difference_beside_it():
    rows = [_row("base", 50.0, 3), _row("other", 48.0, 1), _row("other, minus base", -2.0, 1)]
    rows += [_row("ellipse", 30.0, 0), _row("base", 90.0, 3, "another metric")]
    values, differences = results_plot(rows, METRIC).axes
    assert [text.get_text() for text in values.get_yticklabels()] == ["ellipse", "other", "base"]
    assert [bar.lines[0].get_xdata()[0] for bar in values.containers] == [30, 48, 50]
    assert [bar.lines[0].get_marker() for bar in values.containers] == ["s", "o", "o"]
    assert values.containers[1].lines[0].get_markerfacecolor() == "white", "one seed"
    [difference] = differences.containers
    assert difference.lines[0].get_xydata().tolist() == [[-2, 1]], "on the line it belongs to"
    assert differences.get_xlabel() == "difference from base"
    assert len(results_plot([_row("base", 50.0, 3)], METRIC).axes) == 1, "without bases"


def test_the_forest_has_the_claims_from_top_to_bottom_with_their_intervals():
    claim = {"text": "first", "verdict": "holds", "difference": 4.0, "ci95": [3.0, 5.5], "seeds": 3}
    undecided = {**claim, "text": "second", "verdict": "undecided", "difference": 0.5, "ci95": [-1, 2]}
    undecided["alike"] = True
    figure = forest_plot([claim, undecided])
    [axes] = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["second, n=3", "first, n=3"]
    ends = [bar.lines[2][0].get_segments()[0][:, 0].tolist() for bar in axes.containers]
    assert ends == [pytest.approx([-1, 2]), pytest.approx([3.0, 5.5])]
    gray = [area for area in axes.collections if area.get_zorder() == 0]
    second, first = (area.get_paths()[0].get_extents() for area in gray)
    assert (second.x0, second.x1) == (-1, 1), "where the claim expects no difference"
    assert (first.x0, first.x1) == (0, axes.get_xlim()[1]), "where it expects a positive one"
    assert second.y1 < 0.5 < first.y0
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"holds", "undecided"}


def test_losses_are_in_the_order_in_which_they_end_and_all_look_different():
    ends = {
        f"ends at {value}": pd.Series({1: 9.0, 2: value}) for value in np.random.default_rng(0).random(21)
    }
    figure = training_curves({**ends, "nothing": pd.Series(dtype=float)})
    *lines, last = figure.axes[0].lines
    values = [line.get_ydata()[-1] for line in lines]
    assert values == sorted(values, reverse=True) and last.get_label() == "nothing"
    assert figure.legends[0].get_texts()[0].get_text() == f"ends at {max(values)}"
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(lines)
