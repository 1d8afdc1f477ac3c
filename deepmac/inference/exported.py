"""Runs exported graphs that take an image and boxes, as a network for the predictor."""

from pathlib import Path

import absl.logging
import numpy as np
import tensorflow as tf

from deepmac.core.errors import InputError
from deepmac.inference.network import TENSORFLOW_LOCK, Network

INPUTS = ("input_tensor", "boxes")  # of the published graph's signature
SIGNATURE = "serving_default"


class ExportedGraph(Network):
    """A SavedModel of images and boxes.

    The graph resizes pictures itself and computes everything in every call. All boxes of a picture go
    into one call: masks of published graphs with full-resolution masks depend on how many there are.
    """

    def __init__(self, folder: Path):
        """Loads a SavedModel whose signature takes `input_tensor` and `boxes`, see `outputs`.

        Raises:
            InputError: no SavedModel, a damaged one, or one with another signature.
        """
        self._model = read_saved_model(folder)
        self._run = self._model.signatures.get(SIGNATURE)
        given = () if self._run is None else self._run.structured_input_signature[1]
        if set(given) != set(INPUTS) or "detection_masks" not in self._run.structured_outputs:
            raise InputError(
                f"{folder} takes {', '.join(sorted(given)) or 'nothing'}: graphs of DeepMAC take "
                f"{' and '.join(INPUTS)}, and give detection_masks; export the model with both inputs"
            )

    def encode(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gives the picture, uint8 [1, H, W, 3]: the graph starts from it in every call; see `Network`."""
        return image[np.newaxis], np.ones(2, np.float32)

    def _masks_of_call(self, embeddings: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return self.outputs(embeddings, boxes)["detection_masks"]

    def outputs(self, images, boxes) -> dict[str, np.ndarray]:
        """Everything the graph gives: output name, as in `deepmac.export`, -> array.

        Args:
            images: uint8 [B, H, W, 3].
            boxes: float32 [B, N, 4], (ymin, xmin, ymax, xmax) normalised to the picture.
        """
        with TENSORFLOW_LOCK:
            outputs = self._run(input_tensor=tf.constant(images), boxes=tf.constant(boxes, tf.float32))
            return {name: value.numpy() for name, value in outputs.items()}


def read_saved_model(folder: Path):
    """Loads a SavedModel.

    Raises:
        InputError: none there, or a damaged one.
    """
    verbosity = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.ERROR)  # of gradients that were not exported it would warn
    try:
        return tf.saved_model.load(str(folder))
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise InputError(f"cannot read the SavedModel {folder}: {str(error).splitlines()[0]}") from error
    finally:
        absl.logging.set_verbosity(verbosity)
