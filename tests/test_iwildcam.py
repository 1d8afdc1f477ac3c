import camera_traps
import numpy as np
import pytest

from deepmac.core.label_images import write_label_image
from deepmac.iwildcam.checks import Problem
from deepmac.iwildcam.collection import open_collection
from deepmac.iwildcam.tables import objects_table, pictures_table
from deepmac.scenes.camera_traps import TRUTH_FOLDER
from lib import iwildcam


def test_faults_of_masks_decide_the_claim_and_others_are_mentioned():
    assert iwildcam.format_claim([], 3).holds
    claim = iwildcam.format_claim([Problem("missing picture", "a", ""), Problem("unusable box", "a", "")], 3)
    assert claim.holds
    assert claim.evidence == "3 pictures checked: 1 x missing picture, 1 x unusable box"
    assert not iwildcam.format_claim([Problem("size mismatch", "a", "")], 3).holds
    assert not iwildcam.format_claim([], 0).holds


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


def test_masks_are_compared_with_the_truth(collection):
    assert iwildcam.has_truth(collection)
    scores = iwildcam.compare_with_truth(collection)
    assert scores["picture"].tolist() == [0, 1, 3]
    assert scores["masks"].tolist() == [50, 100, 50]
    box = np.zeros(camera_traps.SIZE, bool)
    box[10:38, 8:48] = True  # pixels of the box (0.1, 0.2, 0.5, 0.6): rows 9.4 to 37.6, columns 7.9 to 47.4
    true = np.zeros(camera_traps.SIZE, bool)
    true[10:30, 10:30] = True
    assert scores["full_box"][0] == pytest.approx(100 * true.sum() / box.sum(), abs=0.5)
    rows, claim = iwildcam.truth_rows(scores, "tiny")
    assert rows[0].measurement.value == pytest.approx(200 / 3)
    assert claim.holds


def test_a_real_collection_has_no_truth(tmp_path):
    assert not iwildcam.has_truth(open_collection(camera_traps.write_release(tmp_path)))


@pytest.fixture(params=["with masks", "without masks", "empty"])
def tables(request, tmp_path):
    root = camera_traps.write_release(tmp_path)
    if request.param == "with masks":
        write_label_image(root / "instance_masks/b-2.png", np.full(camera_traps.SIZE, 2, np.uint8))
    if request.param == "empty":
        for path in root.glob("metadata/*"):
            path.unlink()
        camera_traps.write_detections(root / "metadata/detections.json", {})
    collection = open_collection(root)
    return pictures_table(collection), objects_table(collection)


def _draws(figure):
    figure.canvas.draw()
    return figure.axes


def test_every_figure_can_be_drawn(tables):
    pictures, objects = tables
    areas, _, histogram, _ = _draws(iwildcam.plot_masks(objects))
    shown = sum(len(points.get_offsets()) for points in areas.collections)
    assert shown == (objects["mask_area"] > 0).sum()
    assert sum(patch.get_height() for patch in histogram.patches) == len(objects)
    for column in ("category", "location"):
        counts, _ = _draws(iwildcam.plot_groups(pictures, objects, column))
        widths = [patch.get_width() for patch in counts.patches]
        named = pictures[pictures[column] != ""].index
        assert sum(widths) == len(named) + objects["picture"].isin(named).sum()
