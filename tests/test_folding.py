import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from deepmac.inference import folding
from deepmac.inference.folding import fold
from deepmac.modeling.keras_fixes import compute_dtype

layers = tf_keras.layers


def _convolution(filters=4, size=3, **options):
    return layers.Conv2D(filters, size, padding="same", use_bias=False, **options)


def _residual_network():
    inputs = layers.Input([8, 8, 3])
    stem = layers.ReLU()(layers.BatchNormalization()(_convolution()(inputs)))
    branch = layers.BatchNormalization(epsilon=0.1)(_convolution()(stem))
    added = layers.ReLU()(layers.Add()([branch, stem]))
    return tf_keras.Model(inputs, [added, layers.Conv2D(2, 1)(added)])


def _depthwise_network():
    inputs = layers.Input([8, 8, 3])
    depthwise = layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False)(inputs)
    middle = layers.ReLU(6.0)(layers.BatchNormalization()(depthwise))
    return tf_keras.Model(inputs, layers.BatchNormalization()(_convolution(size=1)(middle)))


def _norm_first_network():
    inputs = layers.Input([8, 8, 3])
    return tf_keras.Model(inputs, _convolution()(layers.ReLU()(layers.BatchNormalization()(inputs))))


def _two_users_network():
    inputs = layers.Input([8, 8, 3])
    features = _convolution()(inputs)
    return tf_keras.Model(inputs, layers.Concatenate()([features, layers.BatchNormalization()(features)]))


def _randomized(model):
    rng = np.random.default_rng(0)
    for variable in model.variables:
        low = 0.2 if "variance" in variable.name or "gamma" in variable.name else -1.0
        variable.assign(rng.uniform(low, 1.5, variable.shape))
    return model


def _fold(model):
    return fold(lambda x: model(x, training=False), [tf.TensorSpec([None, 8, 8, 3])])


def _operations(folded):
    return [operation.type for operation in folded.get_concrete_function().graph.get_operations()]


IMAGES = np.random.default_rng(1).normal(size=(3, 8, 8, 3)).astype(np.float32)


@pytest.mark.parametrize("constants", [True, False])
@pytest.mark.parametrize(
    ("network", "norms_left"),
    [(_residual_network, 0), (_depthwise_network, 0), (_norm_first_network, 1), (_two_users_network, 1)],
)
def test_results_stay_the_same_and_batch_norm_after_convolutions_goes(
    network, norms_left, constants, monkeypatch
):
    monkeypatch.setattr(folding, "_LARGEST_CONSTANTS", 2**20 if constants else 0)
    model = _randomized(network())
    folded = _fold(model)
    expected = tf.nest.flatten(model(IMAGES, training=False))
    results = folded(IMAGES)
    assert len(results) == len(expected)
    for result, reference in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, reference, rtol=1e-4, atol=1e-4)
    assert _operations(folded).count("FusedBatchNormV3") == norms_left


def test_only_kernels_become_constants():
    folded = _fold(_randomized(_residual_network()))
    graph = folded.get_concrete_function().graph
    convolutions = [operation for operation in graph.get_operations() if operation.type == "Conv2D"]
    biases = [operation for operation in graph.get_operations() if operation.type == "BiasAdd"]
    assert len(convolutions) == len(biases) == 3
    assert {operation.inputs[1].op.type for operation in convolutions} == {"Const"}
    assert {operation.inputs[1].op.type for operation in biases} == {"ReadVariableOp"}


def test_weights_are_read_once_and_other_batch_sizes_need_no_other_trace():
    model = _randomized(_residual_network())
    folded = _fold(model)
    before = [output.numpy() for output in folded(IMAGES)]
    for variable in model.variables:
        variable.assign(tf.zeros_like(variable))
    for output, expected in zip(folded(IMAGES), before, strict=True):
        np.testing.assert_array_equal(output, expected)
    np.testing.assert_allclose(folded(IMAGES[1:2])[0][0], before[0][1], atol=1e-5)
    assert folded.experimental_get_tracing_count() == 1


def test_bfloat16_is_as_close_to_float32_as_without_folding():
    outputs = {}
    for precision in ("float32", "bfloat16"):
        with compute_dtype(precision):
            model = _randomized(_residual_network())
        folded = _fold(model)
        outputs[precision] = model(IMAGES, training=False)[1], folded(IMAGES)[1]
    assert _operations(folded).count("Cast") == 1  # of the input, none of the weights
    exact = outputs["float32"][0].numpy()
    plain, folded = (np.abs(tf.cast(o, tf.float32) - exact).mean() for o in outputs["bfloat16"])
    assert outputs["bfloat16"][1].dtype == tf.bfloat16
    assert folded < 1.2 * plain


def test_values_that_are_no_variables_are_kept():
    offset = tf.constant([1.0, 2.0, 3.0])
    folded = fold(lambda x: x + offset, [tf.TensorSpec([None, 3])])
    np.testing.assert_array_equal(folded(tf.zeros([2, 3]))[0], [[1, 2, 3]] * 2)
