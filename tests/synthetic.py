"""Drawn pictures whose objects can be told apart by colour, and COCO folders of them."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from deepmac.core.categories import COCO_CATEGORIES

PERSON, APPLE = 1, 53  # category ids: of a VOC class, and of one that is not
# Far apart from each other and from the black background.
COLORS = np.array(
    [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255], [0, 255, 255], [255, 255, 255]],
    np.uint8,
)


class Scene(NamedTuple):
    """A picture uint8 [H, W, 3], visible masks bool [n, H, W], boxes [n, 4] in pixels (y, x, y, x)."""

    image: np.ndarray
    masks: np.ndarray
    boxes: np.ndarray


def draw_scene(height: int, width: int, objects: int, seed: int, shape: str = "rectangle") -> Scene:
    """Draws objects of different colours in a grid of cells; no two overlap."""
    rng = np.random.default_rng(seed)
    columns = int(np.ceil(np.sqrt(max(objects, 1))))
    rows = int(np.ceil(objects / columns)) if objects else 1
    image = np.zeros((height, width, 3), np.uint8)
    masks = np.zeros((objects, height, width), bool)
    y, x = np.mgrid[:height, :width] + 0.5
    for index in range(objects):
        cell = np.array([height / rows, width / columns])
        corner = cell * [index // columns, index % columns]
        size = cell * rng.uniform(0.4, 0.95, 2)
        top, left = np.round(corner + (cell - size) * rng.uniform(size=2))
        bottom, right = np.round(np.array([top, left]) + size)
        if shape == "rectangle":
            masks[index] = (y > top) & (y < bottom) & (x > left) & (x < right)
        else:
            radii = np.array([bottom - top, right - left]) / 2
            masks[index] = ((y - top) / radii[0] - 1) ** 2 + ((x - left) / radii[1] - 1) ** 2 <= 1
        image[masks[index]] = COLORS[index % len(COLORS)]
    return Scene(image, masks, np.array([box_of(mask) for mask in masks]).reshape(-1, 4))


def box_of(mask: np.ndarray) -> list[float]:
    """Returns the tight box (ymin, xmin, ymax, xmax) of a mask, zeros for an empty one."""
    if not mask.any():
        return [0.0] * 4
    (rows,), (columns,) = mask.any(axis=1).nonzero(), mask.any(axis=0).nonzero()
    return [float(rows[0]), float(columns[0]), float(rows[-1] + 1), float(columns[-1] + 1)]


def run_lengths(mask: np.ndarray, compressed: bool) -> dict:
    """Encodes a mask as COCO's RLE, counted pixel by pixel when uncompressed."""
    if compressed:
        encoded = rle.encode(np.asfortranarray(mask, np.uint8))
        return {"size": list(mask.shape), "counts": encoded["counts"].decode()}
    counts, value, run = [], False, 0
    for pixel in mask.ravel(order="F"):
        if pixel != value:
            counts, value, run = [*counts, run], pixel, 0
        run += 1
    return {"size": list(mask.shape), "counts": [*counts, run]}


def write_coco(folder: Path, split: str, scenes: list[Scene], categories: list[int]) -> dict:
    """Writes scenes in COCO layout; masks as compressed RLE; returns the annotations' content."""
    (folder / split).mkdir(parents=True)
    (folder / "annotations").mkdir(exist_ok=True)
    images, annotations = [], []
    for number, scene in enumerate(scenes):
        image_id = 100 + number
        height, width = scene.image.shape[:2]
        name = f"{image_id:012d}.jpg"
        Image.fromarray(scene.image).save(folder / split / name, quality=95)
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for index, (mask, (top, left, bottom, right)) in enumerate(
            zip(scene.masks, scene.boxes, strict=True)
        ):
            annotations.append(
                {
                    "id": 1000 * image_id + index,
                    "image_id": image_id,
                    "category_id": categories[index % len(categories)],
                    "bbox": [left, top, right - left, bottom - top],
                    "area": float(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": run_lengths(mask, compressed=True),
                }
            )
    known = [category._asdict() for category in COCO_CATEGORIES]
    content = {"images": images, "annotations": annotations, "categories": known}
    save_annotations(folder, split, content)
    return content


OWN_CLASSES = {0: "bolt", 5: "nut", 9: "washer"}


def write_own_classes(folder: Path, num_images: int) -> dict:
    """Writes `images`, each of a bolt, a nut and a washer, and `boxes.json`, without masks of washers.

    Returns:
        The content of the file.
    """
    scenes = [draw_scene(40, 60, len(OWN_CLASSES), seed) for seed in range(num_images)]
    content = write_coco(folder, "images", scenes, list(OWN_CLASSES))
    content["categories"] = [{"id": number, "name": name} for number, name in OWN_CLASSES.items()]
    for annotation in content["annotations"]:
        if OWN_CLASSES[annotation["category_id"]] == "washer":
            annotation["segmentation"] = []
    (folder / "boxes.json").write_text(json.dumps(content))
    return content


def write_splits(folder: Path, size: tuple[int, int], num_images: int, shape: str = "rectangle") -> None:
    """Writes train2017 and val2017, as `write_coco`: different pictures of a person and an apple.

    Args:
        folder: where they go.
        size: of a picture (height, width).
        num_images: of either split.
        shape: of the objects, rectangle or ellipse.
    """
    for split, first in (("train2017", 0), ("val2017", num_images)):
        scenes = [draw_scene(*size, 2, seed, shape) for seed in range(first, first + num_images)]
        write_coco(folder, split, scenes, [PERSON, APPLE])


def save_annotations(folder: Path, split: str, content: dict) -> None:
    """Replaces the annotation file of a split."""
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def write_three_pictures(coco_dir, split):
    """Writes a COCO folder of three pictures with 3, 2 and 0 objects; returns its annotations."""
    scenes = [draw_scene(40, 30, 3, 0), draw_scene(30, 50, 2, 1), draw_scene(20, 20, 0, 2)]
    return write_coco(coco_dir, split, scenes, [1, 18, 90])
