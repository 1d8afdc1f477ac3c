"""What can go wrong around a training: missing or damaged files, a full disk."""

import contextlib

import tensorflow as tf

from deepmac.core.errors import InputError
from deepmac.data import tfrecords


def check_files(task, mode: str) -> None:
    """Finds files that a mode of `runner.train` needs and that are missing, before anything is written.

    Raises:
        InputError: naming the option and the file.
    """
    for name, word in (("train_data", "train"), ("validation_data", "eval")):
        paths = getattr(task, name).input_path
        for pattern in paths if isinstance(paths, list) else paths.split(","):
            if word in mode and not tfrecords.record_files([pattern]):
                raise InputError(f"task.{name}.input_path: no file matches {pattern}")
    annotations = task.annotation_file
    if "eval" in mode and annotations and not tf.io.gfile.exists(annotations):
        raise InputError(f"task.annotation_file: no such file: {annotations}")


@contextlib.contextmanager
def explained(model_dir: str, task):
    """Raises `InputError` for damaged records of a task, and for a folder that cannot be written to."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        message = _explanation(error, model_dir, task)
        if message is None:
            raise
        raise InputError(message) from error


def _explanation(error, model_dir, task) -> str | None:
    text = str(error)
    if any(reason in text for reason in ("No space left on device", "File too large", "Disk quota exceeded")):
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
        decode = tfrecords.MaskExampleDecoder(num_keypoints=getattr(data, "num_keypoints", 0)).decode
        files = tfrecords.record_files(data.input_path)
        if damage := tfrecords.find_damage(files, decode):
            return f"task.{name}.input_path: damaged record: {damage}. Write it again with `deepmac tfrecord`"
    return None
