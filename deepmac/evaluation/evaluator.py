"""Collects predictions image by image as RLE and computes AP and mean IoU for sets of classes."""

import os
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from deepmac.core.boxes import pixel_xywh
from deepmac.core.categories import VOC_IDS, is_coco
from deepmac.core.errors import InputError
from deepmac.core.masks import encode_masks
from deepmac.data.coco import CocoData, read_coco
from deepmac.data.flaws import EVALUATION
from deepmac.data.numbers import key_in
from deepmac.evaluation import bootstrap, coco_ap

# A mask predicted for an object may reach beyond its annotated box, by this part of the box's sides.
_MASKLESS_MARGIN = 0.1


class Instances(NamedTuple):
    """The instances of an image that masks are predicted for: all but crowd regions.

    Attributes:
        boxes: float32 [N, 4], (ymin, xmin, ymax, xmax) normalised to the image.
        classes: int64 [N], category ids.
        annotation_ids: int64 [N], ids in the annotation file.
    """

    boxes: np.ndarray
    classes: np.ndarray
    annotation_ids: np.ndarray


class MaskEvaluator:
    """Evaluates masks against COCO annotations; memory grows with the RLE of the predictions only.

    From detections: `add` boxes, classes, scores and masks of every image. From ground-truth boxes
    (mask quality alone): `add_from_boxes`, or `add` the `ground_truth` of every image with its class,
    score 1 and `annotation_ids`; then the result holds the mean IoU as well. Crowd regions follow COCO:
    never predicted from ground-truth boxes, and detections inside them count neither way.

    Annotations without a mask count in box AP only: masks that mostly lie in their boxes count neither way.

    Args:
        annotations: COCO instances JSON file, or its content.
        seen_ids: category ids whose masks the model was trained on; the file's other categories are
            unseen. None leaves "seen" and "unseen" out of the result.

    Attributes:
        image_ids: the evaluated images, ascending: all that are listed, as COCO prescribes. Those never added
            count as images without detections.
        backend: the library that computes AP: "faster_coco_eval" where it is installed, or "pycocotools",
            which gives equal numbers in more time.

    Raises:
        InputError: the annotations are missing, malformed or empty.
    """

    def __init__(self, annotations: str | os.PathLike | dict, seen_ids: Iterable[int] | None = None):
        self.backend = "faster_coco_eval" if find_spec("faster_coco_eval") else "pycocotools"
        data = read_coco(annotations, EVALUATION)
        self._name = data.name
        self._truth = _compact(data)
        self._sizes = {image["id"]: (image["height"], image["width"]) for image in self._truth["images"]}
        self.image_ids = tuple(self._sizes)
        self._category_ids = np.array([category["id"] for category in self._truth["categories"]], np.int64)
        self._subsets = _subsets(self._truth["categories"], seen_ids)
        self._added: set[int] = set()  # ids of images
        self._detections: list[dict] = []  # COCO results, without their areas
        rows = self._truth["annotations"]
        # Image id -> annotation id -> row, without crowd regions.
        self._instances: dict[int, dict[int, dict]] = {image_id: {} for image_id in self.image_ids}
        for annotation, row in zip(data.annotations, rows, strict=True):
            if not row["iscrowd"]:
                self._instances[row["image_id"]][annotation["id"]] = row
        # Of each annotation, positions of its class and image, and the IoU of the mask predicted for it.
        self._classes = np.searchsorted(self._category_ids, [row["category_id"] for row in rows])
        self._images = np.searchsorted(self.image_ids, [row["image_id"] for row in rows])
        self._ious = np.full(len(rows), np.nan)  # in percent

    def image_size(self, image_id: int) -> tuple[int, int]:
        """Returns (height, width) in pixels. Raises InputError when the image is not evaluated."""
        if image_id not in self._sizes:
            raise InputError(
                f"image id {image_id} is not among the {len(self._sizes)} evaluated images of {self._name}: "
                "evaluate the images that the annotation file lists"
            )
        return self._sizes[image_id]

    def ground_truth(self, image_id: int) -> Instances:
        """Returns boxes, classes and annotation ids of an image, without crowd regions."""
        height, width = self.image_size(image_id)
        instances = self._instances[image_id]
        x, y, w, h = np.reshape([row["bbox"] for row in instances.values()], (-1, 4)).astype(float).T
        return Instances(
            boxes=np.stack([y / height, x / width, (y + h) / height, (x + w) / width], 1).astype(np.float32),
            classes=np.array([row["category_id"] for row in instances.values()], np.int64),
            annotation_ids=np.array(list(instances), np.int64),
        )

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
            InputError: the image is not evaluated or was added before, a box or score is not a finite number,
                or an annotation is none of the image's instances.
        """
        height, width = self.image_size(image_id)
        if image_id in self._added:
            raise InputError(f"image id {image_id} was added before: add all its predictions in one call")
        boxes, scores = np.asarray(boxes, np.float64), np.asarray(scores, np.float64)
        classes, mask_probs = np.asarray(classes), np.asarray(mask_probs)
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise InputError(f"image id {image_id}: a box or a score is not a finite number")
        rles = encode_masks(mask_probs, boxes, height, width)
        if annotation_ids is not None:
            self._add_ious(image_id, rles, annotation_ids)
        self._added.add(int(image_id))
        columns = pixel_xywh(boxes, height, width).tolist(), classes.tolist(), scores.tolist(), rles
        for box, category_id, score, rle in zip(*columns, strict=True):
            if category_id in self._category_ids:
                result = {"image_id": int(image_id), "category_id": int(category_id), "score": score}
                self._detections.append(result | {"bbox": box, "segmentation": rle})

    def add_from_boxes(self, predict_masks: Callable[[int, np.ndarray], np.ndarray]) -> None:
        """Adds masks predicted from the ground-truth boxes of every evaluated image.

        Args:
            predict_masks: called with an image id and its boxes, float32 [N, 4] (ymin, xmin, ymax, xmax)
                normalised to the image, N >= 1; returns mask probabilities, float [N, S, S].
        """
        for image_id in self.image_ids:
            truth = self.ground_truth(image_id)
            if len(truth.boxes):
                self.add_given(image_id, predict_masks(image_id, truth.boxes))

    def add_given(self, image_id: int, mask_probs: np.ndarray) -> None:
        """Adds masks, float [N, S, S], predicted in the first N boxes of an image's `ground_truth`."""
        count = len(mask_probs)
        boxes, classes, annotation_ids = (values[:count] for values in self.ground_truth(image_id))
        self.add(image_id, boxes, classes, np.ones(count), mask_probs, annotation_ids)

    def result(self) -> dict[str, float]:
        """Computes all metrics of the predictions added so far, in percent.

        Returns:
            "<IoU type>/<subset><metric>" -> value. IoU types: "mask", "box". Subsets: none (all
            classes), "seen/", "unseen/", "supercategory/<name>/", "class/<name>/", and for COCO's categories
            "voc/" and "non_voc/".
            Metrics: "AP", "AP50", "AP75", "APs", "APm", "APl", "AR100", as COCO defines them; of "mask", when
            annotation ids were added, "mIoU", the mean over instances. NaN where the subset has no truth.
        """
        values = {}
        for iou_type in coco_ap.IOU_TYPES:
            evaluation = self._coco_eval(iou_type, self.backend)
            summary = coco_ap.average_precisions(evaluation, self._subsets)
            values |= {f"{iou_type}/{name}": value for name, value in summary.items()}
        has_iou = np.isfinite(self._ious)
        for subset, members in self._subsets.items() if has_iou.any() else ():
            ious = self._ious[has_iou & np.isin(self._classes, members)]
            values[f"mask/{subset}mIoU"] = float(ious.mean()) if ious.size else float("nan")
        return values

    def bootstrap(self, resamples: int = 200, seed: int = 0) -> dict[str, np.ndarray]:
        """Recomputes mask AP (and mean IoU) on images drawn with replacement.

        Args:
            resamples: number of draws of as many images as are evaluated.
            seed: equal seeds draw equal images, so two evaluators' samples can be subtracted.

        Returns:
            "mask/<subset>AP" and, with annotation ids, "mask/<subset>mIoU" -> float64 [1 + resamples] in
            percent: first the value `result` gives, then one for each draw; NaN without ground truth of the
            subset.
        """
        weights = bootstrap.bootstrap_weights(len(self.image_ids), resamples, seed)
        evaluation = self._coco_eval("mask", "pycocotools")
        class_ap = bootstrap.class_average_precisions(evaluation, weights)
        has_ap = np.isfinite(class_ap)  # (1 + resamples, K)
        samples = {}
        with np.errstate(invalid="ignore"):
            for subset, members in self._subsets.items():
                total = np.where(has_ap, 100 * class_ap, 0)[:, members].sum(1)
                samples[f"mask/{subset}AP"] = total / has_ap[:, members].sum(1)
                if np.isfinite(self._ious).any():
                    chosen = np.isin(self._classes, members) & np.isfinite(self._ious)
                    count = weights[:, self._images[chosen]]  # (1 + resamples, instances)
                    samples[f"mask/{subset}mIoU"] = count @ self._ious[chosen] / count.sum(1)
        return samples

    def _coco_eval(self, iou_type: str, backend: str):
        """COCOeval of what was added, see `coco_ap.coco_eval`.

        For masks, each box without one is like a crowd region that fills it.
        """
        truth, detections = self._truth, []
        if iou_type == "mask":
            rows = truth["annotations"]
            regions = [row if row["segmentation"] else row | self._box_region(row) for row in rows]
            truth = truth | {"annotations": regions}
        for number, row in enumerate(self._detections, start=1):  # completed as `COCO.loadRes` does
            _, _, width, height = row["bbox"]
            area = width * height if iou_type == "box" else float(coco_mask.area(row["segmentation"]))
            detections.append(row | {"id": number, "area": area, "iscrowd": 0})
        return coco_ap.coco_eval(truth, detections, iou_type, backend)

    def _box_region(self, row: dict) -> dict:
        x, y, width, height = row["bbox"]
        size = self._sizes[row["image_id"]]
        beyond_x, beyond_y = width * _MASKLESS_MARGIN, height * _MASKLESS_MARGIN
        left, right = np.clip([x - beyond_x, x + width + beyond_x], 0, size[1])
        top, bottom = np.clip([y - beyond_y, y + height + beyond_y], 0, size[0])
        (region,) = coco_mask.frPyObjects(np.array([[left, top, right - left, bottom - top]]), *size)
        return {"iscrowd": 1, "segmentation": region}

    def _add_ious(self, image_id: int, rles: list[dict], annotation_ids: np.ndarray) -> None:
        for rle, annotation_id in zip(rles, annotation_ids, strict=True):
            row = self._instances[image_id].get(int(annotation_id))
            if row is None:
                raise InputError(
                    f"image id {image_id}: annotation id {annotation_id} is none of its instances"
                )
            if row["segmentation"]:
                self._ious[row["id"] - 1] = 100 * coco_mask.iou([rle], [row["segmentation"]], [0])[0, 0]


