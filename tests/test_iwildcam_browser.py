import io
import json

import camera_traps
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deepmac.iwildcam.browser import Browser
from deepmac.iwildcam.collection import open_collection
from deepmac.iwildcam.masks import write_label_image
from deepmac.iwildcam.tables import objects_table, pictures_table


@pytest.fixture
def browser(tmp_path):
    root = camera_traps.write_release(tmp_path)
    write_label_image(root / "instance_masks/b-2.png", np.full(camera_traps.SIZE, 2, np.uint8))
    collection = open_collection(root)
    return Browser(collection, pictures_table(collection), objects_table(collection), tmp_path / "out")


def _image(browser):
    return np.asarray(Image.open(io.BytesIO(browser.image.value)))


def test_next_and_previous_go_round(browser):
    seen = []
    for _ in range(5):
        seen.append(browser.position)
        browser.next.click()
    assert seen == [0, 1, 2, 3, 0]
    assert "<b>2 of 4</b>" in browser.status.value
    assert "b-2.jpg" in browser.status.value
    browser.previous.click()
    browser.previous.click()
    assert "d-4.jpg" in browser.status.value


def test_filters_select_and_the_shown_picture_stays_if_it_fits(browser):
    browser.next.click()
    browser.filters["category"].value = "panthera pardus"
    assert "<b>2 of 2</b> (4 in all)" in browser.status.value
    browser.filters["animals"].value = (0, 2)
    assert "<b>1 of 1</b>" in browser.status.value
    assert "a-1.jpg" in browser.status.value
    browser.filters["location"].value = "8"
    assert browser.status.value == "no picture of 4 fits"
    browser.next.click()
    browser.export.click()
    browser.filters["category"].value = "any"
    assert "d-4.jpg" in browser.status.value


def test_areas_are_in_percent(browser):
    browser.filters["mask_area"].value = (50, 100)
    browser.filters["animals"].value = (1, 3)
    assert "<b>1 of 1</b>" in browser.status.value
    assert "b-2.jpg" in browser.status.value


def test_views(browser):
    assert _image(browser).shape == (*camera_traps.SIZE, 3)
    browser.view.value = "sequence"
    assert _image(browser).shape[1] == 2 * 406 + 6, "both pictures of the sequence"
    browser.next.click()
    assert "c-3.jpg" in browser.status.value, "the next sequence"
    browser.previous.click()
    browser.previous.click()
    assert "d-4.jpg" in browser.status.value
    browser.view.value = "grid"
    assert _image(browser).shape[1] == 4 * 306 + 6
    browser.next.click()
    assert browser.position == 0, "one page"


def test_the_overlay_can_be_changed(browser):
    browser.next.click()
    opaque = _image(browser).astype(int)
    browser.opacity.value = 0
    assert np.abs(_image(browser) - opaque).mean() > 10
    with_boxes = _image(browser).astype(int)
    browser.boxes.value = browser.ids.value = False
    assert np.abs(_image(browser) - with_boxes).max() > 50


def test_the_selection_is_exported(browser, tmp_path):
    browser.filters["split"].value = "train"
    browser.export.click()
    table = pd.read_csv(tmp_path / "out/selection.csv")
    assert table["name"].tolist() == ["train/a-1.jpg", "train/b-2.jpg", "train/c-3.jpg"]
    coco = json.loads((tmp_path / "out/selection_coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["train/b-2.jpg"]
    assert "3 pictures" in browser.exported.value


def test_a_collection_without_anything(tmp_path):
    camera_traps.write_detections(tmp_path / "detections.json", {})
    collection = open_collection(tmp_path)
    browser = Browser(collection, pictures_table(collection), objects_table(collection))
    assert browser.status.value == "no picture of 0 fits"
