"""Model Garden configurations of DeepMAC and Deep-MARC: dataclasses and registered experiments.

DeepMAC's options keep names and defaults of the published `DeepMACMaskEstimation` message; they stand
where what they configure does: `task.model.mask_head`, `task.losses.mask` or `task.train_data.parser`.

Deep-MARC's are those of `official.projects.deepmac_maskrcnn`, so a configuration file for one of its
experiments is one for the experiment of the same ending here. What DeepMAC calls
`task.allowed_masked_classes_ids` is there, as published, `task.allowed_mask_class_ids`.
"""

import dataclasses

from official.core import config_definitions as cfg
from official.core import exp_factory
from official.modeling import hyperparams, optimization
from official.projects.centernet.configs import backbones as centernet_backbones
from official.projects.centernet.configs import centernet
from official.projects.deepmac_maskrcnn.configs import deep_mask_head_rcnn
from official.vision.configs import backbones, common, decoders
from official.vision.configs import maskrcnn as maskrcnn_configs

from deepmac.core.categories import MAX_CATEGORY_ID, VOC_IDS


def _field(config_class, **values):
    return dataclasses.field(default_factory=lambda: config_class(**values))


@dataclasses.dataclass
class CenterNetHeadConfig(centernet.CenterNetHead):
    """Prediction heads, one set per hourglass stage; their hidden 3x3 convolution has `num_filters`."""

    num_filters: int = 256


@dataclasses.dataclass
class EfficientNetLiteConfig(hyperparams.Config):
    """EfficientNet-Lite ('lite0', 'lite1', 'lite2'), brought to stride 4 by an FPN of `num_filters` channels.

    `init_weights` is what training without `task.init_checkpoint` starts from: 'imagenet' (lite0 only), a
    file that `make imagenet` wrote, or '' for random weights. Trained weights expect the parser's default
    `bgr_ordering`, `channel_means` and `channel_stds`. With `num_frozen_blocks`, the stem and so many blocks
    keep weights and statistics; the first three are those at strides 2 and 4.
    """

    model_id: str = "lite0"
    num_frozen_blocks: int = 0
    num_filters: int = 64
    init_weights: str = "imagenet"


@dataclasses.dataclass
class BackboneConfig(centernet_backbones.Backbone):
    """CenterNet's backbones, and `efficientnet_lite`."""

    efficientnet_lite: EfficientNetLiteConfig = _field(EfficientNetLiteConfig)


@dataclasses.dataclass
class MaskHeadConfig(hyperparams.Config):
    """The mask head and what it sees (published options of the same names).

    `resize_by_box_count` repeats a slip of the published code, for imported models with full-resolution
    masks: before cropping, it resizes a box's logits to (boxes x stride, rows x stride) instead of
    (rows x stride, columns x stride), so that masks depend on how many boxes there are.
    """

    network_type: str = "hourglass52"
    num_init_channels: int = 64
    dim: int = 256  # channels of the instance embedding
    pixel_embedding_dim: int = 16
    mask_size: int = 32
    use_xy: bool = True
    use_instance_embedding: bool = True
    predict_full_resolution_masks: bool = False
    postprocess_crop_size: int = 256
    resize_by_box_count: bool = False
    max_roi_jitter_ratio: float = 0.0
    jitter_mode: str = "default"


@dataclasses.dataclass
class DeepMACModelConfig(centernet.CenterNetModel):
    """CenterNet with a mask head.

    `norm_activation.norm_momentum` and `use_sync_bn` apply to every batch-norm layer of backbone and
    mask head (Model Garden's hourglass passes them to the outer blocks only). Keras' convention: moving =
    momentum * moving + (1 - momentum) * batch; 0.1, as published, nearly forgets all but the last
    batch, which suits large batches only.
    """

    backbone: BackboneConfig = _field(BackboneConfig, type="hourglass")
    head: CenterNetHeadConfig = _field(CenterNetHeadConfig)
    mask_head: MaskHeadConfig = _field(MaskHeadConfig)


@dataclasses.dataclass
class DiceLossConfig(hyperparams.Config):
    """Options of the dice mask loss."""

    squared_normalization: bool = False


@dataclasses.dataclass
class FocalLossConfig(hyperparams.Config):
    """Options of the sigmoid focal mask loss (arXiv 1708.02002).

    `alpha` weighs object pixels, 1 - `alpha` the others; None, as published, weighs neither.
    """

    gamma: float = 2.0
    alpha: float | None = None


