"""Writes a model as SavedModel, TFLite or ONNX; graphs are kept only if they compute what the model does."""

import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from deepmac import configs
from deepmac.core.errors import InputError
from deepmac.core.files import atomic_folder
from deepmac.data.preprocessing import network_input, pad_to_square, resize_image, resized_shape
from deepmac.export.graphs import half_graphs, whole_graph
from deepmac.inference.exported import SIGNATURE, read_saved_model
from deepmac.inference.find import GRAPHS_FILE, find_model
from deepmac.inference.folding import folded_graph
from deepmac.inference.load import (
    build_model,
    most_boxes,
    normalization,
    trained_model,
    without_warnings,
)
from deepmac.modeling.model import DeepMACModel

# Largest difference that a graph may have from the model it was made of.
TOLERANCE = 1e-4


def export_model(
    name_or_path: str | os.PathLike,
    out: str | os.PathLike,
    file_format: str = "saved_model",
    input_size: int | None = None,
) -> float:
    """Writes a model as graphs that compute in float32, and checks them against the model.

    README.md (`readme_template.md`) and graphs.json beside the graphs say what they take and give.

    Args:
        name_or_path: as for `deepmac.load`, except exported graphs.
        out: folder to write; new or empty.
        file_format: one of `FORMATS`; "onnx" needs the packages of the extra `export`.
        input_size: side S of the network input in pixels; the one it was trained with unless given.

    Returns:
        The largest absolute difference between graphs and model, of masks' probabilities and of scores.

    Raises:
        InputError: unknown format; `out` is not empty; no such model, an exported one, or graphs that differ
            by more than `TOLERANCE`. Then nothing is left behind.
        ModuleNotFoundError: the extra `export` is not installed.
    """
    if file_format not in FORMATS:
        raise InputError(f"unknown format {file_format!r}: choose from {', '.join(FORMATS)}")
    config, restore = trained_model(name_or_path)
    with_whole = file_format == "saved_model"
    if with_whole and config.model.detection_generator.use_nms:
        raise InputError(
            "models with detection_generator.use_nms cannot be exported as SavedModel: choose another format"
        )
    with atomic_folder(out) as folder:
        model = build_model(config, restore, "float32", input_size)
        graphs = (whole_graph(model, config) if with_whole else {}) | half_graphs(model, config)
        difference = _largest_difference(FORMATS[file_format](graphs, folder), model, config)
        if not difference <= TOLERANCE:
            raise InputError(
                f"the exported graph differs from {name_or_path} by {difference:.1e}, more than "
                f"{TOLERANCE:.0e}: nothing was written"
            )
        pixel_embedding = graphs["encoder"].get_concrete_function().structured_outputs["pixel_embedding"]
        document = {
            "model": Path(name_or_path).name,
            "format": file_format,
            "weights_sha256": find_model(name_or_path).weights_sha256,
            "input_size": config.model.input_size[0],
            "most_boxes": most_boxes(config.model.mask_head, pixel_embedding.shape[1:3]),
            "largest_difference_from_model": float(f"{difference:.1e}"),
            "graphs": {
                name: {
                    "inputs": _tensors({spec.name: spec for spec in graph.input_signature}),
                    "outputs": _tensors(graph.get_concrete_function().structured_outputs),
                }
                for name, graph in graphs.items()
            },
        }
        (folder / GRAPHS_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        readme = Path(__file__).with_name("readme_template.md").read_text(encoding="utf-8")
        (folder / "README.md").write_text(readme.format(**document), encoding="utf-8")
    return difference


def _largest_difference(
    graphs: Mapping[str, Callable], model: DeepMACModel, config: configs.DeepMACTaskConfig
) -> float:
    """Runs graphs and model on a random picture; NaN if a value is. See `export_model`."""
    size = config.model.input_size[0]
    image = np.random.default_rng(0).integers(0, 256, (size // 2, size * 3 // 4, 3), np.uint8)
    pixels, part = network_input(image, size, **normalization(config))
    embeddings = model.encode(pixels)
    square = pad_to_square(resize_image(image, resized_shape(image.shape[:2], size)), size)
    encoded = graphs["encoder"](image=square.numpy()[np.newaxis])
    boxes = np.array([[[0.1, 0.2, 0.6, 0.9], [0.4, 0.0, 1.0, 0.5]]], np.float32)  # of the picture
    in_square = boxes * np.tile(part, 2)
    expected = model.mask_probs(*embeddings, in_square)
    masks = graphs["mask_head"](**encoded, boxes=in_square)["mask_probs"]
    differences = [np.abs(masks - expected).max()]
    if SIGNATURE in graphs:
        outputs = graphs[SIGNATURE](input_tensor=image[np.newaxis], boxes=boxes)
        scores = model(pixels, training=False)["confidence"]
        differences.append(np.abs(outputs["detection_masks"] - expected).max())
        differences.append(np.abs(outputs["detection_scores"] - scores).max())
    return float(np.max(differences))


def _tensors(specs: Mapping[str, tf.TensorSpec]) -> dict[str, dict]:
    """Shapes, None for any length, and types by name, fit for JSON."""
    return {name: {"shape": spec.shape.as_list(), "dtype": spec.dtype.name} for name, spec in specs.items()}


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
