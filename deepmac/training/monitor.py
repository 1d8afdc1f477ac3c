"""What can go wrong in a training: missing or damaged files, a full disk, losses that are no numbers."""

import contextlib
from collections.abc import Sequence

import tensorflow as tf

from deepmac.core.errors import InputError
from deepmac.data import tfrecords


class LossMonitor:
    """Remembers the first step at which a loss was not a number, and the pictures of that step.

    It watches inside the training loop, which runs many steps without coming back to Python.
    """

    def __init__(self, names: Sequence[str], batch_size: int):
        """Creates its variables, in the strategy's scope; `batch_size` is that of a replica."""
        self._names = list(names)
        self._step = self._variable(tf.constant(-1, tf.int64))
        self._is_bad = self._variable(tf.zeros([len(names)], tf.bool))
        self._pictures = self._variable(tf.fill([batch_size], tf.constant(-1, tf.int64)))

    def update(self, losses, step, source_ids) -> None:
        """Looks at the losses of a step, in a replica.

        Args:
            losses: name -> float scalar.
            step: int scalar.
            source_ids: int64 [B], ids of the step's pictures; another number: not remembered.
        """
        is_bad = ~tf.math.is_finite(tf.stack([losses[name] for name in self._names]))
        is_first = tf.reduce_any(is_bad) & (self._step < 0)
        news = [(self._step, tf.cast(step, tf.int64)), (self._is_bad, is_bad)]
        if source_ids.shape == self._pictures.shape:
            news.append((self._pictures, tf.cast(source_ids, tf.int64)))
        for variable, value in news:
            variable.assign(tf.where(is_first, value, variable))

    def check(self, last_checkpoint: str | None) -> None:
        """Raises `InputError` if a loss was not a number, with the step, the losses and the pictures."""
        parts = (self._step, self._is_bad, self._pictures)
        for step, is_bad, pictures in zip(*map(_local_values, parts), strict=True):
            if step < 0:
                continue
            names = [name for name, bad in zip(self._names, is_bad, strict=True) if bad]
            raise InputError(
                f"training stopped: {', '.join(names)} not finite in step {step + 1} (pictures "
                f"{', '.join(map(str, pictures))}). The last good checkpoint is {last_checkpoint}; lower the "
                "learning rate, or set task.gradient_clip_norm, and run again"
            )

    @staticmethod
    def _variable(value):
        return tf.Variable(value, trainable=False, synchronization=tf.VariableSynchronization.ON_READ)


def _local_values(variable):
    return [value.numpy() for value in tf.distribute.get_strategy().experimental_local_results(variable)]


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
