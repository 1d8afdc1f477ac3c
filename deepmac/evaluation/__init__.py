"""Mask quality on seen and unseen classes: COCO AP, mean IoU, baselines, intervals.

`MaskEvaluator` is the entry: `add` the predictions of each image (or let `add_from_boxes` ask a model
for the masks of the ground-truth boxes), then read `result`. Every value is in percent, 0 to 100.
"""

from deepmac.evaluation.bootstrap import confidence_interval
from deepmac.evaluation.evaluator import MaskEvaluator

__all__ = ["MaskEvaluator", "confidence_interval"]
