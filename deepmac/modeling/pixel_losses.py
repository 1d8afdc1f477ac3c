"""How mask logits are compared with a target: cross-entropy, focal or dice, one value an instance."""

import tensorflow as tf

from deepmac import configs
from deepmac.core.errors import InputError

NORMALIZATIONS = ("normalize_auto", "normalize_groundtruth_count", "normalize_balanced")


def pixel_loss(
    logits,
    targets,
    config: configs.MaskClassificationLossConfig,
    weights=None,
    normalization: str = "normalize_auto",
):
    """Compares logits with targets, position by position or by overlap.

    With p = sigmoid(logit), target g and position weight w (one, by default), `config.type` is

    - weighted_sigmoid: w * cross-entropy of p and g at each position;
    - focal: w * (1 - p_t)^gamma * alpha_t * cross-entropy, p_t = p g + (1 - p)(1 - g) and alpha_t
      = alpha g + (1 - alpha)(1 - g), or 1 without alpha (arXiv 1708.02002);
    - dice: 1 - 2 sum(p g) / max(sum(p) + sum(g), 1), one value an instance; p and g are multiplied by w,
      and squared before with `squared_normalization` (V-Net, arXiv 1606.04797).

    `normalization` makes one value an instance of the values at the positions:

    - normalize_auto: their mean (dice: as it is);
    - normalize_groundtruth_count: their sum / sum(g), 0 where no position belongs to the object;
    - normalize_balanced: sum of value / (g sum(g) + (1 - g) sum(1 - g)): object and background weigh the
      same; not for dice.

    Args:
        logits: float32 [..., P].
        targets: float32 [..., P], from 0 to 1.
        config: which loss, with its options.
        weights: float32 [..., P], or None.
        normalization: one of `NORMALIZATIONS`.

    Returns:
        float32 [...].

    Raises:
        InputError: unknown loss or normalization, or dice with normalize_balanced.
    """
    if normalization not in NORMALIZATIONS:
        raise InputError(f"unknown normalization {normalization!r}: use one of {', '.join(NORMALIZATIONS)}")
    if config.type == "dice":
        if normalization == "normalize_balanced":
            raise InputError(
                "normalize_balanced needs a loss at each position: not for classification_loss dice"
            )
        losses = dice_loss(logits, targets, config.dice.squared_normalization, weights)[..., tf.newaxis]
    elif config.type == "weighted_sigmoid":
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
    elif config.type == "focal":
        losses = _focal_loss(logits, targets, config.focal)
    else:
        raise InputError(
            f"unknown classification_loss {config.type!r}: use one of weighted_sigmoid, dice, focal"
        )
    if weights is not None and config.type != "dice":
        losses *= weights
    return _normalize(losses, targets, normalization)


def dice_loss(logits, targets, squared_normalization=False, weights=None):
    """Dice loss float32 [...] of logits, targets (from 0 to 1) and weights [..., P]; see `pixel_loss`."""
    probabilities = tf.sigmoid(logits)
    if squared_normalization:
        probabilities, targets = tf.square(probabilities), tf.square(targets)
    if weights is not None:
        probabilities, targets = probabilities * weights, targets * weights
    overlap = tf.reduce_sum(probabilities * targets, axis=-1)
    area = tf.reduce_sum(probabilities, axis=-1) + tf.reduce_sum(targets, axis=-1)
    return 1.0 - 2.0 * overlap / tf.maximum(area, 1.0)


def _focal_loss(logits, targets, options: configs.FocalLossConfig):
    probabilities = tf.sigmoid(logits)
    target_probabilities = probabilities * targets + (1.0 - probabilities) * (1.0 - targets)
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
    losses = tf.pow(1.0 - target_probabilities, options.gamma) * cross_entropy
    if options.alpha is None:
        return losses
    return losses * (options.alpha * targets + (1.0 - options.alpha) * (1.0 - targets))


def _normalize(losses, targets, normalization):
    """One value an instance, float32 [...], of losses [..., P] (dice: [..., 1]) and targets [..., P]."""
    if normalization == "normalize_auto":
        return tf.reduce_mean(losses, axis=-1)
    if normalization == "normalize_groundtruth_count":
        return tf.math.divide_no_nan(tf.reduce_sum(losses, axis=-1), tf.reduce_sum(targets, axis=-1))
    foreground = tf.reduce_sum(targets, axis=-1, keepdims=True)
    background = tf.reduce_sum(1.0 - targets, axis=-1, keepdims=True)
    return tf.reduce_sum(losses / (targets * foreground + (1.0 - targets) * background), axis=-1)
