import json
import re
import statistics
import subprocess
import sys

import psutil
import pytest
import tiny_training
from tensorboard.backend.event_processing import event_accumulator


def _run(*flags):
    return subprocess.run(
        [sys.executable, "-m", "deepmac.train", *map(str, flags)], capture_output=True, text=True, check=False
    )


def _summaries(folder, name):
    """The tensors written to TensorBoard under a name."""
    events = event_accumulator.EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return [event.tensor_proto for event in events.Tensors(name)]


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    return tiny_training.write_config(tmp_path_factory.mktemp("tiny"), num_images=4, batch_size=2)


def test_trains_evaluates_and_does_not_train_again(config_file, tmp_path):
    flags = (
        "--experiment=deepmac_mini",
        f"--config_file={config_file}",
        "--mode=train_and_post_eval",
        f"--model_dir={tmp_path}",
    )
    first = _run(*flags)
    assert first.returncode == 0, first.stderr
    assert re.search(
        r"^step 4/4 \| loss [\d.]+: centre .* mask [\d.]+ \| rate .* steps/s", first.stdout, re.M
    )
    assert re.search(r"^evaluated step 4 \| .* AP in given boxes: mask .* box 100.0$", first.stdout, re.M)
    assert len(first.stdout.splitlines()) < 12 and "Final experiment parameters" not in first.stderr
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert evaluation["metrics"]["gt_boxes/box/AP"] == pytest.approx(100)
    assert len(evaluation["bootstrap"]["gt_boxes/mask/unseen/AP"]) == 201
    assert (tmp_path / "params.yaml").is_file()
    assert (tmp_path / "ckpt-4.index").is_file()
    assert list((tmp_path / "best_ckpt").glob("best_ckpt-*.index"))
    [pictures] = _summaries(tmp_path / "validation", "image/masks in given boxes")
    assert [int(part) for part in pictures.string_val[:2]] == [64, 64]  # width and height
    assert len(pictures.string_val) == 2 + 2  # PNG files of the first batch

    again = _run(*flags)
    assert again.returncode == 0, again.stderr
    assert "steps/s" in first.stdout
    assert "steps/s" not in again.stdout
    assert json.loads((tmp_path / "evaluation.json").read_text()) == evaluation


def test_validates_without_annotations(config_file, tmp_path):
    run = _run(
        "--experiment=deepmac_mini",
        f"--config_file={config_file}",
        "--params_override=task.annotation_file=,task.allow_image_summary=false",
        "--mode=train_and_eval",
        f"--model_dir={tmp_path}",
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "ckpt-4.index").is_file()
    assert _summaries(tmp_path / "validation", "validation_loss")
    assert not (tmp_path / "best_ckpt").exists()


@pytest.mark.nightly
def test_memory_does_not_grow_in_5000_steps(config_file, tmp_path):
    """With a line, summaries and a checkpoint every 100 steps; measured between the 500th and the last."""
    steps = "train_steps=5000,trainer.steps_per_loop=100,trainer.summary_interval=100"
    command = [sys.executable, "-m", "deepmac.train", "--experiment=deepmac_mini", "--mode=train"]
    command += [f"--config_file={config_file}", f"--model_dir={tmp_path}"]
    command += [f"--params_override=trainer.{steps},trainer.checkpoint_interval=100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        memory = {
            int(line.split()[1].split("/")[0]): psutil.Process(process.pid).memory_info().rss
            for line in process.stdout
            if line.startswith("step ")
        }
    assert process.returncode == 0 and list(memory) == list(range(100, 5001, 100))
    early = statistics.median(memory[step] for step in range(500, 1001, 100))
    late = statistics.median(memory[step] for step in range(4500, 5001, 100))
    print(f"{early / 2**20:.0f} MiB, then {late / 2**20:.0f} MiB: {100 * (late / early - 1):+.2f} %")
    assert late < 1.02 * early


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--experiment=deepmac_maxi"], "no experiment 'deepmac_maxi': give one of deepmac_hourglass_coco, "),
        (["--experiment=deepmac_mini", "--config_file=missing.yaml"], "no such file: missing.yaml"),
        (["--experiment=deepmac_mini", "--params_override=task.modle=1"], "modle"),
        (["--experiment=deepmac_mini", "--params_override=task.train_data.input_path=nowhere*"], "nowhere"),
    ],
    ids=["experiment", "config file", "unknown key", "no data"],
)
def test_wrong_input_ends_with_one_line_and_status_2(flags, message, tmp_path):
    run = _run(*flags, "--mode=train", f"--model_dir={tmp_path / 'model'}")
    assert run.returncode == 2, run.stderr
    assert message in run.stderr
    [line] = [line for line in run.stderr.splitlines() if line.startswith("deepmac: ")]
    assert "Traceback" not in run.stderr
    assert not list(tmp_path.glob("model/ckpt*"))
    assert line
