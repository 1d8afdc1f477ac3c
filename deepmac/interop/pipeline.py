"""Converts the pipeline configs DeepMAC was published with into Model Garden configurations.

Gives what `TrainEvalPipelineConfig` (TF Object Detection API) says as overrides of the experiment
`deepmac_hourglass_coco`. A field that is unknown, or has a value this library does not implement, is an error
with its line; fields that change nothing here (label maps, queue sizes, how TensorBoard draws pictures) are
listed.
"""

import dataclasses
import os

import yaml

from deepmac.interop import prototext
from deepmac.interop.prototext import Prototext

EXPERIMENT = "deepmac_hourglass_coco"

# Published name -> (Model Garden's specification, channels, stacked hourglasses).
_BACKBONES = {
    "hourglass_10": (10, 32, 1),
    "hourglass_20": (20, 48, 1),
    "hourglass_32": (32, 48, 1),
    "hourglass_52": (52, 64, 1),
    "hourglass_104": (52, 128, 2),
}
# `fine_tune_checkpoint_type` -> `task.init_checkpoint_modules`.
_CHECKPOINT_MODULES = {
    "classification": "backbone",
    "detection": "detection",
    "fine_tune": "all",
    "full": "all",
}
# Published name -> option of the parser, in the order the parser applies them.
_AUGMENTATIONS = {
    "random_horizontal_flip": "aug_rand_hflip",
    "random_adjust_hue": "aug_rand_hue",
    "random_adjust_contrast": "aug_rand_contrast",
    "random_adjust_saturation": "aug_rand_saturation",
    "random_adjust_brightness": "aug_rand_brightness",
    "random_square_crop_by_scale": "odapi_augmentation",
}
_CENTER_NET = "model.center_net"


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
    file = prototext.read_prototext(path)
    root, options = file.root, {}
    if root.HasField("train_config"):
        options["runtime.mixed_precision_dtype"] = "bfloat16" if root.train_config.use_bfloat16 else "float32"
    options |= _model(file) | _objective(file) | _optimization(file) | _training_data(file)
    options |= _input(file, "eval_input_reader", "task.validation_data")
    if root.HasField("eval_config"):
        options["task.validation_data.global_batch_size"] = root.eval_config.batch_size
        options["task.per_category_metrics"] = root.eval_config.include_metrics_per_category
        for index, metric in enumerate(root.eval_config.metrics_set):
            if metric not in ("coco_detection_metrics", "coco_mask_metrics"):
                problem = "only coco_detection_metrics and coco_mask_metrics are supported"
                raise file.error(f"eval_config.metrics_set[{index}]", problem)
    extractor = root.model.center_net.feature_extractor
    for parser in ("task.train_data.parser", "task.validation_data.parser"):
        options[f"{parser}.bgr_ordering"] = extractor.bgr_ordering
        options[f"{parser}.channel_means"] = list(extractor.channel_means) or [0.0, 0.0, 0.0]
        options[f"{parser}.channel_stds"] = list(extractor.channel_stds) or [1.0, 1.0, 1.0]
    if root.HasField("train_config"):
        options |= _trainer(file)
    overrides: dict = {}
    for place, value in options.items():
        *parents, name = place.split(".")
        part = overrides
        for parent in parents:
            part = part.setdefault(parent, {})
        part[name] = value
    return Pipeline(overrides, file.ignored)


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


# The functions below give options of an experiment by their place, as "task.model.num_classes".


def _model(file: Prototext) -> dict:
    center_net = file.root.model.center_net
    if center_net.num_classes < 1:
        raise file.error(f"{_CENTER_NET}.num_classes", "num_classes must be at least 1")
    kind = center_net.feature_extractor.type
    if kind not in _BACKBONES:
        problem = f"unsupported backbone {kind!r}: use one of {', '.join(_BACKBONES)}"
        raise file.error(f"{_CENTER_NET}.feature_extractor.type", problem)
    model_id, channels, stages = _BACKBONES[kind]
    size = _input_size(file)
    boxes = file.root.train_config.max_number_of_boxes
    if file.root.train_input_reader.HasField("max_number_of_boxes"):  # replaced the field of `train_config`
        boxes = file.root.train_input_reader.max_number_of_boxes
    options = {
        "task.model.num_classes": center_net.num_classes,
        "task.model.input_size": [size, size, 3],
        "task.model.backbone.type": "hourglass",
        "task.model.backbone.hourglass.model_id": model_id,
        "task.model.backbone.hourglass.input_channel_dims": channels,
        "task.model.backbone.hourglass.num_hourglasses": stages,
        "task.model.head.input_levels": [*(f"2_{stage}" for stage in range(stages - 1)), "2"],
        "task.model.head.num_filters": 256,
        **prototext.options(center_net.object_center_params),
        "task.model.max_num_instances": boxes,
    }
    if center_net.deepmac_mask_estimation.predict_full_resolution_masks:
        options["task.model.mask_head.resize_by_box_count"] = True  # as the published code does
    return options


