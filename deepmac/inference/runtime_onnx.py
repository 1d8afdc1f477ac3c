"""Runs a model's two halves in ONNX Runtime, without TensorFlow: a network for the predictor."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from deepmac.core.errors import InputError
from deepmac.core.images import fit_square
from deepmac.core.machine import usable_cores
from deepmac.inference.find import read_graphs


class OnnxNetwork:
    """What `deepmac export --format onnx` wrote, as `deepmac.inference.predictor.Network`."""

    precision = "float32"
    calibration = (0.0, 1.0)

    def __init__(self, folder: Path, cores: int | None = None):
        """Loads both halves.

        Args:
            folder: with `encoder.onnx`, `mask_head.onnx` and `graphs.json`.
            cores: that a call takes; all of them unless given.

        Raises:
            InputError: one of them is missing or damaged.
        """
        graphs = read_graphs(folder)
        self.input_size: int = graphs["input_size"]
        self._most_boxes: int | None = graphs["most_boxes"]
        self._embeddings = list(graphs["graphs"]["encoder"]["outputs"])
        self._encoder = _session(folder / "encoder.onnx", cores)
        self._mask_head = _session(folder / "mask_head.onnx", cores)

    def prepare(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Brings a picture, uint8 RGB [H, W, 3], to the network's size, float32 [1, S, S, 3]."""
        square, part = fit_square(image, self.input_size)
        return square[np.newaxis], part

    def encode(self, pixels: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """Gives for each input its embeddings by name, each [1, h, w, channels]."""
        maps = self._encoder.run(self._embeddings, {"image": np.concatenate(pixels)})
        return [
            {name: part[i : i + 1] for name, part in zip(self._embeddings, maps, strict=True)}
            for i in range(len(pixels))
        ]

    def detect(self, pixels: Sequence[np.ndarray]):
        """Raises InputError: the halves take boxes."""
        raise InputError("ONNX files have no detector: give boxes, or load a finetuned model in TensorFlow")

    def mask_probs(self, embeddings: dict[str, np.ndarray], boxes: np.ndarray) -> np.ndarray:
        """Predicts masks, of so many boxes at once that memory is bounded."""
        step = self._most_boxes or len(boxes)
        calls = (boxes[np.newaxis, start : start + step] for start in range(0, len(boxes), step))
        parts = [self._mask_head.run(["mask_probs"], {**embeddings, "boxes": call})[0][0] for call in calls]
        return np.concatenate(parts)


def _session(path: Path, cores: int | None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores or usable_cores()
    options.log_severity_level = 3
    # Threads that spin while they wait for each other take a third of the time of a machine with other work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no class in common
        raise InputError(f"cannot read {path}: {error}; export the model again") from error
