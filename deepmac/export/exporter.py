"""Writes a model in a format of choice; what was written is kept only if it computes what the model does."""

import importlib
import importlib.util
import os

from deepmac.core.errors import InputError
from deepmac.core.files import atomic_folder
from deepmac.export.comparison import largest_difference
from deepmac.export.description import write_description
from deepmac.export.graphs import encoder_graph, mask_head_graph, whole_graph
from deepmac.inference.find import find_model
from deepmac.inference.load import build_model, trained_model

# Name -> module that writes and opens the format.
_MODULES = {
    "saved_model": "deepmac.export.saved_model",
    "tflite": "deepmac.export.tflite",
    "onnx": "deepmac.export.onnx",
}
FORMATS = tuple(_MODULES)
# Name -> packages of the extra `export` that it needs.
_PACKAGES = {"onnx": ("onnx", "onnxruntime", "tf2onnx")}
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

    - `encoder` takes `image`, float32 [1, S, S, 3], RGB from 0 to 255: the picture resized so that its
      longer side is S (`deepmac.data.preprocessing.resize_image`), zeros below or to the right.
      Normalisation is inside. It gives `instance_embedding` [1, h, w, E] and `pixel_embedding`
      [1, h, w, D], float32.
    - `mask_head` takes these and `boxes`, float32 [1, N, 4], (ymin, xmin, ymax, xmax) normalised to the
      square S x S, for any N from 1, and gives `mask_probs`, float32 [1, N, M, M]: probabilities inside each
      box, edge to edge.

    TFLite and ONNX have each as a file: `encoder.tflite`, `mask_head.tflite`; `encoder.onnx`,
    `mask_head.onnx`. In TFLite the input `boxes` is resized to the number of boxes, 1 at first. A SavedModel
    has them as signatures, and as `serving_default` the whole model, with the inputs and outputs of the
    published graph. It takes `input_tensor`, uint8 RGB [B, H, W, 3] of any size, and `boxes`, float32
    [B, N, 4], (ymin, xmin, ymax, xmax) normalised to the picture. It resizes, pads and normalises pictures,
    and gives, in float32:

    - `detection_masks` [B, N, M, M]: mask probabilities inside the given boxes;
    - `detection_boxes` [B, D, 4], (ymin, xmin, ymax, xmax) normalised to the picture, `detection_scores`
      [B, D], `detection_classes` [B, D], category ids, `detection_multiclass_scores` [B, D, classes],
      `num_detections` [B]: the objects the model finds by itself;
    - `detection_boxes_strided` [B, D, 4]: the same boxes in cells of the feature map.

    Beside the graphs, README.md and graphs.json say what each takes and gives.

    Args:
        name_or_path: as for `deepmac.load`, except exported graphs.
        out: folder to write; new or empty.
        file_format: one of `FORMATS`; "onnx" needs the packages of the extra `export`.
        input_size: side S of the network input in pixels; the one it was trained with unless given.

    Returns:
        The largest absolute difference between graphs and model of probabilities, of scores, and of
        embeddings (these as a part of their largest magnitude).

    Raises:
        InputError: unknown format, or its packages are missing; no such model, an exported one, or a graph
            that differs by more than `TOLERANCE`. Then nothing is left behind.
        InputError: `out` is not empty.
    """
    _check_format(file_format)
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
    module = importlib.import_module(_MODULES[file_format])
    with atomic_folder(out) as folder:
        model = build_model(config, restore, "float32", input_size)
        graphs = [encoder_graph(model, config), mask_head_graph(model, config)]
        if with_whole:
            graphs.insert(0, whole_graph(model, config))
        module.write(graphs, folder)
        difference = largest_difference(module.open_graphs(folder), model, config)
        if not difference <= TOLERANCE:
            raise InputError(
                f"the exported graph differs from {name_or_path} by {difference:.1e}, more than "
                f"{TOLERANCE:.0e}: nothing was written"
            )
        write_description(folder, str(name_or_path), file_format, graphs, config, difference)
    return difference


def _check_format(file_format: str):
    if file_format not in FORMATS:
        raise InputError(f"unknown format {file_format!r}: choose from {', '.join(FORMATS)}")
    missing = [name for name in _PACKAGES.get(file_format, ()) if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"format {file_format} needs {' and '.join(missing)}: run pip install 'deepmac[export]'"
        )
