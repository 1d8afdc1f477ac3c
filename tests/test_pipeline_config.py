import math
import re

import command_line
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmac.core.errors import InputError
from deepmac.interop.pipeline import pipeline_experiment, read_pipeline

MINIMAL = """model { center_net { num_classes: 5
  feature_extractor { type: "hourglass_20" }
  image_resizer { keep_aspect_ratio_resizer {
    min_dimension: 64 max_dimension: 64 pad_to_max_dimension: true } }
  object_detection_task { localization_loss { l1_localization_loss {} } }
  object_center_params {
    classification_loss { penalty_reduced_logistic_focal_loss { alpha: 2.0 beta: 4.0 } } }
  deepmac_mask_estimation { classification_loss { weighted_sigmoid {} } }
} }
"""
TRAINING = """train_config {
  optimizer { adam_optimizer { learning_rate { cosine_decay_learning_rate {} } } }
}
train_input_reader { tf_record_input_reader { input_path: "a" input_path: "b" } }
eval_config {}
eval_input_reader { tf_record_input_reader { input_path: "c" } }
"""


@pytest.fixture
def convert(tmp_path):
    """Converts the text of a pipeline config to overrides."""

    def run(text):
        path = tmp_path / "pipeline.config"
        path.write_text(text)
        return read_pipeline(path)[0]

    return run


def options_table(reference_dir):
    """Rows (name, type, default) of the published options."""
    text = (reference_dir / "OPTIONS.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.*?) \|$", text, re.MULTILINE)
    assert len(rows) > 30
    return rows


def converted_option(overrides, name):
    task = overrides["task"]
    for place in (task["model"]["mask_head"], task["losses"]["mask"], task):
        if name in place:
            return place[name]
    raise AssertionError(f"{name} is converted nowhere")


def test_absent_options_have_the_published_defaults(convert, reference_dir):
    overrides = convert(MINIMAL)
    for name, kind, default in options_table(reference_dir):
        value = converted_option(overrides, name)
        if name == "classification_loss":
            assert value == {"type": "weighted_sigmoid"}
        elif kind.startswith("repeated"):
            assert value == []
        elif kind in ("int32", "float"):
            assert value == float(default) and isinstance(value, int if kind == "int32" else float)
        elif kind == "bool":
            assert value is (default == "True")
        else:
            assert value == (default.lower() if kind.startswith("enum") else default)


def test_every_option_is_carried_over(convert, reference_dir):
    for name, kind, default in options_table(reference_dir):
        if name == "classification_loss":
            continue
        if kind.startswith("repeated"):
            texts = [("[3, 1]", [3, 1])]
        elif kind == "int32":
            texts = [("7", 7)]
        elif kind == "float":
            texts = [("0.75", 0.75)]
        elif kind == "bool":
            texts = [("false", False), ("true", True)]
        elif kind == "string":
            texts = [('"resnet4"', "resnet4")]
        else:
            texts = [(member, member.lower()) for member in kind.removeprefix("enum ").split("/")]
            assert default in kind
        for text, expected in texts:
            option = f"deepmac_mask_estimation {{ {name}: {text}"
            overrides = convert(MINIMAL.replace("deepmac_mask_estimation {", option))
            assert converted_option(overrides, name) == expected


@pytest.mark.parametrize(
    ("loss", "kind", "expected"),
    [
        ("dice_classification_loss { squared_normalization: true }", "dice", {"squared_normalization": True}),
        ("dice_classification_loss {}", "dice", {"squared_normalization": False}),
        ("sigmoid_focal { gamma: 1.5 alpha: 0.3 }", "focal", {"gamma": 1.5, "alpha": 0.3}),
        ("sigmoid_focal {}", "focal", {"gamma": 2.0, "alpha": None}),
    ],
)
def test_mask_losses(convert, loss, kind, expected):
    overrides = convert(MINIMAL.replace("weighted_sigmoid {}", f"weighted_{loss}"))
    assert overrides["task"]["losses"]["mask"]["classification_loss"] == {"type": kind, kind: expected}


def test_full_resolution_masks_repeat_the_published_resizing(convert):
    assert "resize_by_box_count" not in convert(MINIMAL)["task"]["model"]["mask_head"]
    full = "deepmac_mask_estimation { predict_full_resolution_masks: true"
    overrides = convert(MINIMAL.replace("deepmac_mask_estimation {", full))
    assert overrides["task"]["model"]["mask_head"]["resize_by_box_count"] is True


def test_detection_weights_are_multiplied_by_the_task_weight(convert):
    weights = "object_detection_task { task_loss_weight: 2.0 offset_loss_weight: 3.0"
    detection = convert(MINIMAL.replace("object_detection_task {", weights))["task"]["losses"]["detection"]
    assert detection == {"object_center_weight": 1.0, "offset_weight": 6.0, "scale_weight": 0.2}


