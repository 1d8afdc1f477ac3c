import pytest
from official.core import exp_factory
from official.modeling import optimization

from deepmac import configs
from deepmac.core.categories import VOC_IDS

EXPERIMENTS = ("deepmac_hourglass_coco", "deepmac_mini")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_are_registered_and_consistent(name):
    params = exp_factory.get_exp_config(name)
    params.validate()
    model = params.task.model
    assert len(model.head.input_levels) == model.backbone.hourglass.num_hourglasses
    assert params.task.allowed_masked_classes_ids == list(VOC_IDS)
    assert params.trainer.checkpoint_interval % params.trainer.steps_per_loop == 0


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_survives_writing_and_reading(name):
    params = exp_factory.get_exp_config(name)
    again = exp_factory.get_exp_config(name)
    again.task.model.mask_head.network_type = "resnet4"
    again.override(params.as_dict(), is_strict=True)
    assert again.as_dict() == params.as_dict()


def test_published_learning_rate():
    """Linear from 2.5e-4 to 1e-3 over 5,000 steps, then cosine to 0 at step 50,000."""
    config = configs.deepmac_hourglass_coco().trainer.optimizer_config
    schedule = optimization.OptimizerFactory(config).build_learning_rate()
    rates = [float(schedule(step)) for step in (0, 2500, 5000, 27500, 50000)]
    assert rates == pytest.approx([2.5e-4, 6.25e-4, 1e-3, 5e-4, 0], rel=1e-5, abs=1e-9)


def test_unknown_options_are_errors():
    params = configs.deepmac_mini()
    with pytest.raises(KeyError, match="mask_haed"):
        params.override({"task": {"model": {"mask_haed": {}}}}, is_strict=True)


def test_one_of_options_follow_the_type():
    loss = configs.MaskClassificationLossConfig({"type": "dice", "dice": {"squared_normalization": True}})
    assert loss.get().squared_normalization is True
