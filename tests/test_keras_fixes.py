import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny_model
from official.projects.centernet.modeling.layers import cn_nn_blocks

from deepmac import configs
from deepmac.modeling import keras_fixes
from deepmac.modeling.keras_fixes import compute_dtype, configure_batch_norm


def _hourglass():
    block = cn_nn_blocks.HourglassBlock(channel_dims_per_stage=[4, 4], blocks_per_stage=[1, 1])
    model = tf_keras.Sequential([tf_keras.layers.Input([8, 8, 4]), block])
    return model, [
        layer for layer in model.submodules if isinstance(layer, tf_keras.layers.BatchNormalization)
    ]


def test_fused_and_synchronized_statistics_give_the_same_outputs():
    tf_keras.utils.set_random_seed(0)
    model, _ = _hourglass()
    images = tf.random.normal([4, 8, 8, 4])
    outputs = []
    for synchronized in (False, True):
        configure_batch_norm(model, 0.9, synchronized)
        outputs.append(model(images, training=True))
    np.testing.assert_allclose(*outputs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("factor", [1, 2])
def test_upsampling_has_the_values_and_gradient_of_keras(factor):
    rng = np.random.default_rng(0)
    inputs = tf.constant(rng.normal(size=(2, 3, 4, 5)), tf.float32)
    weights = rng.normal(size=(2, 3 * factor, 4 * factor, 5)).astype(np.float32)
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


def test_a_precision_is_that_of_the_layers_made_in_its_block_alone():
    before = tf_keras.mixed_precision.global_policy().name
    with pytest.raises(ZeroDivisionError), compute_dtype("bfloat16"):
        layer = tf_keras.layers.Dense(1)
        with compute_dtype("float32"):
            assert tf_keras.layers.Dense(1).compute_dtype == "float32"
        raise ZeroDivisionError
    assert layer.compute_dtype == "bfloat16"
    assert tf_keras.mixed_precision.global_policy().name == before
