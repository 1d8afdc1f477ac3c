"""Executes the suite as `make reproduce PROFILE=smoke` does."""

import json
from pathlib import Path

import nbformat
import pytest

from deepmac.reproduction import driver
from deepmac.reproduction.rows import RowStore
from deepmac.reproduction.scheduling import rows_to_train
from deepmac.reproduction.suite import Suite

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_smoke_profile_runs_every_notebook_and_row(tmp_path):
    runs = driver.reproduce("smoke", root=ROOT, work_dir=tmp_path / "runs", output_dir=tmp_path / "out")

    assert [run.error for run in runs] == [""] * len(runs)
    suite = Suite.load("smoke", ROOT)
    assert [run.notebook for run in runs] == list(suite.notebooks)
    for run in runs:
        results = json.loads(run.output.with_suffix(".json").read_text())
        names = {row["name"] for row in results["rows"]}
        assert {line.name for line in suite.table_rows(run.notebook)} <= names
        assert all(row["measured"] is not None for row in results["rows"])
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
    trained = [run for name in suite.notebooks for line in suite.table_rows(name) for run in line.runs]
    assert trained
    assert rows_to_train(trained, store) == [], "nothing is trained again"
