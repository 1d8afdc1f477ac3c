import contextlib
import json
import os
import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import command_line
import nbformat
import notebook_cells
import papermill
import psutil
import pytest
import synthetic
from jupyter_client.kernelspec import KernelSpecManager
from tiny_training import TINY

from deepmac.core.errors import InputError
from deepmac.core.executors import open_cluster
from deepmac.suite import run
from deepmac.suite.report import write_report
from deepmac.suite.rows import RowStore
from deepmac.suite.run import rows_to_train, train_rows
from deepmac.suite.suite import Dataset, Row, Suite

GOOD = """
import json, pathlib
row = {"name": "a row", "metric": "m", "published": 35.5, "measured": 31.2, "ci95": [30.0, 32.0],
       "seeds": 1, "source": "a page"}
others = [{**row, "name": f"{value}", "measured": value, "ci95": None} for value in (1.2e-6, 0.184, 34001, 0)]
pathlib.Path(results_path).write_text(json.dumps({
    "notebook": "good", "parameters": {"profile": profile}, "config_sha256": "0" * 64,
    "code_version": "1", "seconds": 90, "hardware": "a machine", "rows": [row, *others],
    "pictures": "drawings", "not_run": [], "claims": [{"text": "a claim", "kind": "paper",
    "verdict": "undecided", "evidence": "too few", "difference": 1.5, "ci95": [-1, 4], "seeds": 1}]}))
"""
FIGURE = """
from IPython.display import Image, display
from PIL import Image as Pictures
Pictures.new("RGB", (3, 2)).save("dot.png")
display(Image("dot.png"))
"""
BAD = "print('before'); raise RuntimeError('the data has gone')"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    notebook_cells.write_checkout(tmp_path, "smoke", bad=[BAD], good=[GOOD, FIGURE])
    monkeypatch.chdir(tmp_path)
    # Papermill's threads can leave behind the folder of an earlier test, to which it changes when it writes.
    papermill.iorw.papermill_io.get_handler("local").cwd(None)
    return tmp_path


def test_a_failing_notebook_is_reported_and_does_not_stop_the_others(checkout):
    result = command_line.run("reproduce", "--profile", "smoke", status=1)
    assert "bad: cell 2: RuntimeError: the data has gone" in result.output
    assert "good: done" in result.output
    folder = checkout / "papermill_runs" / "smoke"
    outputs = [cell.get("outputs", []) for cell in nbformat.read(folder / "bad.ipynb", 4).cells]
    assert any("before" in output.get("text", "") for cell in outputs for output in cell)
    assert json.loads((folder / "good.json").read_text())["parameters"] == {"profile": "smoke"}
    for report in ("report.md", "report.html"):
        text = (folder / report).read_text()
        for number in ("35.5", "31.2", "30.0 to 32.0", "1.2e-06", "0.18", "34,001"):
            assert number in text, (report, number)
        for words in ("the data has gone", "a row", "a page", "a claim"):
            assert words in text, (report, words)
        assert "Claims of the paper (1): 1 undecided." in text
        assert "a claim (+1.5 [-1.0, +4.0], but one seed only)" in text
        assert "drawings" in text
        assert str(checkout) not in text, "no path of this machine is published"
    assert str(checkout) not in (folder / "good.ipynb").read_text().replace("dot.png", "")
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    linked = re.findall('href="#([^"]+)"', page)
    assert set(linked) <= set(re.findall('id="([^"]+)"', page)), "every link leads somewhere"
    assert {path.name for path in (folder / "figures").iterdir()} == {"headline.png", "good-1.png"}


