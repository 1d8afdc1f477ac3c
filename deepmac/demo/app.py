"""The demo: what happens when one draws a box, chooses a picture or a model, or exports."""

import dataclasses
import os
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from IPython.display import display
from PIL import Image

import deepmac
from deepmac.core.boxes import normalized_boxes
from deepmac.core.errors import InputError
from deepmac.demo.controls import FOLDER, OWN, Controls
from deepmac.demo.exports import EXPORTS, Drawing, file_stem, hidden_pixels, mask_areas, overlaid, write_file
from deepmac.demo.samples import SAMPLES
from deepmac.demo.sources import OpenedPicture, open_picture, opened_upload
from deepmac.inference.crops import plan_crops
from deepmac.inference.find import PUBLISHED_MODELS
from deepmac.inference.prediction import quality_words

_LARGEST_FIGURE = 800  # pixels of its longer side
# A click brings log odds so far beyond the threshold, and less around it: a Gaussian, in parts of the box.
_SURE, _REACH = 2.0, 0.15
_AT_ONCE = 16  # boxes whose masks are found before the window says how many are left
_FALLBACK = "coffee", None, "mini"  # picture, boxes and model that are always there


class Demo(Controls):
    """The window: `Demo().show()` displays it and brings it to life.

    Attributes:
        picture: the picture as it was opened; None before `show`.
        prediction: masks of the boxes on the canvas, at the picture's own size; None without boxes.
    """

    def __init__(
        self,
        picture: str | os.PathLike = "coffee",
        boxes: Sequence[Sequence[float]] | None = None,
        model: str | os.PathLike = "mini",
        export_dir: str | os.PathLike = "runs/demo",
    ):
        """Takes down what to show.

        Args:
            picture: a sample (a key of `SAMPLES`), a path or an address.
            boxes: N boxes to begin with, (ymin, xmin, ymax, xmax) from 0 to 1; those of the sample
                unless given.
            model: as for `deepmac.load`.
            export_dir: where exported files go; created when needed.
        """
        super().__init__()
        self.picture: OpenedPicture | None = None
        self.prediction: deepmac.Prediction | None = None
        self._own: OpenedPicture | None = None
        self._predicted: dict[tuple, deepmac.Prediction] = {}  # box -> its mask alone
        # (box and clicks, threshold) -> its mask, and as the canvas takes it
        self._shown: dict[tuple, tuple[deepmac.Prediction, dict]] = {}
        self._last: list = []  # threshold, boxes and clicks whose masks were last asked for
        self._export_dir = Path(export_dir)
        self._first = picture, boxes, os.fspath(model)
        self.say("Loading ...")

    def show(self):
        """Displays the window, and loads picture and model. InputError: no such, or unusable boxes."""
        display(self)
        try:
            self._begin(*self._first)
        except (InputError, OSError) as error:
            self._begin(*_FALLBACK)  # so that another picture or model can be chosen
            self.say(f"{error} (so this is a sample)", error=True)
            raise

    def _begin(self, source: str | os.PathLike, boxes: Sequence[Sequence[float]] | None, model: str):
        picture = open_picture(source)
        self.canvas.show_picture(picture.image)  # something to look at while the model loads
        self._load(model)
        self._use(picture, None if boxes is None else _items(boxes, picture))
        self._show_choices()
        self._connect()
        self.canvas.ready = True

    def figure(self) -> Image.Image:
        """The picture with its masks, boxes and names as they are now, for pages without widgets."""
        image = Image.fromarray(self.picture.image)
        image.thumbnail((_LARGEST_FIGURE, _LARGEST_FIGURE))
        if self.prediction is None:
            return image
        return Image.fromarray(overlaid(self._drawing(), np.asarray(image)))

    def _connect(self):
        for control, handler in (
            (self.sample, self._on_sample),
            (self.upload, self._on_upload),
            (self.address, self._on_address),
            (self.page, self._on_page),
            (self.model, self._on_model),
            (self.folder, self._on_model),
            (self.threshold, lambda _: self._update()),
        ):
            control.observe(self._guarded(handler), names="value")
        self.canvas.observe(self._guarded(lambda _: self._update()), names="boxes")
        examples = self._guarded(lambda _: self.canvas.set_trait("boxes", _examples(self.picture)))
        self.examples.on_click(examples)
        for button in self.exports.values():
            button.on_click(self._guarded(self._on_export))
        export = self._guarded(self._export)
        self.canvas.on_msg(lambda _, message, __: export(message["export"]) if "export" in message else None)

    def _guarded(self, handler: Callable) -> Callable:
        """The handler, with whatever goes wrong told in the window."""

        def guarded(event):
            try:
                handler(event)
            except (InputError, OSError) as error:
                self.say(str(error), error=True)
            except Exception as error:
                self.say(f"This should not have happened: {error!r}; the log has more.", error=True)
                raise

        return guarded

    def _show_choices(self):
        """Shows which picture and model are used, if only because another one could not be opened."""
        picture = self.picture
        self.sample.value = picture.sample or OWN
        self.examples.disabled = picture.sample is None
        with self.page.hold_trait_notifications():
            self.page.max, self.page.value = picture.pages, picture.page + 1
        self.page.layout.display = None if picture.pages > 1 else "none"
        self.page.description = f"Page of {picture.pages}"
        self.note.value = ""
        if picture.contrast:
            low, high = picture.contrast
            self.note.value = f"Contrast stretched: {low:,.5g} is shown black, {high:,.5g} white."
        known = [value for _, value in self.model.options]
        self.model.value = self._model if self._model in known else FOLDER
        if self.model.value == FOLDER:
            self.folder.value = self._model

    # Pictures

    def _on_sample(self, change):
        if change["new"] == (self.picture.sample or OWN):
            return
        if change["new"] != OWN:
            self._open(open_picture, change["new"])
        elif self._own is not None:
            self._open(self._own.turned_to, self._own.page)  # read again: the file may have changed
        else:
            self._show_choices()
            self.say("Upload a picture, or write its path or its address.")

    def _on_upload(self, change):
        if uploaded := change["new"]:
            self.upload.set_trait("value", type(uploaded)())  # else the same file again would be no change
            self._open(opened_upload, *_uploaded(uploaded))

    def _on_address(self, change):
        if change["new"].strip():
            self._open(open_picture, change["new"])
            self.address.value = ""
        elif change["new"]:  # Enter alone
            self.say("")
            self.address.value = ""

    def _on_page(self, change):
        """Turns to another page of a stack; a new one begins with the boxes that are drawn."""
        if change["new"] != self.picture.page + 1:
            self._open(self.picture.turned_to, change["new"] - 1, boxes=self.canvas.boxes)

    def _open(self, opening: Callable[..., OpenedPicture], *source, boxes: list[dict] | None = None):
        self.say("Opening the picture ...")
        try:
            self._use(opening(*source), boxes)
        finally:
            self._show_choices()

    def _use(self, picture: OpenedPicture, boxes: list[dict] | None):
        """Shows a picture as it was left, the first time with boxes, or those of the sample."""
        self._encode(picture)
        self.picture = picture
        if picture.sample is None:
            self._own = picture
            self.name_own(picture.file_name)
        first = _examples(picture) if boxes is None else _inside(boxes, picture)
        same = picture.file_name, picture.page, zlib.crc32(picture.image)
        self.canvas.show_picture(picture.image, first, same, picture.page)
        self._update()
        if boxes and len(first) < len(boxes) and self.canvas.boxes == first:
            count = len(boxes) - len(first)
            self.say(f"{self.canvas.status[0]} Boxes left out, as they lie outside this page: {count}.")

    def _encode(self, picture: OpenedPicture):
        self.say("Encoding the picture ...")
        start = time.perf_counter()
        self._encoded = self._predictor.encode(picture.image)
        self._encoding_ms = 1000 * (time.perf_counter() - start)
        self._predicted, self._shown = {}, {}

    # Models

    def _on_model(self, change):
        """Takes another model, of the menu or in a folder; the same one again if a space follows its name."""
        if change["new"] in (FOLDER, self._model) or not (model := change["new"].strip()):
            return
        try:
            self._load(model)
            self._encode(self.picture)
            self._update()
        finally:
            self._show_choices()

    def _load(self, model: str):
        hint = ", at its first use by a download of minutes" if model in PUBLISHED_MODELS else ""
        self.say(f"Loading the model {model}{hint} ...")
        predictor = deepmac.load(os.path.expanduser(model))  # noqa: PTH111 - a name is no path
        # The first call takes much longer than all others.
        predictor.predict([[0, 0, 1, 1]], encoded=predictor.encode(np.zeros((8, 8, 3), np.uint8)))
        self._predictor, self._model = predictor, model

    # Masks

    def _update(self):
        """Predicts the masks of the boxes that have none yet, and shows those of all.

        Small objects have two: the first is there at once, and the one from closer takes its place.
        """
        asked = [(tuple(item["box"]), *map(tuple, item.get("clicks", ()))) for item in self.canvas.boxes]
        start, before, self.prediction = time.perf_counter(), self.prediction, None
        now = [self.threshold.value, *asked]
        for button in self.exports.values():
            button.disabled = not asked
        new = [box for box in dict.fromkeys(box for box, *_ in asked) if box not in self._predicted]
        self._predict(new, closer=False)
        self._show(asked)
        if new and (small := self._small(new)):
            self._predict(list(small), closer=True)
            self._shown = {key: shown for key, shown in self._shown.items() if key[0][0] not in small}
            self._show(asked)
        if not asked:
            self.say("Draw a box around anything in the picture: press the mouse button, drag, let go.")
        elif new:
            count = f"{len(new)} new mask{'s' if len(new) > 1 else ''}"
            encoding = f"the picture was encoded once, in {self._encoding_ms:.0f} ms"
            self.say(f"{count} in {1000 * (time.perf_counter() - start):.0f} ms; {encoding}.")
        elif before is None:  # all had been removed
            self.say("The boxes are back, and their masks.")
        elif now != self._last:  # what was said is about others
            self.say(f"Masks: {len(asked)}, at a threshold of {now[0]:.2f}.")
        self._last = now

    def _predict(self, boxes: list[tuple], closer: bool):
        for first in range(0, len(boxes), _AT_ONCE):
            if len(boxes) > 1:
                self.say(f"Finding masks: {first} of {len(boxes)} done ...")
            batch = boxes[first : first + _AT_ONCE]
            predicted = self._predictor.predict(batch, "xyxy", encoded=self._encoded, closer=closer)
            self._predicted |= {box: _joined([predicted], [index]) for index, box in enumerate(batch)}

    def _small(self, boxes: list[tuple]) -> dict[tuple, None]:
        """The boxes of objects that are looked at from closer, neighbours side by side."""
        size = self.picture.image.shape[:2]
        crops = plan_crops(normalized_boxes(boxes, "xyxy", *size), *size, self._predictor.input_size)
        return dict.fromkeys(boxes[index] for indices in crops.values() for index in indices)

    def _show(self, asked: list[tuple]):
        """Shows the masks of boxes and their clicks."""
        threshold = self.threshold.value
        for key in asked:
            if (key, threshold) not in self._shown:
                part = _corrected(self._predicted[key[0]], key[1:], threshold)
                self._shown[key, threshold] = part, _canvas_mask(key, part)
        shown = {key: self._shown[key, threshold] for key in asked}
        self.prediction = _joined([shown[key][0] for key in asked]) if asked else None
        self.canvas.show_masks([mask for _, mask in shown.values()])

    # Exports

    def _drawing(self) -> Drawing:
        names = [item["name"] for item in self.canvas.boxes]
        opacity, outline = self.opacity.value, self.outline.value
        page = self.picture.page + 1 if self.picture.pages > 1 else 0
        return Drawing(self.picture.file_name, self.prediction, names, opacity, outline, page)

    def _on_export(self, button):
        """Asks the browser to ask for it: if the kernel was busy, what is seen comes after the press."""
        self.say(f"Making {button.description} ...")  # takes seconds if the picture is very large
        self.canvas.send({"export": button.description})

    def _export(self, title: str):
        """Writes a file beside the kernel, and lets the browser, which may run elsewhere, save it."""
        if self.prediction is None:
            raise InputError("There are no masks to save: draw a box first.")
        ending, make = EXPORTS[title]
        content = make(self._drawing())
        picture, folder = self.picture, self._export_dir.absolute()
        stem = file_stem(folder, picture.stem, picture.identity)
        name = f"{stem}_{ending}"
        self.canvas.send({"download": name}, [content])  # first: it needs no folder
        try:
            write_file(folder, stem, ending, picture.identity, content)
        except OSError as error:
            failed = f"the copy beside the kernel, in {folder}, cannot be written"
            raise InputError(f"Your browser downloads {name}; {failed}: {error.strerror}.") from error
        hint = ""
        if title == "Labels" and (hidden := hidden_pixels(self.prediction)):
            hint = f" Masks overlap: in this image larger ones lose {hidden:,} pixels to smaller ones. "
            hint += "COCO, ImageJ and Polygons keep every mask whole."
        self.say(f"Your browser downloads {name}; it is also in {folder}.{hint}")


