"""Boxes of many pictures from one file: annotations of any format, MegaDetector's results, a table."""

import dataclasses
import itertools
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepmac.core.boxes import BOX_FORMATS, normalized_boxes
from deepmac.core.errors import InputError
from deepmac.data.coco import read_coco
from deepmac.data.documents import read_table
from deepmac.data.flaws import BOXES, EXAMPLES, LOST, summary
from deepmac.data.formats import as_coco, load_annotations
from deepmac.data.megadetector import Detections, read_json
from deepmac.data.numbers import key_of, number, whole
from deepmac.data.picture_files import LARGER_THAN_ANY, PictureName, PictureNames
from deepmac.data.rules import annotated_size, name_findings, shared_names
from deepmac.data.trap_tables import TABLES, is_pytorch_wildlife, read_pytorch_wildlife
from deepmac.jobs.pictures import Picture

_IMAGE_COLUMNS = ("image", "file_name", "filename", "file", "relative_path", "path")
_CATEGORY_COLUMNS = ("category_id", "category", "class", "label", "name")
_SCORE_COLUMNS = ("score", "confidence", "conf")
# Box format -> columns of a CSV file.
CSV_COLUMNS = {
    "yxyx_norm": ("ymin", "xmin", "ymax", "xmax"),
    "xyxy": ("xmin", "ymin", "xmax", "ymax"),
    "xywh": ("xmin", "ymin", "width", "height"),
}
_OTHER_COLUMNS = {"bbox_left": "xmin", "bbox_top": "ymin", "bbox_right": "xmax", "bbox_bottom": "ymax"}


@dataclasses.dataclass(frozen=True)
class ImageBoxes:
    """Boxes of one picture, not checked yet; or none, and what is to be found in it."""

    box_format: str = "yxyx_norm"  # one of `deepmac.core.boxes.BOX_FORMATS`
    boxes: Any = None  # numbers [N, 4]; None: objects are to be found
    category_ids: Sequence[int] = ()  # N
    scores: Sequence[float | None] = ()  # N, None for boxes without
    image_id: int | str | None = None  # that the file gives the picture
    size: tuple[int, int] | None = None  # width and height in pixels that the file gives the picture
    min_score: float = 0.0  # objects that are found with a lower score are left out


