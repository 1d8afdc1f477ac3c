from collections import Counter
from io import BytesIO
from pathlib import Path

import camera_traps
import numpy as np
import pandas as pd
import pytest
from IPython.display import Image, Markdown
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from notebook_cells import run_cell

from deepmac.core.drawing import instance_colors, overlay, sheet
from deepmac.core.label_images import write_label_image
from deepmac.iwildcam import views
from deepmac.iwildcam.checks import Problem
from deepmac.iwildcam.collection import open_collection
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
    names = {"Claim": Claim, "Counter": Counter, "problems": problems, "pictures": pictures}
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
    assert scores["picture"].tolist() == ["train/a-1.jpg", "train/b-2.jpg", "test/d-4.jpg"]
    assert scores["masks"].tolist() == [50, 100, 50]
    box = np.zeros(camera_traps.SIZE, bool)
    box[10:38, 8:48] = True  # pixels of the box (0.1, 0.2, 0.5, 0.6): rows 9.4 to 37.6, columns 7.9 to 47.4
    true = np.zeros(camera_traps.SIZE, bool)
    true[10:30, 10:30] = True
    assert scores["full_box"][0] == pytest.approx(100 * true.sum() / box.sum(), abs=0.5)
    rows, claim = iwildcam.truth_rows(scores, "tiny")
    assert rows[0].measurement.value == pytest.approx(200 / 3)
    assert claim.verdict == "holds"


@pytest.mark.parametrize("masks", ["with masks", "without masks", "empty"])
def test_statistics_show_what_is_known_and_nothing_else(tmp_path, masks):
    root = camera_traps.write_release(tmp_path)
    if masks == "with masks":
        texts = {"Quality": '{"1": 0.9, "2": 0.5, "3": 0.7}'}
        write_label_image(root / "instance_masks/b-2.png", np.full(camera_traps.SIZE, 2, np.uint8), texts)
    animals = open_collection(root).animals
    if masks == "empty":
        animals = animals[:0]
    names = {
        "np": np,
        "Figure": Figure,
        "Markdown": Markdown,
        "MaxNLocator": MaxNLocator,
        "instance_colors": instance_colors,
    }
    panels = run_cell("iwildcam", "def histogram", **names)
    figure = run_cell("iwildcam", "def statistics", **panels)["statistics"](animals)
    if masks == "empty":
        assert "No animals" in figure.data, "no empty figure"
        return
    figure.canvas.draw()
    titles = [axes.get_title() for axes in figure.axes]
    expected = ["Animals by species", "Animals by camera", "Detections"]
    expected += ["Masks and their boxes", "How much of its box a mask fills"] * (masks == "with masks")
    expected += ["Expected quality of the masks"] * (masks == "with masks")
    assert titles == expected
    assert figure.get_suptitle() == "6 animals · 4 pictures"
    if masks == "with masks":
        assert [bar.get_width() for bar in figure.axes[1].patches] == [1, 5], "cameras 8 and 7"
        assert sum(bar.get_height() for bar in figure.axes[2].patches) == 6
        assert [bar.get_width() for bar in figure.axes[5].patches] == [1, 0, 0], "of masks that are seen"
    ticks = [tick for axes in figure.axes[:2] for tick in axes.get_xticks()]
    assert all(tick == int(tick) for tick in ticks)


def test_a_contact_sheet_tells_pictures_apart_and_leaves_missing_ones_out(tmp_path):
    root, captions = camera_traps.write_release(tmp_path), []

    def recorded(drawn, texts, *how):
        captions.append(texts)
        return sheet(drawn, texts, *how)

    modules = [("Image", Image), ("Markdown", Markdown), ("instance_colors", instance_colors), ("pd", pd)]
    names = dict(modules, overlay=overlay, sheet=recorded, views=views, BytesIO=BytesIO, Path=Path, np=np)
    names |= {"collection": (collection := open_collection(root)), "animals": collection.animals}
    (root / "train/b-2.jpg").unlink()
    made = run_cell("iwildcam", "def contact_sheet", **names)["contact_sheet"]
    made(["train/a-1.jpg", "train/b-2.jpg"], 2, 300)
    [caption] = captions[-1]
    time = collection.animals["time"].iloc[0]
    assert caption == f"{time:%Y-%m-%d %H:%M:%S} · a-1.jpg · panthera pardus"
    assert isinstance(made(["train/b-2.jpg"], 2, 300), Markdown)
