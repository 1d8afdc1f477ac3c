"""Writes a model as graphs for other programs; they are kept only if they compute what the model does."""

import importlib.util
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
from deepmac.export.graphs import MEANINGS, half_graphs, whole_graph
from deepmac.inference.exported import SIGNATURE
from deepmac.inference.find import find_model
from deepmac.inference.load import build_model, normalization, trained_model
from deepmac.modeling.model import DeepMACModel

# Largest difference that a graph may have from the model it was made of.
TOLERANCE = 1e-4
_README = Path(__file__).with_name("readme_template.md")


def export_model(
    name_or_path: str | os.PathLike,
    out: str | os.PathLike,
    file_format: str = "saved_model",
    input_size: int | None = None,
) -> float:
    """Writes a model as graphs that compute in float32, and checks them against the model.

    Two graphs serve interactive use: `encoder` is run once for a picture, `mask_head` for every set of boxes.
    TFLite and ONNX have each as a file, a SavedModel as signatures; its `serving_default` is the whole model.
    `half_graphs` and `whole_graph` in `deepmac.export.graphs` say what they take and give; so do README.md
    and graphs.json beside them.

    Args:
        name_or_path: as for `deepmac.load`, except exported graphs.
        out: folder to write; new or empty.
        file_format: one of `FORMATS`; "onnx" needs the packages of the extra `export`.
        input_size: side S of the network input in pixels; the one it was trained with unless given.

    Returns:
        The largest absolute difference between graphs and model of probabilities, of scores, and of
        embeddings (these as a part of their largest magnitude).

    Raises:
        InputError: unknown format, or its packages are missing; `out` is not empty; no such model, an
            exported one, or a graph that differs by more than `TOLERANCE`. Then nothing is left behind.
    """
    if file_format not in FORMATS:
        raise InputError(f"unknown format {file_format!r}: choose from {', '.join(FORMATS)}")
    chosen = FORMATS[file_format]
    missing = [name for name in chosen.packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"format {file_format} needs {' and '.join(missing)}: run pip install 'deepmac[export]'"
        )
    source = find_model(name_or_path)
    if source.is_graph:
        raise InputError(f"{source.folder} is an exported graph already: give the model it was made of")
    config, restore = trained_model(source.folder)
    with_whole = file_format == "saved_model"
    if with_whole and config.model.detection_generator.use_nms:
        raise InputError(
            "models with task.model.detection_generator.use_nms cannot be exported as SavedModel: "
            "choose another format, which has no detections"
        )
    with atomic_folder(out) as folder:
        model = build_model(config, restore, "float32", input_size)
        graphs = (whole_graph(model, config) if with_whole else {}) | half_graphs(model, config)
        chosen.write(graphs, folder)
        difference = _largest_difference(chosen.open(folder), model, config)
        if not difference <= TOLERANCE:
            raise InputError(
                f"the exported graph differs from {name_or_path} by {difference:.1e}, more than "
                f"{TOLERANCE:.0e}: nothing was written"
            )
        _describe(
            folder, Path(name_or_path).name, file_format, config.model.input_size[0], difference, graphs
        )
    return difference


def _largest_difference(
    graphs: Mapping[str, Callable[..., dict[str, np.ndarray]]],
    model: DeepMACModel,
    config: configs.DeepMACTaskConfig,
) -> float:
    """Runs graphs and model on a random picture and random boxes; what is compared: see `export_model`."""
    rng = np.random.default_rng(0)
    size = config.model.input_size[0]
    image = rng.integers(0, 256, (size // 2, size * 3 // 4, 3), np.uint8)
    pixels, part = network_input(image, size, **normalization(config))
    embeddings = model.encode(pixels)
    square = pad_to_square(resize_image(image, resized_shape(image.shape[:2], size)), size)
    encoded = graphs["encoder"](image=square.numpy()[np.newaxis])
    differences = [
        _difference(encoded[name], expected) / max(1.0, float(np.abs(expected).max()))
        for name, expected in zip(("instance_embedding", "pixel_embedding"), embeddings, strict=True)
    ]
    for count in (8, 1):  # graphs must take any number of boxes
        corners = rng.uniform(0, 0.5, (1, count, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(0.2, 0.5, corners.shape)], axis=2)
        boxes = boxes.astype(np.float32)  # of the picture
        in_square = boxes * np.tile(part, 2)
        expected = model.probabilities_in_boxes(model.mask_logits(*embeddings, in_square), in_square)
        masks = graphs["mask_head"](**encoded, boxes=in_square)["mask_probs"]
        differences.append(_difference(masks, expected))
        if SIGNATURE in graphs:
            outputs = graphs[SIGNATURE](input_tensor=image[np.newaxis], boxes=boxes)
            scores = model(pixels, training=False)["confidence"]
            differences.append(_difference(outputs["detection_masks"], expected))
            differences.append(_difference(outputs["detection_scores"], scores))
    return max(differences)


def _difference(value: np.ndarray, expected: tf.Tensor) -> float:
    """The largest absolute difference; infinite for another shape or NaN."""
    if value.shape != expected.shape:
        return np.inf
    return float(np.nan_to_num(np.abs(value - expected), nan=np.inf).max())


def _describe(folder: Path, model: str, file_format: str, input_size: int, difference: float, graphs):
    """Writes graphs.json for programs and README.md for people."""
    interfaces, lines = {}, []
    for name, graph in graphs.items():
        tensors = {
            "inputs": {spec.name: spec for spec in graph.input_signature},
            "outputs": graph.get_concrete_function().structured_outputs,
        }
        interfaces[name] = {direction: {} for direction in tensors}
        lines += [f"## {name}: {FORMATS[file_format].place.format(name)}", ""]
        lines += ["| | name | shape | dtype | meaning |", "| --- | --- | --- | --- | --- |"]
        for direction, specs in tensors.items():
            for tensor, spec in specs.items():
                shape, dtype, meaning = spec.shape.as_list(), spec.dtype.name, MEANINGS[tensor]
                interfaces[name][direction][tensor] = {"shape": shape, "dtype": dtype, "meaning": meaning}
                sides = ", ".join("any" if side is None else str(side) for side in shape)
                lines.append(f"| {direction[:-1]} | `{tensor}` | {sides} | {dtype} | {meaning} |")
        lines.append("")
    document = {
        "model": model,
        "format": file_format,
        "input_size": input_size,
        "largest_difference_from_model": float(f"{difference:.1e}"),
        "graphs": interfaces,
    }
    (folder / "graphs.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    text = _README.read_text(encoding="utf-8").format(interfaces="\n".join(lines), **document)
    (folder / "README.md").write_text(text, encoding="utf-8")
