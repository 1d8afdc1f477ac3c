"""Converts the pipeline configs DeepMAC was published with into Model Garden configurations.

Gives what `TrainEvalPipelineConfig` (TF Object Detection API) says as overrides of the experiment
`deepmac_hourglass_coco`. A field that is unknown, or has a value this library does not implement, is an
error; fields that change nothing here (label maps, queue sizes, how TensorBoard draws pictures) are listed.
"""

import os

from deepmac.core.errors import InputError
from deepmac.interop.prototext import read_prototext

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


def read_pipeline(path: str | os.PathLike) -> tuple[dict, list[str]]:
    """Reads and converts a pipeline config.

    Args:
        path: a `pipeline.config`, or any text-format `TrainEvalPipelineConfig` of a DeepMAC model.

    Returns:
        What to override in `deepmac_hourglass_coco`, nested, and the path of every field without
        effect here.

    Raises:
        OSError: no such file.
        InputError: it is malformed, a field is unknown or has a value that is not supported; with the line or
            the field's path.
    """
    root, options_of_fields, ignored = read_prototext(path)
    try:
        options = _model(root)
        if root.HasField("train_config"):
            options |= _training(root.train_config) | _schedule(root.train_config)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    options |= options_of_fields
    if root.HasField("train_input_reader"):
        reader = root.train_input_reader
        options["task.train_data.shuffle_buffer_size"] = reader.shuffle_buffer_size if reader.shuffle else 1
        if reader.num_keypoints:
            options["task.train_data.num_keypoints"] = reader.num_keypoints
    for name, data in (("train_input_reader", "train_data"), ("eval_input_reader", "validation_data")):
        if root.HasField(name):
            files = getattr(root, name).tf_record_input_reader.input_path
            options[f"task.{data}.input_path"] = ",".join(files)
    overrides: dict = {}
    for place, value in options.items():
        *parents, name = place.split(".")
        part = overrides
        for parent in parents:
            part = part.setdefault(parent, {})
        part[name] = value
    return overrides, ignored


def pipeline_experiment(path: str | os.PathLike):
    """Reads a pipeline config as `ExperimentConfig`. Raises `InputError` as `read_pipeline` does."""
    from official.core import exp_factory

    from deepmac import configs  # noqa: F401  # registers the experiment

    overrides, _ = read_pipeline(path)
    config = exp_factory.get_exp_config(EXPERIMENT)
    config.override(overrides, is_strict=True)
    return config


# The functions below give options of an experiment by their place, as "task.model.num_classes", where the
# schema cannot.


def _model(root) -> dict:
    center_net = root.model.center_net
    if center_net.num_classes < 1:
        raise InputError("model.center_net.num_classes must be at least 1")
    extractor, resizer = center_net.feature_extractor, center_net.image_resizer.keep_aspect_ratio_resizer
    if extractor.type not in _BACKBONES:
        raise InputError(
            f"model.center_net.feature_extractor.type: unsupported backbone {extractor.type!r}: use one of "
            f"{', '.join(_BACKBONES)}"
        )
    if resizer.min_dimension != resizer.max_dimension:
        raise InputError(
            "keep_aspect_ratio_resizer: only square network inputs are supported: equal min_dimension and "
            "max_dimension"
        )
    detection = center_net.object_detection_task
    center_head = center_net.object_center_params.center_head_params
    for head in (detection.scale_head_params, detection.offset_head_params, center_head):
        if list(head.num_filters) not in ([], [256]) or list(head.kernel_sizes) not in ([], [3]):
            raise InputError("of heads only num_filters: 256 and kernel_sizes: 3 are supported")
    model_id, channels, stages = _BACKBONES[extractor.type]
    boxes = root.train_config.max_number_of_boxes
    if root.train_input_reader.HasField("max_number_of_boxes"):  # replaced the field of `train_config`
        boxes = root.train_input_reader.max_number_of_boxes
    options = {
        "task.model.input_size": [resizer.max_dimension, resizer.max_dimension, 3],
        "task.model.backbone.type": "hourglass",
        "task.model.backbone.hourglass.model_id": model_id,
        "task.model.backbone.hourglass.input_channel_dims": channels,
        "task.model.backbone.hourglass.num_hourglasses": stages,
        "task.model.head.input_levels": [*(f"2_{stage}" for stage in range(stages - 1)), "2"],
        "task.model.head.num_filters": 256,
        "task.model.max_num_instances": boxes,
        "task.losses.detection.offset_weight": detection.task_loss_weight * detection.offset_loss_weight,
        "task.losses.detection.scale_weight": detection.task_loss_weight * detection.scale_loss_weight,
    }
    if center_net.deepmac_mask_estimation.predict_full_resolution_masks:
        options["task.model.mask_head.resize_by_box_count"] = True  # as the published code does
    for parser in ("task.train_data.parser", "task.validation_data.parser"):
        options[f"{parser}.bgr_ordering"] = extractor.bgr_ordering
        options[f"{parser}.channel_means"] = list(extractor.channel_means) or [0.0, 0.0, 0.0]
        options[f"{parser}.channel_stds"] = list(extractor.channel_stds) or [1.0, 1.0, 1.0]
    return options


