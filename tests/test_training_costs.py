import math
import re
from pathlib import Path

import pytest
import tensorflow as tf
from click.testing import CliRunner
from official.core import exp_factory

import training_costs
from deepmac.suite.study import row_config
from deepmac.suite.suite import Row, Suite
from deepmac.training.task import DeepMACTask
from training_costs import TrainingCost, cost_table, training_cost

PAGE = Path(__file__).resolve().parents[1] / "configs/cluster/README.md"


def _convolution_operations(function):
    """A multiplication and an addition for each number that a convolution gives and each weight it takes."""
    convolutions = [one for one in function.graph.get_operations() if one.type == "Conv2D"]
    kernels = [one.inputs[1].shape.as_list() for one in convolutions]
    outputs = [one.outputs[0].shape.num_elements() for one in convolutions]
    sizes = ((height, width, channels) for height, width, channels, _ in kernels)
    return sum(2 * count * math.prod(size) for count, size in zip(outputs, sizes, strict=True))


@pytest.mark.slow
def test_a_step_takes_three_times_the_convolutions_forward(tmp_path):
    """Backward there is one for the input and one for the weights of every layer; the rest takes little."""
    jitter = "task.model.mask_head.max_roi_jitter_ratio"  # depends on the pictures' ids
    options = {"trainer.train_steps": 7, jitter: 0.1}
    row = Row("mini", tmp_path / "mini.yaml", {}, "deepmac_mini", options, None, 0)
    cost = training_cost(row)
    config = exp_factory.get_exp_config(row.experiment).task
    assert (cost.batch, cost.steps) == (config.train_data.global_batch_size, 7)
    boxes = tf.TensorSpec([1, config.mask_num_subsamples, 4])
    inputs = {"image": tf.TensorSpec([1, *config.model.input_size]), "boxes": boxes}
    model = DeepMACTask(config).build_model()
    forward = tf.function(lambda features: model(features, training=True)["raw_output"], autograph=False)
    expected = 3 * _convolution_operations(forward.get_concrete_function(inputs))
    assert expected < cost.operations < 1.15 * expected


def test_hours_follow_from_peak_and_utilisation():
    cost = TrainingCost(operations=4 * 10**12, batch=64, steps=15_625)
    # 4e18 operations at 123e12 * 0.5 a second are 65,041 s.
    assert cost.chip_hours("v3", utilisation=0.5) == pytest.approx(18.067, rel=1e-3)
    [header, _, line] = [
        [cell.strip() for cell in text.strip("|").split("|")]
        for text in cost_table({"some": cost}, 0.5, {"v3": 10.0}).splitlines()
    ]
    values = dict(zip(header, line, strict=True))
    assert values["EFLOP"] == "4.0"
    assert values["v3: chip-hours"] == "18"
    assert values["v3: price"] == "181"
    assert values["v3-32: hours"] == "1.1"
    assert values["v4-128: hours"] == "0.1"
    assert values["v3-128: hours"] == "-", "64 pictures cannot be split over 128 cores"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no_such_row"], "no row 'no_such_row'"),
        (["--price", "v3"], "not CHIP=NUMBER"),
        (["--price", "v9=1"], "unknown chip v9: choose from v3, v4"),
        (["--utilisation", "0"], "0<x<=1"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message):
    result = CliRunner().invoke(training_costs.main, arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_the_page_of_the_recipes_shows_what_follows_from_its_counts():
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith(("| row", "| `"))]
    header, *rows = ([cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines)
    suite = Suite.load("paper", PAGE.parents[2])
    for cells in rows:
        shown = dict(zip(header, cells, strict=True))
        row = suite.row(shown["row"], 0)
        config = row_config(row)
        cost = TrainingCost(
            round(float(shown["TFLOP a picture, counted"]) * 1e12),
            config.task.train_data.global_batch_size,
            config.trainer.train_steps,
        )
        table = cost_table({row.key: cost}, 0.25, {}).splitlines()
        for title, again in zip(header, table[2].strip("|").split("|"), strict=True):
            old, new = shown[title].replace(",", ""), again.strip(" `").replace(",", "")
            if re.fullmatch(r"[\d.]+", old):
                rounding = 0.11 if "." in old else 1
                assert float(old) == pytest.approx(float(new), rel=0.005, abs=rounding), (row.key, title)
            else:
                assert old == new