def test_defaults_of_the_other_messages(convert):
    overrides = convert(MINIMAL + TRAINING)
    task, trainer = overrides["task"], overrides["trainer"]
    hourglass = {"model_id": 20, "input_channel_dims": 48, "num_hourglasses": 1}
    assert task["model"]["backbone"]["hourglass"] == hourglass
    assert task["model"]["head"]["heatmap_bias"] == -2.19
    assert task["model"]["max_num_instances"] == 100
    assert task["train_data"]["input_path"] == "a,b"
    assert task["train_data"]["global_batch_size"] == 32
    assert task["train_data"]["shuffle_buffer_size"] == 2048
    assert task["validation_data"]["global_batch_size"] == 1
    parser = {"bgr_ordering": False, "channel_means": [0.0] * 3, "channel_stds": [1.0] * 3}
    assert task["validation_data"]["parser"] == parser
    assert task["train_data"]["parser"].items() >= parser.items()
    assert not any(task["train_data"]["parser"][f"aug_rand_{name}"] for name in ("hflip", "hue"))
    assert task["gradient_clip_norm"] == 0.0
    assert "init_checkpoint" not in task
    assert overrides["runtime"] == {"mixed_precision_dtype": "float32"}
    assert trainer["train_steps"] == 4_000_000
    optimizer = trainer["optimizer_config"]
    assert optimizer["optimizer"] == {"type": "adam", "adam": {"epsilon": 1e-8}}
    assert optimizer["ema"] == {"average_decay": 0.9999}
    assert optimizer["warmup"]["linear"] == {"warmup_learning_rate": 0.0002, "warmup_steps": 10_000}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ('fine_tune_checkpoint: "x"', "backbone"),
        ('fine_tune_checkpoint: "x" from_detection_checkpoint: true', "detection"),
        ('fine_tune_checkpoint: "x" fine_tune_checkpoint_type: "detection"', "detection"),
        ('fine_tune_checkpoint: "x" fine_tune_checkpoint_type: "fine_tune"', "all"),
    ],
)
def test_checkpoint_types(convert, fields, expected):
    task = convert(MINIMAL + TRAINING.replace("train_config {", f"train_config {{ {fields}"))["task"]
    assert (task["init_checkpoint"], task["init_checkpoint_modules"]) == ("x", expected)


def learning_rate_at(tmp_path, schedule, steps):
    """Values of Model Garden's schedule for a `learning_rate` message, and the config."""
    from official.modeling import optimization

    path = tmp_path / "schedule.config"
    path.write_text(MINIMAL + TRAINING.replace("cosine_decay_learning_rate {}", schedule))
    factory = optimization.OptimizerFactory(pipeline_experiment(path).trainer.optimizer_config)
    rate = factory.build_learning_rate()
    return [float(rate(step)) if callable(rate) else rate for step in steps]


