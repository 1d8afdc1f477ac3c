"""Annotated masks, COCO's `segmentation`: polygons, or run lengths column by column.

They are brought to one form and checked before pycocotools sees them: run lengths beyond the picture end its
process, and polygons that reach far away take all memory.
"""

import json
import re
from collections.abc import Iterator

import numpy as np
from pycocotools import mask as coco_mask

from deepmac.core import polygons
from deepmac.data.flaws import BAD_MASK, BAD_PART, ODD_MASK, WITHOUT_MASK, Finding
from deepmac.data.numbers import number, numbers_in, whole

_FAR = 10  # sides of the picture; points of a polygon farther away from it are a mistake
_MOST_PIXELS = 2**28  # of a mask that may run along the rows: it is decoded
_SMALL = 4  # pixels; polygons of less area may cover the centre of none
_FILLED = 0.999  # part of a box that a rectangle covers, but for rounding
_SAME_OBJECT = 0.5  # IoU of a mask's box with the annotated box


def mask_findings(annotation: dict, image: dict, *_) -> Iterator[Finding]:
    """Finds what is wrong with an annotation's `segmentation`, anything that JSON holds.

    What replaces it: polygons of three points or more, run lengths of an object, or [].
    """
    given = annotation.get("segmentation")
    if given in (None, [], {}, "", [[]]):
        yield Finding(WITHOUT_MASK, "a box only", {"segmentation": []})
        return
    shape = [image["height"], image["width"]]
    problems: list[str | None] = []
    try:
        standard = mask = _standard_form(given, shape)
        if isinstance(standard, list):
            standard = _in_pixels(standard, annotation.get("bbox"), shape)
            problems = [_polygon_problem(points, shape) for points in standard]
            mask = [points for points, problem in zip(standard, problems, strict=True) if not problem]
            if not mask:
                raise ValueError(f"has {problems[0]}" if problems else "is empty")
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        yield Finding(BAD_MASK, f"'segmentation' {error}", {"segmentation": []})
        return
    if any(problems):
        found = next(filter(None, problems))
        yield Finding(BAD_PART, f"'segmentation' has {found}", {"segmentation": mask})
    elif standard is not given:
        yield Finding(ODD_MASK, "'segmentation' is in another form", {"segmentation": mask})


def along_rows(rle: dict) -> dict | None:
    """Checked run lengths as they are meant if they run along the rows; None: too many pixels to tell."""
    height, width = rle["size"]
    if height * width > _MOST_PIXELS:
        return None
    mask = coco_mask.decode(run_lengths(rle | {"size": [width, height]})).T
    return encoded_mask(mask)


def encoded_mask(mask: np.ndarray) -> dict:
    """Run lengths, compressed, of a mask, uint8 [H, W], 0 or 1."""
    return _as_text(coco_mask.encode(np.asfortranarray(mask)))


def fits_box(mask: list | dict, box: list[float]) -> bool:
    """Whether a checked mask can be that of the object in a box (x, y, width, height) with area."""
    x, y, width, height = mask_box(mask) or box
    overlap = max(0, min(x + width, box[0] + box[2]) - max(x, box[0]))
    overlap *= max(0, min(y + height, box[1] + box[3]) - max(y, box[1]))
    return overlap >= _SAME_OBJECT * (width * height + box[2] * box[3] - overlap)


def mask_box(segmentation: list | dict) -> list[float] | None:
    """The box (x, y, width, height) around a checked mask, None if there is no mask."""
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        return coco_mask.toBbox(run_lengths(segmentation)).tolist()
    points = np.concatenate([np.reshape(part, (-1, 2)) for part in segmentation])
    low, high = points.min(axis=0), points.max(axis=0)
    return [*low.tolist(), *(high - low).tolist()]


def is_rectangle(segmentation: list | dict) -> bool:
    """Whether a checked mask fills the box around it."""
    *_, width, height = mask_box(segmentation) or [0, 0]
    if isinstance(segmentation, dict):
        area = coco_mask.area(run_lengths(segmentation))
    else:
        area = polygons.area(np.reshape(segmentation[0], (-1, 2))) if len(segmentation) == 1 else 0
    return bool(area >= _FILLED * width * height)


def mask_area(segmentation: list | dict, image: dict) -> float | None:
    """The number of pixels of a checked mask, None if there is no mask."""
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        return float(coco_mask.area(run_lengths(segmentation)))
    drawn = coco_mask.frPyObjects(segmentation, image["height"], image["width"])
    return float(coco_mask.area(coco_mask.merge(drawn)))


def run_lengths(rle: dict) -> dict:
    """RLE as pycocotools computes with it."""
    return coco_mask.frPyObjects(rle, *rle["size"]) if isinstance(rle["counts"], list) else rle