@dataclasses.dataclass
class MaskClassificationLossConfig(hyperparams.OneOfConfig):
    """How mask logits are compared with a target: 'weighted_sigmoid', 'dice' or 'focal'."""

    type: str = "weighted_sigmoid"
    weighted_sigmoid: hyperparams.Config = _field(hyperparams.Config)
    dice: DiceLossConfig = _field(DiceLossConfig)
    focal: FocalLossConfig = _field(FocalLossConfig)


@dataclasses.dataclass
class MaskLossConfig(hyperparams.Config):
    """Mask losses and their weights: published options, and dice in addition to `classification_loss`."""

    classification_loss: MaskClassificationLossConfig = _field(MaskClassificationLossConfig)
    task_loss_weight: float = 1.0
    dice_loss_weight: float = 0.0
    use_only_last_stage: bool = False
    ignore_per_class_box_overlap: bool = False
    box_consistency_loss_weight: float = 0.0
    box_consistency_loss_normalize: str = "normalize_auto"
    box_consistency_tightness: bool = False
    color_consistency_loss_weight: float = 0.0
    color_consistency_threshold: float = 0.4
    color_consistency_dilation: int = 2
    color_consistency_warmup_start: int = 0
    color_consistency_warmup_steps: int = 0
    augmented_self_supervision_loss_weight: float = 0.0
    augmented_self_supervision_loss: str = "loss_dice"
    augmented_self_supervision_max_translation: float = 0.0
    augmented_self_supervision_flip_probability: float = 0.0
    augmented_self_supervision_scale_min: float = 1.0
    augmented_self_supervision_scale_max: float = 1.0
    augmented_self_supervision_warmup_start: int = 0
    augmented_self_supervision_warmup_steps: int = 0
    pointly_supervised_keypoint_loss_weight: float = 0.0


@dataclasses.dataclass
class LossesConfig(centernet.Losses):
    """Detection losses of CenterNet and the mask losses."""

    mask: MaskLossConfig = _field(MaskLossConfig)


@dataclasses.dataclass
class DataConfig(centernet.DataConfig):
    """Input of DeepMAC: CenterNet's, with instance masks.

    `num_keypoints` is the number of points of every instance in the records, read for point
    supervision (`deepmac tfrecord` says how many it wrote); 0 reads none.
    """

    dtype: str = "float32"
    num_keypoints: int = 0


@dataclasses.dataclass
class DeepMACTaskConfig(centernet.CenterNetTask):
    """DeepMAC task."""

    model: DeepMACModelConfig = _field(DeepMACModelConfig)
    train_data: DataConfig = _field(DataConfig, is_training=True)
    validation_data: DataConfig = _field(DataConfig, is_training=False)
    losses: LossesConfig = _field(LossesConfig)
    # Classes whose masks may be used in training (1-indexed); empty: all.
    allowed_masked_classes_ids: list[int] = dataclasses.field(default_factory=list)
    mask_num_subsamples: int = -1  # of an image, whose masks are predicted, supervised ones first; -1: all
    mask_sampling_side: float = 0.0  # larger ones are drawn more often, up to this side in pixels; 0: alike
    # How far edges of the boxes that the mask head sees move at most in training, and targets with them, in
    # half sizes; `max_roi_jitter_ratio`, as published, moves targets only.
    max_box_jitter_ratio: float = 0.0
    # Teaches instances without a mask that of the model in `init_checkpoint` (arXiv 1606.09282).
    keep_masks: bool = False
    seed: int | None = None  # of the initial weights and of random draws in training; None draws one
    init_checkpoint_modules: str = "detection"  # backbone and CenterNet heads; or 'all', 'backbone'


def trainer(train_steps: int, warmup_steps: int, interval: int) -> cfg.TrainerConfig:
    """The published schedule: Adam, linear warm-up from a quarter of 1e-3, then cosine decay."""
    cosine = {"decay_steps": train_steps - warmup_steps, "offset": warmup_steps}
    linear = {"warmup_learning_rate": 2.5e-4, "warmup_steps": warmup_steps}
    return cfg.TrainerConfig(
        train_steps=train_steps,
        steps_per_loop=min(interval, 100),
        summary_interval=interval,
        checkpoint_interval=interval,
        validation_interval=interval,
        validation_steps=-1,  # all images
        best_checkpoint_export_subdir="best_ckpt",
        best_checkpoint_eval_metric="gt_boxes/mask/seen/AP",  # unseen classes choose nothing
        optimizer_config=optimization.OptimizationConfig(
            {
                "optimizer": {"type": "adam", "adam": {"epsilon": 1e-7}},
                "learning_rate": {"type": "cosine", "cosine": {"initial_learning_rate": 1e-3, **cosine}},
                "warmup": {"type": "linear", "linear": linear},
            }
        ),
    )


