"""Annotation files of other formats and folders of annotation tools, as the content of one COCO file."""

import csv
import gzip
import io
import itertools
import json
import os
import re
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from deepmac.core.errors import InputError
from deepmac.data.numbers import number, whole
from deepmac.data.picture_files import PictureName, PictureSize, files_below

_GZIP = b"\x1f\x8b"
# What other files begin with -> what to do instead.
_OTHER_FILES = {
    b"PK\x03\x04": "is a ZIP file: unpack it, and name the annotations in it",
    b"<": "is XML: of CVAT export COCO 1.0; of Pascal VOC name the folder of all XML files",
}
# Cells between semicolons that are numbers.
_DECIMAL_COMMA = re.compile(r'(?<![^;\n])("? *[-+]?\d*),(\d+(?:[eE][-+]?\d+)? *"?)(?=;|$)', re.MULTILINE)
# What the readers of single pictures raise for what they do not expect; XML that is none is a SyntaxError.
_UNREADABLE = (SyntaxError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError)
SPLITS = ("train2017", "val2017")  # of COCO
COLLECTED = "collected"  # key of what was no COCO file
_PICTURES = ("{0}", "images/{0}", "{0}/images", "data/{0}", "images", "data", "JPEGImages", "pictures", ".")
# Where folders of annotation tools have the annotations of a split: of COCO and CVAT, Roboflow, Ultralytics.
_OF_SPLIT = (
    "annotations/instances_{0}.json",
    "{0}/_annotations.coco.json",
    "annotations/{0}.json",
    "{0}.json",
    "labels/{0}",
    "{0}/labels",
)
# Of the only split: of FiftyOne, Label Studio, Ultralytics, Pascal VOC.
_OF_ALL = ("labels.json", "result.json", "annotations.json", "*.json", "labels", "Annotations")
_CLASS_FILES = ("data.yaml", "dataset.yaml", "data.yml", "classes.txt", "obj.names", "labels.txt")


