"""DeepMAC: a mask head on RoI crops above CenterNet (arXiv 2104.00613, section 3)."""

import os
from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras
from official.core import config_definitions, train_utils
from official.projects.centernet.modeling import centernet_model
from official.projects.centernet.modeling.layers import cn_nn_blocks
from official.projects.centernet.modeling.layers import detection_generator as detection_generators
from official.vision.modeling.backbones import factory

from deepmac import configs
from deepmac.core.errors import InputError
from deepmac.modeling import backbones, mask_heads, roi  # noqa: F401  # registers backbones
from deepmac.modeling.keras_fixes import configure_batch_norm, use_repeat_upsampling

DETECTION_HEADS = ("ct_heatmaps", "ct_size", "ct_offset")
_EMBEDDINGS = ("instance_embedding", "pixel_embedding")


class DeepMACModel(centernet_model.CenterNetModel):
    """CenterNet whose last feature map also gives embeddings from which masks in boxes are predicted."""

    def __init__(
        self, backbone, detection_generator, config: configs.DeepMACModelConfig, use_only_last_stage: bool
    ):
        """Puts heads on a backbone; `build_deepmac` makes all of it from a configuration."""
        # Boxes keep float32 under a mixed precision policy; the layers cast images themselves.
        super().__init__(backbone, PredictionHeads(config), detection_generator, autocast=False)
        self._mask_head = mask_heads.build_mask_head(config.mask_head)
        self._mask_config = config.mask_head
        self._use_only_last_stage = use_only_last_stage

    def call(self, inputs, training=None):
        """Detects objects and predicts masks.

        Args:
            inputs: float [B, H, W, 3] normalised images, or a dict with `image` and `boxes`, float32
                [B, N, 4] (ymin, xmin, ymax, xmax) normalised to the padded image: boxes to predict
                masks for.
            training: whether batch norm uses the statistics of the batch.

        Returns:
            `raw_output`: head name -> list over stages of [B, h, w, channels]; where boxes are given also
            `mask_logits`, a list over stages, or of the last one alone, of float32 [B, N, S, S]. In
            inference, for D detections in pixels of the network input: `boxes` [B, D, 4], `classes` [B, D],
            `confidence` [B, D], `num_detections` [B], `masks` float32 [B, D, S, S] mask probabilities.
        """
        image, boxes = (
            (inputs["image"], inputs.get("boxes")) if isinstance(inputs, Mapping) else (inputs, None)
        )
        outputs = self._head(self._backbone(image, training=training))
        predictions = {"raw_output": outputs}
        if boxes is not None:
            stages = list(zip(*(outputs[name] for name in _EMBEDDINGS), strict=True))
            # A stage that no loss reaches must not reach the mask head either: it would take memory, and
            # its embeddings would be part of the moving averages of batch norm.
            outputs["mask_logits"] = [
                self.mask_logits(*embeddings, boxes, training)
                for embeddings in (stages[-1:] if self._use_only_last_stage else stages)
            ]
        if not training:
            detections, found = self.detect_boxes({name: outputs[name][-1] for name in DETECTION_HEADS})
            embeddings = [outputs[name][-1] for name in _EMBEDDINGS]
            masks = self.probabilities_in_boxes(self.mask_logits(*embeddings, found), found)
            predictions.update(detections, masks=masks)
        return predictions

    def detect_boxes(self, maps):
        """Detections without masks of maps of `DETECTION_HEADS`, and their boxes normalised to the input."""
        stages = {name: [tf.cast(maps[name], tf.float32)] for name in DETECTION_HEADS}
        detections = self._detection_generator(stages)
        height, width = self._detection_generator.get_config()["input_image_dims"]
        return detections, detections["boxes"] / tf.constant([height, width, height, width], tf.float32)

    def encode(self, image):
        """Everything masks need of images, float [B, H, W, 3] normalised: the last stage's embeddings.

        Returns:
            instance embedding [B, h, w, E] and pixel embedding [B, h, w, D].
        """
        return self.encode_with(image, ())[0]

    def encode_and_detect(self, image):
        """What `encode` gives, and D detections: boxes [B, D, 4] normalised, classes and scores [B, D]."""
        embeddings, maps = self.encode_with(image, DETECTION_HEADS)
        detections, boxes = self.detect_boxes(maps)
        return *embeddings, boxes, detections["classes"], detections["confidence"]

    def encode_with(self, image, heads: Sequence[str]):
        """What `encode` gives, and the last stage's maps of other heads: name -> [B, h, w, channels]."""
        features = self._backbone(image, training=False)[self._head.input_levels[-1]]
        maps = {name: self._head.heads[name][-1](features) for name in (*_EMBEDDINGS, *heads)}
        return tuple(maps[name] for name in _EMBEDDINGS), {name: maps[name] for name in heads}

    def mask_probs(self, instance_embedding, pixel_embedding, boxes):
        """Mask probabilities inside each box, float32 [B, N, S, S]; takes what `mask_logits` does."""
        logits = self.mask_logits(instance_embedding, pixel_embedding, boxes)
        return self.probabilities_in_boxes(logits, boxes)

    def mask_logits(self, instance_embedding, pixel_embedding, boxes, training=False):
        """Predicts masks in boxes.

        Args:
            instance_embedding: float [B, h, w, E].
            pixel_embedding: float [B, h, w, D].
            boxes: float32 [B, N, 4] (ymin, xmin, ymax, xmax) normalised.
            training: whether batch norm uses the statistics of the batch.

        Returns:
            float32 [B, N, S, S] logits inside each box (with full-resolution masks [B, N, h, w],
            over the whole image).
        """
        config = self._mask_config
        num_boxes = boxes.shape[1] or tf.shape(boxes)[1]
        instances = roi.gather_points(instance_embedding, roi.box_centers(boxes))  # (B, N, E)
        instances = tf.reshape(instances, [-1, instances.shape[-1]])
        pixels = mask_heads.mask_head_pixels(pixel_embedding, boxes, config)  # (B, N, S, S, D')
        size = pixels.shape[2:]
        logits = self._mask_head(instances, tf.reshape(pixels, [-1, *size]), training=training)
        return tf.reshape(tf.cast(logits, tf.float32), [-1, num_boxes, *size[:2]])

    def probabilities_in_boxes(self, logits, boxes):
        """Turns what `mask_logits` gives into mask probabilities inside each box, float32 [B, N, S, S]."""
        return tf.sigmoid(mask_heads.crop_logits(logits, boxes, self._mask_config))

    @property
    def mask_head(self):
        """The mask head, a layer of (instance embedding, pixel embedding crops)."""
        return self._mask_head

    @property
    def checkpoint_items(self):
        """Parts saved one by one: backbone, head, mask_head."""
        return {**super().checkpoint_items, "mask_head": self._mask_head}


