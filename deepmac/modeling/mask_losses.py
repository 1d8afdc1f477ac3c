"""The mask losses of DeepMAC: masks of the allowed classes, and weak supervision of all classes."""

import tensorflow as tf

from deepmac import configs
from deepmac.core.errors import InputError
from deepmac.modeling import roi, self_supervision, weak_losses
from deepmac.modeling.pixel_losses import pixel_loss

ESTIMATION = "deep_mask_estimation"
BOX_CONSISTENCY = "deep_mask_box_consistency"
COLOR_CONSISTENCY = "deep_mask_color_consistency"
SELF_SUPERVISION = "deep_mask_augmented_self_supervision"
POINT_SUPERVISION = "deep_mask_pointly_supervised"


def loss_weights(config: configs.MaskLossConfig) -> dict[str, float]:
    """The losses that count: name -> weight, all above 0."""
    weights = {
        ESTIMATION: config.task_loss_weight,
        BOX_CONSISTENCY: config.box_consistency_loss_weight,
        COLOR_CONSISTENCY: config.color_consistency_loss_weight,
        SELF_SUPERVISION: config.augmented_self_supervision_loss_weight,
        POINT_SUPERVISION: config.pointly_supervised_keypoint_loss_weight,
    }
    return {name: weight for name, weight in weights.items() if weight > 0}


def loss_names(config: configs.MaskLossConfig) -> list[str]:
    """Names of the losses `mask_losses` returns."""
    return list(loss_weights(config))


def uses_boxes_of_all_classes(config: configs.MaskLossConfig) -> bool:
    """Whether a loss learns from boxes of classes whose masks may not be used."""
    return bool(set(loss_weights(config)) - {ESTIMATION})


def mask_losses(
    mask_logits,
    *,
    boxes,
    masks,
    classes,
    weights,
    images,
    loss_config: configs.MaskLossConfig,
    mask_head_config: configs.MaskHeadConfig,
    allowed_ids=(),
    step=None,
    crop_boxes=None,
    restored_logits=None,
    keypoints=None,
    keypoint_depths=None,
):
    """All mask losses of a batch, each times its configured weight and averaged over the stages.

    With the loss l_i of instance i, its weight w_i and a_i = 1 for allowed classes, else 0, the batch's
    estimation loss is sum(w_i a_i l_i) / max(1, number of i with w_i a_i > 0). The weak losses need no
    masks and take all classes: sum(w_i l_i) / max(1, sum(w_i)).

    Args:
        mask_logits: list over the stages that count (see `build_deepmac`) of float [B, N, h, w].
        boxes: float32 [B, N, 4] (ymin, xmin, ymax, xmax) normalised ground truth.
        masks: uint8 or float [B, N, H, W], 0 or 1, at network-input resolution.
        classes: int [B, N] category ids, 0 for padding.
        weights: float32 [B, N], 1 for instances, 0 for padding.
        images: float [B, H, W, 3] as the network sees them (BGR, normalised).
        loss_config: losses and weights.
        mask_head_config: whether logits cover the RoI or the image, and `mask_size`.
        allowed_ids: category ids whose masks may be used; empty means all.
        step: int scalar, the training step the warm-ups depend on; None outside training: no warm-up.
        crop_boxes: float32 [B, N, 4], the jittered boxes that crop the targets; None means `boxes`.
        restored_logits: like `mask_logits`, from `self_supervision.restore_masks`.
        keypoints: float32 [B, N, K, 2] (y, x) normalised to the image, NaN where unknown.
        keypoint_depths: float32 [B, N, K], above 0 on the object, else background.

    Returns:
        Loss name -> float32 scalar, the names as `loss_names` lists them. Self-supervision and point
        supervision are 0 when their tensors are not given; colour consistency is 0 for RoI crops.

    Raises:
        InputError: options that do not fit together.
    """
    boxes, weights = tf.cast(boxes, tf.float32), tf.cast(weights, tf.float32)
    crop_boxes = boxes if crop_boxes is None else tf.cast(crop_boxes, tf.float32)
    stages = [tf.cast(logits, tf.float32) for logits in mask_logits]
    factors = loss_weights(loss_config)
    losses = {}
    if ESTIMATION in factors:
        supervised = weights * is_allowed(classes, allowed_ids)
        instance_losses = _estimation_losses(
            stages, masks, crop_boxes, classes, loss_config, mask_head_config
        )
        num_supervised = tf.math.count_nonzero(supervised > 0, dtype=tf.float32)
        losses[ESTIMATION] = _mean_over_stages(instance_losses, supervised, num_supervised)

    weak = {}
    if BOX_CONSISTENCY in factors:
        weak[BOX_CONSISTENCY] = _box_losses(stages, boxes, crop_boxes, loss_config, mask_head_config)
    if COLOR_CONSISTENCY in factors and mask_head_config.predict_full_resolution_masks:
        weak[COLOR_CONSISTENCY] = _color_losses(stages, boxes, images, step, loss_config)
    if SELF_SUPERVISION in factors and restored_logits is not None:
        restored = [tf.cast(logits, tf.float32) for logits in restored_logits]
        weak[SELF_SUPERVISION] = _self_supervision_losses(stages, restored, boxes, step, loss_config)
    if POINT_SUPERVISION in factors and keypoints is not None and keypoint_depths is not None:
        if not mask_head_config.predict_full_resolution_masks:
            raise InputError(
                "losses.mask.pointly_supervised_keypoint_loss_weight needs full-resolution masks: "
                "set model.mask_head.predict_full_resolution_masks"
            )
        weak[POINT_SUPERVISION] = [
            weak_losses.point_supervision_loss(
                logits, keypoints, keypoint_depths, loss_config.classification_loss
            )
            for logits in stages
        ]
    for name, instance_losses in weak.items():
        losses[name] = _mean_over_stages(instance_losses, weights, tf.reduce_sum(weights))
    return {name: factor * losses.get(name, tf.constant(0.0)) for name, factor in factors.items()}


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
    leading = tf.shape(logits)[:2]
    num_pixels = size[0] * size[1]
    losses = pixel_loss(tf.reshape(logits, [-1, num_pixels]), tf.reshape(targets, [-1, num_pixels]), config)
    return tf.reshape(losses, leading)


