"""Backbones in Model Garden's registry: CenterNet's hourglasses, and EfficientNet-Lite with an FPN.

EfficientNet-Lite (from the repository `tensorflow/tpu`) is EfficientNet (arXiv 1905.11946) with ReLU6 and
without squeeze-and-excitation, whose first and last group of blocks are the same in all sizes.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras
from official.projects.centernet.dataloaders.centernet_input import CHANNEL_MEANS, CHANNEL_STDS
from official.projects.centernet.modeling.backbones import hourglass  # noqa: F401  # registers the backbone
from official.vision.modeling.backbones import efficientnet, factory
from official.vision.modeling.decoders import fpn
from official.vision.modeling.layers import nn_blocks

from deepmac import configs
from deepmac.core.errors import InputError

# EfficientNet-Lite's size -> that of the EfficientNet with as many blocks and channels.
_SIZES = {"lite0": "b0", "lite1": "b1", "lite2": "b2"}
_LEVELS = ("2", "3", "4", "5")  # strides 4 to 32
IMAGENET = Path(__file__).parents[1] / "weights" / "efficientnet_lite0" / "imagenet.npz"


class _Blocks(efficientnet.EfficientNet):
    """Model Garden's EfficientNet with the groups of blocks of EfficientNet-Lite."""

    def _block_group(self, inputs, specs, name="block_group"):
        if name in ("block_group_0", "block_group_6"):
            specs.block_repeats = 1
        return super()._block_group(inputs, specs, name)


@factory.register_backbone_builder("efficientnet_lite")
def build_efficientnet_lite(
    input_specs: tf_keras.layers.InputSpec,
    backbone_config: configs.BackboneConfig,
    norm_activation_config,
    l2_regularizer: tf_keras.regularizers.Regularizer | None = None,
) -> tf_keras.Model:
    """Builds EfficientNet-Lite with random weights from a configuration; see `initialize` for trained ones.

    An FPN brings its levels together at stride 4, the level "2" that heads read. Pictures come as CenterNet's
    parser normalises them by default, so that nothing else in a configuration changes with the backbone;
    inside, they are RGB (x - 127) / 128 as ImageNet weights expect. Activation and epsilon of batch norm are
    those ImageNet weights were trained with, whatever `norm_activation_config` says.

    Raises:
        InputError: an unknown size of the network, or an input size that does not fit it.
    """
    config = backbone_config.get()
    if config.model_id not in _SIZES:
        raise InputError(
            f"model.backbone.efficientnet_lite.model_id must be one of {', '.join(_SIZES)}, "
            f"not {config.model_id!r}"
        )
    size = input_specs.shape[1:3]
    if any(side % 32 for side in size):
        raise InputError(
            f"input_size must be a multiple of 32 for this network, not {' x '.join(map(str, size))}"
        )
    options = {
        "use_sync_bn": norm_activation_config.use_sync_bn,
        "norm_momentum": norm_activation_config.norm_momentum,
        "kernel_regularizer": l2_regularizer,
    }
    inputs = tf_keras.Input(input_specs.shape[1:])
    means, deviations = np.array(CHANNEL_MEANS), np.array(CHANNEL_STDS)
    rescale = tf_keras.layers.Rescaling(
        (deviations / 128).tolist(), ((means - 127) / 128).tolist(), dtype="float32"
    )
    rgb = rescale(inputs)[..., ::-1]  # (B, H, W, 3)
    network = _Blocks(_SIZES[config.model_id], input_specs, activation="relu6", **options)
    levels = {level: network.output[level] for level in _LEVELS}
    encoder = tf_keras.Model(network.input, levels, name="encoder")  # without the classifier's layers
    pyramid = fpn.FPN(
        encoder.output_shape, min_level=2, max_level=5, num_filters=config.num_filters, **options
    )
    finest = tf_keras.Model(pyramid.input, pyramid.output["2"], name="fpn")  # without the coarser outputs
    features = finest(encoder(rgb))  # (B, H / 4, W / 4, num_filters)
    backbone = tf_keras.Model(inputs, {"2": features})
    backbone.output_specs = {"2": features.shape}
    if config.num_frozen_blocks:
        for name, layer in encoder_layers(backbone):
            if name == f"block_{config.num_frozen_blocks}/expand_conv":
                break
            layer.trainable = False  # batch norm then uses and keeps its moving statistics
    return backbone


def initialize(backbone: tf_keras.Model, config: configs.BackboneConfig):
    """Gives EfficientNet-Lite the weights its configuration names, before training; its FPN stays random.

    Args:
        backbone: built from `config`; hourglasses are left as they are.
        config: of the backbone.

    Raises:
        InputError: no such weights, or those of another network.
    """
    if config.type != "efficientnet_lite" or not config.efficientnet_lite.init_weights:
        return
    model_id, path = config.efficientnet_lite.model_id, config.efficientnet_lite.init_weights
    option = "model.backbone.efficientnet_lite.init_weights"
    if path == "imagenet":
        path = str(IMAGENET)  # of lite0; `make backbone-weights` writes those of others
    try:
        with tf.io.gfile.GFile(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            for name, layer in encoder_layers(backbone):
                values = arrays[name]
                layer.set_weights([values] if name.endswith("conv") else list(values))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, tf.errors.OpError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"{option}: {path} holds no weights of {model_id}: {reason}") from error


def encoder_layers(backbone: tf_keras.Model) -> Iterator[tuple[str, tf_keras.layers.Layer]]:
    """Convolutions and batch norms with names that are the same in every program.

    Yields:
        "stem/conv", "stem/norm", "block_0/depthwise_conv", "block_0/depthwise_norm",
        "block_0/project_conv", … "block_1/expand_conv", …, in the order of the network, and the layer.
    """
    encoder = backbone.get_layer("encoder")
    _, convolution, norm = encoder.layers[:3]
    yield from (("stem/conv", convolution), ("stem/norm", norm))
    blocks = [layer for layer in encoder.layers if isinstance(layer, nn_blocks.InvertedBottleneckBlock)]
    for number, block in enumerate(blocks):
        for position, part in enumerate(("expand", "depthwise", "project")):
            convolution = getattr(block, f"_conv{position}")
            if convolution.built:  # the first block expands nothing
                yield f"block_{number}/{part}_conv", convolution
                yield f"block_{number}/{part}_norm", getattr(block, f"_norm{position}")
