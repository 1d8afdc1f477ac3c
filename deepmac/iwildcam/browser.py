"""A browser of a collection for notebooks: an anywidget, whose side in the web browser is `browser.js`."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import pandas as pd
import traitlets
from PIL import Image

from deepmac.core.drawing import instance_colors, label_border
from deepmac.core.errors import InputError
from deepmac.core.images import encoded
from deepmac.iwildcam import exports
from deepmac.iwildcam.collection import Collection
from deepmac.iwildcam.selection import ORDERS, filters, pages, select
from deepmac.iwildcam.views import WHOLE, read_view

# A PNG's palette: of no mask, of masks in colours that come again after so many animals, of their outlines.
_COLORS = instance_colors(127)
_PALETTE = np.concatenate([np.zeros((1, 3), np.uint8), _COLORS, _COLORS]).tobytes()
_ALPHA = bytes([0, *[115] * len(_COLORS), *[255] * len(_COLORS)])  # opacity
_HERE = Path(__file__).parent
_SCRIPTS = ("../core/page.js", "browser.js")
_TILE, _LARGE = (560, 420), (1600, 1200)  # pixels that a picture must not exceed, beside others and alone
_MARGIN = 0.6  # of a box's longer side, around it, where it is seen closer
_FIRST_QUERY = {"where": {}, "view": "grid", "at": "", "animal": None, "closer": False, "asked": 0}
_FACTS = ["number", "track", "kind", "species", "confidence", "area", "fill", "quality", "rating", "review"]


class Browser(anywidget.AnyWidget):
    """Shows the animals of a collection that fit filters, on pages of pictures; marks and exports them.

    Attributes:
        query: what is looked at: "where" as of `select`, "order" and "view" as of `pages`, "at": a picture of
            the page, "closer": whether it is seen closer, around "animal", a line of the table, or its first,
            "asked": number of the question, which its answer repeats.
        filters, orders: what can be asked for.
    """

    _esm = "\n".join((_HERE / name).read_text("utf-8") for name in _SCRIPTS)  # an anywidget takes one
    _css = _HERE / "browser.css"

    query = traitlets.Dict(_FIRST_QUERY | {"order": next(iter(ORDERS))}).tag(sync=True)
    filters = traitlets.List().tag(sync=True)
    orders = traitlets.List(list(ORDERS)).tag(sync=True)

    def __init__(self, collection: Collection, export_dir: str | Path = "selection"):
        """Opens a collection; exports go to a folder of their own."""
        super().__init__(filters=filters(collection.animals))
        self._collection, self._export_dir = collection, Path(export_dir)
        self._sent: list[tuple] = []  # what the images that the web browser has were made from
        self._images = functools.lru_cache(maxsize=128)(self._read_images)
        self.on_msg(self._on_message)

    @property
    def selected(self) -> pd.DataFrame:
        """The lines of the collection's table that fit the filters."""
        return select(self._collection.animals, self.query["where"])

    def _on_message(self, _, message: dict[str, Any], _buffers):
        """Answers {"show": 1}, {"step", "asked"}, {"export": "where" of a query}, which may be newer than the
        last one that came while the kernel was busy, and {"review": lines, "verdict", "at", "step", "animal",
        "asked"}: so many pictures from there the given animal, or the first, is looked at next. {"alive": 1}
        needs no answer: where there is no kernel it cannot be sent.

        Says what cannot be written: ipywidgets swallows exceptions here.
        """
        folder = self._export_dir if "export" in message else self._collection.layout.images
        try:
            if "verdict" in message:
                self._review(message)
            elif "step" in message:
                page, found = self._page(self.selected)
                at = found[min(max(page + message["step"], 0), len(found) - 1)][0] if found else ""
                self.query = self.query | {"at": at, "animal": None, "asked": message["asked"]}
            elif "export" in message:
                self._collection.take_over_verdicts()
                animals = select(self._collection.animals, message["export"])
                self.send({"said": exports.export(self._collection, animals, folder)})
            elif "show" in message:
                self._sent = []
                self._show()
        except (InputError, OSError) as error:
            reason = getattr(error, "strerror", "")
            if "asked" in message:  # keys wait for an answer
                self.query = self.query | {"asked": message["asked"]}
            self.send({"said": f"Cannot write to {folder}: {reason}" if reason else str(error)})

    def _review(self, message: dict[str, Any]):
        """Marks animals, and goes on to the picture that was next before: this one may fit no longer."""
        order = [name for page in self._page(self.selected)[1] for name in page]
        if message["review"]:
            self._collection.review(message["review"], message["verdict"])
        place = order.index(message["at"]) + message["step"] if message["at"] in order else 0
        left = set(self.selected["picture"])
        at = next((name for name in [*order[place:], *order[:place][::-1]] if name in left), "")
        if message["step"] and place >= len(order):
            undecided = len(self.selected.query("number > 0 and review == ''"))
            self.send({"said": f"That was the last picture. Animals without a verdict: {undecided}"})
        self.query = self.query | {"at": at} | {key: message[key] for key in ("animal", "asked")}

    def _page(self, selected: pd.DataFrame) -> tuple[int, list[list[str]]]:
        """Which page is looked at, and all of them."""
        found = pages(selected, self.query["order"], self.query["view"])
        return next((k for k, page in enumerate(found) if self.query["at"] in page), 0), found

    @traitlets.observe("query")
    def _show(self, _change=None):
        """Sends the page; without images where those of the last one are right."""
        selected, animals = self.selected, self._collection.animals
        at, found = self._page(selected)
        shown = selected[selected["picture"].isin(found[at])] if found else selected[:0]
        column, smallest_first = ORDERS[self.query["order"]]
        if column:  # the animal that decides where its picture comes is first
            shown = shown.sort_values(column, ascending=smallest_first, kind="stable")
        tiles = [self._tile(name, shown[shown["picture"] == name]) for name in (found[at] if found else ())]
        page = {
            "asked": self.query["asked"],
            "page": at,
            "pages": len(found),
            "animals": [int((table["number"] > 0).sum()) for table in (selected, animals)],
            "pictures": [table["picture"].nunique() for table in (selected, animals)],
            "rejected": int((selected["review"] == "reject").sum()),
            "tiles": [tile for tile, _ in tiles],
        }
        before, self._sent = self._sent, [view for _, view in tiles]
        images = [image for view in self._sent for image in self._images(*view)[:2]]
        self.send(page, None if before == self._sent else images)

    def _tile(self, name: str, lines: pd.DataFrame) -> tuple[dict[str, Any], tuple]:
        """A picture, as the web browser draws it, and the arguments of `_read_images` for it."""
        animals = self._collection.with_masks_of_now(lines[lines["number"] > 0])
        large, window, has_box = self.query["view"] == "picture", WHOLE, animals["box_share"].notna()
        corners = animals[["xmin", "ymin", "width", "height"]].to_numpy(float, copy=True)
        corners[:, 2:] += corners[:, :2]
        chosen = np.argmax(animals.index == self.query["animal"]) if len(animals) else 0
        if large and self.query["closer"] and has_box.iloc[chosen : chosen + 1].any():
            window = _around(corners[chosen])
        numbers, tracks = tuple(animals["number"]), tuple(animals["track"])
        paths = self._collection.picture_path(name), self._collection.mask_path(name)
        times = tuple(path.stat().st_mtime_ns if path and path.is_file() else 0 for path in paths)
        view = name, numbers, tracks, _LARGE if large else _TILE, window, times
        _, _, size, problem = self._images(*view)
        low = np.tile(window[:2], 2)
        places = pd.Series(((corners - low) / (np.tile(window[2:], 2) - low)).tolist(), animals.index, object)
        colors = ["#{:02x}{:02x}{:02x}".format(*_COLORS[(track - 1) % len(_COLORS)]) for track in tracks]
        facts = animals[_FACTS].astype(object).where(animals[_FACTS].notna(), None).rename_axis("line")
        facts = facts.assign(color=colors, box=places.where(has_box, None))
        first = lines.iloc[0]
        named = [f"{first.time:%Y-%m-%d %H:%M:%S}"] if first.time == first.time else []  # differs in a burst
        named += [*lines["species"].unique(), first.camera and f"camera {first.camera}"]
        named += [f"{first.counted:.0f} counted in the sequence"] if first.counted == first.counted else []
        tile = {
            "picture": name,
            "caption": " · ".join(filter(None, named)),
            "sequence": first.sequence if first.sequence != name else "",
            "problem": problem,
            "size": size,
            "animals": facts.reset_index().to_dict("records"),
        }
        return tile, view

    def _read_images(self, name: str, numbers: tuple, tracks: tuple, size: tuple, window: tuple, _times):
        """JPEG of a picture, PNG of its masks, their size, and what is wrong with the picture.

        Those of files with other times, in nanoseconds, are not the same.
        """
        paths = self._collection.picture_path(name), self._collection.mask_path(name)
        view = read_view(*paths, numbers, size, window)
        jpeg = encoded(Image.fromarray(view.image), "JPEG", quality=88)
        png = encoded(_mask_image(view.labels, tracks), "PNG", transparency=_ALPHA)
        return jpeg, png, [view.image.shape[1], view.image.shape[0]], view.problem


def _mask_image(labels: np.ndarray, tracks: Sequence[int]) -> Image.Image:
    """Masks, labels as of `View`, with outlines as a picture with a palette."""
    codes = [0, *((track - 1) % len(_COLORS) + 1 for track in tracks)]
    drawn = np.array(codes, np.uint8)[labels]
    drawn[label_border(labels, 1 + labels.shape[1] // 800)] += len(_COLORS)
    image = Image.fromarray(drawn)
    image.putpalette(_PALETTE)
    return image


def _around(box: np.ndarray) -> tuple[float, ...]:
    """A box (xmin, ymin, xmax, ymax) and its surroundings, as far as the picture goes."""
    margin = _MARGIN * (box[2:] - box[:2]).max()
    return tuple(np.clip(np.concatenate([box[:2] - margin, box[2:] + margin]), 0, 1).round(4).tolist())