_RESTRICTIONS = ["task.train_data.is_training != None", "task.validation_data.is_training != None"]


@exp_factory.register_config_factory("deepmac_hourglass_coco")
def deepmac_hourglass_coco() -> cfg.ExperimentConfig:
    """DeepMAC as published: hourglass-104, 1024x1024, hourglass100 mask head, masks of VOC classes.

    Training starts from a CenterNet detector (`task.init_checkpoint`); arXiv 2104.00613, table 1.
    """
    augmentation = centernet.Parser(
        odapi_augmentation=True,
        aug_scale_min=0.6,
        aug_scale_max=1.3,
        aug_rand_hue=True,
        aug_rand_contrast=True,
        aug_rand_saturation=True,
        aug_rand_brightness=True,
    )
    return cfg.ExperimentConfig(
        runtime=cfg.RuntimeConfig(mixed_precision_dtype="bfloat16"),
        task=DeepMACTaskConfig(
            model=DeepMACModelConfig(
                input_size=[1024, 1024, 3],
                max_num_instances=100,
                mask_head=MaskHeadConfig(network_type="hourglass100", dim=32),
            ),
            losses=LossesConfig(mask=MaskLossConfig(task_loss_weight=5.0)),
            allowed_masked_classes_ids=list(VOC_IDS),
            train_data=DataConfig(
                input_path="coco/train2017*", is_training=True, global_batch_size=128, parser=augmentation
            ),
            validation_data=DataConfig(
                input_path="coco/val2017*", is_training=False, global_batch_size=8, drop_remainder=False
            ),
            annotation_file="coco/instances_val2017.json",
            allow_image_summary=True,
            gradient_clip_norm=0.0,
            weight_decay=0.0,
        ),
        trainer=trainer(train_steps=50_000, warmup_steps=5_000, interval=5_000),
        restrictions=_RESTRICTIONS,
    )


def _mini_experiment(task) -> cfg.ExperimentConfig:
    """What both small experiments share: composed scenes of 128x128, batches of 16, one CPU, the schedule."""
    task.model.input_size = [128, 128, 3]
    norm = common.NormActivation(norm_momentum=0.99, norm_epsilon=1e-5, use_sync_bn=False)
    task.model.norm_activation = norm
    for data, split in ((task.train_data, "train2017"), (task.validation_data, "val2017")):
        data.input_path = f"scenes/{split}*"
        data.global_batch_size = 16
        data.dtype = "float32"
    task.train_data.shuffle_buffer_size = 1000
    task.validation_data.drop_remainder = False
    task.annotation_file = "scenes/instances_val2017.json"
    task.allow_image_summary = True
    return cfg.ExperimentConfig(
        runtime=cfg.RuntimeConfig(mixed_precision_dtype="auto", distribution_strategy="off"),
        task=task,
        trainer=trainer(train_steps=1_500, warmup_steps=100, interval=500),
        restrictions=_RESTRICTIONS,
    )


@exp_factory.register_config_factory("deepmac_mini")
def deepmac_mini() -> cfg.ExperimentConfig:
    """A small DeepMAC that trains on two CPU cores in minutes: hourglass-10, 128x128, hourglass20 head."""
    hourglass = centernet_backbones.Hourglass(model_id=10, input_channel_dims=24, num_hourglasses=1)
    task = DeepMACTaskConfig(
        model=DeepMACModelConfig(
            max_num_instances=16,
            backbone=BackboneConfig(type="hourglass", hourglass=hourglass),
            head=CenterNetHeadConfig(input_levels=["2"], num_filters=64),
            detection_generator=centernet.CenterNetDetectionGenerator(max_detections=32),
            mask_head=MaskHeadConfig(network_type="hourglass20", num_init_channels=16, dim=32),
        ),
        losses=LossesConfig(mask=MaskLossConfig(task_loss_weight=5.0)),
        allowed_masked_classes_ids=list(VOC_IDS),
        mask_num_subsamples=4,
        gradient_clip_norm=10.0,
        weight_decay=0.0,
    )
    task.train_data.parser = centernet.Parser(aug_rand_contrast=True, aug_rand_brightness=True)
    return _mini_experiment(task)