def _training(train) -> dict:
    """Precision, augmentation, and the checkpoint to start from."""
    steps = [step.WhichOneof("kind") for step in train.data_augmentation_options]
    if steps != [name for name in _AUGMENTATIONS if name in steps]:
        order = ", ".join(_AUGMENTATIONS)
        raise InputError(f"data_augmentation_options must come once each, in this order: {order}")
    parser = "task.train_data.parser"
    options = {
        "runtime.mixed_precision_dtype": "bfloat16" if train.use_bfloat16 else "float32",
        "task.weight_decay": 0.0,  # the published hourglasses have no regulariser
        f"{parser}.aug_scale_min": 1.0,
        f"{parser}.aug_scale_max": 1.0,
        **{f"{parser}.{option}": name in steps for name, option in _AUGMENTATIONS.items()},
    }
    if train.fine_tune_checkpoint:
        default = "detection" if train.from_detection_checkpoint else "classification"
        kind = train.fine_tune_checkpoint_type or default
        if kind not in _CHECKPOINT_MODULES:
            raise InputError(f"fine_tune_checkpoint_type: use one of {', '.join(_CHECKPOINT_MODULES)}")
        options["task.init_checkpoint"] = train.fine_tune_checkpoint
        options["task.init_checkpoint_modules"] = _CHECKPOINT_MODULES[kind]
    return options


def _schedule(train) -> dict:
    """Steps, averaging, and of learning rates what differs from Model Garden's."""
    learning_rate = getattr(train.optimizer, train.optimizer.WhichOneof("kind")).learning_rate
    kind, steps = learning_rate.WhichOneof("kind"), train.num_steps
    rate = getattr(learning_rate, kind)
    place, options = "trainer.optimizer_config", {"trainer.optimizer_config.warmup.type": None}
    if kind == "manual_step_learning_rate":
        # Model Garden changes the rate after a boundary, the published schedule at it.
        options[f"{place}.learning_rate.stepwise.boundaries"] = [step.step - 1 for step in rate.schedule]
        values = [rate.initial_learning_rate, *(step.learning_rate for step in rate.schedule)]
        options[f"{place}.learning_rate.stepwise.values"] = values
    if kind == "cosine_decay_learning_rate":
        total, warmup, start = rate.total_steps, rate.warmup_steps, rate.warmup_learning_rate
        if total <= warmup:
            raise InputError(f"learning_rate: total_steps {total} must exceed warmup_steps {warmup}")
        if start > rate.learning_rate_base:
            raise InputError(
                f"learning_rate: warmup_learning_rate {start} must not exceed learning_rate_base "
                f"{rate.learning_rate_base}"
            )
        # 0 steps: until stopped; with cosine decay nothing is learned after its last step.
        steps = steps or total
        options[f"{place}.learning_rate.cosine.decay_steps"] = total - warmup
        options[f"{place}.learning_rate.cosine.offset"] = warmup
        if warmup:
            options[f"{place}.warmup.type"] = "linear"
            options[f"{place}.warmup.linear.warmup_learning_rate"] = start
            options[f"{place}.warmup.linear.warmup_steps"] = warmup
    if train.optimizer.use_moving_average:
        options[f"{place}.ema.average_decay"] = train.optimizer.moving_average_decay
    if steps:
        options["trainer.train_steps"] = steps
    return options
