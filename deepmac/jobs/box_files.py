"""Boxes of many pictures from one file: COCO JSON, MegaDetector JSON, CSV."""

import contextlib
import csv
import dataclasses
import io
import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePath, PurePosixPath

import numpy as np

from deepmac.core.boxes import BOX_FORMATS, normalized_boxes
from deepmac.core.errors import InputError
from deepmac.data.megadetector import Detections, read_json

_IMAGE_COLUMNS = ("image", "file_name", "filename", "file", "path")
# Box format -> columns of a CSV file.
CSV_COLUMNS = {
    "yxyx_norm": ("ymin", "xmin", "ymax", "xmax"),
    "xyxy": ("xmin", "ymin", "xmax", "ymax"),
    "xywh": ("xmin", "ymin", "width", "height"),
}


@dataclasses.dataclass
class ImageBoxes:
    """Boxes of one picture, not checked yet.

    Attributes:
        box_format: one of `deepmac.core.boxes.BOX_FORMATS`.
        boxes: N lists of 4 numbers.
        category_ids: N category ids.
        scores: N scores, None for boxes without.
        image_id: the file's id of the picture; None if it only has a name.
    """

    box_format: str
    boxes: list[list[float]]
    category_ids: list[int]
    scores: list[float | None]
    image_id: int | str | None = None


class BoxFile:
    """The boxes of a file, found by picture.

    The picture's path has to end with its name in the file. A name that is a whole path, perhaps of
    another machine, has to end with the picture's path relative to the folder that was asked for. Where the
    file has only ids, the picture's stem has to be the id.
    """

    def __init__(
        self,
        path: Path,
        table: Detections,
        ids: Sequence[int | str | None],
        box_format: str,
        min_score: float,
    ):
        """Sorts the pictures by name.

        Args:
            path: of the file, for messages.
            table: the boxes; pictures without a name are called "".
            ids: of its pictures; None for those without.
            box_format: of the boxes, or "megadetector".
            min_score: boxes with a lower score are left out.
        """
        self.path = path
        self._table, self._ids, self._box_format, self._min_score = table, ids, box_format, min_score
        self._by_name: dict[str, list[tuple[tuple[str, ...], int]]] = {}  # last part -> all parts, row
        self._by_id: dict[str, int] = {}
        for row, (name, image_id) in enumerate(zip(table.names, ids, strict=True)):
            parts = PurePosixPath(name).parts
            if parts and table.named_by == "file":
                self._by_name.setdefault(parts[-1], []).append((parts, row))
            else:
                self._by_id[str(image_id)] = row

    def of(self, path: Path, name: PurePath) -> ImageBoxes | None:
        """Finds the boxes of a picture; there may be none of it, or an empty list.

        Args:
            path: of the picture's file.
            name: its path relative to the folder that was asked for.

        Raises:
            InputError: the picture could be several ones of the file.
        """
        candidates = self._by_name.get(path.name, [])
        full, part = path.absolute().parts, name.parts
        fitting = [(key, row) for key, row in candidates if full[-len(key) :] == key] or [
            (key, row)
            for key, row in candidates
            if (key[0] == "/" or key[0].endswith(":")) and key[-len(part) :] == part
        ]
        if not fitting:
            row = self._by_id.get(path.stem, self._by_id.get(path.stem.lstrip("0")))
            return None if row is None else self._boxes(row)
        longest = max(len(key) for key, _ in fitting)
        fitting = [(key, row) for key, row in fitting if len(key) == longest]
        if len(fitting) > 1:
            names = " and ".join("/".join(key) for key, _ in fitting[:2])
            raise InputError(f"{self.path} has boxes for {names}, and {path} could be either")
        return self._boxes(fitting[0][1])

    def _boxes(self, row: int) -> ImageBoxes:
        found = self._table[row]
        boxes, box_format = found.boxes, self._box_format
        if box_format == "megadetector":
            boxes, box_format = found.exact_corners, "yxyx_norm"
        kept = np.flatnonzero(~(found.confidences < self._min_score))  # also those without
        scores = found.confidences[kept].tolist()
        return ImageBoxes(
            box_format,
            boxes[kept].tolist(),
            [int(found.categories[i]) for i in kept],
            [None if math.isnan(score) else score for score in scores],
            self._ids[row],
        )

    def describe(self) -> str:
        """What the file is called, and the first of its pictures."""
        names = ("/".join(key) for rows in self._by_name.values() for key, _ in rows)
        first = next(names, None) or next(iter(self._by_id), None)
        return f"{self.path}, with " + ("boxes of no picture" if first is None else f"{first!r} first")