def find_splits(folder: Path, splits: tuple[str, ...] = ()) -> dict[str, tuple[Path, Path]]:
    """Finds annotations and pictures in a folder laid out by an annotation tool.

    That is COCO, CVAT, Label Studio, Roboflow, datumaro, FiftyOne, VGG Image Annotator, Ultralytics (YOLO) or
    Pascal VOC. No splits stand for COCO's, or all that there are, else "train".

    Returns:
        Split -> file or folder of the annotations, folder of the pictures.

    Raises:
        InputError: no such folder; a split is not there; which file has the annotations is not known.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; it must hold annotations and pictures, such as COCO's")
    if not splits:
        splits = next(filter(None, (_splits_like(pattern, folder) for pattern in _OF_SPLIT)), ("train",))
        splits = SPLITS if set(SPLITS) <= set(splits) else splits
    return {split: _find_split(folder, split) for split in splits}


def _splits_like(pattern: str, folder: Path) -> tuple[str, ...]:
    """The splits whose annotations lie like this; where other files may lie, too, those of usual names."""
    start, end = pattern.split("{0}")
    paths = [path.relative_to(folder).as_posix() for path in sorted(folder.glob(pattern.format("*")))]
    names = [path.removeprefix(start).removesuffix(end) for path in paths]
    usual = [name for name in names if re.fullmatch(r"(train|val|test)[a-z]*\d*", name.lower())]
    return tuple(names if pattern in _OF_SPLIT[:2] else usual if len(usual) > 1 else ())


def _find_split(folder: Path, split: str) -> tuple[Path, Path]:
    pictures = next(path for name in _PICTURES if (path := folder / name.format(split)).is_dir())
    for pattern in (*(pattern.format(split) for pattern in _OF_SPLIT), *_OF_ALL):
        found = sorted(folder.glob(pattern))
        if len(found) > 1:
            raise InputError(f"{folder}: {found[0]} or {found[1]}? Name one by --annotations")
        if found:
            return found[0], pictures
    raise InputError(
        f"{folder} has no annotations of {split}: neither annotations/instances_{split}.json, as COCO, nor "
        "the files of a tool that is known; name them by --annotations and --images"
    )


def load_annotations(path: Path, image_dir: Path | None) -> dict:
    """Reads annotations of any format as the content of a COCO file, which is checked elsewhere.

    That is COCO's JSON, or Label Studio's; or a folder of files for each picture: YOLO's text (boxes or
    polygons), Pascal VOC's XML, LabelMe's JSON. All but COCO's need the folder of the pictures.

    Raises:
        InputError: no such file, or of no such format.
    """
    if path.is_dir():
        below = [file for file in sorted(path.rglob("*")) if file.name not in _CLASS_FILES]
        for suffix, read in ((".txt", None), (".xml", _voc_picture), (".json", _labelme_picture)):
            files = [file for file in below if file.suffix.lower() == suffix]
            if not files:
                continue
            if image_dir is None or not image_dir.is_dir():
                raise InputError(f"{image_dir}: no such folder; it must hold the pictures of {path}")
            if read is None:
                content = _yolo(files, path, image_dir)
            else:
                stems = {PictureName.of(picture.name).stem for picture in files_below(image_dir)}
                content = _collected(files, partial(read, stems))
            if any(isinstance(image, dict) for image in content["images"]):  # others say what is wrong
                return content
        raise InputError(f"{path} has no files of YOLO, Pascal VOC or LabelMe: name one for all pictures")
    return as_coco(load_json(path), path, image_dir)


def as_coco(content: Any, path: Path, image_dir: Path | None) -> dict:
    """The content of a JSON file, COCO's or Label Studio's, as that of a COCO file. InputError: neither."""
    if isinstance(content, list) and all(isinstance(task, dict) and "data" in task for task in content):
        return _collected(content, partial(_label_studio_picture, image_dir))
    is_object = isinstance(content, dict)
    entries = content.values() if is_object else content if isinstance(content, list) else ()
    fields = set().union(*(entry for entry in entries if isinstance(entry, dict)))
    what = "is CreateML's JSON" if "annotations" in fields else "holds no JSON object"
    if "regions" in fields or (is_object and "_via_img_metadata" in content):
        what = "is VGG Image Annotator's own JSON"
    elif is_object:
        return content
    raise InputError(f"{path} {what}: export the annotations as COCO format")


def load_json(path: str | os.PathLike, object_hook: Callable[[dict], Any] | None = None) -> Any:
    """Reads a JSON file, in UTF-8, 16 or 32, with or without a byte order mark, or compressed by gzip.

    Raises:
        InputError: no such file, or not JSON.
    """
    try:
        data = Path(path).read_bytes()
        data = gzip.decompress(data) if data.startswith(_GZIP) else data
        text = data.decode(json.detect_encoding(data))
        if "\\ud" in text or "\\uD" in text:  # perhaps half a character, with which no file can be named
            text = json.dumps(json.loads(text), ensure_ascii=False)
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return json.loads(text, object_hook=object_hook)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{path}: {reason}; it must hold annotations, such as COCO's JSON") from error
    except (ValueError, EOFError, RecursionError) as error:
        what = f"is not valid JSON ({error})" if data else "is empty"
        what = "is NDJSON, a document in each line" if "Extra data: line 2 " in what else what
        start = data[:99].lstrip(b"\xef\xbb\xbf\r\n\t ")
        what = next((named for begins, named in _OTHER_FILES.items() if start.startswith(begins)), what)
        raise InputError(f"{path} {what}; it must hold annotations, such as COCO's JSON") from error


def read_table(path: Path) -> list[dict[Any, Any]]:
    """Reads a CSV file as spreadsheets write it: commas, semicolons or tabs, numbers with point or comma.

    Returns its lines by their columns, in small letters; "" for what is missing, under None what is too much.

    Raises:
        InputError: no such file, or no table.
    """
    try:
        text = path.read_text("utf-8-sig")
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        text = _DECIMAL_COMMA.sub(r"\1.\2", text) if delimiter == ";" else text
        lines = list(csv.DictReader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True))
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read the table {path}: {reason}") from error
    return [{key and key.strip().lower(): value or "" for key, value in line.items()} for line in lines]


def _collected(sources: Iterable, read: Callable, names: dict[int, str] | None = None) -> dict[str, list]:
    """The content of a COCO file, from what reads an image and its annotations; who fails is named."""
    content: dict[str, list] = {"images": [], "annotations": [], COLLECTED: []}
    for key, source in enumerate(sources, start=1):
        try:
            image, found = read(source)
        except _UNREADABLE as error:
            named = source.name if isinstance(source, Path) else f"task {source.get('id')}"
            content["images"].append(f"{named}: {_reason(error)}")
            continue
        content["images"].append(image | {"id": key})
        content["annotations"] += [one if isinstance(one, str) else one | {"image_id": key} for one in found]
    used = dict.fromkeys(one["category_id"] for one in content["annotations"] if isinstance(one, dict))
    if names is None:  # categories are names
        return content | {"categories": [{"id": name, "name": str(name)} for name in used]}
    labels = names or {number: str(number) for number in used}
    return content | {"categories": [{"id": number, "name": labels[number]} for number in sorted(labels)]}


def _each(read: Callable[[Any], dict | None], entries: Iterable, where: str) -> list[dict | str]:
    """Annotations, called by where they are; instead of one that cannot be read a text that says why."""
    found: list[dict | str] = []
    for index, entry in enumerate(entries, start=1):
        try:
            one = read(entry)
            found += [one | {"id": f"{where} {index}"}] if one else []
        except _UNREADABLE as error:
            found.append(f"{where} {index}: {_reason(error)}")
    return found


def _reason(error: Exception) -> str:
    unexpected = "it is of an unknown form" if isinstance(error, TypeError | AttributeError) else str(error)
    return f"it has no {error}" if isinstance(error, KeyError) else getattr(error, "strerror", unexpected)


def _yolo(files: list[Path], folder: Path, image_dir: Path) -> dict:
    """Text for each picture, a line for each object: class, then centre and sides, or points, from 0 to 1."""

    def named(paths: list[Path], place: Path) -> dict[Path, Path]:
        found: dict[Path, Path] = {}
        for path in paths:  # both may lie below one folder, in labels and images
            parts = path.relative_to(place).with_suffix("").parts
            name = Path(*(part.casefold() for part in parts if part not in ("labels", "images")))
            if found.setdefault(name, path) is not path:
                raise InputError(f"{found[name]} and {path} are both called {name}: rename or remove one")
        return found

    labels = named([file for file in files if "labels" in file.relative_to(folder).parts] or files, folder)
    pictures = named(files_below(image_dir), image_dir)
    names, points = _class_file(folder)
    if not labels.keys() & pictures.keys():
        raise InputError(
            f"{folder}: no label is named like a picture of {image_dir}, the first is {min(labels)}: "
            "give the folder of these pictures by --images, and the folder of their labels"
        )

    def read(name: Path) -> tuple[dict, list]:
        if name not in pictures:
            return {"file_name": str(name)}, []
        size = PictureSize.read(pictures[name])
        width, height = size.upright if size else (1, 1)
        lines = labels[name].read_text("utf-8-sig", "replace").splitlines() if name in labels else []
        objects = _each(partial(_yolo_object, width, height, points), lines, f"{name}.txt line")
        file_name = pictures[name].relative_to(image_dir).as_posix()
        return {"file_name": file_name, "width": width, "height": height}, objects

    return _collected(sorted(labels.keys() | pictures.keys()), read, names)


def _yolo_object(width: int, height: int, points: int, line: str) -> dict | None:
    """The object of a line, in which `points` numbers behind the box are those of a pose."""
    words = line.split()
    if not words:
        return None
    kind = whole(words[0])
    values = [number(x) * side for x, side in zip(words[1:], itertools.cycle((width, height)), strict=False)]
    if kind is None or kind < 0 or len(values) < 4:
        raise ValueError(f"{line[:60]!r} is no class with a box or a polygon")
    x, y, box_width, box_height = values[:4]
    box = [x - box_width / 2, y - box_height / 2, box_width, box_height]
    if points and len(values) >= 4 + points:
        return {"category_id": kind, "bbox": box}
    return _object("", values[: len(values) // 2 * 2], box) | {"category_id": kind}  # without the confidence


def _object(name: Any, points: list[float], box: Any = None) -> dict:
    """An annotation: a polygon, of x and y in turn, if there are points enough, else a box."""
    named = {"category_id": str(name or "object").strip()}
    if len(points) < 6:
        return named | {"bbox": box}
    return named | {"segmentation": [points], "bbox": _around(points)}


def _around(points: list[float]) -> list[float]:
    x, y = points[::2], points[1::2]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def _class_file(folder: Path) -> tuple[dict[int, str], int]:
    """Classes of a YOLO data set, from the file beside its labels or above; numbers of points in a line."""
    places = [place / name for place in (folder, *folder.absolute().parents[:2]) for name in _CLASS_FILES]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return {}, 0
    text = path.read_text("utf-8-sig", "replace")
    if path.suffix not in (".yaml", ".yml"):
        return dict(enumerate(line.strip() for line in text.splitlines() if line.strip())), 0
    try:
        content = yaml.safe_load(text)
        names, points = content["names"], content.get("kpt_shape") or [0, 0]
        names = names.split(",") if isinstance(names, str) else names
        names = names if isinstance(names, dict) else dict(enumerate(names))
        return {int(key): str(name).strip() for key, name in names.items()}, int(points[0]) * int(points[1])
    except (yaml.YAMLError, *_UNREADABLE) as error:
        raise InputError(f"{path} has no 'names': a list, or class numbers with their names") from error


def _name_in(given: Any, file: Path, stems: Collection[str]) -> str:
    """What a file says its picture is called; what it is called itself, if only that is a picture."""
    names = [str(name) for name in (given, file.stem) if name]
    return next((name for name in names if PictureName.of(name).stem in stems), names[0])


def _voc_picture(stems: Collection[str], file: Path) -> tuple[dict, list]:
    """XML of Pascal VOC, whose pixels count from 1, both ends of a box included."""
    root = ElementTree.parse(file).getroot()
    size = {side: whole(root.findtext(f"size/{side}")) for side in ("width", "height")}
    name = _name_in(root.findtext("filename"), file, stems)
    return {"file_name": name, **size}, _each(_voc_object, root.iter("object"), f"{file.name} object")


def _voc_object(entry: ElementTree.Element) -> dict:
    corners = [number(entry.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
    (left, right), (top, bottom) = sorted(corners[::2]), sorted(corners[1::2])
    polygon = [number(point.text) for point in entry.findall("polygon/*")]  # Roboflow: x1, y1, x2, …
    return _object(entry.findtext("name"), polygon, [left - 1, top - 1, right - left + 1, bottom - top + 1])


def _labelme_picture(stems: Collection[str], file: Path) -> tuple[dict, list]:
    """JSON of LabelMe (https://github.com/wkentaro/labelme)."""
    content = load_json(file)
    shapes = _each(_labelme_shape, content["shapes"], f"{file.name} shape")
    sizes = {"width": content.get("imageWidth"), "height": content.get("imageHeight")}
    return {"file_name": _name_in(content.get("imagePath"), file, stems), **sizes}, shapes


def _labelme_shape(shape: dict) -> dict:
    points = [point for point in shape.get("points") or [] if isinstance(point, list)]
    values = [number(coordinate) for point in points for coordinate in point[:2]]
    kind = shape.get("shape_type") or "polygon"  # or a circle, a line, a point, which are no boxes
    box = _around(values) if kind in ("rectangle", "mask") and len(values) in (4, 8) else kind
    return _object(shape.get("label"), values if kind == "polygon" else [], box)


def _label_studio_picture(folder: Path | None, task: dict) -> tuple[dict, list]:
    """A task of Label Studio's JSON (https://labelstud.io/guide/export): boxes and polygons in percent."""
    name = next((value for value in task["data"].values() if isinstance(value, str)), "")
    where, given = f"task {task.get('id')}", task["annotations"]
    read = partial(_label_studio_object, folder and PictureSize.read(folder / re.split("[/=]", name)[-1]))
    first = next((done for done in given if not done.get("was_cancelled")), {"result": []})
    others = [f"{where}: an annotation, cancelled or not the first" for done in given if done is not first]
    return {"file_name": name}, others + _each(read, first["result"], f"{where} result")


def _label_studio_object(size: PictureSize | None, result: dict) -> dict | None:
    kind = result["type"]
    if "labels" not in kind and kind not in ("rectangle", "polygon"):
        return None
    value = result["value"]
    if not value.get(kind):
        raise ValueError(f"its {kind} is without a label")
    sides = size.upright if size else (result["original_width"], result["original_height"])
    width, height = sides[0] / 100, sides[1] / 100
    points = [x for x, y in value["points"] for x in (x * width, y * height)] if "points" in value else []
    box: Any = kind  # that of a turned rectangle, or of anything else, is not read
    if kind == "rectanglelabels" and not value.get("rotation"):
        box = [value["x"] * width, value["y"] * height, value["width"] * width, value["height"] * height]
    return _object(value[kind][0], points if kind == "polygonlabels" else [], box)
