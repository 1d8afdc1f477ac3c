"""The notebooks' sources; `test_reproduction.py` executes them."""

import subprocess
import sys
import tomllib
import types
from pathlib import Path

import nbformat
import pytest
import yaml
from IPython.core.interactiveshell import InteractiveShell

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RESULTS = [path for path in NOTEBOOKS if path.stem.startswith(("table_", "figure_"))]
RESULTS += sorted((ROOT / "papermill_runs").glob("*/[tf][ai][bg]*.ipynb"))
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
IN_COLAB = f"{REPOSITORY.replace('github.com', 'colab.research.google.com/github')}/blob/main/notebooks"
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
LIBRARY = sorted((ROOT / "notebooks" / "lib").rglob("*.py"))


def _code(path: Path) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_source_is_an_article_without_outputs_whose_first_cells_are_the_same_in_all(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    title, opening = notebook.cells[0].source.split("\n\n", maxsplit=1)
    assert title.startswith("# ")
    assert opening.startswith(f"[![Open in Colab]({BADGE})]({IN_COLAB}/{path.name})\n\n")
    parameters, preamble, *code = _code(path)
    assert "parameters" in parameters.metadata.tags
    assert f'\nrepository = "{REPOSITORY}"' in parameters.source
    assert preamble.source == _code(NOTEBOOKS[0])[1].source
    assert not any(cell.outputs or cell.execution_count for cell in (parameters, preamble, *code))
    assert max(len(cell.source.splitlines()) for cell in code) <= 30, "long code belongs in notebooks/lib"


def test_the_suite_has_its_notebooks_and_their_code_is_short():
    suite = yaml.safe_load((ROOT / "configs" / "reproduction.yaml").read_text())
    assert set(suite["notebooks"]) <= {path.stem for path in NOTEBOOKS}
    lengths = [len(path.read_text(encoding="utf-8").splitlines()) for path in LIBRARY]
    assert sum(lengths) <= 1_100


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_of_results_one_sees_title_paragraph_and_figure_before_the_how(path):
    title, *cells = nbformat.read(path, as_version=4).cells
    assert len(title.source.split("\n\n")) == 3, "title, badge, one paragraph"
    tags = [set(cell.metadata.get("tags", [])) for cell in cells]
    figure = tags.index({"hide-input"})
    assert all(of_cell & {"parameters", "remove-cell", "hide-cell"} for of_cell in tags[:figure])
    assert tags[figure + 1] == {"caption"}
    hidden = [cell.metadata.get("jupyter", {}).get("source_hidden") for cell in cells[: figure + 1]]
    if path.parent.name == "notebooks":  # where one sets parameters
        assert hidden.pop(0) is None
    else:
        assert not any(cell.outputs for cell in cells[:figure])
        assert ["image/png" in output.data for output in cells[figure].outputs] == [True]
    assert all(hidden)


@pytest.mark.parametrize("folder", [".", "notebooks"])
def test_code_of_a_notebook_is_found_from_the_checkout_and_from_its_own_folder(folder):
    preamble = _code(NOTEBOOKS[0])[1].source.removeprefix("%matplotlib inline\n")  # needs a notebook
    program = f"""
from IPython.core.interactiveshell import InteractiveShell
InteractiveShell.instance().run_cell({preamble!r})
import lib, pathlib
print(lib.__file__, pathlib.Path.cwd(), sep="\\n")
"""
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=ROOT / folder, capture_output=True, text=True, check=True)
    found, cwd = result.stdout.splitlines()[-2:]
    assert (Path(cwd, found).resolve(), Path(cwd)) == (ROOT / "notebooks/lib/__init__.py", ROOT)


def test_colab_gets_the_checkout_once(monkeypatch, capsys, tmp_path):
    calls = []
    output = types.SimpleNamespace(enable_custom_widget_manager=lambda: calls.append("widgets"))
    monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(output=output))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    shell = InteractiveShell.instance()
    monkeypatch.setattr(shell, "run_line_magic", lambda *arguments, **_: calls.append(arguments))
    monkeypatch.setattr(shell, "system", lambda line: calls.append(shell.var_expand(line)))
    parameters, preamble, *_ = _code(NOTEBOOKS[0])
    shell.run_cell(parameters.source)
    shell.run_cell(preamble.source)
    _, clone, folder, install, widgets = calls
    assert f"of {REPOSITORY}; if Colab asks for a restart" in capsys.readouterr().out
    assert clone == f"git clone --quiet --depth 1 {REPOSITORY} deepmac-checkout"
    assert folder == ("cd", "-q deepmac-checkout")
    assert install == ("pip", 'install --quiet ".[{extras}]"')
    assert widgets == "widgets"

    calls.clear()
    (tmp_path / "notebooks").mkdir()  # run again
    shell.run_cell(preamble.source)
    assert calls == [("matplotlib", "inline"), "widgets"]
