"""Annotation files of other formats and folders of annotation tools, as the content of one COCO file."""

import gzip
import json
import operator
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from deepmac.core.errors import InputError
from deepmac.data.numbers import number, whole
from deepmac.data.picture_files import files_below, upright_size

_GZIP = b"\x1f\x8b"
# What the readers of single pictures raise for what they do not expect.
_UNREADABLE = (ElementTree.ParseError, LookupError, TypeError, ValueError, AttributeError, StopIteration)
SPLITS = ("train2017", "val2017")  # of COCO
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

    Args:
        folder: in the layout of COCO, CVAT, Label Studio, Roboflow, datumaro, FiftyOne, VGG Image Annotator,
            Ultralytics (YOLO) or Pascal VOC.
        splits: names of the splits; none stands for COCO's, or all that there are, else "train".

    Returns:
        Split -> file or folder of the annotations, folder of the pictures.

    Raises:
        InputError: no such folder; a split is not there; which file has the annotations is not known.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; it must hold annotations and pictures, such as COCO's")
    if not splits:
        marked = {pattern: sorted(folder.glob(pattern.format("*"))) for pattern in _OF_SPLIT[:2]}
        marked["labels/{0}"] = [path for path in sorted(folder.glob("labels/*")) if path.is_dir()]
        starts, found = next(((p.split("{0}")[0], paths) for p, paths in marked.items() if paths), ("", []))
        names = [str(path.relative_to(folder)).removeprefix(starts) for path in found]
        splits = tuple(name.partition("/")[0].removesuffix(".json") for name in names) or ("train",)
        splits = SPLITS if set(SPLITS) <= set(splits) else splits
    return {split: _find_split(folder, split) for split in splits}


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

    Args:
        path: COCO's JSON, or Label Studio's; or a folder of files for each picture: YOLO's text (boxes or
            polygons), Pascal VOC's XML, LabelMe's JSON.
        image_dir: folder of the pictures; formats that count in parts of a picture need it.

    Raises:
        InputError: no such file, or of no such format.
    """
    if path.is_dir():
        for suffix, read in (("txt", None), ("xml", _voc_picture), ("json", _labelme_picture)):
            files = [file for file in sorted(path.rglob(f"*.{suffix}")) if file.name not in _CLASS_FILES]
            if files and (image_dir is None or not image_dir.is_dir()):
                raise InputError(f"{image_dir}: no such folder; it must hold the pictures of {path}")
            if files:
                named = operator.attrgetter("name")
                return _read_each(files, read, named) if read else _yolo(files, path, image_dir)
        raise InputError(f"{path} has no annotations: neither YOLO's text, nor Pascal VOC's XML, nor JSON")
    content = load_json(path)
    if isinstance(content, list) and all(isinstance(task, dict) and "data" in task for task in content):
        return _read_each(content, _label_studio_picture, lambda task: f"task {task.get('id')}")
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object; it must hold annotations in COCO format")
    return content


def load_json(path: str | os.PathLike, object_hook: Callable[[dict], Any] | None = None) -> Any:
    """Reads a JSON file, in UTF-8, 16 or 32, with or without a byte order mark, or compressed by gzip.

    Args:
        path: of the file.
        object_hook: as for `json.loads`.

    Raises:
        InputError: no such file, or not JSON.
    """
    try:
        data = Path(path).read_bytes()
        data = gzip.decompress(data) if data.startswith(_GZIP) else data
        return json.loads(data, object_hook=object_hook)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{path}: {reason}; it must hold annotations, such as COCO's JSON") from error
    except (ValueError, EOFError, RecursionError) as error:
        what = f"is not valid JSON ({error})" if data else "is empty"
        raise InputError(f"{path} {what}; it must hold annotations, such as COCO's JSON") from error


def _read_each(
    sources: Iterable, read: Callable[[Any], tuple[dict, list[dict]]], named: Callable[[Any], str]
) -> dict[str, list]:
    """The content of a COCO file, from what reads an image and its annotations; who fails is named."""

    def images() -> Iterator[tuple[dict | str, list[dict]]]:
        for source in sources:
            try:
                yield read(source)
            except _UNREADABLE as error:
                yield f"{named(source)}: {error}", []

    return _collected(images())


def _collected(
    images: Iterable[tuple[dict | str, list[dict]]], names: list[str] | None = None
) -> dict[str, list]:
    """The content of a COCO file, from images with their annotations; a text stands for an unusable file."""
    content: dict[str, list] = {"images": [], "annotations": []}
    for image_id, (image, annotations) in enumerate(images, start=1):
        content["images"].append(image if isinstance(image, str) else image | {"id": image_id})
        content["annotations"] += [entry | {"image_id": image_id} for entry in annotations]
    used = dict.fromkeys(entry["category_id"] for entry in content["annotations"])
    if names is None:  # categories are names
        return content | {"categories": [{"id": name, "name": str(name)} for name in used]}
    known = {*range(len(names)), *used}
    labels = dict(enumerate(names))
    return content | {"categories": [{"id": i, "name": labels.get(i, str(i))} for i in sorted(known)]}


def _yolo(files: list[Path], folder: Path, image_dir: Path) -> dict:
    """Text for each picture, a line for each object: class, then centre and sides, or points, from 0 to 1."""
    labels = {file.relative_to(folder).with_suffix(""): file for file in files}
    pictures = {path.relative_to(image_dir).with_suffix(""): path for path in files_below(image_dir)}

    def images() -> Iterator[tuple[dict, list[dict]]]:
        for name in sorted(labels.keys() | pictures.keys()):
            if name not in pictures:
                yield {"file_name": str(name)}, []
                continue
            width, height = upright_size(pictures[name]) or (1, 1)
            lines = labels[name].read_text("utf-8-sig", "replace").splitlines() if name in labels else []
            file_name = pictures[name].relative_to(image_dir).as_posix()
            objects = [_yolo_object(line.split(), width, height) for line in lines if line.strip()]
            yield {"file_name": file_name, "width": width, "height": height}, objects

    return _collected(images(), _class_names(folder))


def _yolo_object(words: list[str], width: int, height: int) -> dict:
    values = [
        number(word) * side for word, side in zip(words[1:], [width, height] * len(words), strict=False)
    ]
    entry: dict[str, Any] = {"category_id": whole(words[0])}
    is_class = entry["category_id"] is not None and entry["category_id"] >= 0
    if is_class and len(values) in (4, 5):  # a fifth is the confidence
        x, y, box_width, box_height = values[:4]
        return entry | {"bbox": [x - box_width / 2, y - box_height / 2, box_width, box_height]}
    if is_class and len(values) >= 6 and len(values) % 2 == 0:
        return entry | _polygon(values)
    return {"category_id": 0, "bbox": " ".join(words)}


def _polygon(values: list[float]) -> dict:
    """An annotation's mask, and the box around it, from x and y in turn."""
    x, y = values[::2], values[1::2]
    return {"segmentation": [values], "bbox": [min(x), min(y), max(x) - min(x), max(y) - min(y)]}


