"""Turns decoded COCO examples into the inputs and targets of DeepMAC."""

import tensorflow as tf
from official.projects.centernet.dataloaders.centernet_input import CenterNetParser
from official.vision.ops import preprocess_ops

from deepmac import configs
from deepmac.core.errors import InputError
from deepmac.data import augmentation
from deepmac.data.preprocessing import network_input, normalize

_ANNOTATION_FIELDS = ("groundtruth_boxes", "groundtruth_classes", "groundtruth_area", "groundtruth_is_crowd")
_MASK_FIELD = "groundtruth_instance_masks_png"
_POINT_FIELDS = ("groundtruth_keypoints", "groundtruth_keypoint_depths")


class DeepMACParser(CenterNetParser):
    """CenterNet's parser with instance masks.

    In training, flips, crops and colour jitters transform image, boxes and masks together; crowd regions
    are left out; masks are decoded for the instances drawn. In evaluation, the whole picture is resized
    with its aspect ratio and padded to the square; nothing is left out.

    N is `max_num_instances`, S the side of the network's input. `parse_fn` gives `(features, labels)`:

    features:
        image: [S, S, 3], normalised.
        boxes: float32 [K, 4], (ymin, xmin, ymax, xmax) normalised to the padded square, zero rows after
            the last one. Training: the instances masks are predicted for, K = `mask_num_subsamples`, or
            N if that is not positive. Evaluation: K = N, every box that is no crowd region.
    labels:
        boxes: float32 [N, 4] in pixels of the network's input, padded with -1; no crowd regions.
        classes: int64 [N], COCO ids, padded with -1.
        image_info: float32 [4, 2], (height, width) of: picture, network's input, scale, offset.
        unpad_image_shapes: float32 [3], height, width, channels of the part that is no padding.
        groundtruths: the annotation, boxes in pixels of the picture; row i is box i of the above. In
            training without the boxes that the crop left outside. In evaluation crowd regions follow,
            marked in `is_crowds`; with `source_id`, `height` and `width` of the picture for pasting.
        masks: (training) uint8 {0, 1} [K, S, S], zero for those that may not be used.
        mask_boxes: (training) `features.boxes`.
        mask_classes: (training) int32 [K], COCO ids, 0 after the last one.
        mask_weights: (training) float32 [K], 1 for instances, 0 after the last one.
        has_masks: (training) float32 [K], 1 for instances with a mask that may be used: one was drawn, for
            an object of an allowed class.
        keypoints: (training with points) float32 [K, P, 2], (y, x) normalised to the padded square, NaN
            where there is none, or the crop left it outside.
        keypoint_depths: (training with points) float32 [K, P], above 0 on the object.

    Every draw of a training example depends on its `seed` alone, int32 [2]; without that field, on a
    random one.
    """

    def __init__(
        self, task: configs.DeepMACTaskConfig, data: configs.DataConfig, supervise_all_classes: bool
    ):
        """Takes the options of a task and of its data.

        `odapi_augmentation` crops random squares as published instead of scaling. The colour jitters are the
        published ones in both cases.

        Args:
            task: size of the input, number of instances, and those whose masks are predicted in training.
            data: for training, or for validation.
            supervise_all_classes: draw from the instances of all classes alike (losses that need boxes
                only); otherwise those whose masks may be used come first.

        Raises:
            InputError: the network's input is not square.
        """
        height, width = task.model.input_size[:2]
        if height != width:
            raise InputError(f"input_size must be square, not {height}x{width}")
        options = data.parser.as_dict()
        super().__init__(width, height, task.model.max_num_instances, dtype=data.dtype, **options)
        self._size = height
        self._num_masks = (
            task.mask_num_subsamples if task.mask_num_subsamples > 0 else self._max_num_instances
        )
        self._sampling_side = task.mask_sampling_side
        self._allowed_ids = sorted(task.allowed_masked_classes_ids)
        self._supervise_all_classes = supervise_all_classes
        self._jitters = [name for name in augmentation.COLOR_JITTERS if getattr(self, f"_aug_rand_{name}")]
        self._normalization = {
            "bgr_ordering": self._bgr_ordering,
            "channel_means": self._channel_means,
            "channel_stds": self._channel_stds,
        }

    def _parse_train_data(self, data):
        seed = data.get("seed")
        if seed is None:
            seed = tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
        augmentation_seed, instance_seed = tf.unstack(tf.random.split(seed))
        has_masks = tf.debugging.assert_equal(
            tf.size(data[_MASK_FIELD]),
            tf.size(data["groundtruth_classes"]),
            "Training records need a mask for every instance: write them with `deepmac tfrecord`",
        )
        with tf.control_dependencies([has_masks]):
            rows = tf.where(~data["groundtruth_is_crowd"])[:, 0]
        data = _select_instances(data, rows)
        image, boxes = tf.cast(data["image"], tf.float32), data["groundtruth_boxes"]
        points = data.get(_POINT_FIELDS[0], tf.zeros([tf.shape(boxes)[0], 0, 2]))
        picture_columns = tf.range(tf.shape(image)[1])
        seeds = tf.random.split(augmentation_seed, 3)
        if self._aug_rand_hflip:
            image, boxes, points, picture_columns = augmentation.random_flip(image, boxes, points, seeds[0])
        image = augmentation.jitter_colors(image, self._jitters, seeds[1])
        crop = augmentation.random_square_crop if self._odapi_augmentation else augmentation.random_scale_crop
        view = crop(image, boxes, self._size, self._aug_scale_min, self._aug_scale_max, seeds[2])
        if _POINT_FIELDS[0] in data:
            data = data | {_POINT_FIELDS[0]: augmentation.move_points(points, view.image_info)}
        data = _select_instances(data, view.kept[: self._max_num_instances])
        boxes = view.boxes[: self._max_num_instances]
        labels = self._build_label(
            boxes, data["groundtruth_classes"], view.image_info, view.unpadded_shape, data
        )
        columns = tf.where(view.columns >= 0, tf.gather(picture_columns, tf.maximum(view.columns, 0)), -1)
        labels |= self._mask_labels(data, boxes, view.rows, columns, instance_seed)
        image = tf.cast(normalize(view.image, **self._normalization), self._dtype)
        return {"image": image, "boxes": labels["mask_boxes"]}, labels

    def _parse_eval_data(self, data):
        # Crowd regions last, so that the rows of boxes and annotation correspond.
        data = {field: value for field, value in data.items() if field not in (_MASK_FIELD, *_POINT_FIELDS)}
        crowd = tf.cast(data["groundtruth_is_crowd"], tf.int32)
        data = _select_instances(data, tf.argsort(crowd, stable=True)[: self._max_num_instances])
        shape = tf.cast(tf.shape(data["image"])[:2], tf.float32)
        image, part = network_input(data["image"], self._size, **self._normalization)
        unpadded = part * self._size
        image_info = tf.stack([shape, [self._size, self._size], unpadded / shape, [0.0, 0.0]])
        objects = _select_instances(data, tf.where(~data["groundtruth_is_crowd"])[:, 0])
        boxes = objects["groundtruth_boxes"] * tf.tile(part, [2])  # normalised to the padded square
        labels = self._build_label(
            boxes * self._size,
            objects["groundtruth_classes"],
            image_info,
            tf.concat([unpadded, [3.0]], axis=0),
            data,
        )
        boxes = preprocess_ops.clip_or_pad_to_fixed_size(boxes, self._max_num_instances)
        return {"image": tf.cast(image[0], self._dtype), "boxes": boxes}, labels

    def _mask_labels(self, data, boxes, rows, columns, seed):
        """Draws the instances and samples their masks at the view's rows and columns of the picture."""
        classes = tf.cast(data["groundtruth_classes"], tf.int32)
        usable = tf.strings.length(data[_MASK_FIELD]) > 0
        if self._allowed_ids:
            usable &= tf.reduce_any(classes[:, tf.newaxis] == tf.constant(self._allowed_ids), axis=1)
        # At most K rows in random order; those with masks come first, unless all classes are supervised.
        keys = tf.random.stateless_uniform(tf.shape(usable), seed)
        # In proportion to the square of the longer side, in pixels of the network's input, up to this one: a
        # weighted draw without replacement (Efraimidis and Spirakis, 2006).
        if self._sampling_side:
            sides = tf.reduce_max(boxes[:, 2:] - boxes[:, :2], axis=1)
            keys = 1 - (1 - keys) ** (1 / tf.clip_by_value(sides / self._sampling_side, 0.1, 1) ** 2)
        if not self._supervise_all_classes:
            keys += tf.cast(~usable, tf.float32)
        drawn = tf.argsort(keys)[: self._num_masks]
        has_masks = tf.gather(usable, drawn)
        masks = self._sample_masks(tf.gather(data[_MASK_FIELD], drawn), has_masks, rows, columns)

        def padded(values, constant=0):
            return preprocess_ops.clip_or_pad_to_fixed_size(values, self._num_masks, constant)

        labels = {
            "masks": padded(masks),
            "mask_boxes": padded(tf.gather(boxes, drawn) / self._size),
            "mask_classes": padded(tf.gather(classes, drawn)),
            "mask_weights": padded(tf.ones_like(drawn, tf.float32)),
            "has_masks": padded(tf.cast(has_masks, tf.float32)),
        }
        if _POINT_FIELDS[0] in data:
            points, depths = (tf.gather(data[field], drawn) for field in _POINT_FIELDS)
            labels |= {"keypoints": padded(points, float("nan")), "keypoint_depths": padded(depths)}
        return labels

    def _sample_masks(self, pngs, usable, rows, columns):
        """Decodes the usable masks and samples them: uint8 (n, S, S), zero for the others."""
        empty = tf.zeros([self._size, self._size], tf.uint8)

        def sampled(png):
            mask = tf.io.decode_png(png, channels=1, dtype=tf.uint8)[:, :, 0]
            mask = augmentation.sample_mask(mask, rows, columns)
            return tf.ensure_shape(tf.minimum(mask, 1), empty.shape)

        return tf.map_fn(
            lambda item: tf.cond(item[1], lambda: sampled(item[0]), lambda: empty),
            (pngs, usable),
            fn_output_signature=tf.TensorSpec(empty.shape, tf.uint8),
        )


def _select_instances(data, rows):
    """Returns `data` with the instances of `rows` only."""
    fields = [field for field in (*_ANNOTATION_FIELDS, _MASK_FIELD, *_POINT_FIELDS) if field in data]
    return data | {field: tf.gather(data[field], rows) for field in fields}
