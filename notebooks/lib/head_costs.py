"""What a mask head costs: parameters, floating-point operations, time."""

import statistics
import time
from typing import NamedTuple

import tensorflow as tf
import tf_keras

from deepmac.inference.load import without_warnings
from deepmac.modeling.mask_heads import build_mask_head
from deepmac.suite.study import row_config
from deepmac.suite.suite import Row

_BOXES = 32
_REPEATS = 9


class HeadCost(NamedTuple):
    """Of one mask head.

    Attributes:
        parameters: trained numbers.
        flops: floating-point operations for one box, a multiplication and an addition counted as two.
        milliseconds: wall-clock time of a box, in float32, 32 boxes at once; median of 9 calls.
    """

    parameters: int
    flops: int
    milliseconds: float


def head_cost(row: Row) -> HeadCost:
    """Measures the mask head of a row's configuration, with random weights."""
    head, instances, pixels = _head_and_inputs(row)

    @tf.function
    def masks(instances, pixels):
        return head(instances, pixels, training=False)

    masks(instances, pixels)  # traces, and creates the variables
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        masks(instances, pixels).numpy()
        seconds.append(time.perf_counter() - start)
    return HeadCost(
        parameters=_parameters(head),
        flops=flops(masks.get_concrete_function(instances[:1], pixels[:1])),
        milliseconds=1000 * statistics.median(seconds) / _BOXES,
    )


def trained_parameters(row: Row) -> int:
    """Counts the trained numbers in the mask head of a row's configuration."""
    head, instances, pixels = _head_and_inputs(row)
    head(instances[:1], pixels[:1], training=False)  # creates the variables
    return _parameters(head)


def _head_and_inputs(row: Row) -> tuple[tf_keras.layers.Layer, tf.Tensor, tf.Tensor]:
    """A mask head and random embeddings: of instances (N, C) and of pixels (N, S, S, C)."""
    model = row_config(row).task.model
    config = model.mask_head
    with without_warnings():
        head = build_mask_head(config)
    size = config.mask_size
    if config.predict_full_resolution_masks:
        size = model.input_size[0] // 4
    channels = config.pixel_embedding_dim + (2 if config.use_xy else 0)
    instances = tf.random.normal([_BOXES, config.dim])
    return head, instances, tf.random.normal([_BOXES, size, size, channels])


def _parameters(head: tf_keras.layers.Layer) -> int:
    return sum(variable.shape.num_elements() for variable in head.trainable_variables)


def flops(function: tf.types.experimental.ConcreteFunction) -> int:
    """Floating-point operations of a function whose shapes are known; nothing is run."""
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    with without_warnings():
        return tf.compat.v1.profiler.profile(function.graph, options=options).total_float_ops
