"""COCO average precision from one COCOeval run, for any set of classes.

COCOeval's precision has an axis for the classes, and its summary is the mean over the classes that
have ground truth: the AP of a set of classes is the mean over their part of the array, the same number
a run restricted to them (`params.catIds`) would give.
"""

import contextlib
from collections.abc import Mapping

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

IOU_TYPES = {"mask": "segm", "box": "bbox"}  # our name -> COCOeval's
MAX_DETECTIONS = 100  # per image and class


def coco_eval(truth: dict, detections: list[dict], iou_type: str, backend: str):
    """Prepares a COCOeval object, silent, at 100 detections per image and class.

    Args:
        truth: a data set in COCO format, categories and images sorted by id, masks as RLE.
        detections: COCO results with `id`, `area` and `iscrowd`, as `COCO.loadRes` would complete them.
        iou_type: one of `IOU_TYPES`.
        backend: "pycocotools" or "faster_coco_eval".

    Returns:
        pycocotools' COCOeval or faster-coco-eval's COCOeval_faster; neither has run.
    """
    data_set, evaluation = COCO, COCOeval
    if backend == "faster_coco_eval":
        import faster_coco_eval

        data_set, evaluation = faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster
    indexed = []
    for rows in (truth["annotations"], detections):
        coco = data_set()
        coco.dataset = truth | {"annotations": rows}
        with contextlib.redirect_stdout(None):
            coco.createIndex()
        indexed.append(coco)
    prepared = evaluation(*indexed, IOU_TYPES[iou_type])
    prepared.params.maxDets = [MAX_DETECTIONS]
    return prepared


def average_precisions(evaluation, subsets: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Runs COCOeval, and averages over each set of classes what its summary averages over all.

    Args:
        evaluation: from `coco_eval`.
        subsets: name, ending in "/" unless empty -> int [C], positions of its classes.

    Returns:
        "<subset>AP", "AP50", "AP75", "APs", "APm", "APl" (small, medium, large instances) and "AR100", in
        percent; NaN where no class of the subset has ground truth.
    """
    with contextlib.redirect_stdout(None):
        evaluation.evaluate()
        evaluation.accumulate()
    # IoU thresholds 0.5 to 0.95, (recall thresholds 0 to 1,) classes, areas: all, small, medium, large.
    all_precision = np.asarray(evaluation.eval["precision"])[..., 0]  # (T, R, K, 4)
    all_recall = np.asarray(evaluation.eval["recall"])[..., 0]  # (T, K, 4)
    values = {}
    for subset, classes in subsets.items():
        precision, recall = all_precision[:, :, classes], all_recall[:, classes]
        parts = {
            "AP": precision[..., 0],
            "AP50": precision[0, ..., 0],
            "AP75": precision[5, ..., 0],
            "APs": precision[..., 1],
            "APm": precision[..., 2],
            "APl": precision[..., 3],
            "AR100": recall[..., 0],
        }
        for metric, part in parts.items():
            known = part[part > -1]  # -1 stands for no ground truth
            values[subset + metric] = 100 * float(known.mean()) if known.size else float("nan")
    return values
