"""The Deep-MARC task: Model Garden's, evaluated on seen and unseen classes."""

import tensorflow as tf
import tf_keras
from official.core import task_factory
from official.projects.deepmac_maskrcnn.modeling.heads import hourglass_network
from official.projects.deepmac_maskrcnn.tasks import deep_mask_head_rcnn
from official.vision.modeling.layers import detection_generator
from official.vision.ops.preprocess_ops import MEAN_RGB, STDDEV_RGB

from deepmac import configs
from deepmac.core.categories import ALL_IDS
from deepmac.core.errors import InputError
from deepmac.data.preprocessing import displayable
from deepmac.data.tfrecords import without_autotuning
from deepmac.modeling.keras_fixes import configure_batch_norm, use_repeat_upsampling
from deepmac.training.validation import EVALUATION_LOG, SHOWN_PICTURES, MaskValidation


@task_factory.register_task_cls(configs.MaskRCNNTaskConfig)
class MaskRCNNTask(MaskValidation, deep_mask_head_rcnn.DeepMaskHeadRCNNTask):
    """Mask R-CNN with deep mask heads: boxes of all classes, masks of the allowed ones.

    AutoGraph is kept out as in `DeepMACTask`.
    """

    train_step = tf.autograph.experimental.do_not_convert(deep_mask_head_rcnn.DeepMaskHeadRCNNTask.train_step)

    @property
    def seen_ids(self):
        """Category ids whose masks the model is trained on."""
        allowed = self.task_config.allowed_mask_class_ids
        return ALL_IDS if allowed is None else allowed

    def build_model(self):
        """Builds the model of `task.model`.

        Raises:
            InputError: options of the mask head that do not go together.
        """
        config = self.task_config.model
        _check_mask_options(config)
        decay = self.task_config.losses.l2_weight_decay
        model = deep_mask_head_rcnn.build_maskrcnn(
            input_specs=tf_keras.layers.InputSpec(shape=[None, *config.input_size]),
            model_config=config,
            l2_regularizer=tf_keras.regularizers.l2(decay / 2) if decay else None,  # as tf.nn.l2_loss
        )
        model.backbone.trainable = not self.task_config.freeze_backbone
        model.detection_generator = DetectionGenerator.from_config(model.detection_generator.get_config())
        # Builds its layers.
        model(tf_keras.Input(config.input_size), image_shape=tf_keras.Input([2]), training=False)
        for layer in model.mask_head.submodules:
            if isinstance(layer, hourglass_network.HourglassNetwork):
                momentum = config.mask_head.hourglass_norm_momentum
                configure_batch_norm(layer, momentum, config.norm_activation.use_sync_bn)
                use_repeat_upsampling(layer)
        return model

    def build_inputs(self, params, input_context=None, dataset_fn=None):
        """`tf.data.Dataset` of (images, labels), as Model Garden's task gives it."""
        # No decorator: Orbit looks for `input_context` in the signature, to split batches over replicas.
        build = tf.autograph.experimental.do_not_convert(super().build_inputs)
        return without_autotuning(build(params, input_context, dataset_fn))

    def build_metrics(self, training=True):
        """A mean for every loss in training; validation measures masks and boxes (`MaskValidation`)."""
        return super().build_metrics(training) if training else []

    @tf.autograph.experimental.do_not_convert
    def validation_step(self, inputs, model, metrics=None):
        """What `MaskValidation` evaluates of a batch, and a loss of zero, as Model Garden's task gives it."""
        images, labels = inputs
        image_info = labels["image_info"]
        outputs = model(
            images, anchor_boxes=labels["anchor_boxes"], image_shape=image_info[:, 1], training=False
        )
        logs = {self.loss: 0}
        if self.task_config.annotation_file:
            truth = labels["groundtruths"]
            boxes = truth["boxes"] * _corners(image_info[:, 2])  # pixels of the network's input
            masks = _masks_in_boxes(model, outputs["decoder_features"], boxes, truth["classes"])
            size = image_info[:, 0] * image_info[:, 2]  # (B, 2), height and width without padding
            logs[EVALUATION_LOG] = {
                "source_id": truth["source_id"],
                "detections": {
                    "boxes": tf.cast(outputs["detection_boxes"], tf.float32) / _corners(size),
                    "classes": outputs["detection_classes"],
                    "scores": tf.cast(outputs["detection_scores"], tf.float32),
                    "masks": _from_edge_to_edge(outputs["detection_masks"]),
                },
                "gt_boxes": {
                    "classes": tf.where(
                        truth["is_crowds"] > 0, tf.zeros_like(truth["classes"]), truth["classes"]
                    ),
                    "masks": _from_edge_to_edge(masks),
                },
            }
            if self.task_config.allow_image_summary:
                input_size = tf.constant([self.task_config.model.input_size[:2]], tf.float32)
                logs[EVALUATION_LOG]["shown"] = {
                    "images": displayable(images[:SHOWN_PICTURES], False, MEAN_RGB, STDDEV_RGB),
                    "boxes": boxes[:SHOWN_PICTURES] / _corners(input_size),
                }
        return logs


