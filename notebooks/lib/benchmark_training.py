"""Training steps against a plain loop over the same model, and against the machine's fastest convolutions."""

import copy
import itertools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow as tf
import tf_keras
from official.core import config_definitions as cfg
from official.core import exp_factory
from official.modeling import performance

from deepmac.core.machine import computes_bfloat16, resolve_precision
from deepmac.inference.load import without_warnings
from deepmac.suite.results import ResultRow
from deepmac.suite.rows import PreparedData
from deepmac.training.task import DeepMACTask
from lib.benchmark import Scope, Section, full_size_config, interleaved, limited, resident

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
_CONVOLUTIONS = 8
_PLAIN, _XLA, _INPUT = "plain loop, float32", "XLA", "input"
_INPUT_BATCHES = 16  # read at a time
_SMALL_BATCH = 2  # pictures a step while memory is watched: what a step leaves behind shows after many
_SETTLING_CALLS = 10  # reserve what every further call uses again


class Work(NamedTuple):
    """Something to call, and the floating-point operations of its convolutions in a call.

    A multiplication and an addition are two operations.
    """

    call: Callable[[], object]
    operations: float

    def share(self, seconds: float, peak: "Work", peak_seconds: float) -> float:
        """Part of a convolution's rate that this reaches, timed under the same load."""
        return (self.operations / seconds) / (peak.operations / peak_seconds)


def fastest_convolutions(repeats: int) -> dict[str, Work]:
    """Finds, and prints, the fastest of some convolutions, of `repeats` timed calls each: the machine's peak.

    In float32, and in bfloat16 where the hardware has it: elsewhere, training in it is not worth measuring.
    """
    peaks = {}
    for precision in ("float32", "bfloat16") if computes_bfloat16() else ("float32",):
        works = {shape: _convolution(shape, precision) for shape in _SHAPES}
        times = interleaved({shape: work.call for shape, work in works.items()}, repeats)
        rates = {shape: work.operations / times[shape][0] for shape, work in works.items()}
        best = max(rates, key=rates.get)
        peaks[precision] = works[best]
        print(f"{precision}: {rates[best] / 1e9:.0f} GFLOP/s")
    return peaks


def _convolution(shape: tuple[int, ...], precision: str) -> Work:
    batch, height, width, channels, filters = shape
    image = tf.cast(tf.random.stateless_normal([batch, height, width, channels], [0, 0]), precision)
    kernel = tf.cast(tf.random.stateless_normal([3, 3, channels, filters], [0, 1]), precision)
    image = tf.Variable(image)  # a convolution of two constants would be computed once only

    @tf.function(autograph=False)
    def convolve():  # returns a scalar, so that nothing large is copied
        return tf.reduce_max(tf.nn.conv2d(image, kernel.numpy(), 1, "SAME")[0, 0, 0])

    function = convolve.get_concrete_function()

    def call():
        for _ in range(_CONVOLUTIONS):
            function().numpy()

    return Work(call, _CONVOLUTIONS * convolution_operations(function))


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


def measure_mini(scope: Scope, data: PreparedData, peaks: Mapping[str, Work]) -> Section:
    """Times training steps of the mini model on one batch of the profile's pictures.

    The plain loop is what one would write first: gradient tape and optimizer over the same model in
    float32, the backbone's own synchronised batch norm in every layer, a mask for every instance.
    """
    config = _with_pictures(exp_factory.get_exp_config("deepmac_mini"), data)
    pictures = config.task.train_data.global_batch_size
    steps = {precision: _training_step(config, precision) for precision in peaks}
    calls = {_PLAIN: _plain_step(copy.deepcopy(config)), **{name: step.call for name, step in steps.items()}}
    if scope.compiles:
        calls[_XLA] = _training_step(config, resolve_precision("auto"), jit_compile=True).call
    dataset = DeepMACTask(config.task).build_inputs(config.task.train_data)
    # From the start each time: an iterator that waits has batches ready that cost nothing any more.
    reading = {_INPUT: lambda: list(itertools.islice(dataset, _INPUT_BATCHES))}
    timed = {**calls, **reading, **{("peak", name): peak.call for name, peak in peaks.items()}}
    times = interleaved(timed, scope.training_steps)
    best = min(peaks, key=lambda precision: times[precision][0])
    rows = []
    for name in calls:
        wall, cpu = times[name]
        label = f"mini training step, {name}"
        rows += [
            ResultRow.exact(label, "ratio to the plain loop", wall / times[_PLAIN][0]),
            ResultRow.exact(label, "CPU ratio", cpu / times[_PLAIN][1]),
            ResultRow.exact(label, "pictures/s", pictures / wall),
        ]
        if name in peaks:
            share = steps[name].share(wall, peaks[name], times["peak", name][0])
            rows.append(ResultRow.exact(label, "share of convolution peak", share))
    seconds = times[_INPUT][0] / _INPUT_BATCHES
    supply = times[best][0] / seconds
    small = copy.deepcopy(config)
    small.task.train_data.global_batch_size = _SMALL_BATCH
    step = _training_step(small, best).call
    for _ in range(_SETTLING_CALLS):
        step()
    before = resident()
    for _ in range(scope.memory_steps):
        step()
    growth = 100 * (resident() / before - 1)
    watched = f"{scope.memory_steps} steps of {_SMALL_BATCH} pictures"
    rows += [
        ResultRow.exact("mini training", f"growth of memory in {watched}, %", growth),
        ResultRow.exact("input pipeline alone", "pictures/s", pictures / seconds),
        ResultRow.exact("input pipeline alone", f"ratio to the {best} step", supply),
    ]
    speedup = times[_PLAIN][0] / times[best][0]
    claims = [
        limited("the input gives thrice the pictures that training takes", supply, " times", at_least=3),
        limited(
            "the mini training step is twice as fast as a plain float32 loop", speedup, " times", at_least=2
        ),
        limited("memory does not grow in training", growth, " %", at_most=2),
    ]
    return Section(rows, claims)


