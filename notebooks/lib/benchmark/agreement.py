"""How well masks in bfloat16 agree with those in float32."""

import json

import numpy as np
from PIL import Image

import deepmac
from deepmac.evaluation import MaskEvaluator
from lib.benchmark.scope import Benchmark

_MIN_AREA = 16**2  # of a box, pixels; the IoU of smaller masks is that of their edges
_MAX_PICTURES = 50


def mean_agreement(benchmark: Benchmark) -> float:
    """Mean IoU of the shipped model's masks in bfloat16 and float32, in the profile's annotated boxes."""
    predictors = [deepmac.load("mini", precision=precision) for precision in ("float32", "bfloat16")]
    path = benchmark.data.annotation_file
    names = {image["id"]: image["file_name"] for image in json.loads(path.read_text())["images"]}
    ious = []
    evaluator = MaskEvaluator(path)
    for image_id in evaluator.image_ids[: min(_MAX_PICTURES, benchmark.scope.pictures)]:
        truth = evaluator.ground_truth(image_id)
        image = np.asarray(Image.open(benchmark.data.coco_dir / "val2017" / names[image_id]).convert("RGB"))
        sides = (truth.boxes[:, 2:] - truth.boxes[:, :2]) * image.shape[:2]
        boxes = truth.boxes[sides.prod(axis=1) >= _MIN_AREA]
        if len(boxes):
            masks = [p.predict(boxes, encoded=p.encode(image)).masks for p in predictors]
            ious.append(mask_ious(*masks))
    return float(np.mean(np.concatenate(ious)))


def mask_ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of each pair of masks, bool [N, H, W]; two empty masks agree."""
    common = (first & second).sum(axis=(1, 2))
    union = (first | second).sum(axis=(1, 2))
    return np.where(union == 0, 1.0, common / np.maximum(union, 1))
