"""Runs a model's two halves in ONNX Runtime, without TensorFlow: a network for the predictor."""

from pathlib import Path

import numpy as np
import onnxruntime

from deepmac.core.errors import InputError
from deepmac.core.images import fit_square
from deepmac.core.machine import usable_cores
from deepmac.inference.find import read_graphs
from deepmac.inference.network import Network


class OnnxNetwork(Network):
    """What `deepmac export --format onnx` wrote."""

    def __init__(self, folder: Path, cores: int | None = None):
        """Loads `encoder.onnx`, `mask_head.onnx` and `graphs.json`; a call takes so many cores, or all.

        Raises:
            InputError: one of the files is missing or damaged.
        """
        graphs = read_graphs(folder)
        self.input_size: int = graphs["input_size"]
        self.most_boxes = graphs["most_boxes"]
        self._embeddings = list(graphs["graphs"]["encoder"]["outputs"])
        self._encoder = _session(folder / "encoder.onnx", cores)
        self._mask_head = _session(folder / "mask_head.onnx", cores)

    def encode(self, image: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Gives embeddings by name, each [1, h, w, channels]; see `Network`."""
        square, part = fit_square(image, self.input_size)
        maps = self._encoder.run(self._embeddings, {"image": square[np.newaxis]})
        return dict(zip(self._embeddings, maps, strict=True)), part

    def _masks_of_call(self, embeddings: dict[str, np.ndarray], boxes: np.ndarray) -> np.ndarray:
        return self._mask_head.run(["mask_probs"], {**embeddings, "boxes": boxes})[0]


def _session(path: Path, cores: int | None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores or usable_cores()
    options.log_severity_level = 3
    # Within a call threads spin while they wait for each other, which is fastest; between calls they sleep.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no class in common
        raise InputError(f"cannot read {path}: {error}; export the model again") from error
