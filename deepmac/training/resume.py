"""The state a killed training left behind: which checkpoint is whole, what can go."""

import json
import re
from pathlib import Path

import tensorflow as tf
from absl import logging

DAMAGED_PREFIX = "damaged-"


def last_step(model_dir: str) -> int:
    """The step of the last checkpoint of a model directory, 0 without one."""
    checkpoint = tf.train.latest_checkpoint(model_dir)
    return int(re.search(r"-(\d+)$", checkpoint)[1]) if checkpoint else 0


def clean_model_dir(model_dir: str) -> None:
    """Makes a model directory ready to be resumed.

    TensorFlow writes a checkpoint under temporary names, renames its files, and then replaces the file
    `checkpoint` that names the last ones. So a killed process leaves at most temporary files, which are
    deleted here. Checkpoints that do not read back to the last byte (a full disk, a lost block) are renamed
    to `damaged-…`, with a warning, and the one before counts.
    """
    if not tf.io.gfile.isdir(model_dir):
        return
    for name in tf.io.gfile.glob(f"{model_dir}/ckpt-*_temp"):
        tf.io.gfile.rmtree(name)
    for name in tf.io.gfile.glob(f"{model_dir}/*.tempstate*") + tf.io.gfile.glob(f"{model_dir}/*.tmp*"):
        tf.io.gfile.remove(name)
    _forget_half_written_best(f"{model_dir}/best_ckpt/info.json")
    state = tf.train.get_checkpoint_state(model_dir)
    checkpoints = list(state.all_model_checkpoint_paths) if state else []
    whole = list(checkpoints)
    while whole and (problem := checkpoint_problem(whole[-1])):
        damaged = whole.pop()
        logging.warning(
            "%s is damaged (%s): %s",
            damaged,
            problem,
            f"going back to {whole[-1]}" if whole else "starting anew",
        )
        for path in tf.io.gfile.glob(f"{damaged}.*"):
            folder, _, name = path.rpartition("/")
            tf.io.gfile.rename(path, f"{folder}/{DAMAGED_PREFIX}{name}", overwrite=True)
    if whole != checkpoints:
        if whole:
            # Named without their folder, as TensorFlow does for a relative one: it may be copied elsewhere.
            names = [Path(name).name for name in whole] if Path(model_dir).is_absolute() else whole
            tf.compat.v1.train.update_checkpoint_state(model_dir, names[-1], names)
        else:
            tf.io.gfile.remove(f"{model_dir}/checkpoint")


def checkpoint_problem(prefix: str) -> str | None:
    """Why a checkpoint cannot be read; None if every tensor has its checksum."""
    try:
        reader = tf.train.load_checkpoint(prefix)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, IndexError, RuntimeError, ValueError) as error:
        return str(error).split("\n")[0]
    return None


def _forget_half_written_best(path):
    """Model Garden writes the figures of the best checkpoint in place."""
    try:
        with tf.io.gfile.GFile(path) as file:
            json.load(file)
    except tf.errors.NotFoundError:
        pass
    except ValueError:
        logging.warning("%s is damaged: the best checkpoint is chosen anew", path)
        tf.io.gfile.remove(path)
