"""Writes graphs as SavedModel, TFLite or ONNX files, and opens what was written."""

import warnings

import tensorflow as tf

from deepmac.inference.exported import read_saved_model
from deepmac.inference.folding import folded_graph
from deepmac.inference.load import without_warnings


def _saved_model(graphs, folder):
    """Writes signatures of one SavedModel, which share their variables."""
    path = folder / "saved_model"
    with without_warnings():
        tf.saved_model.save(_holder(graphs.values()), str(path), signatures=dict(graphs))
    model = read_saved_model(path)
    # The functions hold the model, and the model its variables.
    return {name: lambda name=name, **inputs: model.signatures[name](**inputs) for name in model.signatures}


def _tflite(graphs, folder):
    runners = {}
    for name, graph in graphs.items():
        function, path = graph.get_concrete_function(), folder / f"{name}.tflite"
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function], _holder([graph]))
        path.write_bytes(converter.convert())
        with warnings.catch_warnings():
            # It announces the interpreter's removal from later TensorFlows.
            warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
            runners[name] = tf.lite.Interpreter(str(path)).get_signature_runner()
    return runners


def _holder(graphs):
    """Holds the variables that graphs read, and no Keras objects."""
    module = tf.Module()
    module.held = [variable for graph in graphs for variable in graph.get_concrete_function().variables]
    return module


def _onnx(graphs, folder):
    """Writes a file for each graph.

    The converter sees weights as inputs of the graph: it copies constants so often that a model of
    a gigabyte would take twenty.
    """
    import onnx
    import onnxruntime
    import tf2onnx

    sessions = {}
    for graph_name, graph in graphs.items():
        traced = graph.get_concrete_function()
        graph_def, weights = folded_graph(traced)
        inputs = {f"{spec.name}:0": spec.name for spec in graph.input_signature}
        outputs = {tensor.name: name for name, tensor in traced.structured_outputs.items()}
        with without_warnings():
            model, _ = tf2onnx.convert.from_graph_def(
                graph_def,
                input_names=[*inputs, *weights],
                output_names=list(outputs),
                opset=17,
                tensors_to_rename=inputs | outputs,
            )
        for value in [value for value in model.graph.input if value.name in weights]:
            model.graph.input.remove(value)
            weight = onnx.numpy_helper.from_array(weights[value.name].numpy(), value.name)
            model.graph.initializer.append(weight)
        path = str(folder / f"{graph_name}.onnx")
        onnx.save(model, path)
        onnx.checker.check_model(path)
        sessions[graph_name] = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(name, inputs):
        names = [output.name for output in sessions[name].get_outputs()]
        return dict(zip(names, sessions[name].run(names, inputs), strict=True))

    return {name: lambda name=name, **inputs: run(name, inputs) for name in sessions}


# Format -> what writes graphs (name -> function with an input signature) into a folder, and returns them as
# users open them: name -> function of arrays by name that returns tensors or arrays by name.
FORMATS = {"saved_model": _saved_model, "tflite": _tflite, "onnx": _onnx}
