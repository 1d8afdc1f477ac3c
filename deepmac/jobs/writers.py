"""Data sets with masks as files: COCO's JSON, and a folder that Ultralytics (YOLO) trains on."""

import functools
import json
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from deepmac.core.errors import InputError
from deepmac.core.files import atomic_file, atomic_folder
from deepmac.core.polygons import join, polygon, rings
from deepmac.data.coco import CocoData
from deepmac.data.segmentations import run_lengths


def write_coco(path: Path, content: dict) -> None:
    """Writes a file in COCO format, complete or not at all.

    Its annotations may be made while they are written, so that they are never all in memory.
    """
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for number, (key, value) in enumerate(content.items()):
            file.write(f"{', ' if number else '{'}{json.dumps(key)}: ")
            if key != "annotations":
                file.write(_json(value))
                continue
            file.write("[")
            for position, entry in enumerate(value):
                file.write(f"{',' if position else ''}\n{_json(entry)}")
            file.write("]")
        file.write("}\n")


def _json(value: Any) -> str:
    """A value as JSON, which knows neither NaN nor infinity: they become null."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(json.loads(json.dumps(value), parse_constant=lambda name: None))


def write_yolo(data: CocoData, out: Path, made: Callable[[dict], dict] = lambda entry: {}) -> None:
    """Writes annotations as Ultralytics reads them, into a folder that is new or empty.

    `data.yaml`, and for every picture a file of lines: class, from 0, and x0 y0 x1 y1 … from 0 to 1, without
    crowd regions. `made` gives what an annotation has besides. InputError: as `label_files`.
    """
    files = label_files(data)
    names = {category["id"]: category["name"] for category in data.categories}
    numbers = {category_id: number for number, category_id in enumerate(sorted(names))}
    with atomic_folder(out) as folder:
        # Without `path`, Ultralytics starts from the folder of the file.
        content = {"train": "images", "val": "images", "names": [names[one] for one in numbers]}
        text = json.dumps(content, ensure_ascii=False, indent=1)  # JSON is YAML
        (folder / "data.yaml").write_text(text, encoding="utf-8")
        for image_id, annotations in data.annotations_of_images().items():
            image = data.images[image_id]
            lines = []
            for entry in annotations:
                if entry["iscrowd"]:
                    continue
                polygon = _one_polygon(entry | made(entry), image)
                corners = " ".join(f"{value:.6g}" for value in polygon.ravel())
                lines.append(f"{numbers[entry['category_id']]} {corners}\n")
            path = folder / "labels" / files[image_id]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(lines), encoding="utf-8")


def label_files(data: CocoData) -> dict[int, PurePath]:
    """Image id -> file of its labels below their folder. InputError: two pictures would have the same one."""
    files: dict[int, PurePath] = {}
    owners: dict[PurePath, str] = {}
    for image_id, image in data.images.items():
        name = image["file_name"]
        path = PurePath(name)
        inside = not path.is_absolute() and ".." not in path.parts
        files[image_id] = (path if inside else PurePath(path.name)).with_suffix(".txt")
        other = owners.setdefault(files[image_id], name)
        if other != name:
            raise InputError(f"{other} and {name} would have the same labels: rename a picture")
    return files


def polygons(segmentation: list | dict, image: dict) -> list[list[float]]:
    """A `segmentation` as polygons, in pixels; `image` has the height and width of its picture."""
    if not isinstance(segmentation, dict):
        return segmentation
    height, width = image["height"], image["width"]
    # Samples in the middle of pixels, and a pixel of nothing around the picture.
    box = np.array([-1, -1, height, width]) / np.maximum([height - 1, width - 1] * 2, 1)
    islands = rings(np.pad(coco_mask.decode(run_lengths(segmentation)), 1), box, height, width)
    return [polygon(island) for island in islands]


def _one_polygon(annotation: dict, image: dict) -> np.ndarray:
    """The mask of an annotation as one polygon [n, 2] from 0 to 1, islands joined; without a mask its box."""
    x, y, w, h = annotation["bbox"]
    corners = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    islands = polygons(annotation["segmentation"], image) or corners
    joined = functools.reduce(join, (np.reshape(island, (-1, 2)) for island in islands))
    return np.clip(joined / [image["width"], image["height"]], 0, 1)
