import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
import tiny_training

from deepmac.training import resume

STEPS = 16
# Many moments to be killed at: a line and a checkpoint after every step.
EVERY_STEP = "".join(
    f",trainer.{name}=1" for name in ("steps_per_loop", "summary_interval", "checkpoint_interval")
)


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    return tiny_training.write_config(
        tmp_path_factory.mktemp("tiny"), num_images=7, batch_size=2, shuffle_buffer_size=5
    )


def start(config_file, model_dir, overrides="", *flags, **options):
    command = [sys.executable, "-m", "deepmac.train", "--experiment=deepmac_mini", "--mode=train"]
    command += [f"--config_file={config_file}", f"--model_dir={model_dir}", *flags]
    command += [f"--params_override=trainer.train_steps={STEPS}{overrides}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, start_new_session=True, **pipes, **options)


def finish(process):
    out, err = process.communicate(timeout=900)
    return process.returncode, out, err


def weights(model_dir):
    reader = tf.train.load_checkpoint(str(model_dir / f"ckpt-{STEPS}"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def loss_curve(output):
    """Step -> loss, as printed."""
    return dict(re.findall(r"step (\d+)/\d+ \| loss ([\d.]+)", output))


@pytest.fixture(scope="module")
def uninterrupted(config_file, tmp_path_factory):
    model_dir = tmp_path_factory.mktemp("uninterrupted")
    status, out, err = finish(start(config_file, model_dir, EVERY_STEP, "--deterministic"))
    assert status == 0, err[-3000:]
    return weights(model_dir), loss_curve(out)


def kill_and_resume(config_file, model_dir, kills, seed):
    """Kills trainings after some checkpoint and a random time, then lets one finish; returns the output."""
    rng, output = random.Random(seed), ""
    for _ in range(kills):
        process = start(config_file, model_dir, EVERY_STEP, "--deterministic")
        os.set_blocking(process.stdout.fileno(), False)
        # The process writes a step's line, then its checkpoint: a short wait often hits the writing.
        for _ in range(3000):
            line = process.stdout.readline()
            output += line
            if (line.startswith("step") and rng.random() < 0.5) or process.poll() is not None:
                break
            time.sleep(0.02 if not line else 0)
        time.sleep(rng.uniform(0, 0.2))
        assert process.poll() is None, output + process.communicate()[1][-3000:]  # ended before it was killed
        os.killpg(process.pid, signal.SIGKILL)
        output += process.communicate()[0] or ""
    status, out, err = finish(start(config_file, model_dir, EVERY_STEP, "--deterministic"))
    assert status == 0, err[-3000:]
    return output + out


def assert_same(model_dir, output, uninterrupted):
    expected, curve = uninterrupted
    found = weights(model_dir)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert loss_curve(output).items() <= curve.items()
    assert not list(model_dir.glob("*temp*"))


@pytest.mark.slow
def test_killed_twice_gives_the_same_curve_and_weights(config_file, tmp_path, uninterrupted):
    assert_same(tmp_path, kill_and_resume(config_file, tmp_path, 2, seed=0), uninterrupted)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1, 4))
def test_killed_many_times_gives_the_same_curve_and_weights(config_file, tmp_path, uninterrupted, seed):
    assert_same(tmp_path, kill_and_resume(config_file, tmp_path, 4, seed), uninterrupted)


def one_line(err):
    assert "Traceback" not in err, err[-3000:]
    (line,) = [line for line in err.splitlines() if line.startswith("deepmac: ")]
    return line


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_the_training(config_file, tmp_path):
    rate = "trainer.optimizer_config.warmup.linear.warmup_learning_rate=1e30,task.gradient_clip_norm=0"
    status, _, err = finish(start(config_file, tmp_path, f",{rate}"))
    assert status == 2
    line = one_line(err)
    assert re.search(r"total_loss.* not finite by step \d+\. The last good checkpoint is .*; lower", line), (
        line
    )
    for path in tmp_path.glob("ckpt-*.index"):
        assert resume.checkpoint_problem(str(path.with_suffix(""))) is None


@pytest.mark.slow
def test_without_room_for_a_checkpoint_training_says_so_and_goes_on_later(config_file, tmp_path):
    """A limit on the size of files, as a quota, stands in for a full disk."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    status, _, err = finish(start(config_file, tmp_path, preexec_fn=limit))
    assert status == 2
    assert f"no space left to write {tmp_path}: free some and run again" in one_line(err)
    assert resume.last_step(str(tmp_path)) == 0
    status, out, err = finish(start(config_file, tmp_path))
    assert status == 0, err[-3000:]
    assert f"step {STEPS}/{STEPS}" in out
    assert not list(tmp_path.glob("*temp*"))


@pytest.mark.slow
def test_a_damaged_record_is_named(config_file, tmp_path):
    records = sorted((config_file.parent / "records").glob("train2017-*.tfrecord"))
    data = bytearray(records[1].read_bytes())
    data[200] ^= 1
    for path in records:
        (tmp_path / path.name).write_bytes(data if path == records[1] else path.read_bytes())
    overrides = f",task.train_data.input_path={tmp_path}/train2017-*"
    status, _, err = finish(start(config_file, tmp_path / "model", overrides))
    assert status == 2
    assert re.search(r"damaged record: .*train2017-00001-of-00003.tfrecord: record 0: ", one_line(err))


def test_a_folder_that_cannot_be_written_is_named(config_file, tmp_path):
    (tmp_path / "file").write_text("no folder")
    status, _, err = finish(start(config_file, tmp_path / "file" / "model"))
    assert status == 2
    assert "cannot write to" in one_line(err)


def save(folder, step):
    variable = tf.Variable(np.arange(1000.0) + step)
    checkpoint = tf.train.Checkpoint(variable=variable)
    manager = tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=None)
    checkpoint.restore(manager.latest_checkpoint)
    manager.save(checkpoint_number=step)


@pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
def test_a_truncated_checkpoint_gives_way_to_the_one_before(part, tmp_path):
    for step in (2, 4):
        save(tmp_path, step)
    path = tmp_path / f"ckpt-4.{part}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (tmp_path / "ckpt-6_temp").mkdir()
    assert resume.last_step(str(tmp_path)) == 4
    resume.clean_model_dir(str(tmp_path))
    assert resume.last_step(str(tmp_path)) == 2
    assert (tmp_path / f"damaged-ckpt-4.{part}").is_file() and not (tmp_path / "ckpt-6_temp").exists()
    copy = shutil.copytree(tmp_path, tmp_path / "copy")
    (tmp_path / "ckpt-2.index").unlink()
    assert resume.last_step(str(copy)) == 2, "also where it is copied to"


def test_without_any_whole_checkpoint_training_starts_anew(tmp_path):
    save(tmp_path, 2)
    (tmp_path / "ckpt-2.index").write_bytes(b"")
    (tmp_path / "best_ckpt").mkdir()
    (tmp_path / "best_ckpt" / "info.json").write_text('{"loss": 1')
    resume.clean_model_dir(str(tmp_path))
    assert resume.last_step(str(tmp_path)) == 0
    assert not (tmp_path / "best_ckpt" / "info.json").exists()
    (tmp_path / "best_ckpt" / "info.json").write_text(json.dumps({"loss": 1}))
    resume.clean_model_dir(str(tmp_path))
    assert (tmp_path / "best_ckpt" / "info.json").exists()
