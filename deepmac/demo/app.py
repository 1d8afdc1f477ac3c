"""The demo: what happens when one draws a box, chooses a picture or a model, or exports."""

import base64
import dataclasses
import io
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import deepmac
from deepmac.core.drawing import overlay
from deepmac.core.errors import InputError
from deepmac.core.files import atomic_file
from deepmac.demo.canvas import DrawnBoxes
from deepmac.demo.controls import FOLDER, Controls
from deepmac.demo.exports import coco_dataset, mask_table
from deepmac.demo.samples import SAMPLES
from deepmac.demo.sources import OpenedPicture, open_picture, opened_upload

_LARGEST_LINK = 20 << 20  # bytes: a page with more in a link becomes slow
_NO_BOXES = DrawnBoxes(np.zeros((0, 4)), [])


class Demo(Controls):
    """The window, alive: `Demo()` as the last line of a cell shows it.

    Attributes:
        picture: the picture as it was opened.
        drawn: the boxes that have masks.
        prediction: their masks, at the picture's own size; None without boxes.
    """

    def __init__(
        self,
        picture: str | os.PathLike = "coffee",
        boxes: Sequence[Sequence[float]] | None = None,
        model: str | os.PathLike = "mini",
        export_dir: str | os.PathLike = "runs/demo",
    ):
        """Opens the window.

        Args:
            picture: a sample (a key of `SAMPLES`), a path or an address.
            boxes: N boxes to begin with, (ymin, xmin, ymax, xmax) from 0 to 1; those of the sample
                unless given.
            model: as for `deepmac.load`.
            export_dir: where exported files go; created when needed.

        Raises:
            InputError: no such picture or model, or unusable boxes.
        """
        super().__init__()
        self._export_dir = Path(export_dir)
        self._set_picture(open_picture(picture), _ready(model))
        if boxes is None:
            self._draw_examples()
        else:
            self._draw_given(boxes)
        self._model = os.fspath(model)
        self._show_choices()
        self._update()
        self._connect()

    def figure(self) -> Figure:
        """The picture with its masks, boxes and names as they are now: a figure for pages without widgets."""
        image = self.canvas.picture
        if self.prediction is not None:
            image = self._masked(image, self.prediction.boxes, self.drawn.names)
        height, width = self.canvas.size
        figure = Figure(figsize=(width / 80, height / 80))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.imshow(image)
        axes.set_axis_off()
        return figure

    def _connect(self):
        for control, handler in (
            (self.sample, self._on_sample),
            (self.upload, self._on_upload),
            (self.address, self._on_address),
            (self.model, self._on_model),
            (self.folder, self._on_folder),
            (self.name, self._on_name),
            (self.opacity, self._on_style),
            (self.threshold, self._on_style),
            (self.outline, self._on_style),
        ):
            control.observe(self._guarded(handler), names="value")
        self.canvas.observe(self._guarded(self._on_boxes), names="bboxes")
        self.canvas.observe(self._on_selection, names="selected_index")
        for button, handler in (
            (self.examples, self._draw_examples),
            (self.remove, self._remove_selected),
            (self.clear, lambda: self.canvas.draw(*_NO_BOXES)),
            (self.coco, self._export_coco),
            (self.labels, self._export_labels),
            (self.overlay, self._export_overlay),
        ):
            button.on_click(self._guarded(lambda _, handler=handler: handler()))

    def _guarded(self, handler: Callable) -> Callable:
        """The handler, with wrong input told in the window."""

        def guarded(event):
            try:
                handler(event)
            except (InputError, OSError) as error:
                self.say(str(error), error=True)

        return guarded

    def _show_choices(self):
        """Shows which sample and which model are used, if only because another one could not be opened."""
        self.sample.value = self.picture.sample
        known = [value for _, value in self.model.options]
        self.model.value = self._model if self._model in known else FOLDER
        if self.model.value == FOLDER:
            self.folder.value = self._model

    # Pictures

    def _on_sample(self, change):
        if change["new"] not in (None, self.picture.sample):
            self._open(open_picture, change["new"])

    def _on_upload(self, change):
        if change["new"]:
            self._open(opened_upload, *_uploaded(change["new"]))

    def _on_address(self, change):
        if change["new"].strip():
            self._open(open_picture, change["new"])
            self.address.value = ""

    def _open(self, opening: Callable[..., OpenedPicture], *source):
        self.say("Opening the picture ...")
        try:
            self._set_picture(opening(*source), self._predictor)
            self._draw_examples()
        finally:
            self._show_choices()

    def _set_picture(self, picture: OpenedPicture, predictor: deepmac.Predictor):
        start = time.perf_counter()
        self._encoded = predictor.encode(picture.image)
        self._encoding_ms = 1000 * (time.perf_counter() - start)
        self._predictor, self.picture = predictor, picture
        self.drawn, self.prediction = _NO_BOXES, None
        self.examples.disabled = picture.sample is None
        self.canvas.begin(picture.image)
        self._show()

    # Models

    def _on_model(self, change):
        if change["new"] not in (FOLDER, self._model):
            self._load(change["new"])

    def _on_folder(self, change):
        if change["new"].strip() not in ("", self._model):
            self._load(change["new"].strip())

    def _load(self, model):
        self.say(f"Loading {model} ...")
        try:
            with self.progress:  # shows how far a download is
                predictor = _ready(os.path.expanduser(model))  # noqa: PTH111 - a name is no path
            self._encoded = predictor.encode(self.picture.image)
            self._predictor, self._model = predictor, model
            self._update(again=True)
        finally:
            self.progress.clear_output()
            self._show_choices()

    # Boxes

    def _draw_examples(self):
        if self.picture.sample is not None:
            sample = SAMPLES[self.picture.sample]
            self.canvas.draw(sample.normalized_boxes(), sample.names)

    def _draw_given(self, boxes):
        if isinstance(boxes, Sequence) and not boxes:
            return
        checked = self._predictor.predict(boxes, encoded=self._encoded).boxes
        self.canvas.draw(checked, [f"object {number}" for number in range(1, len(checked) + 1)])

    def _remove_selected(self):
        if (index := self.canvas.selected) is not None:
            self.canvas.selected_index = -1
            self.canvas.bboxes = [box for i, box in enumerate(self.canvas.bboxes) if i != index]

    def _on_boxes(self, _change):
        self._update()
        self._on_selection(None)

    def _on_selection(self, _change):
        """Shows the selected box's name where it can be changed."""
        index = self.canvas.selected
        self.name.disabled = self.remove.disabled = index is None
        self.name.value = "" if index is None else self.canvas.bboxes[index].get("label", "")

    def _on_name(self, change):
        if (index := self.canvas.selected) is not None:
            boxes = [dict(box) for box in self.canvas.bboxes]
            boxes[index]["label"] = change["new"]
            self.canvas.bboxes = boxes

    # Masks

    def _update(self, again: bool = False):
        """Predicts the masks of the boxes on the canvas and shows them, if there are other ones than before.

        Args:
            again: whether they are predicted in any case.
        """
        drawn = self.canvas.drawn()
        if drawn.names == self.drawn.names and np.array_equal(drawn.boxes, self.drawn.boxes) and not again:
            return
        start = time.perf_counter()
        self.drawn, self.prediction = drawn, None
        if drawn.names:
            self.prediction = self._predictor.predict(
                drawn.boxes, encoded=self._encoded, threshold=self.threshold.value
            )
        self._predicting_ms = 1000 * (time.perf_counter() - start)
        self._show()

    def _on_style(self, _change):
        if self.prediction is not None:
            self.prediction = dataclasses.replace(self.prediction, threshold=self.threshold.value)
            self._show()

    def _show(self):
        """Shows the masks: on the canvas, as a table and in a line."""
        for button in (self.coco, self.labels, self.overlay):
            button.disabled = self.prediction is None
        if self.prediction is None:
            self.canvas.show(self.canvas.picture)
            self.masks.value = ""
            self.say("Draw a box around anything in the picture: press the mouse button, drag, let go.")
            return
        self.canvas.show(self._masked(self.canvas.picture))
        names = self.drawn.names
        self.masks.value = mask_table(self.prediction, names, self.canvas.colors_of(names))
        count = len(self.prediction)
        self.say(
            f"{count} mask{'s' if count > 1 else ''} in {self._predicting_ms:.0f} ms. The picture was "
            f"encoded once, in {self._encoding_ms:.0f} ms."
        )

    def _masked(self, image: np.ndarray, boxes=None, names=None) -> np.ndarray:
        """The masks over the picture in any size, uint8 RGB [H, W, 3], with boxes and names if given."""
        return overlay(
            image,
            dataclasses.replace(self.prediction, image=image).to_label_image(),
            boxes,
            names,
            opacity=self.opacity.value,
            outline=self.outline.value,
            colors=self.canvas.colors_of(self.drawn.names),
        )

    # Exports

    def _export_coco(self):
        dataset = coco_dataset(self.picture.file_name, self.prediction, self.drawn.names)
        self._export("masks.json", "application/json", json.dumps(dataset).encode())

    def _export_labels(self):
        self._export("labels.png", "image/png", _png(self.prediction.to_label_image()))

    def _export_overlay(self):
        self.say("Drawing the masks on the whole picture ...")  # takes seconds if that is very large
        picture = self._masked(self.picture.image, self.prediction.boxes, self.drawn.names)
        self._export("overlay.png", "image/png", _png(picture))

    def _export(self, name, media_type, content: bytes):
        """Writes a file beside the kernel, and offers it to the browser, which may run elsewhere."""
        path = self._export_dir / f"{self.picture.stem}_{name}"
        with atomic_file(path) as temporary:
            temporary.write_bytes(content)
        link = ""
        if len(content) <= _LARGEST_LINK:
            data = base64.b64encode(content).decode()
            style = "text-decoration: underline; color: var(--jp-content-link-color, #06c)"
            address = f"data:{media_type};base64,{data}"
            link = f'<a download="{path.name}" href="{address}" style="{style}">Download it</a>'
        self.say(f"Written to {path}.", link=link)


def _ready(model) -> deepmac.Predictor:
    """Loads a model and uses it once: the first call takes much longer than all others."""
    predictor = deepmac.load(model)
    predictor.predict([[0, 0, 1, 1]], encoded=predictor.encode(np.zeros((8, 8, 3), np.uint8)))
    return predictor


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def _uploaded(value) -> tuple[str, bytes]:
    """Name and content of the file in a `FileUpload`: a tuple of dicts; of ipywidgets 7 (Colab), a dict."""
    if isinstance(value, dict):
        [(name, file)] = list(value.items())[-1:]
    else:
        file = value[-1]
        name = file["name"]
    return name, bytes(file["content"])
