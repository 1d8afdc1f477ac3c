"""Every distribution strategy this machine can run, with the whole training and evaluation."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cluster_recipes
import pytest
import tensorflow as tf
import tiny_training
from official.core import config_definitions

from deepmac import configs
from deepmac.core import machine
from deepmac.core.errors import InputError
from deepmac.training import devices

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    """Nine pictures in batches of eight: the last batch leaves replicas without any."""
    return tiny_training.write_config(tmp_path_factory.mktemp("tiny"), num_images=9, batch_size=8)


def start(program, config_file, model_dir, overrides, **environment):
    command = [sys.executable, *program, "--experiment=deepmac_mini", f"--config_file={config_file}"]
    command += ["--mode=train_and_eval", f"--model_dir={model_dir}", f"--params_override={overrides}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=os.environ | environment, **pipes)


def check_run(process, model_dir, steps=4):
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err[-3000:]
    assert (model_dir / f"ckpt-{steps}.index").is_file()
    metrics = json.loads((model_dir / "evaluation.json").read_text())["metrics"]
    assert metrics["gt_boxes/box/AP"] == pytest.approx(100), "every picture was evaluated"
    return out


@pytest.mark.parametrize(
    ("dtype", "strategy", "expected"),
    [
        (None, "off", "float32"),
        ("bfloat16", "off", "bfloat16"),
        ("auto", "off", "float32"),
        ("auto", "tpu", "bfloat16"),  # its chips may be those of another host
    ],
)
def test_auto_precision_is_of_the_device_that_trains(monkeypatch, dtype, strategy, expected):
    monkeypatch.setattr(machine, "computes_bfloat16", lambda: False)
    runtime = config_definitions.RuntimeConfig(mixed_precision_dtype=dtype, distribution_strategy=strategy)
    assert devices.precision(runtime) == expected


@pytest.mark.nightly  # `test_train.py` has the default
@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_trains_and_evaluates_on_one_device(strategy, config_file, tmp_path):
    overrides = f"runtime.distribution_strategy={strategy}"
    check_run(start(["-m", "deepmac.train"], config_file, tmp_path, overrides), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.nightly)])
def test_trains_and_evaluates_on_several_devices(count, config_file, tmp_path):
    program = [str(TESTS / "run_on_logical_devices.py"), str(count)]
    overrides = "runtime.distribution_strategy=mirrored"
    check_run(start(program, config_file, tmp_path, overrides), tmp_path)


def run_two_workers(config_file, model_dir, steps):
    """Runs two workers on this machine; returns what they printed."""
    cluster = {"worker": [f"localhost:{cluster_recipes.free_port()}" for _ in range(2)]}
    overrides = f"runtime.distribution_strategy=multi_worker_mirrored,trainer.train_steps={steps}"
    workers = []
    for index in range(2):
        place = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        workers.append(start(["-m", "deepmac.train"], config_file, model_dir, overrides, TF_CONFIG=place))
    return [check_run(worker, model_dir, steps) for worker in workers]


@pytest.mark.slow
def test_two_workers_train_together(config_file, tmp_path):
    first, second = run_two_workers(config_file, tmp_path, 4)
    assert "step 4/4" in first and "step 4/4" not in second, "one of them reports"


@pytest.mark.nightly
def test_two_workers_resume_together(config_file, tmp_path):
    run_two_workers(config_file, tmp_path, 4)
    again, _ = run_two_workers(config_file, tmp_path, 6)
    assert re.search(r"restored from checkpoint: .*ckpt-4", again)
    assert "step 6/6" in again and "step 4/6" not in again


@pytest.mark.slow
def test_two_replicas_with_half_the_batch_learn_what_one_learns(config_file):
    command = [sys.executable, TESTS / "replicas_agree.py", config_file]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    difference = json.loads(run.stdout.splitlines()[-1])
    assert difference["loss"] < 1e-5 and difference["weight"] < 1e-5
    assert difference["change"] > 1e-3, "something was learned"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distribution_strategy": "mirrord"}, "Unrecognized Distribution Strategy: .mirrord"),
        ({"distribution_strategy": "tpu"}, "needs --tpu"),
        ({"distribution_strategy": "one_device", "num_gpus": 2}, "more than one device"),
        ({"distribution_strategy": "mirrored", "num_gpus": 1, "all_reduce_alg": "ring"}, "all_reduce_alg"),
    ],
)
def test_strategies_that_do_not_fit_are_input_errors(options, message):
    with pytest.raises(InputError, match=message):
        devices.build_strategy(config_definitions.RuntimeConfig(**options))
    runtime = config_definitions.RuntimeConfig(distribution_strategy="off")
    assert devices.build_strategy(runtime) is tf.distribute.get_strategy()


def test_batches_must_split_evenly():
    class FourReplicas:
        num_replicas_in_sync = 4

    task = configs.deepmac_mini().task
    task.validation_data.global_batch_size = 6
    devices.check_batch_sizes(task, FourReplicas(), "train")
    with pytest.raises(InputError, match=r"task\.validation_data\.global_batch_size 6 .* the 4 replicas"):
        devices.check_batch_sizes(task, FourReplicas(), "train_and_eval")
