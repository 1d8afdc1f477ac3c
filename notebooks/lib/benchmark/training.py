"""Training steps against a plain loop over the same model, and of the published model."""

import contextlib
import gc
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil
import tensorflow as tf
import tf_keras
import yaml
from official.core import config_definitions as cfg
from official.core import exp_factory
from official.modeling import performance

from deepmac import configs  # noqa: F401  # registers the experiments
from deepmac.core.machine import resolve_precision
from deepmac.inference.load import without_warnings
from deepmac.training.task import DeepMACTask
from lib.benchmark.convolutions import Convolution, convolution_operations
from lib.benchmark.record import Section, at_least, at_most, row
from lib.benchmark.scope import Benchmark
from lib.benchmark.timing import Timing, interleaved

_PLAIN = "plain loop, float32"
_XLA = "XLA"
_INPUT = "input"
_INPUT_BATCHES = 16  # read at a time
_SMALL_BATCH = 2  # pictures a step while memory is watched
_SETTLING_CALLS = 10  # reserve what every further call uses again
FULL_SIZE_CONFIG = Path("configs/center_net_deepmac_512x512_voc_only.yaml")


def measure_training(benchmark: Benchmark, peaks: dict[str, Convolution]) -> Section:
    """Times training steps of the mini model on one batch of the profile's pictures.

    The plain loop is what one would write first: gradient tape and optimizer over the same model in
    float32, the backbone's own synchronised batch norm in every layer, a mask for every instance.
    """
    config = _mini_config(benchmark)
    batch = _batch(config)
    trained = {precision: _training_step(config, precision, batch) for precision in peaks}
    steps = {
        _PLAIN: _plain_step(_mini_config(benchmark)),
        **{precision: step.call for precision, step in trained.items()},
    }
    if benchmark.scope.compiles:
        steps[_XLA] = _training_step(config, resolve_precision("auto"), batch, jit_compile=True).call
    steps[_INPUT] = _reading(config)
    timings, peak_timings = _timed_with_peaks(steps, peaks, benchmark.scope.training_steps)
    reading = timings.pop(_INPUT).wall / _INPUT_BATCHES
    best = min(peaks, key=lambda name: timings[name].wall)
    growth = _growth(_small_step(benchmark, best), benchmark.scope.memory_steps)

    pictures = config.task.train_data.global_batch_size
    rows = []
    for name, timing in timings.items():
        rows += [
            row(f"mini training step, {name}", "ratio to the plain loop", timing.wall / timings[_PLAIN].wall),
            row(f"mini training step, {name}", "CPU ratio", timing.cpu / timings[_PLAIN].cpu),
            row(f"mini training step, {name}", "pictures/s", pictures / timing.wall),
        ]
        if name in peaks:
            share = peaks[name].share(peak_timings[name], trained[name].operations, timing)
            rows.append(row(f"mini training step, {name}", "share of convolution peak", share))
    watched = f"{benchmark.scope.memory_steps} steps of {_SMALL_BATCH} pictures"
    rows.append(row("mini training", f"growth of memory in {watched}, %", growth))
    speedup = timings[_PLAIN].wall / timings[best].wall
    supply = timings[best].wall / reading
    rows += [
        row("input pipeline alone", "pictures/s", pictures / reading),
        row("input pipeline alone", f"ratio to the {best} step", supply),
    ]
    claims = [
        at_least("the input gives thrice the pictures that training takes", supply, 3, " times"),
        at_least("the mini training step is twice as fast as a plain float32 loop", speedup, 2, " times"),
        at_most("memory does not grow in training", growth, 2, " %"),
    ]
    return Section(rows, claims)


