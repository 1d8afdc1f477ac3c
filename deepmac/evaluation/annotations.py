"""Reads and checks the ground truth of an evaluation: a COCO instances file."""

import dataclasses
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from deepmac.core.errors import InputError


@dataclasses.dataclass(frozen=True)
class Instances:
    """The instances of one image that masks are predicted for: all but crowd regions.

    Attributes:
        boxes: float32 [N, 4], (ymin, xmin, ymax, xmax) normalised to the image.
        classes: int64 [N], category ids.
        annotation_ids: int64 [N], ids in the annotation file.
    """

    boxes: np.ndarray
    classes: np.ndarray
    annotation_ids: np.ndarray


@dataclasses.dataclass(frozen=True)
class Annotations:
    """A checked COCO data set.

    Attributes:
        name: the file's path, for messages.
        images: image id -> (height, width) in pixels, in the order of the ids.
        categories: COCO categories in the order of their ids.
        annotations: COCO annotations with RLE segmentations, numbered anew from 1 (COCO's matching
            takes an id of 0 for "not matched").
        position: annotation id in the file -> index in `annotations`.
    """

    name: str
    images: dict[int, tuple[int, int]]
    categories: list[dict]
    annotations: list[dict]
    position: dict[int, int]

    def image_size(self, image_id: int) -> tuple[int, int]:
        """Returns (height, width) of an image. Raises InputError when the image is not evaluated."""
        try:
            return self.images[image_id]
        except KeyError:
            raise InputError(
                f"image id {image_id} is not among the {len(self.images)} evaluated images of {self.name}: "
                "evaluate the images that the annotation file lists"
            ) from None

    def annotation(self, annotation_id: int) -> dict:
        """Returns the annotation that has this id in the file. Raises InputError when there is none."""
        try:
            return self.annotations[self.position[annotation_id]]
        except KeyError:
            raise InputError(f"annotation id {annotation_id} is not in {self.name}") from None

    def instances(self) -> dict[int, Instances]:
        """Returns image id -> its instances, crowd regions left out, for every evaluated image."""
        rows = defaultdict(list)
        for annotation_id, position in self.position.items():
            if not self.annotations[position]["iscrowd"]:
                rows[self.annotations[position]["image_id"]].append((annotation_id, position))
        return {image_id: self._instances_of(image_id, rows[image_id]) for image_id in self.images}

    def _instances_of(self, image_id: int, rows: list[tuple[int, int]]) -> Instances:
        height, width = self.images[image_id]
        annotations = [self.annotations[position] for _, position in rows]
        x, y, w, h = np.array([annotation["bbox"] for annotation in annotations], float).reshape(-1, 4).T
        return Instances(
            boxes=np.stack([y / height, x / width, (y + h) / height, (x + w) / width], 1).astype(np.float32),
            classes=np.array([annotation["category_id"] for annotation in annotations], np.int64),
            annotation_ids=np.array([annotation_id for annotation_id, _ in rows], np.int64),
        )


def load_annotations(source: str | os.PathLike | dict, image_ids: Iterable[int] | None = None) -> Annotations:
    """Reads a COCO instances file and checks everything the evaluation relies on.

    Args:
        source: path of the JSON file, or its content (left unchanged).
        image_ids: evaluate these images only; None for all.

    Returns:
        The data set, its segmentations as RLE.

    Raises:
        InputError: the file is missing or not JSON, holds no annotations (for these images), or an
            entry is malformed; the message names it.
    """
    name, content = ("the annotations", source) if isinstance(source, dict) else _read(Path(source))
    for section in ("images", "categories", "annotations"):
        if not isinstance(content.get(section), list):
            raise InputError(f"{name} has no list '{section}': give a COCO instances file")
    categories = sorted(_checked_categories(name, content["categories"]), key=lambda category: category["id"])
    images = _image_sizes(name, content["images"])
    if image_ids is not None:
        images = _chosen(name, images, image_ids)
    known = {category["id"] for category in categories}
    listed = {image["id"] for image in content["images"]}
    annotations, position = [], {}
    for index, annotation in enumerate(content["annotations"]):
        where = f"{name}: annotation {index} (id {_get(annotation, 'id')})"
        _check_annotation(where, annotation, listed, known)
        if annotation["id"] in position:
            raise InputError(f"{where}: another annotation has the same id: number annotations uniquely")
        if annotation["image_id"] in images:
            position[annotation["id"]] = len(annotations)
            annotations.append(_with_rle(where, annotation, images, number=len(annotations) + 1))
    if not annotations:
        raise InputError(f"{name} has no annotations for the images to evaluate: nothing to compare with")
    return Annotations(name, dict(sorted(images.items())), categories, annotations, position)