def measure_full_size(scope: Scope, data: PreparedData, peaks: Mapping[str, Work]) -> Section:
    """Times single training steps of the published 512x512 model, batch 1; float32 goes before bfloat16."""
    if not scope.full_size_repeats:
        return Section([])
    config = _with_pictures(full_size_config(), data)
    config.task.init_checkpoint = None
    config.task.train_data.global_batch_size = 1
    rows, times = [], {}
    for precision, peak in peaks.items():
        before = resident()
        step = _training_step(config, precision)
        calls = {precision: step.call, "peak": peak.call}
        times |= interleaved(calls, max(1, scope.full_size_repeats // 2), warm_ups=1)
        wall, cpu = times[precision]
        share = step.share(wall, peak, times["peak"][0])
        name = f"hourglass-104 training step, 512x512, {precision}"
        rows += [
            ResultRow.exact(name, "ratio to float32", wall / times["float32"][0]),
            ResultRow.exact(name, "CPU ratio", cpu / times["float32"][1]),
            ResultRow.exact(name, "pictures/s", 1 / wall),
            ResultRow.exact(name, "share of convolution peak", share),
            ResultRow.exact(name, "memory, GiB", (resident() - before) / 2**30),
        ]
        del step, calls
        tf_keras.backend.clear_session()
    return Section(rows)


def _with_pictures(config: cfg.ExperimentConfig, data: PreparedData) -> cfg.ExperimentConfig:
    config.task.seed = 0
    config.task.train_data.input_path = f"{data.records}/train2017-*.tfrecord"
    config.task.train_data.seed = 0
    config.task.train_data.shuffle_buffer_size = 1
    return config


def _training_step(config: cfg.ExperimentConfig, precision: str, jit_compile: bool | None = None) -> Work:
    """A step as the trainer takes it, on the first batch."""
    task = DeepMACTask(config.task)
    batch = next(iter(task.build_inputs(config.task.train_data)))  # (features, labels)
    performance.set_mixed_precision_policy(precision)
    with without_warnings():  # the published heads of the first stage get no gradients, as intended
        model = task.build_model()
        performance.set_mixed_precision_policy("float32")
        optimizer = task.create_optimizer(config.trainer.optimizer_config, config.runtime)

        @tf.function(jit_compile=jit_compile, autograph=False)
        def step(features, labels):  # arguments: what depends on constants would be computed once only
            return task.train_step((features, labels), model, optimizer)

        program = step.get_concrete_function(*batch)
    return Work(lambda: program(*batch)[task.loss].numpy(), convolution_operations(program))


def _plain_step(config: cfg.ExperimentConfig) -> Callable[[], object]:
    config.task.mask_num_subsamples = -1
    config.task.model.norm_activation.use_sync_bn = True
    task = DeepMACTask(config.task)
    batch = next(iter(task.build_inputs(config.task.train_data)))  # (features, labels)
    with without_warnings():
        model = task.build_model()
    optimizer = tf_keras.optimizers.Adam(1e-3)

    @tf.function
    def step(features, labels):
        with tf.GradientTape() as tape:
            outputs = model(features, training=True)["raw_output"]
            masks = task.mask_batch(outputs, features, labels, optimizer.iterations, model)
            loss = task.build_losses(outputs, labels, masks)["total_loss"]
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return lambda: step(*batch).numpy()
