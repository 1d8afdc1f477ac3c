"""The demo as people meet it: in JupyterLab, with the mouse; `test_canvas.py` has the details."""

import json

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from pycocotools import mask as rle
from skimage import data

# A coin in scikit-image's picture and its surroundings: xmin, ymin, xmax, ymax in pixels.
COIN = (302, 12, 367, 75)
OTHER_COIN = (242, 92, 297, 145)


class Window:
    """The demo on the page; points are in pixels of the picture."""

    def __init__(self, page):
        self._page = page
        self.canvas = page.locator(".deepmac-stage canvas")
        self.canvas.scroll_into_view_if_needed()
        self.status = page.locator(".jp-OutputArea [role=status]")

    def _place(self):
        """The canvas in the page, scrolled into view, the corner of the picture in it, and its scale."""
        self.canvas.scroll_into_view_if_needed()
        height, width = data.coins().shape
        box = self.canvas.bounding_box()
        scale = min(box["width"] / width, box["height"] / height)
        corner = (box["width"] - scale * width) / 2, (box["height"] - scale * height) / 2
        return (box["x"], box["y"]), corner, scale

    def point(self, x, y):
        """The place of a pixel of the whole picture in the page."""
        page, corner, scale = self._place()
        return page[0] + corner[0] + scale * x, page[1] + corner[1] + scale * y

    def drag(self, x0, y0, x1, y1):
        self._page.drag(self.point(x0, y0), self.point(x1, y1))

    def colored(self) -> np.ndarray:
        """Where the grey picture is coloured, that is, masked: bool [H, W], each fourth pixel."""
        height, width = data.coins().shape
        ys, xs = np.mgrid[:height:4, :width:4]
        _, corner, scale = self._place()
        places = corner + scale * np.stack([xs.ravel(), ys.ravel()], axis=1)
        read = """(canvas, places) => {
            const { data, width } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return places.map(([x, y]) => {
                const at = 4 * (Math.round(x) + width * Math.round(y));
                return Math.max(...data.slice(at, at + 3)) - Math.min(...data.slice(at, at + 3));
            });
        }"""
        return np.reshape(self.canvas.evaluate(read, places.tolist()), xs.shape) > 40

    def wait_for(self, text: str):
        """Waits until the line above the picture says something."""
        self._page.locator(".jp-OutputArea [role=status]", has_text=text).wait_for()

    def names(self) -> list[str]:
        fields = self._page.locator(".deepmac-list tbody input")
        return fields.evaluate_all("fields => fields.map((field) => field.value)")

    def wait_for_names(self, *names: str):
        """Waits until the lines of the table have these names."""
        self._page.wait_until(lambda: self.names() == [*names])


@pytest.mark.slow
@pytest.mark.browser
def test_boxes_drawn_with_the_mouse_get_masks_and_are_saved(notebook_page, tmp_path):
    Image.fromarray(data.coins()).save(tmp_path / "coins.png")
    page = notebook_page("deepmac_colab", picture=str(tmp_path / "coins.png"), boxes=[])
    page.run_all()
    window = Window(page)
    assert not window.colored().any()

    window.drag(*COIN)
    window.wait_for("1 new mask")
    page.wait_until(lambda: window.colored().any())
    x0, y0, x1, y1 = (round(value / 4) for value in COIN)
    mask = window.colored()
    assert 0.55 < mask[y0:y1, x0:x1].mean() < 0.95, "a disc fills 0.79 of its box"
    # The cell below the window has no say in what the keys do.
    cells = page.locator(".jp-Notebook-cell").count()
    for key in ("b", "Delete"):
        page.page.keyboard.press(key)
    window.wait_for_names("object")
    assert page.locator(".jp-Notebook-cell").count() == cells, "JupyterLab's own keys: new cell below"

    window.drag(*OTHER_COIN)
    window.wait_for_names("object", "object")
    page.locator(".deepmac-list tbody input").nth(0).fill("coin")
    page.page.keyboard.press("Enter")
    window.wait_for_names("coin", "object")
    names = ["Picture", "Model", "Opacity", "Threshold", "Outline", "Name of new boxes", "name of box 1"]
    assert [page.page.get_by_label(name, exact=True).count() for name in names] == [1] * len(names)
    page.locator("button", has_text="Remove all").click()
    window.wait_for("Draw a box")
    page.locator("button", has_text="Undo").click()
    window.wait_for_names("coin", "object")

    with page.page.expect_download() as download:
        page.locator("button", has_text="COCO").click()
    window.wait_for("Your browser downloads coins_masks.json")
    [path] = (tmp_path / "lab").rglob("coins_masks.json")
    assert download.value.suggested_filename == "coins_masks.json"
    assert download.value.path().read_bytes() == path.read_bytes()
    dataset = json.loads(path.read_text())
    assert [category["name"] for category in dataset["categories"]] == ["coin", "object"]
    exported = rle.decode(dataset["annotations"][0]["segmentation"]).astype(bool)[::4, ::4]
    assert (exported & window.colored()).sum() / exported.sum() > 0.9, "what is exported is what is seen"
    page.screenshot("two-boxes")

    # Faster than their masks: the table has all that one sees when the button is pressed.
    mouse = page.page.mouse
    for k in range(6):
        mouse.move(*window.point(20 + 50 * k, 200))
        mouse.down()
        mouse.move(*window.point(60 + 50 * k, 240), steps=2)
        mouse.up()
    with page.page.expect_download() as download:
        page.locator("button", has_text="Table").click()
        seen = len(window.names())
    assert download.value.path().read_text("utf-8-sig").count("\n") - 1 == seen == 8
    page.page.keyboard.press("b")  # the button has the focus
    page.wait_until(lambda: len(window.names()) == 9)
    assert page.locator(".jp-Notebook-cell").count() == cells


