"""Trains and evaluates: `python -m deepmac.train` with Model Garden's flags.

    python -m deepmac.train --experiment=deepmac_mini --mode=train_and_eval --model_dir=DIR \\
        --config_file=configs/mini/voc_only.yaml \\
        --params_override='task.train_data.input_path=scenes/train2017-*.tfrecord'

`runtime.distribution_strategy` in the configuration chooses what it runs on: off, one_device,
mirrored, multi_worker_mirrored or tpu (with `--tpu`).
"""

import sys
from pathlib import Path

import tensorflow as tf
import tf_keras
import yaml
from absl import app, flags
from official.common import distribute_utils
from official.common import flags as model_garden_flags
from official.core import task_factory, train_lib, train_utils
from official.modeling import performance

from deepmac import experiments, task  # noqa: F401  # registers the experiments
from deepmac.errors import InputError
from deepmac.evaluation.files import write_evaluation


def train(params, mode: str, model_dir: str):
    """Runs an experiment with Model Garden's training library.

    Args:
        params: `ExperimentConfig`, complete.
        mode: 'train', 'eval', 'train_and_eval' or 'continuous_eval'.
        model_dir: where checkpoints, summaries and the configuration go; training resumes from the
            last checkpoint found there.

    Returns:
        (model, logs of the last evaluation; empty unless one ran).
    """
    _check_files(params.task, mode)
    if "train" in mode:
        train_utils.serialize_config(params, model_dir)
    if params.task.seed is not None:
        tf_keras.utils.set_random_seed(params.task.seed)
    performance.set_mixed_precision_policy(params.runtime.mixed_precision_dtype or "float32")
    strategy = distribute_utils.get_distribution_strategy(
        distribution_strategy=params.runtime.distribution_strategy,
        all_reduce_alg=params.runtime.all_reduce_alg,
        num_gpus=params.runtime.num_gpus,
        tpu_address=params.runtime.tpu,
    )
    with strategy.scope():
        deepmac_task = task_factory.get_task(params.task, logging_dir=model_dir)
    return train_lib.run_experiment(
        distribution_strategy=strategy,
        task=deepmac_task,
        mode=mode,
        params=params,
        model_dir=model_dir,
        eval_actions=[lambda _: write_evaluation(deepmac_task.evaluators, Path(model_dir))],
    )


def _check_files(task_config, mode: str):
    """Finds missing files before anything is written."""
    patterns = {"validation_data": task_config.validation_data} if "eval" in mode else {}
    if "train" in mode:
        patterns["train_data"] = task_config.train_data
    for name, data in patterns.items():
        for pattern in data.input_path if isinstance(data.input_path, list) else data.input_path.split(","):
            if not tf.io.gfile.glob(pattern.strip()):
                raise InputError(f"task.{name}.input_path: no file matches {pattern}")
    annotations = task_config.annotation_file
    if "eval" in mode and annotations and not tf.io.gfile.exists(annotations):
        raise InputError(f"task.annotation_file: no such file: {annotations}")


def _parse_configuration():
    """Configuration from the flags, with mistakes of the user as `InputError`."""
    files = flags.FLAGS.config_file or []
    for name in files:
        if not Path(name).is_file():
            raise InputError(f"--config_file: no such file: {name}")
    try:
        return train_utils.parse_configuration(flags.FLAGS)
    except (KeyError, ValueError, TypeError, LookupError, yaml.YAMLError) as error:
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise InputError(f"configuration: {message}") from error


def main(_):
    """Entry point of `python -m deepmac.train`; exit status 2 and one line for wrong input."""
    try:
        train(_parse_configuration(), flags.FLAGS.mode, flags.FLAGS.model_dir)
    except InputError as error:
        print(f"deepmac: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    model_garden_flags.define_flags()
    flags.mark_flags_as_required(["experiment", "mode", "model_dir"])
    app.run(main)
