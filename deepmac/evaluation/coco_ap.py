"""COCO average precision from one COCOeval run, for any set of classes.

COCOeval's precision has an axis for the classes, and its summary is the mean over the classes that
have ground truth: the AP of a set of classes is the mean over their part of the array, the same number
a run restricted to them (`params.catIds`) would give.
"""

import contextlib
import dataclasses
import importlib.util
import io
from collections.abc import Mapping, Sequence

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from deepmac.core.errors import InputError
from deepmac.evaluation.annotations import Annotations

BACKENDS = ("auto", "faster_coco_eval", "pycocotools")
# Our name -> COCOeval's. Boundary AP (arXiv 2103.16562) takes min(mask IoU, boundary IoU).
IOU_TYPES = {"mask": "segm", "box": "bbox", "boundary": "boundary"}
BOUNDARY_DILATION_RATIO = 0.02  # of the image diagonal, as published
MAX_DETECTIONS = 100  # per image and class
_AREAS = ("all", "small", "medium", "large")  # COCOeval's order


@dataclasses.dataclass(frozen=True)
class ApArrays:
    """What COCOeval accumulates, at 100 detections per image and class; -1 without ground truth.

    Attributes:
        precision: float64 [T, R, K, A]: IoU thresholds 0.5 to 0.95, recall thresholds 0 to 1, classes in
            the order of the annotations' categories, areas (all, small, medium, large).
        recall: float64 [T, K, A].
    """

    precision: np.ndarray
    recall: np.ndarray


def choose_backend(backend: str, iou_types: Sequence[str]) -> str:
    """Returns the library to use: the fast one when it is there, unless told otherwise.

    Args:
        backend: one of `BACKENDS`.
        iou_types: of `IOU_TYPES`; "boundary" needs faster-coco-eval.

    Raises:
        InputError: an unknown name, or faster-coco-eval is needed and not installed.
    """
    if backend not in BACKENDS:
        raise InputError(f"unknown evaluation backend {backend!r}: choose one of {', '.join(BACKENDS)}")
    for iou_type in iou_types:
        if iou_type not in IOU_TYPES:
            raise InputError(f"unknown IoU type {iou_type!r}: choose from {', '.join(IOU_TYPES)}")
    installed = importlib.util.find_spec("faster_coco_eval") is not None
    needed = backend == "faster_coco_eval" or "boundary" in iou_types
    if needed and not installed:
        raise InputError("boundary AP and the fast backend need a package: pip install faster-coco-eval")
    if needed and backend == "pycocotools":
        raise InputError("pycocotools has no boundary AP: choose the backend faster_coco_eval or auto")
    return "faster_coco_eval" if installed and backend != "pycocotools" else "pycocotools"


def coco_eval(annotations: Annotations, detections: list[dict], iou_type: str, backend: str):
    """Prepares a COCOeval object, silent, at 100 detections per image and class.

    Args:
        annotations: the ground truth.
        detections: COCO results with `id`, `area` and `iscrowd`, as `COCO.loadRes` would complete them.
        iou_type: one of `IOU_TYPES`.
        backend: "pycocotools" or "faster_coco_eval".

    Returns:
        pycocotools' COCOeval or faster-coco-eval's COCOeval_faster; neither has run.
    """
    if backend == "faster_coco_eval":
        import faster_coco_eval

        ground_truth, results = faster_coco_eval.COCO(), faster_coco_eval.COCO()
        _index(ground_truth, annotations, annotations.annotations)
        _index(results, annotations, detections)
        evaluation = faster_coco_eval.COCOeval_faster(
            ground_truth, results, IOU_TYPES[iou_type], boundary_dilation_ratio=BOUNDARY_DILATION_RATIO
        )
    else:
        ground_truth, results = COCO(), COCO()
        _index(ground_truth, annotations, annotations.annotations)
        _index(results, annotations, detections)
        evaluation = COCOeval(ground_truth, results, IOU_TYPES[iou_type])
    evaluation.params.maxDets = [MAX_DETECTIONS]
    return evaluation


def evaluate_ap(annotations: Annotations, detections: list[dict], iou_type: str, backend: str) -> ApArrays:
    """Runs COCOeval once; arguments as for `coco_eval`."""
    evaluation = coco_eval(annotations, detections, iou_type, backend)
    with silence():
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = (np.asarray(evaluation.eval[key]) for key in ("precision", "recall"))
    return ApArrays(precision[..., 0], recall[..., 0])


def summarise_ap(arrays: ApArrays, subsets: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Averages over each set of classes what COCOeval's summary averages over all.

    Args:
        arrays: of one COCOeval run.
        subsets: name, ending in "/" unless empty -> int [C], positions of its classes.

    Returns:
        "<subset>AP", "AP50", "AP75", "APs", "APm", "APl" (small, medium, large instances) and "AR100", in
        percent; NaN where no class of the subset has ground truth.
    """
    values = {}
    for subset, classes in subsets.items():
        precision, recall = arrays.precision[:, :, classes], arrays.recall[:, classes]
        slices = {
            "AP": precision[..., _AREAS.index("all")],
            "AP50": precision[0, ..., _AREAS.index("all")],
            "AP75": precision[5, ..., _AREAS.index("all")],
            "APs": precision[..., _AREAS.index("small")],
            "APm": precision[..., _AREAS.index("medium")],
            "APl": precision[..., _AREAS.index("large")],
            "AR100": recall[..., _AREAS.index("all")],
        }
        values |= {subset + metric: _percent(part) for metric, part in slices.items()}
    return values


@contextlib.contextmanager
def silence():
    """Keeps pycocotools' progress messages off the standard output."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _percent(values: np.ndarray) -> float:
    values = values[values > -1]
    return 100 * float(values.mean()) if values.size else float("nan")


def _index(coco, annotations: Annotations, rows: list[dict]) -> None:
    images = [{"id": key, "height": h, "width": w} for key, (h, w) in annotations.images.items()]
    coco.dataset = {"images": images, "categories": annotations.categories, "annotations": rows}
    with silence():
        coco.createIndex()
