"""Collects predictions image by image as RLE and computes AP and mean IoU for sets of classes."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from pycocotools import mask as coco_mask

from deepmac.core.categories import VOC_IDS
from deepmac.core.errors import InputError
from deepmac.core.masks import encode_masks
from deepmac.evaluation import bootstrap, coco_ap
from deepmac.evaluation.annotations import Instances, load_annotations
from deepmac.evaluation.garbage_collection import garbage_collection_paused


@dataclasses.dataclass(frozen=True)
class _ImagePredictions:
    """What is kept of one image: a few numbers and the RLE of each detection."""

    image_id: int
    boxes: np.ndarray  # float64 [N, 4], COCO's (x, y, width, height) in pixels
    classes: np.ndarray  # int64 [N]
    scores: np.ndarray  # float64 [N]
    areas: np.ndarray  # float64 [N], pixels of the mask
    counts: list[str]  # compressed RLE


class MaskEvaluator:
    """Evaluates masks against COCO annotations; memory grows with the RLE of the predictions only.

    From detections: `add` boxes, classes, scores and masks of every image. From ground-truth boxes
    (mask quality alone): `add_from_boxes`, or `add` the `ground_truth` of every image with its class,
    score 1 and `annotation_ids`; then the result holds the mean IoU as well. Crowd regions follow COCO:
    never predicted from ground-truth boxes, and detections inside them count neither way.

    Args:
        annotations: COCO instances JSON file, or its content.
        seen_ids: category ids whose masks the model was trained on; the file's other categories are
            unseen. None leaves "seen" and "unseen" out of the result.
        image_ids: the images to evaluate; None for all the file lists, as COCO prescribes. Images
            never added count as images without detections.
        iou_types: of "mask", "box" and "boundary" (arXiv 2103.16562, needs faster-coco-eval).
        backend: "pycocotools", "faster_coco_eval" (equal numbers in less time), or "auto": the fast one
            when it is installed.

    Attributes:
        image_ids: the evaluated images, ascending.
        backend: the library in use.

    Raises:
        InputError: the annotations are missing, malformed or empty, or an option is unknown.
    """

    def __init__(
        self,
        annotations: str | os.PathLike | dict,
        seen_ids: Iterable[int] | None = None,
        image_ids: Iterable[int] | None = None,
        iou_types: Sequence[str] = ("mask", "box"),
        backend: str = "auto",
    ):
        self.backend = coco_ap.choose_backend(backend, iou_types)
        self._annotations = load_annotations(annotations, image_ids)
        self.image_ids = tuple(self._annotations.images)
        self._instances = self._annotations.instances()
        self._iou_types = tuple(iou_types)
        self._subsets = _subsets(self._annotations.categories, seen_ids)
        self._predictions: dict[int, _ImagePredictions] = {}
        self._ious: dict[int, float] = {}  # index of the annotation -> IoU, 0 to 1

    def image_size(self, image_id: int) -> tuple[int, int]:
        """Returns (height, width) in pixels. Raises InputError when the image is not evaluated."""
        return self._annotations.image_size(image_id)

    def ground_truth(self, image_id: int) -> Instances:
        """Returns boxes, classes and annotation ids of an image, without crowd regions."""
        self.image_size(image_id)
        return self._instances[image_id]

    def add(
        self,
        image_id: int,
        boxes: np.ndarray,
        classes: np.ndarray,
        scores: np.ndarray,
        mask_probs: np.ndarray,
        annotation_ids: np.ndarray | None = None,
    ) -> None:
        """Adds the predictions of one image; pastes, thresholds and run-length encodes them at once.

        Args:
            image_id: id in the annotation file; each image once.
            boxes: float [N, 4], (ymin, xmin, ymax, xmax) normalised to the original, unpadded image.
            classes: int [N], category ids. Classes the file does not list are dropped, as COCO does.
            scores: float [N].
            mask_probs: float [N, S, S], probabilities inside the boxes.
            annotation_ids: int [N], the annotation each mask was predicted for: adds to the mean IoU.

        Raises:
            InputError: the image is not evaluated or was added before, shapes disagree, a box or score
                is not a finite number, or an annotation is of another image.
        """
        height, width = self.image_size(image_id)
        if image_id in self._predictions:
            raise InputError(f"image id {image_id} was added before: add all its predictions in one call")
        boxes, scores = np.asarray(boxes, np.float64), np.asarray(scores, np.float64)
        classes, mask_probs = np.asarray(classes), np.asarray(mask_probs)
        _check_predictions(image_id, boxes, classes, scores, mask_probs)
        rles = encode_masks(mask_probs, boxes, height, width)
        if annotation_ids is not None:
            self._add_ious(image_id, rles, annotation_ids)
        known = np.isin(classes, [category["id"] for category in self._annotations.categories])
        ymin, xmin, ymax, xmax = (boxes * [height, width, height, width])[known].T
        kept = [rle for rle, keep in zip(rles, known, strict=True) if keep]
        self._predictions[image_id] = _ImagePredictions(
            image_id=int(image_id),
            boxes=np.stack([xmin, ymin, xmax - xmin, ymax - ymin], axis=1),
            classes=classes[known].astype(np.int64),
            scores=scores[known],
            areas=np.asarray(coco_mask.area(kept), np.float64),
            counts=[rle["counts"] for rle in kept],
        )

    def add_from_boxes(self, predict_masks: Callable[[int, np.ndarray], np.ndarray]) -> None:
        """Adds masks predicted from the ground-truth boxes of every evaluated image.

        Args:
            predict_masks: called with an image id and its boxes, float32 [N, 4] (ymin, xmin, ymax, xmax)
                normalised to the image, N >= 1; returns mask probabilities, float [N, S, S].
        """
        for image_id in self.image_ids:
            truth = self.ground_truth(image_id)
            if len(truth.boxes):
                mask_probs = predict_masks(image_id, truth.boxes)
                scores = np.ones(len(truth.boxes))
                self.add(image_id, truth.boxes, truth.classes, scores, mask_probs, truth.annotation_ids)

    @garbage_collection_paused()
    def result(self) -> dict[str, float]:
        """Computes all metrics of the predictions added so far, in percent.

        Returns:
            "<IoU type>/<subset><metric>" -> value. IoU types: "mask", "box", "boundary". Subsets: none
            (all classes), "seen/", "unseen/", "voc/", "non_voc/", "supercategory/<name>/", "class/<name>/".
            Metrics: "AP", "AP50", "AP75", "APs", "APm", "APl", "AR100", as COCO defines them; and when
            annotation ids were added, those of `mean_iou`. NaN where the subset has no ground truth.
        """
        values = {}
        for iou_type in self._iou_types:
            detections = list(self._coco_results(iou_type))
            arrays = coco_ap.evaluate_ap(self._annotations, detections, iou_type, self.backend)
            summary = coco_ap.summarise_ap(arrays, self._subsets)
            values |= {f"{iou_type}/{name}": value for name, value in summary.items()}
        return values | (self.mean_iou() if self._ious else {})

    def mean_iou(self, min_area: float = 0.0) -> dict[str, float]:
        """Mean IoU of the masks that were predicted for known annotations, in percent.

        Args:
            min_area: leaves out instances whose annotated area, in pixels, is smaller; 32 ** 2 leaves
                COCO's medium and large ones.

        Returns:
            "mask/<subset>mIoU": mean over instances, "mask/<subset>class_mIoU": mean of the classes'
            means; NaN for a subset without instances.
        """
        classes, _, ious = self._instance_ious(min_area)
        by_class = [ious[classes == k] for k in range(len(self._annotations.categories))]
        values = {}
        for subset, members in self._subsets.items():
            parts = [by_class[k] for k in members if by_class[k].size]
            values[f"mask/{subset}mIoU"] = float(np.concatenate(parts).mean()) if parts else float("nan")
            means = [part.mean() for part in parts]
            values[f"mask/{subset}class_mIoU"] = float(np.mean(means)) if parts else float("nan")
        return values

    @garbage_collection_paused()
    def bootstrap(self, iou_type: str = "mask", resamples: int = 200, seed: int = 0) -> dict[str, np.ndarray]:
        """Recomputes AP (and mean IoU) on images drawn with replacement.

        Args:
            iou_type: "mask" or "box".
            resamples: number of draws of as many images as are evaluated.
            seed: equal seeds draw equal images, so two evaluators' samples can be subtracted.

        Returns:
            "<IoU type>/<subset>AP" and, for "mask" with annotation ids, "mask/<subset>mIoU" -> float64
            [1 + resamples] in percent: first the value `result` gives, then one for each draw; NaN without
            ground truth of the subset. Pass it to `confidence_intervals`.
        """
        if iou_type not in ("mask", "box"):
            raise InputError(f"no bootstrap for the IoU type {iou_type!r}: choose mask or box")
        weights = bootstrap.bootstrap_weights(len(self.image_ids), resamples, seed)
        detections = list(self._coco_results(iou_type))
        matches = bootstrap.match_detections(self._annotations, detections, iou_type)
        class_ap = np.array([[bootstrap.class_average_precision(m, w) for m in matches] for w in weights])
        samples = bootstrap.subset_means(100 * class_ap, self._subsets, "AP")
        if iou_type == "mask" and self._ious:
            samples |= self._bootstrap_iou(weights)
        return {f"{iou_type}/{name}": values for name, values in samples.items()}

    def _bootstrap_iou(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        classes, images, ious = self._instance_ious()
        samples = {}
        for subset, members in self._subsets.items():
            chosen = np.isin(classes, members)
            count = weights[:, images[chosen]]  # (resamples, instances)
            with np.errstate(invalid="ignore"):
                samples[f"{subset}mIoU"] = count @ ious[chosen] / count.sum(1)
        return samples

    def _add_ious(self, image_id: int, rles: list[dict], annotation_ids: np.ndarray) -> None:
        if len(annotation_ids) != len(rles):
            raise InputError(
                f"image id {image_id}: {len(rles)} masks, but {len(annotation_ids)} annotation ids"
            )
        truths = [self._annotations.annotation(int(annotation_id)) for annotation_id in annotation_ids]
        for rle, truth in zip(rles, truths, strict=True):
            if truth["image_id"] != image_id or truth["iscrowd"]:
                raise InputError(f"image id {image_id}: an annotation id is of another image or of a crowd")
            self._ious[truth["id"] - 1] = float(coco_mask.iou([rle], [truth["segmentation"]], [0])[0, 0])

    def _instance_ious(self, min_area: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Class positions, image positions and IoUs in percent of the instances of at least an area."""
        class_of = {category["id"]: k for k, category in enumerate(self._annotations.categories)}
        image_of = {image_id: i for i, image_id in enumerate(self.image_ids)}
        rows = [(self._annotations.annotations[index], iou) for index, iou in self._ious.items()]
        rows = [(truth, iou) for truth, iou in rows if truth["area"] >= min_area]
        classes = np.array([class_of[truth["category_id"]] for truth, _ in rows], np.int64)
        images = np.array([image_of[truth["image_id"]] for truth, _ in rows], np.int64)
        return classes, images, 100 * np.array([iou for _, iou in rows], np.float64)

    def _coco_results(self, iou_type: str) -> Iterator[dict]:
        """COCO result entries of one IoU type, completed as `COCO.loadRes` does."""
        number = 0
        for image in self._predictions.values():
            size = list(self.image_size(image.image_id))
            areas = image.boxes[:, 2] * image.boxes[:, 3] if iou_type == "box" else image.areas
            columns = (image.boxes.tolist(), image.classes.tolist(), image.scores.tolist(), areas.tolist())
            for box, category_id, score, area, counts in zip(*columns, image.counts, strict=True):
                number += 1
                yield {
                    "id": number,
                    "image_id": image.image_id,
                    "category_id": category_id,
                    "score": score,
                    "area": area,
                    "iscrowd": 0,
                    "bbox": box,
                    "segmentation": {"size": size, "counts": counts},
                }


