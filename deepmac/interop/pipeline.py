"""Converts the pipeline configs DeepMAC was published with into Model Garden configurations.

Reads the text format of `TrainEvalPipelineConfig` (TF Object Detection API), applies the defaults of its
messages, and gives what to override in the experiment `deepmac_hourglass_coco`. A field that is unknown, or
has a value this library does not implement, is an error with its line; fields that change nothing here (label
maps, queue sizes, how pictures are drawn in TensorBoard) are listed.
"""

import dataclasses
import os

import yaml

from deepmac.interop import pipeline_training
from deepmac.interop.prototext import Message, read_prototext

EXPERIMENT = "deepmac_hourglass_coco"

# Published name -> (Model Garden's specification, channels, stacked hourglasses).
_BACKBONES = {
    "hourglass_10": (10, 32, 1),
    "hourglass_20": (20, 48, 1),
    "hourglass_32": (32, 48, 1),
    "hourglass_52": (52, 64, 1),
    "hourglass_104": (52, 128, 2),
}
# Options of `DeepMACMaskEstimation` and their defaults.
_MASK_HEAD = {
    "network_type": "hourglass52",
    "num_init_channels": 64,
    "dim": 256,
    "pixel_embedding_dim": 16,
    "mask_size": 32,
    "use_xy": True,
    "use_instance_embedding": True,
    "predict_full_resolution_masks": False,
    "postprocess_crop_size": 256,
    "max_roi_jitter_ratio": 0.0,
}
_MASK_LOSS = {
    "task_loss_weight": 1.0,
    "use_only_last_stage": False,
    "ignore_per_class_box_overlap": False,
    "box_consistency_loss_weight": 0.0,
    "box_consistency_tightness": False,
    "color_consistency_loss_weight": 0.0,
    "color_consistency_threshold": 0.4,
    "color_consistency_dilation": 2,
    "color_consistency_warmup_start": 0,
    "color_consistency_warmup_steps": 0,
    "augmented_self_supervision_loss_weight": 0.0,
    "augmented_self_supervision_max_translation": 0.0,
    "augmented_self_supervision_flip_probability": 0.0,
    "augmented_self_supervision_scale_min": 1.0,
    "augmented_self_supervision_scale_max": 1.0,
    "augmented_self_supervision_warmup_start": 0,
    "augmented_self_supervision_warmup_steps": 0,
    "pointly_supervised_keypoint_loss_weight": 0.0,
}
_JITTER_MODES = (
    "DEFAULT",
    "EXPAND",
    "SHRINK",
    "EXPAND_SYMMETRIC",
    "SHRINK_SYMMETRIC",
    "EXPAND_SYMMETRIC_XY",
    "SHRINK_SYMMETRIC_XY",
)
_NORMALIZATIONS = ("NORMALIZE_AUTO", "NORMALIZE_GROUNDTRUTH_COUNT", "NORMALIZE_BALANCED")
_SELF_SUPERVISION_LOSSES = ("LOSS_UNSET", "LOSS_DICE", "LOSS_MSE", "LOSS_KL_DIV")


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A converted pipeline config.

    Attributes:
        overrides: nested dict of what to override in the experiment `deepmac_hourglass_coco`.
        ignored: "line N: field" of every field without effect here.
    """

    overrides: dict
    ignored: list[str]

    def to_yaml(self) -> str:
        """The overrides as YAML for `python -m deepmac.train --config_file`."""
        return yaml.dump(self.overrides, Dumper=_Dumper, sort_keys=False, width=110)


def read_pipeline(path: str | os.PathLike) -> Pipeline:
    """Reads and converts a pipeline config.

    Args:
        path: a `pipeline.config`, or any text-format `TrainEvalPipelineConfig` of a DeepMAC model.

    Raises:
        InputError: the file is missing or malformed, a field is unknown or has a value that is not
            supported; with the line.
    """
    root = read_prototext(path)
    ignored: list[str] = []
    _, center_net = root.required("model").one_of("center_net")
    task = {"model": _model(center_net), **_objective(center_net)}
    ignored += center_net.skip("compute_heatmap_sparse")
    overrides = {"runtime": {}, "task": task, "trainer": {}}
    pipeline_training.read_training(root, overrides, ignored)
    pipeline_training.read_evaluation(root, overrides, ignored)
    normalization = _normalization(center_net.required("feature_extractor"))
    for split in ("train_data", "validation_data"):
        task[split].setdefault("parser", {}).update(normalization)
    root.finish()
    return Pipeline({name: section for name, section in overrides.items() if section}, ignored)


def pipeline_experiment(path: str | os.PathLike):
    """Reads a pipeline config as `ExperimentConfig`. Raises `InputError` as `read_pipeline` does."""
    from official.core import exp_factory

    from deepmac import configs  # noqa: F401  # registers the experiment

    overrides = read_pipeline(path).overrides
    config = exp_factory.get_exp_config(EXPERIMENT)
    config.override(overrides, is_strict=True)
    return config


class _Dumper(yaml.SafeDumper):
    """Block style, but lists on one line; equal lists are written twice."""

    def ignore_aliases(self, data):
        return True


_Dumper.add_representer(
    list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
)


def _model(center_net: Message) -> dict:
    num_classes = center_net.integer("num_classes", 0)
    if num_classes < 1:
        raise center_net.error("num_classes must be at least 1", "num_classes")
    center_net.only(use_depthwise=False)
    extractor = center_net.required("feature_extractor")
    extractor.only(use_depthwise=False, use_separable_conv=False, depth_multiplier=1.0)
    kind = extractor.string("type", "")
    if kind not in _BACKBONES:
        raise extractor.error(f"unsupported backbone {kind!r}: use one of {', '.join(_BACKBONES)}", "type")
    model_id, channels, stages = _BACKBONES[kind]
    size = _input_size(center_net.required("image_resizer"))
    center = center_net.required("object_center_params")
    _check_prediction_head(center, "center_head_params")
    return {
        "num_classes": num_classes,
        "input_size": [size, size, 3],
        "backbone": {
            "type": "hourglass",
            "hourglass": {
                "model_id": model_id,
                "input_channel_dims": channels,
                "num_hourglasses": stages,
            },
        },
        "head": {
            "input_levels": [*(f"2_{stage}" for stage in range(stages - 1)), "2"],
            "num_filters": 256,
            "heatmap_bias": center.number("heatmap_bias_init", -2.19),
        },
        "detection_generator": {
            "max_detections": center.integer("max_box_predictions", 100),
            "peak_extract_kernel_size": center.integer("peak_max_pool_kernel_size", 3),
        },
        "mask_head": _mask_head(center_net.required("deepmac_mask_estimation")),
    }


def _input_size(image_resizer: Message) -> int:
    _, resizer = image_resizer.one_of("keep_aspect_ratio_resizer")
    low, high = resizer.integer("min_dimension", 600), resizer.integer("max_dimension", 1024)
    if low != high or not resizer.boolean("pad_to_max_dimension", False):
        raise resizer.error(
            "only square network inputs are supported: equal min_dimension and max_dimension, and "
            "pad_to_max_dimension: true"
        )
    resizer.choice("resize_method", ("BILINEAR",))
    resizer.only(convert_to_grayscale=False)
    if any(resizer.numbers("per_channel_pad_value")):
        raise resizer.error("only zeros are supported", "per_channel_pad_value")
    return high


def _check_prediction_head(message: Message, name: str) -> None:
    head = message.message(name)
    if head is None:
        return
    layers = head.integers("num_filters") or [256], head.integers("kernel_sizes") or [3]
    if layers != ([256], [3]):
        raise head.error("only num_filters: 256 and kernel_sizes: 3 are supported")


def _mask_head(mask: Message) -> dict:
    jitter_mode = mask.choice("jitter_mode", _JITTER_MODES, "DEFAULT")
    options = mask.options(_MASK_HEAD) | {"jitter_mode": jitter_mode.lower()}
    if options["predict_full_resolution_masks"]:
        options["resize_by_box_count"] = True  # as the published code does
    return options


def _objective(center_net: Message) -> dict:
    """Losses, and the classes whose masks may be used."""
    detection = center_net.required("object_detection_task")
    detection.required("localization_loss").one_of("l1_localization_loss")
    for name in ("scale_head_params", "offset_head_params"):
        _check_prediction_head(detection, name)
    factor = detection.number("task_loss_weight", 1.0)
    center = center_net.required("object_center_params")
    _, focal = center.required("classification_loss").one_of("penalty_reduced_logistic_focal_loss")
    if (focal.number("alpha", 0.0), focal.number("beta", 0.0)) != (2.0, 4.0):
        raise focal.error("only alpha: 2.0 beta: 4.0 is supported")
    center.only(use_labeled_classes=False)
    mask = center_net.required("deepmac_mask_estimation")
    return {
        "losses": {
            "detection": {
                "object_center_weight": center.number("object_center_loss_weight", 1.0),
                "offset_weight": factor * detection.number("offset_loss_weight", 1.0),
                "scale_weight": factor * detection.number("scale_loss_weight", 0.1),
            },
            "gaussian_iou": center.number("min_box_overlap_iou", 0.7),
            "mask": _mask_losses(mask),
        },
        "allowed_masked_classes_ids": mask.integers("allowed_masked_classes_ids"),
        "mask_num_subsamples": mask.integer("mask_num_subsamples", -1),
    }


def _mask_losses(mask: Message) -> dict:
    normalization = mask.choice("box_consistency_loss_normalize", _NORMALIZATIONS, "NORMALIZE_AUTO")
    comparison = mask.choice("augmented_self_supervision_loss", _SELF_SUPERVISION_LOSSES, "LOSS_DICE")
    return {
        "classification_loss": _classification_loss(mask.required("classification_loss")),
        **mask.options(_MASK_LOSS),
        "box_consistency_loss_normalize": normalization.lower(),
        "augmented_self_supervision_loss": comparison.lower(),
    }


def _classification_loss(loss: Message) -> dict:
    kind, options = loss.one_of(
        "weighted_sigmoid", "weighted_dice_classification_loss", "weighted_sigmoid_focal"
    )
    if kind == "weighted_dice_classification_loss":
        options.only(is_prediction_probability=False)
        return {"type": "dice", "dice": options.options({"squared_normalization": False})}
    options.only(anchorwise_output=False)
    if kind == "weighted_sigmoid":
        return {"type": "weighted_sigmoid"}
    gamma, alpha = options.number("gamma", 2.0), options.number("alpha")  # without alpha, no weighting
    return {"type": "focal", "focal": {"gamma": gamma, "alpha": alpha}}


def _normalization(extractor: Message) -> dict:
    return {
        "bgr_ordering": extractor.boolean("bgr_ordering", False),
        "channel_means": extractor.numbers("channel_means") or [0.0, 0.0, 0.0],
        "channel_stds": extractor.numbers("channel_stds") or [1.0, 1.0, 1.0],
    }
