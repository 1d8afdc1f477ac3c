"""JSON of LabelMe, a file for each picture (https://github.com/wkentaro/labelme)."""

import base64
import io
import math
from collections.abc import Collection
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from deepmac.data.documents import load_json
from deepmac.data.formats.collected import UNREADABLE, annotation, around, each, names_in
from deepmac.data.numbers import number
from deepmac.data.segmentations import encoded_mask

_GROUP = "group"  # of a shape, until all are read


def read_labelme(stems: Collection[str], file: Path) -> tuple[dict, list]:
    """JSON of LabelMe (https://github.com/wkentaro/labelme)."""
    content = load_json(file)
    sizes = {"width": content.get("imageWidth"), "height": content.get("imageHeight")}
    shapes = each(partial(_shape, sizes), content["shapes"], f"{file.name} shape")
    return names_in(content.get("imagePath"), file, stems) | sizes, _grouped(shapes)


def _shape(sizes: dict, shape: dict) -> dict:
    points = [point for point in shape.get("points") or [] if isinstance(point, list)]
    values = [number(coordinate) for point in points for coordinate in point[:2]]
    kind = shape.get("shape_type") or "polygon"  # or a line, a point, which are no boxes
    box = around(values) if kind in ("rectangle", "mask") and len(values) in (4, 8) else kind
    if kind == "circle":
        radius = math.dist(values[:2], values[2:4])  # from its centre to a point on it
        box = {"x": values[0] - radius, "y": values[1] - radius, "width": 2 * radius, "height": 2 * radius}
    found = annotation(shape.get("label"), values if kind == "polygon" else [], box)
    if shape.get("mask"):
        found["segmentation"] = _mask(shape["mask"], values, sizes)
    return found | {_GROUP: shape.get("group_id")}


def _mask(given: str, corners: list, sizes: dict) -> dict | str:
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
    except UNREADABLE:
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
                first["bbox"] = around([x for part in first["segmentation"] for x in part])
                continue
        found.append(shape)
    return found