@tf.autograph.experimental.do_not_convert  # as in `DeepMACTask`: a third of the time it takes to build
def build_deepmac(config: configs.DeepMACModelConfig, use_only_last_stage: bool = False) -> DeepMACModel:
    """Builds the model a configuration describes, with all variables created.

    Args:
        use_only_last_stage: whether masks in given boxes are predicted from the last stage alone, as the
            option of that name among the mask losses demands in training.

    Raises:
        InputError: sizes that do not fit together, or an unknown mask head.
    """
    if len(config.input_size) != 3 or config.input_size[2] != 3:
        raise InputError(f"model.input_size must be [height, width, 3], not {config.input_size}")
    height, width, _ = config.input_size
    backbone = factory.build_backbone(
        input_specs=tf_keras.layers.InputSpec(shape=[None, height, width, 3]),
        backbone_config=config.backbone,
        norm_activation_config=config.norm_activation,
    )
    use_repeat_upsampling(backbone)
    missing = [level for level in config.head.input_levels if level not in backbone.output_specs]
    if missing:
        raise InputError(
            f"model.head.input_levels names {missing}, but the backbone has {sorted(backbone.output_specs)}"
        )
    detection = config.detection_generator.as_dict()
    detection.pop("use_reduction_sum")  # an option that Model Garden's generator does not take
    detection_generator = detection_generators.CenterNetDetectionGenerator(
        net_down_scale=height // backbone.output_specs[config.head.input_levels[-1]][1],
        input_image_dims=(height, width),
        **detection,
    )
    model = DeepMACModel(backbone, detection_generator, config, use_only_last_stage)
    # Symbolic inputs create the variables of both heads; a functional backbone has its own already.
    shapes = {level: backbone.output_specs[level][1:] for level in config.head.input_levels}
    model.head({level: tf_keras.Input(shape) for level, shape in shapes.items()})
    mask_head = config.mask_head
    size = [mask_head.mask_size] * 2
    if mask_head.predict_full_resolution_masks:
        size = shapes[config.head.input_levels[-1]][:2]
    channels = mask_head.pixel_embedding_dim + (2 if mask_head.use_xy else 0)
    model.mask_head(tf_keras.Input([mask_head.dim]), tf_keras.Input([*size, channels]))
    configure_batch_norm(model, config.norm_activation.norm_momentum, config.norm_activation.use_sync_bn)
    return model


