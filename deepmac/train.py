"""Trains and evaluates: `python -m deepmac.train` with Model Garden's flags.

    python -m deepmac.train --experiment=deepmac_mini --mode=train_and_eval --model_dir=DIR \\
        --config_file=configs/mini/voc_only.yaml \\
        --params_override='task.train_data.input_path=scenes/train2017-*.tfrecord'

`runtime.distribution_strategy` in the configuration chooses what it runs on: off, one_device,
mirrored, multi_worker_mirrored or tpu (with `--tpu`). `runtime.mixed_precision_dtype` auto computes in
bfloat16 where the hardware can, in float32 elsewhere.
"""

import sys
from pathlib import Path

import tensorflow as tf
import tf_keras
import yaml
from absl import app, flags, logging
from official.common import flags as model_garden_flags
from official.core import task_factory, train_utils
from official.modeling import performance

from deepmac.core.errors import InputError
from deepmac.data.classes import write_classes
from deepmac.training import (
    devices,
    mask_rcnn,  # noqa: F401  # registers Deep-MARC's experiments and task
    monitor,
    resume,
    task,  # noqa: F401  # registers DeepMAC's
)
from deepmac.training.data_classes import fit_to_data
from deepmac.training.runner import ExperimentRunner


def train(params, mode: str, model_dir: str):
    """Runs an experiment with Model Garden's training library.

    A training that was killed at any moment resumes from the last whole checkpoint. With
    `task.train_data.deterministic`, it then gives what it would have given.

    Args:
        params: `ExperimentConfig`, complete; what it leaves to the data is set as `fit_to_data` says.
        mode: 'train', 'eval', 'train_and_eval', 'train_and_post_eval' or 'continuous_eval'.
        model_dir: where checkpoints, summaries and the configuration go; training resumes from the
            last checkpoint found there.

    Returns:
        (model, logs of the last evaluation; empty unless one ran).

    Raises:
        InputError: wrong configuration, missing or damaged files, no room for checkpoints, or a loss that
            is not a number.
    """
    monitor.check_files(params.task, mode)
    params = params.replace()
    classes = fit_to_data(params.task)
    strategy = devices.build_strategy(params.runtime)
    devices.check_batch_sizes(params.task, strategy, mode)
    if params.task.train_data.deterministic:
        tf.config.experimental.enable_op_determinism()
    if params.task.seed is not None:
        tf_keras.utils.set_random_seed(params.task.seed)
    performance.set_mixed_precision_policy(devices.precision(params.runtime))
    with monitor.explained(model_dir, params.task):
        if devices.is_chief(strategy) and "train" in mode:
            resume.clean_model_dir(model_dir)
            train_utils.serialize_config(params, model_dir)
            if classes:
                write_classes(classes, model_dir)
        first_step = devices.from_chief(strategy, resume.last_step(model_dir))
        with strategy.scope():
            experiment_task = task_factory.get_task(params.task, logging_dir=model_dir)
        experiment_task.first_step = first_step
        return ExperimentRunner(strategy, experiment_task, mode, params, model_dir).run()


def _parse_configuration():
    """Configuration from the flags, with mistakes of the user as `InputError`."""
    files = flags.FLAGS.config_file or []
    for name in files:
        if not Path(name).is_file():
            raise InputError(f"--config_file: no such file: {name}")
    try:
        params = train_utils.parse_configuration(flags.FLAGS, lock_return=False)
    except (KeyError, ValueError, TypeError, LookupError, yaml.YAMLError) as error:
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise InputError(f"configuration: {message}") from error
    if flags.FLAGS.deterministic:
        params.task.train_data.deterministic = True
        params.task.seed = params.task.seed or 0
    params.runtime.mixed_precision_dtype = devices.precision(params.runtime)
    params.lock()
    return params


def main(_):
    """Entry point of `python -m deepmac.train`; exit status 2 and one line for wrong input."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # of information, Model Garden gives hundreds of lines
    try:
        train(_parse_configuration(), flags.FLAGS.mode, flags.FLAGS.model_dir)
    except InputError as error:
        print(f"deepmac: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    model_garden_flags.define_flags()
    flags.DEFINE_bool(
        "deterministic",
        False,
        "Give the same weights every time, also when the training was interrupted and resumed.",
    )
    flags.mark_flags_as_required(["experiment", "mode", "model_dir"])
    app.run(main)
