"""Command lines that train rows outside the suite: on TPUs, one row a slice."""

import shlex
from collections.abc import Iterator
from typing import Any

from deepmac.suite.suite import Row

# Placeholders, to be set in the shell.
PLACEHOLDERS = {
    "TFRECORDS": "what `deepmac tfrecord --coco-dir COCO --out DIR` wrote, here or in a bucket (gs://...)",
    "MODELS": "where models go, here or in a bucket",
    "TPU_NAME": "the TPU",
    "CENTERNET_512_CHECKPOINT": "a CenterNet detector of 512x512, from `deepmac import-checkpoint`",
    "CENTERNET_1024_CHECKPOINT": "one of 1024x1024",
    "DEEPMAC_1024_CHECKPOINT": "a DeepMAC of 1024x1024, likewise imported",
}
_DATA = {
    "runtime.distribution_strategy": "tpu",
    "task.annotation_file": "$TFRECORDS/instances_val2017.json",
    "task.train_data.input_path": "$TFRECORDS/train2017-*",
    "task.validation_data.input_path": "$TFRECORDS/val2017-*",
}


def tpu_command(row: Row) -> str:
    """The command that trains and evaluates a row on a TPU.

    Args:
        row: of a profile on real pictures. Data come from $TFRECORDS, written by `deepmac tfrecord`, the
            model goes to $MODELS; both may be gs://… .

    Returns:
        A line for the shell.
    """
    options = {**dict(_flat(row.overrides)), "task.seed": row.seed, **_DATA}
    if row.init_checkpoint:
        options["task.init_checkpoint"] = row.init_checkpoint
    override = ",".join(f"{name}={_value(value)}" for name, value in options.items())
    arguments = [
        f"--experiment={row.experiment}",
        f"--config_file={shlex.quote(str(row.config_file))}",
        "--mode=train_and_eval",
        f'--params_override="{override}"',  # in double quotes, the shell puts in the variables
        f'--model_dir="$MODELS/{row.key}"',
        '--tpu="$TPU_NAME"',
    ]
    return " ".join(["python -m deepmac.train", *arguments])


def _flat(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _value(value) -> str:
    """A value as Model Garden's `--params_override` reads it."""
    if isinstance(value, list):
        return f"[{','.join(map(_value, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
