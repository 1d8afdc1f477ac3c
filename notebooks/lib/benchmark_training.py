"""Training steps against a plain loop over the same model."""

import copy
import itertools
from collections.abc import Callable

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

# Elsewhere, training in bfloat16 is not worth measuring.
PRECISIONS = ("float32", "bfloat16") if computes_bfloat16() else ("float32",)
_PLAIN, _XLA, _INPUT = "plain loop, float32", "XLA", "input"
_INPUT_BATCHES = 16  # read at a time
_SMALL_BATCH = 2  # pictures a step while memory is watched: what a step leaves behind shows after many
_SETTLING_CALLS = 10  # reserve what every further call uses again


def measure_mini(scope: Scope, data: PreparedData) -> Section:
    """Times training steps of the mini model on one batch of the profile's pictures.

    The plain loop is what one would write first: gradient tape and optimizer over the same model in
    float32, the backbone's own synchronised batch norm in every layer, a mask for every instance.
    """
    config = _with_pictures(exp_factory.get_exp_config("deepmac_mini"), data)
    pictures = config.task.train_data.global_batch_size
    calls = {_PLAIN: _plain_step(copy.deepcopy(config))}
    calls |= {precision: _training_step(config, precision) for precision in PRECISIONS}
    if scope.compiles:
        calls[_XLA] = _training_step(config, resolve_precision("auto"), jit_compile=True)
    dataset = DeepMACTask(config.task).build_inputs(config.task.train_data)
    # From the start each time: an iterator that waits has batches ready that cost nothing any more.
    reading = {_INPUT: lambda: list(itertools.islice(dataset, _INPUT_BATCHES))}
    times = interleaved({**calls, **reading}, scope.training_steps)
    best = min(PRECISIONS, key=lambda precision: times[precision][0])
    rows = []
    for name in calls:
        wall, cpu = times[name]
        label = f"mini training step, {name}"
        rows += [
            ResultRow.exact(label, "ratio to the plain loop", wall / times[_PLAIN][0]),
            ResultRow.exact(label, "CPU ratio", cpu / times[_PLAIN][1]),
            ResultRow.exact(label, "pictures/s", pictures / wall),
        ]
    seconds = times[_INPUT][0] / _INPUT_BATCHES
    supply = times[best][0] / seconds
    small = copy.deepcopy(config)
    small.task.train_data.global_batch_size = _SMALL_BATCH
    step = _training_step(small, best)
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


def measure_full_size(scope: Scope, data: PreparedData) -> Section:
    """Times single training steps of the published 512x512 model, batch 1; float32 goes before bfloat16."""
    if not scope.full_size_repeats:
        return Section([])
    config = _with_pictures(full_size_config(), data)
    config.task.init_checkpoint = None
    config.task.train_data.global_batch_size = 1
    rows, times = [], {}
    for precision in PRECISIONS:
        before = resident()
        step = _training_step(config, precision)
        times |= interleaved({precision: step}, max(1, scope.full_size_repeats // 2), warm_ups=1)
        wall, cpu = times[precision]
        name = f"hourglass-104 training step, 512x512, {precision}"
        rows += [
            ResultRow.exact(name, "ratio to float32", wall / times["float32"][0]),
            ResultRow.exact(name, "CPU ratio", cpu / times["float32"][1]),
            ResultRow.exact(name, "pictures/s", 1 / wall),
            ResultRow.exact(name, "memory, GiB", (resident() - before) / 2**30),
        ]
        del step
        tf_keras.backend.clear_session()
    return Section(rows)


def _with_pictures(config: cfg.ExperimentConfig, data: PreparedData) -> cfg.ExperimentConfig:
    config.task.seed = 0
    config.task.train_data.input_path = f"{data.records}/train2017-*.tfrecord"
    config.task.train_data.seed = 0
    config.task.train_data.shuffle_buffer_size = 1
    return config


def _training_step(config: cfg.ExperimentConfig, precision: str, jit_compile: bool | None = None):
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
    return lambda: program(*batch)[task.loss].numpy()


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