def test_only_what_is_asked_for_runs_and_figures_of_cells_tagged_details_are_folded(checkout, capfd):
    folder = checkout / "out"
    (done,) = run.reproduce("smoke", ["good"], checkout, output_dir=folder)
    assert (done.notebook, done.error) == ("good", "")
    assert not (folder / "bad.ipynb").exists()
    assert "bad failed" not in (folder / "report.md").read_text()
    assert "IPKernelApp" not in capfd.readouterr().err, "kernels write nothing into the terminal"
    executed = nbformat.read(done.output, 4)
    (cell,) = (cell for cell in executed.cells if "image/png" in str(cell.get("outputs")))
    for tags, is_folded in (([], False), (["details"], True)):
        cell.metadata["tags"] = tags
        nbformat.write(executed, done.output)
        write_report(folder, Suite.load("smoke", checkout), {})
        text = (folder / "report.md").read_text()
        section = text[text.index('<a id="good">') :]
        assert (section.index("<details>") < section.index("good-1.png")) == is_folded


def test_a_dead_kernel_is_reported_and_does_not_stop_the_others(checkout):
    notebook = nbformat.read(checkout / "notebooks" / "bad.ipynb", 4)
    notebook.cells[-1].source = "import os; os._exit(9)"
    nbformat.write(notebook, checkout / "notebooks" / "bad.ipynb")
    bad, good = run.reproduce("smoke", root=checkout, output_dir=checkout / "out")
    assert (bad.error, good.error) == ("Kernel died", "")
    assert nbformat.read(bad.output, 4).cells[1].source.startswith("# Parameters")


@pytest.mark.parametrize(
    ("deaths", "error"), [(1, ""), (3, "Kernel died before replying to kernel_info")], ids=["once", "always"]
)
def test_a_kernel_that_dies_at_its_start_is_started_again(checkout, monkeypatch, deaths, error):
    """As one does whose port another process took between Jupyter's choice and the kernel's start."""
    starts = checkout / "starts"
    kernel = checkout / "kernel.py"
    kernel.write_text(
        f"import pathlib, runpy\nwith pathlib.Path({str(starts)!r}).open('a') as file: file.write('.')\n"
        f"if pathlib.Path({str(starts)!r}).stat().st_size <= {deaths}: raise SystemExit(1)\n"
        "runpy.run_module('ipykernel_launcher', run_name='__main__')\n"
    )
    spec = checkout / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    arguments = [sys.executable, str(kernel), "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": arguments, "display_name": "Python 3", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(checkout / "jupyter"))
    monkeypatch.setattr(run, "prefer_own_kernel", lambda: None)

    (done,) = run.reproduce("smoke", ["good"], checkout, output_dir=checkout / "out")

    assert done.error == error
    assert starts.read_text() == "." * min(deaths + 1, 3)
    assert (checkout / "out" / "good.json").exists() == (not error)
    assert ("**good failed**: Kernel died" in (checkout / "out" / "report.md").read_text()) == bool(error)


def test_a_report_written_meanwhile_finds_whole_notebooks(checkout, monkeypatch):
    folder = checkout / "out"
    (first,) = run.reproduce("smoke", ["good"], checkout, output_dir=folder)
    before = first.output.read_bytes()
    (folder / "figures" / "good-2.png").touch()  # of an earlier version of the notebook

    def execute(source, output, **_):
        output.write_text("")  # as papermill does before it writes
        assert first.output.read_bytes() == before
        write_report(folder, Suite.load("smoke", checkout), {})
        output.write_bytes(before)

    monkeypatch.setattr(run.papermill, "execute_notebook", execute)
    run.reproduce("smoke", ["good"], checkout, output_dir=folder)
    assert [path.name for path in folder.glob("*.ipynb")] == ["good.ipynb"]
    assert (folder / "report.html").read_text().count("data:image/png;base64,") == 2
    assert {path.name for path in (folder / "figures").iterdir()} == {"headline.png", "good-1.png"}


def test_kernels_run_in_the_checkout_and_this_process_stays_where_it_is(
    checkout, tmp_path_factory, monkeypatch
):
    here = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(here)
    seen = set()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run.reproduce, "smoke", root=checkout)
        while not running.done():
            seen.add(Path.cwd())
            time.sleep(0.01)
    assert (checkout / "dot.png").exists(), "a notebook's relative paths start at the checkout"
    assert seen | {Path.cwd()} == {here}


