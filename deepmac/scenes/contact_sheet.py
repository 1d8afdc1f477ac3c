"""A contact sheet of a COCO folder: some of its images with outlined, named masks."""

import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deepmac.core.categories import NAME_BY_ID
from deepmac.core.drawing import overlay

_TILE, _GAP, _HEADING = 256, 8, 44  # pixels
_COLUMNS = 6
_ROWS = {"train": 3, "val": 2}


def contact_sheet(coco_folder: Path) -> Image.Image:
    """Draws the first images of both splits of a folder in COCO's layout whose masks are polygons.

    Args:
        coco_folder: holds `annotations/instances_{train,val}2017.json` and the square images.

    Returns:
        An RGB picture: training above, validation below.
    """
    pitch, top = _TILE + _GAP, 0
    width, most = _GAP + _COLUMNS * pitch, sum(_ROWS.values())
    sheet = Image.new("RGB", (width, len(_ROWS) * _HEADING + most * pitch), "white")
    for split, most_rows in _ROWS.items():
        coco = json.loads((coco_folder / "annotations" / f"instances_{split}2017.json").read_text("utf-8"))
        heading = f"{split}: {len(coco['images'])} images, {len(coco['annotations'])} objects"
        font = ImageFont.load_default(22)
        ImageDraw.Draw(sheet).text((_GAP, top + _HEADING / 2), heading, "black", font, anchor="lm")
        top += _HEADING
        shown = coco["images"][: most_rows * _COLUMNS]
        for place, image in enumerate(shown):
            annotations = [one for one in coco["annotations"] if one["image_id"] == image["id"]]
            tile = _tile(coco_folder / f"{split}2017" / image["file_name"], annotations)
            row, column = divmod(place, _COLUMNS)
            sheet.paste(tile, (_GAP + column * pitch, top + row * pitch))
        top += -(-len(shown) // _COLUMNS) * pitch
    return sheet.crop((0, 0, width, top))


def _tile(path: Path, annotations: list[dict]) -> Image.Image:
    """An enlarged image with outlines, boxes and class names."""
    with Image.open(path) as image:
        size = image.width
        pixels = np.asarray(image.convert("RGB").resize((_TILE, _TILE), Image.Resampling.BICUBIC))
    labels = np.zeros((_TILE, _TILE), np.int32)
    for number, annotation in enumerate(annotations, start=1):
        for polygon in annotation["segmentation"]:
            corners = np.reshape(polygon, (-1, 2)) * _TILE / size
            cv2.fillPoly(labels, [corners.round().astype(np.int32)], number)
    boxes = [(y, x, y + h, x + w) for x, y, w, h in (one["bbox"] for one in annotations)]
    names = [NAME_BY_ID[one["category_id"]] for one in annotations]
    boxes = np.reshape(boxes, (-1, 4)) / size
    return Image.fromarray(overlay(pixels, labels, boxes, names, opacity=0.0))
