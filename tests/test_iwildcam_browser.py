"""The camera-trap browser: what the kernel sends, what keys and mouse do, and the notebook around it."""

import io
import json
import shutil

import camera_traps
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deepmac.core.label_images import write_label_image
from deepmac.iwildcam.browser import Browser
from deepmac.iwildcam.collection import REVIEW_FILE, open_collection
from deepmac.iwildcam.make_masks import make_masks
from deepmac.scenes.camera_traps import compose_sample

# What a screen reader calls the focused element.
_NAME = """() => {
    const { ariaLabel, labels, textContent } = document.activeElement;
    return ariaLabel ?? labels?.[0]?.textContent ?? textContent;
}"""


def _recording(collection, out) -> Browser:
    """A browser that notes what the kernel sends in `sent`."""
    browser = Browser(collection, out)
    browser.sent = []
    browser.send = lambda content, buffers=None: browser.sent.append((content, buffers))
    return browser


@pytest.fixture
def browser(tmp_path):
    """Of four pictures; b-2 has masks of its first two detections."""
    root = camera_traps.write_release(tmp_path)
    labels = np.zeros(camera_traps.SIZE, np.uint8)
    labels[5:15, 5:15], labels[20:40, 40:70] = 1, 2
    write_label_image(root / "instance_masks/b-2.png", labels, {"Quality": '{"1": 0.9, "2": 0.5, "3": 0.0}'})
    return _recording(open_collection(root), tmp_path / "out")


def _ask(browser, **changes):
    """What the kernel sends when the query changes: the page and its images."""
    browser.query = browser.query | changes
    return browser.sent[-1]


def _review(browser, lines, verdict, at="", step=0, animal=None):
    """What the kernel sends when animals are marked: the page and its images."""
    asked = browser.query["asked"] + 1
    message = {"review": lines, "verdict": verdict, "at": at, "step": step, "animal": animal, "asked": asked}
    browser._handle_custom_msg(message, [])
    return browser.sent[-1]


def test_what_is_filtered_is_what_is_sent_and_counted(browser):
    page, images = _ask(browser, where={"confidence": [0.9, 1.0]})
    assert (page["animals"], page["pictures"], page["pages"]) == ([2, 6], [2, 4], 1)
    assert [tile["picture"] for tile in page["tiles"]] == ["train/a-1.jpg", "train/b-2.jpg"]
    assert [[animal["confidence"] for animal in tile["animals"]] for tile in page["tiles"]] == [[0.93]] * 2
    assert browser.selected["confidence"].tolist() == [0.93, 0.93]
    masks = np.asarray(Image.open(io.BytesIO(images[3])))
    assert masks[21:39, 41:69].all() and not masks[5:15, 5:15].any(), "the other mask is not seen"
    page, _ = _ask(browser, where={"camera": "9"})
    assert (page["tiles"], page["pages"], page["pictures"]) == ([], 0, [0, 4])


def test_an_animal_has_a_colour_of_its_own_through_a_sequence(browser):
    page, images = _ask(browser, view="sequence")
    assert [tile["picture"] for tile in page["tiles"]] == ["train/a-1.jpg", "train/b-2.jpg"]
    by_confidence = [
        {a["confidence"]: (a["track"], a["color"]) for a in tile["animals"]} for tile in page["tiles"]
    ]
    assert by_confidence[0].items() <= by_confidence[1].items(), "the boxes are the same"
    assert len(set(by_confidence[1].values())) == 3
    masks = Image.open(io.BytesIO(images[3]))
    for place, confidence in (((10, 10), 0.61), ((60, 30), 0.93)):
        color = "#{:02x}{:02x}{:02x}".format(*masks.convert("RGB").getpixel(place))
        assert color == by_confidence[1][confidence][1]
    alpha = np.asarray(masks.convert("RGBA"))[..., 3]
    assert alpha[0, 0] == 0 < alpha[30, 60] < alpha[20, 60] == 255, "nothing, a mask, its outline"


def test_steps_go_from_page_to_page_and_stay_at_the_ends(browser):
    _ask(browser, view="picture")
    seen = []
    for asked, step in enumerate((0, 1, 1, 1, 1, -1), 1):
        browser._handle_custom_msg({"step": step, "asked": asked}, [])
        seen.append(browser.query["at"][-7:-4])
        assert browser.sent[-1][0]["asked"] == asked
    assert seen == ["a-1", "b-2", "c-3", "d-4", "d-4", "c-3"]
    page, _ = _ask(browser, order="doubtful first", at="")
    assert page["tiles"][0]["picture"] == "train/b-2.jpg"


