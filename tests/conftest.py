"""Fixtures shared by the tests: outside data that may be missing."""

import contextlib
import os
import signal
from pathlib import Path

import hypothesis
import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared"


# On a busy machine any example may be slow: time is measured by the benchmark, not by tests.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# A shell's background jobs ignore Ctrl-C, and so would the processes that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Puts files with slow tests first, so that no process is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def _folder(variable: str, default: Path, what: str) -> Path:
    folder = Path(os.environ.get(variable, default))
    if not folder.is_dir():
        pytest.skip(f"{what} not found: set {variable} to its folder")
    return folder


@pytest.fixture(scope="session")
def coco_dir() -> Path:
    """A folder in COCO layout: `annotations/instances_{train,val}2017.json`, `train2017/`, `val2017/`."""
    return _folder("COCO_DIR", _SHARED / "coco_subset", "COCO pictures")


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Reference tensors of the published model, a folder for each configuration."""
    return _folder("DEEPMAC_REFERENCE_DIR", _SHARED / "golden", "reference tensors of the published model")


@pytest.fixture(scope="session")
def camera_traps_dir() -> Path:
    """Real camera-trap pictures, `ena24` and `southwest`, and files of several programs, `json`."""
    return _folder("CAMERA_TRAPS_DIR", _SHARED / "camera_traps", "camera-trap pictures")


@pytest.fixture
def loads(monkeypatch):
    """Models that jobs load, recorded; the small one takes their place."""
    import tiny_model

    from deepmac.jobs import stream

    loaded = []

    def load(*arguments):
        loaded.append(arguments)
        return tiny_model.predictor()

    monkeypatch.setattr(stream, "load", load)
    return loaded


@pytest.fixture(scope="module")  # alone: its event loop would be in the way of tests that start their own
def chromium():
    """A headless browser; see `browser.py`."""
    browser = pytest.importorskip("browser", reason="playwright is not installed", exc_type=ImportError)
    executable = browser.find_chromium()
    if executable is None:
        pytest.skip("no Chromium found: install one, or set CHROMIUM to its path")
    with browser.chromium(executable) as running:
        yield running


@pytest.fixture
def notebook_page(chromium, tmp_path):
    """Opens notebooks in a JupyterLab: `notebook_page("deepmac_colab", picture="rocket")`.

    Returns a function of a notebook's path, or its name in `notebooks/`, and of its parameters, that gives
    a `browser.NotebookPage`. The notebook is a copy in the folder `lab` of `tmp_path`.
    """
    from browser import NotebookPage, copy_notebook, jupyter_lab

    folder = tmp_path / "lab"
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(jupyter_lab(folder))

        def open_notebook(notebook: str | Path, **parameters) -> NotebookPage:
            copy = copy_notebook(notebook, folder, parameters)
            page = chromium.new_page(viewport={"width": 1400, "height": 1000})
            stack.callback(page.close)
            return NotebookPage(page, url, copy.name)

        yield open_notebook
