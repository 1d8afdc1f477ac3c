"""Masks of the demo as files: COCO JSON, label image, overlay."""

import io
import itertools
from collections.abc import Sequence

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from deepmac.core.categories import ID_BY_NAME, MAX_CATEGORY_ID
from deepmac.core.drawing import overlay
from deepmac.inference.prediction import Prediction


def coco_dataset(picture: str, prediction: Prediction, names: Sequence[str]) -> dict:
    """One picture with its masks as a COCO dataset, fit for JSON and `pycocotools.coco.COCO`.

    Args:
        picture: file name of the picture.
        prediction: N masks.
        names: N names. Those of COCO's categories get COCO's ids, others ids beyond them.
    """
    ids = _category_ids(names)
    annotations = [
        {"id": index, **result, "area": int(rle.area(result["segmentation"])), "iscrowd": 0}
        for index, result in enumerate(prediction.to_coco(1, [ids[name] for name in names]), 1)
    ]
    height, width = prediction.image.shape[:2]
    return {
        "images": [{"id": 1, "file_name": picture, "height": height, "width": width}],
        "annotations": annotations,
        "categories": [{"id": category_id, "name": name} for name, category_id in ids.items()],
    }


def label_png(prediction: Prediction) -> bytes:
    """The label image (`Prediction.to_label_image`) as a PNG file."""
    return _png(prediction.to_label_image())


def overlay_png(prediction: Prediction, names: Sequence[str], **options) -> bytes:
    """The picture under its masks as a PNG file; options as of `deepmac.core.drawing.overlay`."""
    labels = prediction.to_label_image()
    return _png(overlay(prediction.image, labels, prediction.boxes, names, **options))


def _category_ids(names) -> dict[str, int]:
    """Name -> category id, in the order of the names."""
    new = itertools.count(MAX_CATEGORY_ID + 1)
    return {name: ID_BY_NAME.get(name) or next(new) for name in dict.fromkeys(names)}


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
