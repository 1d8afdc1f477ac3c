"""Runs code of notebooks that is worth a test of its own."""

from pathlib import Path

import nbformat

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
