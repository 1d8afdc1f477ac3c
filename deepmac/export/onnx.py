"""Graphs as ONNX files, one each; needs the extra `export`."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import tf2onnx

from deepmac.export.graphs import Graph

_SUFFIX = ".onnx"
_OPSET = 17


def write(graphs: Sequence[Graph], folder: Path):
    """Writes a file for each graph into a folder."""
    for graph in graphs:
        model, _ = tf2onnx.convert.from_function(
            graph.function, input_signature=graph.function.input_signature, opset=_OPSET
        )
        onnx.checker.check_model(model)
        onnx.save(model, str(folder / f"{graph.name}{_SUFFIX}"))


def open_graphs(folder: Path) -> dict[str, Callable[..., dict[str, np.ndarray]]]:
    """Opens what `write` wrote: graph name -> a function of arrays by name, returning arrays by name."""
    return {path.stem: _open(path) for path in folder.glob(f"*{_SUFFIX}")}


def _open(path: Path):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(**inputs):
        return dict(zip(names, session.run(names, inputs), strict=True))

    return run
