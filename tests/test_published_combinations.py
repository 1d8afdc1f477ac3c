"""Combinations of backbone, mask head, sizes and losses against a model written anew from the definition."""

import numpy as np
import pytest
import tensorflow as tf
from official.core import exp_factory
from published_model import HEADS, PublishedModel, crop, sigmoid

from deepmac import configs  # noqa: F401  # registers the experiments
from deepmac.interop.published import misfits, restore_published
from deepmac.modeling.mask_losses import MaskBatch
from deepmac.modeling.model import build_deepmac
from deepmac.training.task import DeepMACTask

ALLOWED = [1, 3]
# Name -> (model id, stages, type of the mask head, its other options, loss options).
WITHOUT_INSTANCE = {"use_instance_embedding": False}
FULL_RESOLUTION = {"predict_full_resolution_masks": True}
FOCAL = {"type": "focal", "focal": {"gamma": 1.5, "alpha": 0.25}}
DICE_OF_SQUARES = {"type": "dice", "dice": {"squared_normalization": True}}
CONSISTENCY = {"box_consistency_loss_weight": 0.5, "box_consistency_tightness": True}
COMBINATIONS = {
    "two stages": (10, 2, "hourglass20", {"mask_size": 16}, {}),
    "three stages, last alone": (20, 3, "resnet8", {}, {"use_only_last_stage": True}),
    "largest backbone": (52, 2, "resnet4", {}, {}),
    "hourglass32, no coordinates": (10, 1, "hourglass32", {"use_xy": False}, {}),
    "hourglass52, 32 samples": (10, 1, "hourglass52", {"mask_size": 32}, {}),
    "uniform size, odd samples": (10, 1, "hourglass20_uniform_size", {"mask_size": 13}, {}),
    "no shortcut, dice": (
        *(32, 1, "hourglass20_no_shortcut", {"mask_size": 12}),
        {"classification_loss": {"type": "dice"}},
    ),
    "resnet20, no instance, focal": (
        *(10, 2, "resnet20", WITHOUT_INSTANCE | {"mask_size": 9}),
        {"classification_loss": FOCAL},
    ),
    "resnet12 full resolution": (
        *(10, 1, "resnet12", FULL_RESOLUTION | {"postprocess_crop_size": 20}),
        {"classification_loss": DICE_OF_SQUARES},
    ),
    "fully connected": (10, 1, "fully_connected", {"mask_size": 11}, {}),
    "projection": (
        *(10, 2, "embedding_projection"),
        WITHOUT_INSTANCE | FULL_RESOLUTION | {"dim": 6, "use_xy": False, "postprocess_crop_size": 9},
        {},
    ),
    "cond_inst1": (10, 1, "cond_inst1", WITHOUT_INSTANCE | {"num_init_channels": 8, "dim": 9}, {}),
    "cond_inst3": (10, 1, "cond_inst3", WITHOUT_INSTANCE | {"dim": 36 + 20 + 5, "mask_size": 7}, {}),
    "hourglass10 with overlaps": (
        *(20, 2, "hourglass10", {"mask_size": 10}),
        {"ignore_per_class_box_overlap": True, "box_consistency_loss_weight": 2.0},
    ),
    "hourglass10 full resolution, box consistency": (
        *(10, 2, "hourglass10", FULL_RESOLUTION | {"postprocess_crop_size": 8}),
        CONSISTENCY | {"box_consistency_loss_normalize": "normalize_balanced"},
    ),
}


def experiment(model_id, stages, network_type, head, losses):
    config = exp_factory.get_exp_config("deepmac_mini").task
    mask_head = {"num_init_channels": 4, "dim": 5, "pixel_embedding_dim": 6, "mask_size": 8}
    mask_head |= {"network_type": network_type} | head
    size = 128 if model_id == 52 else 64
    config.override(
        {
            "model": {
                "input_size": [size, size, 3],
                "num_classes": 3,
                "backbone": {
                    "hourglass": {"model_id": model_id, "input_channel_dims": 4, "num_hourglasses": stages}
                },
                "head": {"input_levels": [*(f"2_{stage}" for stage in range(stages - 1)), "2"]},
                "mask_head": mask_head,
            },
            "losses": {"mask": {"task_loss_weight": 3.0} | losses},
            "allowed_masked_classes_ids": ALLOWED,
        },
        is_strict=True,
    )
    return config


def ground_truth(size):
    """Boxes [2, 4, 4], classes, weights and masks: boxes of one class overlap, one row is padding."""
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 0.5, (2, 4, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.15, 0.5, (2, 4, 2))], axis=-1).clip(0, 1)
    boxes[:, 1] = (boxes[:, 0] + 0.05).clip(0, 1)
    boxes[1, 3] = 0
    classes = np.array([[1, 1, 2, 3], [3, 3, 1, 0]])
    weights = (classes > 0).astype(np.float32)
    masks = (rng.uniform(size=(2, 4, size, size)) > 0.5) & (classes > 0)[..., np.newaxis, np.newaxis]
    return boxes.astype(np.float32), classes, weights, masks.astype(np.uint8)


def resized(maps, size):
    return np.moveaxis(tf.image.resize(np.moveaxis(maps, 1, -1), [size, size]).numpy(), -1, 1)


def cropped(maps, boxes, size):
    """Maps [B, N, h, w] in their boxes [B, N, 4]."""
    pairs = zip(maps.reshape(-1, *maps.shape[2:]), boxes.reshape(-1, 4), strict=True)
    return np.array([crop(one, box, size) for one, box in pairs]).reshape(*boxes.shape[:2], size, size)


