"""The picture one draws boxes on: jupyter-bbox-widget, with boxes that are fit for the predictor."""

import io
import itertools
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ipywidgets import Layout
from jupyter_bbox_widget import BBoxWidget
from PIL import Image

from deepmac.core.drawing import instance_colors

# Pictures are shown as large as fits into this (width, height), in pixels of the screen.
_LARGEST = (680, 560)
_SMALLEST_BOX = 3  # pixels of the canvas; smaller ones are slips of the mouse


# The widget gives its picture no way to be narrower than it is, and hides the names and crosses of boxes at
# its upper edge; names may have any colour.
_STYLE = """
.deepmac-canvas { user-select: none }
.deepmac-canvas .image-measure { display: block }
.deepmac-canvas .image { margin-top: 14px }
.deepmac-canvas svg { cursor: crosshair; overflow: visible }
.deepmac-canvas .classes { margin: 4px 0 0 }
.deepmac-canvas .classes p { display: none }
.deepmac-canvas .classes::before { content: "The next box is" }
.deepmac-canvas .class-label { background: currentColor; margin: 3px }
.deepmac-canvas .class-label { text-shadow: 0 0 3px #fff, 0 0 3px #fff, 0 0 5px #fff }
.deepmac-canvas .class-label, .deepmac-canvas .key { -webkit-text-fill-color: #000 }
.deepmac-canvas .class-label[style*="1px solid"] { outline: 2px solid var(--jp-ui-font-color1, #333) }
"""
# Follows the mouse beyond the picture, where the widget loses it, and tidies boxes when it is let go.
_SCRIPT = Path(__file__).with_name("canvas.js").read_text(encoding="utf-8")


class DrawnBoxes(NamedTuple):
    """Boxes that hold something.

    Attributes:
        boxes: float64 [N, 4], (ymin, xmin, ymax, xmax) from 0 to 1, inside the picture.
        names: of the N boxes.
    """

    boxes: np.ndarray
    names: list[str]


class Canvas(BBoxWidget):
    """Shows a picture and the boxes one draws, moves, names and removes on it.

    The trait `bboxes` changes when the mouse button is released, and as a box is begun, with no area yet. A
    name has a colour. A new box gets a name nothing has yet, unless one was chosen below the picture.

    Attributes:
        picture: uint8 RGB [h, w, 3], the picture as large as it is shown.
        size: its (h, w) in pixels of the screen, the unit of `bboxes`.
    """

    _css = BBoxWidget._css + _STYLE
    _esm = f"const WIDGET = {json.dumps(BBoxWidget._esm)};\n{_SCRIPT}"

    def __init__(self):
        super().__init__(hide_buttons=True)
        self.add_class("deepmac-canvas")
        self._colors: dict[str, int] = {}  # name -> index of its colour
        self.begin(np.zeros((1, 1, 3), np.uint8))
        self.observe(self._offer_names, names="bboxes")

    def begin(self, image: np.ndarray):
        """Begins another picture, without boxes.

        Args:
            image: uint8 RGB [H, W, 3], of any size.
        """
        height, width = image.shape[:2]
        scale = min(_LARGEST[0] / width, _LARGEST[1] / height)
        self.size = max(1, round(height * scale)), max(1, round(width * scale))
        self.picture = np.asarray(Image.fromarray(image).resize(self.size[::-1], Image.Resampling.BICUBIC))
        self.layout = Layout(flex="1 1 400px", max_width=f"{self.size[1] + 10}px")
        self.selected_index = -1
        self.bboxes = []
        self._offer_names()
        self.show(self.picture)

    def show(self, image: np.ndarray):
        """Shows an image in the place of the picture: uint8 RGB [*size, 3]."""
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=92, subsampling=0)  # crisp outlines
        self.image_bytes = file.getvalue()

    def draw(self, boxes: np.ndarray, names: list[str]):
        """Replaces the boxes.

        Args:
            boxes: float [N, 4], (ymin, xmin, ymax, xmax) from 0 to 1.
            names: of the N boxes.
        """
        height, width = self.size
        pixels = np.asarray(boxes) * [height, width, height, width]
        self.selected_index = -1
        self.bboxes = [
            {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "label": name}
            for (y0, x0, y1, x1), name in zip(pixels.tolist(), names, strict=True)
        ]

    def drawn(self) -> DrawnBoxes:
        """The boxes with an area, as far as they lie inside the picture."""
        height, width = self.size
        corners = [(b["y"], b["x"], b["y"] + b["height"], b["x"] + b["width"]) for b in self.bboxes]
        corners = np.clip(np.array(corners, np.float64).reshape(-1, 4), 0, [height, width] * 2)
        smallest = np.minimum(_SMALLEST_BOX, self.size)
        large = (corners[:, 2:] - corners[:, :2] >= smallest).all(axis=1)
        names = [box.get("label") or "object" for box, keep in zip(self.bboxes, large, strict=True) if keep]
        return DrawnBoxes(corners[large] / [height, width, height, width], names)

    @property
    def selected(self) -> int | None:
        """Number of the selected box."""
        return self.selected_index if 0 <= self.selected_index < len(self.bboxes) else None

    def colors_of(self, names: list[str]) -> np.ndarray:
        """Colours of names that occur: uint8 RGB [N, 3]."""
        palette = instance_colors(1 + max(self._colors.values()))
        return palette[[self._colors[name] for name in names]]

    def _offer_names(self, _change=None):
        """Offers the names below the picture, first the one that the next box will get."""
        used = list(dict.fromkeys(box.get("label") or "object" for box in self.bboxes))
        new = next(name for name in map("object {}".format, itertools.count(1)) if name not in used)
        self._colors = {name: self._colors[name] for name in used if name in self._colors}
        for name in [*used, new]:  # names that are gone leave their colours to new ones
            taken = set(self._colors.values())
            free = next(index for index in itertools.count() if index not in taken)
            self._colors.setdefault(name, free)
        names = [new, *used]
        colors = ["#{:02x}{:02x}{:02x}".format(*color) for color in self.colors_of(names).tolist()]
        with self.hold_sync():
            self.classes, self.colors = names, colors
