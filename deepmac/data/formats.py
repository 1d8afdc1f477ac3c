"""Annotation files of other formats, and folders of them, as the content of one COCO file."""

import base64
import contextlib
import csv
import gzip
import io
import itertools
import json
import math
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from deepmac.core.errors import InputError
from deepmac.data.annotation_folders import CLASS_FILES, LABEL_SUFFIXES, class_file
from deepmac.data.numbers import number, whole
from deepmac.data.picture_files import PictureName, PictureSize, files_below, find_pictures
from deepmac.data.segmentations import encoded_mask

_EXPECTED = "it must hold annotations or detections, such as COCO's or MegaDetector's JSON"
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
_BEYOND = 1.1  # numbers above are no part of a side
COLLECTED = "collected"  # key of what was no COCO file
_GROUP = "group"  # of a shape, until all are read
_OWN_NAMES = "own_names"  # of an image, until all are read: those by which its file is called itself


def load_annotations(path: Path, image_dir: Path | None) -> dict:
    """Reads annotations of any format as the content of a COCO file, which is checked elsewhere.

    Args:
        path: COCO's JSON, or Label Studio's; or a folder of files for each picture: YOLO's text (boxes or
            polygons), Pascal VOC's XML, LabelMe's JSON.
        image_dir: folder of the pictures; formats that count in parts of a picture need it.

    Raises:
        InputError: no such file, or of no such format.
    """
    return _load_folder(path, image_dir) if path.is_dir() else as_coco(load_json(path), path, image_dir)


def _load_folder(path: Path, image_dir: Path | None) -> dict:
    """Reads the files of a folder: the kind of which most are called like pictures; it names the others."""
    files_of: dict[str, list[Path]] = {suffix: [] for suffix in LABEL_SUFFIXES}
    for file in sorted(path.rglob("*")):
        if file.name not in CLASS_FILES and file.suffix.lower() in files_of:
            files_of[file.suffix.lower()].append(file)
    if image_dir and any(files_of.values()) and not image_dir.is_dir():
        raise InputError(f"{image_dir}: no such folder; it must hold the pictures of {path}")
    pictures = files_below(image_dir) if image_dir else []
    stems = {PictureName.of(picture.name).stem for picture in pictures}
    called = {
        suffix: [file for file in files if PictureName.of(file.stem).stem in stems]
        for suffix, files in files_of.items()
    }
    beside = [file for file in files_of[".json"] if file.parent == path]
    if len(beside) == 1 and not any(called.values()):  # of all pictures
        return load_annotations(beside[0], image_dir)
    unread = {}
    for suffix in sorted(files_of, key=lambda suffix: -len(called[suffix])):
        files = files_of[suffix]
        if not files or image_dir is None or (unread and not called[suffix]):
            continue
        if suffix == ".txt":
            content = _yolo(files, path, pictures, image_dir)
        else:
            read = _voc_picture if suffix == ".xml" else _labelme_picture
            content = _collected(files, partial(read, stems))
        if any(isinstance(image, dict) for image in content["images"]):
            others = [file for other in called if other != suffix for file in called[other]]
            content["images"] += [f"{file.name}: it is beside files of *{suffix}" for file in others]
            return content
        unread = unread or content  # what is wrong with each file is said elsewhere
    if unread:
        return unread
    raise InputError(f"{path} has no files of YOLO, Pascal VOC or LabelMe: name one for all pictures")


