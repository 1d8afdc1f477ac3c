"""Masks of the demo for others to read: a table beside the picture, a COCO dataset."""

import html
import itertools
from collections.abc import Sequence

import numpy as np
from pycocotools import mask as rle

from deepmac.core.categories import ID_BY_NAME, MAX_CATEGORY_ID
from deepmac.inference.prediction import Prediction, quality_words


def coco_dataset(picture: str, prediction: Prediction, names: Sequence[str]) -> dict:
    """One picture with its masks as a COCO dataset, fit for JSON and `pycocotools.coco.COCO`.

    Args:
        picture: file name of the picture.
        prediction: N masks.
        names: N names. Those of COCO's categories get COCO's ids, others ids beyond them.
    """
    new = itertools.count(MAX_CATEGORY_ID + 1)
    ids = {name: ID_BY_NAME.get(name) or next(new) for name in dict.fromkeys(names)}
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


def mask_table(prediction: Prediction, names: Sequence[str], colors: np.ndarray) -> str:
    """A table of masks, as HTML.

    Args:
        prediction: N masks.
        names: N names; those of COCO's classes are marked.
        colors: uint8 RGB [N, 3].
    """
    fills = (prediction.mask_probs > prediction.threshold).mean(axis=(1, 2))
    rows = [
        f"<tr><td><span style='color: rgb({','.join(map(str, color))})'>&#9632;</span></td>"
        f"<td>{html.escape(name)}{' (COCO)' if name in ID_BY_NAME else ''}</td>"
        f"<td>{fill:.0%}</td><td>{word} ({quality:.2f})</td></tr>"
        for name, color, fill, quality, word in zip(
            names,
            colors.tolist(),
            fills,
            prediction.quality,
            quality_words(prediction.quality),
            strict=True,
        )
    ]
    return (
        "<div style='max-height: 220px; overflow-y: auto; line-height: 1.4'>"
        "<table style='width: 100%; text-align: left'><tr><th></th><th>name</th>"
        "<th title='part of the box that the mask fills'>of box</th>"
        "<th title='expected IoU with the object, 0 to 1'>quality</th></tr>"
        f"{''.join(rows)}</table></div>"
    )
