"""The work behind `deepmac annotate`: masks for the annotations of a data set that have none.

Masks go into a journal beside the result, those of a picture at once. A run that was killed reads it and
makes what is missing; the result is written in one go when nothing is.
"""

import contextlib
import dataclasses
import functools
import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from deepmac.core.errors import InputError
from deepmac.core.files import atomic_file, atomic_folder
from deepmac.core.polygons import join, polygon, rings
from deepmac.data.coco import CocoData, read_coco
from deepmac.data.flaws import TRAINING
from deepmac.data.formats import load_annotations
from deepmac.data.picture_files import read_annotated
from deepmac.data.segmentations import run_lengths
from deepmac.inference.prediction import Prediction
from deepmac.jobs.box_files import ImageBoxes
from deepmac.jobs.stream import ModelChoice, PictureJob, Summary, fingerprint, segment_pictures

_POSITION = "position in the file"  # key of an annotation while it is worked on


@dataclasses.dataclass(frozen=True)
class MaskOptions:
    """What masks are made, and how they are written.

    Attributes:
        replace: whether annotations that have a mask get a new one.
        rle: run lengths instead of polygons.
        min_quality: 0 to 1; masks of lower quality are left out.
    """

    replace: bool = False
    rle: bool = False
    min_quality: float = 0.0


def annotate(
    annotations: str | Path,
    images: str | Path,
    out: str | Path,
    model: ModelChoice,
    options: MaskOptions = MaskOptions(),
    file_format: str = "coco",
) -> str:
    """Writes a data set again, with a mask for every annotation that has none.

    Args:
        annotations: file in COCO format.
        images: folder of its pictures.
        out: file to write, for "yolo" a folder; must not exist.
        model: what makes the masks.
        options: which masks, and how.
        file_format: "coco": the same file, in which annotations get `segmentation` and `quality`; "yolo":
            `labels/NAME.txt` with a polygon for each annotation, and `data.yaml`.

    Returns:
        What became of pictures and annotations, and a line for what was left out or skipped.

    Raises:
        InputError: unusable annotations, no such model, `out` exists, or all pictures were skipped.
    """
    out = Path(out)
    if out.exists():
        raise InputError(f"{out} already exists: name another one, or delete it")
    document = load_annotations(Path(annotations), Path(images))
    _add_positions(document)
    data = read_coco(document, TRAINING, image_dir=Path(images), name=str(annotations))
    state = fingerprint(Path(annotations), model.state(), dataclasses.asdict(options))
    with contextlib.closing(_Journal(out.with_name(f".{out.name}-masks.sqlite"), state)) as journal:
        jobs = _jobs(data, journal, options)
        became = Summary(pictures=len(data.images), present=len(journal.pictures))
        became.count(segment_pictures(jobs, model))
        became.require_success()
        if file_format == "coco":
            _write_coco(document, journal, out)
        else:
            write_yolo(data, out, lambda entry: journal.mask(entry[_POSITION]))
        made = f"{len(journal)} of {_count_wanted(document, data, options)} masks made; {became}"
        lines = [*data.lost, *became.problems(), made]
    journal.path.unlink()
    return "\n".join(lines)


def _add_positions(document: dict) -> None:
    """Lets annotations know their position, because the reader may number, mend and drop them."""
    entries = document.get("annotations")
    for number, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, dict):
            entry[_POSITION] = number