def mask_targets(masks, crop_boxes, config: configs.MaskHeadConfig):
    """What the logits are compared with: soft crops of the masks, or whole masks at full resolution.

    Args:
        masks: [B, N, H, W], any numeric dtype.
        crop_boxes: float32 [B, N, 4] normalised.
        config: `predict_full_resolution_masks` and `mask_size`.

    Returns:
        float32 [B, N, S, S], at full resolution [B, N, H, W]; no gradient.
    """
    if config.predict_full_resolution_masks:
        return tf.stop_gradient(tf.cast(masks, tf.float32))
    return roi.crop_masks(masks, crop_boxes, config.mask_size)


def unambiguous_pixels(boxes, classes, height, width):
    """Where the boxes of an instance's class do not overlap.

    Args:
        boxes: float32 [B, N, 4] normalised.
        classes: int [B, N] category ids, 0 for padding, which never counts.
        height: rows of the grid.
        width: columns of the grid.

    Returns:
        float32 [B, N, height, width]: 0 where two or more boxes of the instance's class meet, else 1.
    """
    same_class = (classes[:, :, tf.newaxis] == classes[:, tf.newaxis]) & (classes[:, tf.newaxis] > 0)
    filled = roi.fill_boxes(boxes, height, width)
    counts = tf.einsum("bij,bjhw->bihw", tf.cast(same_class, tf.float32), filled)
    return tf.cast(counts < 1.5, tf.float32)


def is_allowed(classes, allowed_ids):
    """1 for classes whose masks may be used, else 0: float32 of the shape of `classes`; empty means all."""
    if not allowed_ids:
        return tf.ones_like(classes, tf.float32)
    return tf.cast(
        tf.reduce_any(classes[..., tf.newaxis] == tf.constant(allowed_ids, classes.dtype), axis=-1),
        tf.float32,
    )


def warmup_factor(step, start: int, steps: int):
    """clip((step - start) / steps, 0, 1), float32; 1 outside training (`step` None) or if `steps` is 0."""
    if step is None or steps == 0:
        return tf.constant(1.0)
    return tf.clip_by_value((tf.cast(step, tf.float32) - start) / steps, 0.0, 1.0)


def _estimation_losses(stages, masks, crop_boxes, classes, config, head_config):
    targets = mask_targets(masks, crop_boxes, head_config)
    classes = classes if config.ignore_per_class_box_overlap else None
    return [mask_loss(logits, targets, config.classification_loss, crop_boxes, classes) for logits in stages]


def _box_losses(stages, boxes, crop_boxes, config, head_config):
    return [
        weak_losses.box_consistency_loss(
            logits,
            boxes,
            config.classification_loss,
            crop_boxes=None if head_config.predict_full_resolution_masks else crop_boxes,
            crop_size=head_config.mask_size,
            normalization=config.box_consistency_loss_normalize,
            tightness=config.box_consistency_tightness,
        )
        for logits in stages
    ]


def _color_losses(stages, boxes, images, step, config):
    lab_images = weak_losses.network_input_to_lab(images, roi.map_size(stages[0], axis=2))
    threshold, dilation = config.color_consistency_threshold, config.color_consistency_dilation
    warmup = warmup_factor(step, config.color_consistency_warmup_start, config.color_consistency_warmup_steps)
    return [
        warmup * weak_losses.color_consistency_loss(logits, boxes, lab_images, threshold, dilation)
        for logits in stages
    ]


def _self_supervision_losses(stages, restored, boxes, step, config):
    warmup = warmup_factor(
        step,
        config.augmented_self_supervision_warmup_start,
        config.augmented_self_supervision_warmup_steps,
    )
    loss = config.augmented_self_supervision_loss
    return [
        warmup * self_supervision.self_supervision_loss(logits, truth, boxes, loss)
        for logits, truth in zip(stages, restored, strict=True)
    ]


def _mean_over_stages(instance_losses, weights, count):
    """Mean over stages of the weighted sum of instance losses [B, N] divided by max(1, count)."""
    total = tf.add_n([tf.reduce_sum(losses * weights) for losses in instance_losses])
    return total / (len(instance_losses) * tf.maximum(count, 1.0))
