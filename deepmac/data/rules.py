"""The rules that find and mend flaws of images and annotations in COCO format.

A rule takes an entry and what it needs to know beside it, and yields a `Finding` for each flaw.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import numpy as np

from deepmac.core.errors import InputError
from deepmac.data import flaws
from deepmac.data.category_lists import CATEGORY_FIELDS
from deepmac.data.flaws import Finding, Findings
from deepmac.data.numbers import key_in, number, numbers_in, whole
from deepmac.data.picture_files import PictureSize
from deepmac.data.segmentations import along_rows, fits_box, is_rectangle, mask_area, mask_box, mask_findings

_MOST_PIXELS = 2**32  # more, run lengths cannot count
_NAME_FIELDS = ("file_name", "filename", "path", "name", "file", "image", "coco_url", "url", "given_id")
# Fields of a box that are read, of one corner and the sides, or of two corners.
_SIDE_FIELDS = ("x y width height", "x y w h", "left top width height", "xmin ymin width height")
_CORNER_FIELDS = ("xmin ymin xmax ymax", "x1 y1 x2 y2", "left top right bottom")
CORNERS, SIDES, _ROWS_FIRST = 0, 1, "rows first"
# `bbox_mode` -> (x, y, width, height) of the numbers, and how many units the image has, None for pixels;
# the whole numbers are those of Detectron2.
_LAYOUTS: dict[int | str, Callable[..., list]] = {
    CORNERS: lambda left, top, right, bottom: [left, top, right - left, bottom - top],
    SIDES: lambda *sides: [*sides],
    "centres": lambda x, y, width, height: [x - width / 2, y - height / 2, width, height],
    _ROWS_FIRST: lambda y, x, height, width: [x, y, width, height],
}
_MODES = {mode: (layout, None) for mode, layout in _LAYOUTS.items()}
_MODES |= {2: (_LAYOUTS[CORNERS], 1), 3: (_LAYOUTS[SIDES], 1), "centres of 1": (_LAYOUTS["centres"], 1)}
_MODES |= {f"{mode} of 100": (_LAYOUTS[mode], 100) for mode in (CORNERS, SIDES, "centres")}
_PART = 1.01  # numbers up to this are parts of the image, written with some error
_SAMPLE = 200  # masks, spread over the file, that tell how its boxes are meant
_SEVERAL = 10  # masks of a class, of which some are rectangles by chance
_BEYOND = 0.02  # of the image's side, beside a pixel, by which boxes may miss it


def name_of(image: dict) -> str | None:
    """The name of an image's picture, in `file_name` or a similar field; None if there is none."""
    names = (str(image[field]) for field in _NAME_FIELDS if isinstance(image.get(field), str | int))
    return next((name for name in names if name.strip()), None)


def shared_names(images: Iterable[dict]) -> set[str | None]:
    """The names that several images have."""
    return {name for name, count in Counter(map(name_of, images)).items() if count > 1}


def name_findings(image: dict, shared: Collection[str | None]) -> Iterator[Finding]:
    """Finds images without `file_name`, or with one that others have, and a `path` beside it."""
    given, path, name = image.get("file_name"), image.get("path"), name_of(image)
    if name in shared and isinstance(path, str) and path.strip():
        name = path
    if name is None or name != given:
        yield Finding(flaws.NO_NAME, f"image id {image['id']}", name and {"file_name": name})


