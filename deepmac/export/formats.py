"""Writes graphs as SavedModel, TFLite or ONNX files, and opens them again."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from deepmac.inference.exported import read_saved_model
from deepmac.inference.folding import folded_graph
from deepmac.inference.load import without_warnings

_ONNX_OPSET = 17


@dataclasses.dataclass(frozen=True)
class Format:
    """How graphs are stored.

    Attributes:
        write: takes graph name -> function with an input signature, and the folder to write into.
        open: takes the folder; returns graph name -> function of arrays by name that returns arrays by name.
        place: where a graph is, "{}" standing for its name.
        packages: of the extra `export` that it needs.
    """

    write: Callable[[Mapping[str, tf.function], Path], None]
    open: Callable[[Path], dict[str, Callable[..., dict[str, np.ndarray]]]]
    place: str
    packages: tuple[str, ...] = ()


class _Variables(tf.Module):
    """Holds the variables that graphs read, and no Keras objects."""

    def __init__(self, *graphs):
        super().__init__()
        self.held = [variable for graph in graphs for variable in graph.get_concrete_function().variables]


def _write_saved_model(graphs, folder):
    """Writes signatures of one SavedModel, which share their variables."""
    with without_warnings():
        tf.saved_model.save(
            _Variables(*graphs.values()), str(folder / "saved_model"), signatures=dict(graphs)
        )


def _open_saved_model(folder):
    model = read_saved_model(folder / "saved_model")

    def runner(name):
        def run(**inputs):
            tensors = {key: tf.constant(value) for key, value in inputs.items()}
            return {key: value.numpy() for key, value in model.signatures[name](**tensors).items()}

        return run

    return {name: runner(name) for name in model.signatures}


def _write_tflite(graphs, folder):
    for name, graph in graphs.items():
        function = graph.get_concrete_function()
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function], _Variables(graph))
        (folder / f"{name}.tflite").write_bytes(converter.convert())


def _open_tflite(folder):
    with warnings.catch_warnings():
        # It announces the interpreter's removal from later TensorFlows.
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
        return {
            path.stem: tf.lite.Interpreter(str(path)).get_signature_runner()
            for path in folder.glob("*.tflite")
        }


def _write_onnx(graphs, folder):
    """Writes a file for each graph.

    The converter sees weights as inputs of the graph: it copies constants so often that a model of
    a gigabyte would take twenty.
    """
    import onnx
    import tf2onnx

    for graph_name, graph in graphs.items():
        traced = graph.get_concrete_function()
        graph_def, weights = folded_graph(traced)
        names = {
            tensor.name: spec.name for tensor, spec in zip(traced.inputs, graph.input_signature, strict=False)
        }
        present = {node.name for node in graph_def.node}
        for tensor in traced.inputs[: len(names)]:
            if tensor.op.name not in present:
                graph_def.node.append(tensor.op.node_def)  # some mask heads do not use all embeddings
        outputs = {tensor.name: name for name, tensor in traced.structured_outputs.items()}
        with without_warnings():
            model, _ = tf2onnx.convert.from_graph_def(
                graph_def,
                input_names=[*names, *weights],
                output_names=list(outputs),
                opset=_ONNX_OPSET,
                tensors_to_rename=names | outputs,
            )
        _fill_in(model.graph, {name: value.numpy() for name, value in weights.items()})
        path = str(folder / f"{graph_name}.onnx")
        onnx.save(model, path)
        onnx.checker.check_model(path)


def _fill_in(graph, weights: dict[str, np.ndarray]):
    """Turns the inputs of an ONNX graph that stand for weights into weights, kernels in ONNX's layout."""
    from onnx import numpy_helper

    for node in [node for node in graph.node if node.op_type == "Transpose" and node.input[0] in weights]:
        [permutation] = [attribute.ints for attribute in node.attribute if attribute.name == "perm"]
        weights[node.output[0]] = weights[node.input[0]].transpose(permutation)
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for value in [value for value in graph.input if value.name in weights]:
        graph.input.remove(value)
    for name, value in weights.items():
        if name in used:
            graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))


def _open_onnx(folder):
    import onnxruntime

    def runner(path):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda **inputs: dict(zip(names, session.run(names, inputs), strict=True))

    return {path.stem: runner(path) for path in folder.glob("*.onnx")}


FORMATS = {
    "saved_model": Format(_write_saved_model, _open_saved_model, "signature `{}` of `saved_model/`"),
    "tflite": Format(_write_tflite, _open_tflite, "`{}.tflite`"),
    "onnx": Format(_write_onnx, _open_onnx, "`{}.onnx`", packages=("onnx", "onnxruntime", "tf2onnx")),
}
