"""The rules that find and mend flaws of images and annotations in COCO format.

A rule takes an entry and what it needs to know beside it, and yields a `Finding` for each flaw.
"""

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from deepmac.core.errors import InputError
from deepmac.data import flaws
from deepmac.data.category_lists import CATEGORY_FIELDS
from deepmac.data.flaws import Finding
from deepmac.data.numbers import key_in, number, numbers_in, whole
from deepmac.data.picture_files import PictureSize
from deepmac.data.segmentations import agreement, along_rows, mask_area, mask_box, mask_findings

_MOST_PIXELS = 2**32  # more, run lengths cannot count
_NAME_FIELDS = ("file_name", "filename", "path", "name", "file", "image", "coco_url", "url", "given_id")
# Fields of a box that are read, of one corner and the sides, or of two corners.
_SIDE_FIELDS = ("x y width height", "x y w h", "left top width height", "xmin ymin width height")
_CORNER_FIELDS = ("xmin ymin xmax ymax", "x1 y1 x2 y2", "left top right bottom")
# `bbox_mode`, as in Detectron2, of boxes as (xmin, ymin, xmax, ymax) or (x, y, width, height) in pixels.
CORNERS, SIDES = 0, 1


def name_findings(image: dict) -> Iterator[Finding]:
    """Finds images without `file_name`."""
    if not (isinstance(image.get("file_name"), str) and image["file_name"].strip()):
        names = (str(image[field]) for field in _NAME_FIELDS if isinstance(image.get(field), str | int))
        named = next((name for name in names if name.strip()), None)
        yield Finding(flaws.NO_NAME, f"image id {image['id']}", named and {"file_name": named})


def image_findings(image: dict, found: tuple[str, PictureSize | str] | None) -> Iterator[Finding]:
    """Finds what is wrong with an image's entry, beside its picture.

    `found` is path and size of the picture, or what is wrong with it; None if it is missing.
    """
    if found is None:
        yield Finding(flaws.MISSING_PICTURE, image["file_name"])
        return
    path, size = found
    if path.encode("utf-8", "replace").decode() != path:
        yield Finding(flaws.BAD_NAME, path)
        return
    if isinstance(size, str):
        yield Finding(flaws.CORRUPT_PICTURE, size)
        return
    if path != image["file_name"]:
        yield Finding(flaws.OTHER_NAME, f"{image['file_name']} is {path}", {"file_name": path})
    annotated = annotated_size(image)
    if annotated is None:
        yield Finding(flaws.NO_SIZE, path, dict(zip(("width", "height"), size.upright, strict=True)))
    elif annotated not in size:
        seen = " x ".join(map(str, size.upright))
        yield Finding(flaws.OTHER_SIZE, f"{path} is {seen}, not {annotated[0]} x {annotated[1]}")
    elif annotated != size.stored:
        yield Finding(flaws.TURNED, path, {})


def annotated_size(image: dict) -> tuple[int, int] | None:
    """Width and height of an entry in pixels; None if it does not say."""
    width, height = whole(image.get("width")), whole(image.get("height"))
    is_usable = width and height and min(width, height) > 0 and width * height < _MOST_PIXELS
    return (width, height) if is_usable else None


def size_findings(image: dict) -> Iterator[Finding]:
    """Finds what is wrong with an image's size, if its picture is not at hand, or it is written oddly."""
    annotated = annotated_size(image)
    if annotated is None:
        yield Finding(flaws.NO_SIZE, str(image.get("file_name", image["id"])))
    elif not (type(image["width"]) is type(image["height"]) is int):
        yield Finding(flaws.NO_SIZE, f"{image['width']!r}", {"width": annotated[0], "height": annotated[1]})