def image_findings(
    image: dict, found: tuple[str, PictureSize | str] | None, may_swap: bool = False
) -> Iterator[Finding]:
    """Finds what is wrong with an image's entry, beside its picture.

    `found` is path and size of the picture, or what is wrong with it; None if it is missing. `may_swap`:
    width and height are taken for each other if the picture has them so.
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
    if size.is_turned and (annotated is None or size.stored == size.upright):
        yield Finding(flaws.PERHAPS_TURNED, path, {})
    if annotated is None:
        yield Finding(flaws.NO_SIZE, path, dict(zip(("width", "height"), size.upright, strict=True)))
    elif may_swap and is_swapped(image, size):
        sides = dict(zip(("width", "height"), size.upright, strict=True))
        yield Finding(flaws.SWAPPED, f"{path} is {annotated[1]} x {annotated[0]}", sides)
    elif annotated not in (size.stored, size.upright):
        seen = " x ".join(map(str, size.upright))
        yield Finding(flaws.OTHER_SIZE, f"{path} is {seen}, not {annotated[0]} x {annotated[1]}")
    elif annotated != size.stored:
        yield Finding(flaws.TURNED, path, {})


def is_swapped(image: dict, size: PictureSize | str) -> bool:
    """Whether an entry has width and height of a picture, which no camera has turned, in the other order."""
    annotated = annotated_size(image)
    if annotated is None or isinstance(size, str):
        return False
    return size.stored == size.upright == annotated[::-1] != annotated


def sizes_are_swapped(images: Iterable[tuple[dict, list]]) -> bool:
    """Whether it is the sizes of `is_swapped` that are wrong, and no picture was turned: by their boxes.

    That is, all of them fit to the pictures, and one does not to the sizes. `images` are entries and boxes.
    """
    ends = []
    for image, boxes in images:
        width, height = annotated_size(image) or (0, 0)
        ends += [(x + w, y + h, width + 1, height + 1) for x, y, w, h in boxes]
    fit = all(right <= height and bottom <= width for right, bottom, width, height in ends)
    return fit and any(right > width or bottom > height for right, bottom, width, height in ends)


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
    given = next((entry[field] for field in CATEGORY_FIELDS if entry.get(field) not in (None, "")), None)
    if key is None and given is not None:
        yield Finding(flaws.NO_CATEGORY, f"its category is {str(given)[:40]}")
    elif key is None:
        yield Finding(flaws.NO_CATEGORY, "it has no 'category_id'", {"category_id": categories[""]})
    elif key not in categories:
        yield Finding(flaws.NOT_LISTED, f"category id {key} is not in the list")
    elif type(entry.get("category_id")) is not int or entry["category_id"] != categories[key]:
        yield Finding(flaws.ODD_CATEGORY, f"its category is {key!r}", {"category_id": categories[key]})


def place_findings(entry: dict, image: dict, *_) -> Iterator[Finding]:
    """Finds checked masks that contradict their boxes: along the rows, or otherwise."""
    mask, box = entry["segmentation"], read_box(entry, image)
    is_box = bool(mask and box) and all(map(math.isfinite, box)) and not _are_parts(box)
    box = _clipped_box(box, image) if is_box else None
    if box is None:
        return
    fits = fits_box(mask, box)
    turned = None if fits or isinstance(mask, list) else along_rows(mask)
    if turned and fits_box(turned, box):
        yield Finding(flaws.ALONG_ROWS, f"'bbox' is {box}", {"segmentation": turned})
    elif not fits:
        yield Finding(flaws.DISAGREES, f"'bbox' is {box}, that of the mask {mask_box(mask)}", {})


def corner_findings(entry: dict, image: dict, *_) -> Iterator[Finding]:
    """Finds boxes that are given from another corner than the upper left one, with negative sides."""
    box = read_box(entry, image)
    if box and all(map(math.isfinite, box)) and min(box[2:]) < 0:
        x, y, width, height = box
        turned = [min(x, x + width), min(y, y + height), abs(width), abs(height)]
        if _clipped_box(turned, image):
            yield Finding(flaws.NEGATIVE, f"'bbox' is {entry['bbox']}", {"bbox": turned, "bbox_mode": SIDES})


def box_findings(entry: dict, image: dict, *_) -> Iterator[Finding]:
    """Finds what is wrong with an annotation's `bbox`; its mask, already checked, may replace it."""
    given, box = entry.get("bbox"), read_box(entry, image)
    case = f"'bbox' is {str(given)[:60]}"
    if isinstance(given, list) and len(given) == 5:
        case += ", as of a turned box"
    around = mask_box(entry["segmentation"])
    spare = around and _clipped_box(around, image)
    is_pixels = entry.get("bbox_mode") in (None, SIDES)
    mode = {} if is_pixels else {"bbox_mode": SIDES}  # or it is converted again
    replaced = {"bbox": spare} | mode if spare else None
    if box is None:
        yield Finding(flaws.NO_BOX, case if "bbox" in entry else "no 'bbox'", replaced)
    elif not all(map(math.isfinite, box)):
        yield Finding(flaws.NOT_FINITE, case, replaced)
    else:
        if box != given:
            yield Finding(flaws.ODD_BOX, case, {"bbox": box} | mode)
        clipped = None if _are_parts(box) else _clipped_box(box, image)
        if clipped is None:
            yield Finding(flaws.NO_AREA_INSIDE, f"'bbox' is {given}", replaced)
        elif clipped != box:
            yield Finding(flaws.REACHES_BEYOND, f"'bbox' is {given}", {"bbox": clipped} | mode)


def _are_parts(box: list[float]) -> bool:
    """Whether the numbers of a box are parts of the image, from 0 to 1: none is so close to its corner."""
    return max(box) <= _PART and any(x % 1 for x in box)


def read_box(entry: dict, image: dict | None = None) -> list[float] | None:
    """The box of an annotation as (x, y, width, height), whatever its form; None if there is none.

    Its image is needed for boxes whose `bbox_mode` says that they are parts of it.
    """
    given, mode = entry.get("bbox"), entry.get("bbox_mode")
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if isinstance(given, str):
        given = numbers_in(given)
    if isinstance(given, dict):
        given = {name.lower().replace("_", ""): value for name, value in given.items()}
        fields = next((f for f in _SIDE_FIELDS + _CORNER_FIELDS if given.keys() >= set(f.split())), None)
        if fields is None:
            return None
        given = [given[name] for name in fields.split()]
        mode = CORNERS if fields in _CORNER_FIELDS else SIDES
    if not isinstance(given, list) or len(given) != 4 or any(isinstance(x, list | dict) for x in given):
        return None
    layout, units = _MODES.get(mode if isinstance(mode, int | str) else SIDES, _MODES[SIDES])
    box = layout(*map(number, given))
    if units is None or image is None:
        return box
    width, height = image["width"] / units, image["height"] / units
    return [box[0] * width, box[1] * height, box[2] * width, box[3] * height]


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
    """Finds a missing or impossible `area`, that of the mask in pixels, or of the box."""
    area = number(entry.get("area"))
    is_number = area is entry.get("area") and math.isfinite(area) and area >= 0
    if not is_number or not 0 < area <= image["width"] * image["height"]:
        derived = mask_area(entry["segmentation"], image) or entry["bbox"][2] * entry["bbox"][3]
        flaw, case = flaws.ODD_AREA, f"'area' is {area}, its image of {image['width']} x {image['height']}"
        if not is_number:
            flaw, case = flaws.NO_AREA, "it needs 'area', a number"
        yield Finding(flaw, case, {"area": derived})


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


