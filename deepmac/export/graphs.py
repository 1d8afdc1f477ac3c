"""The graphs of an export: the halves of a model for interactive use, and the whole as published."""

import tensorflow as tf

from deepmac import configs
from deepmac.data.preprocessing import network_input, normalize, resized_shape
from deepmac.inference.exported import INPUTS, SIGNATURE
from deepmac.inference.load import normalization
from deepmac.modeling.model import DETECTION_HEADS, DeepMACModel


def half_graphs(model: DeepMACModel, config: configs.DeepMACTaskConfig) -> dict[str, tf.function]:
    """`encoder`, from a picture to embeddings, and `mask_head`, from these and boxes to masks.

    They have input signatures; `readme_template.md` describes what they take and give, named arguments and a
    dict of tensors. The model is one in float32.
    """
    options = normalization(config)
    square = tf.TensorSpec([None, *config.model.input_size], name="image")

    @tf.function(input_signature=[square], autograph=False)
    def encoder(image):
        instance_embedding, pixel_embedding = model.encode(normalize(image, **options))
        return {"instance_embedding": instance_embedding, "pixel_embedding": pixel_embedding}

    embeddings = encoder.get_concrete_function().structured_outputs
    specs = [tf.TensorSpec([1, *output.shape[1:]], output.dtype, name) for name, output in embeddings.items()]

    @tf.function(input_signature=[*specs, tf.TensorSpec([1, None, 4], name="boxes")], autograph=False)
    def mask_head(instance_embedding, pixel_embedding, boxes):
        mask_probs = model.mask_probs(instance_embedding, pixel_embedding, boxes)
        mask_probs.set_shape([1, None, None, None])
        return {"mask_probs": mask_probs}

    return {"encoder": encoder, "mask_head": mask_head}


def whole_graph(model: DeepMACModel, config: configs.DeepMACTaskConfig) -> dict[str, tf.function]:
    """`serving_default`, with the inputs and outputs of the published graph; see `half_graphs`."""
    size, options = config.model.input_size[0], normalization(config)
    pictures = tf.TensorSpec([None, None, None, 3], tf.uint8, INPUTS[0])

    @tf.function(input_signature=[pictures, tf.TensorSpec([None, None, 4], name=INPUTS[1])], autograph=False)
    def serve(input_tensor, boxes):
        inputs = tf.map_fn(
            lambda image: network_input(image, size, **options)[0][0],
            input_tensor,
            fn_output_signature=tf.TensorSpec([size, size, 3]),
        )
        part = tf.cast(resized_shape(tf.shape(input_tensor)[1:3], size), tf.float32) / size
        embeddings, maps = model.encode_with(inputs, DETECTION_HEADS)
        masks = model.mask_probs(*embeddings, boxes * tf.tile(part, [2]))
        return {**published_detections(model, maps, part), "detection_masks": masks}

    return {SIGNATURE: serve}


def published_detections(model: DeepMACModel, maps, parts):
    """Detections as the published graph names and normalises them.

    Args:
        model: the model, whose detections are not filtered by NMS.
        maps: `ct_heatmaps`, `ct_size` and `ct_offset` of the last stage, float32 [B, h, w, channels].
        parts: float32 [..., 2], the part (height, width) of the network input that the picture fills; one
            for all or [B, 2].

    Returns:
        Output name -> float32 tensor; `readme_template.md` describes them.
    """
    detections, boxes = model.detect_boxes(maps)
    generator, heat_map = model.detection_generator, maps["ct_heatmaps"]
    options = generator.get_config()
    batch, _, width, num_classes = tf.unstack(tf.shape(heat_map))
    peaks = generator.process_heatmap(heat_map, options["peak_extract_kernel_size"])
    most = options["max_detections"]
    _, rows, columns, _ = generator.get_top_k_peaks(peaks, batch, width, num_classes, most)
    centers = tf.stack([rows, columns], axis=-1)  # (B, D, 2)
    parts = tf.tile(tf.reshape(parts, [-1, 1, 2]), [1, 1, 2])  # (B or 1, 1, 4)
    return {
        "detection_boxes": tf.clip_by_value(boxes / parts, 0.0, 1.0),
        "detection_boxes_strided": detections["boxes"] / options["net_down_scale"],
        "detection_classes": tf.cast(detections["classes"], tf.float32),
        "detection_scores": detections["confidence"],
        "detection_multiclass_scores": tf.gather_nd(tf.sigmoid(heat_map), centers, batch_dims=1),
        "num_detections": tf.cast(detections["num_detections"], tf.float32),
    }