@dataclasses.dataclass
class MaskRCNNHeadConfig(deep_mask_head_rcnn.DeepMaskHead):
    """The mask head; every batch norm in its hourglass has `hourglass_norm_momentum`, 0.1 in Model Garden."""

    hourglass_norm_momentum: float = 0.1


@dataclasses.dataclass
class MaskRCNNModelConfig(deep_mask_head_rcnn.DeepMaskHeadRCNN):
    """Mask R-CNN with a deep mask head; `norm_activation.use_sync_bn` holds inside its hourglass too."""

    mask_head: MaskRCNNHeadConfig = _field(MaskRCNNHeadConfig)


@dataclasses.dataclass
class MaskRCNNTaskConfig(deep_mask_head_rcnn.DeepMaskHeadRCNNTask):
    """Deep-MARC task; `allowed_mask_class_ids` (1-indexed) are those whose masks are used, None: all."""

    model: MaskRCNNModelConfig = _field(MaskRCNNModelConfig)
    seed: int | None = None  # of the initial weights and of random draws in training; None draws one


@exp_factory.register_config_factory("deepmac_mask_rcnn_resnetfpn_coco")
def mask_rcnn_resnetfpn_coco() -> cfg.ExperimentConfig:
    """Model Garden's `deep_mask_head_rcnn_resnetfpn_coco` with the evaluation of this package."""
    return _with_mask_evaluation(deep_mask_head_rcnn.deep_mask_head_rcnn_resnetfpn_coco())


@exp_factory.register_config_factory("deepmac_mask_rcnn_spinenet_coco")
def mask_rcnn_spinenet_coco() -> cfg.ExperimentConfig:
    """Model Garden's `deep_mask_head_rcnn_spinenet_coco` with the evaluation of this package."""
    return _with_mask_evaluation(deep_mask_head_rcnn.deep_mask_head_rcnn_spinenet_coco())


def _with_mask_evaluation(config: cfg.ExperimentConfig) -> cfg.ExperimentConfig:
    task = MaskRCNNTaskConfig()
    task.override(config.task.as_dict(), is_strict=True)
    config.task = task
    # Every picture is evaluated, whatever the batch size.
    config.task.validation_data.drop_remainder = False
    config.trainer.validation_steps = -1
    return config


@exp_factory.register_config_factory("deepmac_mask_rcnn_mini")
def mask_rcnn_mini() -> cfg.ExperimentConfig:
    """A small Deep-MARC that trains on two CPU cores in minutes: ResNet-10 FPN, 128x128, hourglass20 head.

    Trained as `deepmac_mini`, so that the two can be compared.
    """
    model = MaskRCNNModelConfig(
        num_classes=MAX_CATEGORY_ID + 1,  # 0 is the background
        min_level=2,
        max_level=5,
        anchor=maskrcnn_configs.Anchor(anchor_size=4.0),
        backbone=backbones.Backbone(type="resnet", resnet=backbones.ResNet(model_id=10)),
        decoder=decoders.Decoder(type="fpn", fpn=decoders.FPN(num_filters=64)),
        rpn_head=maskrcnn_configs.RPNHead(num_filters=64),
        roi_generator=maskrcnn_configs.ROIGenerator(
            pre_nms_top_k=256, num_proposals=64, test_pre_nms_top_k=256, test_num_proposals=64
        ),
        roi_sampler=maskrcnn_configs.ROISampler(num_sampled_rois=32),
        detection_head=maskrcnn_configs.DetectionHead(num_convs=0, fc_dims=256),
        detection_generator=maskrcnn_configs.DetectionGenerator(
            nms_version="batched",  # one kernel: the others have a loop for every class, slow on a CPU
            pre_nms_top_k=500,
            max_num_detections=32,
        ),
        mask_head=MaskRCNNHeadConfig(
            class_agnostic=True, convnet_variant="hourglass20", num_filters=16, hourglass_norm_momentum=0.99
        ),
        mask_sampler=maskrcnn_configs.MaskSampler(num_sampled_masks=8),
        mask_roi_aligner=maskrcnn_configs.MaskROIAligner(crop_size=16),  # hourglasses halve it twice or more
        use_gt_boxes_for_masks=True,
    )
    task = MaskRCNNTaskConfig(model=model, allowed_mask_class_ids=list(VOC_IDS))
    task.train_data.parser = maskrcnn_configs.Parser(
        aug_rand_hflip=True,
        aug_scale_min=0.8,
        aug_scale_max=1.25,
        max_num_instances=8,  # composed scenes have no more
        rpn_batch_size_per_im=64,
    )
    task.validation_data.parser.max_num_instances = 32
    return _mini_experiment(task)
