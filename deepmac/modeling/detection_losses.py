"""CenterNet's targets and losses on whole batches with static shapes (arXiv 1904.07850).

Model Garden assigns targets image by image with shapes that depend on the number of objects, which
XLA cannot compile, and forms a map for each object and class; here an object touches only the
channel of its class. The Gaussian's radius is Model Garden's.
"""

import tensorflow as tf
from official.projects.centernet.ops import loss_ops, target_assigner

from deepmac import configs

_MIN_PROBABILITY = 1e-4  # probabilities are clipped to keep logarithms finite


def center_heatmap(boxes, classes, weights, height: int, width: int, num_classes: int, min_iou: float):
    """Draws a Gaussian around each object's centre on the channel of its class.

    Args:
        boxes: float32 [B, N, 4] (ymin, xmin, ymax, xmax) in cells of the output grid.
        classes: int32 [B, N], channel of each object; any value where the weight is 0.
        weights: float32 [B, N], 0 for padding.
        min_iou: the radius keeps a shifted box at this overlap with the object's box.

    Returns:
        float32 [B, height, width, num_classes] in [0, 1]; overlaps take the maximum.
    """
    batch, num_boxes = tf.shape(boxes)[0], boxes.shape[1]
    center = tf.floor((boxes[..., :2] + boxes[..., 2:]) / 2)  # (B, N, 2)
    size = boxes[..., 2:] - boxes[..., :2]
    sigma = target_assigner.compute_std_dev_from_box_size(size[..., 0], size[..., 1], min_iou)
    exponent = -1 / (2 * sigma[..., None] ** 2)  # (B, N, 1)
    rows = tf.exp(exponent * (tf.range(height, dtype=tf.float32) - center[..., :1]) ** 2)  # (B, N, H)
    columns = tf.exp(exponent * (tf.range(width, dtype=tf.float32) - center[..., 1:]) ** 2)  # (B, N, W)
    gaussians = rows[..., :, None] * columns[..., None, :] * weights[..., None, None]  # (B, N, H, W)
    image = tf.tile(tf.range(batch)[:, None], [1, num_boxes])
    channel = tf.clip_by_value(classes, 0, num_classes - 1)
    heatmap = tf.tensor_scatter_nd_max(
        tf.zeros([batch, num_classes, height, width]), tf.stack([image, channel], axis=-1), gaussians
    )
    return tf.transpose(heatmap, [0, 2, 3, 1])


def _focal_loss(logits, heatmap):
    """The penalty-reduced focal loss of every cell (arXiv 1904.07850, equation 1; alpha 2, beta 4).

    Model Garden's raises to variable powers, which takes a tenth of a small model's training step.
    """
    probability = tf.clip_by_value(tf.sigmoid(logits), _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    positive = tf.square(1 - probability) * tf.math.log(probability)
    negative = tf.square(tf.square(1 - heatmap)) * tf.square(probability) * tf.math.log(1 - probability)
    return -tf.where(tf.equal(heatmap, 1.0), positive, negative)


def detection_losses(outputs, labels, config: configs.DeepMACTaskConfig):
    """CenterNet's three losses, averaged over hourglass stages and objects, unweighted.

    Args:
        outputs: head name -> list over stages of float32 [B, H, W, channels], names `ct_heatmaps`
            (logits), `ct_size`, `ct_offset` (cells; y first).
        labels: `boxes` float32 [B, N, 4] (ymin, xmin, ymax, xmax) in pixels of the network input, padding
            rows are -1; `classes` int [B, N] category ids, -1 for padding; `unpad_image_shapes` float32 [B, 2
            or more] height and width of the image without padding, pixels: beyond it the heat map is not
            supervised.
        config: of the task.

    Returns:
        `ct_loss`, `scale_loss` and `ct_offset_loss`, float32 scalars.
    """
    _, height, width, num_classes = outputs["ct_heatmaps"][0].shape
    input_height, input_width, _ = config.model.input_size
    scale = tf.constant([height / input_height, width / input_width] * 2, tf.float32)
    weights = tf.cast(labels["classes"] > 0, tf.float32)  # (B, N)
    boxes = labels["boxes"] * scale * weights[..., None]
    num_boxes = tf.maximum(tf.reduce_sum(weights), 1.0)
    num_stages = len(outputs["ct_heatmaps"])

    channels = tf.cast(labels["classes"], tf.int32) - config.losses.class_offset
    min_iou = config.losses.gaussian_iou
    heatmap = center_heatmap(boxes, channels, weights, height, width, num_classes, min_iou)
    heatmap = loss_ops.flatten_spatial_dimensions(heatmap)  # (B, H*W, classes)
    valid = loss_ops.get_valid_anchor_weights_in_flattened_image(
        tf.math.ceil(labels["unpad_image_shapes"][:, :2] * scale[:2]), height, width
    )[..., None]
    center_loss = tf.add_n(
        [
            tf.reduce_sum(valid * _focal_loss(loss_ops.flatten_spatial_dimensions(logits), heatmap))
            for logits in outputs["ct_heatmaps"]
        ]
    )

    center = (boxes[..., :2] + boxes[..., 2:]) / 2  # (B, N, 2)
    cell = loss_ops.add_batch_to_indices(tf.cast(tf.floor(center), tf.int32))  # (B, N, 3)

    def regression_loss(maps, target):
        errors = [tf.abs(loss_ops.get_batch_predictions_from_indices(m, cell) - target) for m in maps]
        return tf.reduce_sum(tf.add_n(errors) * weights[..., None]) / (num_stages * num_boxes)

    return {
        "ct_loss": center_loss / (num_stages * num_boxes),
        "scale_loss": regression_loss(outputs["ct_size"], boxes[..., 2:] - boxes[..., :2]),
        "ct_offset_loss": regression_loss(outputs["ct_offset"], center - tf.floor(center)),
    }
