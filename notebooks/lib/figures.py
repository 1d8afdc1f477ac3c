"""Figures of the notebooks."""

import contextlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
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


def unseen_class_masks(study: Study, keys: Mapping[str, str], count: int) -> Figure:
    """Shows annotated masks of classes the rows have seen no masks of, and what each row predicts.

    Args:
        study: a trained study.
        keys: title -> row; the seen classes of the first one count.
        count: objects to show.
    """
    folder = study.shown.coco_dir
    with contextlib.redirect_stdout(io.StringIO()):  # COCO tells what it does
        coco = COCO(str(folder / "annotations" / "instances_val2017.json"))
    examples = unseen_examples(coco, study.seen_classes(next(iter(keys.values()))), count)
    pictures = [folder / "val2017" / coco.imgs[example["image_id"]]["file_name"] for example in examples]
    predicted = zip(*(_predicted_masks(study, key, examples, pictures) for key in keys.values()), strict=True)
    annotated = [coco.annToMask(example).astype(bool) for example in examples]
    masks = [[np.zeros_like(true), true, *row] for true, row in zip(annotated, predicted, strict=True)]
    boxes = [
        normalized_boxes([example["bbox"]], "xywh", *true.shape)[0]
        for example, true in zip(examples, annotated, strict=True)
    ]
    names = [coco.cats[example["category_id"]]["name"] for example in examples]
    images = [read_image(picture) for picture in pictures]
    return drawing.mask_grid(images, masks, boxes, names, ["picture", "annotated", *keys])


def _predicted_masks(study: Study, key: str, examples: Sequence[dict], pictures: Sequence[Path]):
    """What a row's first seed predicts; kept beside its result, so that the model need not be."""
    path = study.store.results_dir / "shown" / f"{study.runs(key)[0].folder_name}.json"
    kept = json.loads(path.read_text()) if path.is_file() else {}
    ids = [str(example["id"]) for example in examples]
    if not kept.keys() >= set(ids):
        predictor = deepmac.load(study.model_folder(key))
        for example, picture in zip(examples, pictures, strict=True):
            predictor.set_image(picture)
            [result] = predictor.predict([example["bbox"]], box_format="xywh").to_coco(0)
            kept[str(example["id"])] = result["segmentation"]
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(kept) + "\n")
    return [coco_mask.decode(kept[annotation_id]).astype(bool) for annotation_id in ids]


def unseen_examples(coco: COCO, seen_ids: Iterable[int], count: int) -> list[dict]:
    """Annotations of one object of each unseen class: a stated rule, so that nothing is picked by hand.

    Of each evaluated picture, in the order of picture ids, the largest unseen object whose class was not
    shown before; small ones, below 24 x 24 pixels, are left out.

    Args:
        coco: annotations.
        seen_ids: categories that do not count.
        count: objects at most.
    """
    unseen = set(coco.getCatIds()) - set(seen_ids)
    examples = []
    for image_id in sorted(coco.getImgIds()):
        ids = coco.getAnnIds(image_id, sorted(unseen), areaRng=(_MIN_AREA, np.inf), iscrowd=False)
        # Without unseen classes `getAnnIds` returns those of all.
        if ids and unseen and len(examples) < count:
            examples.append(max(coco.loadAnns(ids), key=lambda annotation: annotation["area"]))
            unseen.remove(examples[-1]["category_id"])
    return examples
