"""From an annotation file to a model, on small pictures from the small random model."""

import json
import shutil
import subprocess
import sys
import time

import command_line
import numpy as np
import pytest
import synthetic
import tensorflow as tf
import tf_keras
import tiny_model
from PIL import Image
from synthetic import OWN_CLASSES as NAMES

import deepmac
from deepmac.data.splits import draw_validation
from deepmac.evaluation.files import read_evaluation
from deepmac.inference.find import ModelFolder
from deepmac.inference.load import read_task_config
from deepmac.training import finetune


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    synthetic.write_own_classes(folder, num_images=10)
    return folder


def _finetune(folder, out, *options, status=0, as_folder=False):
    given = [folder] if as_folder else [folder / "boxes.json", "--images", folder / "images"]
    arguments = ["finetune", *given, "--out", out, "--model", tiny_model.model_dir()]
    arguments += ["--steps", 2, "--masks-of", "bolt", *options]
    return command_line.run(*arguments, status=status)


def test_a_data_set_becomes_a_model_and_a_killed_run_goes_on(data_set, tmp_path, monkeypatch):
    out, export = tmp_path / "model", tmp_path / "export"
    shutil.copytree(data_set / "images", export / "images")
    shutil.copy(data_set / "boxes.json", export)
    with monkeypatch.context() as patched:
        patched.setattr(finetune, "write_report", lambda *arguments: 1 / 0)  # killed before the last step
        with pytest.raises(ZeroDivisionError):
            _finetune(export, out, as_folder=True)
    records = {path: path.stat().st_mtime_ns for path in (out / "records").iterdir()}
    monkeypatch.setattr(ModelFolder, "calibration", (-1.0, 2.0))  # that of the model it starts from stays
    result = _finetune(export, out, as_folder=True)
    assert tf_keras.mixed_precision.global_policy().name == "float32", (
        "other models of the process keep theirs"
    )
    assert records == {path: path.stat().st_mtime_ns for path in (out / "records").iterdir()}
    assert "step 1/2" not in result.stdout, "trained before"
    report = (out / "report.txt").read_text()
    assert report in result.stdout and "annotated: 2 of seen classes, 2 of unseen" in report
    assert f"In boxes without a mask, training learnt that of {tiny_model.model_dir()}; no figure" in report
    rows = [line for line in report.splitlines() if line.startswith(("this", "the"))]
    assert [row[:12] for row in rows] == ["this model  ", "the inscribe", "the whole bo"]
    ellipse, box = (np.array(row.split()[3:], float) for row in rows[1:])
    assert (box > 95).all() and (ellipse < 85).all(), "objects are rectangles"
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width > 600

    config = read_task_config(out / "params.yaml")
    assert (config.model.num_classes, config.allowed_masked_classes_ids) == (3, [1]) and config.keep_masks
    found = deepmac.load(out).detect(data_set / "images" / "000000000100.jpg", min_score=0)
    assert set(found.names) <= set(NAMES.values()) and set(found.category_ids) <= set(NAMES)
    measured = read_evaluation(out).metrics
    assert measured["full_box/mask/seen/AP"] > 95 and f"{measured['gt_boxes/mask/seen/mIoU']:.1f}" in rows[0]
    assert report in _finetune(export, out, as_folder=True).stdout
    assert json.loads((out / "quality.json").read_text()) == {"intercept": -1.0, "slope": 2.0}
    other = _finetune(export, out, "--val-fraction", 0.5, status=2, as_folder=True)
    assert "begun with other annotations or options" in other.stderr


@pytest.mark.nightly  # starts seven trainings
def test_a_run_that_is_killed_again_and_again_ends_like_one_that_is_not(data_set, tmp_path):
    """Killed once there are records, a beginning, a checkpoint in the middle, or a model without figures."""

    def start(out):
        arguments = ["--images", data_set / "images", "--out", out, "--model", tiny_model.model_dir()]
        command = [sys.executable, "-m", "deepmac", "finetune", data_set / "boxes.json", *arguments]
        return subprocess.Popen([*map(str, command), "--steps", "8"], stdout=subprocess.PIPE, text=True)

    for written in ("records", "start", "training/ckpt-6.index", "params.yaml"):
        process = start(tmp_path / "killed")
        while process.poll() is None and not (tmp_path / "killed" / written).exists():
            time.sleep(0.01)
        process.kill()
        process.communicate()
        assert process.returncode == -9, f"had ended before {written} was there"
        assert not (tmp_path / "killed" / finetune.TABLE_FILE).exists()
    for name in ("killed", "whole"):
        process = start(tmp_path / name)
        output, _ = process.communicate()
        assert process.returncode == 0
        assert ("step 1/8" in output) == (name == "whole")
    for file in ("report.txt", "evaluation.json", "categories.json"):
        assert (tmp_path / "killed" / file).read_text() == (tmp_path / "whole" / file).read_text()

    # Experts go on from there: with a learning rate of zero, the kernels are those of the model.
    config, folder = tmp_path / "whole" / "params.yaml", tmp_path / "further"
    changes = "trainer.optimizer_config.learning_rate.cosine.initial_learning_rate=0.0,trainer.train_steps=1"
    flags = ["--experiment=deepmac_mini", "--mode=train", f"--config_file={config}", f"--model_dir={folder}"]
    command = [sys.executable, "-m", "deepmac.train", *flags, f"--params_override={changes}"]
    subprocess.run(command, check=True)
    before, after = (tf.train.load_checkpoint(str(path)) for path in (config.parent, folder))
    kernels = [name for name in before.get_variable_to_shape_map() if "kernel/.ATTR" in name]
    assert len(kernels) > 50
    for name in kernels:
        np.testing.assert_array_equal(before.get_tensor(name), after.get_tensor(name))