def test_a_failure_stays_in_the_report_until_the_notebook_succeeds(checkout):
    folder, path = checkout / "out", checkout / "notebooks" / "bad.ipynb"
    failing = path.read_text()
    notebook = nbformat.read(path, 4)
    notebook.cells[-1].source = GOOD.replace('"good"', '"bad"')
    succeeding = nbformat.writes(notebook)

    def report_after(name, source):
        path.write_text(source)
        run.reproduce("smoke", [name], checkout, output_dir=folder)
        return (folder / "report.md").read_text()

    assert "bad failed" not in report_after("bad", succeeding)
    report_after("bad", failing)
    assert not (folder / "bad.json").exists(), "numbers of an earlier run do not stand in"
    report = report_after("good", failing)
    assert "**bad failed**: cell 2: RuntimeError: the data has gone" in report
    assert report.count("| a row ") == 2, "in a table, and in its details"
    report = report_after("bad", succeeding)
    assert "bad failed" not in report
    assert report.count("| a row ") == 4


def test_what_breaks_outside_a_notebook_and_failed_rows_are_reported_too(checkout, monkeypatch):
    execute = run.papermill.execute_notebook

    def without_disk(source, *arguments, **options):
        if source.stem == "bad":
            raise OSError("no space left")
        return execute(source, *arguments, **options)

    monkeypatch.setattr(run.papermill, "execute_notebook", without_disk)
    monkeypatch.setattr(run, "train_rows", lambda *_: {"some_row-seed0": "no memory"})
    bad, good = run.reproduce("smoke", root=checkout, output_dir=checkout / "out")
    assert (bad.error, good.error) == ("OSError: no space left", "")
    report = (checkout / "out" / "report.md").read_text()
    assert "**bad failed**: OSError: no space left" in report
    assert "**some_row-seed0 failed**: no memory" in report


def test_unknown_notebooks_profiles_and_buckets_are_input_errors(checkout):
    with pytest.raises(InputError, match="unknown notebook worse: choose from bad, good"):
        run.reproduce("smoke", only=["worse"], root=checkout)
    with pytest.raises(InputError, match="unknown profile 'slow'"):
        run.reproduce("slow", root=checkout)
    for folder in ("work_dir", "output_dir"):
        with pytest.raises(InputError, match="gs://bucket/out is no folder: mount the bucket"):
            run.reproduce("smoke", root=checkout, **{folder: "gs://bucket/out"})
    assert not (checkout / "papermill_runs").exists()


def test_workers_of_a_scheduler_choose_their_threads(checkout, monkeypatch):
    threads = []
    monkeypatch.setattr(run, "open_cluster", lambda _: contextlib.nullcontext(ThreadPoolExecutor(1)))
    monkeypatch.setattr(run, "RowStore", lambda work_dir, results_dir, count: threads.append(count))
    monkeypatch.setattr(run, "train_rows", lambda *_: {})
    for scheduler in ("tcp://elsewhere:8786", None):
        run.reproduce("smoke", ["good"], checkout, checkout / "runs", jobs=1, scheduler=scheduler)
    assert threads == [None, os.cpu_count()]


