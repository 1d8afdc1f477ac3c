import camera_traps
import pytest
import tiny_model

from deepmac.core import executors
from deepmac.core.errors import InputError
from deepmac.iwildcam import cluster, mask_task
from deepmac.iwildcam.jobs import Shard
from deepmac.iwildcam.make_masks import make_masks
from deepmac.iwildcam.mask_task import MaskTask

COUNT = 30


@pytest.fixture
def pictures(tmp_path):
    for number in range(COUNT):
        camera_traps.write_picture(tmp_path / f"pictures/{number:02d}.jpg", number)
    names = {f"{number:02d}.jpg": 2 for number in range(COUNT)}
    camera_traps.write_detections(tmp_path / "pictures/detections.json", names)
    return tmp_path / "pictures"


def _files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_a_part_that_is_begun_again_finds_what_was_written(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(mask_task, "load_network", lambda *_: tiny_model.predictor()._network)
    (pictures / "03.jpg").unlink()
    task = MaskTask(pictures, pictures / "detections.json", tmp_path / "out")
    results = cluster.segment_part(task, [3, 5, 7])
    assert [result and result.name for result in results].count(None) == 2
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
    assert len(before) == 2
    results = cluster.segment_part(task, [3, 5, 7, 8])
    assert results.count(None) == 3
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_no_scheduler_is_an_input_error(pictures, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(executors, "_CONNECT_SECONDS", 0.5)
    with pytest.raises(InputError, match="no Dask scheduler at tcp"):
        make_masks(pictures, pictures / "detections.json", tmp_path / "out", scheduler="tcp://127.0.0.1:1")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_cluster_writes_the_same_files(pictures, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "_PART", 8)
    (pictures / "03.jpg").write_bytes(b"damaged")
    options = {"model": tiny_model.model_dir(), "precision": "float32"}
    arguments = (pictures, pictures / "detections.json")
    make_masks(*arguments, tmp_path / "here", **options)
    make_masks(*arguments, tmp_path / "there", shard=Shard(0, 3), **options)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as running:
        summary = make_masks(*arguments, tmp_path / "there", scheduler=running.scheduler_address, **options)
    assert (summary.written, summary.present) == (COUNT - 10, 10 - 1)
    assert [failure.name for failure in summary.failed] == ["03.jpg"]
    assert len(_files(tmp_path / "here")) == COUNT - 1
    assert _files(tmp_path / "here") == _files(tmp_path / "there")
