import json
import subprocess
import sys

import pytest
import synthetic
import yaml

from deepmac.data.coco import write_tfrecords

TINY = {
    "runtime": {"mixed_precision_dtype": "float32"},
    "task": {
        "seed": 0,
        "mask_num_subsamples": 2,
        "model": {
            "input_size": [64, 64, 3],
            "max_num_instances": 4,
            "backbone": {"hourglass": {"input_channel_dims": 4}},
            "head": {"num_filters": 4},
            "mask_head": {"network_type": "hourglass10", "num_init_channels": 4, "mask_size": 16},
        },
    },
    "trainer": {
        **{"train_steps": 4, "steps_per_loop": 2, "summary_interval": 2},
        **{"checkpoint_interval": 2, "validation_interval": 4},
    },
}


def _run(*flags):
    return subprocess.run(
        [sys.executable, "-m", "deepmac.train", *map(str, flags)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    for split, seed in (("train2017", 0), ("val2017", 9)):
        scenes = [synthetic.draw_scene(64, 64, 2, seed + i) for i in range(4)]
        synthetic.write_coco(folder, split, scenes, [1, 53])
    records = folder / "records"
    write_tfrecords(folder, records)
    config = json.loads(json.dumps(TINY))
    config["task"] |= {
        "annotation_file": str(records / "instances_val2017.json"),
        "train_data": {"input_path": f"{records}/train2017-*", "global_batch_size": 2},
        "validation_data": {"input_path": f"{records}/val2017-*", "global_batch_size": 2},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_trains_evaluates_and_does_not_train_again(config_file, tmp_path):
    flags = (
        "--experiment=deepmac_mini",
        f"--config_file={config_file}",
        "--mode=train_and_post_eval",
        f"--model_dir={tmp_path}",
    )
    first = _run(*flags)
    assert first.returncode == 0, first.stderr
    assert "train | step:      4" in first.stdout
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert evaluation["metrics"]["gt_boxes/box/AP"] == pytest.approx(100)
    assert len(evaluation["bootstrap"]["gt_boxes/mask/unseen/AP"]) == 201
    assert (tmp_path / "params.yaml").is_file()
    assert (tmp_path / "ckpt-4.index").is_file()

    again = _run(*flags)
    assert again.returncode == 0, again.stderr
    assert "steps/sec" in first.stdout
    assert "steps/sec" not in again.stdout
    assert json.loads((tmp_path / "evaluation.json").read_text()) == evaluation


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--experiment=deepmac_maxi"], "deepmac_maxi"),
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
