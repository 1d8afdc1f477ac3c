"""Evaluates masks in Model Garden's validation loop: what the tasks of DeepMAC and Deep-MARC share."""

import numpy as np

from deepmac.core.errors import InputError
from deepmac.evaluation.evaluator import MaskEvaluator

EVALUATION_LOG = "evaluation"


class MaskValidation:
    """Mixin of a task: turns the masks of each validation step into `MaskEvaluator`s, one for each source.

    The task has `seen_ids`, the category ids whose masks the model is trained on.
    The validation step logs, under `EVALUATION_LOG`, for B pictures (only with `task.annotation_file`):

        source_id: int64 [B], ids of the pictures; negative for what only fills the last batch.
        detections: `boxes` float32 [B, D, 4] (ymin, xmin, ymax, xmax) normalised to the unpadded picture,
            `classes` [B, D], `scores` [B, D], 0 for none, `masks` float32 [B, D, S, S] probabilities
            inside the boxes.
        gt_boxes: `classes` [B, N], COCO ids in the order of the annotation, not positive for rows that
            are no instances (padding, crowd regions), and `masks` float32 [B, N, S, S], probabilities
            inside the annotated boxes.

    Attributes:
        evaluators: source of the boxes ("detections", "gt_boxes") -> `MaskEvaluator` of the last
            evaluation; empty without `task.annotation_file`.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.evaluators = {}

    def aggregate_logs(self, state=None, step_outputs=None):
        """Adds the masks of a step to the evaluators, as RLE at the picture's own size."""
        if not self.task_config.annotation_file:
            return state
        if state is None:
            self.evaluators = state = {
                source: MaskEvaluator(self.task_config.annotation_file, seen_ids=self.seen_ids)
                for source in ("detections", "gt_boxes")
            }
        for batch in _replicas(step_outputs[EVALUATION_LOG]):
            for i, source_id in enumerate(batch["source_id"]):
                image_id = int(source_id)
                if image_id < 0:  # padding of the last batch
                    continue
                detections = {name: values[i] for name, values in batch["detections"].items()}
                kept = detections["scores"] > 0
                found = {name: values[kept] for name, values in detections.items()}
                state["detections"].add(image_id, mask_probs=found.pop("masks"), **found)
                part = {name: values[i] for name, values in batch["gt_boxes"].items()}
                state["gt_boxes"].add(image_id, **_ground_truth_masks(part, state["gt_boxes"], image_id))
        return state

    def reduce_aggregated_logs(self, aggregated_logs, global_step=None):
        """COCO figures in percent, named `detections/...` and `gt_boxes/...`.

        Those of single classes only with `task.per_category_metrics`; `evaluators` has them all.
        """
        return {
            f"{source}/{name}": value
            for source, evaluator in (aggregated_logs or {}).items()
            for name, value in evaluator.result().items()
            if self.task_config.per_category_metrics or "/class/" not in name
        }


def _replicas(per_replica):
    """Splits a dict whose leaves are tuples over replicas into NumPy dicts, one a replica."""

    def pick(tree, replica):
        if isinstance(tree, dict):
            return {name: pick(branch, replica) for name, branch in tree.items()}
        return tree[replica].numpy()

    return [pick(per_replica, replica) for replica in range(len(per_replica["source_id"]))]


def _ground_truth_masks(outputs, evaluator, image_id):
    """Arguments of `MaskEvaluator.add`: masks predicted in the annotated boxes of an image."""
    instances = outputs["classes"] > 0
    count = int(np.sum(instances))
    truth = evaluator.ground_truth(image_id)
    if not np.array_equal(outputs["classes"][instances], truth.classes[:count]):
        raise InputError(
            f"task.annotation_file and the records of image {image_id} disagree: write both with "
            "`deepmac tfrecord`"
        )
    return {
        "boxes": truth.boxes[:count],
        "classes": truth.classes[:count],
        "scores": np.ones(count),
        "mask_probs": outputs["masks"][instances],
        "annotation_ids": truth.annotation_ids[:count],
    }
