"""Command lines of the paper profile: accepted as they are printed, and, at a reduced size, run."""

import functools
import json
import multiprocessing
import shlex
import shutil
import string
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import synthetic
import tensorflow as tf
import tf_keras
import yaml
from official.core import exp_factory, task_factory
from official.modeling import hyperparams, performance

from deepmac.data.data_sets import read_coco_folder, read_image_ids
from deepmac.data.tfrecords import write_tfrecords
from deepmac.suite.study import row_config, tpu_command
from deepmac.suite.suite import Suite
from deepmac.training import mask_rcnn as mask_rcnn_task  # noqa: F401
from deepmac.training import task as deepmac_task  # noqa: F401  # registers the experiments

ROOT = Path(__file__).resolve().parents[1]
SUITE = Suite.load("paper", ROOT)
ROWS = SUITE.settings.rows
# What fits two cores: pictures of 256 pixels, and the published networks.
REDUCED = {
    "runtime.distribution_strategy": "one_device",
    "runtime.num_gpus": 0,
    "task.train_data.global_batch_size": 2,
    "task.train_data.shuffle_buffer_size": 8,
    "task.validation_data.global_batch_size": 2,
    "task.model.input_size": "[256,256,3]",
    "task.init_checkpoint": "",
    "trainer.train_steps": 2,
    "trainer.steps_per_loop": 1,
    "trainer.summary_interval": 1,
    "trainer.checkpoint_interval": 2,
}


def _arguments(row) -> dict[str, str]:
    words = shlex.split(tpu_command(row))
    assert words[:3] == ["python", "-m", "deepmac.train"]
    return dict(word.removeprefix("--").split("=", 1) for word in words[3:])


@pytest.mark.parametrize("key", ROWS)
def test_the_printed_command_gives_the_row(key):
    row = SUITE.row(key, 0)
    arguments = _arguments(row)
    config = exp_factory.get_exp_config(arguments["experiment"])
    config.override(yaml.safe_load(Path(arguments["config_file"]).read_text()))
    config = hyperparams.override_params_dict(config, arguments["params_override"], is_strict=True)
    expected = row_config(row)
    for data, split in (("train_data", "train2017"), ("validation_data", "val2017")):
        expected.override({"task": {data: {"input_path": f"$TFRECORDS/{split}-*"}}})
    task = {"annotation_file": "$TFRECORDS/instances_val2017.json", "seed": 0}
    task["init_checkpoint"] = row.init_checkpoint or expected.task.init_checkpoint
    expected.override({"runtime": {"distribution_strategy": "tpu"}, "task": task})
    assert config.as_dict() == expected.as_dict()


@pytest.fixture(scope="module")
def drawn_records(tmp_path_factory):
    """Records of drawn pictures."""
    folder = tmp_path_factory.mktemp("drawn")
    synthetic.write_splits(folder, (120, 160), num_images=1)
    write_tfrecords(read_coco_folder(folder), folder / "records", num_shards=1)
    return folder / "records"


@pytest.mark.parametrize(
    "key", ["voc_only_hourglass52", "voc_only", "all_classes", "mask_rcnn", "mask_rcnn_spinenet"]
)
def test_the_published_input_is_read(key, drawn_records):
    """Pictures go through every published augmentation, at the published size."""
    row = SUITE.row(key, 0)
    config = row_config(row)
    size = config.task.model.input_size[0]
    for data, split in ((config.task.train_data, "train2017"), (config.task.validation_data, "val2017")):
        data.input_path, data.global_batch_size = f"{drawn_records}/{split}-*", 1
        features, labels = next(iter(task_factory.get_task(config.task).build_inputs(data)))
        image = features["image"] if isinstance(features, dict) else features
        assert image.shape == (1, size, size, 3)
        assert np.ptp(image) > 0
        assert tf.nest.flatten(labels)


@pytest.fixture(scope="module")
def records(coco_dir, tmp_path_factory):
    """Records of a few pictures."""
    ids = set()
    for split, count in (("train2017", 8), ("val2017", 4)):
        listed = read_image_ids(ROOT / "configs" / "subset" / f"{split}.txt")
        ids.update(sorted(listed)[:count])
    folder = tmp_path_factory.mktemp("records")
    write_tfrecords(read_coco_folder(coco_dir, ids=ids), folder / "coco")
    return folder / "coco"


@pytest.mark.nightly
@pytest.mark.parametrize("key", ROWS)
def test_the_printed_command_trains_two_steps_and_evaluates(key, records, tmp_path):
    arguments = _arguments(SUITE.row(key, 0))
    del arguments["tpu"]
    arguments["mode"] = "train_and_post_eval"
    arguments["params_override"] += "".join(f",{name}={value}" for name, value in REDUCED.items())
    command = [
        f"--{name}={string.Template(value).safe_substitute(TFRECORDS=records, MODELS=tmp_path)}"
        for name, value in arguments.items()
    ]
    run = subprocess.run(
        [sys.executable, "-m", "deepmac.train", *command], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "step 2/2" in run.stdout
    assert (tmp_path / key / "evaluation.json").is_file()
    shutil.rmtree(tmp_path / key)  # 7 GB of checkpoints; pytest keeps them for three sessions


@functools.cache
def _first_row_of_each_program() -> list[str]:
    """Rows with different training steps: the input, not the step, decides which classes have masks."""
    programs = {}
    for key in ROWS:
        task = row_config(SUITE.row(key, 0)).task.as_dict()
        task["allowed_masked_classes_ids"] = task["init_checkpoint"] = None
        programs.setdefault(json.dumps(task, sort_keys=True), key)
    return list(programs.values())


@pytest.mark.nightly
@pytest.mark.parametrize("key", ROWS)
def test_xla_compiles_the_training_step(key, records, monkeypatch):
    """At the published size, with gradients; for this machine's processor, not executed."""
    if key not in _first_row_of_each_program():
        pytest.skip("another row has the same training step")
    # All passes of XLA run; LLVM alone does not optimise: most of the time, and of no use to a TPU.
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    monkeypatch.setenv("XLA_FLAGS", flags)
    # In a process of its own: TensorFlow keeps 2 GB of each such program, and reads the flags once.
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as executor:
        program = executor.submit(_compiled_training_step, key, records).result()
    assert "is_scheduled=true" in program, "the order of execution is the last thing that XLA decides"
    assert program.count("convolution(") > 100


def _compiled_training_step(key: str, records: Path) -> str:
    row = SUITE.row(key, 0)
    config = row_config(row)
    data = {"input_path": f"{records}/train2017-*", "global_batch_size": 2, "shuffle_buffer_size": 8}
    config.task.override({"train_data": data, "init_checkpoint": ""})
    performance.set_mixed_precision_policy(config.runtime.mixed_precision_dtype)
    task = task_factory.get_task(config.task)
    model = task.build_model()
    optimizer = tf_keras.optimizers.SGD(1e-3)
    optimizer.build(model.trainable_variables)
    features, labels = next(iter(task.build_inputs(config.task.train_data)))
    step = tf.function(
        lambda features, labels: task.train_step((features, labels), model, optimizer)["loss"],
        jit_compile=True,
    )
    return step.experimental_get_compiler_ir(features, labels)(stage="optimized_hlo")