def filled(boxes, size):
    y, x = np.mgrid[:size, :size]
    ymin, xmin, ymax, xmax = (boxes[..., i, np.newaxis, np.newaxis] * size for i in range(4))
    return ((y >= ymin) & (y <= ymax) & (x >= xmin) & (x <= xmax)).astype(float)


def ambiguous(boxes, classes, size):
    """1 where two boxes of the instance's class meet."""
    counts = np.zeros((*boxes.shape[:2], size, size))
    areas = filled(boxes, size)
    for image, n in np.ndindex(*classes.shape):
        same = (classes[image] == classes[image, n]) & (classes[image] > 0)
        counts[image, n] = areas[image][same].sum(axis=0)
    return counts >= 2


def compare(logits, targets, loss, normalize="auto"):
    """The mask loss of each instance, [B, N], of maps [B, N, ...]."""
    axes = tuple(range(2, logits.ndim))
    logits = logits.astype(np.float64)
    p, g = sigmoid(logits), targets
    if loss.type == "dice":
        if loss.dice.squared_normalization:
            p, g = p**2, g**2
        return 1 - 2 * (p * g).sum(axes) / np.maximum(p.sum(axes) + g.sum(axes), 1)
    entropy = g * np.logaddexp(0, -logits) + (1 - g) * np.logaddexp(0, logits)
    if loss.type == "focal":
        correct = p * g + (1 - p) * (1 - g)
        alpha = loss.focal.alpha
        entropy = (1 - correct) ** loss.focal.gamma * entropy * (alpha * g + (1 - alpha) * (1 - g))
    if normalize == "balanced":
        ones, zeros = (part.sum(axes, keepdims=True) for part in (g, 1 - g))
        return (entropy / np.where(g > 0.5, ones, zeros)).sum(axes)
    return entropy.mean(axes)


def expected_losses(config, stages, boxes, classes, weights, masks):
    """Weighted mask losses of the logits of the stages that count."""
    head, loss = config.model.mask_head, config.losses.mask
    allowed = weights * np.isin(classes, ALLOWED)
    estimation, consistency = [], []
    targets = masks.astype(float)
    if not head.predict_full_resolution_masks:
        targets = cropped(masks, boxes, head.mask_size)
    for logits in stages:
        scaled = resized(logits, targets.shape[2]) if logits.shape != targets.shape else logits
        if loss.ignore_per_class_box_overlap:
            scaled = scaled * ~ambiguous(boxes, classes, targets.shape[2])
        estimation.append((compare(scaled, targets, loss.classification_loss) * allowed).sum())
        areas = filled(boxes, logits.shape[2])
        if not head.predict_full_resolution_masks:
            logits, areas = (cropped(maps, boxes, head.mask_size) for maps in (logits, areas))
        total = 0
        normalize = loss.box_consistency_loss_normalize.removeprefix("normalize_")
        for axis in (2, 3):
            predicted, target = logits.max(axis), areas.max(axis)
            if loss.box_consistency_tightness:
                predicted = np.where(target > 0.5, (logits * areas).max(axis), predicted)
            total += compare(predicted, target, loss.classification_loss, normalize)
        consistency.append((total * weights).sum())
    return {
        "deep_mask_estimation": 3.0 * np.mean(estimation) / max(1, np.count_nonzero(allowed)),
        "deep_mask_box_consistency": loss.box_consistency_loss_weight
        * np.mean(consistency)
        / max(1, weights.sum()),
    }


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.nightly) if name == "largest backbone" else name
        for name in COMBINATIONS
    ],
)
def test_combination(name, tmp_path):
    config = experiment(*COMBINATIONS[name])
    size = config.model.input_size[0]
    published = PublishedModel(config.model)
    published.save(tmp_path)
    last_alone = config.losses.mask.use_only_last_stage
    model = build_deepmac(config.model, last_alone)
    report = restore_published(model, tmp_path)
    restored = [tensor for tensor in report if tensor.status == "restored"]
    assert len(restored) == len(model.variables) == len(published.variables)
    assert not misfits(report)

    images = np.random.default_rng(2).normal(size=(2, size, size, 3)).astype(np.float32)
    boxes, classes, weights, masks = ground_truth(size)
    outputs = published.outputs(images)
    raw = model({"image": images, "boxes": boxes}, training=False)["raw_output"]
    stages = COMBINATIONS[name][1]
    for stage in range(stages):
        for ours, theirs in HEADS.items():
            scale = np.abs(outputs[theirs][stage]).max()
            np.testing.assert_allclose(raw[ours][stage], outputs[theirs][stage], atol=1e-5 * scale)
    counted = range(stages)[-1:] if last_alone else range(stages)
    logits = [published.mask_logits(outputs, boxes, stage) for stage in counted]
    for ours, theirs in zip(raw["mask_logits"], logits, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
    np.testing.assert_allclose(
        model.probabilities_in_boxes(raw["mask_logits"][-1], tf.constant(boxes)),
        published.probabilities(logits[-1], boxes),
        atol=1e-4,
    )

    labels = {
        "boxes": tf.constant(np.where(weights[..., np.newaxis] > 0, boxes * size, -1)),
        "classes": tf.constant(np.where(weights > 0, classes, -1)),
        "unpad_image_shapes": tf.constant([[size, size, 3.0]] * 2),
    }
    batch = MaskBatch(
        raw["mask_logits"], *map(tf.constant, (boxes, masks, classes, weights, images)), step=tf.constant(0)
    )
    losses = DeepMACTask(config).build_losses(raw, labels, batch)
    for loss, expected in expected_losses(config, logits, boxes, classes, weights, masks).items():
        if expected:
            np.testing.assert_allclose(losses[loss], expected, rtol=1e-4, err_msg=loss)