def test_closer_shows_the_surroundings_of_a_box(browser):
    page, images = _ask(browser, view="picture", at="train/b-2.jpg", closer=True, animal=4)
    [tile] = page["tiles"]
    xmin, ymin, xmax, ymax = tile["animals"][2]["box"]
    assert (xmin, ymin) == (0, 0), "it is in the corner of the picture"
    assert xmax == pytest.approx(0.4 / 0.64) and ymax == pytest.approx(0.4 / 0.64)
    assert Image.open(io.BytesIO(images[0])).size == tuple(tile["size"]) == (51, 30)


def test_verdicts_are_saved_and_exported(browser, tmp_path):
    _ask(browser, where={"review": ""})
    assert _review(browser, [3], "")[1] is None, "the images are still right"
    page, images = _review(browser, [1, 3], "reject")
    assert (page["animals"], len(images)) == ([4, 6], 8), "two are no longer among those without a verdict"
    page, images = _ask(browser, where={})
    assert page["rejected"] == 2
    browser._handle_custom_msg({"show": 1}, [])
    assert len(browser.sent[-1][1]) == 8, "the page may be new"
    assert len(pd.read_csv(tmp_path / REVIEW_FILE)) == 2
    browser._handle_custom_msg({"export": {"confidence": [0.5, 1.0]}}, [])  # while the query says otherwise
    assert "3 animals in animals.csv, 2 rejected left out" in browser.sent[-1][0]["said"]
    assert pd.read_csv(tmp_path / "out/animals.csv")["confidence"].tolist() == [0.61, 0.61, 0.61]


@pytest.mark.parametrize("replaced", ["train/b-2.jpg", "instance_masks/b-2.png"])
def test_files_that_are_replaced_are_shown_anew(browser, tmp_path, replaced):
    _, before = _ask(browser, view="sequence")
    assert _ask(browser, at="train/b-2.jpg")[1] is None, "nothing is new"
    path = tmp_path / replaced
    if path.suffix == ".png":
        write_label_image(path, np.full(camera_traps.SIZE, 2, np.uint8))
    else:
        camera_traps.write_picture(path, seed=7)
    _, images = _ask(browser, at="train/a-1.jpg")
    assert [old == new for old, new in zip(before, images, strict=True)] == [
        True,
        True,
        path.suffix == ".png",
        path.suffix == ".jpg",
    ]


@pytest.mark.parametrize("where", [{}, {"review": ""}])
def test_a_verdict_on_the_last_picture_says_so_and_what_is_left(browser, where):
    _ask(browser, view="picture", where=where, at="train/c-3.jpg")
    _review(browser, [], "keep", "train/c-3.jpg", step=1)
    _review(browser, [], "", "test/d-4.jpg")
    assert not any("said" in message for message, _ in browser.sent), "there is one more, which is not left"
    _review(browser, [6], "keep", "test/d-4.jpg", step=1)
    assert browser.sent[-2][0]["said"] == "That was the last picture. Animals without a verdict: 5"


def test_what_another_notebook_rejected_is_not_exported(browser, tmp_path):
    open_collection(tmp_path).review([0, 1], "reject")
    browser._handle_custom_msg({"export": {}}, [])
    assert "4 animals in animals.csv, 2 rejected left out" in browser.sent[-1][0]["said"]


@pytest.mark.parametrize("view", ["picture", "sequence", "grid"])
def test_what_a_verdict_takes_out_of_the_selection_is_followed_by_the_next(browser, monkeypatch, view):
    monkeypatch.setattr("deepmac.iwildcam.selection.PAGE", 2)
    names = ["train/a-1.jpg", "train/b-2.jpg", "train/c-3.jpg", "test/d-4.jpg"]
    _ask(browser, view=view, where={"review": ""}, at=names[1])
    page, _ = _review(browser, [3], "reject", names[1], animal=4)
    assert (page["asked"], page["animals"][0], browser.query["at"]) == (1, 5, names[1])
    assert browser.query["animal"] == 4, "the next one of the picture"
    for marked, at in (([2, 4], 1), ([], 2), ([6], 3)):  # the last one is followed by the one before
        page, _ = _review(browser, marked, "keep", names[at], step=1)
        assert browser.query["at"] == names[at + 1 if at < 3 else 2]
        assert any(tile["picture"] == browser.query["at"] for tile in page["tiles"])
    _ask(browser, where={"review": "keep"}, at=names[1])
    _review(browser, [2, 4], "", names[1])
    assert browser.query["at"] == names[3], "taken back: the next of those kept"


