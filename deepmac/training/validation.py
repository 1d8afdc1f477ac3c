"""Evaluates masks in Model Garden's validation loop: what the tasks of DeepMAC and Deep-MARC share."""

import numpy as np

from deepmac.core.drawing import overlay
from deepmac.core.errors import InputError
from deepmac.core.masks import paste_masks
from deepmac.evaluation.evaluator import MaskEvaluator

EVALUATION_LOG = "evaluation"
# Pictures of a batch that go to TensorBoard, and their name there; Model Garden knows pictures by "image/".
SHOWN_PICTURES = 4
SHOWN_MASKS = "image/masks in given boxes"


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
        shown: with `task.allow_image_summary`, of the first `SHOWN_PICTURES` pictures, `images` uint8 RGB
            [P, H, W, 3], the network's input, and `boxes` float32 [P, N, 4] of `gt_boxes`, normalised to it.

    Attributes:
        evaluators: source of the boxes ("detections", "gt_boxes") -> `MaskEvaluator` of the last
            evaluation; empty without `task.annotation_file`.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.evaluators = {}
        self._pictures = {}  # name in TensorBoard -> uint8 [P, H, W, 3]

    def aggregate_logs(self, state=None, step_outputs=None):
        """Adds the masks of a step to the evaluators, as RLE at the picture's own size."""
        if not self.task_config.annotation_file:
            return state
        batch = _of_all_replicas(step_outputs[EVALUATION_LOG])
        if state is None:
            self.evaluators = state = {
                source: MaskEvaluator(self.task_config.annotation_file, seen_ids=self.seen_ids)
                for source in ("detections", "gt_boxes")
            }
            if self.task_config.allow_image_summary:
                self._pictures = {SHOWN_MASKS: _mask_pictures(batch["shown"], batch["gt_boxes"])}
        for i, image_id in enumerate(batch["source_id"].tolist()):
            if image_id < 0:  # padding of the last batch
                continue
            kept = batch["detections"]["scores"][i] > 0
            found = {name: values[i][kept] for name, values in batch["detections"].items()}
            state["detections"].add(image_id, mask_probs=found.pop("masks"), **found)
            given = {name: values[i] for name, values in batch["gt_boxes"].items()}
            instances = given["classes"] > 0  # the first of the annotated ones: the parser takes no more
            truth = state["gt_boxes"].ground_truth(image_id).classes[: instances.sum()]
            if not np.array_equal(given["classes"][instances], truth):
                raise InputError(
                    f"task.annotation_file and the records of image {image_id} disagree: write both with "
                    "`deepmac tfrecord`"
                )
            state["gt_boxes"].add_given(image_id, given["masks"][instances])
        return state

    def reduce_aggregated_logs(self, aggregated_logs, global_step=None):
        """COCO figures in percent, named `detections/...` and `gt_boxes/...`, and pictures of masks.

        Those of single classes only with `task.per_category_metrics`; `evaluators` has them all. Pictures,
        uint8 [P, H, W, 3], are the first of the evaluation, with `task.allow_image_summary`.
        """
        return self._pictures | {
            f"{source}/{name}": value
            for source, evaluator in (aggregated_logs or {}).items()
            for name, value in evaluator.result().items()
            if self.task_config.per_category_metrics or "/class/" not in name
        }


def _of_all_replicas(tree):
    """Joins the leaves of dicts, tuples over replicas, along the batch."""
    if isinstance(tree, dict):
        return {name: _of_all_replicas(branch) for name, branch in tree.items()}
    return np.concatenate([part.numpy() for part in tree])


def _mask_pictures(shown, gt_boxes):
    """Pictures with the masks predicted in their annotated boxes, uint8 [P, H, W, 3]."""
    pictures = []
    for i, image in enumerate(shown["images"][:SHOWN_PICTURES]):
        kept = gt_boxes["classes"][i] > 0
        boxes = shown["boxes"][i][kept]
        masks = paste_masks(gt_boxes["masks"][i][kept], boxes, *image.shape[:2])
        pictures.append(overlay(image, masks, boxes))
    return np.stack(pictures)
