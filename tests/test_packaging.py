"""The files that install the project agree with each other and with what is installed."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def _tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("group", ["dependencies", *EXTRAS])
def test_requirements_are_pinned_within_their_bounds(group):
    pins = _pins()
    for text in EXTRAS.get(group, PROJECT["dependencies"]):
        requirement = Requirement(text)
        if requirement.name == "deepmac":  # an extra that includes another one
            continue
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), text


def test_everything_that_gets_installed_is_pinned():
    """Walks the requirements of the installed packages from this project downwards."""
    pins = _pins() | {"deepmac": PROJECT["version"]}  # extras include others
    seen, todo = set(), [("deepmac", extra) for extra in ("", "train", "notebooks", "test")]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for text in metadata.requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                required = canonicalize_name(requirement.name)
                assert required in {"deepmac", *pins}, (
                    f"{required}, required by {name}, is not in constraints.txt"
                )
                todo += [(required, ""), *((required, wanted) for wanted in requirement.extras)]
    assert len(seen) > 100  # TensorFlow, Model Garden and JupyterLab alone bring more


def test_imports_are_declared():
    """Every package that deepmac imports is a requirement, not something that happens to be there."""
    declared = {
        canonicalize_name(Requirement(text).name)
        for text in PROJECT["dependencies"] + [text for texts in EXTRAS.values() for text in texts]
    }
    distributions = metadata.packages_distributions()
    for path in (ROOT / "deepmac").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                modules = [node.module]
            for package in {module.partition(".")[0] for module in modules}:
                if package == "deepmac" or package in sys.stdlib_module_names:
                    continue
                providers = {canonicalize_name(name) for name in distributions.get(package, [package])}
                assert providers & declared, f"{path.relative_to(ROOT)} imports {package}: see pyproject.toml"


def test_versions_and_the_conda_environment_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] == metadata.version("deepmac")
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert (environment["name"], environment["channels"]) == ("deepmac", ["conda-forge"])
    packages = ["-c constraints.txt", "-e .[train,notebooks,test]"]
    assert environment["dependencies"] == ["python=3.11", "pip", {"pip": packages}]


def test_no_registry_and_no_place_of_one_machine_in_any_file():
    registry = re.compile(
        "|".join(["index-" + "url", "find-" + "links", "pypi" + r"\.org", "python" + "hosted"])
    )
    start_of_path = r"""(?:^|[\s"'`=(])/"""
    machine = re.compile(rf"{start_of_path}(?:work|root|opt)/\w", re.MULTILINE)
    home = re.compile(rf"{start_of_path}(?:home|Users)/\w", re.MULTILINE)
    for path in _tracked_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # a picture or weights
        # Tests make up paths as they stand in other people's files.
        for pattern in (registry, machine) if path.parent == ROOT / "tests" else (registry, machine, home):
            assert not pattern.search(text), f"{path.relative_to(ROOT)}: {pattern.search(text)[0]!r}"


def test_wheel_holds_the_package_and_nothing_else(tmp_path):
    source = tmp_path / "source"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("deepmac", "tests", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "import setuptools.build_meta as backend; backend.build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = (path.relative_to(ROOT).as_posix() for path in _tracked_files())
    expected = {name for name in tracked if name.startswith("deepmac/")}
    assert "deepmac/weights/mini/params.yaml" in expected
    assert packed == expected


# A stand-in for Python: makes the environment, and installs or fails as PIP_STATUS says.
FAKE_PYTHON = """#!/bin/sh
echo "$@" >> calls
case "$*" in
    "-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m pip install"*) exit "$PIP_STATUS" ;;
esac
"""


class FakeCheckout:
    """A copy of the Makefile with a stand-in for Python, to see what `make` would do."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, folder)
        (folder / "fakepython").write_text(FAKE_PYTHON)
        (folder / "fakepython").chmod(0o755)

    def make(self, *arguments: str, pip_status: int = 0) -> tuple[int, list[str], str]:
        """Returns make's exit status, the calls of Python, and what was said about errors."""
        (self.folder / "calls").write_text("")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
        run = subprocess.run(
            ["make", "PYTHON=./fakepython", "UV=", *arguments],
            cwd=self.folder,
            env=environment | {"PIP_STATUS": str(pip_status)},
            capture_output=True,
            text=True,
            check=False,
        )
        return run.returncode, (self.folder / "calls").read_text().splitlines(), run.stderr

    def steps(self, calls: list[str]) -> list[str]:
        """What was done, in order: "venv", "pip", "ruff"."""
        return [call.split()[1] for call in calls if call.startswith("-m")]


@pytest.fixture
def checkout(tmp_path):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    return FakeCheckout(tmp_path / "a folder")


def test_make_installs_once_and_again_after_a_change_or_a_move(checkout):
    status, calls, errors = checkout.make("test", "PYTHON=./no-such-python")
    assert status != 0 and calls == []
    assert errors.startswith("deepmac needs Python 3.11 or 3.12")
    status, calls, _ = checkout.make("lint")
    assert status == 0
    assert checkout.steps(calls) == ["venv", "pip", "ruff", "ruff", "mypy"]
    assert "-c constraints.txt -e .[train,notebooks,test]" in calls[2]
    assert checkout.steps(checkout.make("lint")[1]) == ["ruff", "ruff", "mypy"]
    later = (checkout.folder / ".venv/installed-for").stat().st_mtime + 5
    os.utime(checkout.folder / "constraints.txt", (later, later))
    assert checkout.steps(checkout.make("lint")[1]) == ["pip", "ruff", "ruff", "mypy"]
    checkout.folder = checkout.folder.rename(checkout.folder.with_name("elsewhere"))
    assert checkout.steps(checkout.make("lint")[1]) == ["venv", "pip", "ruff", "ruff", "mypy"]


@pytest.mark.parametrize(("target", "notebook"), [("demo", "deepmac_colab"), ("browse", "iwildcam")])
def test_make_opens_a_copy_of_a_notebook_that_stays(checkout, target, notebook):
    source, copy = checkout.folder / f"notebooks/{notebook}.ipynb", checkout.folder / f"runs/{target}.ipynb"
    source.parent.mkdir()
    shutil.copy(ROOT / "notebooks" / source.name, source)
    status, calls, _ = checkout.make(target, "JUPYTER_ARGS=--no-browser")
    assert status == 0
    assert calls[-1].startswith(f"-m jupyter lab runs/{target}.ipynb ")
    assert calls[-1].endswith(" --no-browser")
    assert copy.read_bytes() == source.read_bytes()
    copy.write_text("drawn")
    assert checkout.make(target)[0] == 0
    assert copy.read_text() == "drawn"


def test_make_starts_again_after_an_installation_that_failed(checkout):
    status, calls, _ = checkout.make("test", pip_status=1)
    assert status != 0
    assert checkout.steps(calls) == ["venv", "pip"]
    assert checkout.steps(checkout.make("lint")[1]) == ["venv", "pip", "ruff", "ruff", "mypy"]
