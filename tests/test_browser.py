"""The browser that other tests use: what it runs, and that it notices errors."""

from pathlib import Path

import nbformat
import pytest


def _notebook(path, *sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata.tags = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


@pytest.mark.browser
def test_notebooks_run_with_this_checkout_and_their_parameters(notebook_page, tmp_path):
    import_it = "import deepmac, sys; print('warning', file=sys.stderr)"
    source = _notebook(tmp_path / "works.ipynb", "word = 'one'", import_it, "print(word, deepmac.__file__)")
    page = notebook_page(source, word="two")
    page.run_all()
    root = Path(__file__).resolve().parents[1]
    page.locator(".jp-OutputArea-output", has_text=f"two {root / 'deepmac'}").wait_for()

    source = _notebook(tmp_path / "fails.ipynb", "numerator = 1", "numerator / 0")
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        notebook_page(source, numerator=2).run_all()
