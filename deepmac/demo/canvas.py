"""The picture one draws boxes on: an anywidget, whose side in the browser are `canvas.js` and its parts."""

from collections.abc import Hashable, Sequence
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from PIL import Image

from deepmac.core.drawing import instance_colors
from deepmac.core.images import encoded

_HERE = Path(__file__).parent
_SCRIPTS = ("../core/page.js", "view.js", "masks.js", "history.js", "editor.js", "painter.js", "canvas.js")
_PREVIEW = 1024  # pixels: longest side of what the browser has at once; more it asks for as it zooms in
_TILE = 512  # pixels; also in view.js
_QUALITY = {"quality": 92, "subsampling": 0}


def _colors(count: int) -> list[str]:
    return ["#{:02x}{:02x}{:02x}".format(*color) for color in instance_colors(count).tolist()]


class Canvas(anywidget.AnyWidget):
    """Shows a picture, boxes and masks; boxes are drawn, moved, named and removed on it, and all that undone.

    Coordinates are pixels of the picture, whatever part of it is seen at whatever size.

    Attributes:
        boxes: for each `{"box": [xmin, ymin, xmax, ymax], "name": str}`, and if its mask was corrected
            "clicks": [[x, y, sign]], 1 where something was missing, -1 where too much; numbers count from 1.
        selected: index of the selected box, -1 for none.
        masks: those shown by `show_masks`.
        opacity, outline: how masks are drawn.
        status: a line of plain text above the picture, and whether it tells an error.
        ready: whether boxes can be drawn: not while the window is being loaded.
    """

    _esm = "\n".join((_HERE / name).read_text("utf-8") for name in _SCRIPTS)  # an anywidget takes one
    _css = _HERE / "canvas.css"

    boxes = traitlets.List(traitlets.Dict()).tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)
    opacity = traitlets.Float(0.5).tag(sync=True)
    outline = traitlets.Bool(True).tag(sync=True)
    ready = traitlets.Bool(False).tag(sync=True)
    status = traitlets.List(["", False]).tag(sync=True)
    colors = traitlets.List(traitlets.Unicode(), _colors(64)).tag(sync=True)
    # Width, height, number of the picture, and how often it is halved down to the preview, a JPEG.
    picture = traitlets.List([1, 1, 0, 0]).tag(sync=True)
    preview = traitlets.Bytes().tag(sync=True)
    first = traitlets.Int(0).tag(sync=True)  # number of the picture when it was shown for the first time
    page = traitlets.Int(0).tag(sync=True)  # of a stack: where it is turned, the same part of it is seen
    edit = traitlets.List([0, 0]).tag(sync=True)  # of the boxes: number of their picture, and a count

    def __init__(self):
        super().__init__()
        self._same: dict[int, Hashable] = {}  # number of a picture -> what it has in common with itself later
        self._drawn: dict[Hashable, list[dict]] = {}  # that -> its boxes
        self.show_picture(np.zeros((1, 1, 3), np.uint8))
        self.on_msg(self._on_message)

    def show_picture(
        self, image: np.ndarray, boxes: Sequence[dict] = (), same: Hashable = None, page: int = 0
    ):
        """Shows another picture, uint8 RGB [H, W, 3], or another page of a stack.

        If one with the same `same` was shown before, it has the boxes that were left on it, and their changes
        can be taken back; else those given, with nothing to take back.
        """
        self._levels = [Image.fromarray(image)]  # each half as large as the one before
        while max(self._levels[-1].size) > _PREVIEW:
            self._levels.append(self._levels[-1].reduce(2))
        height, width = image.shape[:2]
        self.masks: list[dict] = []
        number = self.picture[2] + 1
        self._same[number] = number if same is None else same
        first = next(shown for shown, as_it in self._same.items() if as_it == self._same[number])
        drawn = self._drawn.setdefault(self._same[number], list(boxes))
        with self.hold_sync():
            self.preview = encoded(self._levels[-1], "JPEG", **_QUALITY)
            self.picture = [width, height, number, len(self._levels) - 1]
            self.first, self.page = first, page
            self.edit = [number, 0]
            self.selected = -1
            self.boxes = drawn

    def show_masks(self, masks: list[dict]):
        """Shows the masks of the boxes; those that are shown already are not sent again.

        Args:
            masks: for each box that has one `{"of", "path", "area", "quality"}`, path as SVG writes it, sent
                faster than numbers; it belongs to all boxes whose numbers and clicks are those in "of".
        """
        shown = set(map(id, self.masks))
        self.masks = masks
        if new := [mask for mask in masks if id(mask) not in shown]:
            self.send({"masks": new, "picture": self.picture[2]})

    @traitlets.observe("boxes")
    def _on_boxes(self, _change=None):
        self._drawn[self._same[self.edit[0]]] = self.boxes
        if self.edit[0] != self.picture[2]:  # another picture has come since
            self.edit = [self.picture[2], 0]
            self.boxes = self._drawn[self._same[self.picture[2]]]
        if len(self.boxes) >= len(self.colors):  # one more is drawn before the kernel hears of it
            self.colors = _colors(2 * len(self.boxes))

    def _on_message(self, _, message: dict, _buffers):
        """Answers `{"tiles": [[halvings, column, row]], "picture": int}`, and with a sign of life, once all
        before is done, `{"ask": its number, "masks": whether all are wanted}`."""
        if message.get("masks"):
            self.send({"masks": self.masks, "picture": self.picture[2]})
        if "ask" in message:
            self.send({"answer": message["ask"]})
        if message.get("picture") == self.picture[2]:
            for halvings, column, row in message["tiles"]:
                level = self._levels[halvings]
                left, top = column * _TILE, row * _TILE
                right, bottom = min(left + _TILE, level.width), min(top + _TILE, level.height)
                tile = encoded(level.crop((left, top, right, bottom)), "JPEG", **_QUALITY)
                self.send({"tile": [halvings, column, row], "picture": message["picture"]}, [tile])