def _input_size(file: Prototext) -> int:
    """Side of the square network input, in pixels."""
    resizer = file.root.model.center_net.image_resizer.keep_aspect_ratio_resizer
    path = f"{_CENTER_NET}.image_resizer.keep_aspect_ratio_resizer"
    if resizer.min_dimension != resizer.max_dimension or not resizer.pad_to_max_dimension:
        raise file.error(
            path,
            "only square network inputs are supported: equal min_dimension and max_dimension, and "
            "pad_to_max_dimension: true",
        )
    if any(resizer.per_channel_pad_value):
        raise file.error(f"{path}.per_channel_pad_value", "only zeros are supported")
    return resizer.max_dimension


def _objective(file: Prototext) -> dict:
    """Losses, the mask head, and the classes whose masks may be used."""
    center_net = file.root.model.center_net
    detection, center = center_net.object_detection_task, center_net.object_center_params
    for path, head in (
        ("object_detection_task.scale_head_params", detection.scale_head_params),
        ("object_detection_task.offset_head_params", detection.offset_head_params),
        ("object_center_params.center_head_params", center.center_head_params),
    ):
        if list(head.num_filters) not in ([], [256]) or list(head.kernel_sizes) not in ([], [3]):
            problem = "only num_filters: 256 and kernel_sizes: 3 are supported"
            raise file.error(f"{_CENTER_NET}.{path}", problem)
    focal = center.classification_loss.penalty_reduced_logistic_focal_loss
    if (focal.alpha, focal.beta) != (2.0, 4.0):
        path = "object_center_params.classification_loss.penalty_reduced_logistic_focal_loss"
        raise file.error(f"{_CENTER_NET}.{path}", "only alpha: 2.0 beta: 4.0 is supported")
    mask = center_net.deepmac_mask_estimation
    return {
        "task.losses.detection.offset_weight": detection.task_loss_weight * detection.offset_loss_weight,
        "task.losses.detection.scale_weight": detection.task_loss_weight * detection.scale_loss_weight,
        "task.losses.mask.classification_loss": _classification_loss(mask.classification_loss),
        **prototext.options(mask),
    }


def _classification_loss(loss) -> dict:
    if loss.HasField("weighted_sigmoid"):
        return {"type": "weighted_sigmoid"}
    if loss.HasField("weighted_dice_classification_loss"):
        squared = loss.weighted_dice_classification_loss.squared_normalization
        return {"type": "dice", "dice": {"squared_normalization": squared}}
    focal = loss.weighted_sigmoid_focal
    alpha = focal.alpha if focal.HasField("alpha") else None  # without it, no weighting
    return {"type": "focal", "focal": {"gamma": focal.gamma, "alpha": alpha}}


def _input(file: Prototext, name: str, place: str) -> dict:
    """What both input readers have in common; `name` is one of them."""
    if not file.root.HasField(name):
        return {}
    reader = getattr(file.root, name)
    if reader.sample_1_of_n_examples > 1:
        raise file.error(f"{name}.sample_1_of_n_examples", "only 1 is supported")
    if reader.load_instance_masks and prototext.scalar(reader, "mask_type") != "png_masks":
        raise file.error(f"{name}.mask_type", "masks must be PNG_MASKS, as `deepmac tfrecord` writes them")
    return {f"{place}.input_path": ",".join(reader.tf_record_input_reader.input_path)}


def _training_data(file: Prototext) -> dict:
    options = _input(file, "train_input_reader", "task.train_data")
    if options:
        reader = file.root.train_input_reader
        options["task.train_data.shuffle_buffer_size"] = reader.shuffle_buffer_size if reader.shuffle else 1
        if reader.num_keypoints:
            options["task.train_data.num_keypoints"] = reader.num_keypoints
    if file.root.HasField("train_config"):
        options["task.train_data.global_batch_size"] = file.root.train_config.batch_size
        parser = _augmentation(file)
        options |= {f"task.train_data.parser.{name}": value for name, value in parser.items()}
    return options


