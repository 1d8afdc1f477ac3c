"""Figures of the notebooks."""

import contextlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

import deepmac
from deepmac.core import drawing
from deepmac.core.boxes import normalized_boxes
from deepmac.core.files import write_text
from deepmac.core.images import read_image
from deepmac.suite.study import Study

# Smaller objects show nothing at the size of a figure's cell.
_MIN_AREA = 24**2


def unseen_class_masks(study: Study, keys: Mapping[str, str], count: int) -> Figure:
    """Shows annotated masks of classes the rows have seen no masks of, and what each row predicts.

    Args:
        study: a trained study.
        keys: title -> row; the seen classes of the first one count.
        count: objects to show, chosen by `unseen_examples`.
    """
    coco, first = _annotations(study), next(iter(keys.values()))
    return _grid(study, keys, coco, unseen_examples(coco, study.seen_classes(first), count))


def largest_differences(study: Study, keys: Mapping[str, str], count: int) -> Figure:
    """Shows objects of unseen classes whose IoU differs most between the first and the last row.

    Args:
        study: a trained study.
        keys: title -> row; the seen classes of the first one count.
        count: objects to show: half of them where the last row is furthest ahead, half where it is furthest
            behind, at most one of a picture in each half.
    """
    coco = _annotations(study)
    first, *_, last = keys.values()
    examples = _unseen_objects(coco, study.seen_classes(first))
    true = [coco.annToRLE(example) for example in examples]
    ious = [
        [coco_mask.iou([mask], [annotated], [0]).item() for mask, annotated in zip(masks, true, strict=True)]
        for masks in (_predicted_masks(study, key, coco, examples) for key in (first, last))
    ]
    ahead = pd.DataFrame({"image": [one["image_id"] for one in examples], "iou": np.diff(ious, axis=0)[0]})
    ranked = ahead.sort_values("iou", ascending=False, kind="stable")
    ends = [end.drop_duplicates("image").index[: count // 2] for end in (ranked, ranked[::-1])]
    return _grid(study, keys, coco, [examples[i] for i in np.concatenate(ends)])


def unseen_examples(coco: COCO, seen_ids: Iterable[int], count: int) -> list[dict]:
    """Annotations of one object of each unseen class: a stated rule, so that nothing is picked by hand.

    Of each evaluated picture, in the order of picture ids, the largest unseen object whose class was not
    shown before; small ones, below 24 x 24 pixels, and those at the picture's border are left out.

    Args:
        coco: annotations.
        seen_ids: categories that do not count.
        count: objects at most.
    """
    objects = pd.DataFrame(_unseen_objects(coco, seen_ids))
    examples = []
    for _, of_image in objects.groupby("image_id") if len(objects) else ():
        new = of_image[~of_image["category_id"].isin([example["category_id"] for example in examples])]
        if len(new) and len(examples) < count:
            examples.append(coco.anns[new.loc[new["area"].idxmax(), "id"]])
    return examples


def _unseen_objects(coco: COCO, seen_ids: Iterable[int]) -> list[dict]:
    """Annotations, by picture, of what examples can be: whole objects of unseen classes, not too small."""
    unseen = set(coco.getCatIds()) - set(seen_ids)
    objects = sorted(coco.anns.values(), key=lambda annotation: (annotation["image_id"], annotation["id"]))
    return [
        one
        for one in objects
        if one["category_id"] in unseen
        and not one["iscrowd"]
        and one["area"] >= _MIN_AREA
        and _is_whole(coco, one)
    ]


def _is_whole(coco: COCO, annotation: dict) -> bool:
    """Whether the picture's border cuts nothing off."""
    image = coco.imgs[annotation["image_id"]]
    x, y, width, height = annotation["bbox"]
    return min(x, y) >= 1 and x + width <= image["width"] - 1 and y + height <= image["height"] - 1


def _annotations(study: Study) -> COCO:
    """Those of the pictures that figures show."""
    with contextlib.redirect_stdout(None):
        return COCO(str(study.shown.coco_dir / "annotations" / "instances_val2017.json"))


def _grid(study: Study, keys: Mapping[str, str], coco: COCO, examples: Sequence[dict]) -> Figure:
    """A column for each example: picture, annotated mask, what each row predicts."""
    predicted = zip(*(_predicted_masks(study, key, coco, examples) for key in keys.values()), strict=True)
    annotated = [coco.annToMask(example).astype(bool) for example in examples]
    masks = [
        [np.zeros_like(true), true, *coco_mask.decode(list(row)).transpose(2, 0, 1).astype(bool)]
        for true, row in zip(annotated, predicted, strict=True)
    ]
    boxes = [
        normalized_boxes([example["bbox"]], "xywh", *true.shape)[0]
        for example, true in zip(examples, annotated, strict=True)
    ]
    names = [coco.cats[example["category_id"]]["name"] for example in examples]
    images = [read_image(_picture(study, coco, example)) for example in examples]
    return drawing.mask_grid(images, masks, boxes, names, ["picture", "annotated", *keys])


def _picture(study: Study, coco: COCO, example: dict):
    """The file an example is in."""
    return study.shown.coco_dir / "val2017" / coco.imgs[example["image_id"]]["file_name"]


def _predicted_masks(study: Study, key: str, coco: COCO, examples: Sequence[dict]) -> list[dict]:
    """What a row's first seed predicts, RLE; kept beside its result, so that the model need not be."""
    path = study.store.results_dir / "shown" / f"{study.runs(key)[0].folder_name}.json"
    kept = json.loads(path.read_text()) if path.is_file() else {}
    missing = [example for example in examples if str(example["id"]) not in kept]
    predictor = deepmac.load(study.model_folder(key)) if missing else None
    for of_image in [list(group) for _, group in itertools.groupby(missing, lambda one: one["image_id"])]:
        predictor.set_image(_picture(study, coco, of_image[0]))
        masks = predictor.predict([one["bbox"] for one in of_image], box_format="xywh").to_coco(0)
        kept |= {str(one["id"]): mask["segmentation"] for one, mask in zip(of_image, masks, strict=True)}
    if missing:
        write_text(path, json.dumps(kept) + "\n")
    return [kept[str(example["id"])] for example in examples]