def _standard_form(value, shape: list[int]) -> list | dict:
    """Polygons, not checked yet, or checked run lengths. ValueError: neither."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = numbers_in(value) or None
    if isinstance(value, dict) and "counts" in value:
        return _standard_run_lengths(value, shape)
    if isinstance(value, dict) and "all_points_x" in value:  # of VGG Image Annotator
        value = list(zip(value["all_points_x"], value["all_points_y"], strict=True))
    if not isinstance(value, list):
        raise ValueError("is neither polygons nor RLE")
    if value and all(isinstance(part, dict) and "counts" in part for part in value):
        parts = [_standard_run_lengths(part, shape) for part in value]
        return _as_text(coco_mask.merge(list(map(run_lengths, parts)))) if len(parts) > 1 else parts[0]
    if len(value) == shape[0] and all(_is_row(row, shape[1]) for row in value):  # of a picture
        return _standard_run_lengths(encoded_mask(np.array(value, np.uint8)), shape)
    if all(isinstance(part, list) and len(part) > 2 and _are(part, {int, float}) for part in value):
        return value
    return _polygons(value)


def _is_row(values, length: int) -> bool:
    """Whether it is a row of so many pixels, 0 or 1."""
    is_row = isinstance(values, list) and len(values) == length and _are(values, {int, float, bool})
    return is_row and {0, 1}.issuperset(values)


def _are(values: list, kinds: set[type]) -> bool:
    return kinds.issuperset(map(type, values))


def _polygons(value) -> list[list[float]]:
    """The polygons in nested lists of numbers, texts or points; [] stands for what is none."""
    if not isinstance(value, list | tuple) or not value:
        return [[]]
    if _are(value, {int, float, str}):
        return [[number(x) for x in value]]
    points = [_point(part) for part in value]
    if all(points):
        return [[number(coordinate) for point in points for coordinate in point or ()]]
    return [polygon for part in value for polygon in _polygons(part)]


def _point(part) -> list | None:
    """x and y of a point: a pair, an object, or, as in OpenCV's contours, a list of one; None: it is none."""
    while isinstance(part, list) and len(part) == 1:
        part = part[0]
    if isinstance(part, dict):
        part = [value for key, value in sorted(part.items()) if key.lower() in ("x", "y")]
    is_pair = isinstance(part, list | tuple) and len(part) == 2
    return list(part) if is_pair and not isinstance(part[0], list | dict) else None


def _in_pixels(parts: list[list], box, shape: list[int]) -> list[list]:
    """Polygons whose points are from 0 to 1, in pixels; others, and those of a pixel, as they are."""
    values = [value for part in parts for value in part]
    is_pixel = isinstance(box, list) and _are(box, {int, float}) and 1 <= min(box[2:], default=0) <= 2
    if not values or min(values) < 0 or max(values) > 1 or is_pixel:
        return parts
    return [[value * shape[1 - place % 2] for place, value in enumerate(part)] for part in parts]


def _polygon_problem(points: list, shape: list[int]) -> str | None:
    if len(points) < 6 or len(points) % 2:
        return "a polygon of other than three points or more"
    far = _FAR * max(shape)
    try:
        polygon = np.array(points, np.float64).reshape(-1, 2)
    except OverflowError:  # a whole number of hundreds of digits
        polygon = np.array([[np.inf, np.inf]])
    x, y = polygon.T
    if not np.abs([x, y]).max() <= far:  # also of those that are no numbers
        return f"a point that is no number, or over {far} pixels away"
    inside = x.min() >= 0 and y.min() >= 0 and x.max() <= shape[1] and y.max() <= shape[0]
    is_doubtful = polygons.area(polygon) < _SMALL or not inside
    if is_doubtful and not coco_mask.area(coco_mask.frPyObjects([points], *shape))[0]:
        return "a polygon without a pixel in the image"
    return None


def _standard_run_lengths(value: dict, shape: list[int]) -> dict:
    """Run lengths of an object, of the image's size. ValueError: they are not."""
    counts, size = value["counts"], value.get("size", shape)
    if isinstance(counts, str) and re.search("[, ]", counts):  # a list as text: the other form has neither
        counts = numbers_in(counts)
    elif isinstance(counts, str) and counts[:2] in ("b'", 'b"'):  # Python's text of bytes
        counts = counts[2:-1].replace("\\\\", "\\")
    if isinstance(counts, list) and not all(type(count) is int for count in counts):
        counts = [whole(count) for count in counts]
    runs = _decompressed(counts) if isinstance(counts, str | bytes) else counts
    numbers = [whole(side) for side in size] if isinstance(size, list) else size
    if numbers not in (shape, shape[::-1]) or (numbers != shape and shape[0] * shape[1] > _MOST_PIXELS):
        raise ValueError(f"is {size}, but its image is {shape}")
    is_object = (
        isinstance(runs, list)
        and all(isinstance(count, int) and count >= 0 for count in runs)
        and sum(runs) == shape[0] * shape[1]
        and sum(runs[1::2]) > 0
    )
    if not is_object:
        raise ValueError("has run lengths of no object")
    is_standard = counts is value["counts"] and value.get("size") == shape and _are(size, {int})
    return value if is_standard else {"size": shape, "counts": counts}


def _as_text(rle: dict) -> dict:
    """Run lengths of pycocotools, fit for JSON."""
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def _decompressed(text: str | bytes) -> list[int] | None:
    """Run lengths of COCO's compressed form, None if it is none.

    Five bits a character, the lowest first, a sixth for "more follow"; from the fourth number on, differences
    from the last but one.
    """
    codes = [code - 48 for code in (text if isinstance(text, bytes) else text.encode("utf-8"))]
    if not codes or min(codes) < 0 or max(codes) > 63 or codes[-1] & 32:
        return None
    counts, value, shift = [], 0, 0
    for code in codes:
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return counts
