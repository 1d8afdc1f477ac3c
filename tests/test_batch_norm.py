import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.projects.centernet.modeling.layers import cn_nn_blocks

from deepmac.modeling.keras_fixes import configure_batch_norm


def _hourglass():
    block = cn_nn_blocks.HourglassBlock(channel_dims_per_stage=[4, 4], blocks_per_stage=[1, 1])
    model = tf_keras.Sequential([tf_keras.layers.Input([8, 8, 4]), block])
    return model, [
        layer for layer in model.submodules if isinstance(layer, tf_keras.layers.BatchNormalization)
    ]


@pytest.mark.parametrize("synchronized", [False, True])
@pytest.mark.parametrize("momentum", [0.1, 0.9])
def test_moving_statistics_of_every_layer_follow_the_momentum(momentum, synchronized):
    tf_keras.utils.set_random_seed(0)
    model, layers = _hourglass()
    configure_batch_norm(model, momentum, synchronized)
    inputs = {}
    for layer in layers:
        layer.call = _recording(layer, inputs)

    model(tf.random.normal([4, 8, 8, 4], 3.0, 2.0), training=True)

    assert len(inputs) == len(layers) > 4
    for layer in layers:
        batch_mean = inputs[id(layer)].numpy().mean((0, 1, 2))
        np.testing.assert_allclose(layer.moving_mean, (1 - momentum) * batch_mean, rtol=1e-4, atol=1e-5)


def _recording(layer, inputs):
    call = layer.call

    def recording_call(x, *args, **kwargs):
        inputs[id(layer)] = x
        return call(x, *args, **kwargs)

    return recording_call


def test_fused_and_synchronized_statistics_give_the_same_outputs():
    tf_keras.utils.set_random_seed(0)
    model, _ = _hourglass()
    images = tf.random.normal([4, 8, 8, 4])
    outputs = []
    for synchronized in (False, True):
        configure_batch_norm(model, 0.9, synchronized)
        outputs.append(model(images, training=True))
    np.testing.assert_allclose(*outputs, rtol=1e-3, atol=1e-4)