def _read(path: Path) -> tuple[str, dict]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"annotation file {path} not found: give a COCO instances JSON file") from None
    except OSError as error:
        raise InputError(f"annotation file {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"annotation file {path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"annotation file {path} holds no JSON object: give a COCO instances file")
    return str(path), content


def _get(entry, key):
    return entry.get(key) if isinstance(entry, dict) else None


def _is_number(value) -> bool:
    return isinstance(value, int | float) and np.isfinite(value)


def _checked_categories(name: str, categories: list) -> list[dict]:
    for index, category in enumerate(categories):
        if not isinstance(_get(category, "id"), int) or not isinstance(_get(category, "name"), str):
            raise InputError(f"{name}: category {index} needs an integer 'id' and a 'name'")
    for key in ("id", "name"):
        value, count = Counter(category[key] for category in categories).most_common(1)[0]
        if count > 1:
            raise InputError(f"{name}: {count} categories have the {key} {value!r}: make it unique")
    return categories


def _image_sizes(name: str, images: list) -> dict[int, tuple[int, int]]:
    sizes = {}
    for index, image in enumerate(images):
        entry = [_get(image, key) for key in ("id", "height", "width")]
        if not all(isinstance(value, int) for value in entry) or min(entry[1:]) < 1:
            raise InputError(f"{name}: image {index} needs an integer 'id', 'height' and 'width'")
        sizes[entry[0]] = (entry[1], entry[2])
    return sizes


def _chosen(name: str, images: dict, image_ids: Iterable[int]) -> dict[int, tuple[int, int]]:
    chosen = {}
    for image_id in image_ids:
        if image_id not in images:
            raise InputError(f"image id {image_id} is not in {name}: choose images that the file lists")
        chosen[int(image_id)] = images[image_id]
    return chosen


def _check_annotation(where: str, annotation, image_ids: set, category_ids: set) -> None:
    if not isinstance(_get(annotation, "id"), int):
        raise InputError(f"{where} needs an integer 'id'")
    if annotation.get("image_id") not in image_ids:
        raise InputError(f"{where}: image id {annotation.get('image_id')} is not in the list of images")
    if annotation.get("category_id") not in category_ids:
        raise InputError(f"{where}: category id {annotation.get('category_id')} is not in the categories")
    box = annotation.get("bbox")
    if not (isinstance(box, list | tuple) and len(box) == 4 and all(map(_is_number, box))):
        raise InputError(f"{where} needs a 'bbox' of four numbers (x, y, width, height)")
    if not _is_number(annotation.get("area")):
        raise InputError(f"{where} needs an 'area' in pixels")


def _with_rle(where: str, annotation: dict, images: dict, number: int) -> dict:
    height, width = images[annotation["image_id"]]
    segmentation = annotation.get("segmentation")
    try:
        if isinstance(segmentation, list):
            rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
        elif isinstance(segmentation["counts"], list):
            rle = coco_mask.frPyObjects(segmentation, height, width)
        else:
            rle = {"size": list(segmentation["size"]), "counts": segmentation["counts"]}
    except Exception:  # the decoder raises bare exceptions of many kinds
        raise InputError(f"{where}: 'segmentation' is neither polygons nor RLE") from None
    if list(rle["size"]) != [height, width]:
        raise InputError(f"{where}: 'segmentation' is {rle['size']}, but its image is {[height, width]}")
    return {
        "id": number,
        "image_id": annotation["image_id"],
        "category_id": annotation["category_id"],
        "bbox": list(annotation["bbox"]),
        "area": annotation["area"],
        "iscrowd": int(bool(annotation.get("iscrowd", 0))),
        "segmentation": rle,
    }
