"""Model directories without the state of a training: what is loaded, or trained on from step 0."""

import os

import tensorflow as tf
from official.core import train_utils

from deepmac.modeling.model import DeepMACModel


def save_model(model: DeepMACModel, params, folder: str | os.PathLike) -> None:
    """Writes `params.yaml` and a checkpoint as Model Garden's trainer saves it, of step 0.

    Args:
        model: with its weights.
        params: `ExperimentConfig` it was built from.
        folder: empty folder.
    """
    train_utils.serialize_config(params, str(folder))
    saved = tf.train.Checkpoint(
        global_step=tf.Variable(0, dtype=tf.int64), model=model, **model.checkpoint_items
    )
    tf.train.CheckpointManager(saved, str(folder), max_to_keep=1).save(checkpoint_number=0)