@pytest.mark.slow
def test_a_notebook_whose_worker_is_killed_is_executed_by_another(checkout):
    distributed = pytest.importorskip("dask.distributed")
    starts = {name: checkout / f"{name}.starts" for name in ("bad", "good")}
    for name, waits in (("bad", True), ("good", False)):
        path = checkout / "notebooks" / f"{name}.ipynb"
        notebook = nbformat.read(path, 4)
        note = (
            f"import os, time\nstarts = {str(starts[name])!r}\n"
            "with open(starts, 'a') as file: file.write(f'{os.getppid()} ')\n"
        )
        wait = "while len(open(starts).read().split()) == 1: time.sleep(0.1)\n"
        notebook.cells[1].source = note + wait * waits + GOOD.replace('"good"', f'"{name}"')
        nbformat.write(notebook, path)

    def kill_the_worker_of_the_waiting_notebook():
        while not starts["bad"].exists() or not starts["bad"].read_text().endswith(" "):
            time.sleep(0.1)
        os.kill(int(starts["bad"].read_text()), signal.SIGKILL)

    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        ThreadPoolExecutor(1) as killer,
    ):
        killing = killer.submit(kill_the_worker_of_the_waiting_notebook)
        runs = run.reproduce(
            "smoke", root=checkout, output_dir=checkout / "out", scheduler=cluster.scheduler_address
        )
        killing.result()

    assert [(done.notebook, done.error) for done in runs] == [("bad", ""), ("good", "")]
    assert len(starts["bad"].read_text().split()) == 2
    assert len(starts["good"].read_text().split()) == 1, "what was done is not done again"
    assert all((checkout / "out" / f"{name}.json").is_file() for name in starts)


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


@pytest.fixture
def make_row(tmp_path):
    config_file = tmp_path / "config.yaml"

    def make(key, init=None):
        return Row(key, config_file, {}, "deepmac_mini", {}, Dataset("coco", {}), 0, init)

    return make


def test_rows_wait_for_the_row_they_start_from_and_run_side_by_side(make_row):
    detector = make_row("detector")
    rows = [detector, make_row("a", detector), make_row("b", detector), make_row("other")]
    store, done = Store(), []
    with ThreadPoolExecutor(4) as executor:
        assert train_rows(rows, store, executor, lambda: done.append(len(store.events))) == {}
    order = store.events
    assert order.index(("end", "detector")) < min(order.index(("start", key)) for key in "ab")
    assert order.index(("start", "b")) < order.index(("end", "a"))
    assert order.index(("start", "other")) < order.index(("end", "detector"))
    assert sorted(key for what, key in order if what == "start") == ["a", "b", "detector", "other"]
    assert len(done) == 4
    assert done[-1] == len(order)


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


@pytest.mark.slow
def test_a_training_outlives_its_killed_worker_and_whoever_takes_over_waits_for_it(tmp_path):
    distributed = pytest.importorskip("dask.distributed")
    synthetic.write_splits(tmp_path / "coco", (64, 64), num_images=4)
    dataset = Dataset("coco", {"coco_dir": str(tmp_path / "coco")})
    row = Row("detector", tmp_path / "config.yaml", TINY, "deepmac_mini", {}, dataset, 0)
    store = RowStore(tmp_path / "runs", tmp_path / "results", threads=1)
    folder = store.model_folder(row)

    def kill_the_worker():
        while True:
            for process in psutil.process_iter(["cmdline"]):
                if f"--model_dir={folder}" in (process.info["cmdline"] or ()):
                    psutil.Process(process.ppid()).kill()
                    return process.pid
            time.sleep(0.1)

    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        open_cluster(cluster.scheduler_address) as executor,
        ThreadPoolExecutor(1) as killer,
    ):
        killing = killer.submit(kill_the_worker)
        assert train_rows([row], store, executor) == {}
        killing.result()

    assert json.loads((folder / "evaluation.json").read_text())["metrics"]
    assert store.result(row).seconds > 0
    assert len(re.findall(r"\bstep 2/4", (folder / "train.log").read_text())) == 1, "trained once"


def test_a_kernel_of_another_environment_is_not_taken(tmp_path, monkeypatch):
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    spec = {"argv": ["/usr/bin/other", "-m", "ipykernel_launcher"], "display_name": "x", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    assert KernelSpecManager().get_kernel_spec("python3").argv[0] == "/usr/bin/other"
    run.prefer_own_kernel()
    assert KernelSpecManager().get_kernel_spec("python3").argv[0] != "/usr/bin/other"