def save_model(
    model: DeepMACModel, params: config_definitions.ExperimentConfig, folder: str | os.PathLike
) -> None:
    """Writes `params.yaml` and a checkpoint of step 0, as Model Garden's trainer does, into an empty folder.

    So a model can be loaded, or trained on, without the state of the training it comes from.
    """
    train_utils.serialize_config(params, str(folder))
    step = tf.Variable(0, dtype=tf.int64)
    saved = tf.train.Checkpoint(global_step=step, model=model, **model.checkpoint_items)
    tf.train.CheckpointManager(saved, str(folder), max_to_keep=1).save(checkpoint_number=0)


# Heads that regress coordinates: bfloat16 holds 8 bits, too few for offsets and sizes.
_REGRESSION_HEADS = ("ct_offset", "ct_size")


class PredictionHead(cn_nn_blocks.CenterNetHeadConv):
    """Conv 3x3 + ReLU + conv 1x1 of a given hidden width.

    Model Garden's head is as wide as the feature map; the published one has a width of its own.
    """

    def __init__(self, num_filters: int, output_dtype: str | None = None, **kwargs):
        """Args: num_filters: hidden width; output_dtype: dtype of the 1x1 conv, None for the policy's."""
        super().__init__(**kwargs)
        self._num_filters = num_filters
        self._output_dtype = output_dtype

    def build(self, input_shape):
        self.conv1 = tf_keras.layers.Conv2D(self._num_filters, 3, padding="same")
        self.relu = tf_keras.layers.ReLU()
        self.conv2 = tf_keras.layers.Conv2D(
            self._output_filters,
            1,
            bias_initializer=tf.constant_initializer(self._bias_init),
            dtype=self._output_dtype,
        )
        self.built = True


class PredictionHeads(tf_keras.layers.Layer):
    """One `PredictionHead` for every output and hourglass stage."""

    def __init__(self, config: configs.DeepMACModelConfig):
        """Creates the heads of a model."""
        super().__init__()
        self.input_levels = list(config.head.input_levels)  # one a stage, the last stage last
        output_channels = {
            "ct_heatmaps": config.num_classes,
            "ct_offset": 2,
            "ct_size": 2,
            "instance_embedding": config.mask_head.dim,
            "pixel_embedding": config.mask_head.pixel_embedding_dim,
        }
        self.heads = {
            name: [
                PredictionHead(
                    config.head.num_filters,
                    output_filters=channels,
                    bias_init=config.head.heatmap_bias if name == "ct_heatmaps" else 0,
                    output_dtype="float32" if name in _REGRESSION_HEADS else None,
                    name=f"{name}{level}",
                )
                for level in self.input_levels
            ]
            for name, channels in output_channels.items()
        }

    def call(self, features):
        """Applies every head to every stage of the features, level -> float [B, H, W, C].

        Returns:
            Head name -> list over stages of [B, H, W, channels].
        """
        return {
            name: [head(features[level]) for head, level in zip(stages, self.input_levels, strict=True)]
            for name, stages in self.heads.items()
        }