def test_the_animal_that_decides_where_its_picture_comes_is_first(browser):
    for order, qualities in (("doubtful first", [0.0, 0.5, 0.9]), ("best first", [0.9, 0.5, 0.0])):
        page, _ = _ask(browser, view="picture", order=order, at="train/b-2.jpg")
        assert [animal["quality"] for animal in page["tiles"][0]["animals"]] == pytest.approx(qualities)


def test_what_cannot_be_written_is_said_and_not_marked(browser, tmp_path):
    (tmp_path / REVIEW_FILE).mkdir()
    _review(browser, [1], "reject")
    assert browser.sent[-2][0]["asked"] == 1, "keys wait for it"
    assert f"Cannot write to {tmp_path}: " in browser.sent[-1][0]["said"]
    assert set(browser.selected["review"]) == {""}
    (tmp_path / REVIEW_FILE).rmdir()
    (tmp_path / REVIEW_FILE).write_text("no table")
    _review(browser, [1], "reject")
    assert "is damaged" in browser.sent[-1][0]["said"]
    (tmp_path / REVIEW_FILE).unlink()
    (tmp_path / "out").touch()
    browser._handle_custom_msg({"export": {}}, [])
    assert f"Cannot write to {tmp_path / 'out'}: " in browser.sent[-1][0]["said"]


def test_missing_pictures_and_boxes_of_nothing_are_shown_as_such(browser, tmp_path):
    path = tmp_path / "metadata/iwildcam2022_mdv4_detections.json"
    path.write_text(path.read_text().replace("[0.1, 0.2, 0.5, 0.6]", "[]"))
    (tmp_path / "train/a-1.jpg").unlink()
    browser._collection.animals = open_collection(tmp_path).animals
    page, _ = _ask(browser, view="sequence")
    assert "missing" in page["tiles"][0]["problem"]
    animals = page["tiles"][0]["animals"]
    assert [animal["number"] for animal in animals] == [1, 2], "what is counted can be rejected"
    assert animals[0]["box"] is None and len(animals[1]["box"]) == 4
    line = animals[0]["line"]
    page, _ = _ask(browser, view="picture", at="train/a-1.jpg", closer=True, animal=line)
    assert page["tiles"][0]["animals"][0]["box"] is None
    _review(browser, [line], "reject")
    assert browser._collection.animals.loc[line, "review"] == "reject"


def test_every_animal_of_a_large_flock_is_shown_counted_and_exported(tmp_path):
    """More than a PNG has colours, and more than 8 bits tell apart."""
    boxes = [[x / 20, y / 15, 1 / 20, 1 / 15] for y in range(15) for x in range(20)]
    found = [{"category": "1", "bbox": box, "conf": 0.5} for box in boxes]
    document = {"images": [{"file": "a.jpg", "detections": found}], "detection_categories": {"1": "animal"}}
    (tmp_path / "detections.json").write_text(json.dumps(document))
    camera_traps.write_picture(tmp_path / "a.jpg", size=(300, 400))
    labels = np.arange(1, 301, dtype=np.uint16).reshape(15, 20).repeat(20, 0).repeat(20, 1)
    write_label_image(tmp_path / "instance_masks/a.png", labels)
    browser = _recording(open_collection(tmp_path), tmp_path / "out")
    page, images = _ask(browser, view="picture")
    animals = page["tiles"][0]["animals"]
    assert (len(animals), page["animals"]) == (300, [300, 300])
    masks = Image.open(io.BytesIO(images[1])).convert("RGBA")
    for animal in animals:
        xmin, ymin, xmax, ymax = animal["box"]
        *color, alpha = masks.getpixel((int(200 * (xmin + xmax)), int(150 * (ymin + ymax))))
        assert alpha > 0 and animal["color"] == "#{:02x}{:02x}{:02x}".format(*color)
    edge = np.asarray(masks)[:, 1:-1, 3]
    assert (edge[:, 18:20] == 255).all(), "an outline also where a colour comes again"
    _review(browser, [animals[-1]["line"]], "reject")
    browser._handle_custom_msg({"export": {}}, [])
    assert "299 animals in animals.csv, 1 rejected left out; 299 masks" in browser.sent[-1][0]["said"]


