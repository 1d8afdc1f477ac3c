"""Fixtures shared by the tests: outside data that may be missing."""

import os
from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared"


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
