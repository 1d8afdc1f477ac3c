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
        _use_standard_upsampling(model)
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


def _use_standard_upsampling(model: onnx.ModelProto):
    """Replaces a coordinate rule of TensorFlow's that ONNX dropped.

    Networks here enlarge by whole factors only, for which rounding down gives the same pixels.
    """
    for node in model.graph.node:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if (
            node.op_type == "Resize"
            and attributes["coordinate_transformation_mode"].s == b"tf_half_pixel_for_nn"
        ):
            attributes["coordinate_transformation_mode"].s = b"asymmetric"
            attributes["nearest_mode"].s = b"floor"
