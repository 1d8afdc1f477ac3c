from collections import Counter

import camera_traps
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from notebook_cells import run_cell

from deepmac.core.label_images import write_label_image
from deepmac.iwildcam.checks import Problem
from deepmac.iwildcam.collection import open_collection
from deepmac.iwildcam.tables import objects_table, pictures_table
from deepmac.scenes.camera_traps import TRUTH_FOLDER
from deepmac.suite.results import Claim
from lib import iwildcam


@pytest.mark.parametrize(
    ("kinds", "pictures", "holds"),
    [
        ([], 3, True),
        (["missing picture", "unusable box"], 3, True),
        (["size mismatch"], 3, False),
        ([], 0, False),
    ],
)
def test_faults_of_masks_decide_the_claim_and_others_are_mentioned(kinds, pictures, holds):
    problems = [Problem(kind, "a", "") for kind in kinds]
    names = {"Claim": Claim, "Counter": Counter, "problems": problems, "collection": range(pictures)}
    [claim] = run_cell("iwildcam", "of_masks", **names)["claims"]
    assert claim.verdict == ("holds" if holds else "contradicted")
    said = ", ".join(f"1 x {kind}" for kind in kinds) or "no problem"
    assert claim.evidence == f"{pictures} pictures checked: {said}"


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
    assert claim.verdict == "holds"


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
    names = {"np": np, "pd": pd, "Figure": Figure, "display": [].append}
    names |= {"pictures": pictures, "objects": objects}
    masks = run_cell("iwildcam", "confidence_fill", **names)["figure"]
    areas, _, histogram, _ = _draws(masks)
    shown = sum(len(points.get_offsets()) for points in areas.collections)
    assert shown == (objects["mask_area"] > 0).sum()
    assert sum(patch.get_height() for patch in histogram.patches) == len(objects)
    plot_groups = run_cell("iwildcam", "def plot_groups", **names)["plot_groups"]
    for column in ("category", "location"):
        counts, _ = _draws(plot_groups(column))
        widths = [patch.get_width() for patch in counts.patches]
        named = pictures[pictures[column] != ""].index
        assert sum(widths) == len(named) + objects["picture"].isin(named).sum()
