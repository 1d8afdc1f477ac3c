"""Compares this implementation with reference tensors of the published one, tensor by tensor.

A reference folder holds a folder for each model: `pipeline.config`, `checkpoint/`, `reference.npz` (inputs,
outputs and losses), `predict_io.npz` (pictures with boxes and their masks), and of some `saved_model/` with
`saved_model_io.npz` (the exported graph's input and output).
"""

import dataclasses
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.figure import Figure
from tqdm.auto import tqdm

import deepmac
from deepmac.core.errors import InputError
from deepmac.data.preprocessing import normalize
from deepmac.export.graphs import published_detections, published_outputs
from deepmac.inference.exported import ExportedGraph
from deepmac.inference.load import build_model, normalization, trained_model
from deepmac.modeling.mask_losses import MaskBatch
from deepmac.suite import results
from deepmac.training.task import DeepMACTask

METRIC = "largest absolute difference"
REFERENCE_VARIABLE = "DEEPMAC_REFERENCE_DIR"
_TOLERANCE = 1e-4
# Group of tensors -> the claim about it.
CLAIMS = {
    "network": "the published weights give the published network's outputs",
    "loss": "the losses are the published ones",
    "detection": "the same objects are detected, with the same boxes, classes, scores and masks",
    "predictor": "the predictor gives the published masks, also for padded and resized pictures",
    "graph": "the published exported graph runs, and gives what it gave when it was published",
    "own graph": "a graph exported here gives what the published one gives",
}
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


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How far a tensor is from its reference.

    Attributes:
        folder: the reference folder's name.
        tensor: the tensor's name.
        group: a key of `CLAIMS`.
        shape: of the tensor.
        difference: largest absolute difference; infinite if shapes differ.
        tolerance: 1e-4; for logits and losses times the reference's largest magnitude.
    """

    folder: str
    tensor: str
    group: str
    shape: tuple[int, ...]
    difference: float
    tolerance: float

    @property
    def within(self) -> bool:
        """Whether the difference is tolerable."""
        return self.difference <= self.tolerance


def reference_folder(path: str | os.PathLike | None = None) -> Path | None:
    """The reference tensors: the folder given, else the one `DEEPMAC_REFERENCE_DIR` names; None if neither.

    Raises:
        InputError: no such folder.
    """
    path = path or os.environ.get(REFERENCE_VARIABLE)
    if not path:
        return None
    if not Path(path).is_dir():
        raise InputError(f"no reference tensors at {path}: give their folder, or unset {REFERENCE_VARIABLE}")
    return Path(path)


def compare(reference_dir: Path | None) -> "Parity":
    """Compares every tensor of every model; nothing where `reference_dir` is None."""
    start = time.monotonic()
    folders = model_folders(reference_dir) if reference_dir else []
    comparisons = [
        line for folder in tqdm(folders, unit="model", disable=not folders) for line in compare_folder(folder)
    ]
    return Parity(comparisons, _sha256(folders), time.monotonic() - start)


def model_folders(reference_dir: Path) -> list[Path]:
    """The folders of a reference folder that hold a model with reference tensors."""
    return sorted(path.parent for path in reference_dir.glob("*/reference.npz"))


def compare_folder(folder: Path) -> list[Comparison]:
    """Compares everything a reference folder has."""
    config, restore = trained_model(folder)
    model = build_model(config, restore, "float32")
    return [
        *_compare_model(folder, config, model),
        *_compare_predictor(folder),
        *_compare_graphs(folder, config, model),
    ]


def _compare_model(folder, config, model) -> Iterator[Comparison]:
    reference = _read(folder / "reference.npz")
    images = reference["preprocessed"]
    size = images.shape[1]
    parts = reference["true_shapes"][:, :2].astype(np.float32) / size
    boxes = tf.constant(reference["gt/boxes_padded"])
    raw = model({"image": images, "boxes": boxes}, training=False)["raw_output"]
    features = model.backbone(images, training=False)

    given = tf.constant(reference["boxes"] * np.tile(parts, 2)[:, np.newaxis], tf.float32)
    ours = {
        "preprocessed": normalize(tf.constant(reference["images"]), **normalization(config)),
        "masks_from_boxes": _masks(model, raw, given),
    }
    for stage, level in enumerate(config.model.head.input_levels):
        ours[f"pred/extracted_features/{stage}"] = features[level]
        ours |= {f"pred/{name}/{stage}": raw[output][stage] for name, output in _RAW_OUTPUTS.items()}
    ours |= {f"post/{name}": value for name, value in _detections(model, raw, parts).items()}
    ours |= {f"loss/Loss/{name}": value for name, value in _losses(config, raw, boxes, reference).items()}

    for name in (name for name in reference if not name.startswith(_INPUTS)):
        group = {"post": "detection", "loss": "loss"}.get(name.split("/")[0], "network")
        relative = group == "loss" or "LOGITS" in name
        yield _comparison(folder, name, group, ours.get(name, np.nan), reference[name], relative)


def _detections(model, raw, parts):
    """Detections of the last stage; `reference.npz` counts classes from 0."""
    detections = published_detections(model, {name: maps[-1] for name, maps in raw.items()}, parts)
    height, width = raw["ct_heatmaps"][-1].shape[1:3]
    boxes = detections["detection_boxes_strided"] / tf.constant([height, width] * 2, tf.float32)
    return {
        **detections,
        "detection_classes": detections["detection_classes"] - 1,
        "detection_masks": _masks(model, raw, boxes),
    }


def _masks(model, raw, boxes):
    logits = model.mask_logits(raw["instance_embedding"][-1], raw["pixel_embedding"][-1], boxes)
    return model.probabilities_in_boxes(logits, boxes)


def _losses(config, raw, boxes, reference):
    """The losses of the ground truth, each times its weight, under their published names."""
    config.model.mask_head.max_roi_jitter_ratio = 0.0  # the reference is in inference mode
    size = reference["images"].shape[1]
    one_hot = reference["gt/classes_onehot"]
    labels = {
        "boxes": boxes * size,
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


def _compare_predictor(folder) -> Iterator[Comparison]:
    if not (folder / "predict_io.npz").is_file():
        return
    reference = _read(folder / "predict_io.npz")
    predictor = deepmac.load(folder, precision="float32")
    for picture in sorted(name.removesuffix("/image") for name in reference if name.endswith("/image")):
        predictor.set_image(reference[f"{picture}/image"])
        masks = predictor.predict(reference[f"{picture}/boxes"]).mask_probs
        name = f"{picture}/mask_probs"
        yield _comparison(folder, f"predictor {name}", "predictor", masks, reference[name])


def _compare_graphs(folder, config, model) -> Iterator[Comparison]:
    if not (folder / "saved_model_io.npz").is_file():
        return
    reference = _read(folder / "saved_model_io.npz")
    image, boxes = reference["image"], reference["boxes"]
    published = ExportedGraph(folder / "saved_model").outputs(image, boxes)
    ours = published_outputs(model, config, tf.constant(image), tf.constant(boxes))
    for group, outputs in (("graph", published), ("own graph", ours)):
        for name in sorted(name for name in reference if name.startswith("out/")):
            value = outputs.get(name.removeprefix("out/"), np.nan)
            yield _comparison(folder, f"{group} {name}", group, value, reference[name])


def _comparison(folder, tensor, group, value, reference, relative=False) -> Comparison:
    value = np.asarray(value, np.float64)
    difference = np.inf
    if value.shape == reference.shape:
        # NaN is a difference like no other.
        difference = float(np.nan_to_num(np.abs(value - reference), nan=np.inf).max(initial=0))
    scale = float(np.abs(reference).max(initial=0)) if relative else 1.0
    return Comparison(folder.name, tensor, group, reference.shape, difference, _TOLERANCE * scale)


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


@dataclasses.dataclass(frozen=True)
class Parity:
    """All comparisons.

    Attributes:
        comparisons: one a tensor; none without reference tensors.
        sha256: hash of the reference files.
        seconds: what the comparison took.
    """

    comparisons: Sequence[Comparison]
    sha256: str
    seconds: float

    def table(self):
        """Shows every tensor as a pandas Styler, the ones beyond their tolerance in red."""
        frame = pd.DataFrame(
            [
                {
                    "folder": line.folder,
                    "tensor": line.tensor,
                    "shape": " x ".join(map(str, line.shape)) or "scalar",
                    METRIC: line.difference,
                    "tolerance": line.tolerance,
                    "within": "yes" if line.within else "no",
                }
                for line in self.comparisons
            ],
            columns=["folder", "tensor", "shape", METRIC, "tolerance", "within"],
        )
        style = frame.style.hide(axis="index").format("{:.1e}", subset=[METRIC, "tolerance"])
        return style.map(lambda word: "color: #a00" if word == "no" else "", subset=["within"])

    def claims(self) -> list[results.Claim]:
        """What the comparisons show, group by group; undecided without reference tensors."""
        claims = []
        for group, text in CLAIMS.items():
            lines = [line for line in self.comparisons if line.group == group]
            if not lines:
                claims.append(results.Claim(text, None, "no reference tensors"))
                continue
            worst = max(lines, key=lambda line: line.difference / line.tolerance)
            within = sum(line.within for line in lines)
            evidence = (
                f"{within} of {len(lines)} tensors within tolerance; the furthest is {worst.folder}, "
                f"{worst.tensor}: {worst.difference:.1e}, tolerance {worst.tolerance:.1e}"
            )
            claims.append(results.Claim(text, within == len(lines), evidence))
        return claims

    def plot(self) -> Figure:
        """Plots every tensor's difference as a part of its tolerance."""
        figure = Figure(figsize=(8, 3.5), layout="constrained")
        axes = figure.subplots()
        names = list(CLAIMS)
        for folder in sorted({line.folder for line in self.comparisons}):
            lines = [line for line in self.comparisons if line.folder == folder]
            parts = [max(line.difference / line.tolerance, 1e-6) for line in lines]  # 0 has no logarithm
            axes.plot(parts, [names.index(line.group) for line in lines], "o", alpha=0.5, label=folder)
        axes.axvline(1, color="#a00", linewidth=1)
        axes.set(xscale="log", xlabel="largest difference / tolerance", yticks=range(len(names)))
        axes.set_yticklabels(names)
        axes.invert_yaxis()
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        return figure

    def write(self, path: str | Path | None, parameters: dict):
        """Writes the results JSON; None writes nothing (interactive use)."""
        if path is None:
            return
        results.write_results(
            path,
            notebook="parity",
            parameters=parameters,
            config_sha256=self.sha256,
            rows=[_result_row(line) for line in self.comparisons],
            claims=self.claims(),
            seconds=self.seconds,
        )


def _result_row(line: Comparison) -> results.ResultRow:
    value = line.difference if np.isfinite(line.difference) else None  # JSON has no infinity
    measurement = results.Measurement.exact(value)
    return results.ResultRow(f"{line.folder}: {line.tensor}", METRIC, measurement)


def _sha256(folders: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in (path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()):
        digest.update(path.read_bytes())
    return digest.hexdigest()
