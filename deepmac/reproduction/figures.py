"""Figures of the notebooks."""

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from pycocotools.coco import COCO

import deepmac
from deepmac import plotting
from deepmac.reproduction.study import Study

# Smaller objects show nothing at the size of a figure's cell.
_MIN_AREA = 24**2


class Example(NamedTuple):
    """An annotated object: its picture, COCO box (x, y, width, height) in pixels, mask bool [H, W]."""

    picture: Path
    box: tuple[float, float, float, float]
    mask: np.ndarray
    category: str


def training_curves(curves: Mapping[str, pd.Series]) -> Figure:
    """Plots losses against steps.

    Args:
        curves: name of a line -> step -> loss.
    """
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot(curve.index, curve.to_numpy(), label=name, marker="." if len(curve) < 20 else "")
    axes.set(xlabel="step", ylabel="training loss")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def unseen_class_masks(study: Study, key: str, count: int) -> Figure:
    """Shows annotated and predicted masks of classes a row has seen no masks of.

    Args:
        study: a trained study.
        key: the row.
        count: objects to show.
    """
    predictor = deepmac.load(study.model_folder(key))
    examples = unseen_examples(study.data.coco_dir, study.seen_classes(key), count)
    images, masks, boxes = [], [], []
    for example in examples:
        image = np.asarray(Image.open(example.picture).convert("RGB"))
        predictor.set_image(image)
        prediction = predictor.predict([example.box], box_format="xywh")
        images.append(image)
        masks.append([np.zeros_like(example.mask), example.mask, prediction.masks[0]])
        boxes.append(prediction.boxes[0])
    titles = ["picture", "annotated", "predicted"]
    return plotting.mask_grid(images, masks, boxes, titles, [example.category for example in examples])


def unseen_examples(coco_dir: Path, seen_ids, count: int) -> list[Example]:
    """The largest unseen object of each evaluated picture, in the order of picture ids.

    Args:
        coco_dir: folder in COCO layout.
        seen_ids: categories that do not count.
        count: objects at most.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # COCO tells what it does
        coco = COCO(str(coco_dir / "annotations" / "instances_val2017.json"))
    unseen = sorted(set(coco.getCatIds()) - set(seen_ids))
    examples = []
    for image_id in sorted(coco.getImgIds()):
        ids = coco.getAnnIds(imgIds=image_id, catIds=unseen, areaRng=(_MIN_AREA, np.inf), iscrowd=False)
        if ids and len(examples) < count:
            annotation = max(coco.loadAnns(ids), key=lambda annotation: annotation["area"])
            [image] = coco.loadImgs(image_id)
            [category] = coco.loadCats(annotation["category_id"])
            picture = coco_dir / "val2017" / image["file_name"]
            mask = coco.annToMask(annotation).astype(bool)
            examples.append(Example(picture, tuple(annotation["bbox"]), mask, category["name"]))
    return examples
