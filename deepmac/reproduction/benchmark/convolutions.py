"""The machine's measure: how many multiplications and additions its best convolutions do in a second."""

from collections.abc import Mapping

import tensorflow as tf

from deepmac.reproduction.benchmark.timing import interleaved

# Batch, height, width, channels in and out of convolutions 3x3, as in large and small networks.
_SHAPES = ((1, 64, 64, 256, 256), (1, 128, 128, 128, 128), (2, 32, 32, 384, 384), (32, 32, 32, 64, 64))
PRECISIONS = ("float32", "bfloat16")


def convolution_peaks(repeats: int) -> dict[str, float]:
    """Measures the fastest of some convolutions.

    Args:
        repeats: timed calls of each.

    Returns:
        Precision -> floating-point operations a second, a multiplication and an addition being two.
    """
    peaks = {}
    for precision in PRECISIONS:
        calls, operations = {}, {}
        for shape in _SHAPES:
            call = _convolution(shape, precision)
            operations[str(shape)] = convolution_operations(call.get_concrete_function())
            calls[str(shape)] = lambda call=call: call().numpy()
        timings = interleaved(calls, repeats)
        peaks[precision] = max(operations[name] / timing.wall for name, timing in timings.items())
    return peaks


def _convolution(shape, precision: str):
    """A function that convolves constants and returns a scalar, so that nothing large is copied."""
    batch, height, width, channels, filters = shape
    image = tf.cast(tf.random.stateless_normal([batch, height, width, channels], [0, 0]), precision)
    kernel = tf.cast(tf.random.stateless_normal([3, 3, channels, filters], [0, 1]), precision)
    image = tf.Variable(image)  # a convolution of two constants would be computed once only

    @tf.function(autograph=False)
    def convolve():
        return tf.reduce_max(tf.nn.conv2d(image, kernel.numpy(), 1, "SAME")[0, 0, 0])

    return convolve


def convolution_operations(function: tf.types.experimental.ConcreteFunction) -> float:
    """Floating-point operations of a function's convolutions; all shapes must be known."""
    total = 0
    for operation in function.graph.get_operations():
        if operation.type == "Conv2D":
            height, width, channels, _ = operation.inputs[1].shape
            total += 2 * operation.outputs[0].shape.num_elements() * height * width * channels
    return float(total)


def share_of_peak(operations: float, seconds: float, peaks: Mapping[str, float], precision: str) -> float:
    """Part of the measured peak that a computation reaches."""
    return operations / seconds / peaks[precision]
