"""XML of Pascal VOC, a file for each picture."""

import math
import re
from collections.abc import Collection
from pathlib import Path
from xml.etree import ElementTree

from deepmac.data.formats.collected import annotation, each, names_in
from deepmac.data.numbers import number, whole


def read_voc(stems: Collection[str], file: Path) -> tuple[dict, list]:
    """XML of Pascal VOC, whose pixels count from 1, both ends of a box included."""
    root = _xml(file)
    if root.tag == "annotations":
        raise ValueError("it is CVAT's own XML: export COCO 1.0")
    size = {side: whole(root.findtext(f"size/{side}")) for side in ("width", "height")}
    names = names_in(root.findtext("filename"), file, stems)
    return names | size, each(_object, root.iter("object"), f"{file.name} object")


def _xml(file: Path) -> ElementTree.Element:
    """The root of an XML file, also in an encoding that its parser does not know, such as GBK."""
    data = file.read_bytes()
    named = re.match(rb"""<\?xml[^>]*encoding=["']([\w-]+)["'][^>]*\?>""", data)
    if named is None:
        return ElementTree.fromstring(data)
    return ElementTree.fromstring(data[named.end() :].decode(named[1].decode()))


def _object(entry: ElementTree.Element) -> dict | None:
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
    found = annotation(entry.findtext("name"), polygon, box)
    return found | ({"bbox": box} if all(map(math.isfinite, box)) else {})
