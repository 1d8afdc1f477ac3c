"""The complete configuration of a row: its experiment's defaults, its file and its options."""

from official.core import config_definitions as cfg
from official.core import exp_factory

from deepmac import configs  # noqa: F401  # registers the experiments
from deepmac.suite.suite import Row


def row_config(row: Row) -> cfg.ExperimentConfig:
    """What the row's training process reads, without places on a machine."""
    config = exp_factory.get_exp_config(row.experiment)
    config.override(row.config)
    return config


def model_summary(row: Row) -> str:
    """What is trained, in a few words: input size and mask head."""
    model = row_config(row).task.model
    height, width = model.input_size[:2]
    head = model.mask_head
    # DeepMAC's and Mask R-CNN's heads name their architecture by different options.
    name = getattr(head, "network_type", None) or head.convnet_variant
    return f"{height}x{width}, mask head {name}"
