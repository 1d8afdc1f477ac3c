"""Compares this implementation with reference tensors of the published one, tensor by tensor.

A reference folder holds a folder for each model: `pipeline.config`, `checkpoint/`, `reference.npz` (inputs,
outputs and losses), `predict_io.npz` (pictures with boxes and their masks), and of some `saved_model/` with
`saved_model_io.npz` (the exported graph's input and output).
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from tqdm.auto import tqdm

import deepmac
from deepmac.core.errors import InputError
from deepmac.data.preprocessing import normalize
from deepmac.export.graphs import published_detections, whole_graph
from deepmac.inference.exported import SIGNATURE, ExportedGraph
from deepmac.inference.load import build_model, normalization, trained_model
from deepmac.modeling.mask_losses import MaskBatch
from deepmac.training.task import DeepMACTask

REFERENCE_VARIABLE = "DEEPMAC_REFERENCE_DIR"
_TOLERANCE = 1e-4
COLUMNS = ("folder", "group", "tensor", "shape", "difference", "tolerance")
# What the names of a reference's inputs begin with; everything else was computed.
_INPUTS = ("images", "true_shapes", "boxes", "gt/")
_RAW_OUTPUTS = {
    "object_center": "ct_heatmaps",
    "box/scale": "ct_size",
    "box/offset": "ct_offset",
    "INSTANCE_EMBEDDING": "instance_embedding",
    "PIXEL_EMBEDDING": "pixel_embedding",
    "MASK_LOGITS_GT_BOXES": "mask_logits",
}


def reference_folder(path: str | os.PathLike | None = None) -> Path | None:
    """The reference tensors: the folder given, else the one `DEEPMAC_REFERENCE_DIR` names; None if neither.

    Raises:
        InputError: no such folder.
    """
    path = path or os.environ.get(REFERENCE_VARIABLE)
    if path and not Path(path).is_dir():
        raise InputError(f"no reference tensors at {path}: give their folder, or unset {REFERENCE_VARIABLE}")
    return Path(path) if path else None


def compare(reference_dir: Path | None) -> tuple[pd.DataFrame, str]:
    """Compares every tensor of every model; nothing where `reference_dir` is None.

    Returns:
        A line for each tensor: folder, group (network, loss, detection, predictor, graph or own graph),
        tensor, shape (text), difference (the largest absolute one; infinite if shapes differ), tolerance; and
        a hash of the reference files.
    """
    folders = sorted(path.parent for path in reference_dir.glob("*/reference.npz")) if reference_dir else []
    lines, digest = [], hashlib.sha256()
    for folder in tqdm(folders, unit="model", disable=not folders):
        lines += compare_folder(folder)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            digest.update(path.read_bytes())
    return pd.DataFrame(lines, columns=COLUMNS), digest.hexdigest()


def compare_folder(folder: Path) -> Iterator[tuple]:
    """Yields the lines, see `compare`, of one reference folder."""
    config, restore = trained_model(folder)
    model = build_model(config, restore, "float32")
    reference = _read(folder / "reference.npz")
    ours = _computed(model, config, reference)
    for name in (name for name in reference if not name.startswith(_INPUTS)):
        group = {"post": "detection", "loss": "loss"}.get(name.split("/")[0], "network")
        # The tolerance of logits and losses is relative.
        scale = np.abs(reference[name]).max(initial=0) if group == "loss" or "LOGITS" in name else 1
        yield _line(folder, group, name, ours.get(name), reference[name], scale)

    if (folder / "predict_io.npz").is_file():
        reference = _read(folder / "predict_io.npz")
        predictor = deepmac.load(folder, precision="float32")
        for name in sorted(name for name in reference if name.endswith("/mask_probs")):
            picture = name.removesuffix("/mask_probs")
            predictor.set_image(reference[f"{picture}/image"])
            masks = predictor.predict(reference[f"{picture}/boxes"]).mask_probs
            yield _line(folder, "predictor", f"predictor {name}", masks, reference[name])

    if (folder / "saved_model_io.npz").is_file():
        reference = _read(folder / "saved_model_io.npz")
        image, boxes = reference["image"], reference["boxes"]
        graphs = {
            "graph": ExportedGraph(folder / "saved_model").outputs(image, boxes),
            "own graph": whole_graph(model, config)[SIGNATURE](tf.constant(image), tf.constant(boxes)),
        }
        for group, outputs in graphs.items():
            for name in sorted(name for name in reference if name.startswith("out/")):
                value = outputs.get(name.removeprefix("out/"))
                yield _line(folder, group, f"{group} {name}", value, reference[name])


def _computed(model, config, reference: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
    """What our network computes of a reference's inputs, under the reference's names."""
    images = reference["preprocessed"]
    parts = reference["true_shapes"][:, :2].astype(np.float32) / images.shape[1]
    boxes = tf.constant(reference["gt/boxes_padded"])
    given = tf.constant(reference["boxes"] * np.tile(parts, 2)[:, np.newaxis], tf.float32)
    raw = model({"image": images, "boxes": boxes}, training=False)["raw_output"]
    features = model.backbone(images, training=False)

    def masks(boxes):
        logits = model.mask_logits(raw["instance_embedding"][-1], raw["pixel_embedding"][-1], boxes)
        return model.probabilities_in_boxes(logits, boxes)

    ours = {
        "preprocessed": normalize(tf.constant(reference["images"]), **normalization(config)),
        "masks_from_boxes": masks(given),
    }
    for stage, level in enumerate(config.model.head.input_levels):
        ours[f"pred/extracted_features/{stage}"] = features[level]
        ours |= {f"pred/{name}/{stage}": raw[output][stage] for name, output in _RAW_OUTPUTS.items()}

    detections = published_detections(model, {name: maps[-1] for name, maps in raw.items()}, parts)
    height, width = raw["ct_heatmaps"][-1].shape[1:3]
    found = detections["detection_boxes_strided"] / tf.constant([height, width] * 2, tf.float32)
    ours |= {f"post/{name}": value for name, value in detections.items()}
    ours["post/detection_classes"] -= 1  # references count them from 0
    ours["post/detection_masks"] = masks(found)
    return ours | {f"loss/Loss/{name}": loss for name, loss in _losses(config, raw, reference).items()}


def _losses(config, raw, reference: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
    """The losses of the ground truth, each times its weight, under their published names."""
    config.model.mask_head.max_roi_jitter_ratio = 0.0  # the reference is in inference mode
    boxes = tf.constant(reference["gt/boxes_padded"])
    one_hot = reference["gt/classes_onehot"]
    labels = {
        "boxes": boxes * reference["images"].shape[1],
        "classes": tf.constant(np.where(reference["gt/weights"] > 0, one_hot.argmax(-1) + 1, -1)),
        "unpad_image_shapes": tf.constant(reference["true_shapes"], tf.float32),
    }
    batch = MaskBatch(
        logits=raw["mask_logits"],
        boxes=boxes,
        masks=tf.constant(reference["gt/masks"]),
        classes=tf.constant(reference["gt/class_ids"]),
        weights=tf.constant(reference["gt/weights"]),
        images=tf.constant(reference["preprocessed"]),
    )
    losses = DeepMACTask(config).build_losses(raw, labels, batch)
    weights = config.losses.detection
    return {
        **losses,
        "object_center": weights.object_center_weight * losses["ct_loss"],
        "box/scale": weights.scale_weight * losses["scale_loss"],
        "box/offset": weights.offset_weight * losses["ct_offset_loss"],
    }


def _line(folder: Path, group: str, tensor: str, value, reference: np.ndarray, scale: float = 1.0) -> tuple:
    value = np.asarray(np.nan if value is None else value, np.float64)
    difference = np.inf
    if value.shape == reference.shape:
        # NaN is a difference like no other.
        difference = float(np.nan_to_num(np.abs(value - reference), nan=np.inf).max(initial=0))
    shape = " x ".join(map(str, reference.shape)) or "scalar"
    return folder.name, group, tensor, shape, difference, _TOLERANCE * scale


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)
