"""Boxes of many pictures from one file: COCO JSON, MegaDetector JSON, CSV."""

import csv
import dataclasses
import io
import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePath, PurePosixPath

from deepmac.core.boxes import BOX_FORMATS, normalized_boxes
from deepmac.core.errors import InputError

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
        image_id: the file's id of the picture; None if it only has a name.
        boxes: N lists of 4 numbers.
        category_ids: N category ids.
        scores: N scores, None for boxes without.
    """

    box_format: str
    image_id: int | str | None = None
    boxes: list[list[float]] = dataclasses.field(default_factory=list)
    category_ids: list[int] = dataclasses.field(default_factory=list)
    scores: list[float | None] = dataclasses.field(default_factory=list)


class BoxFile:
    """The boxes of a file, found by picture.

    The picture's path has to end with its name in the file. A name that is a whole path, perhaps of
    another machine, has to end with the picture's path relative to the folder that was asked for. Where the
    file has only ids, the picture's stem has to be the id.
    """

    def __init__(self, path: str | os.PathLike):
        """Args: path: of the file, for messages."""
        self.path = Path(path)
        self._by_name: dict[str, dict[tuple[str, ...], ImageBoxes]] = {}  # last part -> all parts -> boxes
        self._by_id: dict[str, ImageBoxes] = {}

    def named(self, name: str, box_format: str, image_id: int | str | None = None) -> ImageBoxes:
        """The boxes of the picture of a name, to be added to."""
        parts = PurePosixPath(name.replace("\\", "/")).parts
        images = self._by_name.setdefault(parts[-1] if parts else "", {})
        return images.setdefault(parts, ImageBoxes(box_format, image_id))

    def numbered(self, image_id: int | str, box_format: str) -> ImageBoxes:
        """The boxes of the picture of an id, to be added to."""
        return self._by_id.setdefault(str(image_id), ImageBoxes(box_format, image_id))

    def of(self, path: Path, name: PurePath) -> ImageBoxes | None:
        """Finds the boxes of a picture; there may be none of it, or an empty list.

        Args:
            path: of the picture's file.
            name: its path relative to the folder that was asked for.

        Raises:
            InputError: the picture could be several ones of the file.
        """
        images = self._by_name.get(path.name, {})
        full, part = path.absolute().parts, name.parts
        fitting = [key for key in images if full[-len(key) :] == key]
        fitting = fitting or [key for key in images if _is_absolute(key) and key[-len(part) :] == part]
        if not fitting:
            return self._by_id.get(path.stem) or self._by_id.get(path.stem.lstrip("0"))
        longest = max(map(len, fitting))
        fitting = [key for key in fitting if len(key) == longest]
        if len(fitting) > 1:
            names = " and ".join("/".join(key) for key in fitting[:2])
            raise InputError(f"{self.path} has boxes for {names}, and {path} could be either")
        return images[fitting[0]]

    def describe(self) -> str:
        """What the file is called, and the first of its pictures."""
        names = ("/".join(key) for images in self._by_name.values() for key in images)
        first = next(names, None) or next(iter(self._by_id), None)
        return (
            f"{self.path}, with boxes of no picture"
            if first is None
            else f"{self.path}, with {first!r} first"
        )


def _is_absolute(parts):
    return parts[0] == "/" or parts[0].endswith(":")  # of Windows


class SameBoxes:
    """The same boxes for every picture."""

    def __init__(self, boxes: ImageBoxes):
        """Args: boxes: of every picture."""
        self._boxes = boxes

    def of(self, path: Path, name: PurePath) -> ImageBoxes:
        """The boxes of a picture; arguments as of `BoxFile.of`."""
        return self._boxes

    def describe(self) -> str:
        """Where the boxes come from."""
        return "the command line"


def boxes_from_texts(texts: Sequence[str], box_format: str) -> SameBoxes:
    """Reads boxes written as "Y0,X0,Y1,X1" (in the order of the box format).

    Raises:
        InputError: a text that is not four numbers; a normalised box that no picture can have.
    """
    boxes = ImageBoxes(box_format)
    for index, text in enumerate(texts):
        try:
            _append(boxes, text.split(","), 1, None, 0)
        except ValueError as error:
            raise InputError(f"box {index} is not four numbers separated by commas: {text!r}") from error
    if box_format == "yxyx_norm":  # the others depend on the picture's size
        with warnings.catch_warnings(action="ignore"):
            normalized_boxes(boxes.boxes, box_format, height=1, width=1)
    return SameBoxes(boxes)


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
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"cannot read boxes from {path}: {reason}") from error
    file = BoxFile(path)
    try:
        if path.suffix.lower() == ".csv":
            _read_csv(text, file, box_format, min_score)
        else:
            _read_json(json.loads(text), file, min_score)
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON: {error} (tables must be called .csv)") from error
    return file


def _read_json(document, file, min_score):
    if isinstance(document, list):
        _each(file, document, "entry", _add_coco_result, min_score)
    elif isinstance(document, dict) and "annotations" in document and "images" in document:
        images = {}
        _each(file, document["images"], "image", _add_coco_image, images)
        _each(file, document["annotations"], "annotation", _add_coco_annotation, images, min_score)
    elif isinstance(document, dict) and "images" in document and "detection_categories" in document:
        _each(file, document["images"], "image", _add_megadetector_image, min_score)
    else:
        raise InputError(
            f"{file.path} has boxes in no known format: give COCO results or annotations, MegaDetector's "
            "batch output, or a .csv table"
        )


def _each(file, items, what, add, *arguments):
    """Calls `add` for all items; says which one is malformed."""
    for index, item in enumerate(items):
        try:
            add(file, item, *arguments)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
            raise InputError(f"{file.path}: {what} {index} is malformed: {reason}") from error


def _add_coco_result(file, item, min_score):
    if "file_name" in item:
        boxes = file.named(item["file_name"], "xywh", item.get("image_id"))
    else:
        boxes = file.numbered(item["image_id"], "xywh")
    _append(boxes, item["bbox"], item.get("category_id", 1), item.get("score"), min_score)


def _add_coco_image(file, item, images):
    images[item["id"]] = file.named(item["file_name"], "xywh", item["id"])


def _add_coco_annotation(file, item, images, min_score):
    boxes = images[item["image_id"]]
    if not item.get("iscrowd"):
        _append(boxes, item["bbox"], item.get("category_id", 1), item.get("score"), min_score)


def _add_megadetector_image(file, item, min_score):
    if "file" in item:
        boxes = file.named(item["file"], "yxyx_norm")
    else:  # as of iWildCam 2021
        boxes = file.numbered(item["id"], "yxyx_norm")
    for detection in item.get("detections") or ():
        x, y, width, height = map(float, detection["bbox"])
        box = [y, x, y + height, x + width]
        _append(boxes, box, detection.get("category", 1), detection.get("conf"), min_score)


def _read_csv(text, file, box_format, min_score):
    rows = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    header = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
    image = next((header[name] for name in _IMAGE_COLUMNS if name in header), None)
    columns = CSV_COLUMNS[box_format]
    if image is None or any(name not in header for name in columns):
        raise InputError(
            f"{file.path} needs a header with the columns image, {', '.join(columns)} for {box_format} "
            f"boxes, not {', '.join(header) or 'nothing'}"
        )
    for row in rows:
        try:
            box = [float(row[header[name]]) for name in columns]
            category = row[header["category_id"]] if "category_id" in header else 1
            score = row[header["score"]] if "score" in header else None
            _append(file.named(row[image], box_format), box, category, score, min_score)
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{file.path}, line {rows.line_num}: not a picture and numbers") from error


def _append(boxes, box, category_id, score, min_score):
    score = None if score is None else float(score)
    box = [float(value) for value in box]
    if len(box) != 4:
        raise ValueError(f"bbox has {len(box)} numbers instead of 4")
    if score is None or score >= min_score:
        boxes.boxes.append(box)
        boxes.category_ids.append(int(category_id))
        boxes.scores.append(score)