@settings(max_examples=5, deadline=None)
@given(st.floats(1e-5, 1.0), st.floats(0, 1), st.integers(0, 500), st.integers(1, 5000))
def test_cosine_schedule_equals_its_formula(tmp_path_factory, base, fraction, warmup, decay):
    start, total = base * fraction, warmup + decay
    steps = [0, warmup // 2, warmup, warmup + decay // 3, total, total + 10]
    rates = learning_rate_at(
        tmp_path_factory.mktemp("cosine"),
        f"cosine_decay_learning_rate {{ learning_rate_base: {base!r} total_steps: {total} "
        f"warmup_learning_rate: {start!r} warmup_steps: {warmup} }}",
        steps,
    )
    for step, rate in zip(steps, rates, strict=True):
        if step < warmup:
            expected = start + (base - start) * step / warmup
        elif step >= total:
            expected = 0.0
        else:
            expected = 0.5 * base * (1 + math.cos(math.pi * (step - warmup) / decay))
        assert rate == pytest.approx(expected, rel=2e-4, abs=1e-6 * base)


def test_other_schedules(tmp_path):
    rates = learning_rate_at(
        tmp_path,
        "manual_step_learning_rate { initial_learning_rate: 0.3 schedule { step: 10 learning_rate: 0.2 } "
        "schedule { step: 20 learning_rate: 0.1 } }",
        [0, 9, 10, 19, 20, 30],
    )
    assert rates == pytest.approx([0.3, 0.3, 0.2, 0.2, 0.1, 0.1])
    rates = learning_rate_at(
        tmp_path,
        "exponential_decay_learning_rate { initial_learning_rate: 0.5 decay_steps: 10 decay_factor: 0.1 }",
        [0, 9, 10, 25],
    )
    assert rates == pytest.approx([0.5, 0.5, 0.05, 0.005])
    assert learning_rate_at(tmp_path, "constant_learning_rate {}", [0, 7]) == [0.002, 0.002]


def test_momentum_without_averaging(tmp_path):
    text = (MINIMAL + TRAINING).replace("adam_optimizer {", "momentum_optimizer { ")
    text = text.replace("optimizer {", "optimizer { use_moving_average: false ", 1)
    text = text.replace("cosine_decay_learning_rate {}", "constant_learning_rate { learning_rate: 0.5 }")
    path = tmp_path / "pipeline.config"
    path.write_text(text)
    config = pipeline_experiment(path).trainer.optimizer_config
    assert (config.optimizer.type, config.optimizer.sgd.momentum, config.ema) == ("sgd", 0.9, None)
    assert (config.learning_rate.constant.learning_rate, config.warmup.type) == (0.5, None)


AUGMENTED = "data_augmentation_options { random_adjust_hue"
RATE = "cosine_decay_learning_rate {"
CENTER = "object_center_params {"


# Where something is inserted, what, and what the error says.
NOT_SUPPORTED = [
    ("max_dimension: 64", "per_channel_pad_value: [1, 2, 3]", "per_channel_pad_value[0]: only [] is"),
    ("object_detection_task {", "weigth: 1", ":5: "),
    ("deepmac_mask_estimation {", "mask_sise: 3", 'no field named "mask_sise"'),
    (CENTER, "use_labeled_classes: true", "only false is"),
    (CENTER, "center_head_params { num_filters: 64 kernel_sizes: 3 }", "only num_filters: 256"),
    ("train_config {", "fine_tune_checkpoint_version: V1", "only V2 is supported"),
    (
        "train_config {",
        "fine_tune_checkpoint: 'x' fine_tune_checkpoint_type: 'y'",
        "use one of classification",
    ),
    ("train_config {", AUGMENTED + " { max_delta: 0.1 } }", "random_adjust_hue.max_delta: only 0.02 is"),
    (
        "train_config {",
        AUGMENTED + " {} } data_augmentation_options { random_horizontal_flip {} }",
        "in this order",
    ),
    (RATE, "total_steps: 9", "must exceed"),
    (RATE, "warmup_learning_rate: 1.0", "must not exceed"),
    ("train_input_reader {", "mask_type: NUMERICAL_MASKS", "only PNG_MASKS is"),
    (
        "eval_input_reader {",
        "sample_1_of_n_examples: 10",
        "eval_input_reader.sample_1_of_n_examples: only 1 is",
    ),
]
# The same of texts that are replaced.
MISSING_OR_ANOTHER = [
    ("center_net {", "ssd {", ':1: Message type "deepmac.DetectionModel" has no field named "ssd"'),
    ("num_classes: 5", "", "num_classes must be at least 1"),
    ('"hourglass_20"', '"resnet_v2_101"', "model.center_net.feature_extractor.type: unsupported"),
    ("max_dimension: 64", "max_dimension: 65", "only square network inputs"),
    ("pad_to_max_dimension: true", "", "pad_to_max_dimension is missing"),
    ("keep_aspect_ratio_resizer", "fixed_shape_resizer", 'no field named "fixed_shape_resizer"'),
    ("alpha: 2.0", "alpha: 1.0", "penalty_reduced_logistic_focal_loss.alpha: only 2.0 is"),
    ("weighted_sigmoid {}", "weighted_softmax {}", ":8: "),
    ("weighted_sigmoid {}", "", "weighted_sigmoid_focal is missing"),
    (
        "deepmac_mask_estimation { classification_loss { weighted_sigmoid {} } }",
        "",
        "deepmac_mask_estimation is missing",
    ),
    ("adam_optimizer", "rms_prop_optimizer", 'no field named "rms_prop_optimizer"'),
]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [(place, f"{place} {inserted}", expected) for place, inserted, expected in NOT_SUPPORTED]
    + MISSING_OR_ANOTHER,
)
def test_what_is_not_supported_missing_or_another_is_an_error(convert, old, new, expected):
    text = MINIMAL + TRAINING
    assert old in text
    with pytest.raises(InputError) as caught:
        convert(text.replace(old, new, 1))
    assert expected in str(caught.value)
    assert re.search(r"pipeline\.config(:\d+)?: ", str(caught.value))


def test_command_lists_what_has_no_effect(tmp_path):
    path, out = tmp_path / "pipeline.config", tmp_path / "out" / "experiment.yaml"
    path.write_text(MINIMAL + TRAINING.replace("eval_config {", "eval_config { num_visualizations: 3"))
    result = command_line.run("import-config", path, "--out", out)
    assert "without effect: eval_config.num_visualizations" in result.stderr
    assert yaml.safe_load(out.read_text()) == read_pipeline(path)[0]
    assert command_line.run("import-config", path).stdout == out.read_text()
