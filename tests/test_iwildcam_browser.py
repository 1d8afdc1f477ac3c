import io
import json

import camera_traps
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deepmac.core.label_images import write_label_image
from deepmac.iwildcam.browser import Browser
from deepmac.iwildcam.collection import open_collection
from deepmac.iwildcam.tables import objects_table, pictures_table
from deepmac.scenes.camera_traps import WIDTH, compose_sample


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


def test_a_sequence_is_typed(browser):
    browser.filters["sequence"].value = " s1 "
    assert "<b>1 of 2</b>" in browser.status.value
    browser.filters["sequence"].value = "s9"
    assert browser.status.value == "no picture of 4 fits"
    browser.filters["sequence"].value = ""
    assert "of 4</b>" in browser.status.value


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
    assert "<b>1 to 4 of 4</b> (4 in all)" in browser.status.value
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


@pytest.mark.slow
@pytest.mark.browser
def test_filtering_and_next_in_a_real_browser(notebook_page, tmp_path):
    from playwright.sync_api import expect  # there where the fixture does not skip

    def wait_for_width(condition):
        page.page.wait_for_function(f"document.querySelector('img.deepmac-image').naturalWidth {condition}")

    folder = compose_sample(tmp_path / "collection", sequences=2)
    test_pictures = len(list(folder.glob("test/*.jpg")))
    page = notebook_page("iwildcam", iwildcam_dir=str(folder), work_dir=str(tmp_path))
    page.run_all(seconds=240)
    status, image = page.locator(".deepmac-status"), page.locator("img.deepmac-image")
    status.scroll_into_view_if_needed()
    expect(status).to_contain_text("1 of ")
    before = image.get_attribute("src")

    page.locator(".deepmac-filter-split select").select_option("test")
    expect(status).to_contain_text(f"1 of {test_pictures}")
    expect(status).to_contain_text("camera 5")
    expect(image).not_to_have_attribute("src", before)
    shown = image.get_attribute("src")
    page.locator(".deepmac-next").click()
    expect(status).to_contain_text(f"2 of {test_pictures}")
    expect(image).not_to_have_attribute("src", shown)
    wait_for_width(f"== {WIDTH}")
    page.screenshot("next")

    page.locator("button", has_text="grid").click()
    expect(status).to_contain_text(f"1 to {test_pictures} of {test_pictures}")
    wait_for_width(f"> {WIDTH}")
    page.screenshot("grid")
    page.locator(".deepmac-export").click()
    expect(page.locator(".jp-OutputArea", has_text="selection.csv").first).to_be_visible()
    assert (tmp_path / "iwildcam-selection/selection.csv").is_file()
