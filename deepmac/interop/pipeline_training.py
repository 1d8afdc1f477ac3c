"""Converts the training, input and evaluation messages of a pipeline config; see `pipeline_config`."""

from deepmac.interop.prototext import Message

# `fine_tune_checkpoint_type` -> `task.init_checkpoint_modules`.
_CHECKPOINT_MODULES = {
    "classification": "backbone",
    "detection": "detection",
    "fine_tune": "all",
    "full": "all",
}
# Colour jitter -> its options and published values, which Model Garden's operations have built in.
_COLOR_JITTERS = {
    "hue": {"max_delta": 0.02},
    "contrast": {"min_delta": 0.8, "max_delta": 1.25},
    "saturation": {"min_delta": 0.8, "max_delta": 1.25},
    "brightness": {"max_delta": 0.2},
}
# In the order the parser applies them.
_AUGMENTATIONS = (
    "random_horizontal_flip",
    *(f"random_adjust_{color}" for color in _COLOR_JITTERS),
    "random_square_crop_by_scale",
)
# Fields without effect on the result, or replaced by `tf.data`, the trainer or the evaluator.
_IGNORED_IN_TRAINING = (
    "fine_tune_checkpoint_version",
    "add_regularization_loss",
    "unpad_groundtruth_tensors",
    "retain_original_images",
    "sync_replicas",
    "startup_delay_steps",
    "replicas_to_aggregate",
    "keep_checkpoint_every_n_hours",
    "batch_queue_capacity",
    "num_batch_queue_threads",
    "prefetch_queue_capacity",
)
_IGNORED_IN_READERS = (
    "label_map_path",  # TFRecords hold the class ids
    "use_display_name",
    "load_keypoint_depth_features",  # always read with the keypoints
    "filenames_shuffle_buffer_size",
    "num_readers",
    "num_parallel_batches",
    "num_prefetch_batches",
    "queue_capacity",
    "min_after_dequeue",
    "read_block_length",
    "prefetch_size",
    "num_parallel_map_calls",
)
_IGNORED_IN_EVALUATION = (
    "super_categories",  # results list seen, unseen and all super-categories
    "use_moving_averages",
    "eval_instance_masks",
    "num_examples",
    "num_visualizations",
    "eval_interval_secs",
    "max_evals",
    "save_graph",
    "eval_master",
    "visualization_export_dir",
    "min_score_threshold",
    "max_num_boxes_to_visualize",
    "skip_scores",
    "skip_labels",
    "visualize_groundtruth_boxes",
    "groundtruth_box_visualization_color",
    "keep_image_id_for_visualization_export",
    "retain_original_images",
    "retain_original_image_additional_channels",
)


def read_training(root: Message, overrides: dict, ignored: list[str]) -> None:
    """Converts `train_config` and `train_input_reader`.

    Args:
        root: the whole pipeline config.
        overrides: with sections `runtime`, `task`, `trainer`, which are added to.
        ignored: "line N: field" of fields without effect, added to.

    Raises:
        InputError: a field has a value that is not supported.
    """
    task = overrides["task"]
    reader, train = root.message("train_input_reader"), root.message("train_config")
    data = {}
    boxes = 100
    if reader is not None:
        shuffled, size = reader.boolean("shuffle", True), reader.integer("shuffle_buffer_size", 2048)
        data |= _input(reader, ignored) | {"shuffle_buffer_size": size if shuffled else 1}
        if num_keypoints := reader.integer("num_keypoints", 0):
            data["num_keypoints"] = num_keypoints
        reader.only(num_epochs=0)
    if train is not None:
        boxes = train.integer("max_number_of_boxes", boxes)
        data["global_batch_size"] = train.integer("batch_size", 32)
        data["parser"] = _augmentation(train, ignored)
        task |= _initial_weights(train)
        task["gradient_clip_norm"] = train.number("gradient_clipping_by_norm", 0.0)
        task["weight_decay"] = 0.0  # the published hourglasses have no regulariser
        bfloat16 = train.boolean("use_bfloat16", False)
        overrides["runtime"]["mixed_precision_dtype"] = "bfloat16" if bfloat16 else "float32"
        overrides["trainer"] |= _trainer(train)
        train.only(
            bias_grad_multiplier=0.0,
            load_all_detection_checkpoint_vars=False,
            merge_multiple_label_boxes=False,
            use_multiclass_scores=False,
        )
        ignored += train.skip(*_IGNORED_IN_TRAINING)
    if reader is not None:
        boxes = reader.integer("max_number_of_boxes", boxes)  # replaced the field of `train_config`
    task["model"]["max_num_instances"] = boxes
    task["train_data"] = data


