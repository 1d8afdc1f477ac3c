"""Trains and evaluates: `python -m deepmac.train` with Model Garden's flags.

    python -m deepmac.train --experiment=deepmac_mini --mode=train_and_eval --model_dir=DIR \\
        --config_file=configs/mini/voc_only.yaml \\
        --params_override='task.train_data.input_path=scenes/train2017-*.tfrecord'

`runtime.distribution_strategy` in the configuration chooses what it runs on: off, one_device,
mirrored, multi_worker_mirrored or tpu (with `--tpu`). `runtime.mixed_precision_dtype` auto computes in
bfloat16 where the hardware can, in float32 elsewhere.
"""

from pathlib import Path

from deepmac.cli.errors import fail
from deepmac.core.errors import InputError, missing_package

try:
    import yaml
    from absl import app, flags, logging
    from official.common import flags as model_garden_flags
    from official.core import exp_factory, train_utils

    from deepmac.training.runner import train
except ModuleNotFoundError as error:
    fail(str(missing_package(error)))


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
        known = exp_factory._REGISTERED_CONFIGS
        if flags.FLAGS.experiment not in known:
            known = [name for name in known if name.startswith("deepmac")]
            message = f"no experiment {flags.FLAGS.experiment!r}: give one of {', '.join(known)}"
        raise InputError(f"configuration: {message}") from error
    if flags.FLAGS.deterministic:
        params.task.train_data.deterministic = True
        params.task.seed = params.task.seed or 0
    params.lock()
    return params


def main(_):
    """Entry point of `python -m deepmac.train`; exit status 2 and one line for wrong input."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # of information, Model Garden gives hundreds of lines
    try:
        train(_parse_configuration(), flags.FLAGS.mode, flags.FLAGS.model_dir)
    except InputError as error:
        fail(str(error))


if __name__ == "__main__":
    model_garden_flags.define_flags()
    flags.DEFINE_bool(
        "deterministic",
        False,
        "Give the same weights every time, also when the training was interrupted and resumed.",
    )
    flags.mark_flags_as_required(["experiment", "mode", "model_dir"])
    app.run(main)
