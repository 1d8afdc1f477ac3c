import shutil
from pathlib import Path

import command_line
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import yaml
from official.core import exp_factory
from official.modeling import hyperparams

from deepmac.core.errors import InputError
from deepmac.interop import published
from deepmac.interop.pipeline import pipeline_experiment
from deepmac.modeling.model import build_deepmac
from deepmac.training.task import DeepMACTask

MINI = Path(__file__).resolve().parents[1] / "configs" / "mini" / "voc_only.yaml"
FOLDERS = ["hourglass20", "embedding_projection", "resnet4_no_instance", "weak_losses"]
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
BACKBONE = "model/_feature_extractor/_network/"
HEAT_MAP = "model/_prediction_head_dict/object_center/0/layer_with_weights-1/"


@pytest.fixture(scope="module")
def load(reference_dir):
    """Loads a reference folder once: (config, model)."""
    loaded = {}

    def run(name):
        if name not in loaded:
            loaded[name] = load_folder(reference_dir / name)
        return loaded[name]

    return run


def load_folder(folder):
    """Its configuration, and the model with its weights."""
    config = pipeline_experiment(folder / "pipeline.config")
    model = build_deepmac(config.task.model)
    published.restore_published(model, folder)
    return config, model


def tensors(prefix):
    """Key -> array of a checkpoint, without the description of its objects."""
    reader = tf.train.load_checkpoint(str(prefix))
    keys = [key for key in reader.get_variable_to_shape_map() if key.endswith(SUFFIX)]
    return {key.removesuffix(SUFFIX): reader.get_tensor(key) for key in keys}


def of_status(report, status):
    return [tensor for tensor in report if tensor.status == status]


