"""What the published graph computes: masks in given boxes, and detections."""

import tensorflow as tf

from deepmac import configs
from deepmac.data.preprocessing import network_input, resized_shape
from deepmac.inference.load import normalization
from deepmac.modeling.model import DeepMACModel

_DETECTION_HEADS = ("ct_heatmaps", "ct_size", "ct_offset")


def published_outputs(model: DeepMACModel, config: configs.DeepMACTaskConfig, images, boxes):
    """What the published graph computes; see `deepmac.export.export_model` for arguments and results."""
    size = config.model.input_size[0]
    options = normalization(config)
    inputs = tf.map_fn(
        lambda image: network_input(image, size, **options)[0][0],
        images,
        fn_output_signature=tf.TensorSpec([size, size, 3]),
    )
    part = tf.cast(resized_shape(tf.shape(images)[1:3], size), tf.float32) / size
    features = model.backbone(inputs, training=False)
    embeddings = model.head.last_stage(features, ("instance_embedding", "pixel_embedding"))
    boxes *= tf.tile(part, [2])
    logits = model.mask_logits(embeddings["instance_embedding"], embeddings["pixel_embedding"], boxes)
    detections = published_detections(model, model.head.last_stage(features, _DETECTION_HEADS), part)
    return {**detections, "detection_masks": model.probabilities_in_boxes(logits, boxes)}


def published_detections(model: DeepMACModel, maps, parts):
    """Detections as the published graph names and normalises them.

    Args:
        model: the model, whose detections are not filtered by NMS.
        maps: `ct_heatmaps`, `ct_size` and `ct_offset` of the last stage, float32 [B, h, w, channels].
        parts: float32 [..., 2], the part (height, width) of the network input that the picture fills; one
            for all or [B, 2].

    Returns:
        Output name -> float32 tensor; see `deepmac.export.export_model`.
    """
    generator = model.detection_generator
    detections = generator({name: [tf.cast(maps[name], tf.float32)] for name in _DETECTION_HEADS})
    options = generator.get_config()
    heat_map = tf.cast(maps["ct_heatmaps"], tf.float32)
    size = tf.constant(options["input_image_dims"], tf.float32)
    picture_sizes = tf.tile(tf.reshape(parts, [-1, 1, 2]) * size, [1, 1, 2])  # (B or 1, 1, 4)
    return {
        "detection_boxes": tf.clip_by_value(detections["boxes"] / picture_sizes, 0.0, 1.0),
        "detection_boxes_strided": detections["boxes"] / options["net_down_scale"],
        "detection_classes": tf.cast(detections["classes"], tf.float32),
        "detection_scores": detections["confidence"],
        "detection_multiclass_scores": _scores_of_all_classes(generator, heat_map, options),
        "num_detections": tf.cast(detections["num_detections"], tf.float32),
    }


def _scores_of_all_classes(generator, heat_map, options):
    """The heat map's values at the detected centres: [B, D, classes]."""
    batch, _, width, num_classes = tf.unstack(tf.shape(heat_map))
    peaks = generator.process_heatmap(heat_map, options["peak_extract_kernel_size"])
    _, rows, columns, _ = generator.get_top_k_peaks(
        peaks, batch, width, num_classes, options["max_detections"]
    )
    return tf.gather_nd(tf.sigmoid(heat_map), tf.stack([rows, columns], axis=-1), batch_dims=1)
