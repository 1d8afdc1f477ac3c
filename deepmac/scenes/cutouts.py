"""Cuts annotated objects out of photographs: own sprites for `deepmac scenes --sprites`."""

import functools
from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools.coco import COCO
from tqdm.auto import tqdm

from deepmac.core.categories import NAME_BY_ID, is_coco
from deepmac.core.errors import InputError
from deepmac.core.files import atomic_folder
from deepmac.data.coco import read_coco
from deepmac.data.flaws import TRAINING
from deepmac.data.picture_files import read_annotated

_SMALLEST_SIDE = 48  # pixels of the shorter side: smaller objects are too coarse to be enlarged
_BORDER = 2  # pixels: an object that comes this close to the picture's edge is probably cut off


def write_cutouts(
    coco_dir: str | Path, out: str | Path, split: str = "train2017", ids: Collection[int] | None = None
) -> int:
    """Writes objects of a COCO folder as RGBA pictures with transparent surroundings; returns their number.

    Crowd regions, objects whose shorter side is below 48 pixels and those cut off by the picture's edge are
    left out. Outlines lose a pixel: annotated polygons tend to take some background with them.

    Args:
        coco_dir: folder in COCO layout.
        out: folder to write `<class name>/<annotation id>.png` in; new or empty.
        split: the pictures, e.g. train2017.
        ids: image ids to use; None means all.

    Raises:
        InputError: as `deepmac.data.coco.read_coco`, the categories are not COCO's, or `out` is not empty.
    """
    coco_dir = Path(coco_dir)
    annotation_file = coco_dir / "annotations" / f"instances_{split}.json"
    data = read_coco(annotation_file, TRAINING, ids, coco_dir / split)
    if not is_coco(data.categories):
        raise InputError(f"{annotation_file} has categories of its own: scenes are composed of COCO's only")
    coco = COCO()
    coco.imgs = data.images
    count = 0
    with atomic_folder(out) as folder:
        for image_id, annotations in tqdm(data.annotations_of_images().items(), unit="picture"):
            image = data.images[image_id]
            size = image["width"], image["height"]
            pixels = read_annotated(coco_dir / split / image["file_name"], size)
            for annotation in filter(functools.partial(_is_suitable, image), annotations):
                mask = cv2.erode(coco.annToMask(annotation), np.ones((3, 3), np.uint8))
                left, top, width, height = cv2.boundingRect(mask)
                if width > 0:
                    path = folder / NAME_BY_ID[annotation["category_id"]] / f"{annotation['id']}.png"
                    path.parent.mkdir(exist_ok=True)
                    cutout = np.dstack([pixels, 255 * mask])[top : top + height, left : left + width]
                    Image.fromarray(cutout).save(path)
                    count += 1
    return count


def _is_suitable(image: dict, annotation: dict) -> bool:
    left, top, width, height = annotation["bbox"]
    room = min(left, top, image["width"] - left - width, image["height"] - top - height)
    is_shape = annotation["segmentation"] and not annotation.get("iscrowd")
    return bool(is_shape and room >= _BORDER and min(width, height) >= _SMALLEST_SIDE)
