"""Nearest-neighbour upsampling that compiles with XLA."""

import tensorflow as tf
import tf_keras
from official.projects.centernet.modeling.layers import cn_nn_blocks
from official.projects.deepmac_maskrcnn.modeling.heads import hourglass_network

# Block of Model Garden -> its attribute that holds Keras' upsampling.
_ATTRIBUTES = {
    cn_nn_blocks.HourglassBlock: "upsample_layer",
    hourglass_network.EncoderDecoderBlock: "upsample",
}


class RepeatUpsampling(tf_keras.layers.Layer):
    """Repeats every row and column: Keras' UpSampling2D, whose gradient has no XLA kernel."""

    def __init__(self, factor: int):
        """Args: factor: how often."""
        super().__init__(name="upsampling")
        self._factor = factor

    def call(self, inputs):
        """[M, H * factor, W * factor, C] from [M, H, W, C]."""
        return tf.repeat(tf.repeat(inputs, self._factor, axis=1), self._factor, axis=2)


def use_repeat_upsampling(model):
    """Gives every hourglass block of a model upsampling that compiles, with the same values.

    Args:
        model: a `tf.Module` with Model Garden's hourglass blocks, of backbone or mask head.
    """
    for block in model.submodules:
        attribute = _ATTRIBUTES.get(type(block))
        if hasattr(block, attribute or ""):  # the innermost block of a backbone has none
            factor, _ = getattr(block, attribute).size
            setattr(block, attribute, RepeatUpsampling(factor))