def _subsets(categories: list[dict], seen_ids: Iterable[int] | None) -> dict[str, np.ndarray]:
    """Sets of classes, as positions in `categories`, under the prefix their metrics get."""
    ids = np.array([category["id"] for category in categories], np.int64)
    subsets = {"": np.arange(len(ids))}
    if seen_ids is not None:
        seen = np.isin(ids, list(seen_ids))
        subsets |= {"seen/": np.flatnonzero(seen), "unseen/": np.flatnonzero(~seen)}
    # The paper's split, whatever a model has seen: fully supervised models are compared on it too.
    voc = np.isin(ids, VOC_IDS)
    subsets |= {"voc/": np.flatnonzero(voc), "non_voc/": np.flatnonzero(~voc)}
    names = [category.get("supercategory") for category in categories]
    for name in dict.fromkeys(name for name in names if name):
        subsets[f"supercategory/{name}/"] = np.array([k for k, other in enumerate(names) if other == name])
    return subsets | {f"class/{category['name']}/": np.array([k]) for k, category in enumerate(categories)}


def _check_predictions(
    image_id: int, boxes: np.ndarray, classes: np.ndarray, scores: np.ndarray, mask_probs: np.ndarray
) -> None:
    count = len(scores)
    shapes_agree = boxes.shape == (count, 4) and classes.shape == scores.shape == (count,)
    if not (shapes_agree and mask_probs.ndim == 3 and len(mask_probs) == count):
        raise InputError(
            f"image id {image_id}: boxes {boxes.shape}, classes {classes.shape}, scores {scores.shape} and "
            f"mask_probs {mask_probs.shape} must be [N, 4], [N], [N] and [N, S, S]"
        )
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise InputError(f"image id {image_id}: a box or a score is not a finite number")
