"""A browser of a collection for notebooks: filters at the left, pictures with masks at the right."""

import html
import io
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import pandas as pd
from PIL import Image

from deepmac.core.files import atomic_file
from deepmac.iwildcam import views
from deepmac.iwildcam.coco import write_coco
from deepmac.iwildcam.collection import Collection
from deepmac.iwildcam.tables import ANY, Selection

VIEWS = ("picture", "sequence", "grid")
_GRID = 12  # pictures of the grid view
_MOST_SUGGESTIONS = 1000
_STYLE = {"description_width": "90px"}


class Browser(widgets.HBox):
    """Shows the pictures of a collection that fit the filters, one at a time, by sequence or as a grid.

    Attributes:
        filters: widgets of the filters by the attribute of `Selection` they set; areas in percent.
        selected: rows of the pictures' table that fit, camera by camera, in the order of time.
        position: which of them is shown; of a grid the first one.
    """

    def __init__(
        self,
        collection: Collection,
        pictures: pd.DataFrame,
        objects: pd.DataFrame,
        export_dir: str | Path = "selection",
    ):
        """Builds the widgets.

        Args:
            collection: what to show.
            pictures: its pictures' table.
            objects: its objects' table.
            export_dir: folder that the button `export` writes to.
        """
        self._collection, self._pictures, self._objects = collection, pictures, objects
        self._export_dir = Path(export_dir)
        # A picture without a sequence is one of its own.
        self._bursts = pictures["sequence"].where(pictures["sequence"] != "", pictures["id"]).to_numpy()
        self.selected: list[int] = []
        self.position = 0
        self._make_filters()
        self._make_controls()
        checks = widgets.HBox([self.boxes, self.ids])
        left = widgets.VBox(
            [*self.filters.values(), self.opacity, checks, self.export, self.exported],
            layout={"min_width": "330px"},
        )
        right = widgets.VBox(
            [widgets.HBox([self.previous, self.next, self.view]), self.status, self.image],
            layout={"flex": "1 1 auto", "min_width": "0"},
        )
        super().__init__([left, right])
        for widget in self.filters.values():
            widget.observe(lambda _: self._select(), "value")
        for widget in (self.view, self.opacity, self.boxes, self.ids):
            widget.observe(lambda _: self._show(), "value")
        self.next.on_click(lambda _: self._step(1))
        self.previous.on_click(lambda _: self._step(-1))
        self.export.on_click(lambda _: self._export())
        self._select()

    @property
    def selection(self) -> Selection:
        """What the filters ask for."""
        values = {name: widget.value for name, widget in self.filters.items()}
        values["sequence"] = values["sequence"].strip() or ANY
        values["mask_area"] = tuple(value / 100 for value in values["mask_area"])
        return Selection(**values)

    def _make_filters(self) -> None:
        options = {"style": _STYLE, "layout": {"width": "320px"}}

        def choice(values, text):
            values = sorted(set(values) - {""}, key=lambda value: (len(value), value))
            return widgets.Dropdown(options=[ANY, *values], description=text, **options)

        def span(most, text, step, kind=widgets.FloatRangeSlider):
            bounds = {"value": (0, most), "min": 0, "max": most, "step": step, "continuous_update": False}
            return kind(description=text, **bounds, **options)

        pictures, objects = self._pictures, self._objects
        largest = 100 * float(objects["mask_area"].max()) if len(objects) else 0.0
        most = int(objects["picture"].value_counts().max()) if len(objects) else 0
        self.filters = {
            "split": choice(pictures["split"], "split"),
            "location": choice(pictures["location"], "location"),
            "sequence": widgets.Combobox(  # there are too many to list: any may be typed
                options=pictures["sequence"].drop_duplicates().head(_MOST_SUGGESTIONS).tolist(),
                placeholder=ANY,
                continuous_update=False,
                description="sequence",
                **options,
            ),
            "category": choice(pictures["category"], "category"),
            "detection_category": choice(objects["detection_category"], "detected"),
            "confidence": span(1.0, "confidence", 0.01),
            "mask_area": span(max(1.0, -(-largest // 1)), "mask area, %", 0.1),
            "animals": span(max(1, most), "animals", 1, widgets.IntRangeSlider),
        }
        for name, widget in self.filters.items():
            widget.add_class(f"deepmac-filter-{name.replace('_', '-')}")

    def _make_controls(self) -> None:
        self.previous = widgets.Button(icon="arrow-left", description="previous")
        self.next = widgets.Button(icon="arrow-right", description="next")
        self.view = widgets.ToggleButtons(options=VIEWS, style={"button_width": "auto"})
        self.opacity = widgets.FloatSlider(0.5, min=0, max=1, step=0.05, description="opacity", style=_STYLE)
        self.opacity.continuous_update = False
        self.boxes = widgets.Checkbox(True, description="boxes", indent=False, layout={"width": "80px"})
        self.ids = widgets.Checkbox(True, description="ids", indent=False, layout={"width": "60px"})
        self.export = widgets.Button(icon="download", description="export")
        self.exported, self.status = widgets.HTML(), widgets.HTML()
        self.image = widgets.Image(format="jpeg", layout={"max_width": "100%"})
        for name in ("previous", "next", "status", "image", "export"):
            getattr(self, name).add_class(f"deepmac-{name}")

    def _select(self) -> None:
        """Applies the filters; the picture that is shown stays, if it still fits."""
        shown = self.selected[self.position] if self.selected else None
        self.selected = self.selection.rows(self._pictures, self._objects)
        self.position = self.selected.index(shown) if shown in self.selected else 0
        self._show()

    def _step(self, by: int) -> None:
        """Goes to the next or previous picture, sequence or grid; from the last to the first."""
        if not self.selected:
            return
        count = len(self.selected)
        if self.view.value == "grid":
            pages = -(-count // _GRID)
            self.position = (self.position // _GRID + by) % pages * _GRID
        elif self.view.value == "sequence":
            of_each = self._bursts[self.selected].tolist()
            bursts = list(dict.fromkeys(of_each))
            place = bursts.index(of_each[self.position])
            self.position = of_each.index(bursts[(place + by) % len(bursts)])
        else:
            self.position = (self.position + by) % count
        self._show()

    def _show(self) -> None:
        """Draws what is at the position, and says what it is."""
        count, total = len(self.selected), len(self._pictures)
        if not count:
            self.status.value = f"no picture of {total} fits"
            self.image.value = _jpeg(Image.new("RGB", (320, 120), (235, 235, 235)))
            return
        collection, options = self._collection, {"opacity": self.opacity.value, "boxes": self.boxes.value}
        if self.view.value == "grid":
            start = self.position // _GRID * _GRID
            shown = [collection.pictures[row] for row in self.selected[start : start + _GRID]]
            self.status.value = f"<b>{start + 1} to {start + len(shown)} of {count}</b> ({total} in all)"
            self.image.value = _jpeg(views.sheet(collection, shown, **options))
            return
        row = self.selected[self.position]
        picture = collection.pictures[row]
        counted = "" if picture.count is None else f" · {picture.count} animals counted in it"
        name, sequence = html.escape(picture.name), html.escape(picture.sequence or "-")
        self.status.value = (
            f"<b>{self.position + 1} of {count}</b> ({total} in all) · {html.escape(views.caption(picture))}"
            f"<br><small>{name} · sequence {sequence}{counted}</small>"
        )
        if self.view.value == "sequence":  # all of it, whether or not it fits the filters
            burst = [collection.pictures[i] for i in np.flatnonzero(self._bursts == self._bursts[row])]
            image = views.sheet(collection, views.in_time_order(burst), columns=3, tile=400, **options)
        else:
            counting = self.selection.counting(self._objects[self._objects["picture"] == row])
            numbers = counting["number"].tolist()
            image = views.picture_view(collection, picture, numbers, ids=self.ids.value, **options)
        self.image.value = _jpeg(image)

    def _export(self) -> None:
        """Writes the selected pictures as a table, and their masks as COCO JSON."""
        chosen = [self._collection.pictures[row] for row in self.selected]
        table = self._pictures.loc[self.selected].assign(name=[picture.name for picture in chosen])
        with atomic_file(self._export_dir / "selection.csv") as path:
            table.to_csv(path, index=False)
        images, annotations = write_coco(self._export_dir / "selection_coco.json", self._collection, chosen)
        self.exported.value = (
            f"{len(chosen)} pictures in selection.csv; {annotations} masks of {images} pictures in "
            f"selection_coco.json, in {self._export_dir}"
        )


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=88)
    return buffer.getvalue()