def as_coco(content: Any, path: Path, image_dir: Path | None) -> dict:
    """The content of a JSON file, COCO's or Label Studio's, as that of a COCO file. InputError: neither."""
    if isinstance(content, list) and all(isinstance(task, dict) and "data" in task for task in content):
        names = [_task_picture(task) for task in content if isinstance(task["data"], dict)]
        paths: dict[str, Path] = {}
        if image_dir and image_dir.is_dir():
            with contextlib.suppress(InputError):  # which is raised where the pictures are needed
                paths = {name: image_dir / file for name, file in find_pictures(names, image_dir).items()}
        return _collected(content, partial(_label_studio_picture, paths))
    is_object = isinstance(content, dict)
    entries = content.values() if is_object else content if isinstance(content, list) else ()
    fields = set().union(*(entry for entry in entries if isinstance(entry, dict)))
    what = "is CreateML's JSON" if "annotations" in fields else "holds no JSON object"
    if not is_object and {"annotation_id", "annotator"} & fields:
        what = "is Label Studio's JSON-MIN"
    elif not is_object and {"image_id", "bbox"} <= fields:
        what = "is a list of results, without images and categories"
    elif is_object and "shapes" in content:
        raise InputError(f"{path} is LabelMe's JSON of one picture: name the folder of all")
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
        raise InputError(f"{path}: {reason}; {_EXPECTED}") from error
    except (ValueError, EOFError, RecursionError, zlib.error) as error:
        what = f"is not valid JSON ({error})" if data else "is empty"
        what = "is NDJSON, a document in each line" if "Extra data: line 2 " in what else what
        start = data[:99].lstrip(b"\xef\xbb\xbf\r\n\t ")
        what = next((named for begins, named in _OTHER_FILES.items() if start.startswith(begins)), what)
        what = "is a table" if Path(path).suffix.lower() in (".csv", ".tsv") else what
        raise InputError(f"{path} {what}; {_EXPECTED}") from error


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
    pictures = [image for image in content["images"] if isinstance(image, dict)]
    counts = Counter(image["file_name"] for image in pictures)
    for image in pictures:
        own = image.pop(_OWN_NAMES, [])
        image["file_name"] = own[0] if own and counts[image["file_name"]] > 1 else image["file_name"]
    found = [one.get("category_id") for one in content["annotations"] if isinstance(one, dict)]
    used = dict.fromkeys(name for name in found if name is not None)
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


