import pytest
import tensorflow as tf
from click.testing import CliRunner
from official.core import exp_factory

from deepmac.reproduction import training_costs
from deepmac.reproduction.benchmark.convolutions import convolution_operations
from deepmac.reproduction.suite import Row
from deepmac.reproduction.training_costs import TrainingCost, cost_table, training_cost
from deepmac.task import DeepMACTask


@pytest.mark.slow
def test_a_step_takes_three_times_the_convolutions_forward(tmp_path):
    """Backward there is one for the input and one for the weights of every layer; the rest takes little."""
    (tmp_path / "mini.yaml").write_text("{}")
    row = Row("mini", tmp_path / "mini.yaml", "deepmac_mini", {"trainer": {"train_steps": 7}}, None, 0)
    cost = training_cost(row)
    config = exp_factory.get_exp_config(row.experiment).task
    assert cost.pictures == 7 * config.train_data.global_batch_size
    boxes = tf.TensorSpec([1, config.mask_num_subsamples, 4])
    inputs = {"image": tf.TensorSpec([1, *config.model.input_size]), "boxes": boxes}
    model = DeepMACTask(config).build_model()
    forward = tf.function(lambda features: model(features, training=True)["raw_output"], autograph=False)
    expected = 3 * convolution_operations(forward.get_concrete_function(inputs))
    assert expected < cost.operations < 1.15 * expected


def test_hours_follow_from_peak_and_utilisation():
    cost = TrainingCost(operations=4 * 10**12, pictures=1_000_000)
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
    assert values["v3-128: hours"] == "0.3"


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
