"""What a mask head costs: parameters, floating-point operations, time."""

import statistics
import time
from typing import NamedTuple

import tensorflow as tf
from official.core import exp_factory

from deepmac import experiments  # noqa: F401  # registers the experiments
from deepmac.inference import without_warnings
from deepmac.modeling.mask_heads import build_mask_head
from deepmac.reproduction.suite import Row

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
    params = exp_factory.get_exp_config(row.experiment)
    params.override(row.config)
    config = params.task.model.mask_head
    with without_warnings():
        head = build_mask_head(config)
    size = config.mask_size
    if config.predict_full_resolution_masks:
        size = params.task.model.input_size[0] // 4
    channels = config.pixel_embedding_dim + (2 if config.use_xy else 0)

    @tf.function
    def masks(instances, pixels):
        return head(instances, pixels, training=False)

    instances = tf.random.normal([_BOXES, config.dim])
    pixels = tf.random.normal([_BOXES, size, size, channels])
    masks(instances, pixels)  # traces, and creates the variables
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        masks(instances, pixels).numpy()
        seconds.append(time.perf_counter() - start)
    return HeadCost(
        parameters=sum(variable.shape.num_elements() for variable in head.trainable_variables),
        flops=flops(masks.get_concrete_function(instances[:1], pixels[:1])),
        milliseconds=1000 * statistics.median(seconds) / _BOXES,
    )


def flops(function: tf.types.experimental.ConcreteFunction) -> int:
    """Floating-point operations of a function whose shapes are known; nothing is run."""
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    with without_warnings():
        return tf.compat.v1.profiler.profile(function.graph, options=options).total_float_ops
