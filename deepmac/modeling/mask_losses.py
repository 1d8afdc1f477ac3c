"""The mask losses of DeepMAC: masks of the allowed classes, and weak supervision of all classes.

`MASK_LOSSES`, at the end, lists them: what is logged, shown and weighted follows from it.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from deepmac import configs
from deepmac.modeling import roi
from deepmac.modeling.pixel_losses import pixel_loss
from deepmac.modeling.self_supervision import self_supervision_loss
from deepmac.modeling.weak_losses import box_consistency_loss, color_consistency_loss, point_supervision_loss


@dataclasses.dataclass
class MaskBatch:
    """What mask losses are computed from: N boxes (ymin, xmin, ymax, xmax), normalised, in B pictures."""

    logits: list  # of the stages that count (see `build_deepmac`), float [B, N, h, w]
    boxes: tf.Tensor  # float32 [B, N, 4], ground truth
    masks: tf.Tensor  # uint8 or float [B, N, H, W], 0 or 1, at network-input resolution
    classes: tf.Tensor  # int [B, N] category ids, 0 for padding
    weights: tf.Tensor  # float32 [B, N], 1 for instances, 0 for padding
    images: tf.Tensor  # float [B, H, W, 3] as the network sees them (BGR, normalised)
    has_masks: tf.Tensor | None = None  # float32 [B, N], 1 for instances whose mask is known; None: all
    crop_boxes: tf.Tensor | None = None  # float32 [B, N, 4], jittered, crop the targets; None: `boxes`
    restored_logits: list | None = None  # like `logits`, from `self_supervision.restore_masks`
    keypoints: tf.Tensor | None = None  # float32 [B, N, K, 2] (y, x) normalised, NaN where unknown
    keypoint_depths: tf.Tensor | None = None  # float32 [B, N, K], above 0 on the object, else background
    step: tf.Tensor | None = None  # int scalar, of the training, for warm-ups; None outside: no warm-up

    def __post_init__(self):
        self.logits = [tf.cast(logits, tf.float32) for logits in self.logits]
        if self.has_masks is None:
            self.has_masks = tf.ones_like(self.weights)
        if self.crop_boxes is None:
            self.crop_boxes = self.boxes


class MaskLoss(NamedTuple):
    """A loss of every instance.

    Where `MaskLossConfig` has fields that end in `warmup_start` and `warmup_steps` in place of `loss_weight`,
    the weight grows from 0 in so many steps of training from there on.
    """

    name: str  # in logs, that of the published code
    label: str  # short name, in the line a training prints
    weight_field: str  # of `MaskLossConfig`, and of the published pipeline config
    # (`MaskBatch`, stage, `MaskLossConfig`, `MaskHeadConfig`) -> float32 [B, N]; None, which counts as 0,
    # where the batch or the masks' resolution do not allow it.
    compute: Callable
    needs_masks: bool = False  # only instances with masks count, of the classes whose masks may be used

    def weight(self, config: configs.MaskLossConfig, step=None):
        """What the loss is multiplied by at a step, an int scalar; None, outside training: in full."""
        weight = getattr(config, self.weight_field)
        start, steps = (
            getattr(config, self.weight_field.replace("loss_weight", name), 0)
            for name in ("warmup_start", "warmup_steps")
        )
        if step is None or steps == 0:
            return weight
        return weight * tf.clip_by_value((tf.cast(step, tf.float32) - start) / steps, 0.0, 1.0)


def active_losses(config: configs.MaskLossConfig) -> list[MaskLoss]:
    """The losses that count: all whose weight is above 0."""
    return [loss for loss in MASK_LOSSES if loss.weight(config) > 0]


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
        Loss name -> float32 scalar, of `active_losses` in their order.

    Raises:
        InputError: options that do not fit together.
    """
    losses = {}
    for loss in active_losses(config):
        stages = [loss.compute(batch, stage, config, head) for stage in range(len(batch.logits))]
        if stages[0] is None:
            losses[loss.name] = tf.constant(0.0)
            continue
        weights = batch.weights
        if loss.needs_masks:
            weights = weights * batch.has_masks
            if allowed_ids:
                weights *= tf.cast(_is_one_of(batch.classes, allowed_ids), tf.float32)
            count = tf.math.count_nonzero(weights > 0, dtype=tf.float32)
        else:
            count = tf.reduce_sum(weights)
        total = tf.add_n([tf.reduce_sum(values * weights) for values in stages])
        losses[loss.name] = loss.weight(config, batch.step) * (total / (len(stages) * tf.maximum(count, 1.0)))
    return losses


