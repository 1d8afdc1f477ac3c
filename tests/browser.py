"""A real JupyterLab in a real browser, for tests marked `browser`.

`notebook_page` of `conftest.py` opens a notebook; what it returns runs cells, finds things on the page and
keeps screenshots:

    @pytest.mark.browser
    def test_mask_appears(notebook_page):
        page = notebook_page("deepmac_colab", picture="rocket")
        page.run_all()
        page.locator("button", has_text="Export").click()
        page.screenshot("export")
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import requests
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
ARTIFACTS = ROOT / "test_artifacts"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Containers have no sandbox; nothing is fetched that the page does not ask for.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_SECONDS = 60  # that JupyterLab may take for anything
_QUIET = {"fetchNews": "false", "checkForUpdates": False}  # no questions at the first start


def find_chromium() -> str | None:
    """What the environment variable CHROMIUM names, else a browser on the path; None if there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _BROWSERS)), None)


@contextlib.contextmanager
def chromium(executable: str) -> Iterator[Browser]:
    """Starts a headless browser with a profile of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def jupyter_lab(folder: Path) -> Iterator[str]:
    """Starts a JupyterLab of the running Python, with this checkout, whatever the user has set up.

    Args:
        folder: what it shows; the server's own files go into its subfolder `.jupyter`.

    Yields:
        The server's address.
    """
    own = folder / ".jupyter"
    settings = own / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(_QUIET))
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'notebooks'}",
        "JUPYTER_CONFIG_DIR": str(own / "config"),
        "JUPYTER_DATA_DIR": str(own / "data"),
        "JUPYTER_RUNTIME_DIR": str(own / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(own / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(own / "workspaces"),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0", "--IdentityProvider.token="]
    log = own / "log.txt"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyter", "lab", *options],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _address(server, own / "runtime", log)
    finally:
        server.terminate()  # ends its kernels, too
        server.wait(timeout=5 * _SECONDS)


def _address(server, runtime: Path, log: Path) -> str:
    """Waits until the server answers."""
    for _ in range(_SECONDS * 5):
        if server.poll() is not None:
            break
        for path in runtime.glob("jpserver-*.json"):
            with contextlib.suppress(json.JSONDecodeError, requests.ConnectionError):
                url = json.loads(path.read_text())["url"]
                if requests.get(f"{url}api/status", timeout=_SECONDS).ok:
                    return url
        time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}")


def copy_notebook(notebook: str | Path, folder: Path, parameters: dict) -> Path:
    """Copies a notebook, a path or a name in `notebooks/`, with other parameters, as papermill sets them."""
    path = notebook if isinstance(notebook, Path) else ROOT / "notebooks" / f"{notebook}.ipynb"
    notebook = parameterize_notebook(load_notebook_node(str(path)), parameters)
    copy = folder / path.name
    nbformat.write(notebook, copy)
    return copy


class NotebookPage:
    """A notebook, open in JupyterLab."""

    def __init__(self, page: Page, url: str, name: str):
        """Opens the notebook.

        Args:
            page: an empty page of the browser.
            url: of the JupyterLab.
            name: file name of the notebook.
        """
        self.page = page
        self._name = Path(name).stem
        page.set_default_timeout(1000 * _SECONDS)
        page.goto(f"{url}lab/tree/{name}?reset")  # without what was open before
        page.get_by_text("Python 3 (ipykernel) | Idle").first.wait_for()

    def run_all(self, seconds: float = 300):  # a demo takes 40 s to load where nothing else runs
        """Runs every cell, and fails with what was said if one of them fails.

        Args:
            seconds: that the cells may take together.
        """
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        self.wait_until_idle(seconds)
        # Written in red, but not all that is written to stderr is an error.
        errors = self.locator('[data-mime-type="application/vnd.jupyter.stderr"] .ansi-red-fg')
        # Their text whether or not the notebook's window is drawn around them by now.
        assert errors.count() == 0, errors.all_text_contents()

    def wait_until_idle(self, seconds: float = 60):
        """Waits until no cell is running or waiting to run."""
        running = self.locator(".jp-InputPrompt", has_text="[*]")
        expect(running).to_have_count(0, timeout=1000 * seconds)
        expect(self.page.get_by_text("| Idle").first).to_be_visible(timeout=1000 * seconds)

    def wait_until(self, condition: Callable[[], bool], seconds: float = 20):
        """Waits until something holds that is not a matter of one element; fails if it never does."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            self.page.wait_for_timeout(100)

    def wait_for_text(self, element: Locator, text: str, seconds: float = 90):
        """Waits until an element has a text, whether or not JupyterLab draws it at the moment."""
        expect(element).to_contain_text(text, timeout=1000 * seconds)

    def locator(self, selector: str, **options) -> Locator:
        """Finds things on the page; see Playwright's `Page.locator`."""
        return self.page.locator(selector, **options)

    def drag(self, start: tuple[float, float], end: tuple[float, float]):
        """Presses the mouse's left button at one point of the window and lets go at another."""
        mouse = self.page.mouse
        mouse.move(*start)
        mouse.down()
        mouse.move(*end, steps=10)
        mouse.up()

    def screenshot(self, name: str, element: Locator | None = None) -> Path:
        """Keeps what the window, or an element, shows as `test_artifacts/<notebook>-<name>.png`."""
        ARTIFACTS.mkdir(exist_ok=True)
        path = ARTIFACTS / f"{self._name}-{name}.png"
        (element or self.page).screenshot(path=path)
        return path