def _yolo(files: list[Path], folder: Path, files_of_pictures: list[Path], image_dir: Path) -> dict:
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
    pictures = named(files_of_pictures, image_dir)
    names, points = class_file(folder)
    first = min(labels)
    labels = {name: path for name, path in labels.items() if name in pictures or _has_objects(path)}
    if not labels.keys() & pictures.keys():
        raise InputError(
            f"{folder}: no label is named like a picture of {image_dir}, the first is {first}: "
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


def _has_objects(file: Path) -> bool:
    """Whether it is a file of labels, and no notice or list of pictures; True if it cannot be read."""
    try:
        lines = file.read_text("utf-8-sig", "replace").splitlines()
    except OSError:
        return True
    return not lines or any(isinstance(one, dict) for one in _each(partial(_yolo_object, 1, 1, 0), lines, ""))


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
    is_pose = max(map(number, words[5:]), default=0) > _BEYOND  # how visible its points are, 0 to 2
    if is_pose or (points and len(values) >= 4 + points):
        return {"category_id": kind, "bbox": box}
    return _object("", values[: len(values) // 2 * 2], box) | {"category_id": kind}  # without the confidence


def _object(name: Any, points: list[float], box: Any = None) -> dict:
    """An annotation: a polygon, of x and y in turn, if there are points enough, else a box."""
    named = {} if name in (None, "") else {"category_id": str(name).strip()}
    if len(points) < 6:
        return named | {"bbox": box}
    return named | {"segmentation": [points], "bbox": _around(points)}


def _around(points: list[float]) -> list[float]:
    x, y = points[::2], points[1::2]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def _names_in(given: Any, file: Path, stems: Collection[str]) -> dict:
    """What a file says its picture is called; what it is called itself, if only that is a picture.

    That counts, too, if several say the same: they are copies, of turned pictures.
    """
    names = [str(name) for name in (given, file.stem) if name]
    known = [name for name in names if PictureName.of(name).stem in stems]
    own = [file.stem] if file.stem in known else []
    return {"file_name": (known or names)[0], _OWN_NAMES: own}


def _voc_picture(stems: Collection[str], file: Path) -> tuple[dict, list]:
    """XML of Pascal VOC, whose pixels count from 1, both ends of a box included."""
    root = ElementTree.parse(file).getroot()
    size = {side: whole(root.findtext(f"size/{side}")) for side in ("width", "height")}
    names = _names_in(root.findtext("filename"), file, stems)
    return names | size, _each(_voc_object, root.iter("object"), f"{file.name} object")


def _voc_object(entry: ElementTree.Element) -> dict | None:
    if entry.findtext("deleted") == "1":
        return None
    corners = [number(entry.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
    (left, right), (top, bottom) = sorted(corners[::2]), sorted(corners[1::2])
    # Roboflow: x1, y1, x2, …; LabelMe's own XML: points with x and y
    tags = [node for node in entry.findall("polygon//*") if re.fullmatch(r"[xy]\d*", node.tag)]
    polygon = [number(node.text) for node in tags]
    polygon = polygon if all(map(math.isfinite, polygon)) else []
    first = 1 if max(corners) > 1 else 0  # parts of the image, which are refused elsewhere, count from 0
    box = [left - first, top - first, right - left + first, bottom - top + first]
    found = _object(entry.findtext("name"), polygon, box)
    return found | ({"bbox": box} if all(map(math.isfinite, box)) else {})


def _labelme_picture(stems: Collection[str], file: Path) -> tuple[dict, list]:
    """JSON of LabelMe (https://github.com/wkentaro/labelme)."""
    content = load_json(file)
    sizes = {"width": content.get("imageWidth"), "height": content.get("imageHeight")}
    shapes = _each(partial(_labelme_shape, sizes), content["shapes"], f"{file.name} shape")
    return _names_in(content.get("imagePath"), file, stems) | sizes, _grouped(shapes)


def _labelme_shape(sizes: dict, shape: dict) -> dict:
    points = [point for point in shape.get("points") or [] if isinstance(point, list)]
    values = [number(coordinate) for point in points for coordinate in point[:2]]
    kind = shape.get("shape_type") or "polygon"  # or a circle, a line, a point, which are no boxes
    box = _around(values) if kind in ("rectangle", "mask") and len(values) in (4, 8) else kind
    found = _object(shape.get("label"), values if kind == "polygon" else [], box)
    if shape.get("mask"):
        found["segmentation"] = _labelme_mask(shape["mask"], values, sizes)
    return found | {_GROUP: shape.get("group_id")}


def _labelme_mask(given: str, corners: list, sizes: dict) -> dict | str:
    """Run lengths of a PNG file in base64, of the part of the picture from a corner on."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(given))) as picture:
            part = np.asarray(picture.convert("L")) > 0
        mask = np.zeros([sizes["height"], sizes["width"]], np.uint8)
        left, top = round(corners[0]), round(corners[1])
        part = part[max(-top, 0) :, max(-left, 0) :]
        place = mask[max(top, 0) :, max(left, 0) :][: part.shape[0], : part.shape[1]]
        place[:] = part[: place.shape[0], : place.shape[1]]
        return encoded_mask(mask)
    except _UNREADABLE:
        return "an unreadable PNG file"  # which costs the mask


def _grouped(shapes: list[dict | str]) -> list[dict | str]:
    """Shapes of a LabelMe file, in which polygons of the same group and label are parts of one object."""
    found: list[dict | str] = []
    first_of: dict = {}
    for shape in shapes:
        group = shape.pop(_GROUP, None) if isinstance(shape, dict) else None
        if isinstance(shape, dict) and group is not None and isinstance(shape.get("segmentation"), list):
            first = first_of.setdefault((str(group), shape.get("category_id")), shape)
            if first is not shape:
                first["segmentation"] += shape["segmentation"]
                first["bbox"] = _around([x for part in first["segmentation"] for x in part])
                continue
        found.append(shape)
    return found


def _task_picture(task: dict) -> str:
    """The first value of a task of Label Studio that is called like a picture, or that is a text."""
    texts = [value for value in task["data"].values() if isinstance(value, str)]
    return next((text for text in texts if PictureName.of(text).suffix), (texts or [""])[0])


def _label_studio_picture(paths: dict[str, Path], task: dict) -> tuple[dict, list]:
    """A task of Label Studio's JSON (https://labelstud.io/guide/export): boxes and polygons in percent."""
    name = _task_picture(task)
    where, given = f"task {task.get('id')}", task["annotations"]
    read = partial(_label_studio_object, PictureSize.read(paths[name]) if name in paths else None)
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
    label = value[kind] if isinstance(value[kind], str) else value[kind][0]
    return _object(label, points if kind == "polygonlabels" else [], box)