def _is_one_of(classes, ids):
    return tf.reduce_any(classes[..., tf.newaxis] == tf.constant(ids, classes.dtype), axis=-1)


def estimation_loss(batch: MaskBatch, stage: int, config: configs.MaskLossConfig, head):
    """Compares the mask logits of every instance with its mask, see `pixel_loss`: float32 [B, N].

    Targets are soft crops by `crop_boxes`, or at full resolution the whole masks, to whose size logits are
    resized bilinearly. With `ignore_per_class_box_overlap`, logits are 0 where boxes of a class meet.
    """
    logits, targets = batch.logits[stage], tf.cast(batch.masks, tf.float32)
    if not head.predict_full_resolution_masks:
        targets = roi.crop_maps(targets, batch.crop_boxes, head.mask_size)  # (B, N, S, S)
    size = roi.map_size(targets, axis=2)
    if logits.shape[2:] != targets.shape[2:]:
        logits = roi.resize_maps(logits, *size)
    if config.ignore_per_class_box_overlap:
        logits *= _unambiguous_pixels(batch, *size)
    targets = roi.flatten_maps(tf.stop_gradient(targets))
    return pixel_loss(roi.flatten_maps(logits), targets, config.classification_loss)


def _unambiguous_pixels(batch, height, width):
    """0 where two or more boxes of an instance's class meet, else 1: float32 [B, N, height, width]."""
    classes = batch.classes  # 0, for padding, never counts
    same_class = (classes[:, :, tf.newaxis] == classes[:, tf.newaxis]) & (classes[:, tf.newaxis] > 0)
    filled = roi.fill_boxes(batch.crop_boxes, height, width)
    counts = tf.einsum("bij,bjhw->bihw", tf.cast(same_class, tf.float32), filled)
    return tf.cast(counts < 1.5, tf.float32)


def _dice_loss(batch, stage, config, head):
    dice = configs.MaskClassificationLossConfig(type="dice")
    return estimation_loss(batch, stage, config.replace(classification_loss=dice), head)


ESTIMATION = MaskLoss("deep_mask_estimation", "mask", "task_loss_weight", estimation_loss, needs_masks=True)
DICE = MaskLoss("deep_mask_dice", "dice", "dice_loss_weight", _dice_loss, needs_masks=True)
BOX_CONSISTENCY = MaskLoss(
    "deep_mask_box_consistency", "box consistency", "box_consistency_loss_weight", box_consistency_loss
)
COLOR_CONSISTENCY = MaskLoss(
    "deep_mask_color_consistency",
    "colour consistency",
    "color_consistency_loss_weight",
    color_consistency_loss,
)
SELF_SUPERVISION = MaskLoss(
    "deep_mask_augmented_self_supervision",
    "self-supervision",
    "augmented_self_supervision_loss_weight",
    self_supervision_loss,
)
POINT_SUPERVISION = MaskLoss(
    "deep_mask_pointly_supervised",
    "points",
    "pointly_supervised_keypoint_loss_weight",
    point_supervision_loss,
)
# In the order of logs.
MASK_LOSSES = (ESTIMATION, DICE, BOX_CONSISTENCY, COLOR_CONSISTENCY, SELF_SUPERVISION, POINT_SUPERVISION)