class BoxFile:
    """The boxes of a file, found by picture.

    The picture's path has to end with its name in the file; or that, perhaps a path of another machine, with
    the picture's path relative to the folder that was asked for. Of several pictures that may be meant it
    is the one whose path says more. Where the file has only ids, the picture's stem has to be the id.
    """

    def __init__(
        self, path: Path, table: Detections, box_format: str, min_score: float, problems: Sequence[str] = ()
    ):
        """Sorts the pictures by name; boxes with a lower score are left out.

        Pictures without a name are called "" in the table. Its `facts` have the "image_id" of a picture, and
        its "size", width and height in pixels, if the file does. `box_format` may be "megadetector".
        """
        self.path, self.problems = path, [*problems, *(summary(*lost) for lost in table.lost.items())]
        self._numbers, self.category_names = _number_categories(table)
        self._table, self._box_format, self._min_score = table, box_format, min_score
        if table.is_scored.any() and (unscored := np.count_nonzero(~table.is_scored)):
            self.problems.append(f"{unscored} boxes have no score, others do: theirs is their mask's quality")
        self._names = PictureNames()
        self._by_id: dict[str, int] = {}
        for row, name in enumerate(table.names):
            if name and table.named_by == "file":
                for key in PictureName.spellings(name):
                    self._names.add(key, row)
            if (image_id := str(self._image_id(row))) == name or not name:
                self._by_id[image_id] = row

    def _image_id(self, row: int) -> int | str | None:
        named = self._table.names[row] if self._table.named_by == "id" else None
        return self._table.facts.get(row, {}).get("image_id", named)

    def of(self, pictures: Sequence[Picture]) -> list[ImageBoxes | None]:
        """Finds the boxes of each picture; there may be none of it, or an empty list.

        Raises:
            InputError: a picture could be several ones of the file, or one of the file several pictures.
        """
        found = [self._find(picture) for picture in pictures]
        most = dict(sorted(filter(None, found)))  # of each row
        best: dict[int, Picture] = {}
        for picture, (row, agreeing) in ((p, f) for p, f in zip(pictures, found, strict=True) if f):
            if agreeing < most[row] or best.setdefault(row, picture) is picture:
                continue
            other, name = best[row], self._table.names[row]
            exact = [one for one in (other, picture) if one.name.as_posix() == name]
            if len(exact) != 1:
                raise InputError(f"{self.path}: {name} could be {other.path} or {picture.path}")
            best[row] = exact[0]
        names = self._table.names
        failed = [names[row] for row in best if self._table.facts.get(row, {}).get("failure")]
        others = [name for row, name in enumerate(names) if row not in best and name]
        if failed:
            self.problems.append(summary("pictures on which the detector failed", failed))
        if len(pictures) > 1 and others:  # of one, nobody expects the others
            self.problems.append(summary(f"pictures in {self.path.name} that are not among these", others))
        chosen = {picture.path: row for row, picture in best.items()}
        return [self._boxes(chosen[one.path]) if one.path in chosen else None for one in pictures]

    def _find(self, picture: Picture) -> tuple[int, tuple[int, bool]] | None:
        """The row of a picture; how many parts at the end of its path agree with the name there, and whether
        these are all of the name.
        """
        path = picture.path
        least = len(PictureName.of(str(picture.name)).folders) + 1
        fitting = next(self._names.find(PictureName.of(str(path.absolute())), least), None)
        if not fitting:
            found = self._by_id.get(path.stem, self._by_id.get(path.stem.lstrip("0") or "0"))
            return None if found is None else (found, (0, True))
        agreeing, is_whole, alike = fitting[0], fitting[1], sorted(set(fitting[2]))
        rows = [row for row in alike if self._table.names[row].endswith(path.name)] or alike
        if len(rows) > 1:
            names = " and ".join(self._table.names[row] for row in rows[:2])
            raise InputError(f"{self.path} has boxes for {names}, and {path} could be either")
        return rows[0], (agreeing, is_whole)

    def _boxes(self, row: int) -> ImageBoxes:
        found = self._table[row]
        boxes, box_format = found.boxes, self._box_format
        if box_format == "megadetector":
            boxes, box_format = found.exact_corners, "yxyx_norm"
        start, end, are_sides = boxes[:, :2], boxes[:, 2:], box_format == "xywh"
        origin = np.zeros_like(start) if are_sides else start
        has_area = np.isfinite(boxes).all(axis=1) & (end != origin).all(axis=1)
        runs_backwards = has_area & (end < origin).any(axis=1)
        where = found.name or self._image_id(row)
        for index in np.flatnonzero(runs_backwards | ~has_area):
            box = f"box {index} of {where}"
            what = f"corners sorted: {box}" if has_area[index] else f"left out: {box}, which shows nothing"
            self.problems.append(f"{what}: {boxes[index].round(3).tolist()} as {BOX_FORMATS[box_format]}")
        low, high = np.minimum(start, end), np.maximum(start, end)
        boxes = np.hstack([start + np.minimum(end, 0), np.abs(end)] if are_sides else [low, high])
        kept = np.flatnonzero(has_area & ~(found.confidences < self._min_score))  # also those without
        scores = found.confidences[kept].tolist()
        return ImageBoxes(
            box_format,
            boxes[kept].tolist(),
            [self._numbers[found.categories[i]] for i in kept],
            [None if math.isnan(score) else score for score in scores],
            self._image_id(row),
            self._table.facts.get(row, {}).get("size"),
        )

    def describe(self) -> str:
        """What the file is called, the first of its pictures, and what of its boxes was left out."""
        first = next(filter(None, self._table.names), None) or next(iter(self._by_id), None)
        holds = "it has boxes of no picture" if first is None else f"its first picture is {first}"
        return "; ".join([f"{self.path}: {holds}", *self.problems[:EXAMPLES]])


def _number_categories(table: Detections) -> tuple[dict[str, int], dict[str, str]]:
    """Numbers categories: category as boxes give it -> its number; number as text -> name, where known.

    Categories that are numbers stay; names get that of the category of this name, or one that is free.
    """
    names = table.categories | {key: key for key in table.found_categories if whole(key) is None}
    key_of_name = {name: key for key, name in table.categories.items() if whole(name) is None}
    numbers = {key: whole(key_of_name.get(key, key)) for key in [*names, *table.found_categories]}
    free = itertools.count(max([0, *filter(None, numbers.values())]) + 1)
    numbered = {key: next(free) if given is None else given for key, given in numbers.items()}
    return numbered, {str(numbered[key]): name for key, name in names.items()}


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
        normalized_boxes(boxes, box_format, height=1, width=1, tell=lambda text: None)
    return ImageBoxes(box_format, boxes, [1] * len(boxes), [None] * len(boxes))


