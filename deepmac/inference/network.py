"""What computes masks for a predictor: the common part of TensorFlow, ONNX Runtime and exported graphs."""

import abc
import threading
from typing import Any, NamedTuple

import numpy as np

from deepmac.core.errors import InputError

# Of the networks in TensorFlow: with oneDNN's kernels, graphs that several threads run at a time gave other
# masks, and crashed.
TENSORFLOW_LOCK = threading.Lock()


class FoundObjects(NamedTuple):
    """What a network found in a picture, D objects."""

    boxes: np.ndarray  # float32 [D, 4], (ymin, xmin, ymax, xmax) normalised to the network input
    scores: np.ndarray  # float32 [D], 0 to 1
    category_ids: np.ndarray  # int64 [D], as in the annotations the network was trained on
    names: list[str]  # D names of categories


class Network(abc.ABC):
    """Encodes pictures and predicts masks in boxes; safe to use from several threads."""

    input_size: int | None = None  # side of the square input in pixels; None: pictures are used as they are
    precision: str = "float32"  # or "bfloat16"
    most_boxes: int | None = None  # that a call takes, which bounds memory; None: all of a picture
    calibration: tuple[float, float] = (0.0, 1.0)  # intercept and slope of `Prediction.quality`

    @abc.abstractmethod
    def encode(self, image: np.ndarray) -> tuple[Any, np.ndarray]:
        """Encodes a picture.

        Args:
            image: uint8 RGB [H, W, 3].

        Returns:
            What `mask_probs` takes, and float32 [2], the part of the square network input, in height and
            width, that the picture fills.
        """

    def detect(self, image: np.ndarray) -> tuple[Any, np.ndarray, FoundObjects]:
        """As `encode`, with what was found in the picture; InputError: this network has no detector."""
        raise InputError(
            "this model finds no objects: give boxes, or load one of `deepmac finetune` that is not exported"
        )

    def mask_probs(self, embeddings: Any, boxes: np.ndarray) -> np.ndarray:
        """Predicts masks.

        Args:
            embeddings: of one image, from `encode`.
            boxes: float32 [N, 4], (ymin, xmin, ymax, xmax) normalised to the network input.

        Returns:
            float32 [N, S, S], probabilities inside each box.
        """
        step = self.most_boxes or len(boxes)
        calls = (boxes[np.newaxis, start : start + step] for start in range(0, len(boxes), step))
        return np.concatenate([self._masks_of_call(embeddings, call)[0] for call in calls])

    @abc.abstractmethod
    def _masks_of_call(self, embeddings: Any, boxes: np.ndarray) -> np.ndarray:
        """Masks float32 [1, N, S, S] of so many boxes [1, N, 4] as a call takes."""