class _Journal:
    """Masks by the position of their annotation, in a database; safe to use from several threads."""

    def __init__(self, path: Path, state: str):
        """Opens a journal; what another state of data, model or options wrote is forgotten."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._state, self._lock = path, state, threading.Lock()
        try:
            self._rows = sqlite3.connect(path, check_same_thread=False)
            with self._rows:
                for table in ("pictures", "masks"):
                    columns = "(id INTEGER PRIMARY KEY, state, mask)"
                    self._rows.execute(f"CREATE TABLE IF NOT EXISTS {table} {columns}")
                    self._rows.execute(f"DELETE FROM {table} WHERE state != ?", [state])
        except sqlite3.Error as error:
            raise InputError(f"cannot write {path}: {error}") from error
        self.pictures = {picture for (picture,) in self._rows.execute("SELECT id FROM pictures")}

    def __len__(self):
        return self._rows.execute("SELECT count(*) FROM masks").fetchone()[0]

    def add(self, image_id: int, masks: dict[int, dict]) -> None:
        """Writes the masks of a picture, all or none: position of the annotation -> what it gets."""
        rows = [(position, self._state, json.dumps(mask)) for position, mask in masks.items()]
        with self._lock, self._rows:
            self._rows.executemany("INSERT OR REPLACE INTO masks VALUES (?, ?, ?)", rows)
            self._rows.execute("INSERT OR REPLACE INTO pictures VALUES (?, ?, NULL)", [image_id, self._state])
        self.pictures.add(image_id)

    def mask(self, position: int) -> dict:
        """What the annotation of a position gets; nothing if no mask was made for it."""
        row = self._rows.execute("SELECT mask FROM masks WHERE id = ?", [position]).fetchone()
        return json.loads(row[0]) if row else {}

    def close(self) -> None:
        """Closes the file."""
        self._rows.close()


@dataclasses.dataclass(frozen=True, eq=False)
class _AnnotateJob(PictureJob):
    """A picture whose masks go into the journal.

    Attributes:
        image_id: of the picture.
        size: its width and height in pixels, as annotated.
        positions: of the annotations of its boxes.
    """

    image_id: int
    size: tuple[int, int]
    positions: list[int]
    journal: _Journal
    options: MaskOptions

    def read(self, path: Path) -> np.ndarray:
        return read_annotated(path, self.size)

    def write(self, prediction: Prediction) -> None:
        if self.options.rle:
            masks: list[Any] = [entry["segmentation"] for entry in prediction.to_coco(self.image_id)]
            is_empty = [not area for area in coco_mask.area(masks)]
        else:
            masks = prediction.to_polygons()
            is_empty = [not polygons for polygons in masks]
        quality = [round(value, 3) for value in prediction.quality.tolist()]
        self.journal.add(
            self.image_id,
            {
                position: {"segmentation": mask, "quality": value}
                for position, mask, value, empty in zip(self.positions, masks, quality, is_empty, strict=True)
                if not empty and value >= self.options.min_quality
            },
        )


def _is_wanted(annotation: dict, options: MaskOptions) -> bool:
    return not annotation.get("iscrowd") and (options.replace or not annotation.get("segmentation"))


def _count_wanted(document: dict, data: CocoData, options: MaskOptions) -> int:
    """How many annotations want a mask, also of those that the reader left out."""
    read = {entry[_POSITION]: entry for entry in data.annotations}
    entries = (read.get(number, given) for number, given in enumerate(document["annotations"]))
    return sum(not isinstance(entry, dict) or _is_wanted(entry, options) for entry in entries)


def _jobs(data: CocoData, journal: _Journal, options: MaskOptions) -> list[_AnnotateJob]:
    """The pictures with annotations that want a mask, without those that are done."""
    jobs = []
    for image_id, annotations in data.annotations_of_images().items():
        wanted = [entry for entry in annotations if _is_wanted(entry, options)]
        if not wanted or image_id in journal.pictures:
            continue
        image = data.images[image_id]
        path = Path(data.image_dir or ".", image["file_name"])
        jobs.append(
            _AnnotateJob(
                name=str(path),
                path=path,
                given=ImageBoxes("xywh", [entry["bbox"] for entry in wanted]),
                target=journal.path,  # holds no label image: nothing of what is asked for is there yet
                fingerprint="",
                image_id=image_id,
                size=(image["width"], image["height"]),
                positions=[entry[_POSITION] for entry in wanted],
                journal=journal,
                options=options,
            )
        )
    return jobs


def _write_coco(document: dict, journal: _Journal, out: Path) -> None:
    """The document as it was, with the masks; they are never all in memory."""
    with atomic_file(out) as path, path.open("w", encoding="utf-8") as file:
        file.write("{")
        for number, (key, value) in enumerate(document.items()):
            file.write(f"{', ' if number else ''}{json.dumps(key)}: ")
            if key != "annotations":
                file.write(_json(value))
                continue
            file.write("[")
            for position, entry in enumerate(value):
                if isinstance(entry, dict):
                    entry = entry | journal.mask(position)
                    del entry[_POSITION]
                file.write(f"{',' if position else ''}\n{_json(entry)}")
            file.write("]")
        file.write("}\n")


def _json(value: Any) -> str:
    """A value as JSON, which knows neither NaN nor infinity: they become null."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(json.loads(json.dumps(value), parse_constant=lambda name: None))


def write_yolo(data: CocoData, out: Path, made: Callable[[dict], dict] = lambda entry: {}) -> None:
    """Writes annotations as Ultralytics reads them, into a folder that is new or empty.

    `data.yaml`, and for every picture a file of lines: class, from 0, and x0 y0 x1 y1 … from 0 to 1. `made`
    gives what an annotation has besides.
    """
    names = {category["id"]: category["name"] for category in data.categories}
    numbers = {category_id: number for number, category_id in enumerate(sorted(names))}
    with atomic_folder(out) as folder:
        # Without `path`, Ultralytics starts from the folder of the file.
        content = {"train": "images", "val": "images", "names": [names[one] for one in numbers]}
        text = json.dumps(content, ensure_ascii=False, indent=1)  # JSON is YAML
        (folder / "data.yaml").write_text(text, encoding="utf-8")
        for image_id, annotations in data.annotations_of_images().items():
            image = data.images[image_id]
            lines = []
            for entry in annotations:
                polygon = _one_polygon(entry | made(entry), image)
                corners = " ".join(f"{value:.6g}" for value in polygon.ravel())
                lines.append(f"{numbers[entry['category_id']]} {corners}\n")
            path = (folder / "labels" / image["file_name"]).with_suffix(".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(lines), encoding="utf-8")


def polygons(segmentation: list | dict, image: dict) -> list[list[float]]:
    """A `segmentation` as polygons, in pixels; `image` has the height and width of its picture."""
    if not isinstance(segmentation, dict):
        return segmentation
    height, width = image["height"], image["width"]
    # Samples in the middle of pixels, and a pixel of nothing around the picture.
    box = np.array([-1, -1, height, width]) / np.maximum([height - 1, width - 1] * 2, 1)
    islands = rings(np.pad(coco_mask.decode(run_lengths(segmentation)), 1), box, height, width)
    return [polygon(island) for island in islands]


def _one_polygon(annotation: dict, image: dict) -> np.ndarray:
    """The mask of an annotation as one polygon [n, 2] from 0 to 1, islands joined; without a mask its box."""
    x, y, w, h = annotation["bbox"]
    corners = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    islands = polygons(annotation["segmentation"], image) or corners
    joined = functools.reduce(join, (np.reshape(island, (-1, 2)) for island in islands))
    return np.clip(joined / [image["width"], image["height"]], 0, 1)
