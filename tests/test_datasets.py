import pytest
import synthetic

from deepmac.core.errors import InputError
from deepmac.suite.datasets import prepare_dataset
from deepmac.suite.suite import Dataset


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "coco"
    synthetic.write_splits(folder, (48, 48), num_images=1)
    return Dataset("coco", {"coco_dir": str(folder)})


def test_data_are_prepared_once(dataset, tmp_path):
    first = prepare_dataset(dataset, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tfrecord")}
    assert prepare_dataset(dataset, tmp_path) == first
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tfrecord")}
    assert times
    assert first.annotation_file.is_file()


def test_scenes_are_composed(tmp_path):
    dataset = Dataset("scenes", {"images": 2, "val_images": 1, "size": 64, "seed": 0, "jobs": 1})
    data = prepare_dataset(dataset, tmp_path)
    assert len(list((data.coco_dir / "train2017").iterdir())) == 2


def test_a_missing_environment_variable_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("COCO_DIR", raising=False)
    with pytest.raises(InputError, match=r"environment variable \$COCO_DIR"):
        prepare_dataset(Dataset("coco", {"coco_dir": "$COCO_DIR"}), tmp_path)
