import numpy as np
import pytest

from deepmac.suite.results import Measurement
from deepmac.suite.suite import Dataset, Row
from lib.mask_heads import HeadResult, head_cost, plot

SIZE, CHANNELS, DIM, PIXEL_DIM, UNITS = 8, 4, 6, 5, 1024


@pytest.fixture
def cost(tmp_path):
    def measured(**options):
        mask_head = {"num_init_channels": CHANNELS, "dim": DIM, "pixel_embedding_dim": PIXEL_DIM}
        config = {"task": {"model": {"mask_head": {**mask_head, "mask_size": SIZE, **options}}}}
        config_file = tmp_path / "config.yaml"
        return head_cost(Row("head", config_file, config, "deepmac_mini", {}, Dataset("scenes", {}), 0))

    return measured


def test_parameters_and_operations_of_a_head_that_can_be_counted_by_hand(cost):
    measured = cost(network_type="fully_connected", use_xy=True, use_instance_embedding=True)
    inputs, positions = PIXEL_DIM + 2 + DIM, SIZE * SIZE
    weights = inputs * CHANNELS, positions * CHANNELS * UNITS, UNITS * positions
    biases = CHANNELS + UNITS + positions
    assert measured.parameters == sum(weights) + biases
    multiply_adds = positions * weights[0] + weights[1] + weights[2]
    assert measured.flops == pytest.approx(2 * multiply_adds, rel=0.02)


def test_deeper_heads_cost_more(cost):
    shallow, deep = (cost(network_type=name) for name in ("resnet4", "resnet8"))
    assert deep.parameters > shallow.parameters
    assert deep.flops > shallow.flops


def test_heads_of_one_seed_are_hollow_and_the_bars_of_two_supervisions_lie_apart():
    def result(head, classes, value, seeds):
        measured = Measurement(value, np.array([value - 1, value + 1]), seeds)
        return HeadResult(head, classes, None, measured, measured, Measurement.exact(0))

    known = ("voc_only", 40.0, 3), ("all_classes", 41.0, 3)
    results = [result("resnet4", *one) for one in known] + [result("resnet20", "voc_only", 42.0, 1)]
    values = plot(results, "depth").axes[0]
    bars = [bar.lines[2][0].get_segments()[0] for bar in values.containers[:2]]
    assert [bar[:, 1].tolist() for bar in bars] == [
        pytest.approx([39, 41], abs=0.1),
        pytest.approx([40, 42], abs=0.1),
    ]
    assert bars[0][0, 0] < bars[1][0, 0]
    hollow = [line for line in values.lines if line.get_markerfacecolor() == "white"]
    assert [y for line in hollow for y in line.get_ydata()] == [42]
