"""The preparation of pictures, against the published graph and reference tensors."""

from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from deepmac.data.preprocessing import (
    displayable,
    nearest_indices,
    network_input,
    normalize,
    resized_shape,
)


def test_normalization_without_bgr_keeps_the_channels():
    image = tf.constant([[[1.0, 20.0, 300.0]]])
    result = normalize(
        image, bgr_ordering=False, channel_means=(1.0, 10.0, 100.0), channel_stds=(1.0, 2.0, 4.0)
    )
    np.testing.assert_allclose(result, [[[0.0, 5.0, 50.0]]])


@pytest.mark.parametrize("bgr_ordering", [True, False])
def test_displayable_takes_normalization_back(bgr_ordering):
    image = np.random.default_rng(0).integers(256, size=(5, 7, 3), dtype=np.uint8)
    options = {"bgr_ordering": bgr_ordering, "channel_means": (1.0, 10.0, 100.0)}
    restored = displayable(normalize(tf.cast(image, tf.float32), **options), **options)
    np.testing.assert_array_equal(restored, image)


@pytest.fixture(scope="module")
def published_preprocessing(reference_dir):
    """The part of the exported graph from the picture to the input of its first convolution."""
    model = tf.saved_model.load(reference_dir / "hourglass20" / "saved_model")
    graph_function = convert_variables_to_constants_v2(
        model.signatures["serving_default"], lower_control_flow=False
    )
    image = next(tensor for tensor in graph_function.inputs if "input_tensor" in tensor.name)
    normalized = graph_function.graph.get_tensor_by_name("StatefulPartitionedCall/truediv:0")
    pruned = graph_function.prune([image], normalized)
    return lambda picture: pruned(tf.constant(picture[np.newaxis])).numpy()


@pytest.mark.parametrize(
    "shape", [(128, 128), (96, 128), (150, 211), (640, 480), (427, 640), (37, 91), (129, 5), (5, 300)]
)
def test_network_input_equals_the_published_graph(published_preprocessing, shape):
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    image, part = network_input(picture, 128)
    np.testing.assert_allclose(image, published_preprocessing(picture), atol=1e-6)
    fills = np.round(np.array(shape) * 128 / max(shape))
    np.testing.assert_allclose(part, fills / 128, atol=1 / 128)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 2000), width=st.integers(1, 2000), size=st.sampled_from([32, 128, 512, 1024]))
def test_longer_side_fills_the_square(height, width, size):
    result = resized_shape(tf.constant([height, width]), size).numpy()
    exact = [max(1, round(Fraction(side * size, max(height, width)))) for side in (height, width)]
    assert max(result) == size
    assert np.abs(result - exact).max() <= 1  # float32 may round a half to the other side
    halves = [Fraction(side * size, max(height, width)) % 1 for side in (height, width)]
    if all(abs(half - Fraction(1, 2)) > Fraction(1, 1000) for half in halves):
        assert result.tolist() == exact


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 300),
    scaled=st.integers(1, 300),
    start=st.integers(-20, 60),
    size=st.integers(1, 64),
)
def test_nearest_indices_equal_a_nearest_resize(length, scaled, start, size):
    """Output pixel i of a resize shows input pixel floor(i * scale), as the published masks do."""
    axis = tf.reshape(tf.range(length, dtype=tf.float32), [1, length, 1, 1])
    resized = tf.raw_ops.ResizeNearestNeighbor(images=axis, size=[scaled, 1])[0, :, 0, 0].numpy()
    expected = [resized[i] if 0 <= i < scaled else -1 for i in range(start, start + size)]
    np.testing.assert_array_equal(
        nearest_indices(tf.constant(start), tf.constant(scaled), tf.constant(length), size), expected
    )