def read_evaluation(root: Message, overrides: dict, ignored: list[str]) -> None:
    """Converts `eval_config` and `eval_input_reader`; arguments and errors as `read_training`."""
    task = overrides["task"]
    reader, config = root.message("eval_input_reader"), root.message("eval_config")
    data = task["validation_data"] = {} if reader is None else _input(reader, ignored)
    if reader is not None:
        ignored += reader.skip(
            "shuffle", "shuffle_buffer_size", "num_epochs", "max_number_of_boxes", "num_keypoints"
        )
    if config is not None:
        data["global_batch_size"] = config.integer("batch_size", 1)
        task["per_category_metrics"] = config.boolean("include_metrics_per_category", False)
        for metric in config.strings("metrics_set"):
            if metric not in ("coco_detection_metrics", "coco_mask_metrics"):
                raise config.error(
                    "only coco_detection_metrics and coco_mask_metrics are supported", "metrics_set"
                )
        config.only(ignore_groundtruth=False, export_path="", recall_lower_bound=0.0, recall_upper_bound=1.0)
        ignored += config.skip(*_IGNORED_IN_EVALUATION)


def _input(reader: Message, ignored: list[str]) -> dict:
    reader.only(num_additional_channels=0)
    if reader.integer("sample_1_of_n_examples", 0) > 1:
        raise reader.error("only 1 is supported", "sample_1_of_n_examples")
    ignored += reader.skip(*_IGNORED_IN_READERS)
    mask_type = reader.choice("mask_type", ("DEFAULT", "NUMERICAL_MASKS", "PNG_MASKS"), "DEFAULT")
    if reader.boolean("load_instance_masks", False) and mask_type != "PNG_MASKS":
        raise reader.error("masks must be PNG_MASKS, as `deepmac tfrecord` writes them", "mask_type")
    _, records = reader.one_of("tf_record_input_reader")
    return {"input_path": ",".join(records.strings("input_path"))}


def _augmentation(train: Message, ignored: list[str]) -> dict:
    options = {f"aug_rand_{color}": False for color in ("hflip", *_COLOR_JITTERS)}
    options |= {"odapi_augmentation": False, "aug_scale_min": 1.0, "aug_scale_max": 1.0}
    last = -1
    for step in train.messages("data_augmentation_options"):
        name, operation = step.one_of(*_AUGMENTATIONS)
        place = _AUGMENTATIONS.index(name)
        if place <= last:
            raise step.error(f"augmentations must come once each, in this order: {', '.join(_AUGMENTATIONS)}")
        last = place
        if name == "random_horizontal_flip":
            options["aug_rand_hflip"] = True
            operation.only(probability=0.5)
            ignored += operation.skip("keypoint_flip_permutation")
        elif name == "random_square_crop_by_scale":
            operation.only(max_border=128, num_scales=8)
            scales = operation.number("scale_min", 0.6), operation.number("scale_max", 1.3)
            options |= {"odapi_augmentation": True, "aug_scale_min": scales[0], "aug_scale_max": scales[1]}
        else:
            color = name.removeprefix("random_adjust_")
            options[f"aug_rand_{color}"] = True
            operation.only(**_COLOR_JITTERS[color])
    return options