def test_a_collection_without_anything(tmp_path):
    camera_traps.write_detections(tmp_path / "detections.json", {})
    browser = _recording(open_collection(tmp_path), tmp_path / "out")
    browser._handle_custom_msg({"show": 1}, [])
    page, _ = browser.sent[-1]
    assert (page["pages"], page["tiles"]) == (0, [])


@pytest.fixture
def window(browser, chromium):
    from widget_page import WidgetPage

    return WidgetPage(chromium, browser)


@pytest.mark.browser
def test_filters_open_and_verdicts_by_mouse_and_keys(window, browser, tmp_path):
    page = window.page
    tiles, counts, boxes = (page.locator(f".deepmac-traps {name}") for name in ("figure", ".counts", ".box"))
    assert counts.inner_text() == "6 animals · 4 pictures"
    assert (tiles.count(), boxes.count()) == (4, 6)

    least = page.get_by_label("confidence at least")
    least.fill("0.9")
    least.press("Enter")
    page.wait_for_function("document.querySelectorAll('figure').length == 2")
    assert counts.inner_text() == "2 of 6 animals · 2 of 4 pictures"
    assert boxes.count() == 2

    tiles.nth(1).click()
    page.locator(".tiles.picture").wait_for()
    assert "train/b-2.jpg" in tiles.inner_text()
    end = page.locator(".details").evaluate("table => table.getBoundingClientRect().bottom")
    assert 0 < end <= page.viewport_size["height"], "the verdicts are seen with the picture"
    size = page.evaluate(
        "(({ width, height }) => [width, height])(document.querySelector('.frame').getBoundingClientRect())"
    )
    assert size[0] / size[1] == pytest.approx(80 / 48, rel=0.02)
    window.press("Escape")
    assert tiles.count() == 2

    page.get_by_role("button", name="Clear filters").click()
    page.wait_for_function("document.querySelectorAll('figure').length == 4")
    order = page.get_by_label("Order of pictures")
    for name, first in (("least confident first", "train/b-2.jpg"), ("camera and time", "train/a-1.jpg")):
        order.select_option(name)
        window.settle()
        assert first in tiles.first.get_attribute("aria-label")
    tiles.first.focus()
    window.press("ArrowRight", "Enter")
    assert "train/b-2.jpg" in tiles.get_attribute("aria-label")
    window.press("ArrowDown", "r")  # the second animal; goes on to the third
    window.press("k")  # goes on to the next picture
    assert browser.query["at"] == "train/c-3.jpg"
    assert browser._collection.animals["review"].tolist() == ["", "", "", "reject", "keep", "", ""]
    assert counts.inner_text().endswith("1 rejected")
    window.press("ArrowLeft", "ArrowDown", "u")
    assert browser._collection.animals["review"].tolist()[3] == ""
    page.get_by_role("button", name="✕ reject").first.click()
    window.settle()
    assert browser._collection.animals["review"].tolist()[2:5] == ["reject", "", "keep"]
    assert page.locator(".box.reject").count() == 1
    pressed = page.locator(".details td:last-child [aria-pressed=true]")
    labels = pressed.evaluate_all("buttons => buttons.map((button) => button.ariaLabel)")
    assert labels == ["✕ reject B", "✓ keep C"]

    page.get_by_label("review").select_option("keep")
    page.wait_for_function("document.querySelectorAll('.box').length == 1")
    place, said = page.locator(".tiles").bounding_box(), page.locator(".said")
    page.get_by_role("button", name="Export").click()
    page.locator(".said", has_text="1 animals in animals.csv").wait_for()
    assert page.locator(".tiles").bounding_box() == place, "nothing moves"
    end = said.bounding_box()["y"] + said.bounding_box()["height"]
    assert end <= place["y"], "it is seen above the pictures"
    page.set_viewport_size({"width": 700, "height": 760})
    hidden = "element => element.scrollHeight - element.clientHeight"
    assert [part.evaluate(hidden) > 0 for part in (said, said.locator(".."))] == [False, False], "all of it"
    page.set_viewport_size({"width": 1000, "height": 760})
    assert pd.read_csv(tmp_path / "out/animals.csv")["confidence"].tolist() == [0.22]
    page.get_by_label("review").select_option("any")
    page.wait_for_function("document.querySelectorAll('.box').length > 1")
    assert said.inner_text() == "", "it was about other animals"


