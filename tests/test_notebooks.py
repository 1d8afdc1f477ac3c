"""The notebooks' sources; `test_reproduction.py` executes them."""

from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_source_has_no_outputs_and_a_parameters_cell(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert [cell for cell in code if "parameters" in cell.metadata.get("tags", [])] == code[:1]
    assert notebook.cells[0].source.startswith("# ")
    assert sum(len(cell.source.splitlines()) for cell in code) < 150, "logic belongs in the library"


def test_every_notebook_of_the_suite_exists():
    suite = yaml.safe_load((ROOT / "configs" / "reproduction.yaml").read_text())
    assert set(suite["notebooks"]) <= {path.stem for path in NOTEBOOKS}
