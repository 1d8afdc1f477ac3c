import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import synthetic
from tiny_training import TINY

from deepmac.core.executors import open_executor
from deepmac.suite.bucket import Bucket
from deepmac.suite.folders import Timing
from deepmac.suite.rows import RowStore
from deepmac.suite.scheduling import rows_to_train, train_rows
from deepmac.suite.suite import Dataset, Row


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

    def make(key, init=None):
        schedule = {"trainer": {"train_steps": 10}}
        return Row(key, config_file, {}, "deepmac_mini", schedule, Dataset("coco", {}), 0, init)

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


@pytest.fixture
def tiny_rows(tmp_path):
    """Makes rows on the same few pictures: a detector, and `a` and `b`, which start from it."""
    synthetic.write_splits(tmp_path / "coco", (64, 64), num_images=4)
    dataset = Dataset("coco", {"coco_dir": str(tmp_path / "coco")})

    def make(steps_of_a=TINY["trainer"]["train_steps"]):
        config_file = tmp_path / "config.yaml"
        overrides = {"trainer": {"train_steps": steps_of_a, "validation_interval": steps_of_a}}
        detector = Row("detector", config_file, TINY, "deepmac_mini", {}, dataset, 0)
        a = Row("a", config_file, TINY, "deepmac_mini", overrides, dataset, 1, detector)
        return [detector, a, Row("b", config_file, TINY, "deepmac_mini", {}, dataset, 1, detector)]

    return make


@pytest.mark.slow
def test_a_killed_worker_loses_nothing_and_nothing_is_done_twice(tmp_path, tiny_rows):
    distributed = pytest.importorskip("dask.distributed")
    rows = tiny_rows()
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


@pytest.mark.slow
def test_another_machine_resumes_what_a_killed_one_pushed(tmp_path, tiny_rows, bucket_url, object_storage):
    """Two workers with a cache each, and nothing in common but a bucket."""
    distributed = pytest.importorskip("dask.distributed")
    rows = tiny_rows(steps_of_a=40)
    timing = Timing(beat=0.5, expiry=5, push=0.5, poll=0.5)
    store = RowStore(Bucket(f"{bucket_url}/runs", timing), Bucket(f"{bucket_url}/results", timing), threads=1)
    work = Bucket(f"{bucket_url}/runs")
    killed, resumed_from = [], 0

    def kill_the_machine_of_row_a(steps):
        nonlocal resumed_from
        state = work.read(f"rows/{rows[1].folder_name}/checkpoint")
        if state and not killed:
            [machine] = [name for name in workers if trainings(rows[1], tmp_path / name)]
            workers[machine].kill()
            workers[machine].wait()
            psutil.wait_procs(trainings(rows[1], tmp_path / machine), timeout=10)
            assert not trainings(rows[1], tmp_path / machine), "a training ends with its worker"
            killed.append(machine)
            state = work.read(f"rows/{rows[1].folder_name}/checkpoint")
            resumed_from = int(re.search(rb'model_checkpoint_path: "ckpt-(\d+)"', state)[1])

    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=None) as cluster,
        open_executor(1, cluster.scheduler_address) as executor,
    ):
        workers = {name: start_worker(cluster.scheduler_address, tmp_path / name) for name in ("one", "two")}
        try:
            cluster.wait_for_workers(2)
            assert train_rows(rows, store, executor, kill_the_machine_of_row_a) == {}
        finally:
            for worker in workers.values():
                worker.kill()
                worker.wait()

    assert killed
    assert 0 < resumed_from < 40
    for row in rows:
        assert store.result(row).seconds > 0
        log = work.read(f"rows/{row.folder_name}/train.log")
        starts = [int(step) for step in re.findall(rb"train \| step: +(\d+) \| training until", log)]
        assert starts == ([0, resumed_from] if row is rows[1] else [0])
        time.sleep(timing.poll)
        assert store.progress(row) == row.steps
        assert store.missing(row) == []
    assert list(store.result(rows[1]).curve("total_loss").index) == list(range(2, 41, 2))
    assert not any(name.endswith(".lease") for name in object_storage.names(bucket_url))


def trainings(row, cache):
    """The processes that train a row on the machine with this cache."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        arguments = process.info["cmdline"] or ()
        here = any(a.startswith(f"--model_dir={cache}/") and a.endswith(row.folder_name) for a in arguments)
        if here and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def start_worker(scheduler, cache):
    """A worker of one thread that nobody starts again when it is killed."""
    command = [
        *(sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--no-nanny", "--no-dashboard"),
        *("--nthreads", "1", "--local-directory", str(cache / "dask")),
    ]
    return subprocess.Popen(command, env={**os.environ, "DEEPMAC_CACHE": str(cache)})