@pytest.mark.slow
@pytest.mark.browser
def test_what_cannot_be_opened_is_told_in_the_window(notebook_page):
    page = notebook_page("deepmac_colab", picture="galaxies")
    page.run_all()
    window = Window(page)
    address = page.locator("input[placeholder*='address']")
    address.fill("no such picture.jpg")
    address.press("Enter")
    window.wait_for("no such picture")
    window.wait_for_names("galaxy", "galaxy", "galaxy")
    models = page.locator(".widget-dropdown select").nth(1)
    models.select_option("a folder ...")
    folder = page.locator("input[placeholder*='folder']")
    folder.fill("lab")
    folder.press("Enter")
    window.wait_for("no model")
    models.select_option(label="deepmac_1024x1024_coco17, downloaded when chosen")
    page.wait_for_text(window.status, "cannot download")
    page.screenshot("no-such-model")

    page = notebook_page("deepmac_colab", model="no such model")
    with pytest.raises(AssertionError, match="InputError"):
        page.run_all()
    for control in ("Picture", "Model"):  # of the window, from its top
        expect(page.page.get_by_label(control, exact=True)).to_be_in_viewport(timeout=20_000)
    # A cell that reaches the kernel after it has dropped those waiting behind the failed one fails alike.
    errors = page.locator(
        '[data-mime-type="application/vnd.jupyter.stderr"]', has_text="no model 'no such model'"
    )
    errors.first.wait_for(state="attached")
    assert all(error.strip().count("\n") == 0 for error in errors.all_text_contents())
    page.wait_for_text(Window(page).status, "no model 'no such model'")


@pytest.mark.slow
@pytest.mark.browser
def test_the_same_file_given_again_is_read_again(notebook_page, tmp_path):
    path = tmp_path / "picture.png"

    def write(width: int):
        Image.new("RGB", (width, 100), "gray").save(path)

    def wait_for_width(width: int):
        label = page.locator(".deepmac-stage canvas")
        page.wait_until(lambda: f"Picture of {width} by 100 pixels" in label.get_attribute("aria-label"), 60)

    page = notebook_page("deepmac_colab", picture="cell", boxes=[])
    page.run_all()
    window = Window(page)
    window.wait_for("Draw a box")
    address = page.locator("input[placeholder*='address']")
    address.fill(str(path))
    for _ in range(2):  # the second time by Enter alone
        address.press("Enter")
        window.wait_for("picture.png")
    write(150)
    address.fill(str(path))
    address.press("Enter")
    wait_for_width(150)
    for width in (170, 180):
        write(width)
        with page.page.expect_file_chooser() as chooser:
            page.locator(".widget-upload").click()
        chooser.value.set_files(path)
        wait_for_width(width)


# Milliseconds from letting go of the mouse to the frame in which a new line of the table has its area: it is
# drawn together with the mask.
_TIMED = """() => {
    window.delays = [];
    const canvas = document.querySelector(".deepmac-stage canvas");
    canvas.addEventListener("pointerup", () => {
        const start = performance.now();
        const lines = document.querySelectorAll(".deepmac-list tbody tr").length + 1;
        const look = () => {
            const area = document.querySelector(`.deepmac-list tbody tr:nth-child(${lines}) td:nth-child(3)`);
            if (!area || area.textContent === "…") requestAnimationFrame(look);
            else window.delays.push(performance.now() - start);
        };
        look();
    }, { capture: true });
}"""


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.browser
def test_a_mask_is_seen_a_moment_after_its_box_is_drawn(notebook_page):
    page = notebook_page("deepmac_colab", picture="astronaut", boxes=[])
    page.run_all()
    window = Window(page)
    page.page.evaluate(_TIMED)
    box = window.canvas.bounding_box()
    left, top = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for k in range(15):
        x, y = left - 100 + 10 * k, top - 80 + 8 * k
        page.drag((x, y), (x + 60, y + 60))
        page.wait_until(lambda k=k: page.page.evaluate("window.delays.length") > k)
        page.page.wait_for_timeout(500)  # the mask from closer, too: nobody draws the next box sooner
    delays = page.page.evaluate("window.delays")
    print(
        f"\nmouse to mask: median {np.median(delays):.0f} ms, from {min(delays):.0f} to {max(delays):.0f} ms"
    )
    assert np.median(delays) < 400, "100 where nothing else runs"