def _examples(picture: OpenedPicture) -> list[dict]:
    """The boxes of a sample as the canvas takes them; none for other pictures."""
    drawn = SAMPLES[picture.sample].boxes if picture.sample else ()
    return [{"box": list(map(float, box)), "name": name} for name, box in drawn]


def _items(boxes: Sequence, picture: OpenedPicture) -> list[dict]:
    """Boxes (ymin, xmin, ymax, xmax) from 0 to 1 as the canvas takes them."""
    if isinstance(boxes, Sequence) and not boxes:
        return []
    height, width = picture.image.shape[:2]
    pixels = normalized_boxes(boxes, "yxyx_norm", height, width) * [height, width, height, width]
    return [{"box": box, "name": "object"} for box in pixels[:, [1, 0, 3, 2]].tolist()]


def _inside(items: list[dict], picture: OpenedPicture) -> list[dict]:
    """Boxes as far as they lie in a picture, without corrections, which belong to another one."""
    height, width = picture.image.shape[:2]
    boxes = [np.clip(item["box"], 0, [width, height] * 2).tolist() for item in items]
    named = zip(boxes, items, strict=True)
    return [{"box": b, "name": item["name"]} for b, item in named if b[0] < b[2] and b[1] < b[3]]


def _joined(parts: Sequence[deepmac.Prediction], kept=slice(None)) -> deepmac.Prediction:
    """The masks of several predictions in one picture as one, or some of them."""
    boxes = np.concatenate([part.boxes for part in parts])[kept]
    mask_probs = np.concatenate([part.mask_probs for part in parts])[kept]
    return dataclasses.replace(parts[0], boxes=boxes, mask_probs=mask_probs)


