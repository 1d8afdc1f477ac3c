import dataclasses
import json
import subprocess
import types
from pathlib import Path

import pytest
import synthetic
import yaml

from deepmac.errors import InputError
from deepmac.reproduction import rows
from deepmac.reproduction.suite import Dataset, Row

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    for split in ("train2017", "val2017"):
        synthetic.write_coco(folder, split, [synthetic.draw_scene(48, 48, 2, 0)], [1, 53])
    return Dataset("coco", {"coco_dir": str(folder)})


@pytest.fixture
def make_row(dataset):
    def make(key, config, init=None):
        config_file = ROOT / "configs" / "mini" / config
        return Row(key, config_file, "deepmac_mini", {"trainer": {"train_steps": 7}}, dataset, 5, init)

    return make


class Trainer:
    """Stands in for the training process: notes its configuration, leaves a result or fails."""

    def __init__(self, status=0):
        self.status = status
        self.runs = []

    def __call__(self, command, stdout, **kwargs):
        flags = [part.lstrip("-").split("=", 1) for part in command if part.startswith("--")]
        folder = Path(next(value for name, value in flags if name == "model_dir"))
        files = [value for name, value in flags if name == "config_file"]
        self.runs.append((folder.name, yaml.safe_load(Path(files[-1]).read_text()), files[0]))
        stdout.write(b"training\n")
        if not self.status:
            result = {"metrics": {"m": float(len(self.runs))}, "bootstrap": {}}
            (folder / "evaluation.json").write_text(json.dumps(result))
        return subprocess.CompletedProcess(command, self.status)


@pytest.fixture
def trainer(monkeypatch):
    trainer = Trainer()
    fake = types.SimpleNamespace(run=trainer, STDOUT=subprocess.STDOUT)
    monkeypatch.setattr(rows, "subprocess", fake)
    return trainer


def test_a_row_is_trained_once_after_the_row_it_starts_from(make_row, trainer, tmp_path):
    detector = make_row("detector", "detector.yaml")
    row = make_row("voc_only", "voc_only.yaml", init=detector)

    assert rows.train_row(row, tmp_path)["metrics"] == {"m": 2.0}
    assert rows.train_row(row, tmp_path)["metrics"] == {"m": 2.0}
    assert rows.train_row(detector, tmp_path)["metrics"] == {"m": 1.0}
    both, one = (rows.training_seconds(trained, tmp_path) for trained in ([row, detector], [row]))
    assert both == one, "the detector's time counts once"

    assert [name for name, _, _ in trainer.runs] == [detector.folder_name, row.folder_name]
    _, config, first_file = trainer.runs[1]
    assert first_file.endswith("voc_only.yaml")
    assert config["trainer"] == {"train_steps": 7}
    assert config["task"]["seed"] == config["task"]["train_data"]["seed"] == 5
    assert config["task"]["init_checkpoint"] == str(rows.row_folder(detector, tmp_path))
    assert Path(config["task"]["annotation_file"]).is_file()
    assert list(tmp_path.glob("tfrecord-*/train2017-*.tfrecord"))


def test_a_failed_row_names_its_log_and_is_tried_again(make_row, trainer, tmp_path):
    row = make_row("detector", "detector.yaml")
    trainer.status = 1
    with pytest.raises(rows.RowError, match=r"detector-seed5-\w+ failed with status 1; see .*train.log"):
        rows.train_row(row, tmp_path)
    assert "training" in (rows.row_folder(row, tmp_path) / "train.log").read_text()
    trainer.status = 0
    rows.train_row(row, tmp_path)
    assert len(trainer.runs) == 2
    lines = (rows.row_folder(row, tmp_path) / "seconds.txt").read_text().split()
    assert len(lines) == 2, "the time of both attempts counts"
    assert rows.training_seconds([row], tmp_path) == sum(map(float, lines))


def test_a_missing_environment_variable_is_named(make_row, trainer, tmp_path, monkeypatch):
    monkeypatch.delenv("COCO_DIR", raising=False)
    with pytest.raises(InputError, match=r"environment variable \$COCO_DIR"):
        rows.prepare_dataset(Dataset("coco", {"coco_dir": "$COCO_DIR"}), tmp_path)
    row = dataclasses.replace(make_row("voc_only", "voc_only.yaml"), init_checkpoint="$CENTERNET")
    with pytest.raises(InputError, match=r"environment variable \$CENTERNET"):
        rows.train_row(row, tmp_path)
    assert not trainer.runs


def test_data_are_prepared_once(dataset, tmp_path):
    first = rows.prepare_dataset(dataset, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tfrecord")}
    assert rows.prepare_dataset(dataset, tmp_path) == first
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tfrecord")}
    assert times