@pytest.mark.browser
def test_a_picture_that_is_opened_is_seen_whole_with_its_time_first(window, browser):
    page = window.page
    page.locator(".deepmac-traps figure").nth(1).click()
    page.locator(".tiles.picture").wait_for()
    window.press("z")
    assert browser.query["closer"]
    window.press("ArrowLeft")
    assert browser.query["closer"], "from picture to picture it stays"
    window.press("Escape")
    page.locator(".deepmac-traps figure").nth(1).click()
    window.settle()
    assert (browser.query["view"], browser.query["closer"]) == ("picture", False)
    window.press("g")
    captions = page.locator("figcaption span")
    heights = captions.evaluate_all("spans => spans.map((span) => span.clientHeight)")
    assert len(set(heights)) == 1, "tiles of a row are as high as each other"


@pytest.mark.browser
def test_of_a_long_name_the_end_is_seen(chromium, tmp_path):
    from widget_page import WidgetPage

    names = [f"{'a_station_by_the_river/' * 3}IMG_000{number}.JPG" for number in range(2)]
    for name in names:
        camera_traps.write_picture(tmp_path / name)
    camera_traps.write_detections(tmp_path / "detections.json", dict.fromkeys(names, 1))
    page = WidgetPage(chromium, Browser(open_collection(tmp_path), tmp_path / "out")).page
    for name in page.locator("figcaption b").all():
        start, end = name.locator("bdi").all()
        assert end.inner_text().endswith(".JPG")
        assert start.evaluate("half => half.scrollWidth > half.clientWidth"), "an ellipsis is in its place"
        boxes = [one.bounding_box() for one in (name, start, end)]
        right, cut, last = (box["x"] + box["width"] for box in boxes)
        assert cut <= boxes[2]["x"] + 1 and last <= right + 1


@pytest.mark.browser
def test_tags_of_animals_beside_each_other_are_both_seen(chromium, tmp_path):
    from widget_page import WidgetPage

    boxes = [[0.3, 0.4, 0.5, 0.5], [0.33, 0.42, 0.5, 0.5]]
    found = [{"category": "1", "bbox": box, "conf": 0.5} for box in boxes]
    document = {"images": [{"file": "a.jpg", "detections": found}], "detection_categories": {"1": "animal"}}
    (tmp_path / "detections.json").write_text(json.dumps(document))
    camera_traps.write_picture(tmp_path / "a.jpg", size=(300, 400))
    window = WidgetPage(chromium, Browser(open_collection(tmp_path), tmp_path / "out"))
    tags = window.page.locator("figure .box span")
    one, other = (tags.nth(place).bounding_box() for place in range(2))
    assert one["x"] + one["width"] <= other["x"] or one["y"] + one["height"] <= other["y"]


