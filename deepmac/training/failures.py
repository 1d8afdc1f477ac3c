"""Turns what can go wrong with files during a training into one line that says what to do."""

import contextlib

import tensorflow as tf

from deepmac.data import decoder, records
from deepmac.errors import InputError

_NO_SPACE = ("No space left on device", "File too large", "Disk quota exceeded")


@contextlib.contextmanager
def explained(model_dir: str, task):
    """Raises `InputError` for damaged records, and for a model directory that cannot be written to.

    Args:
        model_dir: of the training.
        task: `DeepMACTask` configuration, names the records.
    """
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        message = _explanation(error, model_dir, task)
        if message is None:
            raise
        raise InputError(message) from error


def _explanation(error, model_dir, task) -> str | None:
    text = str(error)
    if any(reason in text for reason in _NO_SPACE):
        return (
            f"no space left to write {model_dir}: free some and run again; training goes on from "
            f"{tf.train.latest_checkpoint(model_dir) or 'the start'}"
        )
    if isinstance(error, (PermissionError, NotADirectoryError, tf.errors.PermissionDeniedError)) or (
        isinstance(error, tf.errors.FailedPreconditionError) and ("directory" in text or model_dir in text)
    ):
        return f"cannot write to {model_dir}: {text.splitlines()[0]}"
    if isinstance(error, (tf.errors.DataLossError, tf.errors.InvalidArgumentError)):
        return _damaged_record(task)
    return None


def _damaged_record(task) -> str | None:
    for name in ("train_data", "validation_data"):
        data = getattr(task, name)
        decode = decoder.MaskExampleDecoder(num_keypoints=getattr(data, "num_keypoints", 0)).decode
        files = records.record_files(data.input_path)
        if damage := records.find_damage(files, decode):
            return f"task.{name}.input_path: damaged record: {damage}. Write it again with `deepmac tfrecord`"
    return None