def objects_of(annotations: list[dict], findings: Findings) -> list[dict]:
    """Settled annotations; if all are crowd regions, as tools mark what a brush drew, they are objects."""
    if not all(entry["iscrowd"] for entry in annotations):
        return annotations
    for entry in annotations:
        findings.add(Finding(flaws.ALL_CROWDS, f"annotation {entry.get('given_id', entry['id'])}", {}))
    return [entry | {"iscrowd": 0} for entry in annotations]


def rectangle_findings(annotations: Iterable[dict], names: Mapping[int, str]) -> Iterator[Finding]:
    """Finds classes with several masks, all of which are rectangles: boxes, as some tools export them.

    `annotations` are settled; `names` are those of the categories, by id.
    """
    masks = defaultdict(list)
    for entry in annotations:
        if entry["segmentation"]:
            masks[entry["category_id"]].append(entry["segmentation"])
    for category, given in masks.items():
        if len(given) >= _SEVERAL and all(map(is_rectangle, given)):
            yield Finding(flaws.RECTANGLES, f"{names[category]}, {len(given)} masks", {})


ANNOTATION_RULES = (
    known_image,
    category_findings,
    mask_findings,
    corner_findings,
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


def box_mode(name: str, pairs: Iterable[tuple[dict, dict]]) -> int | str | None:
    """How all boxes of a file are meant, a `bbox_mode`; None: each as it says, in pixels.

    `pairs` are annotations with their images. Masks tell: of the way that makes nearly all boxes theirs. Else
    boxes are corners if nearly all can be, and many would else reach far beyond their images.

    Raises:
        InputError: they are parts of the image instead of pixels, and no masks tell of what.
    """
    given = []  # boxes without area are no evidence
    for entry, image in pairs:
        box = None if isinstance(entry.get("bbox"), dict) else read_box(entry, image)
        if box and all(map(math.isfinite, box)) and min(box[2:]) > 0:
            given.append((entry, image, [float(x) for x in box]))
    if not given:
        return None
    sizes = [(image["width"], image["height"]) for _, image, _ in given]
    (x, y, right, bottom), (width, height) = np.transpose([box for *_, box in given]), np.transpose(sizes)
    width, height = (1 + _BEYOND) * width + 1, (1 + _BEYOND) * height + 1
    beyond = (x + right > width) | (y + bottom > height)
    mode = _mode_of_masks([(entry, image) for entry, image, _ in given], bool(beyond.any()))
    if mode is not None:
        return mode if mode != SIDES else None
    if np.mean([_are_parts(box) for *_, box in given]) > 0.5:
        raise InputError(f"{name}: boxes are from 0 to 1: give x, y, width, height in pixels")
    low = np.minimum(x, y) >= -1 - _BEYOND * np.minimum(width, height)
    are_corners = low & (right > x) & (bottom > y) & (right <= width) & (bottom <= height)
    return CORNERS if are_corners.mean() > 0.9 and beyond.mean() > 0.25 else None


def _mode_of_masks(pairs: list[tuple[dict, dict]], are_beyond: bool) -> int | str | None:
    """The `bbox_mode` by which boxes are those of their masks, if there are some and they tell."""
    masked = [(entry, image) for entry, image in pairs if entry.get("segmentation")]
    sample = []
    for entry, image in masked[:: len(masked) // _SAMPLE + 1]:
        for finding in mask_findings(entry, image):
            entry = entry | (finding.mended or {})
        if entry["segmentation"]:
            sample.append((entry, image))

    def agreeing(mode: int | str | None) -> float:
        """The part of the boxes that fit to their masks."""
        modes = {} if mode is None else {"bbox_mode": mode}
        boxes = [read_box(entry | modes, image) or [0] * 4 for entry, image in sample]
        masks = [entry["segmentation"] for entry, _ in sample]
        fits = [min(box[2:]) > 0 and fits_box(mask, box) for mask, box in zip(masks, boxes, strict=True)]
        return sum(fits) / len(sample)

    if len(sample) < 3:
        return None
    as_given = agreeing(None)
    if as_given > 0.9:
        return SIDES
    # Polygons of y and x in turn look alike if the boxes are right: these then lie within the image.
    best = max((mode for mode in _MODES if are_beyond or mode != _ROWS_FIRST), key=agreeing)
    if agreeing(best) > max(0.9, as_given):
        return best
    return SIDES if as_given >= 0.5 else None
