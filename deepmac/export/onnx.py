"""Graphs as ONNX files, one each; needs the extra `export`."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import tf2onnx

from deepmac.export.graphs import Graph
from deepmac.inference.folding import folded_graph
from deepmac.inference.load import without_warnings

_SUFFIX = ".onnx"
_OPSET = 17


def write(graphs: Sequence[Graph], folder: Path):
    """Writes a file for each graph into a folder.

    The converter sees weights as inputs of the graph: it copies constants so often that a model of
    a gigabyte would take twenty.
    """
    for graph in graphs:
        traced = graph.function.get_concrete_function()
        graph_def, weights = folded_graph(traced)
        names = {}
        for name, tensor in zip(graph.inputs, traced.inputs[: len(graph.inputs)], strict=True):
            names[tensor.name] = name
            if tensor.op.name not in {node.name for node in graph_def.node}:
                graph_def.node.append(tensor.op.node_def)  # some mask heads do not use all embeddings
        outputs = {tensor.name: name for name, tensor in traced.structured_outputs.items()}
        with without_warnings():
            model, _ = tf2onnx.convert.from_graph_def(
                graph_def,
                input_names=[*names, *weights],
                output_names=list(outputs),
                opset=_OPSET,
                tensors_to_rename=names | outputs,
            )
        _fill_in(model, {name: value.numpy() for name, value in weights.items()})
        path = folder / f"{graph.name}{_SUFFIX}"
        onnx.save(model, str(path))
        onnx.checker.check_model(str(path))


def open_graphs(folder: Path) -> dict[str, Callable[..., dict[str, np.ndarray]]]:
    """Opens what `write` wrote: graph name -> a function of arrays by name, returning arrays by name."""
    return {path.stem: _open(path) for path in folder.glob(f"*{_SUFFIX}")}


def _open(path: Path):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(**inputs):
        return dict(zip(names, session.run(names, inputs), strict=True))

    return run


def _fill_in(model: onnx.ModelProto, weights: dict[str, np.ndarray]):
    """Turns the inputs that stand for weights into weights, kernels in the layout of ONNX."""
    graph = model.graph
    for node in [node for node in graph.node if node.op_type == "Transpose" and node.input[0] in weights]:
        [permutation] = [attribute.ints for attribute in node.attribute if attribute.name == "perm"]
        weights[node.output[0]] = weights[node.input[0]].transpose(permutation)
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for value in [value for value in graph.input if value.name in weights]:
        graph.input.remove(value)
    for name, value in weights.items():
        if name in used:
            graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
