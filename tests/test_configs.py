"""Registered experiments, and the published configurations: complete, accepted, equal to the pipeline's."""

import re
from pathlib import Path

import command_line
import pytest
import yaml
from official.core import exp_factory
from official.modeling import optimization

from deepmac import configs
from deepmac.core.categories import NON_VOC_IDS, VOC_IDS
from deepmac.interop.pipeline import EXPERIMENT

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
# Stem -> (published mask AP, network input, mask head, classes with masks, where training starts).
PUBLISHED = {
    "center_net_deepmac_512x512_voc_only": ("32.5", 512, "hourglass52", VOC_IDS, "detection"),
    "center_net_deepmac_1024x1024_voc_only": ("35.5", 1024, "hourglass100", VOC_IDS, "detection"),
    "center_net_deepmac_1024x1024_non_voc_only": ("39.1", 1024, "hourglass100", NON_VOC_IDS, "detection"),
    "center_net_deepmac_1024x1024_coco": ("39.4", 1024, "hourglass100", (), "all"),
}


@pytest.mark.parametrize("stem", PUBLISHED)
def test_equals_the_published_pipeline_config(stem, reference_dir):
    text = (CONFIGS / f"{stem}.yaml").read_text()
    without_header = re.sub(r"\A(#[^\n]*\n)+", "", text)
    converted = command_line.run("import-config", reference_dir / "configs" / f"{stem}.config").stdout
    assert without_header == converted


def assert_published_rate(config):
    """Linear from 2.5e-4 to 1e-3 over 5,000 steps, then cosine to 0 at step 50,000; returns the factory."""
    factory = optimization.OptimizerFactory(config.trainer.optimizer_config)
    rate = factory.build_learning_rate()
    rates = [float(rate(step)) for step in (0, 2500, 5000, 27_500, 50_000)]
    assert rates == pytest.approx([2.5e-4, 6.25e-4, 1e-3, 5e-4, 0], rel=1e-6, abs=1e-12)
    return factory


@pytest.mark.parametrize("stem", PUBLISHED)
def test_is_accepted_by_the_experiment(stem):
    assert {path.stem for path in CONFIGS.glob("center_net_deepmac_*.yaml")} == set(PUBLISHED)
    published_ap, size, network_type, allowed_ids, modules = PUBLISHED[stem]
    text = (CONFIGS / f"{stem}.yaml").read_text()
    header = text[: text.index("\ntask:")]
    assert published_ap in header
    assert f"--config_file=configs/{stem}.yaml" in header

    config = exp_factory.get_exp_config(EXPERIMENT)
    config.override(yaml.safe_load(text), is_strict=True)
    config.validate()
    model = config.task.model
    assert model.input_size == [size, size, 3]
    assert model.mask_head.network_type == network_type
    assert model.backbone.hourglass.as_dict().items() >= {"model_id": 52, "num_hourglasses": 2}.items()
    assert model.head.input_levels == ["2_0", "2"]
    assert config.task.losses.mask.use_only_last_stage == (size == 512)
    assert tuple(config.task.allowed_masked_classes_ids) == allowed_ids
    assert config.task.init_checkpoint_modules == modules
    assert config.task.train_data.global_batch_size == 128
    parser = config.task.train_data.parser
    assert (parser.odapi_augmentation, parser.aug_scale_min, parser.aug_scale_max) == (True, 0.6, 1.3)

    optimizer = assert_published_rate(config).build_optimizer(1e-3)
    assert optimizer.get_config().items() >= {"name": "Adam", "epsilon": 1e-7}.items()


EXPERIMENTS = ("deepmac_hourglass_coco", "deepmac_mini")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_are_registered_and_consistent(name):
    params = exp_factory.get_exp_config(name)
    params.validate()
    model = params.task.model
    assert len(model.head.input_levels) == model.backbone.hourglass.num_hourglasses
    assert params.task.allowed_masked_classes_ids == list(VOC_IDS)
    assert params.trainer.checkpoint_interval % params.trainer.steps_per_loop == 0
    again = exp_factory.get_exp_config(name)
    again.task.model.mask_head.network_type = "resnet4"
    again.override(params.as_dict(), is_strict=True)
    assert again.as_dict() == params.as_dict(), "it survives writing and reading"


def test_options_follow_the_type_and_the_published_schedule_and_unknown_ones_are_errors():
    params = configs.deepmac_mini()
    with pytest.raises(KeyError, match="mask_haed"):
        params.override({"task": {"model": {"mask_haed": {}}}}, is_strict=True)
    loss = configs.MaskClassificationLossConfig({"type": "dice", "dice": {"squared_normalization": True}})
    assert loss.get().squared_normalization is True, "of one-of options that of the type counts"
    assert_published_rate(configs.deepmac_hourglass_coco())
