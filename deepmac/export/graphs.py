"""The graphs of an export: the halves of a model for interactive use, and the whole as published."""

import tensorflow as tf

from deepmac import configs
from deepmac.data.preprocessing import network_input, normalize, resized_shape
from deepmac.inference.exported import INPUTS, SIGNATURE
from deepmac.inference.load import normalization
from deepmac.modeling.model import DeepMACModel

# Input or output of a graph -> what it is.
MEANINGS = {
    "image": "RGB from 0 to 255, the picture's longer side resized to the side of the square; zeros below or "
    "to the right",
    "instance_embedding": "from the encoder for the mask head",
    "pixel_embedding": "from the encoder for the mask head",
    "boxes": "any number from 1: (ymin, xmin, ymax, xmax), normalised to the square for the mask head, to "
    "the picture for the whole model",
    "mask_probs": "probabilities inside each box, edge to edge",
    "input_tensor": "RGB pictures of any size",
    "detection_masks": "probabilities inside the given boxes",
    "detection_boxes": "objects the model finds: (ymin, xmin, ymax, xmax) normalised to the picture",
    "detection_boxes_strided": "the same boxes in cells of the feature map",
    "detection_scores": "their scores",
    "detection_classes": "their category ids",
    "detection_multiclass_scores": "scores of all classes",
    "num_detections": "how many they are",
}
_DETECTION_HEADS = ("ct_heatmaps", "ct_size", "ct_offset")


def half_graphs(model: DeepMACModel, config: configs.DeepMACTaskConfig) -> dict[str, tf.function]:
    """From a picture to embeddings, and from embeddings and boxes to masks.

    - `encoder` takes `image`, float32 [1, S, S, 3], RGB from 0 to 255: the picture resized so that its
      longer side is S (`deepmac.data.preprocessing.resize_image`), zeros below or to the right.
      Normalisation is inside. It gives `instance_embedding` [1, h, w, E] and `pixel_embedding`
      [1, h, w, D], float32.
    - `mask_head` takes these and `boxes`, float32 [1, N, 4], (ymin, xmin, ymax, xmax) normalised to the
      square S x S, for any N from 1, and gives `mask_probs`, float32 [1, N, M, M]: probabilities inside each
      box, edge to edge.

    Args:
        model: in float32.
        config: of the task it was trained for.

    Returns:
        Name -> function with an input signature; named arguments in, a dict of tensors out.
    """
    options = normalization(config)

    def encode(image):
        instance_embedding, pixel_embedding = model.encode(normalize(image, **options))
        return {"instance_embedding": instance_embedding, "pixel_embedding": pixel_embedding}

    def predict(instance_embedding, pixel_embedding, boxes):
        logits = model.mask_logits(instance_embedding, pixel_embedding, boxes)
        mask_probs = model.probabilities_in_boxes(logits, boxes)
        mask_probs.set_shape([1, None, None, None])
        return {"mask_probs": mask_probs}

    signature = [tf.TensorSpec([1, *config.model.input_size], name="image")]
    encoder = tf.function(encode, input_signature=signature, autograph=False)
    embeddings = encoder.get_concrete_function().structured_outputs
    signature = [tf.TensorSpec(output.shape, output.dtype, name) for name, output in embeddings.items()]
    signature.append(tf.TensorSpec([1, None, 4], name="boxes"))
    return {
        "encoder": encoder,
        "mask_head": tf.function(predict, input_signature=signature, autograph=False),
    }


def whole_graph(model: DeepMACModel, config: configs.DeepMACTaskConfig) -> dict[str, tf.function]:
    """`serving_default`, with the inputs and outputs of the published graph; arguments as `half_graphs`.

    It takes `input_tensor`, uint8 RGB [B, H, W, 3] of any size, and `boxes`, float32 [B, N, 4], (ymin, xmin,
    ymax, xmax) normalised to the picture, and gives, in float32:

    - `detection_masks` [B, N, M, M]: mask probabilities inside the given boxes;
    - `detection_boxes` [B, D, 4], (ymin, xmin, ymax, xmax) normalised to the picture, `detection_scores`
      [B, D], `detection_classes` [B, D], category ids, `detection_multiclass_scores` [B, D, classes],
      `num_detections` [B]: the objects the model finds by itself;
    - `detection_boxes_strided` [B, D, 4]: the same boxes in cells of the feature map.
    """

    def serve(input_tensor, boxes):
        return published_outputs(model, config, input_tensor, boxes)

    signature = [
        tf.TensorSpec([None, None, None, 3], tf.uint8, INPUTS[0]),
        tf.TensorSpec([None, None, 4], tf.float32, INPUTS[1]),
    ]
    return {SIGNATURE: tf.function(serve, input_signature=signature, autograph=False)}


def published_outputs(model: DeepMACModel, config: configs.DeepMACTaskConfig, images, boxes):
    """What the published graph computes; see `whole_graph` for arguments and results."""
    size = config.model.input_size[0]
    options = normalization(config)
    inputs = tf.map_fn(
        lambda image: network_input(image, size, **options)[0][0],
        images,
        fn_output_signature=tf.TensorSpec([size, size, 3]),
    )
    part = tf.cast(resized_shape(tf.shape(images)[1:3], size), tf.float32) / size
    features = model.backbone(inputs, training=False)
    maps = model.head.last_stage(features, ("instance_embedding", "pixel_embedding", *_DETECTION_HEADS))
    boxes *= tf.tile(part, [2])
    logits = model.mask_logits(maps["instance_embedding"], maps["pixel_embedding"], boxes)
    masks = model.probabilities_in_boxes(logits, boxes)
    return {**published_detections(model, maps, part), "detection_masks": masks}


def published_detections(model: DeepMACModel, maps, parts):
    """Detections as the published graph names and normalises them.

    Args:
        model: the model, whose detections are not filtered by NMS.
        maps: `ct_heatmaps`, `ct_size` and `ct_offset` of the last stage, float32 [B, h, w, channels].
        parts: float32 [..., 2], the part (height, width) of the network input that the picture fills; one
            for all or [B, 2].

    Returns:
        Output name -> float32 tensor; see `whole_graph`.
    """
    generator = model.detection_generator
    detections = generator({name: [tf.cast(maps[name], tf.float32)] for name in _DETECTION_HEADS})
    options = generator.get_config()
    heat_map = tf.cast(maps["ct_heatmaps"], tf.float32)
    batch, _, width, num_classes = tf.unstack(tf.shape(heat_map))
    peaks = generator.process_heatmap(heat_map, options["peak_extract_kernel_size"])
    _, rows, columns, _ = generator.get_top_k_peaks(
        peaks, batch, width, num_classes, options["max_detections"]
    )
    centers = tf.stack([rows, columns], axis=-1)  # (B, D, 2)
    size = tf.constant(options["input_image_dims"], tf.float32)
    picture_sizes = tf.tile(tf.reshape(parts, [-1, 1, 2]) * size, [1, 1, 2])  # (B or 1, 1, 4)
    return {
        "detection_boxes": tf.clip_by_value(detections["boxes"] / picture_sizes, 0.0, 1.0),
        "detection_boxes_strided": detections["boxes"] / options["net_down_scale"],
        "detection_classes": tf.cast(detections["classes"], tf.float32),
        "detection_scores": detections["confidence"],
        "detection_multiclass_scores": tf.gather_nd(tf.sigmoid(heat_map), centers, batch_dims=1),
        "num_detections": tf.cast(detections["num_detections"], tf.float32),
    }
