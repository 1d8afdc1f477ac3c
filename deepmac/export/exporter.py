"""Writes a model as graphs for other programs; they are kept only if they compute what the model does."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from deepmac import configs
from deepmac.core.errors import InputError
from deepmac.core.files import atomic_folder
from deepmac.data.preprocessing import network_input, pad_to_square, resize_image, resized_shape
from deepmac.export.formats import FORMATS
from deepmac.export.graphs import half_graphs, whole_graph
from deepmac.inference.exported import SIGNATURE
from deepmac.inference.find import GRAPHS_FILE, find_model
from deepmac.inference.load import build_model, most_boxes, normalization, trained_model
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

    Two graphs serve interactive use: `encoder` is run once for a picture, `mask_head` for every set of boxes.
    TFLite and ONNX have each as a file, a SavedModel as signatures; its `serving_default` is the whole model.
    README.md (`readme_template.md`) and graphs.json beside them say what they take and give.

    Args:
        name_or_path: as for `deepmac.load`, except exported graphs.
        out: folder to write; new or empty.
        file_format: one of `FORMATS`; "onnx" needs the packages of the extra `export`.
        input_size: side S of the network input in pixels; the one it was trained with unless given.

    Returns:
        The largest absolute difference between graphs and model, of masks' probabilities and of scores.

    Raises:
        InputError: unknown format, or its packages are missing; `out` is not empty; no such model, an
            exported one, or a graph that differs by more than `TOLERANCE`. Then nothing is left behind.
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
        try:
            written = FORMATS[file_format](graphs, folder)
        except ModuleNotFoundError as error:
            raise InputError(
                f"format {file_format} needs {error.name}: run pip install 'deepmac[export]'"
            ) from error
        difference = _largest_difference(written, model, config)
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
