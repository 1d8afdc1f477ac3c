"""Augmented self-supervision: masks of a moved, scaled, mirrored image must agree with the image's own.

The augmentation of an image is a window on it (ymin, xmin, ymax, xmax), normalised to the image, that
is stretched to the whole input: bigger than the image it shrinks, with xmin > xmax it mirrors.

    windows = draw_windows(num_images, config, seed)
    features = {"image": augment_images(images, windows), "boxes": augment_boxes(boxes, windows)}
    restored = [restore_masks(logits, windows) for logits in model(features)["raw_output"]["mask_logits"]]
"""

import tensorflow as tf
import tf_keras

from deepmac import configs
from deepmac.core.errors import InputError
from deepmac.modeling import roi
from deepmac.modeling.pixel_losses import dice_loss


def draw_windows(num_images, config: configs.MaskLossConfig, seed):
    """Draws one augmentation for each image.

    With translation t in [-max_translation, max_translation], scale s in [scale_min, scale_max] for
    each axis, and a mirroring with the flip probability, the window is 0.5 - t s ± s / 2 of the
    (mirrored) image: what lay at its centre moves by t, and shrinks by 1 / s.

    Args:
        num_images: B, an integer or scalar tensor.
        config: the `augmented_self_supervision_*` options.
        seed: int32 [2], decides the draws.

    Returns:
        float32 [B, 4].
    """
    seeds = tf.random.split(seed, 3)
    shift = config.augmented_self_supervision_max_translation
    translations = tf.random.stateless_uniform([num_images, 2], seeds[0], -shift, shift)
    scales = tf.random.stateless_uniform(
        [num_images, 2],
        seeds[1],
        config.augmented_self_supervision_scale_min,
        config.augmented_self_supervision_scale_max,
    )
    flips = tf.random.stateless_uniform([num_images], seeds[2])
    flips = flips < config.augmented_self_supervision_flip_probability
    low = 0.5 - scales * (translations + 0.5)
    ymin, xmin = tf.unstack(low, axis=1)
    ymax, xmax = tf.unstack(low + scales, axis=1)
    xmin, xmax = tf.where(flips, 1.0 - xmin, xmin), tf.where(flips, 1.0 - xmax, xmax)
    return tf.stack([ymin, xmin, ymax, xmax], axis=1)


def augment_images(images, windows):
    """Images float [B, H, W, 3] as seen through the windows [B, 4], 0 outside; shape and dtype stay."""
    return roi.crop_boxes(images, windows[:, tf.newaxis], roi.map_size(images))[:, 0]


def augment_boxes(boxes, windows):
    """Boxes float32 [B, N, 4] as seen through the windows [B, 4]: of the same shape, not clipped."""
    start, end = (part[:, tf.newaxis] for part in tf.split(windows, 2, axis=1))  # (B, 1, 2)
    corners = [(corner - start) / (end - start) for corner in tf.split(boxes, 2, axis=-1)]
    return tf.concat([tf.minimum(*corners), tf.maximum(*corners)], axis=-1)


def restore_masks(logits, windows):
    """Moves mask logits of augmented images back to the image's own coordinates.

    Args:
        logits: float32 [B, N, h, w] over the augmented image (as published, an RoI's grid is read as
            the image's too: meant for full-resolution masks).
        windows: float32 [B, 4].

    Returns:
        float32 [B, N, h, w], 0 where the window did not look; no gradient.
    """
    start, end = tf.split(windows, 2, axis=1)
    inverse = tf.concat([-start, 1.0 - start], axis=1) / tf.tile(end - start, [1, 2])
    inverse = tf.repeat(inverse[:, tf.newaxis], tf.shape(logits)[1], axis=1)  # (B, N, 4)
    return tf.stop_gradient(roi.crop_maps(logits, inverse, roi.map_size(logits, axis=2)))


def self_supervision_loss(batch, stage: int, config: configs.MaskLossConfig, head: configs.MaskHeadConfig):
    """Compares mask logits with those of the augmented image, inside the box.

    With p and q the mask probabilities of the image and of the augmented image, over the pixels of the
    box filled on the logits' grid, `augmented_self_supervision_loss` is

    - loss_dice: dice loss of p and the binary mask q > 0.5 (arXiv 1606.04797);
    - loss_mse: mean of (p - q)^2;
    - loss_kl_div: mean of KL(q || p) = q log(q / p) + (1 - q) log((1 - q) / (1 - p)), probabilities clipped
      to [1e-7, 1].

    Returns:
        float32 [B, N]; `restored_logits` of the `MaskBatch` are taken as truth, without gradient. None
        without them.

    Raises:
        InputError: unknown loss.
    """
    if batch.restored_logits is None:
        return None
    logits, loss = batch.logits[stage], config.augmented_self_supervision_loss
    inside = roi.flatten_maps(roi.fill_boxes(batch.boxes, *roi.map_size(logits, axis=2)))
    truth = tf.stop_gradient(roi.flatten_maps(batch.restored_logits[stage]))
    logits = roi.flatten_maps(logits)
    if loss == "loss_dice":
        return dice_loss(logits, tf.cast(truth > 0.0, tf.float32), weights=inside)
    if loss == "loss_mse":
        values = tf.math.squared_difference(tf.sigmoid(truth), tf.sigmoid(logits))
    elif loss == "loss_kl_div":
        odds = (tf.sigmoid(tf.stack([x, -x], axis=-1)) for x in (truth, logits))  # of object and background
        values = tf_keras.losses.kl_divergence(*odds)
    else:
        raise InputError(
            f"unknown augmented_self_supervision_loss {loss!r}: use one of loss_dice, loss_mse, loss_kl_div"
        )
    return tf.reduce_sum(values * inside, axis=-1) / tf.maximum(tf.reduce_sum(inside, axis=-1), 1.0)