def boxes_from_texts(texts: Sequence[str], box_format: str) -> ImageBoxes:
    """Reads boxes written as "Y0,X0,Y1,X1" (in the order of the box format).

    Raises:
        InputError: a text that is not four numbers; a normalised box that no picture can have.
    """
    boxes = []
    for index, text in enumerate(texts):
        try:
            y0, x0, y1, x1 = map(float, text.split(","))
        except ValueError as error:
            raise InputError(f"box {index} is not four numbers separated by commas: {text!r}") from error
        boxes.append([y0, x0, y1, x1])
    if box_format == "yxyx_norm":  # the others depend on the picture's size
        with warnings.catch_warnings(action="ignore"):
            normalized_boxes(boxes, box_format, height=1, width=1)
    return ImageBoxes(box_format, boxes, [1] * len(boxes), [None] * len(boxes))


def read_boxes(path: str | os.PathLike, box_format: str = "yxyx_norm", min_score: float = 0.0) -> BoxFile:
    """Reads boxes from a file.

    Args:
        path: `.csv` with a header: `image`, the columns of `CSV_COLUMNS` for the box format, and as you like
            `category_id` and `score`; or JSON: COCO results (a list with `image_id` or `file_name`, and
            `bbox`), COCO annotations (crowds are left out), or MegaDetector's batch output.
        box_format: of a CSV file; JSON formats have their own.
        min_score: boxes with a lower score are left out.

    Raises:
        InputError: no such file, another format, or a malformed entry.
    """
    path = Path(path)
    if box_format not in BOX_FORMATS:
        raise InputError(f"unknown box format {box_format!r}: use one of {', '.join(BOX_FORMATS)}")
    if path.suffix.lower() == ".csv":
        return BoxFile(path, *_read_csv(path, box_format), box_format, min_score)
    document = read_json(path)
    if isinstance(document, Detections):
        if not all(category.isdecimal() for category in document.found_categories):
            raise InputError(f"{path}: the ids of categories must be numbers")
        ids = document.names if document.named_by == "id" else [None] * len(document)
        return BoxFile(path, document, ids, "megadetector", min_score)
    if isinstance(document, list):
        return BoxFile(path, *_coco_results(path, document), "xywh", min_score)
    if isinstance(document, dict) and "annotations" in document and "images" in document:
        return BoxFile(path, *_coco_annotations(path, document), "xywh", min_score)
    raise InputError(
        f"{path} has boxes in no known format: give COCO results or annotations, MegaDetector's batch "
        "output, or a .csv table"
    )


def _coco_results(path, entries) -> tuple[Detections, list]:
    grouped = {}  # (name, id) -> boxes
    for index, entry in enumerate(entries):
        with _naming(path, "entry", index):
            name = _with_slashes(entry.get("file_name", ""))
            image_id = entry.get("image_id") if name else entry["image_id"]
            grouped.setdefault((name, image_id), []).append(_box(entry))
    return _table(grouped)


def _coco_annotations(path, document) -> tuple[Detections, list]:
    by_id = {}
    for index, image in enumerate(document["images"]):
        with _naming(path, "image", index):
            by_id[image["id"]] = (_with_slashes(image["file_name"]), image["id"])
    grouped = {key: [] for key in by_id.values()}
    for index, annotation in enumerate(document["annotations"]):
        with _naming(path, "annotation", index):
            boxes = grouped[by_id[annotation["image_id"]]]
            if not annotation.get("iscrowd"):
                boxes.append(_box(annotation))
    return _table(grouped)


@contextlib.contextmanager
def _naming(path, what, index):
    """Says which entry of a file is malformed."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise InputError(f"{path}: {what} {index} is malformed: {reason}") from error


def _read_csv(path, box_format) -> tuple[Detections, list]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read boxes from {path}: {error}") from error
    rows = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    header = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
    image = next((header[name] for name in _IMAGE_COLUMNS if name in header), None)
    columns = CSV_COLUMNS[box_format]
    if image is None or any(name not in header for name in columns):
        raise InputError(
            f"{path} needs a header with the columns image, {', '.join(columns)} for {box_format} "
            f"boxes, not {', '.join(header) or 'nothing'}"
        )
    grouped = {}
    for row in rows:
        with _naming(path, "line", rows.line_num):
            optional = {name: row[header[name]] for name in ("category_id", "score") if name in header}
            box = _box({**optional, "bbox": [row[header[name]] for name in columns]})
            grouped.setdefault((_with_slashes(row[image]), None), []).append(box)
    return _table(grouped)


def _box(entry):
    """A box as `Detections` takes it."""
    box, score = list(map(float, entry["bbox"])), entry.get("score")
    if len(box) != 4:
        raise ValueError(f"bbox has {len(box)} numbers instead of 4")
    return box, int(entry.get("category_id", 1)), math.nan if score is None else float(score)


def _with_slashes(name):
    return name.replace("\\", "/")


def _table(grouped):
    """Boxes by (name, id) of their picture -> table, ids."""
    table = Detections()
    for (name, _), boxes in grouped.items():
        table.add(name, boxes)
    return table, [image_id for _, image_id in grouped]
