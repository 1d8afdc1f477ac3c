import json
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import synthetic
import yaml
from tiny_training import TINY

from deepmac.errors import InputError
from deepmac.reproduction import scheduling
from deepmac.reproduction.rows import RowStore
from deepmac.reproduction.scheduling import open_executor, rows_to_train, train_rows
from deepmac.reproduction.suite import Dataset, Row


class Store:
    """Stands in for a `RowStore`: notes when rows are trained."""

    def __init__(self, failing=()):
        self.failing = failing
        self.events = []

    def train(self, row):
        self.events.append(("start", row.key))
        time.sleep(0.02)
        self.events.append(("end", row.key))
        if row.key in self.failing:
            raise RuntimeError(f"{row.key} has no data")

    def progress(self, row):
        return 1


@pytest.fixture
def make_row(tmp_path):
    config_file = tmp_path / "config.yaml"
    config_file.write_text("task: {}\n")

    def make(key, init=None):
        schedule = {"trainer": {"train_steps": 10}}
        return Row(key, config_file, "deepmac_mini", schedule, Dataset("coco", {}), 0, init)

    return make


def test_rows_wait_for_the_row_they_start_from_and_run_side_by_side(make_row):
    detector = make_row("detector")
    rows = [detector, make_row("a", detector), make_row("b", detector), make_row("other")]
    store, steps = Store(), []
    with ThreadPoolExecutor(4) as executor:
        assert train_rows(rows, store, executor, steps.append) == {}
    order = store.events
    assert order.index(("end", "detector")) < min(order.index(("start", key)) for key in "ab")
    assert order.index(("start", "b")) < order.index(("end", "a"))
    assert order.index(("start", "other")) < order.index(("end", "detector"))
    assert sorted(key for what, key in order if what == "start") == ["a", "b", "detector", "other"]
    assert steps[-1] == 40
    assert steps == sorted(steps)


def test_a_failed_row_stops_only_those_that_start_from_it(make_row):
    detector, other = make_row("detector"), make_row("other")
    rows = [detector, make_row("a", detector), other, make_row("b", other)]
    store = Store(failing=["detector"])
    with ThreadPoolExecutor(2) as executor:
        errors = train_rows(rows, store, executor)
    assert errors == {
        rows[0].folder_name: "detector has no data",
        rows[1].folder_name: f"starts from {rows[0].folder_name}, which failed",
    }
    assert ("end", "b") in store.events


def test_missing_rows_are_listed_once(make_row, tmp_path):
    store = RowStore(tmp_path / "runs", tmp_path / "results")
    detector = make_row("detector")
    first, second = make_row("a", detector), make_row("b", make_row("detector"))
    names = [row.key for row in rows_to_train([first, second, first], store)]
    assert names == ["detector", "a", "b"]


def test_no_scheduler_is_an_input_error(monkeypatch):
    pytest.importorskip("dask.distributed")
    monkeypatch.setattr(scheduling, "_CONNECT_SECONDS", 0.5)
    with (
        pytest.raises(InputError, match="no Dask scheduler at tcp"),
        open_executor(1, "tcp://127.0.0.1:9"),
    ):
        pass


@pytest.mark.slow
def test_a_killed_worker_loses_nothing_and_nothing_is_done_twice(tmp_path):
    distributed = pytest.importorskip("dask.distributed")
    synthetic.write_splits(tmp_path / "coco", (64, 64), num_images=4)
    dataset = Dataset("coco", {"coco_dir": str(tmp_path / "coco")})
    config_file = tmp_path / "config.yaml"
    config_file.write_text(yaml.safe_dump(TINY))
    detector = Row("detector", config_file, "deepmac_mini", {}, dataset, 0)
    rows = [detector, *(Row(key, config_file, "deepmac_mini", {}, dataset, 1, detector) for key in "ab")]
    store = RowStore(tmp_path / "runs", tmp_path / "results", threads=1)
    killed = []

    def kill_the_worker_of_row_a(steps):
        for process in psutil.process_iter(["cmdline"]):
            folder = f"--model_dir={store.model_folder(rows[1])}"
            if not killed and folder in (process.info["cmdline"] or ()):
                killed.append(process.ppid())
                psutil.Process(killed[0]).kill()

    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        open_executor(1, cluster.scheduler_address) as executor,
    ):
        assert train_rows(rows, store, executor, kill_the_worker_of_row_a) == {}

    assert killed
    for row in rows:
        folder = store.model_folder(row)
        assert json.loads((folder / "evaluation.json").read_text())["metrics"]
        assert store.result(row).seconds > 0
        starts = (folder / "attempts.txt").read_text().split("\n")[1:]
        assert len(starts) == 1, "the training outlives its worker, and whoever takes over waits for it"