def measure_full_size_training(benchmark: Benchmark, peaks: dict[str, Convolution]) -> Section:
    """Times single training steps of the published 512x512 model, batch 1; float32 goes before bfloat16."""
    if not benchmark.scope.full_size_repeats:
        return Section([])
    config = exp_factory.get_exp_config("deepmac_hourglass_coco")
    config.override(yaml.safe_load(FULL_SIZE_CONFIG.read_text()), is_strict=False)
    config.task.init_checkpoint = None
    config.task.train_data.global_batch_size = 1
    _use_pictures(config, benchmark)
    batch = _batch(config)
    repeats = max(1, benchmark.scope.full_size_repeats // 2)
    timings: dict[str, Timing] = {}
    shares, memory = {}, {}
    for precision, peak in peaks.items():
        before = _resident()
        step = _training_step(config, precision, batch)
        timing, peak_timing = _timed_with_peaks(
            {precision: step.call}, {precision: peak}, repeats, warm_ups=1
        )
        timings |= timing
        shares[precision] = peak.share(peak_timing[precision], step.operations, timing[precision])
        memory[precision] = _resident() - before
        del step
        _forget()
    rows = []
    for precision, timing in timings.items():
        name = f"hourglass-104 training step, 512x512, {precision}"
        rows += [
            row(name, "ratio to float32", timing.wall / timings["float32"].wall),
            row(name, "CPU ratio", timing.cpu / timings["float32"].cpu),
            row(name, "pictures/s", 1 / timing.wall),
            row(name, "share of convolution peak", shares[precision]),
            row(name, "memory, GiB", memory[precision] / 2**30),
        ]
    return Section(rows)


def _timed_with_peaks(steps, peaks: dict[str, Convolution], repeats: int, warm_ups: int = 2):
    """Timings of steps, and of the peaks' convolutions called in turn with them."""
    calls = {("peak", precision): convolution.call for precision, convolution in peaks.items()}
    timings = interleaved(steps | calls, repeats, warm_ups)
    return {name: timings[name] for name in steps}, {name: timings["peak", name] for name in peaks}


def _mini_config(benchmark: Benchmark) -> cfg.ExperimentConfig:
    config = exp_factory.get_exp_config("deepmac_mini")
    config.task.seed = 0
    _use_pictures(config, benchmark)
    return config


def _use_pictures(config: cfg.ExperimentConfig, benchmark: Benchmark):
    config.task.train_data.input_path = f"{benchmark.data.records}/train2017-*.tfrecord"
    config.task.train_data.seed = 0
    config.task.train_data.shuffle_buffer_size = 1


def _batch(config: cfg.ExperimentConfig):
    """The first batch, (features, labels)."""
    return next(iter(DeepMACTask(config.task).build_inputs(config.task.train_data)))


def _reading(config: cfg.ExperimentConfig) -> Callable[[], object]:
    """Reads batches as training does: decoded, augmented, with their masks."""
    dataset = DeepMACTask(config.task).build_inputs(config.task.train_data)

    def read():
        # From the start each time: an iterator that waits has batches ready that cost nothing any more.
        batches = iter(dataset)
        for _ in range(_INPUT_BATCHES):
            next(batches)

    return read


class _TrainingStep(NamedTuple):
    """A step on one batch, and the operations of its convolutions, forward and backward."""

    call: Callable[[], object]
    operations: float


def _training_step(config, precision: str, batch, jit_compile=None) -> _TrainingStep:
    """A step as the trainer takes it, on a batch."""
    task = DeepMACTask(config.task)
    with _policy(precision), without_warnings():
        model = task.build_model()
    optimizer = task.create_optimizer(config.trainer.optimizer_config, config.runtime)

    @tf.function(jit_compile=jit_compile, autograph=False)
    def step(features, labels):  # arguments: what depends on constants would be computed once only
        return task.train_step((features, labels), model, optimizer)

    with without_warnings():  # the published heads of the first stage get no gradients, as intended
        program = step.get_concrete_function(*batch)
    return _TrainingStep(lambda: program(*batch)[task.loss].numpy(), convolution_operations(program))


def _small_step(benchmark: Benchmark, precision: str) -> Callable[[], object]:
    """A training step on few pictures: what a step leaves behind shows after many, and these are quick."""
    config = _mini_config(benchmark)
    config.task.train_data.global_batch_size = _SMALL_BATCH
    return _training_step(config, precision, _batch(config)).call


def _plain_step(config) -> Callable[[], object]:
    config.task.mask_num_subsamples = -1
    config.task.model.norm_activation.use_sync_bn = True
    task = DeepMACTask(config.task)
    with without_warnings():
        model = task.build_model()
    optimizer = tf_keras.optimizers.Adam(1e-3)
    batch = _batch(config)

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


@contextlib.contextmanager
def _policy(precision: str):
    previous = tf_keras.mixed_precision.global_policy()
    performance.set_mixed_precision_policy(precision)
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(previous)


def _growth(call: Callable[[], object], calls: int) -> float:
    """Percent by which the process grows in some calls."""
    for _ in range(_SETTLING_CALLS):
        call()
    before = _resident()
    for _ in range(calls):
        call()
    return 100 * (_resident() / before - 1)


def _resident() -> int:
    """Bytes of memory the process has."""
    gc.collect()
    return psutil.Process().memory_info().rss


def _forget():
    tf_keras.backend.clear_session()
    gc.collect()
