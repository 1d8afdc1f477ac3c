"""Runs code of notebooks that is worth a test of its own, and writes notebooks to be run."""

from pathlib import Path

import nbformat
import yaml

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def run_cell(notebook: str, containing: str, **names) -> dict:
    """Executes the one code cell of a notebook that contains a text.

    Args:
        notebook: its name, without suffix.
        containing: the text.
        names: what earlier cells imported or computed.

    Returns:
        The names after it.
    """
    cells = nbformat.read(NOTEBOOKS / f"{notebook}.ipynb", as_version=4).cells
    [source] = [cell.source for cell in cells if cell.cell_type == "code" and containing in cell.source]
    exec(source, names)
    return names


def write_checkout(folder: Path, profile: str, **notebooks: list[str]) -> None:
    """Writes a checkout with one profile and notebooks, given by the sources of their cells, without rows."""
    settings = {"experiment": "deepmac_mini", "configs": ".", "dataset": {}, "seeds": [0], "rows": []}
    names = {name: {"rows": []} for name in notebooks}
    suite = {"profiles": {profile: settings}, "recipes": {}, "notebooks": names}
    (folder / "configs").mkdir()
    (folder / "configs" / "reproduction.yaml").write_text(yaml.safe_dump(suite))
    (folder / "notebooks").mkdir()
    for name, sources in notebooks.items():
        parameters = nbformat.v4.new_code_cell("profile = work_dir = results_path = None")
        parameters.metadata["tags"] = ["parameters"]
        cells = [parameters, *map(nbformat.v4.new_code_cell, sources)]
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
        nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")
