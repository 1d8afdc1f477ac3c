"""The demo as people meet it: in JupyterLab, with the mouse."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from skimage import data

# A coin in scikit-image's picture and its surroundings: xmin, ymin, xmax, ymax in pixels.
COIN = (302, 12, 367, 75)
OTHER_COIN = (242, 92, 297, 145)


class Canvas:
    """The demo's picture on the page, in the picture's own coordinates."""

    def __init__(self, page):
        self._page = page
        self.locator = page.locator(".deepmac-canvas")
        self.locator.locator("svg").scroll_into_view_if_needed()
        height, width = data.coins().shape
        box = self.locator.locator("img").bounding_box()
        self._origin = np.array([box["x"], box["y"]])
        self._scale = np.array([box["width"] / width, box["height"] / height])

    def point(self, x, y):
        """The place of a pixel in the window."""
        return tuple((self._origin + self._scale * [x, y]).tolist())

    def drag(self, x0, y0, x1, y1):
        self._page.drag(self.point(x0, y0), self.point(x1, y1))

    def seen(self) -> np.ndarray:
        """What is seen, without the boxes: int [H, W, 3] of the picture's size."""
        paint = """image => {
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            canvas.getContext("2d").drawImage(image, 0, 0);
            return canvas.toDataURL();
        }"""
        address = self.locator.locator("img").evaluate(paint)
        content = base64.b64decode(address.split(",")[1])
        height, width = data.coins().shape
        picture = Image.open(io.BytesIO(content)).convert("RGB").resize((width, height), Image.Resampling.BOX)
        return np.asarray(picture).astype(int)

    def colored(self) -> np.ndarray:
        """Where the grey picture is coloured, that is, masked: bool [H, W]."""
        seen = self.seen()
        return seen.max(axis=2) - seen.min(axis=2) > 40

    def wait_for(self, text: str):
        """Waits until the line above the picture says something."""
        self._page.locator(".jp-OutputArea [role=status]", has_text=text).wait_for()

    def right_edges(self) -> list[float]:
        """Of the boxes, in pixels of the window from the picture's left edge, sorted."""
        edges = "boxes => boxes.map(box => box.x.baseVal.value + box.width.baseVal.value)"
        return sorted(self.locator.locator("rect.movable").evaluate_all(edges))

    def labels(self) -> list[str]:
        return self.locator.locator("svg text.clickable").all_text_contents()


def _inside(mask, x0, y0, x1, y1):
    return mask[y0:y1, x0:x1]


@pytest.mark.slow
@pytest.mark.browser
def test_boxes_drawn_with_the_mouse_get_masks(notebook_page, tmp_path):
    Image.fromarray(data.coins()).save(tmp_path / "coins.png")
    page = notebook_page("deepmac_colab", picture=str(tmp_path / "coins.png"), boxes=[])
    page.run_all()
    canvas = Canvas(page)
    assert not canvas.colored().any()

    canvas.drag(*COIN)
    canvas.wait_for("1 mask in")
    page.wait_until(lambda: canvas.colored().any())  # the picture follows the line above it
    page.screenshot("one-box")
    mask = canvas.colored()
    filled = _inside(mask, *COIN).mean()
    assert 0.55 < filled < 0.9, "a disc fills 0.79 of its box"
    assert _inside(mask, *COIN).sum() > 0.98 * mask.sum()
    # The mask is a disc: its corners are empty, its middle is full.
    assert _inside(mask, 322, 32, 347, 57).mean() > 0.95
    assert not _inside(mask, 302, 12, 308, 18).any()

    # To another coin, with the mouse inside the box.
    x, y = OTHER_COIN[0] - COIN[0], OTHER_COIN[1] - COIN[1]
    canvas.drag(334, 44, 334 + x, 44 + y)
    page.locator(".deepmac-canvas rect.movable").wait_for()
    page.wait_until(lambda: _inside(canvas.colored(), *OTHER_COIN).mean() > 0.5)
    assert not _inside(canvas.colored(), *COIN).any()

    # Beyond the edge: the box ends at the edge, and the mouse lets go of it.
    page.drag(canvas.point(315, 150), canvas.point(500, 220))
    canvas.wait_for("2 masks in")
    width = canvas.locator.locator("img").bounding_box()["width"]
    page.wait_until(lambda: canvas.right_edges()[-1] == pytest.approx(width, abs=1))

    # A click alone leaves nothing.
    page.page.mouse.click(*canvas.point(10, 10))
    page.wait_until(lambda: canvas.labels() == ["object 1", "object 2"])

    # Names.
    page.page.mouse.click(*canvas.point(334 + x, 44 + y))
    name = page.locator(".widget-text", has_text="Name").locator("input")
    name.fill("coin")
    page.wait_until(lambda: sorted(canvas.labels()) == ["coin", "object 2"])

    page.locator("button", has_text="COCO").click()
    canvas.wait_for("Written to")
    page.screenshot("two-boxes")
    [path] = (tmp_path / "lab").rglob("coins_masks.json")
    with page.page.expect_download() as download:
        page.locator("a", has_text="Download it").click()
    assert download.value.suggested_filename == "coins_masks.json"
    assert download.value.path().read_bytes() == path.read_bytes()
    dataset = json.loads(path.read_text())
    assert [category["name"] for category in dataset["categories"]] == ["coin", "object 2"]
    exported = rle.decode(dataset["annotations"][0]["segmentation"]).astype(bool)
    overlap = (exported & canvas.colored()).sum() / exported.sum()
    assert overlap > 0.9, "what is exported is what is seen"

    # Deleted by its cross, then by key.
    page.page.keyboard.press("Escape")
    page.page.mouse.click(*canvas.point(340, 185))
    page.page.keyboard.press("Delete")
    canvas.wait_for("1 mask in")
    page.locator("button", has_text="Remove all").click()
    canvas.wait_for("Draw a box")
    page.wait_until(lambda: not canvas.colored().any())


@pytest.mark.slow
@pytest.mark.browser
def test_what_cannot_be_opened_is_told_in_the_window(notebook_page):
    page = notebook_page("deepmac_colab", picture="galaxies")
    page.run_all()
    canvas = page.locator(".deepmac-canvas")
    page.screenshot("window", page.locator(".jp-OutputArea-output", has=canvas))
    address = page.locator("input[placeholder*='address']")
    address.fill("no such picture.jpg")
    address.press("Enter")
    page.locator(".jp-OutputArea [role=status]", has_text="no such picture").wait_for()
    page.screenshot("no-such-picture")
    assert canvas.locator("svg text.clickable").all_text_contents() == ["galaxy", "galaxy", "galaxy"]

    page = notebook_page("deepmac_colab", model="no such model")
    with pytest.raises(AssertionError, match="InputError"):
        page.run_all()
    # A cell that reaches the kernel after it has dropped those waiting behind the failed one fails alike.
    errors = page.locator(".jp-OutputArea-output", has_text="no model 'no such model'")
    errors.first.scroll_into_view_if_needed()
    page.screenshot("no-such-model")
    assert all(error.count("\n") == 0 for error in errors.all_inner_texts())
