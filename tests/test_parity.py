import shutil
import time

import numpy as np
import pytest
from notebook_cells import run_cell

from deepmac.core.errors import InputError
from deepmac.suite.results import Claim, ResultRow
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
    return parity.compare(references[0])[0]


@pytest.mark.parametrize(
    "name", ["hourglass20", "embedding_projection", "resnet4_no_instance", "weak_losses"]
)
def test_all_that_the_published_model_computed_is_computed_here(name, reference_dir):
    """Network, detections, losses, masks in given boxes, graphs: a tenth of what the notebook tolerates."""
    lines = list(parity.compare_folder(reference_dir / name))
    assert len(lines) > 20
    assert [(tensor, error) for _, _, tensor, _, error, tolerated in lines if error > 0.1 * tolerated] == []


def test_finds_the_tensors_that_differ_and_no_others(compared, references):
    beyond = compared[~(compared["difference"] <= compared["tolerance"])]
    assert set(beyond["tensor"]) == references[1]


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
    assert set(compared["tensor"]) == expected
    assert any(shape.endswith("5 x 32 x 32") for shape in compared["shape"])
    assert "scalar" in set(compared["shape"])


def test_claims_follow_their_tensors(compared):
    names = run_cell("parity", "CLAIMED =", lines=compared, Claim=Claim, claims_table=list)
    claims = names["claims"]
    holds = dict(zip(names["CLAIMED"], (claim.verdict for claim in claims), strict=True))
    assert [group for group, held in holds.items() if held != "holds"] == ["network", "loss", "predictor"]
    assert "8 of 10 tensors within tolerance" in claims[0].evidence and "from_elsewhere" in claims[0].evidence


def test_every_tensor_is_a_result(compared):
    names = {"lines": compared, "ResultRow": ResultRow, "write_results": lambda *_: None}
    names |= {"results_path": None, "profile": "smoke", "sha256": "", "claims": []}
    names |= {"time": time, "start": 0.0}
    rows = run_cell("parity", "largest absolute difference", **names)["rows"]
    measured = {row.name: row.measurement.value for row in rows}
    assert len(measured) == len(compared)
    assert 0 < measured["hourglass20: predictor exact/mask_probs"] < 1e-4
    assert measured["hourglass20: pred/from_elsewhere/0"] is None, "the results JSON has no infinity"


def test_without_reference_tensors_nothing_is_claimed(monkeypatch, tmp_path):
    monkeypatch.setenv(parity.REFERENCE_VARIABLE, str(tmp_path))
    assert parity.reference_folder() == parity.reference_folder(tmp_path / ".") == tmp_path
    with pytest.raises(InputError, match=f"no reference tensors at .*nowhere.*{parity.REFERENCE_VARIABLE}"):
        parity.reference_folder(tmp_path / "nowhere")
    monkeypatch.delenv(parity.REFERENCE_VARIABLE, raising=False)
    assert parity.reference_folder() is None
    nothing, _ = parity.compare(None)
    assert nothing.empty
    claims = run_cell("parity", "CLAIMED =", lines=nothing, Claim=Claim, claims_table=list)["claims"]
    assert {claim.verdict for claim in claims} == {"undecided"}
