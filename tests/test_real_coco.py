"""The commands, one after the other, on real COCO pictures."""

import json
import subprocess
import sys

import pytest


def _run(*command):
    run = subprocess.run([sys.executable, "-m", *map(str, command)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.slow
def test_records_training_and_evaluation(coco_dir, tmp_path):
    ids = {}
    for split, count in (("train2017", 24), ("val2017", 12)):
        content = json.loads((coco_dir / "annotations" / f"instances_{split}.json").read_text())
        crowded = {a["image_id"] for a in content["annotations"] if a["iscrowd"]}
        others = sorted({image["id"] for image in content["images"]} - crowded)
        ids[split] = [*sorted(crowded)[:2], *others[: count - 2]]
    ids_file = tmp_path / "ids.json"
    ids_file.write_text(json.dumps(ids))

    records = tmp_path / "records"
    _run("deepmac", "tfrecord", "--coco-dir", coco_dir, "--out", records, "--ids", ids_file)
    model = tmp_path / "model"
    overrides = {
        "task.train_data.input_path": f"{records}/train2017-*",
        "task.train_data.global_batch_size": 4,
        "task.validation_data.input_path": f"{records}/val2017-*",
        "task.annotation_file": records / "instances_val2017.json",
        "trainer.train_steps": 3,
        "trainer.steps_per_loop": 3,
        "trainer.summary_interval": 3,
        "trainer.checkpoint_interval": 3,
    }
    _run(
        "deepmac.train",
        "--experiment=deepmac_mini",
        "--mode=train",
        f"--model_dir={model}",
        "--params_override=" + ",".join(f"{key}={value}" for key, value in overrides.items()),
    )

    arguments = [
        "--model",
        model,
        "--coco-dir",
        coco_dir,
        "--ids",
        ids_file,
        "--seen",
        "voc",
        "--out",
        tmp_path,
    ]
    summary = _run("deepmac", "evaluate", *arguments)
    assert "mask/unseen/AP" in summary
    metrics = json.loads((tmp_path / "evaluation.json").read_text())["metrics"]
    # Every box is given, crowd regions aside, so boxes are perfect; masks of an untrained head are not.
    assert metrics["gt_boxes/box/AP"] == pytest.approx(100)
    assert 0 < metrics["gt_boxes/mask/mIoU"] < 90