def _compact(data: CocoData) -> dict:
    """The data set with what COCO's evaluation takes: sorted by ids, masks as RLE, annotations from 1 on.

    (COCO's matching takes an id of 0 for "not matched".) Annotations without a mask keep an empty list.
    """
    categories = sorted(data.categories, key=lambda category: category["id"])
    images = [{key: data.images[i][key] for key in ("id", "height", "width")} for i in sorted(data.images)]
    coco = COCO()
    coco.imgs = data.images
    rows = []
    for annotation in data.annotations:
        rle = coco.annToRLE(annotation) if annotation["segmentation"] else []
        kept = {key: annotation[key] for key in ("image_id", "category_id", "bbox", "area")}
        crowd = int(bool(annotation["iscrowd"]))
        rows.append({"id": len(rows) + 1, **kept, "iscrowd": crowd, "segmentation": rle})
    return {"images": images, "categories": categories, "annotations": rows}


def _subsets(categories: list[dict], seen_ids: Iterable[int] | None) -> dict[str, np.ndarray]:
    """Sets of classes, as positions in `categories`, under the prefix their metrics get."""
    ids = np.array([category["id"] for category in categories], np.int64)
    subsets = {"": np.arange(len(ids))}
    if seen_ids is not None:
        seen = np.isin(ids, list(seen_ids))
        subsets |= {"seen/": np.flatnonzero(seen), "unseen/": np.flatnonzero(~seen)}
    if is_coco(categories):
        # The paper's split, whatever a model has seen: fully supervised models are compared on it too.
        voc = np.isin(ids, VOC_IDS)
        subsets |= {"voc/": np.flatnonzero(voc), "non_voc/": np.flatnonzero(~voc)}
    names = [key_in(category, ["supercategory"]) for category in categories]
    for name in dict.fromkeys(name for name in names if name is not None):
        subsets[f"supercategory/{name}/"] = np.array([k for k, other in enumerate(names) if other == name])
    return subsets | {f"class/{category['name']}/": np.array([k]) for k, category in enumerate(categories)}
