"""A small model with random weights, in the folder layout that training writes."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras
from official.core import train_utils

from deepmac import configs
from deepmac.inference.predictor import Predictor, load
from deepmac.modeling.model import build_deepmac

SIZE = 64
_folders = []  # deleted when Python ends


@functools.cache
def model_dir() -> Path:
    """A folder with `params.yaml` and a checkpoint."""
    _folders.append(tempfile.TemporaryDirectory(prefix="deepmac-tiny-"))
    folder = Path(_folders[-1].name)
    config = configs.deepmac_mini()
    config.task.model.input_size = [SIZE, SIZE, 3]
    train_utils.serialize_config(config, str(folder))
    model = build_model(config.task.model)
    items = {"global_step": tf.Variable(0, dtype=tf.int64), "model": model, **model.checkpoint_items}
    optimizer = tf_keras.optimizers.Adam()
    checkpoint = tf.train.Checkpoint(**items, optimizer=optimizer)  # as `official.core.base_trainer`
    tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=1).save(checkpoint_number=12)
    return folder


def build_model(config: configs.DeepMACModelConfig, seed: int = 0):
    """Builds a model with random weights and random statistics; its masks are neither empty nor full."""
    tf_keras.utils.set_random_seed(seed)
    model = build_deepmac(config)
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if "moving_mean" in variable.name:
            variable.assign(rng.normal(0, 0.1, variable.shape))
        elif "moving_variance" in variable.name:
            variable.assign(rng.uniform(0.5, 2.0, variable.shape))
    return model


@functools.cache
def predictor(precision: str = "float32") -> Predictor:
    """The small model, loaded."""
    return load(model_dir(), precision)


def picture(seed: int = 0, height: int = 48, width: int = 80) -> np.ndarray:
    """A smooth random picture, uint8 RGB [height, width, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (1, 6, 6, 3)).astype(np.float32)
    return tf.image.resize(coarse, [height, width])[0].numpy().astype(np.uint8)


def random_boxes(count: int, seed: int = 0) -> np.ndarray:
    """Boxes [count, 4], (ymin, xmin, ymax, xmax) normalised."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 0.6, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(0.1, 0.4, (count, 2))], axis=1)