def _class_names(folder: Path) -> list[str]:
    """The names of a YOLO data set's classes, from the file that lies beside its labels or above."""
    places = [place / name for place in (folder, *folder.absolute().parents[:2]) for name in _CLASS_FILES]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return []
    text = path.read_text("utf-8-sig", "replace")
    if path.suffix not in (".yaml", ".yml"):
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        names = yaml.safe_load(text)["names"]
        return (
            [str(names[key]) for key in sorted(names)] if isinstance(names, dict) else list(map(str, names))
        )
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError(f"{path} has no list 'names' of the classes: {error}") from error


def _voc_picture(file: Path) -> tuple[dict, list[dict]]:
    """XML of Pascal VOC, whose pixels count from 1, both ends of a box included."""
    root = ElementTree.parse(file).getroot()
    size = {side: root.findtext(f"size/{side}") for side in ("width", "height")}
    known = {side: whole(length) for side, length in size.items() if whole(length)}
    name = root.findtext("filename") or file.stem
    return {"file_name": name, **known}, [_voc_object(entry) for entry in root.iter("object")]


def _voc_object(entry: ElementTree.Element) -> dict:
    named = {"category_id": (entry.findtext("name") or "object").strip()}
    polygon = entry.find("polygon")
    if polygon is not None and len(polygon) >= 6:  # Roboflow: x1, y1, x2, …
        return named | _polygon([number(point.text) for point in polygon])
    corners = [number(entry.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
    left, top, right, bottom = corners
    return named | {"bbox": [left - 1, top - 1, right - left + 1, bottom - top + 1]}


def _labelme_picture(file: Path) -> tuple[dict, list[dict]]:
    """JSON of LabelMe (https://github.com/wkentaro/labelme)."""
    content = load_json(file)
    shapes = [_labelme_shape(shape) for shape in content["shapes"]]
    sizes = {"width": content.get("imageWidth"), "height": content.get("imageHeight")}
    return {"file_name": content.get("imagePath") or file.stem, **sizes}, shapes


def _labelme_shape(shape: dict) -> dict:
    named, kind = {"category_id": str(shape.get("label") or "object")}, shape.get("shape_type", "polygon")
    points = shape.get("points") or []
    values = [number(coordinate) for point in points if isinstance(point, list) for coordinate in point[:2]]
    if kind == "polygon" and len(values) >= 6:
        return named | _polygon(values)
    if kind == "rectangle" and len(values) == 4:
        return named | {"bbox": _polygon(values)["bbox"]}
    return named | {"bbox": kind}  # a circle, a line, a point


def _label_studio_picture(task: dict) -> tuple[dict, list[dict]]:
    """A task of Label Studio's JSON (https://labelstud.io/guide/export): boxes and polygons in percent."""
    name = next(value for value in task["data"].values() if isinstance(value, str))
    results = [result for done in task["annotations"][:1] for result in done["result"]]
    return {"file_name": name}, [_label_studio_object(result) for result in results]


def _label_studio_object(result: dict) -> dict:
    value, kind = result["value"], result["type"]
    named = {"category_id": str((value.get(kind) or ["object"])[0])}
    width, height = result["original_width"] / 100, result["original_height"] / 100
    if kind == "polygonlabels":
        return named | _polygon([x for x, y in value["points"] for x in (x * width, y * height)])
    if kind == "rectanglelabels" and not value.get("rotation"):
        sides = [value["x"] * width, value["y"] * height, value["width"] * width, value["height"] * height]
        return named | {"bbox": sides}
    return named | {"bbox": kind}
