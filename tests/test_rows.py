import dataclasses
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import synthetic
import yaml

from deepmac.core.errors import InputError
from deepmac.suite import rows
from deepmac.suite.rows import RowStore, prepare_dataset
from deepmac.suite.suite import Dataset, Row

ROOT = Path(__file__).resolve().parents[1]
METRICS = {
    "gt_boxes/mask/unseen/AP": 50.12346,
    "gt_boxes/mask/class/cup/AP": 40.0,
    "gt_boxes/mask/class/cup/AP75": 30.0,
    "gt_boxes/mask/class/oven/AP": None,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    synthetic.write_splits(folder, (48, 48), num_images=1)
    return Dataset("coco", {"coco_dir": str(folder)})


@pytest.fixture
def make_row(dataset):
    def make(key, config, init=None):
        config_file = ROOT / "configs" / "mini" / config
        options = {"task.train_data.num_keypoints": 10, "trainer.train_steps": 7}
        content = yaml.safe_load(config_file.read_text())
        return Row(key, config_file, content, "deepmac_mini", options, dataset, 5, init)

    return make


@pytest.fixture
def store(tmp_path):
    return RowStore(tmp_path / "runs", tmp_path / "results")


class Trainer:
    """Stands in for the training process: notes its configuration, leaves a result or fails."""

    def __init__(self, status=0):
        self.status = status
        self.runs = []

    def __call__(self, command, stdout, **kwargs):
        flags = dict(part.lstrip("-").split("=", 1) for part in command if part.startswith("--"))
        folder = Path(flags["model_dir"])
        self.runs.append((folder.name, yaml.safe_load(Path(flags["config_file"]).read_text())))
        stdout.write(b"step 7/7\n")
        if not self.status:
            result = {"metrics": METRICS, "bootstrap": {"gt_boxes/mask/unseen/AP": [50.0, 49.0]}}
            (folder / "evaluation.json").write_text(json.dumps(result))
        return subprocess.CompletedProcess(command, self.status)


@pytest.fixture
def trainer(monkeypatch):
    trainer = Trainer()
    fake = types.SimpleNamespace(run=trainer, STDOUT=subprocess.STDOUT)
    monkeypatch.setattr(rows, "subprocess", fake)
    monkeypatch.setattr(rows, "_training_curves", lambda folder: {"total_loss": [[3, 5.0], [7, 4.0]]})
    return trainer


def test_a_row_is_trained_once_after_the_one_it_starts_from_and_tells_where_it_comes_from(
    make_row, trainer, store
):
    detector = make_row("detector", "detector.yaml")
    row = make_row("voc_only", "voc_only.yaml", init=detector)
    assert store.missing(row) == [detector, row]

    result = store.train(row)
    assert store.train(row) == result
    store.train(detector)
    assert store.missing(row) == []

    assert [name for name, _ in trainer.runs] == [detector.folder_name, row.folder_name]
    _, config = trainer.runs[1]
    assert config["task"]["allowed_masked_classes_ids"][0] == 1, "the configuration file's"
    assert config["trainer"] == {"train_steps": 7}, "the row's"
    assert config["task"]["train_data"]["num_keypoints"] == 10, "beside what the store puts there"
    assert config["task"]["seed"] == config["task"]["train_data"]["seed"] == 5
    assert config["task"]["init_checkpoint"] == str(store.model_folder(detector))
    assert Path(config["task"]["annotation_file"]).is_file()
    assert list(store.work_dir.glob("tfrecord-*/train2017-*.tfrecord"))

    assert result.metrics == {
        "gt_boxes/mask/unseen/AP": 50.1235,
        "gt_boxes/mask/class/cup/AP": 40.0,
        "gt_boxes/mask/class/oven/AP": None,
    }
    assert result.curves == {"total_loss": [[3, 5.0], [7, 4.0]]}
    assert (result.key, result.seed, result.config_sha256) == ("voc_only", 5, row.sha256)
    assert result.seconds >= 0
    assert "cores" in result.hardware


def test_results_outlive_models_unless_another_row_starts_from_one(make_row, trainer, store, tmp_path):
    detector = make_row("detector", "detector.yaml")
    row = make_row("voc_only", "voc_only.yaml", init=detector)
    other = make_row("other", "non_voc_only.yaml", init=detector)
    store.train(row)

    elsewhere = RowStore(tmp_path / "empty", store.results_dir)  # another machine with the same results
    assert elsewhere.missing(row) == []
    assert elsewhere.train(row) == store.train(row)
    assert elsewhere.missing(other) == [detector, other]
    assert elsewhere.train(row, with_model=True) == elsewhere.result(row)
    assert elsewhere.model_folder(row) == tmp_path / "empty" / "rows" / row.folder_name
    assert elsewhere.missing(row, with_model=True) == []
    assert len(trainer.runs) == 4


def test_rows_start_from_published_weights(make_row, trainer, store):
    detector = make_row("detector", "detector.yaml")
    row = make_row("voc_only", "voc_only.yaml", init=detector)
    published = store.results_dir / detector.folder_name
    published.mkdir(parents=True)
    assert store.missing(row) == [row]
    store.train(row)
    [(_, config)] = trainer.runs
    assert config["task"]["init_checkpoint"] == str(published)


def test_a_failed_row_names_its_log_and_is_tried_again(make_row, trainer, store):
    row = make_row("detector", "detector.yaml")
    trainer.status = 1
    with pytest.raises(RuntimeError, match=r"detector-seed5-\w+ failed with status 1; see .*train.log"):
        store.train(row)
    assert "step 7/7" in (store.model_folder(row) / "train.log").read_text()
    assert store.result(row) is None
    trainer.status = 0
    store.train(row)
    assert len(trainer.runs) == 2


def test_a_training_takes_from_its_configuration_to_its_evaluation(make_row, trainer, store):
    row = make_row("detector", "detector.yaml")
    store.train(row)
    folder = store.model_folder(row)
    (store.results_dir / f"{row.folder_name}.json").unlink()
    began = (folder / "evaluation.json").stat().st_mtime - 120
    os.utime(folder / "row.yaml", (began, began))
    assert store.train(row).seconds == pytest.approx(120, abs=0.1)


def test_a_missing_environment_variable_is_named(make_row, trainer, store, monkeypatch):
    monkeypatch.delenv("COCO_DIR", raising=False)
    row = dataclasses.replace(make_row("voc_only", "voc_only.yaml"), init_checkpoint="$CENTERNET")
    with pytest.raises(InputError, match=r"environment variable \$CENTERNET"):
        store.train(row)
    row = dataclasses.replace(row, dataset=Dataset("coco", {"coco_dir": "$COCO_DIR"}))
    with pytest.raises(InputError, match=r"environment variable \$COCO_DIR"):
        store.train(row)
    assert not trainer.runs


def test_threads_of_a_training_are_limited(make_row, tmp_path, monkeypatch):
    script = "import os, sys; print(os.environ['TF_NUM_INTRAOP_THREADS']); sys.exit(3)"

    def run(command, **options):
        return subprocess.run([sys.executable, "-c", script], **options)

    monkeypatch.setattr(rows, "subprocess", types.SimpleNamespace(run=run, STDOUT=subprocess.STDOUT))
    row = make_row("detector", "detector.yaml")
    store = RowStore(tmp_path / "runs", tmp_path / "results", threads=3)
    with pytest.raises(RuntimeError):
        store.train(row)
    assert (store.model_folder(row) / "train.log").read_text() == "3\n"


def test_data_are_prepared_once(dataset, tmp_path):
    first = prepare_dataset(dataset, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tfrecord")}
    assert prepare_dataset(dataset, tmp_path) == first
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tfrecord")}
    assert times
    assert first.annotation_file.is_file()
    scenes = Dataset("scenes", {"images": 2, "val_images": 1, "size": 64, "seed": 0, "jobs": 1})
    data = prepare_dataset(scenes, tmp_path)
    assert len(list((data.coco_dir / "train2017").iterdir())) == 2, "scenes are composed"


def test_data_of_listed_pictures_are_prepared(dataset, tmp_path):
    coco_dir = Path(dataset.arguments["coco_dir"])
    for split in ("train2017", "val2017"):
        content = json.loads((coco_dir / "annotations" / f"instances_{split}.json").read_text())
        (tmp_path / f"{split}.txt").write_text(str(content["images"][0]["id"]))
    listed = Dataset("coco", {"coco_dir": str(coco_dir), "ids": "."}, tmp_path)
    prepared = prepare_dataset(listed, tmp_path / "runs")
    assert len(json.loads(prepared.annotation_file.read_text())["images"]) == 1
