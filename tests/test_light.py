"""Masks without TensorFlow: with the base dependencies alone, as `pip install deepmac` brings them."""

import json
import subprocess
import sys
import tomllib
import venv
from importlib import metadata
from pathlib import Path

import nbformat
import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from deepmac.demo.samples import SAMPLES

ROOT = Path(__file__).resolve().parents[1]

# Hides the modules of all other packages, as if they were not installed.
PROGRAM = """
import importlib.abc, sys

class NotInstalled(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

hidden = set(sys.argv[1].split(","))
sys.meta_path.insert(0, NotInstalled())
"""
WORK = """
import deepmac
from deepmac.cli import main
from deepmac.core.errors import InputError
from deepmac.demo.samples import SAMPLES

def run(*arguments):
    try:
        main(arguments)
    except SystemExit as end:
        return end.code

predictor = deepmac.load()
for sample in SAMPLES.values():
    predictor.set_image(sample.image())
    prediction = predictor.predict(sample.normalized_boxes())
    assert 0 < prediction.masks.mean() < 1
assert prediction.plot() is not None
for options in ({"runtime": "tensorflow"}, {"precision": "bfloat16"}, {"input_size": 512}):
    try:
        deepmac.load(**options)
    except InputError as error:
        assert str(error).endswith("pip install 'deepmac[train]'"), error
        assert ("at one input size" in str(error)) == ("runtime" not in options)
    else:
        raise AssertionError("TensorFlow is there")
assert not run("segment", "a.jpg", "--box", "0.1,0.2,0.8,0.7", "--out", "masks")
assert not run("segment", "a.jpg", "--boxes", "d.json", "--out", "masks")
assert not run("iwildcam-masks", "--images", ".", "--detections", "d.json", "--out", "labels")
assert not run("annotate", "c.json", "--images", ".", "--out", "completed.json")
import runpy, sys
sys.argv = ["train", "--help"]
try:
    runpy.run_module("deepmac.train", run_name="__main__")
except SystemExit as end:
    assert end.code == 2
assert run("export", "--out", "graphs") == 2
"""


def _packages(*extras: str) -> set[str]:
    """Names of the packages that the base dependencies and extras bring, themselves included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    todo, found = list(project["dependencies"]), {"deepmac"}
    for extra in extras:
        todo += project["optional-dependencies"][extra]
    while todo:
        requirement = Requirement(todo.pop())
        name = canonicalize_name(requirement.name)
        if name not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            found.add(name)
            todo += metadata.requires(name) or ()
    return found


def _run_with(packages: set[str], program: str, cwd: Path) -> subprocess.CompletedProcess:
    """Runs a program that sees no other packages."""
    hidden = {
        module
        for module, names in metadata.packages_distributions().items()
        if packages.isdisjoint(map(canonicalize_name, names))
    }
    assert "tensorflow" in hidden
    command = [sys.executable, "-c", PROGRAM + program, ",".join(hidden)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def _collection(folder: Path) -> None:
    """A picture, and MegaDetector's results for it."""
    Image.fromarray(SAMPLES["coffee"].image()).save(folder / "a.jpg")
    found = [{"category": "1", "conf": 0.9, "bbox": [0.26, 0.03, 0.43, 0.73]}]
    document = {"images": [{"file": "a.jpg", "detections": found}], "detection_categories": {"1": "animal"}}
    (folder / "d.json").write_text(json.dumps(document))
    image = {"id": 1, "file_name": "a.jpg", "height": 400, "width": 600}
    box = {"id": 1, "image_id": 1, "category_id": 0, "bbox": [18, 104, 438, 172]}
    document = {"images": [image], "annotations": [box], "categories": [{"id": 0, "name": "cup"}]}
    (folder / "c.json").write_text(json.dumps(document))


def _check(folder: Path) -> None:
    labels = np.asarray(Image.open(folder / "labels" / "a.png"))
    assert set(np.unique(labels)) == {0, 1}
    assert json.loads((folder / "completed.json").read_text())["annotations"][0]["segmentation"]
    names = {path.name for path in (folder / "masks").iterdir()}
    assert names == {"a_labels.png", "a_masks.json", "a_overlay.png"}


def test_masks_need_the_base_dependencies_only(tmp_path):
    base = _packages()
    assert base.isdisjoint({"tensorflow", "opencv-python-headless", "scikit-image", "pandas"})
    _collection(tmp_path)
    run = _run_with(base, WORK, tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("deepmac: this needs the package") == 2  # `train --help` and `export`
    _check(tmp_path)


def test_the_demo_notebook_needs_the_extra_demo_only(tmp_path):
    notebook = nbformat.read(ROOT / "notebooks" / "deepmac_colab.ipynb", as_version=4)
    parameters, _, *code = (cell.source for cell in notebook.cells if cell.cell_type == "code")
    run = _run_with(_packages("demo"), "\n".join([parameters, *code]), tmp_path)
    assert run.returncode == 0, run.stderr


@pytest.mark.nightly
def test_the_wheel_in_an_environment_of_its_own(tmp_path):
    """Builds wheel and sdist, checks them, and installs the wheel with what it asks for."""

    def python(environment: str, *arguments: str, cwd=tmp_path) -> None:
        program = str(tmp_path / environment / "bin" / "python")
        subprocess.run([program, "-I", *arguments], cwd=cwd, check=True)

    for environment in ("tools", "light"):
        venv.create(tmp_path / environment, with_pip=True)
    python("tools", "-m", "pip", "install", "--quiet", "build", "twine")
    python("tools", "-m", "build", "--outdir", str(tmp_path / "dist"), str(ROOT))
    files = sorted(str(path) for path in (tmp_path / "dist").iterdir())
    assert [Path(file).suffix for file in files] == [".whl", ".gz"]
    python("tools", "-m", "twine", "check", "--strict", *files)
    python("light", "-m", "pip", "install", "--quiet", files[0])
    installed = next((tmp_path / "light").glob("lib/python*/site-packages"))
    assert not any((installed / module).exists() for module in ("tensorflow", "cv2", "skimage"))
    assert sum(path.stat().st_size for path in installed.rglob("*") if path.is_file()) < 450e6
    _collection(tmp_path)
    python("light", "-c", WORK)
    _check(tmp_path)
