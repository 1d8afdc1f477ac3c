"""The DeepMAC task: input, model, losses, training and validation step for Model Garden's trainer."""

import dataclasses
import random

import tensorflow as tf
import tf_keras
from absl import logging
from official.core import input_reader, task_factory
from official.projects.centernet.tasks import centernet

from deepmac import configs
from deepmac.core.categories import ALL_IDS
from deepmac.core.errors import InputError
from deepmac.data import tfrecords
from deepmac.data.parser import DeepMACParser
from deepmac.data.preprocessing import displayable
from deepmac.inference.load import normalization
from deepmac.modeling import backbones, detection_losses, mask_losses, model, roi, self_supervision
from deepmac.training.progress import KEPT_MASKS
from deepmac.training.validation import EVALUATION_LOG, SHOWN_PICTURES, MaskValidation

_DETECTION_LOSSES = ("ct_loss", "scale_loss", "ct_offset_loss")


@task_factory.register_task_cls(configs.DeepMACTaskConfig)
class DeepMACTask(MaskValidation, centernet.CenterNetTask):
    """CenterNet's task with masks: boxes of all classes, masks of the allowed ones.

    AutoGraph, which rewrites Python that branches on tensors, is kept out: nothing here does, and reading all
    the code that is called would take more than half of the time until the first step.

    Attributes:
        first_step: the step training starts from; with `train_data.deterministic`, the input is read over
            up to it. Set it before `build_inputs`.
    """

    def __init__(self, params, logging_dir=None, name=None):
        super().__init__(params, logging_dir, name)
        self.first_step = 0
        self._seed = random.getrandbits(31) if params.seed is None else params.seed

    @property
    def seen_ids(self):
        """Category ids whose masks the model is trained on."""
        return self.task_config.allowed_masked_classes_ids or ALL_IDS

    @property
    def _mask_losses(self):
        return mask_losses.active_losses(self.task_config.losses.mask)

    def build_inputs(self, params, input_context=None):
        """`tf.data.Dataset` of (features, labels), as `DeepMACParser` describes them.

        Raises:
            InputError: point supervision without points.
        """
        needs_points = mask_losses.POINT_SUPERVISION in self._mask_losses
        if params.is_training and needs_points and not params.num_keypoints:
            raise InputError(
                "losses.mask.pointly_supervised_keypoint_loss_weight needs points: set "
                "task.train_data.num_keypoints to the number `deepmac tfrecord` reported"
            )
        decode = tfrecords.MaskExampleDecoder(num_keypoints=params.num_keypoints).decode
        all_classes = self.task_config.keep_masks or not all(loss.needs_masks for loss in self._mask_losses)
        parser = DeepMACParser(self.task_config, params, supervise_all_classes=all_classes)
        options = {
            "dataset_fn": tf.data.TFRecordDataset,
            "decoder_fn": decode,
            "parser_fn": parser.parse_fn(params.is_training),
        }
        records = None
        if params.is_training and params.deterministic:
            pipelines = input_context.num_input_pipelines if input_context else 1
            records = tfrecords.reproducible_records(
                tfrecords.record_files(params.input_path),
                buffer_size=params.shuffle_buffer_size,
                seed=self._seed,
                start=self.first_step * params.global_batch_size // pipelines,
                context=input_context,
            )
            # They come in their order, each with its seed.
            params = params.replace(shuffle_buffer_size=1)
            options["decoder_fn"] = lambda seed, record: decode(record) | {"seed": seed}
        elif not params.is_training:
            # Every worker evaluates all pictures: what they found is not gathered.
            params = params.replace(sharding=False)
            if not params.drop_remainder:
                options["transform_and_batch_fn"] = tfrecords.padded_batches(params.global_batch_size)
        # No decorator: Orbit looks for `input_context` in the signature, to split batches over replicas.
        read = tf.autograph.experimental.do_not_convert(input_reader.InputReader(params, **options).read)
        return tfrecords.without_autotuning(read(input_context, records))

    def build_model(self):
        """Builds the model of `task.model`, and with `keep_masks` the one whose masks it is taught."""
        config = self.task_config
        if config.keep_masks:
            if not config.init_checkpoint:
                raise InputError("task.keep_masks needs task.init_checkpoint, whose masks are kept")
            self._teacher = model.build_deepmac(config.model, use_only_last_stage=True)
            self._teacher.trainable = False
            self.initialize(self._teacher)
        return model.build_deepmac(config.model, config.losses.mask.use_only_last_stage)

    def initialize(self, model):
        """Restores `task.init_checkpoint`, or else what the backbone's configuration starts from.

        Modules 'detection' are backbone and prediction heads as a CenterNet detector has them: the
        mask head starts fresh; 'all' adds the mask head.

        Raises:
            InputError: no checkpoint there, unknown modules, or variables that do not fit.
        """
        path = self.task_config.init_checkpoint
        if not path:
            backbones.initialize(model.backbone, self.task_config.model.backbone)
            return
        checkpoint = tf.train.latest_checkpoint(path) if tf.io.gfile.isdir(path) else path
        if not checkpoint or not tf.io.gfile.exists(f"{checkpoint}.index"):
            raise InputError(f"task.init_checkpoint: no checkpoint at {path}")
        modules = {
            "all": ("backbone", "head", "mask_head"),
            "backbone": ("backbone",),
            "detection": ("backbone", "head"),
        }.get(self.task_config.init_checkpoint_modules)
        if modules is None:
            raise InputError(
                "task.init_checkpoint_modules must be all, backbone or detection, "
                f"not {self.task_config.init_checkpoint_modules}"
            )
        items = {name: item for name, item in model.checkpoint_items.items() if name in modules}
        status = tf.train.Checkpoint(**items).restore(checkpoint)
        status.expect_partial().assert_existing_objects_matched()
        logging.info("Restored %s from %s", ", ".join(items), checkpoint)

    def build_losses(self, outputs, labels, mask_batch: mask_losses.MaskBatch | None = None):
        """Losses of a batch.

        Args:
            outputs: the model's `raw_output`, float32.
            labels: as `DeepMACParser` gives them.
            mask_batch: what mask losses are computed from, in training.

        Returns:
            Loss name -> float32 scalar: unweighted CenterNet losses, weighted mask losses (with
            `mask_batch` only), and `total_loss`.
        """
        config = self.task_config
        losses = detection_losses.detection_losses(outputs, labels, config)
        weights = config.losses.detection
        terms = {
            "ct_loss": weights.object_center_weight,
            "scale_loss": weights.scale_weight,
            "ct_offset_loss": weights.offset_weight,
        }
        # A term times 0 would still have its gradients computed.
        total = tf.add_n([tf.zeros([])] + [weight * losses[name] for name, weight in terms.items() if weight])
        masks = {}
        if mask_batch is not None:
            masks = mask_losses.mask_losses(
                mask_batch, config.losses.mask, config.model.mask_head, config.allowed_masked_classes_ids
            )
        if masks:
            total += tf.add_n(list(masks.values()))
        return {**losses, **masks, "total_loss": total}

    def mask_batch(self, outputs, features, labels, step, model) -> mask_losses.MaskBatch:
        """What the mask losses of a step are computed from; `outputs` are the model's `raw_output`, float32.

        The model makes the second pass of self-supervision, over augmented images.
        """
        mask_head, losses = self.task_config.model.mask_head, self.task_config.losses.mask
        seed = self._step_seed(labels, step)
        crop_boxes = restored_logits = None
        if mask_head.max_roi_jitter_ratio:
            crop_boxes = roi.jitter_boxes(
                labels["mask_boxes"],
                mask_head.max_roi_jitter_ratio,
                mask_head.jitter_mode,
                tf.random.fold_in(seed, 0),
            )
        if losses.augmented_self_supervision_loss_weight:
            image, boxes = features["image"], features["boxes"]
            windows = self_supervision.draw_windows(tf.shape(image)[0], losses, tf.random.fold_in(seed, 1))
            augmented = {
                "image": self_supervision.augment_images(image, windows),
                "boxes": self_supervision.augment_boxes(boxes, windows),
            }
            stages = model(augmented, training=True)["raw_output"]["mask_logits"]
            restored_logits = [self_supervision.restore_masks(logits, windows) for logits in stages]
        return mask_losses.MaskBatch(
            logits=outputs["mask_logits"],
            boxes=labels["mask_boxes"],
            masks=labels["masks"],
            classes=labels["mask_classes"],
            weights=labels["mask_weights"],
            images=features["image"],
            has_masks=labels["has_masks"],
            crop_boxes=crop_boxes,
            restored_logits=restored_logits,
            keypoints=labels.get("keypoints"),
            keypoint_depths=labels.get("keypoint_depths"),
            step=step,
        )

    def _kept_masks_loss(self, features, labels, batch: mask_losses.MaskBatch):
        """Compares masks of instances that have none with those of the teacher: float32 scalar."""
        config = self.task_config
        logits = self._teacher(features, training=False)["raw_output"]["mask_logits"][-1]
        taught = dataclasses.replace(
            batch,
            masks=tf.sigmoid(tf.cast(logits, tf.float32)),  # of the boxes, not of the picture
            crop_boxes=tf.broadcast_to([0.0, 0.0, 1.0, 1.0], tf.shape(batch.boxes)),
            classes=tf.zeros_like(batch.classes),
            has_masks=1.0 - labels["has_masks"],
        )
        losses = mask_losses.mask_losses(taught, config.losses.mask, config.model.mask_head)
        return tf.add_n(
            [tf.zeros([]), *(losses[loss.name] for loss in self._mask_losses if loss.needs_masks)]
        )

    def _step_seed(self, labels, step):
        """int32 [2], another one for other pictures, and so in each replica."""
        seed = tf.stack([tf.constant(self._seed), tf.cast(step, tf.int32)])
        return tf.random.fold_in(seed, labels["groundtruths"]["source_id"][0])

    def _jitter_boxes(self, features, labels, step):
        """Moves the boxes that the mask head sees, and that crop its targets, by `max_box_jitter_ratio`."""
        ratio = self.task_config.max_box_jitter_ratio
        if not ratio:
            return features, labels
        seed = tf.random.fold_in(self._step_seed(labels, step), 2)
        boxes = roi.jitter_boxes(features["boxes"], ratio, "default", seed)
        return {**features, "boxes": boxes}, {**labels, "mask_boxes": boxes}

    def build_metrics(self, training=True):
        """A mean for every loss; mask losses in training only."""
        names = ["total_loss", *_DETECTION_LOSSES]
        if training:
            names += [loss.name for loss in self._mask_losses]
            names += [KEPT_MASKS] * self.task_config.keep_masks
        return [tf_keras.metrics.Mean(name, dtype=tf.float32) for name in names]

    def _logs(self, losses, metrics):
        logs = {self.loss: losses["total_loss"]}
        for metric in metrics or ():
            metric.update_state(losses[metric.name])
            logs[metric.name] = metric.result()
        return logs

    @tf.autograph.experimental.do_not_convert
    def train_step(self, inputs, model, optimizer, metrics=None):
        """One step of training on a replica's batch, (features, labels): loss name -> value."""
        features, labels = self._jitter_boxes(*inputs, optimizer.iterations)
        with tf.GradientTape() as tape:
            outputs = _in_float32(model(features, training=True)["raw_output"])
            batch = self.mask_batch(outputs, features, labels, optimizer.iterations, model)
            losses = self.build_losses(outputs, labels, batch)
            if self.task_config.keep_masks:
                losses[KEPT_MASKS] = self._kept_masks_loss(features, labels, batch)
                losses["total_loss"] += losses[KEPT_MASKS]
            loss = losses["total_loss"] / tf.distribute.get_strategy().num_replicas_in_sync
            if isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer):  # float16
                loss = optimizer.get_scaled_loss(loss)
        gradients = tape.gradient(loss, model.trainable_variables)
        if isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer):
            gradients = optimizer.get_unscaled_gradients(gradients)
        if self.task_config.gradient_clip_norm > 0:
            gradients, _ = tf.clip_by_global_norm(gradients, self.task_config.gradient_clip_norm)
        optimizer.apply_gradients(list(zip(gradients, model.trainable_variables, strict=True)))
        return self._logs(losses, metrics)

    @tf.autograph.experimental.do_not_convert
    def validation_step(self, inputs, model, metrics=None):
        """Losses of a batch, name -> value, and what `MaskValidation` evaluates.

        Inputs are (features, labels); `features["boxes"]` are the ground-truth boxes.
        """
        features, labels = inputs
        outputs = model(features, training=False)
        raw = _in_float32(outputs["raw_output"])
        logs = self._logs(self.build_losses(raw, labels), metrics)
        if self.task_config.annotation_file:
            unpadded_size = tf.tile(labels["unpad_image_shapes"][:, tf.newaxis, :2], [1, 1, 2])  # (B, 1, 4)
            logs[EVALUATION_LOG] = {
                "source_id": labels["groundtruths"]["source_id"],
                "detections": {
                    "boxes": outputs["boxes"] / unpadded_size,
                    "classes": outputs["classes"],
                    "scores": outputs["confidence"],
                    "masks": outputs["masks"],
                },
                "gt_boxes": {
                    "classes": labels["classes"],
                    "masks": model.probabilities_in_boxes(raw["mask_logits"][-1], features["boxes"]),
                },
            }
            if self.task_config.allow_image_summary:
                images, boxes = (features[name][:SHOWN_PICTURES] for name in ("image", "boxes"))
                pictures = displayable(images, **normalization(self.task_config))
                logs[EVALUATION_LOG]["shown"] = {"images": pictures, "boxes": boxes}
        return logs


def _in_float32(outputs):
    return tf.nest.map_structure(lambda x: tf.cast(x, tf.float32), outputs)
