"""Reads TFRecord examples of COCO, with points, and leaves the masks encoded."""

import tensorflow as tf
from official.vision.dataloaders import tf_example_decoder

# As the TF Object Detection API writes them: flat, K of each instance, depth in z.
_POINT_FEATURES = {
    "image/object/keypoint/x": tf.io.VarLenFeature(tf.float32),
    "image/object/keypoint/y": tf.io.VarLenFeature(tf.float32),
    "image/object/keypoint/visibility": tf.io.VarLenFeature(tf.int64),
    "image/object/keypoint/z": tf.io.VarLenFeature(tf.float32),
}


class MaskExampleDecoder(tf_example_decoder.TfExampleDecoder):
    """Model Garden's decoder, with masks as PNG strings, and with points.

    An image has up to a hundred masks and training uses a few: the parser decodes those it has chosen.
    """

    def __init__(self, regenerate_source_id: bool = False, num_keypoints: int = 0):
        """Args: regenerate_source_id: as Model Garden's; num_keypoints: points of an instance, K."""
        super().__init__(include_mask=True, regenerate_source_id=regenerate_source_id)
        self._num_keypoints = num_keypoints

    def decode(self, serialized_example: tf.Tensor) -> dict[str, tf.Tensor]:
        """Decodes one serialised `tf.Example`.

        Returns:
            As `TfExampleDecoder.decode`: `source_id`, `image` uint8 RGB [H, W, 3], `height`, `width`,
            `groundtruth_classes` int64 [n], `groundtruth_boxes` float32 [n, 4] normalised (ymin, xmin,
            ymax, xmax), `groundtruth_area`, `groundtruth_is_crowd`; and `groundtruth_instance_masks_png`
            string [n], but no `groundtruth_instance_masks`. With K > 0, `groundtruth_keypoints` float32
            [n, K, 2] normalised (y, x), NaN where not annotated, and `groundtruth_keypoint_depths`
            float32 [n, K].
        """
        decoded = super().decode(serialized_example)
        del decoded["groundtruth_instance_masks"]
        if self._num_keypoints:
            num_instances = tf.shape(decoded["groundtruth_classes"])[0]
            decoded |= self._decode_points(serialized_example, num_instances)
        return decoded

    def _decode_masks(self, parsed_tensors):
        return parsed_tensors["image/object/mask"]

    def _decode_points(self, serialized_example, num_instances):
        parsed = tf.io.parse_single_example(serialized_example, _POINT_FEATURES)
        x, y, visibility, depths = (tf.sparse.to_dense(parsed[name]) for name in _POINT_FEATURES)
        shape = [num_instances, self._num_keypoints]
        count = shape[0] * shape[1]
        message = (
            f"the records do not hold {self._num_keypoints} points for every instance, as "
            "task.train_data.num_keypoints says: write them with `deepmac tfrecord`, which says how many"
        )
        checks = [tf.debugging.assert_equal(tf.size(part), count, message) for part in (x, y)]
        with tf.control_dependencies(checks):
            points = tf.reshape(tf.stack([y, x], axis=-1), [*shape, 2])
        # Without visibility, every point counts whose coordinates are numbers; without depth, all are 0.
        visibility = tf.cond(
            tf.size(visibility) == count, lambda: visibility, lambda: 2 * tf.ones_like(x, tf.int64)
        )
        depths = tf.cond(tf.size(depths) == count, lambda: depths, lambda: tf.zeros_like(x))
        annotated = tf.reshape(visibility > 0, [*shape, 1])
        return {
            "groundtruth_keypoints": tf.where(annotated, points, float("nan")),
            "groundtruth_keypoint_depths": tf.reshape(depths, shape),
        }
