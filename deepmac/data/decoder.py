"""Reads TFRecord examples of COCO and leaves the masks encoded."""

import tensorflow as tf
from official.vision.dataloaders import tf_example_decoder


class MaskExampleDecoder(tf_example_decoder.TfExampleDecoder):
    """Model Garden's decoder, with masks as PNG strings.

    An image has up to a hundred masks and training uses a few: the parser decodes those it has chosen.
    """

    def __init__(self, regenerate_source_id: bool = False):
        super().__init__(include_mask=True, regenerate_source_id=regenerate_source_id)

    def decode(self, serialized_example: tf.Tensor) -> dict[str, tf.Tensor]:
        """Decodes one serialised `tf.Example`.

        Returns:
            As `TfExampleDecoder.decode`: `source_id`, `image` uint8 RGB [H, W, 3], `height`, `width`,
            `groundtruth_classes` int64 [n], `groundtruth_boxes` float32 [n, 4] normalised (ymin, xmin,
            ymax, xmax), `groundtruth_area`, `groundtruth_is_crowd`; and `groundtruth_instance_masks_png`
            string [n], but no `groundtruth_instance_masks`.
        """
        decoded = super().decode(serialized_example)
        del decoded["groundtruth_instance_masks"]
        return decoded

    def _decode_masks(self, parsed_tensors):
        return parsed_tensors["image/object/mask"]