def _corrected(prediction: deepmac.Prediction, clicks: Sequence, threshold: float) -> deepmac.Prediction:
    """The only mask after clicks (x, y, 1 or -1) in pixels: each adds, or removes, what is near it."""
    if not clicks:
        return dataclasses.replace(prediction, threshold=threshold)
    ymin, xmin, ymax, xmax = prediction.boxes[0] * (prediction.image.shape[:2] * 2)
    probs, size = np.clip(prediction.mask_probs, 1e-4, 1 - 1e-4), prediction.mask_probs.shape[-1]
    log_odds, border = np.log(probs / (1 - probs)), np.log(threshold / (1 - threshold))
    middles = (np.arange(size) + 0.5) / size
    for x, y, sign in clicks:
        place = np.array([(y - ymin) / (ymax - ymin), (x - xmin) / (xmax - xmin)])
        row, column = np.clip((size * place).astype(int), 0, size - 1)
        distance = np.hypot(middles[:, np.newaxis] - place[0], middles - place[1])
        change = border + sign * _SURE - log_odds[0, row, column]
        log_odds += change * np.exp(-((distance / _REACH) ** 2) / 2)
    return dataclasses.replace(prediction, mask_probs=1 / (1 + np.exp(-log_odds)), threshold=threshold)


def _canvas_mask(key: tuple, prediction: deepmac.Prediction) -> dict:
    """A mask, the only one of `prediction`, as the canvas takes it; `key`: its box and clicks."""
    borders = [ring.ravel().tolist() for island in prediction.to_rings()[0] for ring in island]
    return {
        "of": [number for numbers in key for number in numbers],
        "path": "".join(f"M{' '.join(map(str, border))}Z" for border in borders),
        "area": mask_areas(prediction)[0],
        "quality": quality_words(prediction.quality)[0],
    }


def _uploaded(value) -> tuple[str, bytes]:
    """Name and content of the file in a `FileUpload`: a tuple of dicts; of ipywidgets 7 (Colab), a dict."""
    name, file = list(value.items())[-1] if isinstance(value, dict) else (value[-1]["name"], value[-1])
    return name, bytes(file["content"])