def read_boxes(
    path: str | os.PathLike,
    box_format: str = "yxyx_norm",
    min_score: float = 0.0,
    image_dir: Path | None = None,
) -> BoxFile:
    """Reads boxes from a file.

    Args:
        path: `.csv` with a header: an image, the columns of `CSV_COLUMNS` for the box format, and as you like
            category and score; annotations in a format of `load_annotations` (crowds are left out); COCO
            results (a list with `image_id` or `file_name`, and `bbox`); MegaDetector's batch output.
        box_format: of a CSV file; other formats have their own.
        min_score: boxes with a lower score are left out.
        image_dir: folder of the pictures, for formats that need their sizes.

    Raises:
        InputError: no such file, another format, or no usable entry.
    """
    path = Path(path)
    if box_format not in BOX_FORMATS:
        raise InputError(f"unknown box format {box_format!r}: use one of {', '.join(BOX_FORMATS)}")
    if path.suffix.lower() in TABLES:
        table, problems = _from_table(path, box_format)
        return BoxFile(path, table, box_format, min_score, problems)
    document = load_annotations(path, image_dir) if path.is_dir() else read_json(path)
    if isinstance(document, Detections):
        return BoxFile(path, document, "megadetector", min_score)
    if is_pytorch_wildlife(document):
        return BoxFile(path, Detections.of_images(*read_pytorch_wildlife(document)), "xyxy", min_score)
    if isinstance(document, list) and not any(
        isinstance(entry, dict) and entry.keys() & {"data", "annotations"} for entry in document
    ):
        document = _with_images(document)
    document = as_coco(document, path, image_dir)
    if not isinstance(document.get("annotations"), list):
        raise InputError(
            f"{path} has boxes in no known format: give COCO results or annotations, MegaDetector's batch "
            "output, or a .csv table"
        )
    return _of_annotations(path, document, min_score)


def _of_annotations(path: Path, document: dict, min_score: float) -> BoxFile:
    """The boxes of annotations, checked by the one reader; pictures are not needed."""
    images = document.get("images")
    large = dict(zip(("width", "height"), LARGER_THAN_ANY, strict=True))
    if isinstance(images, list):
        sized = [one | large if isinstance(one, dict) and not annotated_size(one) else one for one in images]
        document = document | {"images": sized}
    data = read_coco(document, BOXES, name=str(path))
    table = Detections(categories={str(one["id"]): one["name"] for one in data.categories})
    by_image = data.annotations_of_images()
    shared = shared_names(data.images.values())
    for image_id, image in data.images.items():
        boxes = [entry for entry in by_image[image_id] if not entry["iscrowd"]]
        rows = [(entry["bbox"], entry["category_id"], number(entry.get("score"))) for entry in boxes]
        named = next((found.mended for found in name_findings(image, shared)), image)
        name, size = named and named["file_name"], (image["width"], image["height"])
        facts = {"image_id": image.get("given_id", image_id)}
        facts |= {} if size == LARGER_THAN_ANY else {"size": size}
        table.add((name or "").replace("\\", "/"), rows, facts)
    crowds = sum(entry["iscrowd"] for entry in data.annotations)
    told = [f"crowd regions, which are no objects, {LOST}: {crowds}"] if crowds else []
    return BoxFile(path, table, "xywh", min_score, data.lost + told)


def _with_images(entries: list) -> dict:
    """COCO results as annotations: their images are those that they name."""
    images: dict = {}
    for entry in entries:
        if isinstance(entry, dict):
            key = entry.get("image_id", entry.get("file_name"))
            images.setdefault(key_of(key), {"id": key} | {k: entry[k] for k in ("file_name",) if k in entry})
    return {"images": list(images.values()), "annotations": entries}


def _from_table(path: Path, box_format: str) -> tuple[Detections, list[str]]:
    """The boxes of a table with the columns of `CSV_COLUMNS`, or others' ones, and the lines left out."""
    rows, columns = read_table(path), CSV_COLUMNS[box_format]
    header = {_OTHER_COLUMNS.get(name, name): name for name in rows[0]} if rows else {}
    image, category, score = (
        next((name for name in names if name in header), None)
        for names in (_IMAGE_COLUMNS, _CATEGORY_COLUMNS, _SCORE_COLUMNS)
    )
    if image is None or any(name not in header for name in columns):
        raise InputError(
            f"{path} needs a header with the columns image, {', '.join(columns)} for {box_format} "
            f"boxes, and a line for each, not {', '.join(filter(None, header)) or 'nothing'}"
        )
    grouped: dict[str, list] = {}
    problems = []
    for number_of_line, row in enumerate(rows, start=2):
        try:
            if any(row.get(None, ())):
                raise ValueError("more values than columns; write numbers with a point")
            box = [float(row[header[name]]) for name in columns]
            label = row[category] if category else "1"
            given = row[score].strip() if score else ""
            confidence = float(given.removesuffix("%") or "nan") / (100 if given.endswith("%") else 1)
            if not row[image]:
                raise ValueError(f"its {image} is empty")
            grouped.setdefault(row[image].replace("\\", "/"), []).append((box, label, confidence))
        except ValueError as error:
            problems.append(f"left out: line {number_of_line} is malformed: {error}")
    if problems and not grouped:
        raise InputError(f"{path}: no usable line; {'; '.join(problems[:EXAMPLES])}")
    table = Detections(categories={})
    for name, boxes in grouped.items():
        table.add(name, boxes)
    return table, problems
