"""Exports a model as a graph for other programs, with the inputs and outputs of the published one."""

import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from deepmac import experiments
from deepmac.atomic import atomic_folder
from deepmac.data.preprocessing import network_input, resized_shape
from deepmac.errors import InputError
from deepmac.exported_graph import INPUTS, ExportedGraph
from deepmac.inference import InferenceNetwork, build_model, normalization, trained_model
from deepmac.model_folders import find_model
from deepmac.modeling.deepmac_model import DeepMACModel

# Largest difference that a graph may have from the model it was made of.
TOLERANCE = 1e-4
_DETECTION_HEADS = ("ct_heatmaps", "ct_size", "ct_offset")


def export_saved_model(
    name_or_path: str | os.PathLike, out: str | os.PathLike, input_size: int | None = None
) -> float:
    """Writes a model as a SavedModel of images and boxes, and checks it against the model.

    The signature `serving_default` takes `input_tensor`, uint8 RGB [B, H, W, 3] of any size, and `boxes`,
    float32 [B, N, 4], (ymin, xmin, ymax, xmax) normalised to the picture. It resizes, pads and normalises
    pictures, computes in float32, and gives, as the published graph does:

    - `detection_masks` [B, N, S, S]: mask probabilities inside the given boxes;
    - `detection_boxes` [B, D, 4], (ymin, xmin, ymax, xmax) normalised to the picture, `detection_scores`
      [B, D], `detection_classes` [B, D], category ids, `detection_multiclass_scores` [B, D, classes],
      `num_detections` [B]: the objects the model finds by itself;
    - `detection_boxes_strided` [B, D, 4]: the same boxes in cells of the feature map.

    Args:
        name_or_path: as for `deepmac.load`, except exported graphs.
        out: folder to write `saved_model/` in; new or empty.
        input_size: side of the network input in pixels; the one it was trained with unless given.

    Returns:
        The largest absolute difference of probabilities and scores between the graph and the model.

    Raises:
        InputError: no such model, an exported one, or a graph that differs by more than `TOLERANCE`; then
            nothing is left behind.
        FileExistsError: `out` is not empty.
    """
    source = find_model(name_or_path)
    if source.is_graph:
        raise InputError(f"{source.folder} is an exported graph already: give the model it was made of")
    config, restore = trained_model(source.folder)
    if config.model.detection_generator.use_nms:
        raise InputError("models with task.model.detection_generator.use_nms cannot be exported")
    with atomic_folder(out) as folder:
        model = build_model(config, restore, "float32", input_size)
        graph = _ServedModel(model, config)
        tf.saved_model.save(graph, str(folder / "saved_model"), signatures=graph.serve)
        difference = _largest_difference(folder / "saved_model", model, config)
        if not difference <= TOLERANCE:
            raise InputError(
                f"the exported graph differs from {name_or_path} by {difference:.1e}, more than "
                f"{TOLERANCE:.0e}: nothing was written"
            )
    return difference


class _ServedModel(tf.Module):
    """What a SavedModel holds: a function and the variables it reads; no Keras objects."""

    def __init__(self, model: DeepMACModel, config: experiments.DeepMACTask):
        super().__init__()
        self._variables = list(model.variables)

        def serve(input_tensor, boxes):
            return published_outputs(model, config, input_tensor, boxes)

        signature = [
            tf.TensorSpec([None, None, None, 3], tf.uint8, INPUTS[0]),
            tf.TensorSpec([None, None, 4], tf.float32, INPUTS[1]),
        ]
        self.serve = tf.function(serve, input_signature=signature, autograph=False)


def published_outputs(model: DeepMACModel, config: experiments.DeepMACTask, images, boxes):
    """What the published graph computes; see `export_saved_model` for arguments and results."""
    size = config.model.input_size[0]
    options = normalization(config)
    inputs = tf.map_fn(
        lambda image: network_input(image, size, **options)[0][0],
        images,
        fn_output_signature=tf.TensorSpec([size, size, 3]),
    )
    part = tf.cast(resized_shape(tf.shape(images)[1:3], size), tf.float32) / size
    features = model.backbone(inputs, training=False)
    embeddings = model.head.last_stage(features, ("instance_embedding", "pixel_embedding"))
    boxes *= tf.tile(part, [2])
    logits = model.mask_logits(embeddings["instance_embedding"], embeddings["pixel_embedding"], boxes)
    detections = published_detections(model, model.head.last_stage(features, _DETECTION_HEADS), part)
    return {**detections, "detection_masks": model.probabilities_in_boxes(logits, boxes)}


def published_detections(model: DeepMACModel, maps, parts):
    """Detections as the published graph names and normalises them.

    Args:
        model: the model, whose detections are not filtered by NMS.
        maps: `ct_heatmaps`, `ct_size` and `ct_offset` of the last stage, float32 [B, h, w, channels].
        parts: float32 [..., 2], the part (height, width) of the network input that the picture fills; one
            for all or [B, 2].

    Returns:
        Output name -> float32 tensor; see `export_saved_model`.
    """
    generator = model.detection_generator
    detections = generator({name: [tf.cast(maps[name], tf.float32)] for name in _DETECTION_HEADS})
    options = generator.get_config()
    heat_map = tf.cast(maps["ct_heatmaps"], tf.float32)
    size = tf.constant(options["input_image_dims"], tf.float32)
    picture_sizes = tf.tile(tf.reshape(parts, [-1, 1, 2]) * size, [1, 1, 2])  # (B or 1, 1, 4)
    return {
        "detection_boxes": tf.clip_by_value(detections["boxes"] / picture_sizes, 0.0, 1.0),
        "detection_boxes_strided": detections["boxes"] / options["net_down_scale"],
        "detection_classes": tf.cast(detections["classes"], tf.float32),
        "detection_scores": detections["confidence"],
        "detection_multiclass_scores": _scores_of_all_classes(generator, heat_map, options),
        "num_detections": tf.cast(detections["num_detections"], tf.float32),
    }


def _scores_of_all_classes(generator, heat_map, options):
    """The heat map's values at the detected centres: [B, D, classes]."""
    batch, _, width, num_classes = tf.unstack(tf.shape(heat_map))
    peaks = generator.process_heatmap(heat_map, options["peak_extract_kernel_size"])
    _, rows, columns, _ = generator.get_top_k_peaks(
        peaks, batch, width, num_classes, options["max_detections"]
    )
    return tf.gather_nd(tf.sigmoid(heat_map), tf.stack([rows, columns], axis=-1), batch_dims=1)


def _largest_difference(saved_model: Path, model: DeepMACModel, config) -> float:
    """Compares the graph, read from disk, with the predictor's masks and the whole model's scores."""
    rng = np.random.default_rng(0)
    size = config.model.input_size[0]
    image = rng.integers(0, 256, (size // 2, size * 3 // 4, 3), np.uint8)
    corners = rng.uniform(0, 0.5, (8, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.2, 0.5, (8, 2))], axis=1).astype(np.float32)
    outputs = ExportedGraph(saved_model).outputs(image[np.newaxis], boxes[np.newaxis])

    network = InferenceNetwork(model, config, "float32")
    pixels, part = network.prepare(image)
    [embeddings] = network.encode([pixels])
    masks = network.mask_probs(embeddings, boxes * np.tile(part, 2))
    scores = model(pixels, training=False)["confidence"]
    differences = outputs["detection_masks"][0] - masks, outputs["detection_scores"] - scores
    return max(float(np.abs(difference).max()) for difference in differences)
