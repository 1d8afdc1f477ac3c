"""Executes the suite as `make reproduce PROFILE=smoke` does."""

import json
from pathlib import Path

import nbformat
import pytest

from deepmac.suite.rows import RowStore
from deepmac.suite.run import reproduce, rows_to_train
from deepmac.suite.suite import Suite

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.nightly  # continuous integration runs `make reproduce PROFILE=smoke` beside the tests
def test_smoke_profile_executes_notebooks_and_trains_their_rows(tmp_path):
    runs = reproduce("smoke", (), ROOT, work_dir=tmp_path / "runs", output_dir=tmp_path / "out")

    assert [run.error for run in runs] == [""] * len(runs)
    suite = Suite.load("smoke", ROOT)
    assert [run.notebook for run in runs] == list(suite.notebooks)
    for run in runs:
        results = json.loads(run.output.with_suffix(".json").read_text())
        measured = {row["name"] for row in results["rows"] if row["measured"] is not None}
        assert {line.name for line in suite.table_rows(run.notebook)} <= measured
        left_out = {row["name"] for row in results["rows"]} - measured
        not_run = tuple(line.name for line in suite.not_run(run.notebook))
        assert all(name.startswith(not_run) for name in left_out), "published, but not run"
        assert all((row["published"] is None) == (row["source"] is None) for row in results["rows"])
        assert results["claims"]
        pictures = [
            output
            for cell in nbformat.read(run.output, as_version=4).cells
            for output in cell.get("outputs", [])
            if "image/png" in output.get("data", {})
        ]
        if suite.table_rows(run.notebook):  # others train nothing
            expected = 2 if run.notebook == "table_partially_supervised" else 1
            assert len(pictures) >= expected, f"{run.notebook} shows {len(pictures)} figures"
    report = (tmp_path / "out" / "report.html").read_text()
    assert report.count("data:image/png;base64,") >= 2

    store = RowStore(tmp_path / "runs", tmp_path / "out" / "rows")
    trained = [row for run in runs for line in suite.table_rows(run.notebook) for row in line.runs]
    assert trained
    assert rows_to_train(trained, store) == [], "nothing is trained again"
