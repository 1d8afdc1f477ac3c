"""Distribution strategies, what they compute with, and whether batches can be split over their replicas."""

import tensorflow as tf
from official.common import distribute_utils
from official.core.config_definitions import RuntimeConfig

from deepmac.core.errors import InputError
from deepmac.core.machine import resolve_precision


def build_strategy(runtime: RuntimeConfig) -> tf.distribute.Strategy:
    """Builds the strategy that `runtime.distribution_strategy` names; must come before any computation.

    `mirrored` takes `runtime.num_gpus` GPUs, without GPUs all logical CPU devices; `multi_worker_mirrored`
    the workers of TF_CONFIG, or of `runtime.worker_hosts` and `runtime.task_index`.

    Raises:
        InputError: an unknown strategy, or one this machine or configuration does not allow.
    """
    name = runtime.distribution_strategy
    if name == "tpu" and runtime.tpu is None:
        raise InputError("runtime.distribution_strategy tpu needs --tpu: the TPU's name, or local")
    if name == "mirrored" and not runtime.num_gpus:
        return tf.distribute.MirroredStrategy(
            [device.name for device in tf.config.list_logical_devices("CPU")]
        )
    try:
        if name == "multi_worker_mirrored":
            distribute_utils.configure_cluster(runtime.worker_hosts, runtime.task_index)
        return distribute_utils.get_distribution_strategy(
            distribution_strategy=name,
            all_reduce_alg=runtime.all_reduce_alg,
            num_gpus=runtime.num_gpus,
            num_packs=runtime.num_packs,
            tpu_address=runtime.tpu,
        )
    except (ValueError, tf.errors.OpError) as error:
        raise InputError(f"runtime: {str(error).splitlines()[0]}") from error


def precision(runtime: RuntimeConfig) -> str:
    """The dtype to compute in: as configured; 'auto' is bfloat16 on TPUs and where this machine has it."""
    dtype = runtime.mixed_precision_dtype or "float32"
    if dtype != "auto":
        return dtype
    return "bfloat16" if runtime.distribution_strategy == "tpu" else resolve_precision("auto")


def check_batch_sizes(task, strategy: tf.distribute.Strategy, mode: str) -> None:
    """Refuses, with `InputError`, batches of a mode of `runner.train` that replicas cannot share evenly."""
    replicas = strategy.num_replicas_in_sync
    for name, word in (("train_data", "train"), ("validation_data", "eval")):
        size = getattr(task, name).global_batch_size
        if word in mode and size % replicas:
            raise InputError(
                f"task.{name}.global_batch_size {size} must be a multiple of the {replicas} replicas"
            )


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes what all workers share."""
    return strategy.extended.should_checkpoint


def from_chief(strategy: tf.distribute.Strategy, value: int) -> int:
    """The chief's value in all workers, which wait for each other here."""
    if not strategy.extended._in_multi_worker_mode():
        return value
    sent = tf.constant(value if is_chief(strategy) else 0)
    total = strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(lambda: sent), axis=None)
    workers = len(strategy.cluster_resolver.cluster_spec().job_tasks("worker"))
    return int(total) // (strategy.num_replicas_in_sync // workers)
