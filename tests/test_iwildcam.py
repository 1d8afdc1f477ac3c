import json

import camera_traps
import numpy as np
import pytest

from deepmac.core.label_images import write_label_image
from deepmac.iwildcam.checks import Problem
from deepmac.iwildcam.collection import open_collection
from deepmac.scenes.camera_traps import TRUTH_FOLDER
from lib import iwildcam as evidence


def test_faults_of_masks_decide_the_claim_and_others_are_mentioned():
    assert evidence.format_claim([], 3).holds
    claim = evidence.format_claim([Problem("missing picture", "a", ""), Problem("unusable box", "a", "")], 3)
    assert claim.holds
    assert claim.evidence == "3 pictures checked: 1 x missing picture, 1 x unusable box"
    assert not evidence.format_claim([Problem("size mismatch", "a", "")], 3).holds
    assert not evidence.format_claim([], 0).holds


@pytest.fixture
def collection(tmp_path):
    """A square is true; predicted is its upper half, or, for b-2, all of it."""
    root = camera_traps.write_release(tmp_path)
    height, width = camera_traps.SIZE
    for name, is_right in (("a-1", False), ("b-2", True), ("d-4", False)):
        truth, predicted = np.zeros((2, height, width), np.uint8)
        truth[10:30, 10:30] = 1
        predicted[10 : 30 if is_right else 20, 10:30] = 1
        write_label_image(root / TRUTH_FOLDER / f"{name}.png", truth)
        write_label_image(root / "instance_masks" / f"{name}.png", predicted)
    return open_collection(root)


def test_masks_are_compared_with_the_truth(collection, tmp_path):
    assert evidence.has_truth(collection)
    scores = evidence.compare_with_truth(collection)
    assert scores["picture"].tolist() == [0, 1, 3]
    assert scores["masks"].tolist() == [50, 100, 50]
    box = np.zeros(camera_traps.SIZE, bool)
    box[10:38, 8:48] = True  # pixels of the box (0.1, 0.2, 0.5, 0.6): rows 9.4 to 37.6, columns 7.9 to 47.4
    true = np.zeros(camera_traps.SIZE, bool)
    true[10:30, 10:30] = True
    assert scores["full_box"][0] == pytest.approx(100 * true.sum() / box.sum(), abs=0.5)
    rows, claim = evidence.truth_rows(scores, "tiny")
    assert rows[0].measurement.value == pytest.approx(200 / 3)
    assert claim.holds
    evidence.write(tmp_path / "results.json", {"profile": "smoke"}, rows, [claim], 1.0)
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["rows"][0]["measured"] == 66.67
    evidence.write(None, {}, rows, [claim], 1.0)


def test_a_real_collection_has_no_truth(tmp_path):
    assert not evidence.has_truth(open_collection(camera_traps.write_release(tmp_path)))
