import json
import shutil

import numpy as np
import pytest

from deepmac.core.errors import InputError
from lib import parity


@pytest.fixture(scope="module")
def references(reference_dir, tmp_path_factory):
    """A reference folder of one model, in which three tensors were changed: the names of these."""
    folder = tmp_path_factory.mktemp("references")
    shutil.copytree(reference_dir / "hourglass20", folder / "hourglass20")
    changed = {"loss/Loss/box/scale": 1.001, "pred/PIXEL_EMBEDDING/0": 1.01, "pred/from_elsewhere/0": 1.0}
    rewrite(folder / "hourglass20" / "reference.npz", changed)
    rewrite(folder / "hourglass20" / "predict_io.npz", {"padded/mask_probs": np.nan})
    return folder, {*changed, "predictor padded/mask_probs"}


def rewrite(path, factors):
    with np.load(path) as file:
        arrays = dict(file)
    for name, factor in factors.items():
        arrays[name] = arrays.get(name, np.float32(0)) * np.float32(factor)
    np.savez(path, **arrays)


@pytest.fixture(scope="module")
def compared(references):
    return parity.compare(references[0])


def test_finds_the_tensors_that_differ_and_no_others(compared, references):
    assert {line.tensor for line in compared.comparisons if not line.within} == references[1]


def test_compares_everything_that_was_computed(compared, references):
    folder = references[0] / "hourglass20"
    expected = {
        name
        for name in np.load(folder / "reference.npz")
        if name.startswith(("pred/", "post/", "loss/", "preprocessed", "masks_from_boxes"))
    }
    expected |= {f"predictor {name}/mask_probs" for name in ("exact", "padded", "resized")}
    for name in np.load(folder / "saved_model_io.npz"):
        if name.startswith("out/"):
            expected |= {f"graph {name}", f"own graph {name}"}
    assert {line.tensor for line in compared.comparisons} == expected


def test_claims_follow_their_tensors(compared):
    holds = dict(zip(parity.CLAIMS, (claim.holds for claim in compared.claims()), strict=True))
    assert [group for group, held in holds.items() if not held] == ["network", "loss", "predictor"]
    evidence = compared.claims()[0].evidence
    assert "8 of 10 tensors within tolerance" in evidence and "from_elsewhere" in evidence


def test_shows_every_tensor_and_writes_it(compared, tmp_path):
    html = compared.table().to_html()
    assert html.count(">no<") == 4
    assert "5 x 32 x 32" in html and "scalar" in html
    compared.write(tmp_path / "parity.json", {"profile": "smoke"})
    document = json.loads((tmp_path / "parity.json").read_text())
    measured = {row["name"]: row["measured"] for row in document["rows"]}
    assert len(measured) == len(compared.comparisons)
    assert 0 < measured["hourglass20: predictor exact/mask_probs"] < 1e-4
    assert measured["hourglass20: pred/from_elsewhere/0"] is None
    axes = compared.plot().axes[0]
    assert sum(len(line.get_xdata()) for line in axes.lines[:-1]) == len(measured)


def test_without_reference_tensors_nothing_is_claimed(monkeypatch, tmp_path):
    monkeypatch.delenv(parity.REFERENCE_VARIABLE, raising=False)
    assert parity.reference_folder() is None
    nothing = parity.compare(None)
    assert not nothing.comparisons
    assert {claim.holds for claim in nothing.claims()} == {None}
    nothing.write(tmp_path / "parity.json", {})
    assert json.loads((tmp_path / "parity.json").read_text())["rows"] == []
    nothing.write(None, {})


def test_the_parameter_goes_before_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv(parity.REFERENCE_VARIABLE, str(tmp_path))
    assert parity.reference_folder() == tmp_path
    assert parity.reference_folder(tmp_path / ".") == tmp_path
    with pytest.raises(InputError, match=f"no reference tensors at .*nowhere.*{parity.REFERENCE_VARIABLE}"):
        parity.reference_folder(tmp_path / "nowhere")