def _initial_weights(train: Message) -> dict:
    """The checkpoint to start from, and which parts of it."""
    path = train.string("fine_tune_checkpoint", "")
    kind = train.string("fine_tune_checkpoint_type", "")
    from_detection = train.boolean("from_detection_checkpoint", False)
    train.choice("fine_tune_checkpoint_version", ("V2",))
    if not path:
        return {}
    kind = kind or ("detection" if from_detection else "classification")
    if kind not in _CHECKPOINT_MODULES:
        raise train.error(f"use one of {', '.join(_CHECKPOINT_MODULES)}", "fine_tune_checkpoint_type")
    return {"init_checkpoint": path, "init_checkpoint_modules": _CHECKPOINT_MODULES[kind]}


def _trainer(train: Message) -> dict:
    optimizer = train.required("optimizer")
    averaged = optimizer.boolean("use_moving_average", True)
    decay = optimizer.number("moving_average_decay", 0.9999)
    kind, options = optimizer.one_of("adam_optimizer", "momentum_optimizer")
    if kind == "adam_optimizer":
        rule = {"type": "adam", "adam": options.options({"epsilon": 1e-8})}
    else:
        momentum = options.number("momentum_optimizer_value", 0.9)
        rule = {"type": "sgd", "sgd": {"momentum": momentum}}
    schedule, last_step = _schedule(options.required("learning_rate"))
    optimizer_config = {"optimizer": rule, **schedule}
    if averaged:
        optimizer_config["ema"] = {"average_decay": decay}
    # 0 steps: until stopped; with cosine decay nothing is learned after its last step.
    steps = train.integer("num_steps", 0) or last_step
    return ({"train_steps": steps} if steps else {}) | {"optimizer_config": optimizer_config}


def _schedule(learning_rate: Message) -> tuple[dict, int | None]:
    """Learning rate and warm-up, and the schedule's last step if it has one."""
    kind, options = learning_rate.one_of(
        "cosine_decay_learning_rate",
        "constant_learning_rate",
        "exponential_decay_learning_rate",
        "manual_step_learning_rate",
    )
    if kind == "cosine_decay_learning_rate":
        return _cosine_schedule(options)
    convert = {
        "constant_learning_rate": _constant_rate,
        "exponential_decay_learning_rate": _exponential_rate,
        "manual_step_learning_rate": _stepwise_rate,
    }[kind]
    return {"learning_rate": convert(options), "warmup": {"type": None}}, None


def _cosine_schedule(options: Message) -> tuple[dict, int]:
    base, total = options.number("learning_rate_base", 0.002), options.integer("total_steps", 4_000_000)
    start, warmup = options.number("warmup_learning_rate", 0.0002), options.integer("warmup_steps", 10_000)
    options.only(hold_base_rate_steps=0)
    if total <= warmup:
        raise options.error(f"total_steps {total} must exceed warmup_steps {warmup}")
    if start > base:
        raise options.error(f"warmup_learning_rate {start} must not exceed learning_rate_base {base}")
    decay = {"initial_learning_rate": base, "decay_steps": total - warmup, "offset": warmup}
    linear = {"type": "linear", "linear": {"warmup_learning_rate": start, "warmup_steps": warmup}}
    rate = {"type": "cosine", "cosine": decay}
    return {"learning_rate": rate, "warmup": linear if warmup else {"type": None}}, total


def _constant_rate(options: Message) -> dict:
    return {"type": "constant", "constant": options.options({"learning_rate": 0.002})}


def _exponential_rate(options: Message) -> dict:
    options.only(burnin_learning_rate=0.0, burnin_steps=0, min_learning_rate=0.0)
    factor = options.number("decay_factor", 0.95)
    decay = options.options({"initial_learning_rate": 0.002, "decay_steps": 4_000_000, "staircase": True})
    return {"type": "exponential", "exponential": decay | {"decay_rate": factor}}


def _stepwise_rate(options: Message) -> dict:
    options.only(warmup=False)
    steps = options.messages("schedule")
    # Model Garden changes the rate after a boundary, the published schedule at it.
    boundaries = [step.integer("step", 0) - 1 for step in steps]
    values = [options.number("initial_learning_rate", 0.002)]
    values += [step.number("learning_rate", 0.002) for step in steps]
    return {"type": "stepwise", "stepwise": {"boundaries": boundaries, "values": values}}