@pytest.mark.browser
def test_real_pictures_are_seen_whole_with_their_masks(chromium, camera_traps_dir, tmp_path):
    from widget_page import WidgetPage

    ratios = {}
    for path in sorted((camera_traps_dir / "southwest").iterdir()):
        shutil.copy(path, tmp_path)
        with Image.open(path) as picture:
            ratios[path.name] = picture.width / picture.height
            labels = np.zeros((picture.height, picture.width), np.uint8)
        labels[: len(labels) // 2] = 1
        write_label_image(tmp_path / "instance_masks" / f"{path.stem}.png", labels)
    counts = {name: 1 + (number < 5) for number, name in enumerate(ratios)}
    camera_traps.write_detections(tmp_path / "detections.json", counts)
    window = WidgetPage(chromium, Browser(open_collection(tmp_path), tmp_path / "out"))
    page = window.page
    page.wait_for_function("[...document.images].every((image) => image.naturalWidth)")
    assert page.locator("figure img").count() == 2 * len(ratios) == 24
    frames = page.locator("figure .frame").evaluate_all(
        "frames => frames.map((frame) => frame.clientWidth / frame.clientHeight)"
    )
    names = page.locator("figcaption b").all_text_contents()
    np.testing.assert_allclose(frames, [ratios[name] for name in names], rtol=0.02)
    times = page.locator("figcaption span").all_inner_texts()
    assert len(times) == 11 and "2013-03-31 16:27:36" in times, "one has no EXIF"

    least = page.get_by_label("confidence at least")
    least.fill("0.9")
    least.press("Enter")
    page.wait_for_function("document.querySelectorAll('figure').length == 5")
    assert page.locator(".counts").inner_text() == "5 of 17 animals · 5 of 12 pictures"
    page.locator("figure").nth(1).click()
    page.locator(".tiles.picture").wait_for()
    opened = window.widget.query["at"]
    assert counts[opened] == 2
    window.press("r", "Escape")
    page.get_by_role("button", name="Export").click()
    page.locator(".said", has_text="4 animals in animals.csv, 1 rejected left out").wait_for()
    exported = pd.read_csv(tmp_path / "out/animals.csv")
    assert exported["confidence"].tolist() == [0.93] * 4
    assert {*exported["picture"]} == {name for name, count in counts.items() if count > 1} - {opened}


@pytest.mark.browser
def test_keys_meant_for_the_next_picture_wait_for_it(window, browser):
    """A reviewer is faster than the kernel: a verdict is never that of the picture before."""
    window.page.evaluate(
        """() => {
            const answer = window.kernel;
            const later = () => new Promise((done) => setTimeout(done, 200));
            window.kernel = async (...asked) => { await later(); return answer(...asked); };
        }"""
    )
    window.page.locator(".deepmac-traps figure").first.focus()
    window.press("p", "ArrowRight", "ArrowDown", "r", "r", "n", "r")  # two in b-2; past c-3, without animals
    assert browser.query["at"] == "test/d-4.jpg"
    assert browser._collection.animals["review"].tolist() == ["", "", "", "reject", "reject", "", "reject"]
    window.press("b", "b", "ArrowDown", "k", "Escape", "ArrowLeft", "Enter")
    assert browser.query["at"] == "train/a-1.jpg"
    assert browser._collection.animals["review"].tolist() == ["", "", "", "keep", "reject", "", "reject"]


@pytest.mark.browser
def test_keys_are_heard_after_the_toolbar_was_used(window, browser):
    page = window.page
    boxes, masks = page.get_by_label("boxes"), page.get_by_label("masks", exact=True)
    boxes.click()
    window.press("p", "r")
    assert browser._collection.animals["review"].tolist() == ["reject"] + [""] * 6
    masks.focus()
    window.press("ArrowLeft")
    assert masks.input_value() == "0.95" and browser.query["at"] == "train/a-1.jpg", "the slider's own key"
    window.press("k")
    assert browser._collection.animals["review"].tolist() == ["reject", "keep"] + [""] * 5
    order = page.get_by_label("Order of pictures")
    order.focus()
    order.select_option("best first")
    window.settle()
    window.press("u", "k")
    assert browser.query["order"] == "best first" and browser.query["view"] == "picture"
    assert (browser._collection.animals["review"] == "keep").sum() == 2


@pytest.mark.browser
def test_what_went_wrong_is_said_until_a_verdict_succeeds(window, tmp_path):
    said, review = window.page.locator(".said"), tmp_path / REVIEW_FILE
    review.write_text("no table")
    window.page.locator("figure").first.focus()
    window.press("k")
    assert "is damaged" in said.inner_text()
    review.unlink()
    window.press("k")
    assert said.inner_text() == ""


@pytest.mark.browser
def test_filters_without_a_match_leave_the_window_as_high_as_it_is(window):
    page, stage = window.page, window.page.locator(".stage")
    height = pytest.approx(stage.bounding_box()["height"], abs=1)
    for text, tiles in (("nothing", 0), ("none", 0), ("b-2", 1)):
        page.get_by_label("find").fill(text)
        page.get_by_label("find").press("Enter")
        window.settle()
        assert page.locator("figure").count() == tiles
        assert (stage.bounding_box()["height"] == height) == (tiles == 0)


@pytest.mark.browser
def test_a_picture_without_animals_has_no_table(window):
    window.page.locator("figure").nth(1).click()
    window.settle()
    assert window.page.locator(".details table").count() == 1
    window.press("k", "k", "k", "n", "k")
    assert "That was the last picture" in window.page.locator(".said").inner_text()
    window.press("b")
    assert window.page.locator(".said").inner_text() == ""
    assert "no animal" in window.page.locator("figure").get_attribute("aria-label")
    assert window.page.locator(".details table").count() == 0


@pytest.mark.browser
def test_missing_masks_are_told(window, tmp_path):
    sizes = window.page.locator(".details td:nth-child(4)")
    window.page.locator("figure").nth(1).click()
    window.settle()
    assert sizes.all_inner_texts() == ["100", "600", "0"]
    (tmp_path / "instance_masks/b-2.png").unlink()
    for key in "n", "b":
        window.press(key)
    assert sizes.all_inner_texts() == ["mask missing"] * 3
    assert window.page.locator(".details td:nth-child(6)").all_inner_texts() == ["\N{EN DASH}"] * 3
    window.press("b")
    assert sizes.all_inner_texts() == ["mask missing"] * 2, "it never had one"


@pytest.mark.browser
def test_masks_of_rejected_animals_are_seen(window):
    page = window.page
    page.locator("figure").first.focus()
    window.press("r", "ArrowLeft", "Enter")
    assert page.locator("figure.rejected").count() == 1
    filters = "images => images.map((image) => getComputedStyle(image).filter)"
    photograph, masks = page.locator("figure.rejected img").evaluate_all(filters)
    assert "grayscale" in photograph and masks == "none"


@pytest.mark.browser
def test_a_kernel_that_is_gone_is_told(window, browser):
    page, said = window.page, window.page.locator(".said")
    page.locator("figure").first.focus()
    page.evaluate("window.gone = true")
    export = page.get_by_role("button", name="Export")
    for ask in (*"krnsp", export.click, page.get_by_label("review").select_option):
        page.locator(".said").evaluate("said => (said.textContent = '')")
        page.locator("figure").first.focus()
        window.press(ask) if isinstance(ask, str) else ask(*["keep"] * (ask != export.click))
        window.settle()
        assert said.inner_text() == "The kernel was restarted, or is gone: run the cells again.", ask
    page.evaluate("window.gone = false")
    page.locator("figure").first.focus()
    window.press("k")
    assert said.inner_text() == ""
    assert browser._collection.animals["review"].tolist() == ["keep"] * 2 + [""] * 5, "no key waits"


@pytest.mark.browser
def test_a_kernel_that_dies_while_keys_wait_is_told(window):
    window.page.locator("figure").first.focus()
    window.page.evaluate("window.busy = true")
    window.press("k", "k")
    window.page.evaluate("window.gone = true")
    window.press("k")
    assert "run the cells again" in window.page.locator(".said").inner_text()


@pytest.mark.browser
def test_what_keys_lead_to_is_in_view(chromium, tmp_path):
    from widget_page import WidgetPage

    many = [{"category": "1", "bbox": [k / 60, 0.1, 0.1, 0.5], "conf": 0.5} for k in range(50)]
    images = [{"file": f"{k:02d}.jpg", "detections": many if k == 12 else many[:1]} for k in range(20)]
    for image in images:
        camera_traps.write_picture(tmp_path / image["file"], size=(480, 640))
    document = {"images": images, "detection_categories": {"1": "animal"}}
    (tmp_path / "detections.json").write_text(json.dumps(document))
    browser = Browser(open_collection(tmp_path), tmp_path / "out")
    window = WidgetPage(chromium, browser)
    page, rows = window.page, window.page.locator(".details tbody tr")

    def in_view(selector: str) -> bool:
        box = page.locator(f".deepmac-traps {selector}").bounding_box()
        return box["y"] >= -1 and box["y"] + box["height"] <= page.viewport_size["height"] + 1

    page.locator("figure").nth(11).focus()
    window.press("n")
    assert in_view("figure[tabindex='0']") and "12.jpg" in page.locator("figure").first.inner_text()
    window.press("Enter")
    assert in_view(".frame") and rows.count() == 50
    window.press(*["ArrowDown"] * 30)
    assert in_view(".frame") and in_view("tr.chosen") and "chosen" in rows.nth(30).get_attribute("class")

    page.get_by_label("review").select_option("not reviewed")
    window.settle()
    rows.nth(1).locator("td").nth(1).click()
    window.press("r", "r")
    assert browser._collection.animals["review"].tolist()[13:16] == ["reject", "reject", ""]
    assert rows.count() == 48 and "chosen" in rows.nth(1).get_attribute("class")
    browser.query = browser.query | {"where": {"review": "reject"}}  # asked by another window
    window.ask()
    assert page.get_by_label("review").evaluate("select => select.selectedOptions[0].label") == "reject"


@pytest.mark.browser
def test_a_page_that_is_loaded_again_shows_the_filters_asked_for(window, browser, chromium):
    from widget_page import WidgetPage

    window.page.get_by_label("confidence at least").fill("0.5")
    window.page.get_by_label("part of a name").or_(window.page.get_by_label("find")).fill("train")
    window.page.locator("fieldset select").first.select_option(index=1)
    window.settle()
    assert set(browser.query["where"]) > {"confidence", "find"} and len(browser.query["where"]) == 3
    again = WidgetPage(chromium, browser)
    values = "form => [...form.querySelectorAll('input, select')].map(input => input.value)"
    assert again.page.locator("form").evaluate(values) == window.page.locator("form").evaluate(values)
    again.page.get_by_role("button", name="Clear filters").click()
    again.settle()
    assert browser.query["where"] == {}
    browser.on_msg(browser._on_message, remove=True)  # a kernel that is busy with other cells
    counts = WidgetPage(chromium, browser).page.locator(".counts")
    assert counts.inner_text() == "Pictures come when the notebook has run."


@pytest.mark.browser
def test_everything_is_seen_named_and_reached_by_tab_and_saving_is_left_to_the_notebook(window):
    page = window.page
    places = page.locator(".deepmac-traps .box").evaluate_all(
        """boxes => boxes.map(box => [box, box.firstChild].map(part => {
            const { top, bottom } = part.getBoundingClientRect();
            return [top, bottom];
        }))"""
    )
    assert len(places) == 6
    for (top, bottom), (tag_top, tag_bottom) in places:
        assert tag_bottom <= top + 3 or tag_top >= bottom - 3, "tags do not hide small animals"
    assert "● ▲ ▼ stand for masks" in page.locator(".help").inner_text()

    names = []
    for _ in range(60):
        page.keyboard.press("Tab")
        if not page.evaluate("document.activeElement.matches('.deepmac-traps *')"):
            break
        names.append(page.evaluate(_NAME))
    assert all(name.strip() for name in names), names
    assert {"Export", "grid", "Order of pictures", "confidence at most"} <= set(names)
    assert sum("train/a-1.jpg" in name for name in names) == 1, "one picture; arrows lead to the others"

    page.evaluate("() => { document.body.onkeydown = ({ key }) => (window.heard ??= []).push(key) }")
    page.locator("figure").first.focus()
    window.press("Control+s", "g")
    assert page.evaluate("window.heard.filter(key => key.length === 1)") == ["s"]


@pytest.mark.slow
@pytest.mark.browser
def test_the_notebook_filters_grid_statistics_and_export_alike(notebook_page, tmp_path):
    folder = compose_sample(tmp_path / "collection", sequences=2)
    make_masks(folder, folder / "metadata/iwildcam2022_mdv4_detections.json", folder / "instance_masks")
    page = notebook_page("iwildcam", iwildcam_dir=str(folder), work_dir=str(tmp_path))
    page.run_all(seconds=400)
    animals = open_collection(folder).animals
    numbers = animals[animals["number"] > 0]
    counts = page.locator(".deepmac-traps .counts")
    counts.scroll_into_view_if_needed()
    page.wait_until(lambda: counts.inner_text().startswith(f"{len(numbers)} animals"))
    figure = page.locator(".jp-OutputArea img[src^='data:image/png']").first
    before = figure.get_attribute("src")
    page.screenshot("grid")

    page.locator("[data-filter=split] select").select_option("test")
    test = numbers[numbers["split"] == "test"]
    page.wait_until(lambda: counts.inner_text().startswith(f"{len(test)} of {len(numbers)} animals"))
    page.wait_until(lambda: figure.get_attribute("src") != before)
    page.locator(".deepmac-traps figure").first.click()
    page.locator(".deepmac-traps .tiles.picture").wait_for()
    cells = page.locator(".jp-Notebook-cell").count()
    page.page.keyboard.press("b")
    assert page.locator(".jp-Notebook-cell").count() == cells, "JupyterLab's own key: new cell below"
    page.screenshot("picture")
    page.locator(".deepmac-traps button", has_text="Export").click()
    page.locator(".said", has_text=f"{len(test)} animals").wait_for()
    assert len(pd.read_csv(tmp_path / "collection-selection/animals.csv")) == len(test)

    page.page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.page.locator(".lm-Menu [data-command='kernelmenu:restart']").click()
    page.page.locator(".jp-Dialog .jp-mod-accept").click()
    page.wait_until_idle()
    for key in "gk":
        page.locator(".said").evaluate("said => (said.textContent = '')")
        page.locator(".deepmac-traps figure").focus()
        page.page.keyboard.press(key)
        page.wait_for_text(page.locator(".said"), "The kernel was restarted, or is gone", 20)