def test_training_starts_from_what_fits(tmp_path):
    params = finetune.exp_factory.get_exp_config("deepmac_mini")
    params.task.model = read_task_config(tiny_model.model_dir() / "params.yaml").model
    params.task.model.num_classes = 3
    told = finetune._warm_start(finetune.Recipe(str(tiny_model.model_dir())), params, tmp_path)
    before, after = (tf.train.load_checkpoint(str(folder)) for folder in (tiny_model.model_dir(), tmp_path))
    shapes = after.get_variable_to_shape_map()
    kept = [name for name in shapes if name.startswith(("backbone/", "head/", "mask_head/"))]
    new = [name for name in kept if shapes[name] != before.get_variable_to_shape_map()[name]]
    assert len(kept) > 50 and len(new) == 2 and all("ct_heatmaps" in name for name in new)
    for name in new:  # nothing is anywhere, with a probability of 0.01
        assert set(after.get_tensor(name).ravel()) == {np.float32(0 if "kernel" in name else -4.6)}
    for name in set(kept) - set(new):
        np.testing.assert_array_equal(before.get_tensor(name), after.get_tensor(name))
    assert told.count("ct_heatmaps") == 2


def test_a_new_mask_head_has_the_architecture_asked_for_and_nothing_of_the_old_one(tmp_path):
    params = finetune.exp_factory.get_exp_config("deepmac_mini")
    params.task.model = read_task_config(tiny_model.model_dir() / "params.yaml").model
    for head in (params.task.model.mask_head.network_type, "resnet4"):
        params.task.model.mask_head.network_type = head
        recipe = finetune.Recipe(str(tiny_model.model_dir()), mask_head=head)
        (tmp_path / head).mkdir()
        assert f"all restored, but what begins anew: mask head {head}" == finetune._warm_start(
            recipe, params, tmp_path / head
        )
        folders = (tiny_model.model_dir(), tmp_path / head)
        before, after = (tf.train.load_checkpoint(str(folder)) for folder in folders)
        kernels = [name for name in after.get_variable_to_shape_map() if "kernel/" in name]
        for name in kernels:
            is_old = before.has_tensor(name) and np.array_equal(
                before.get_tensor(name), after.get_tensor(name)
            )
            assert is_old != name.startswith("mask_head/"), name


def test_what_cannot_be_is_said_in_one_line(data_set, tmp_path):
    error = _finetune(data_set, tmp_path / "one", "--masks-of", "bolt,washer", status=2).stderr
    assert "no training picture has a mask of washer" in error and "bolt, nut" in error
    assert not any((tmp_path / "one").iterdir()), "nothing is left of a call that is refused"
    finetune._claim(tmp_path / "one", {"masks_of": "bolt"})  # corrected: nothing had been trained yet
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["request.json"]
    head = _finetune(data_set, tmp_path / "three", "--mask-head", "resnet", status=2)
    assert "unknown mask_head.network_type 'resnet'" in head.stderr
    assert not (tmp_path / "three").exists()
    comma = _finetune(data_set, tmp_path / "a,b", status=2).stderr
    assert "training takes , for a pattern" in comma and not (tmp_path / "a,b").exists()
    assert "--seed" in _finetune(data_set, tmp_path / "three", "--seed", -1, status=2).stderr
    without = command_line.run("finetune", data_set / "boxes.json", "--out", tmp_path / "four", status=2)
    assert "Give the folder of the pictures by --images" in without.stderr
    for given, said in (
        ([tmp_path / "typo"], "typo: no such file or folder"),
        ([data_set, "--val", data_set / "boxes.json"], "has what to validate with: leave out --val"),
    ):
        error = command_line.run("finetune", *given, "--out", tmp_path / "four", status=2).stderr
        assert said in error and not (tmp_path / "four").exists()
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "mine.txt").touch()
    assert "not an empty folder" in _finetune(data_set, tmp_path / "two", status=2).stderr
    content = json.loads((data_set / "boxes.json").read_text())
    drawn = draw_validation({image["id"]: image for image in content["images"]}, content["annotations"], 0.2)
    content["annotations"] = [
        entry | {"iscrowd": int(entry["image_id"] not in drawn)} for entry in content["annotations"]
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    (tmp_path / "images").symlink_to(data_set / "images")
    error = _finetune(tmp_path, tmp_path / "out", status=2).stderr
    assert error.count("\n") == 1 and "no boxes to learn from but crowd regions" in error
    content["annotations"] = [entry | {"iscrowd": 0} for entry in content["annotations"][:1]]
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    error = _finetune(tmp_path, tmp_path / "out", status=2).stderr
    assert "no box in the pictures drawn to validate with: give --val" in error


def test_larger_data_sets_train_longer_and_small_pictures_on_a_small_input():
    assert [finetune.default_steps(n) for n in (10, 400, 1600)] == [120, 480, 960]
    sides = [{"height": 60, "width": side} for side in (100, 160, 160)]
    assert finetune._input_size(384, sides) == 256
    assert finetune._input_size(96, sides) == 96
    assert finetune._input_size(384, [{"height": 3000, "width": 4000}]) == 384
    for steps in (1, 7, 200, 1234):
        trainer = finetune._trainer(steps)
        assert trainer.summary_interval % trainer.steps_per_loop == 0
        assert 1 <= trainer.validation_interval <= steps