def _augmentation(file: Prototext) -> dict:
    options = dict.fromkeys(_AUGMENTATIONS.values(), False) | {"aug_scale_min": 1.0, "aug_scale_max": 1.0}
    order, last = list(_AUGMENTATIONS), -1
    for index, step in enumerate(file.root.train_config.data_augmentation_options):
        name = step.WhichOneof("kind")
        place = order.index(name)
        if place <= last:
            raise file.error(
                f"train_config.data_augmentation_options[{index}]",
                f"augmentations must come once each, in this order: {', '.join(order)}",
            )
        last = place
        options[_AUGMENTATIONS[name]] = True
        if name == "random_square_crop_by_scale":
            crop = step.random_square_crop_by_scale
            options |= {"aug_scale_min": crop.scale_min, "aug_scale_max": crop.scale_max}
    return options


def _optimization(file: Prototext) -> dict:
    """The checkpoint to start from, which parts of it, and what keeps weights and gradients small."""
    if not file.root.HasField("train_config"):
        return {}
    train = file.root.train_config
    # The published hourglasses have no regulariser.
    options = {"task.gradient_clip_norm": train.gradient_clipping_by_norm, "task.weight_decay": 0.0}
    if not train.fine_tune_checkpoint:
        return options
    default = "detection" if train.from_detection_checkpoint else "classification"
    kind = train.fine_tune_checkpoint_type or default
    if kind not in _CHECKPOINT_MODULES:
        problem = f"use one of {', '.join(_CHECKPOINT_MODULES)}"
        raise file.error("train_config.fine_tune_checkpoint_type", problem)
    options["task.init_checkpoint"] = train.fine_tune_checkpoint
    options["task.init_checkpoint_modules"] = _CHECKPOINT_MODULES[kind]
    return options


def _trainer(file: Prototext) -> dict:
    optimizer = file.root.train_config.optimizer
    kind = optimizer.WhichOneof("kind")
    options = getattr(optimizer, kind)
    if kind == "adam_optimizer":
        rule = {"type": "adam", "adam": {"epsilon": options.epsilon}}
    else:
        rule = {"type": "sgd", "sgd": {"momentum": options.momentum_optimizer_value}}
    path = f"train_config.optimizer.{kind}.learning_rate"
    rate, warmup = _schedule(file, options.learning_rate, path)
    config = {"optimizer": rule, "learning_rate": rate, "warmup": warmup}
    if optimizer.use_moving_average:
        config["ema"] = {"average_decay": optimizer.moving_average_decay}
    # 0 steps: until stopped; with cosine decay nothing is learned after its last step.
    steps = file.root.train_config.num_steps
    if not steps and rate["type"] == "cosine":
        steps = options.learning_rate.cosine_decay_learning_rate.total_steps
    return ({"trainer.train_steps": steps} if steps else {}) | {"trainer.optimizer_config": config}


def _schedule(file: Prototext, learning_rate, path: str) -> tuple[dict, dict]:
    """Learning rate and warm-up of the schedule at `path`."""
    kind = learning_rate.WhichOneof("kind")
    options = getattr(learning_rate, kind)
    no_warmup = {"type": None}
    if kind == "constant_learning_rate":
        return {"type": "constant", "constant": {"learning_rate": options.learning_rate}}, no_warmup
    if kind == "exponential_decay_learning_rate":
        decay = {
            "initial_learning_rate": options.initial_learning_rate,
            "decay_steps": options.decay_steps,
            "decay_rate": options.decay_factor,
            "staircase": options.staircase,
        }
        return {"type": "exponential", "exponential": decay}, no_warmup
    if kind == "manual_step_learning_rate":
        # Model Garden changes the rate after a boundary, the published schedule at it.
        boundaries = [step.step - 1 for step in options.schedule]
        values = [options.initial_learning_rate, *(step.learning_rate for step in options.schedule)]
        return {"type": "stepwise", "stepwise": {"boundaries": boundaries, "values": values}}, no_warmup
    base, start = options.learning_rate_base, options.warmup_learning_rate
    total, warmup = options.total_steps, options.warmup_steps
    if total <= warmup:
        raise file.error(f"{path}.{kind}", f"total_steps {total} must exceed warmup_steps {warmup}")
    if start > base:
        problem = f"warmup_learning_rate {start} must not exceed learning_rate_base {base}"
        raise file.error(f"{path}.{kind}", problem)
    decay = {"initial_learning_rate": base, "decay_steps": total - warmup, "offset": warmup}
    linear = {"type": "linear", "linear": {"warmup_learning_rate": start, "warmup_steps": warmup}}
    return {"type": "cosine", "cosine": decay}, linear if warmup else no_warmup
