"""The mask losses of DeepMAC: masks of the allowed classes, and weak supervision of all classes.

`MASK_LOSSES`, at the end, lists them: what is logged, shown and weighted follows from it.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from deepmac import configs
from deepmac.core.errors import InputError
from deepmac.modeling import roi, self_supervision, weak_losses
from deepmac.modeling.pixel_losses import pixel_loss


@dataclasses.dataclass
class MaskBatch:
    """What mask losses are computed from: N boxes in each of B pictures.

    Attributes:
        logits: list over the stages that count (see `build_deepmac`) of float [B, N, h, w].
        boxes: float32 [B, N, 4] (ymin, xmin, ymax, xmax) normalised ground truth.
        masks: uint8 or float [B, N, H, W], 0 or 1, at network-input resolution.
        classes: int [B, N] category ids, 0 for padding.
        weights: float32 [B, N], 1 for instances, 0 for padding.
        images: float [B, H, W, 3] as the network sees them (BGR, normalised).
        has_masks: float32 [B, N], 1 for instances whose mask is known; None means all.
        crop_boxes: float32 [B, N, 4], the jittered boxes that crop the targets; None means `boxes`.
        restored_logits: like `logits`, from `self_supervision.restore_masks`; None without.
        keypoints: float32 [B, N, K, 2] (y, x) normalised to the image, NaN where unknown; None without.
        keypoint_depths: float32 [B, N, K], above 0 on the object, else background.
        step: int scalar, the training step the warm-ups depend on; None outside training: no warm-up.
    """

    logits: list
    boxes: tf.Tensor
    masks: tf.Tensor
    classes: tf.Tensor
    weights: tf.Tensor
    images: tf.Tensor
    has_masks: tf.Tensor | None = None
    crop_boxes: tf.Tensor | None = None
    restored_logits: list | None = None
    keypoints: tf.Tensor | None = None
    keypoint_depths: tf.Tensor | None = None
    step: tf.Tensor | None = None

    def __post_init__(self):
        self.logits = [tf.cast(logits, tf.float32) for logits in self.logits]
        if self.has_masks is None:
            self.has_masks = tf.ones_like(self.weights)
        if self.crop_boxes is None:
            self.crop_boxes = self.boxes


class MaskLoss(NamedTuple):
    """A loss of every instance.

    Attributes:
        name: in logs, that of the published code.
        label: short name, in the line a training prints.
        weight_field: field of `MaskLossConfig`, and of the published pipeline config, with its weight.
        compute: (`MaskBatch`, `MaskLossConfig`, `MaskHeadConfig`) -> list over stages of float32 [B, N];
            None, which counts as 0, where the batch or the masks' resolution do not allow it.
        needs_masks: whether only instances with masks count, of the classes whose masks may be used.
    """

    name: str
    label: str
    weight_field: str
    compute: Callable
    needs_masks: bool = False

    def weight(self, config: configs.MaskLossConfig) -> float:
        """What the loss is multiplied by."""
        return getattr(config, self.weight_field)


def active_losses(config: configs.MaskLossConfig) -> list[MaskLoss]:
    """The losses that count: all whose weight is above 0."""
    return [loss for loss in MASK_LOSSES if loss.weight(config) > 0]


def loss_names(config: configs.MaskLossConfig) -> list[str]:
    """Names of the losses `mask_losses` returns."""
    return [loss.name for loss in active_losses(config)]


def uses_boxes_of_all_classes(config: configs.MaskLossConfig) -> bool:
    """Whether a loss learns from boxes without masks, and of classes whose masks may not be used."""
    return not all(loss.needs_masks for loss in active_losses(config))


def mask_losses(
    batch: MaskBatch, config: configs.MaskLossConfig, head: configs.MaskHeadConfig, allowed_ids=()
) -> dict[str, tf.Tensor]:
    """All mask losses of a batch, each times its configured weight and averaged over the stages.

    With the loss l_i of instance i, its weight w_i and a_i = 1 for known masks of allowed classes, else 0,
    a loss that needs masks is sum(w_i a_i l_i) / max(1, number of i with w_i a_i > 0). The others take all
    instances: sum(w_i l_i) / max(1, sum(w_i)).

    Args:
        batch: logits and ground truth.
        config: losses and weights.
        head: whether logits cover the RoI or the image, and `mask_size`.
        allowed_ids: category ids whose masks may be used; empty means all.

    Returns:
        Loss name -> float32 scalar, the names as `loss_names` lists them.

    Raises:
        InputError: options that do not fit together.
    """
    losses = {}
    for loss in active_losses(config):
        stages = loss.compute(batch, config, head)
        if stages is None:
            losses[loss.name] = tf.constant(0.0)
            continue
        weights = batch.weights
        if loss.needs_masks:
            weights = weights * batch.has_masks * is_allowed(batch.classes, allowed_ids)
            count = tf.math.count_nonzero(weights > 0, dtype=tf.float32)
        else:
            count = tf.reduce_sum(weights)
        total = tf.add_n([tf.reduce_sum(values * weights) for values in stages])
        losses[loss.name] = loss.weight(config) * (total / (len(stages) * tf.maximum(count, 1.0)))
    return losses


def mask_loss(logits, targets, config: configs.MaskClassificationLossConfig, boxes=None, classes=None):
    """Compares the mask logits of every instance with its target, see `pixel_loss`.

    Args:
        logits: float32 [B, N, h, w]; resized bilinearly when the target's size differs.
        targets: float32 [B, N, H, W], from 0 to 1.
        config: how they are compared.
        boxes: float32 [B, N, 4] normalised, used with `classes`.
        classes: int [B, N] category ids; where boxes of one class overlap, the logits of that class become
            0 (`ignore_per_class_box_overlap`). None: the logits stay.

    Returns:
        float32 [B, N].
    """
    size = roi.map_size(targets, axis=2)
    if logits.shape[2:] != targets.shape[2:]:
        logits = roi.resize_maps(logits, *size)
    if classes is not None:
        logits *= unambiguous_pixels(boxes, classes, *size)
    return pixel_loss(roi.flatten_maps(logits), roi.flatten_maps(targets), config)


def mask_targets(masks, crop_boxes, config: configs.MaskHeadConfig):
    """What the logits are compared with, without gradient.

    Returns:
        Soft crops float32 [B, N, S, S] of masks [B, N, H, W] by boxes float32 [B, N, 4], normalised, S being
        `mask_size`; at full resolution the whole masks, float32 [B, N, H, W].
    """
    masks = tf.cast(masks, tf.float32)
    if config.predict_full_resolution_masks:
        return tf.stop_gradient(masks)
    return tf.stop_gradient(roi.crop_maps(masks, crop_boxes, config.mask_size))


def unambiguous_pixels(boxes, classes, height, width):
    """0 where two or more boxes of an instance's class meet, else 1: float32 [B, N, height, width].

    Boxes are float32 [B, N, 4] normalised, classes int [B, N] category ids; 0, for padding, never counts.
    """
    same_class = (classes[:, :, tf.newaxis] == classes[:, tf.newaxis]) & (classes[:, tf.newaxis] > 0)
    filled = roi.fill_boxes(boxes, height, width)
    counts = tf.einsum("bij,bjhw->bihw", tf.cast(same_class, tf.float32), filled)
    return tf.cast(counts < 1.5, tf.float32)


def is_allowed(classes, allowed_ids):
    """1 for classes whose masks may be used, else 0: float32 of the shape of `classes`; empty means all."""
    if not allowed_ids:
        return tf.ones_like(classes, tf.float32)
    matches = classes[..., tf.newaxis] == tf.constant(allowed_ids, classes.dtype)
    return tf.cast(tf.reduce_any(matches, axis=-1), tf.float32)


def warmup_factor(step, start: int, steps: int):
    """clip((step - start) / steps, 0, 1), float32; 1 outside training (`step` None) or if `steps` is 0."""
    if step is None or steps == 0:
        return tf.constant(1.0)
    return tf.clip_by_value((tf.cast(step, tf.float32) - start) / steps, 0.0, 1.0)


def _estimation(batch, config, head):
    targets = mask_targets(batch.masks, batch.crop_boxes, head)
    classes = batch.classes if config.ignore_per_class_box_overlap else None
    return [
        mask_loss(logits, targets, config.classification_loss, batch.crop_boxes, classes)
        for logits in batch.logits
    ]


def _dice(batch, config, head):
    dice = configs.MaskClassificationLossConfig(type="dice")
    return _estimation(batch, config.replace(classification_loss=dice), head)


def _box_consistency(batch, config, head):
    crop_boxes = None if head.predict_full_resolution_masks else batch.crop_boxes
    return [
        weak_losses.box_consistency_loss(logits, batch.boxes, config, crop_boxes) for logits in batch.logits
    ]


def _color_consistency(batch, config, head):
    if not head.predict_full_resolution_masks:
        return None
    lab_images = weak_losses.network_input_to_lab(batch.images, roi.map_size(batch.logits[0], axis=2))
    warmup = warmup_factor(
        batch.step, config.color_consistency_warmup_start, config.color_consistency_warmup_steps
    )
    return [
        warmup * weak_losses.color_consistency_loss(logits, batch.boxes, lab_images, config)
        for logits in batch.logits
    ]


def _self_supervision(batch, config, head):
    if batch.restored_logits is None:
        return None
    warmup = warmup_factor(
        batch.step,
        config.augmented_self_supervision_warmup_start,
        config.augmented_self_supervision_warmup_steps,
    )
    comparison = config.augmented_self_supervision_loss
    return [
        warmup * self_supervision.self_supervision_loss(logits, truth, batch.boxes, comparison)
        for logits, truth in zip(batch.logits, batch.restored_logits, strict=True)
    ]


def _point_supervision(batch, config, head):
    if batch.keypoints is None:
        return None
    if not head.predict_full_resolution_masks:
        raise InputError(
            "losses.mask.pointly_supervised_keypoint_loss_weight needs full-resolution masks: "
            "set model.mask_head.predict_full_resolution_masks"
        )
    return [
        weak_losses.point_supervision_loss(
            logits, batch.keypoints, batch.keypoint_depths, config.classification_loss
        )
        for logits in batch.logits
    ]


ESTIMATION = MaskLoss("deep_mask_estimation", "mask", "task_loss_weight", _estimation, needs_masks=True)
DICE = MaskLoss("deep_mask_dice", "dice", "dice_loss_weight", _dice, needs_masks=True)
BOX_CONSISTENCY = MaskLoss(
    "deep_mask_box_consistency", "box consistency", "box_consistency_loss_weight", _box_consistency
)
COLOR_CONSISTENCY = MaskLoss(
    "deep_mask_color_consistency", "colour consistency", "color_consistency_loss_weight", _color_consistency
)
SELF_SUPERVISION = MaskLoss(
    "deep_mask_augmented_self_supervision",
    "self-supervision",
    "augmented_self_supervision_loss_weight",
    _self_supervision,
)
POINT_SUPERVISION = MaskLoss(
    "deep_mask_pointly_supervised", "points", "pointly_supervised_keypoint_loss_weight", _point_supervision
)
# In the order of logs.
MASK_LOSSES = (ESTIMATION, DICE, BOX_CONSISTENCY, COLOR_CONSISTENCY, SELF_SUPERVISION, POINT_SUPERVISION)
