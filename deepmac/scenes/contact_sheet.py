"""A contact sheet of a COCO folder: some of its images with outlined, named masks."""

import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from deepmac.core.categories import NAME_BY_ID
from deepmac.core.drawing import overlay, sheet

_TILE, _COLUMNS = 256, 6  # pixels; tiles in a row
_SHOWN = {"train": 18, "val": 12}


def contact_sheet(coco_folder: Path) -> Image.Image:
    """Draws the first images of both splits of a folder in COCO's layout whose masks are polygons.

    Args:
        coco_folder: holds `annotations/instances_{train,val}2017.json` and the square images.

    Returns:
        An RGB picture: training above, validation below.
    """
    tiles, captions = [], []
    for split, most in _SHOWN.items():
        coco = json.loads((coco_folder / "annotations" / f"instances_{split}2017.json").read_text("utf-8"))
        for image in coco["images"][:most]:
            annotations = [one for one in coco["annotations"] if one["image_id"] == image["id"]]
            tiles.append(_tile(coco_folder / f"{split}2017" / image["file_name"], annotations))
            captions.append(f"{split}2017/{image['file_name']}")
    return sheet(tiles, captions, _COLUMNS, (_TILE, _TILE))


def _tile(path: Path, annotations: list[dict]) -> np.ndarray:
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
    return overlay(pixels, labels, boxes, names, opacity=0.0)
