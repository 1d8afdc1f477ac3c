"""Instance masks as COCO JSON with run-length encoding."""

import json
import os
from collections.abc import Iterable

import numpy as np
from pycocotools import mask as coco_mask

from deepmac.core.files import atomic_file
from deepmac.core.label_images import read_label_image
from deepmac.iwildcam.collection import CameraTrapPicture, Collection


def write_coco(
    path: str | os.PathLike, collection: Collection, pictures: Iterable[CameraTrapPicture] | None = None
) -> tuple[int, int]:
    """Writes masks as COCO annotations, one picture after the other.

    Categories are those of the detections (animal, person, vehicle). An annotation's mask is what is visible
    of it in the label image; `bbox` is the detection, `score` its confidence, and `detection` its number.
    Detections without a pixel have no annotation; pictures without masks have none either. Pictures have the
    additions of COCO Camera Traps that are known.

    Args:
        path: JSON file; replaced in one step.
        collection: where the masks are.
        pictures: which ones; all unless given.

    Returns:
        Numbers of pictures and annotations.

    Raises:
        InputError: masks that cannot be read.
    """
    names = collection.detection_categories.items()
    categories = [{"id": int(key), "name": name} for key, name in names]
    images, num_annotations = [], 0
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(f'{{"categories": {json.dumps(categories)},\n"annotations": [')
        for picture in collection.pictures if pictures is None else pictures:
            if not collection.mask_path(picture).is_file():
                continue
            labels = read_label_image(collection.mask_path(picture))
            height, width = labels.shape
            image = {
                "id": len(images) + 1,  # COCO wants a number
                "file_name": picture.name,
                "height": height,
                "width": width,
                "location": picture.location,
                "seq_id": picture.sequence,
                "frame_num": picture.frame,
                "datetime": picture.time and str(picture.time),
            }
            images.append({key: value for key, value in image.items() if value is not None})
            detections = collection.detections(picture)
            for number in np.intersect1d(labels, range(1, len(detections) + 1)).tolist():
                mask = labels == number
                rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
                box = detections.boxes[number - 1] * [width, height, width, height]
                annotation = {
                    "id": num_annotations + 1,
                    "image_id": len(images),
                    "category_id": int(detections.categories[number - 1]),
                    "bbox": box.round(2).tolist(),
                    "segmentation": {"size": [height, width], "counts": rle["counts"].decode("ascii")},
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "score": float(detections.confidences[number - 1]),
                    "detection": number,
                }
                file.write(("," if num_annotations else "") + "\n" + json.dumps(annotation))
                num_annotations += 1
        file.write(f'\n],\n"images": {json.dumps(images)}}}\n')
    return len(images), num_annotations