class DetectionGenerator(detection_generator.DetectionGenerator):
    """Model Garden's, on float32: bfloat16 rounds coordinates, and no kernel suppresses boxes in it."""

    def __call__(self, raw_boxes, raw_scores, *args, **kwargs):
        return super().__call__(
            tf.cast(raw_boxes, tf.float32), tf.cast(raw_scores, tf.float32), *args, **kwargs
        )


def _masks_in_boxes(model, features, boxes, classes):
    """Mask probabilities [B, N, S, S] in boxes [B, N, 4], pixels of the network's input.

    What `call_images_and_boxes` does, without computing the features again, and for heads with a mask
    for every class as well.
    """
    return model._features_to_mask_outputs(features, boxes, tf.maximum(classes, 0))[1]


def _corners(size):
    """(height, width) [B, 2] for each corner of the boxes of an image: [B, 1, 4]."""
    return tf.tile(size, [1, 2])[:, tf.newaxis]


def _from_edge_to_edge(masks):
    """Resamples masks to the grid that `deepmac.core.masks` expects.

    Args:
        masks: float [B, N, S, S], sampled at the centres of S x S cells of a box, as Mask R-CNN does.

    Returns:
        float32 [B, N, 2S+1, 2S+1], sampled at centres and boundaries of the cells, from edge to edge of
        the box; the outermost half cell continues the sample at its centre.
    """
    shape = tf.shape(masks)
    cells = tf.reshape(tf.cast(masks, tf.float32), [-1, masks.shape[2], masks.shape[3], 1])
    padded = tf.pad(cells, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    size = 2 * masks.shape[2] + 3  # every second sample lies on a centre
    samples = tf.compat.v1.image.resize_bilinear(padded, [size, size], align_corners=True)
    return tf.reshape(samples[:, 1:-1, 1:-1], [shape[0], shape[1], size - 2, size - 2])


def _check_mask_options(config):
    head, crop_size = config.mask_head, config.mask_roi_aligner.crop_size
    if not config.include_mask:
        raise InputError("task.model.include_mask must be true: masks are what is evaluated")
    if head.convnet_variant != "default" and crop_size & (crop_size - 1):
        raise InputError(
            f"task.model.mask_roi_aligner.crop_size must be a power of two for {head.convnet_variant}, "
            f"which halves it several times, not {crop_size}"
        )
    if config.use_gt_boxes_for_masks and not head.class_agnostic:
        raise InputError("task.model.use_gt_boxes_for_masks needs task.model.mask_head.class_agnostic")
    if config.outer_boxes_scale != 1:
        raise InputError("task.model.outer_boxes_scale must be 1: masks are evaluated inside the boxes")