def category_findings(entry: dict, image: dict, categories: Mapping[int | str, int]) -> Iterator[Finding]:
    """Finds what is wrong with an annotation's `category_id`."""
    key = key_in(entry, CATEGORY_FIELDS)
    if key is None:
        yield Finding(flaws.NO_CATEGORY, "it has no 'category_id'", {"category_id": categories[""]})
    elif key not in categories:
        yield Finding(flaws.NOT_LISTED, f"category id {key} is not in the list")
    elif type(entry.get("category_id")) is not int or entry["category_id"] != categories[key]:
        yield Finding(flaws.ODD_CATEGORY, f"its category is {key!r}", {"category_id": categories[key]})


def place_findings(entry: dict, image: dict, *_) -> Iterator[Finding]:
    """Finds checked masks that contradict their boxes: run lengths along the rows, and masks elsewhere."""
    mask, box = entry["segmentation"], read_box(entry)
    box = _clipped_box(box, image) if mask and box and all(map(math.isfinite, box)) else None
    if box is None:
        return
    fits, touches = agreement(mask, box)
    turned = None if fits or isinstance(mask, list) else along_rows(mask)
    if turned and agreement(turned, box)[0]:
        yield Finding(flaws.ALONG_ROWS, f"'bbox' is {box}", {"segmentation": turned})
    elif not touches:
        yield Finding(flaws.ELSEWHERE, f"'bbox' is {box}", {"segmentation": []})


def box_findings(entry: dict, image: dict, *_) -> Iterator[Finding]:
    """Finds what is wrong with an annotation's `bbox`; its mask, already checked, may replace it."""
    given, box = entry.get("bbox"), read_box(entry)
    case = f"'bbox' is {str(given)[:60]}"
    if isinstance(given, list) and len(given) == 5:
        case += ", as of a turned box"
    around = mask_box(entry["segmentation"])
    spare = around and _clipped_box(around, image)
    mode = {"bbox_mode": SIDES} if entry.get("bbox_mode") == CORNERS else {}  # or it is converted again
    replaced = {"bbox": spare} | mode if spare else None
    if box is None:
        yield Finding(flaws.NO_BOX, case if "bbox" in entry else "no 'bbox'", replaced)
    elif not all(map(math.isfinite, box)):
        yield Finding(flaws.NOT_FINITE, case, replaced)
    else:
        if box != given:
            yield Finding(flaws.ODD_BOX, case, {"bbox": box} | mode)
        clipped = _clipped_box(box, image)
        if clipped is None:
            yield Finding(flaws.NO_AREA_INSIDE, f"'bbox' is {given}", replaced)
        elif clipped != box:
            yield Finding(flaws.REACHES_BEYOND, f"'bbox' is {given}", {"bbox": clipped} | mode)


def read_box(entry: dict) -> list[float] | None:
    """The box of an annotation as (x, y, width, height), whatever its form; None if there is none."""
    given, is_corners = entry.get("bbox"), entry.get("bbox_mode") == CORNERS
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if isinstance(given, str):
        given = numbers_in(given)
    if isinstance(given, dict):
        given = {name.lower().replace("_", ""): value for name, value in given.items()}
        fields = next((f for f in _SIDE_FIELDS + _CORNER_FIELDS if given.keys() >= set(f.split())), None)
        if fields is None:
            return None
        given, is_corners = [given[name] for name in fields.split()], fields in _CORNER_FIELDS
    if not isinstance(given, list) or len(given) != 4 or any(isinstance(x, list | dict) for x in given):
        return None
    box = [number(x) for x in given]
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]] if is_corners else box


def read_points(annotation: dict) -> np.ndarray:
    """Reads the points of point-supervised data (arXiv 2104.06404): `point_coords` and `point_labels`.

    Returns:
        float32 [k, 3]: x, y in pixels, 1 on the object, 0 beside it; none of annotations without points.

    Raises:
        ValueError: they are not a pair of numbers, and 0 or 1, for each point.
    """
    points = np.asarray(annotation.get("point_coords") or np.zeros((0, 2)), np.float32)
    labels = np.asarray(annotation.get("point_labels") or (), np.float32)
    if points.shape != (len(labels), 2) or not np.isin(labels, (0, 1)).all():
        raise ValueError("point_coords must be pairs, and point_labels a 0 or 1 for each")
    return np.column_stack([points, labels])


