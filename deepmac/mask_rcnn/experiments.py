"""Model Garden configurations of Deep-MARC: dataclasses and registered experiments.

The options are those of `official.projects.deepmac_maskrcnn`, so a configuration file for one of its
experiments is one for the experiment of the same ending here. Note the different name of the option that
DeepMAC calls `task.allowed_masked_classes_ids`: here, as published, `task.allowed_mask_class_ids`.
"""

import dataclasses

from official.core import config_definitions as cfg
from official.core import exp_factory
from official.projects.deepmac_maskrcnn.configs import deep_mask_head_rcnn
from official.vision.configs import backbones, common, decoders
from official.vision.configs import maskrcnn as maskrcnn_configs

from deepmac.categories import MAX_CATEGORY_ID, VOC_IDS
from deepmac.experiments import deepmac_mini


@dataclasses.dataclass
class MaskHead(deep_mask_head_rcnn.DeepMaskHead):
    """The mask head.

    `hourglass_norm_momentum` is that of every batch-norm layer in an hourglass, which Model Garden fixes
    at 0.1: nearly the last batch alone, which suits large batches only.
    """

    hourglass_norm_momentum: float = 0.1


@dataclasses.dataclass
class MaskRCNNModel(deep_mask_head_rcnn.DeepMaskHeadRCNN):
    """Mask R-CNN with a deep mask head; `norm_activation.use_sync_bn` holds inside its hourglass too."""

    mask_head: MaskHead = dataclasses.field(default_factory=MaskHead)


@dataclasses.dataclass
class MaskRCNNTask(deep_mask_head_rcnn.DeepMaskHeadRCNNTask):
    """Deep-MARC task.

    Attributes:
        allowed_mask_class_ids: category ids (1-indexed) whose masks may be used in training; None means all.
        seed: of the initial weights and of random draws in training; None draws one.
    """

    model: MaskRCNNModel = dataclasses.field(default_factory=MaskRCNNModel)
    seed: int | None = None


@exp_factory.register_config_factory("deepmac_mask_rcnn_resnetfpn_coco")
def mask_rcnn_resnetfpn_coco() -> cfg.ExperimentConfig:
    """Model Garden's `deep_mask_head_rcnn_resnetfpn_coco` with the evaluation of this package."""
    return _with_mask_evaluation(deep_mask_head_rcnn.deep_mask_head_rcnn_resnetfpn_coco())


@exp_factory.register_config_factory("deepmac_mask_rcnn_spinenet_coco")
def mask_rcnn_spinenet_coco() -> cfg.ExperimentConfig:
    """Model Garden's `deep_mask_head_rcnn_spinenet_coco` with the evaluation of this package."""
    return _with_mask_evaluation(deep_mask_head_rcnn.deep_mask_head_rcnn_spinenet_coco())


def _with_mask_evaluation(config: cfg.ExperimentConfig) -> cfg.ExperimentConfig:
    task = MaskRCNNTask()
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
    return cfg.ExperimentConfig(
        runtime=cfg.RuntimeConfig(mixed_precision_dtype="auto", distribution_strategy="off"),
        task=MaskRCNNTask(
            model=_mini_model(),
            allowed_mask_class_ids=list(VOC_IDS),
            train_data=maskrcnn_configs.DataConfig(
                input_path="scenes/train2017*",
                is_training=True,
                global_batch_size=16,
                dtype="float32",
                shuffle_buffer_size=1000,
                parser=maskrcnn_configs.Parser(
                    aug_rand_hflip=True,
                    aug_scale_min=0.8,
                    aug_scale_max=1.25,
                    max_num_instances=8,  # composed scenes have no more
                    rpn_batch_size_per_im=64,
                ),
            ),
            validation_data=maskrcnn_configs.DataConfig(
                input_path="scenes/val2017*",
                is_training=False,
                global_batch_size=16,
                dtype="float32",
                drop_remainder=False,
                parser=maskrcnn_configs.Parser(max_num_instances=32),
            ),
            annotation_file="scenes/instances_val2017.json",
            allow_image_summary=True,
        ),
        trainer=deepmac_mini().trainer,
        restrictions=["task.train_data.is_training != None", "task.validation_data.is_training != None"],
    )


def _mini_model() -> MaskRCNNModel:
    return MaskRCNNModel(
        num_classes=MAX_CATEGORY_ID + 1,  # 0 is the background
        input_size=[128, 128, 3],
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
        mask_head=MaskHead(
            class_agnostic=True,
            convnet_variant="hourglass20",
            num_filters=16,
            hourglass_norm_momentum=0.99,
        ),
        mask_sampler=maskrcnn_configs.MaskSampler(num_sampled_masks=8),
        mask_roi_aligner=maskrcnn_configs.MaskROIAligner(crop_size=16),  # hourglasses halve it twice or more
        use_gt_boxes_for_masks=True,
        norm_activation=common.NormActivation(norm_momentum=0.99, norm_epsilon=1e-5, use_sync_bn=False),
    )
