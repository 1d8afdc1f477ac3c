import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny_model

from deepmac import configs
from deepmac.modeling import keras_fixes

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("factor", [1, 2])
def test_upsampling_has_the_values_and_gradient_of_keras(factor):
    inputs = tf.constant(RNG.normal(size=(2, 3, 4, 5)), tf.float32)
    weights = RNG.normal(size=(2, 3 * factor, 4 * factor, 5)).astype(np.float32)
    results = []
    for layer in (keras_fixes.RepeatUpsampling(factor), tf_keras.layers.UpSampling2D(factor)):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs)
            loss = tf.reduce_sum(outputs * weights)
        results.append((outputs, tape.gradient(loss, inputs)))
    for ours, expected in zip(*results, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_no_block_of_a_model_keeps_keras_upsampling():
    model = tiny_model.build_model(configs.deepmac_mini().task.model)
    layers = [type(layer) for part in (model.backbone, model.mask_head) for layer in part.submodules]
    assert tf_keras.layers.UpSampling2D not in layers
    assert layers.count(keras_fixes.RepeatUpsampling) == 1 + 2  # hourglass-10 backbone, hourglass20 head
