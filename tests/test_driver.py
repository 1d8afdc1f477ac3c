import contextlib
import json
import os
import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import papermill
import pytest
import synthetic
import yaml
from click.testing import CliRunner
from tiny_training import TINY

from deepmac import cli
from deepmac.core.errors import InputError
from deepmac.suite import driver
from deepmac.suite.folders import Folder
from deepmac.suite.suite import Suite

GOOD = """
import json, pathlib
row = {"name": "a row", "metric": "m", "published": 35.5, "measured": 31.2, "ci95": [30.0, 32.0],
       "seeds": 1, "source": "a page"}
others = [{**row, "measured": value, "ci95": None} for value in (1.2e-6, 0.184, 34001, 0)]
pathlib.Path(results_path).write_text(json.dumps({
    "notebook": "good", "parameters": {"profile": profile}, "config_sha256": "0" * 64,
    "code_version": "1", "seconds": 90, "hardware": "a machine", "rows": [row, *others],
    "claims": [{"text": "a claim", "holds": None, "evidence": "too few"}]}))
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
    (tmp_path / "configs").mkdir()
    suite = {
        "profiles": {"smoke": {"rows": []}},
        "recipes": {},
        "notebooks": {"bad": {"rows": []}, "good": {"rows": []}},
    }
    (tmp_path / "configs" / "reproduction.yaml").write_text(yaml.safe_dump(suite))
    (tmp_path / "notebooks").mkdir()
    for name, sources in (("bad", [BAD]), ("good", [GOOD, FIGURE])):
        parameters = nbformat.v4.new_code_cell("profile = work_dir = results_path = None")
        parameters.metadata["tags"] = ["parameters"]
        cells = [parameters, *map(nbformat.v4.new_code_cell, sources)]
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
        nbformat.write(notebook, tmp_path / "notebooks" / f"{name}.ipynb")
    monkeypatch.chdir(tmp_path)
    # Papermill's threads can leave behind the folder of an earlier test, to which it changes when it writes.
    papermill.iorw.papermill_io.get_handler("local").cwd(None)
    return tmp_path


def test_a_failing_notebook_is_reported_and_does_not_stop_the_others(checkout):
    result = CliRunner().invoke(cli.main, ["reproduce", "--profile", "smoke"])

    assert result.exit_code == 1
    assert "bad: cell 2: RuntimeError: the data has gone" in result.output
    assert "good: done" in result.output
    folder = checkout / "papermill_runs" / "smoke"
    outputs = [cell.get("outputs", []) for cell in nbformat.read(folder / "bad.ipynb", 4).cells]
    assert any("before" in output.get("text", "") for cell in outputs for output in cell)
    assert json.loads((folder / "good.json").read_text())["parameters"] == {"profile": "smoke"}
    for report in ("report.md", "report.html"):
        text = (folder / report).read_text()
        for expected in (
            "the data has gone",
            "a row",
            "35.5",
            "31.2",
            "30.0 to 32.0",
            "a page",
            "1.2e-06",
            "0.18",
            "34,001",
            "a claim",
        ):
            assert expected in text, (report, expected)
        assert "1 claims; holds: 0, does not hold: 0, not enough evidence: 1." in text
        assert "another data set" in text
        assert str(checkout) not in text, "no path of this machine is published"
    assert str(checkout) not in (folder / "good.ipynb").read_text().replace("dot.png", "")
    assert "data:image/png;base64," in (folder / "report.html").read_text()


def test_kernels_write_nothing_into_the_terminal(checkout, capfd):
    driver.reproduce("smoke", ["good"], checkout)
    assert "IPKernelApp" not in capfd.readouterr().err


def test_a_dead_kernel_is_reported_and_does_not_stop_the_others(checkout):
    notebook = nbformat.read(checkout / "notebooks" / "bad.ipynb", 4)
    notebook.cells[-1].source = "import os; os._exit(9)"
    nbformat.write(notebook, checkout / "notebooks" / "bad.ipynb")
    bad, good = driver.reproduce("smoke", root=checkout, output_dir=checkout / "out")
    assert (bad.error, good.error) == ("cell 2: Kernel died", "")
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

    (run,) = driver.reproduce("smoke", ["good"], checkout, output_dir=checkout / "out")

    assert run.error == error
    assert starts.read_text() == "." * min(deaths + 1, 3)
    assert (checkout / "out" / "good.json").exists() == (not error)
    assert ("**good failed**: Kernel died" in (checkout / "out" / "report.md").read_text()) == bool(error)


def test_a_report_written_meanwhile_finds_whole_notebooks(checkout, monkeypatch):
    folder = checkout / "out"
    (first,) = driver.reproduce("smoke", ["good"], checkout, output_dir=folder)
    before = first.output.read_bytes()

    def execute(source, output, **_):
        output.write_text("")  # as papermill does before it writes
        assert first.output.read_bytes() == before
        driver.report.write_report(folder, Suite.load("smoke", checkout), {})
        output.write_bytes(before)

    monkeypatch.setattr(driver.papermill, "execute_notebook", execute)
    driver._execute("good", "smoke", checkout, Folder(checkout / "runs"), Folder(folder))
    assert [path.name for path in folder.glob("*.ipynb")] == ["good.ipynb"]
    assert "data:image/png;base64," in (folder / "report.html").read_text()


def test_kernels_run_in_the_checkout_and_this_process_stays_where_it_is(
    checkout, tmp_path_factory, monkeypatch
):
    here = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(here)
    seen = set()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(driver.reproduce, "smoke", root=checkout)
        while not running.done():
            seen.add(Path.cwd())
            time.sleep(0.01)
    assert (checkout / "dot.png").exists(), "a notebook's relative paths start at the checkout"
    assert seen | {Path.cwd()} == {here}


def test_only_runs_what_is_asked_for(checkout):
    runs = driver.reproduce("smoke", only=["good"], root=checkout, output_dir=checkout / "out")
    assert [(run.notebook, run.error) for run in runs] == [("good", "")]
    assert not (checkout / "out" / "bad.ipynb").exists()
    assert "bad failed" not in (checkout / "out" / "report.md").read_text()


def test_a_failure_stays_in_the_report_until_the_notebook_succeeds(checkout):
    folder, path = checkout / "out", checkout / "notebooks" / "bad.ipynb"
    failing = path.read_text()
    notebook = nbformat.read(path, 4)
    notebook.cells[-1].source = GOOD.replace('"good"', '"bad"')
    for source, failed in (
        (nbformat.writes(notebook), False),
        (failing, True),
        (nbformat.writes(notebook), False),
    ):
        path.write_text(source)
        driver.reproduce("smoke", ["bad"], checkout, output_dir=folder)
        driver.reproduce("smoke", ["good"], checkout, output_dir=folder)
        report = (folder / "report.md").read_text()
        assert ("**bad failed**: cell 2: RuntimeError: the data has gone" in report) == failed
        assert (folder / "bad.json").exists() != failed, "numbers of an earlier run do not stand in"
        assert report.count("| a row |") == (5 if failed else 10)


def test_what_breaks_outside_a_notebook_is_reported_too(checkout, monkeypatch):
    execute = driver.papermill.execute_notebook

    def without_disk(source, *arguments, **options):
        if source.stem == "bad":
            raise OSError("no space left")
        return execute(source, *arguments, **options)

    monkeypatch.setattr(driver.papermill, "execute_notebook", without_disk)
    bad, good = driver.reproduce("smoke", root=checkout, output_dir=checkout / "out")
    assert (bad.error, good.error) == ("OSError: no space left", "")
    assert "**bad failed**: OSError: no space left" in (checkout / "out" / "report.md").read_text()


def test_a_failed_row_stands_in_the_report(checkout, monkeypatch):
    monkeypatch.setattr(driver, "train_rows", lambda *_: {"some_row-seed0": "no memory"})
    driver.reproduce("smoke", ["good"], checkout, output_dir=checkout / "out")
    assert "**some_row-seed0 failed**: no memory" in (checkout / "out" / "report.md").read_text()


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("s3://bucket/out", "s3://bucket/out: of object storage, only gs://bucket/folder can be used"),
        ("gs:///out", "gs:///out: of object storage, only gs://bucket/folder can be used"),
        ("gs://nowhere/out", "gs://nowhere/out: no such bucket"),
    ],
)
@pytest.mark.parametrize("folder", ["work_dir", "output_dir"])
def test_object_storage_that_cannot_be_used_is_an_input_error(checkout, bucket_url, folder, place, problem):
    with pytest.raises(InputError, match=f"^{re.escape(problem)}$"):
        driver.reproduce("smoke", root=checkout, **{folder: place})
    assert not (checkout / "papermill_runs").exists()


@pytest.mark.slow
def test_a_bucket_gets_rows_notebooks_and_report(checkout, bucket_url, object_storage):
    synthetic.write_splits(checkout / "coco", (64, 64), num_images=4)
    profile = {
        **{"experiment": "deepmac_mini", "configs": ".", "seeds": [0], "rows": ["detector"]},
        "dataset": {"coco": {"coco_dir": str(checkout / "coco")}},
    }
    suite = {
        "profiles": {"smoke": profile},
        "recipes": {"detector": {"config": "tiny.yaml"}},
        "notebooks": {
            "bad": {"rows": []},
            "good": {"rows": [{"row": "detector", "name": "a line"}]},
        },
    }
    (checkout / "configs" / "reproduction.yaml").write_text(yaml.safe_dump(suite))
    (checkout / "configs" / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    notebook = nbformat.read(checkout / "notebooks" / "good.ipynb", 4)
    notebook.cells[1].source = (
        "from deepmac.suite.study import Study\n"
        "study = Study('good', profile, work_dir, results_path)\n"
        "study.train()\n"
        "study.write({'profile': profile}, [], [])\n"
        "assert (study.model_folder('detector') / 'checkpoint').is_file()\n"
    )
    nbformat.write(notebook, checkout / "notebooks" / "good.ipynb")
    places = {"work_dir": f"{bucket_url}/runs", "output_dir": f"{bucket_url}/out/"}

    bad, good = driver.reproduce("smoke", root=checkout, **places)

    assert (bad.error, good.error) == ("cell 2: RuntimeError: the data has gone", "")
    assert good.output == f"{bucket_url}/out/good.ipynb"
    names = object_storage.names(bucket_url)
    [row] = {name.split("/")[2] for name in names if name.startswith("runs/rows/")}
    results = ["bad.ipynb", "good.ipynb", "good.json", "report.html", "report.md", f"rows/{row}.json"]
    assert [name for name in names if name.startswith("out/")] == [f"out/{name}" for name in results]
    assert {f"runs/rows/{row}/{name}" for name in ("checkpoint", "evaluation.json", "train.log")} <= {*names}
    executed = nbformat.reads(object_storage.read(good.output).decode(), 4)
    assert executed.metadata.papermill.parameters == {
        "profile": "smoke",
        "work_dir": places["work_dir"],
        "results_path": f"{bucket_url}/out/good.json",
    }
    assert executed.metadata.papermill.output_path == good.output
    report = object_storage.read(f"{bucket_url}/out/report.html").decode()
    assert "the data has gone" in report
    assert "notebook good, configuration" in report
    assert str(checkout) not in report

    del object_storage.changes[:]
    distributed = pytest.importorskip("dask.distributed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        [again] = driver.reproduce(
            "smoke", only=["good"], root=checkout, scheduler=cluster.scheduler_address, **places
        )
    assert (again.error, again.output) == ("", good.output)
    assert ("POST", "out/good.ipynb") in object_storage.changes
    assert not [name for _, name in object_storage.changes if name.startswith("runs/")], "it is all there"
    assert "the data has gone" in object_storage.read(f"{bucket_url}/out/report.md").decode()


def test_unknown_notebook_and_profile_are_input_errors(checkout):
    with pytest.raises(InputError, match="unknown notebook worse: choose from bad, good"):
        driver.reproduce("smoke", only=["worse"], root=checkout)
    with pytest.raises(InputError, match="unknown profile 'slow'"):
        driver.reproduce("slow", root=checkout)
    assert not (checkout / "papermill_runs").exists()


def test_workers_of_a_scheduler_choose_their_threads(checkout, monkeypatch):
    stores = []
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    monkeypatch.setattr(driver, "open_executor", lambda *_: contextlib.nullcontext(ThreadPoolExecutor(1)))
    monkeypatch.setattr(driver, "train_rows", lambda rows, store, *_: stores.append(store) or {})
    for scheduler in ("tcp://elsewhere:8786", None):
        driver.reproduce("smoke", ["good"], checkout, checkout / "runs", jobs=1, scheduler=scheduler)
    there, here = stores
    assert "TF_NUM_INTRAOP_THREADS" not in there._environment()
    assert here._environment()["TF_NUM_INTRAOP_THREADS"] == str(os.cpu_count())


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
        runs = driver.reproduce(
            "smoke", root=checkout, output_dir=checkout / "out", scheduler=cluster.scheduler_address
        )
        killing.result()

    assert [(run.notebook, run.error) for run in runs] == [("bad", ""), ("good", "")]
    assert len(starts["bad"].read_text().split()) == 2
    assert len(starts["good"].read_text().split()) == 1, "what was done is not done again"
    assert all((checkout / "out" / f"{name}.json").is_file() for name in starts)