def point_findings(entry: dict, *_) -> Iterator[Finding]:
    """Finds points that are none."""
    try:
        read_points(entry)
    except (ValueError, TypeError, OverflowError) as error:
        yield Finding(flaws.BAD_POINTS, str(error), {"point_coords": [], "point_labels": []})


def area_findings(entry: dict, image: dict, *_) -> Iterator[Finding]:
    """Finds a missing `area`, that of the mask in pixels, or of the box."""
    area = number(entry.get("area"))
    if not (area is entry.get("area") and math.isfinite(area) and area >= 0):
        area = mask_area(entry["segmentation"], image) or entry["bbox"][2] * entry["bbox"][3]
        yield Finding(flaws.NO_AREA, "it needs 'area', a number", {"area": area})


def crowd_findings(entry: dict, *_) -> Iterator[Finding]:
    """Finds a missing `iscrowd`."""
    given = entry.get("iscrowd")
    if type(given) is not int or given not in (0, 1):
        is_crowd = given is True or str(given).lower() in ("1", "1.0", "true")
        yield Finding(flaws.NO_CROWD, f"'iscrowd' is {given!r:.40}", {"iscrowd": int(is_crowd)})


def known_image(entry: dict, image: dict | None, *_) -> Iterator[Finding]:
    """Finds annotations whose image is not listed."""
    if image is None:
        yield Finding(flaws.UNKNOWN_IMAGE, f"image id {entry.get('image_id')} is not in the list of images")
    elif type(entry.get("image_id")) is not int or entry["image_id"] != image["id"]:
        yield Finding(flaws.ODD_ID, f"'image_id' is {entry.get('image_id')!r:.40}", {"image_id": image["id"]})


ANNOTATION_RULES = (
    known_image,
    category_findings,
    mask_findings,
    place_findings,
    box_findings,
    point_findings,
    area_findings,
    crowd_findings,
)


def _clipped_box(box: list[float], image: dict) -> list[float] | None:
    """The part of (x, y, width, height) in the image, the same numbers if it is all; None without area."""
    x, y, width, height = box
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + width, image["width"]), min(y + height, image["height"])
    if not (width > 0 and height > 0 and right > left and bottom > top):
        return None
    return [
        left,
        top,
        width if (left, right) == (x, x + width) else _length(left, right),
        height if (top, bottom) == (y, y + height) else _length(top, bottom),
    ]


def _length(start: float, end: float) -> float:
    """Such that start + length, as a computer adds them, is not beyond the end."""
    length = end - start
    return length if start + length <= end else math.nextafter(length, 0)


def boxes_are_corners(name: str, pairs: Iterable[tuple[dict, dict]]) -> bool:
    """Whether all boxes can be (xmin, ymin, xmax, ymax) and most cannot be (x, y, width, height).

    `pairs` are annotations with their images. InputError: they are parts of the image instead of pixels.
    """
    boxes, sizes = [], []
    for entry, image in pairs:
        box = None if isinstance(entry.get("bbox"), dict) else read_box(entry)
        if box and all(map(math.isfinite, box)):
            boxes.append([float(x) for x in box])
            sizes.append((image["width"], image["height"]))
    if not boxes:
        return False
    (x, y, right, bottom), (width, height) = np.transpose(boxes), np.transpose(sizes)
    if np.max(boxes) <= 1 and np.any(np.mod(boxes, 1)):
        raise InputError(f"{name}: boxes are from 0 to 1: give x, y, width, height in pixels")
    are_corners = (right > x) & (bottom > y) & (right <= width + 1) & (bottom <= height + 1)
    beyond = (x + right > width + 1) | (y + bottom > height + 1)
    return bool(are_corners.all() and beyond.mean() > 0.5)
