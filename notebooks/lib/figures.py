"""Figures of the notebooks."""

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

import deepmac
from deepmac.core import drawing
from deepmac.core.boxes import normalized_boxes
from deepmac.core.files import atomic_file
from deepmac.core.images import read_image
from deepmac.suite.study import Study

# Smaller objects show nothing at the size of a figure's cell.
_MIN_AREA = 24**2
_LINE_STYLES = ("-", "--", ":")


class Example(NamedTuple):
    """An annotated object: id, picture, COCO box (x, y, width, height) in pixels, mask bool [H, W]."""

    annotation_id: int
    picture: Path
    box: tuple[float, float, float, float]
    mask: np.ndarray
    category: str


def training_curves(curves: Mapping[str, pd.Series]) -> Figure:
    """Plots losses against steps.

    Args:
        curves: name of a line -> step -> loss.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    for number, (name, curve) in enumerate(curves.items()):
        style = _LINE_STYLES[number // 10 % len(_LINE_STYLES)]  # Matplotlib repeats its colours after ten
        axes.plot(curve.index, curve.to_numpy(), style, label=name, marker="." if len(curve) < 20 else "")
    axes.set(xlabel="step", ylabel="training loss")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    return figure


def unseen_class_masks(study: Study, keys: Mapping[str, str], count: int) -> Figure:
    """Shows annotated masks of classes the rows have seen no masks of, and what each row predicts.

    Args:
        study: a trained study.
        keys: column title -> row; the seen classes of the first one count.
        count: objects to show.
    """
    first = next(iter(keys.values()))
    examples = unseen_examples(study.shown.coco_dir, study.seen_classes(first), count)
    predicted = zip(*(_predicted_masks(study, key, examples) for key in keys.values()), strict=True)
    images = [read_image(example.picture) for example in examples]
    boxes = [normalized_boxes([e.box], "xywh", *e.mask.shape)[0] for e in examples]
    masks = [[np.zeros_like(e.mask), e.mask, *masks] for e, masks in zip(examples, predicted, strict=True)]
    titles = ["picture", "annotated", *keys]
    return drawing.mask_grid(images, masks, boxes, titles, [example.category for example in examples])


def _predicted_masks(study: Study, key: str, examples: Sequence[Example]) -> list[np.ndarray]:
    """What a row's first seed predicts; kept beside its result, so that the model need not be."""
    row = study.runs(key)[0]
    path = study.store.results_dir / "shown" / f"{row.folder_name}.json"
    kept = json.loads(path.read_text()) if path.is_file() else {}
    missing = [example for example in examples if str(example.annotation_id) not in kept]
    if missing:
        predictor = deepmac.load(study.model_folder(key))
        for example in missing:
            predictor.set_image(example.picture)
            [result] = predictor.predict([example.box], box_format="xywh").to_coco(0)
            kept[str(example.annotation_id)] = result["segmentation"]
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(kept) + "\n")
    return [coco_mask.decode(kept[str(example.annotation_id)]).astype(bool) for example in examples]


def unseen_examples(coco_dir: Path, seen_ids, count: int) -> list[Example]:
    """One object of each unseen class: a stated rule, so that nothing is picked by hand.

    Of each evaluated picture, in the order of picture ids, the largest unseen object whose class was not
    shown before; small ones, below 24 x 24 pixels, are left out.

    Args:
        coco_dir: folder in COCO layout.
        seen_ids: categories that do not count.
        count: objects at most.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # COCO tells what it does
        coco = COCO(str(coco_dir / "annotations" / "instances_val2017.json"))
    unseen = set(coco.getCatIds()) - set(seen_ids)
    examples = []
    for image_id in sorted(coco.getImgIds()):
        if not unseen or len(examples) == count:
            break
        ids = coco.getAnnIds(image_id, sorted(unseen), areaRng=(_MIN_AREA, np.inf), iscrowd=False)
        if ids:
            annotation = max(coco.loadAnns(ids), key=lambda annotation: annotation["area"])
            unseen.remove(annotation["category_id"])
            [image] = coco.loadImgs(image_id)
            [category] = coco.loadCats(annotation["category_id"])
            picture = coco_dir / "val2017" / image["file_name"]
            mask = coco.annToMask(annotation).astype(bool)
            box = tuple(annotation["bbox"])
            examples.append(Example(annotation["id"], picture, box, mask, category["name"]))
    return examples
