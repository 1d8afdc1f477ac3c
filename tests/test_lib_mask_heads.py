import pytest

from deepmac.suite.suite import Dataset, Row
from lib.mask_heads import head_cost

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