def write_tensors(prefix, values):
    """Writes a checkpoint with these keys."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=[key + SUFFIX for key in values],
        shape_and_slices=[""] * len(values),
        tensors=[tf.constant(value) for value in values.values()],
    )
    return prefix


@pytest.mark.parametrize("name", FOLDERS)
def test_every_tensor_is_accounted_for(name, load, reference_dir):
    _, model = load(name)
    report = published.restore_published(model, reference_dir / name)
    checkpoint = tf.train.load_checkpoint(published.find_checkpoint(reference_dir / name))
    shapes = checkpoint.get_variable_to_shape_map()
    restored = of_status(report, "restored")
    others = {tensor.key for tensor in of_status(report, "training state")}
    assert len(restored) == len(model.variables)
    assert {tensor.key for tensor in restored} | others == {key.removesuffix(SUFFIX) for key in shapes}
    assert others == {
        *("_CHECKPOINTABLE_OBJECT_GRAPH", "model/_self_supervised_rng/_state_var", "save_counter")
    }
    assert not published.misfits(report)
    assert len(report) == len(shapes)
    for tensor in restored:
        assert tensor.checkpoint_shape == shapes[tensor.key + SUFFIX]


def test_training_state_is_skipped_by_name(load, reference_dir, tmp_path):
    _, model = load("embedding_projection")
    values = tensors(reference_dir / "embedding_projection" / "checkpoint" / "ckpt-0")
    slot = f"{HEAT_MAP}kernel/.OPTIMIZER_SLOT/optimizer/m"
    values |= {slot: np.zeros(3), "optimizer/iter": np.int64(7), "step": np.int64(7)}
    report = published.restore_published(model, write_tensors(tmp_path / "ckpt-7", values))
    assert {slot, "optimizer/iter", "step"} <= {one.key for one in of_status(report, "training state")}


def test_what_is_left_over_is_an_error_and_nothing_is_assigned(reference_dir, tmp_path):
    folder = reference_dir / "embedding_projection"
    config = pipeline_experiment(folder / "pipeline.config")
    config.task.model.override({"input_size": [32, 32, 3]})
    model = build_deepmac(config.task.model)
    before = [variable.numpy() for variable in model.variables]
    values, bias = tensors(folder / "checkpoint" / "ckpt-0"), f"{HEAT_MAP}bias"
    changed = {
        "not in the checkpoint: .*layer_with_weights-1/bias": {
            key: values[key] for key in values if key != bias
        },
        "not in the model: model/_other/kernel": values | {"model/_other/kernel": np.zeros(3)},
        r"another shape: .* checkpoint \[91\], model \[90\]": values | {bias: np.zeros(91, np.float32)},
        "does not fit": {key: value for key, value in values.items() if "model" not in key},
    }
    for number, (expected, tensors_there) in enumerate(changed.items()):
        with pytest.raises(InputError, match=expected):
            published.restore_published(
                model, write_tensors(tmp_path / f"{number}" / "ckpt-0", tensors_there)
            )
    variables = [*model.variables]
    model.extra = tf_keras.layers.Dense(2)
    model.extra.build([3])
    with pytest.raises(InputError, match="2 tensors are left over, such as: not in the checkpoint: kernel"):
        published.restore_published(model, folder)
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_warm_start_with_other_classes_and_another_head(reference_dir, tmp_path):
    model_dir = tmp_path / "warm"
    overrides = "task.model.num_classes=5,task.model.mask_head.network_type=resnet4"
    arguments = ["import-checkpoint", reference_dir / "hourglass20", "--out", model_dir]
    result = command_line.run(*arguments, "--params-override", overrides)
    line = f"another shape: {HEAT_MAP}kernel, checkpoint [1, 1, 256, 90], model [1, 1, 256, 5]"
    assert line in result.output
    new = "model/_mask_net/_net/input_layer/kernel, checkpoint None, model [1, 1, 50, 16]"
    assert f"not in the checkpoint: {new}" in result.output
    table = (model_dir / published.REPORT_NAME).read_text()
    assert f"restored: {BACKBONE}output_conv/0/conv/kernel" in table

    config = published.target_config(reference_dir / "hourglass20", params_override=overrides)
    config.task.init_checkpoint, config.task.init_checkpoint_modules = str(model_dir), "all"
    task = DeepMACTask(config.task)
    model = task.build_model()
    task.initialize(model)
    variables = published.published_variables(model)
    expected = tensors(reference_dir / "hourglass20" / "checkpoint" / "ckpt-0")
    for key, variable in variables.items():
        if key.startswith(BACKBONE) or "box.S" in key:
            np.testing.assert_array_equal(variable, expected[key])
    np.testing.assert_allclose(variables[f"{HEAT_MAP}bias"], -2.19)  # the initial value


def test_a_detector_fills_backbone_and_detection_heads(reference_dir, tmp_path):
    folder = reference_dir / "hourglass20"
    values = tensors(folder / "checkpoint" / "ckpt-0")
    of_deepmac = ("_mask_net", "EMBEDDING", "_self_supervised_rng")
    detector = {key: value for key, value in values.items() if not any(part in key for part in of_deepmac)}
    write_tensors(tmp_path / "detector" / "checkpoint" / "ckpt-0", detector)
    target = pipeline_experiment(folder / "pipeline.config").as_dict()
    (tmp_path / "deepmac.yaml").write_text(yaml.safe_dump(target))
    config = published.target_config(tmp_path / "detector", config_files=[str(tmp_path / "deepmac.yaml")])
    report = published.import_checkpoint(tmp_path / "detector", config, tmp_path / "start", partial=True)
    assert len(of_status(report, "restored")) == 70 + 3 * 4
    assert {tensor.key.split("/")[1] for tensor in of_status(report, "not in the checkpoint")} == {
        "_mask_net",
        "_prediction_head_dict",
    }
    config.task.init_checkpoint, config.task.init_checkpoint_modules = str(tmp_path / "start"), "detection"
    task = DeepMACTask(config.task)
    model = task.build_model()
    task.initialize(model)
    np.testing.assert_array_equal(
        published.published_variables(model)[f"{HEAT_MAP}kernel"], values[f"{HEAT_MAP}kernel"]
    )


def test_model_directory_holds_config_and_weights(load, reference_dir, tmp_path):
    folder, model_dir = reference_dir / "resnet4_no_instance", tmp_path / "model"
    result = command_line.run("import-checkpoint", folder, "--out", model_dir)
    assert "Tensors: 3 training state, 124 restored\n" in result.output
    assert {path.name for path in model_dir.iterdir()} >= {"params.yaml", "checkpoint", "ckpt-0.index"}

    config = exp_factory.get_exp_config("deepmac_hourglass_coco")
    config = hyperparams.override_params_dict(config, str(model_dir / "params.yaml"), is_strict=True)
    original, expected = load("resnet4_no_instance")
    assert config.task.model.as_dict() == original.task.model.as_dict()
    model = build_deepmac(config.task.model)
    status = tf.train.Checkpoint(model=model).restore(tf.train.latest_checkpoint(str(model_dir)))
    status.assert_existing_objects_matched()
    for variable, value in zip(model.variables, expected.variables, strict=True):
        np.testing.assert_array_equal(variable, value)

    assert "not an empty folder" in command_line.refused("import-checkpoint", folder, "--out", model_dir)


@pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
def test_a_damaged_checkpoint_is_named_and_nothing_is_assigned(part, load, reference_dir, tmp_path):
    _, model = load("embedding_projection")
    before = [variable.numpy() for variable in model.variables]
    shutil.copytree(reference_dir / "embedding_projection" / "checkpoint", tmp_path / "checkpoint")
    path = tmp_path / "checkpoint" / f"ckpt-0.{part}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"ckpt-0 is damaged: .* again"):
        published.restore_published(model, tmp_path)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_finds_checkpoints(reference_dir, tmp_path, monkeypatch):
    folder = reference_dir / "hourglass20"
    prefix = str(folder / "checkpoint" / "ckpt-0")
    assert published.find_checkpoint(folder) == prefix
    assert published.find_checkpoint(folder / "checkpoint") == prefix
    assert published.find_checkpoint(prefix) == prefix
    monkeypatch.chdir(folder)
    assert published.find_checkpoint(".") == str(Path("checkpoint/ckpt-0"))
    alone = write_tensors(tmp_path / "alone" / "ckpt-3", {"a": np.zeros(2)})
    assert published.find_checkpoint(tmp_path / "alone") == str(alone)
    write_tensors(tmp_path / "alone" / "ckpt-4", {"a": np.zeros(2)})
    for path in (tmp_path, tmp_path / "alone", tmp_path / "nothing"):
        with pytest.raises(InputError, match="no checkpoint at"):
            published.find_checkpoint(path)
    line = command_line.refused("import-checkpoint", tmp_path, "--out", tmp_path / "out")
    assert line == f"deepmac: {tmp_path}/pipeline.config: No such file or directory\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--params-override", "task.model.num_clases=5"], "num_clases"),
        (["--config-file", "nowhere.yaml"], "nowhere.yaml"),
        (["--config-file", str(MINI), "--experiment", "deepmac_maxi"], "deepmac_maxi"),
    ],
)
def test_wrong_configurations_are_one_line(options, expected, reference_dir, tmp_path):
    arguments = ["import-checkpoint", reference_dir / "hourglass20", "--out", tmp_path / "out"]
    assert expected in command_line.refused(*arguments, *options)
    assert not (tmp_path / "out").exists()
