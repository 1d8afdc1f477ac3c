"""Small COCO data sets with predictions, for the tests of the evaluation."""

import contextlib
import copy
import io
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from deepmac.core.masks import encode_masks, paste_masks

HEIGHT, WIDTH = 200, 260
SEEN_IDS = (1, 3, 17)
CATEGORIES = [
    {"id": 1, "name": "person", "supercategory": "person"},
    {"id": 3, "name": "car", "supercategory": "vehicle"},
    {"id": 5, "name": "airplane", "supercategory": "vehicle"},
    {"id": 17, "name": "cat", "supercategory": "animal"},
    {"id": 24, "name": "zebra", "supercategory": "animal"},
    {"id": 90, "name": "toothbrush", "supercategory": "indoor"},  # never in a scene
]
IDS = np.array([category["id"] for category in CATEGORIES])
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
_METRIC_POSITIONS = [0, 1, 2, 3, 4, 5, 8]  # in COCOeval.stats


class Predictions(NamedTuple):
    """The arguments of `MaskEvaluator.add` after the image id."""

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    mask_probs: np.ndarray


def blobs(rng, count, size=16):
    """Random soft shapes inside a box: float32 [count, size, size]."""
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    angle = np.arctan2(rows, columns)
    phase = rng.uniform(0, 2 * np.pi, (count, 1, 1))
    radius = 0.8 + 0.25 * np.sin(rng.integers(2, 5, (count, 1, 1)) * angle + phase)
    return np.clip(0.5 + 3 * (radius - np.hypot(rows, columns)), 0, 1).astype(np.float32)


def random_boxes(rng, count):
    size = np.exp(rng.uniform(np.log(0.08), np.log(0.7), (count, 2)))
    corner = rng.uniform(0, 1 - size)
    return np.concatenate([corner, corner + size], axis=1)


def pixel_boxes(boxes):
    ymin, xmin, ymax, xmax = (boxes * [HEIGHT, WIDTH, HEIGHT, WIDTH]).T
    return np.stack([xmin, ymin, xmax - xmin, ymax - ymin], axis=1)


def scenes(images=20, seed=0, crowds=True):
    """A COCO data set and its perfect predictions: (dict, image id -> Predictions)."""
    rng = np.random.default_rng(seed)
    content = {"images": [], "annotations": [], "categories": copy.deepcopy(CATEGORIES)}
    perfect = {}
    for image_id in range(1, images + 1):
        content["images"].append({"id": image_id, "height": HEIGHT, "width": WIDTH})
        count = int(rng.integers(1, 7))
        boxes, masks, classes = random_boxes(rng, count), blobs(rng, count), rng.choice(IDS[:-1], count)
        crowd = (rng.random(count) < 0.15) & crowds
        rles = encode_masks(masks, boxes, HEIGHT, WIDTH)
        for k in range(count):
            content["annotations"].append(
                {
                    "id": 1000 + len(content["annotations"]),
                    "image_id": image_id,
                    "category_id": int(classes[k]),
                    "bbox": pixel_boxes(boxes)[k].tolist(),
                    "area": float(coco_mask.area(rles[k])),
                    "iscrowd": int(crowd[k]),
                    "segmentation": rles[k],
                }
            )
        kept = ~crowd
        perfect[image_id] = Predictions(boxes[kept], classes[kept], np.ones(kept.sum()), masks[kept])
    return content, perfect


def imperfect(perfect, seed=1, per_image=12):
    """Detections around and beside the instances, with tied scores: image id -> Predictions."""
    rng = np.random.default_rng(seed)
    detections = {}
    for image_id, truth in perfect.items():
        boxes, classes, masks = (
            random_boxes(rng, per_image),
            rng.choice(IDS, per_image),
            blobs(rng, per_image),
        )
        if len(truth.boxes):
            near = rng.random(per_image) < 0.7
            k = rng.integers(0, len(truth.boxes), per_image)
            moved = truth.boxes[k] + rng.normal(0, 0.02, (per_image, 4))
            boxes = np.where(near[:, None], moved, boxes)
            classes = np.where(near, truth.classes[k], classes)
            same = near & (rng.random(per_image) < 0.7)
            masks = np.where(same[:, None, None], truth.mask_probs[k], masks)
        detections[image_id] = Predictions(boxes, classes, np.round(rng.random(per_image), 2), masks)
    return detections


def results_json(detections, iou_type):
    """COCO results as a user of pycocotools would write them, through whole bitmaps."""
    rows = []
    for image_id, (boxes, classes, scores, mask_probs) in detections.items():
        bitmaps = paste_masks(mask_probs, boxes, HEIGHT, WIDTH)
        for k in range(len(scores)):
            row = {"image_id": image_id, "category_id": int(classes[k]), "score": float(scores[k])}
            if iou_type == "bbox":
                row["bbox"] = pixel_boxes(boxes)[k].tolist()
            else:
                row["segmentation"] = coco_mask.encode(np.asfortranarray(bitmaps[k].astype(np.uint8)))
            rows.append(row)
    return rows


def coco_metrics(content, detections, iou_type, category_ids):
    """The metrics of plain pycocotools on some classes, in percent; -100 without ground truth."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(content)
        truth.createIndex()
        results = truth.loadRes(results_json(detections, iou_type))
        evaluation = COCOeval(truth, results, iou_type)
        evaluation.params.catIds = [int(category_id) for category_id in category_ids]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(METRICS, 100 * evaluation.stats[_METRIC_POSITIONS], strict=True))


def add_all(evaluator, detections):
    for image_id, predictions in detections.items():
        evaluator.add(image_id, *predictions)
    return evaluator
