"""The machine's measure: how many multiplications and additions its best convolutions do in a second."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from deepmac.core.machine import computes_bfloat16
from lib.benchmark.timing import Timing, interleaved

# Batch, height, width, channels in and out of convolutions 3x3, as in large and small networks.
_SHAPES = ((1, 64, 64, 256, 256), (1, 128, 128, 128, 128), (2, 32, 32, 384, 384), (32, 32, 32, 64, 64))
# Type of operation -> what a convolution returned, or the gradient of that, and its kernel or the gradient of
# that: forward and backward, every number returned takes a multiplication and an addition for each weight.
_PIXELS_AND_KERNEL = {
    "Conv2D": lambda convolution: (convolution.outputs[0], convolution.inputs[1]),
    "Conv2DBackpropInput": lambda gradient: (gradient.inputs[2], gradient.inputs[1]),
    "Conv2DBackpropFilter": lambda gradient: (gradient.inputs[2], gradient.outputs[0]),
}
# Convolutions in a call: the first one after something else finds its operands no longer in the caches.
_REPEATS = 8


class Convolution(NamedTuple):
    """A convolution to compare networks with.

    Attributes:
        call: computes it some times.
        operations: floating-point operations of a call, a multiplication and an addition being two.
        rate: operations a second when it was chosen.
    """

    call: Callable[[], object]
    operations: float
    rate: float

    def share(self, own: Timing, operations: float, timing: Timing) -> float:
        """Part of this convolution's rate that another computation reaches.

        Args:
            own: of this convolution, in the same run as the other, on whose load it depends.
            operations: of the other computation.
            timing: of the other computation.
        """
        return (operations / timing.wall) / (self.operations / own.wall)


def fastest_convolutions(repeats: int) -> dict[str, Convolution]:
    """Finds the fastest of some convolutions: precision -> convolution.

    Args:
        repeats: timed calls of each.

    Returns:
        float32, and bfloat16 where the hardware has it: elsewhere, training in it is not worth measuring.
    """
    precisions = ("float32", "bfloat16") if computes_bfloat16() else ("float32",)
    return {precision: _fastest(precision, repeats) for precision in precisions}


def _fastest(precision: str, repeats: int) -> Convolution:
    functions = {shape: _convolution(shape, precision) for shape in _SHAPES}
    calls = {shape: functools.partial(_repeat, function) for shape, function in functions.items()}
    timings = interleaved(calls, repeats)
    found = []
    for shape, function in functions.items():
        operations = _REPEATS * convolution_operations(function)
        found.append(Convolution(calls[shape], operations, operations / timings[shape].wall))
    return max(found, key=lambda convolution: convolution.rate)


def _repeat(function):
    for _ in range(_REPEATS):
        function().numpy()


def _convolution(shape, precision: str) -> tf.types.experimental.ConcreteFunction:
    """A function that convolves and returns a scalar, so that nothing large is copied."""
    batch, height, width, channels, filters = shape
    image = tf.cast(tf.random.stateless_normal([batch, height, width, channels], [0, 0]), precision)
    kernel = tf.cast(tf.random.stateless_normal([3, 3, channels, filters], [0, 1]), precision)
    image = tf.Variable(image)  # a convolution of two constants would be computed once only

    @tf.function(autograph=False)
    def convolve():
        return tf.reduce_max(tf.nn.conv2d(image, kernel.numpy(), 1, "SAME")[0, 0, 0])

    return convolve.get_concrete_function()


def convolution_operations(function: tf.types.experimental.ConcreteFunction) -> float:
    """Floating-point operations of a function's convolutions and their gradients; shapes must be known."""
    # Not by TensorFlow's profiler: to gradients it counts the padding around a picture, too.
    total = 0
    for operation in function.graph.get_operations():
        if operation.type in _PIXELS_AND_KERNEL:
            pixels, kernel = _PIXELS_AND_KERNEL[operation.type](operation)
            height, width, channels, _ = kernel.shape
            total += 2 * pixels.shape.num_elements() * height * width * channels
    return float(total)
