"""Losses that teach masks without masks: from boxes, colours and points.

Each takes a `deepmac.modeling.mask_losses.MaskBatch` and the number of a stage, see `MaskLoss.compute`.
"""

import tensorflow as tf
from official.projects.centernet.dataloaders import centernet_input

from deepmac import configs
from deepmac.core.errors import InputError
from deepmac.modeling import roi
from deepmac.modeling.pixel_losses import pixel_loss

# The eight neighbours of a pixel, in multiples of the dilation: (rows down, columns right).
_NEIGHBORS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))
_COLOR_SCALE = 2.0
_MIN_SAME_LABEL_PROBABILITY = 1e-3


def box_consistency_loss(batch, stage: int, config: configs.MaskLossConfig, head: configs.MaskHeadConfig):
    """Compares the projections of mask and box on either axis (BoxInst, arXiv 2012.02310).

    With the logits l and the filled box g on the same grid, the projection on x is max_y l(y, x) and
    max_y g(y, x), that on y likewise. The loss is `pixel_loss` of the two projections, summed over the axes.
    The box is filled on the logits' grid, which is read as the image's, as published, also for RoI crops;
    except at full resolution, both maps are cropped by `crop_boxes` first.

    With `box_consistency_tightness`, the positions the box covers (g's projection is 1) use max(l g) in place
    of max(l): the mask must reach the box's edges by pixels inside the box. As published, that is at least 0
    in rows and columns the box does not fill.

    Returns:
        float32 [B, N].
    """
    logits = batch.logits[stage]
    size = roi.map_size(logits, axis=2)
    filled = roi.fill_boxes(batch.boxes, *size)
    if not head.predict_full_resolution_masks:
        logits, filled = (roi.crop_maps(maps, batch.crop_boxes, size) for maps in (logits, filled))

    def axis_loss(axis):
        predicted = tf.reduce_max(logits, axis=axis)  # (B, N, w or h)
        target = tf.reduce_max(filled, axis=axis)
        if config.box_consistency_tightness:
            within = tf.reduce_max(logits * filled, axis=axis)
            predicted = target * within + (1.0 - target) * predicted
        normalization = config.box_consistency_loss_normalize
        return pixel_loss(predicted, target, config.classification_loss, normalization=normalization)

    return axis_loss(2) + axis_loss(3)


def color_consistency_loss(batch, stage: int, config: configs.MaskLossConfig, head: configs.MaskHeadConfig):
    """Neighbouring pixels of similar colour should be both object or both not (BoxInst, arXiv 2012.02310).

    Pixel q is each of the eight neighbours of p, `color_consistency_dilation` pixels away, zero outside the
    image. The similarity of their CIELAB colours is exp(-|c_p - c_q| / 2); pairs above the threshold cost
    -log(clip(m_p m_q + (1 - m_p)(1 - m_q), 1e-3, 1)) with the mask probabilities m. Summed over the
    neighbours and the pixels p in the box, divided by max(1, pixels in the box).

    Returns:
        float32 [B, N]; gradient only through the logits. None unless at full resolution.
    """
    if not head.predict_full_resolution_masks:
        return None
    logits, dilation = batch.logits[stage], config.color_consistency_dilation
    probabilities = tf.sigmoid(logits)
    lab_images = network_input_to_lab(batch.images, roi.map_size(logits, axis=2))
    lab_images = tf.transpose(tf.stop_gradient(lab_images), [0, 3, 1, 2])  # (B, 3, h, w)
    costs = tf.zeros_like(logits)
    for y, x in _NEIGHBORS:
        difference = lab_images - _shift(lab_images, y * dilation, x * dilation)
        similarity = tf.exp(-tf.norm(difference, axis=1, keepdims=True) / _COLOR_SCALE)  # (B, 1, h, w)
        similar = tf.cast(similarity > config.color_consistency_threshold, tf.float32)
        neighbors = _shift(probabilities, y * dilation, x * dilation)
        same_label = probabilities * neighbors + (1.0 - probabilities) * (1.0 - neighbors)
        same_label = tf.clip_by_value(same_label, _MIN_SAME_LABEL_PROBABILITY, 1.0)
        costs -= similar * tf.math.log(same_label)
    inside = roi.fill_boxes(batch.boxes, *roi.map_size(logits, axis=2))
    pixels = tf.maximum(tf.reduce_sum(inside, axis=[2, 3]), 1.0)
    return tf.reduce_sum(costs * inside, axis=[2, 3]) / pixels


def point_supervision_loss(batch, stage: int, config: configs.MaskLossConfig, head: configs.MaskHeadConfig):
    """Compares the logits at annotated points with the points' labels (arXiv 2104.06404).

    Each point reads the pixel it lies in. `pixel_loss` over the K points; points with a NaN coordinate have
    weight 0 (they still count in the mean).

    Returns:
        float32 [B, N]; None without points.

    Raises:
        InputError: masks that do not cover the image.
    """
    if batch.keypoints is None:
        return None
    if not head.predict_full_resolution_masks:
        raise InputError(
            "losses.mask.pointly_supervised_keypoint_loss_weight needs full-resolution masks: "
            "set model.mask_head.predict_full_resolution_masks"
        )
    known = tf.logical_not(tf.reduce_any(tf.math.is_nan(batch.keypoints), axis=-1))  # (B, N, K)
    points = tf.where(known[..., tf.newaxis], batch.keypoints, tf.zeros_like(batch.keypoints))
    at_points = roi.gather_points(batch.logits[stage][..., tf.newaxis], points)[..., 0]  # (B, N, K)
    labels = tf.cast(batch.keypoint_depths > 0, tf.float32)
    return pixel_loss(at_points, labels, config.classification_loss, weights=tf.cast(known, tf.float32))


def _shift(maps, down, right):
    """The value `down` rows and `right` columns away in maps [B, C, H, W], zero outside."""
    height, width = maps.shape[2:]
    margin = max(abs(down), abs(right))
    padded = tf.pad(maps, [[0, 0], [0, 0], [margin, margin], [margin, margin]])
    top, left = margin + down, margin + right
    return padded[:, :, top : top + height, left : left + width]


# Linear sRGB -> XYZ (IEC 61966-2-1) and the D65 white point of the 2 degree observer, as in scikit-image.
_RGB_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)


def network_input_to_lab(images, size):
    """CIELAB, float32 [B, height, width, 3], of network inputs resized to `size`, (height, width).

    Images are float [B, H, W, 3], BGR, normalised as `CenterNetParser` does; L* is from 0 to 100.
    """
    images = tf.image.resize(tf.cast(images, tf.float32), size)
    bgr = images * tf.constant(centernet_input.CHANNEL_STDS) + tf.constant(centernet_input.CHANNEL_MEANS)
    return rgb_to_lab(tf.reverse(bgr, axis=[-1]) / 255.0)


def rgb_to_lab(rgb):
    """CIELAB (L* from 0 to 100, a*, b*; D65) float32 [..., 3] of sRGB from 0 to 1, of the same shape."""
    bright = tf.pow((tf.maximum(rgb, 0.04045) + 0.055) / 1.055, 2.4)
    linear = tf.where(rgb > 0.04045, bright, rgb / 12.92)
    xyz = tf.linalg.matvec(tf.constant(_RGB_TO_XYZ), linear) / tf.constant(_WHITE)
    cube_root = tf.pow(tf.maximum(xyz, 0.008856), 1.0 / 3.0)
    x, y, z = tf.unstack(tf.where(xyz > 0.008856, cube_root, 7.787 * xyz + 16.0 / 116.0), axis=-1)
    return tf.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], axis=-1)
