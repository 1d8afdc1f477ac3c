"""What masks are worth that look at nothing but the box: the lowest rows of a table."""

import os
from collections.abc import Iterable

import numpy as np

from deepmac.core.errors import InputError
from deepmac.evaluation.evaluator import MaskEvaluator


def full_box_mask(size: int) -> np.ndarray:
    """The whole box: float32 [size, size] of ones."""
    return np.ones((size, size), np.float32)


def ellipse_mask(size: int) -> np.ndarray:
    """The ellipse inscribed in the box, as probabilities that fall from the centre to 0.5 on its edge.

    Args:
        size: samples along each side, from edge to edge of the box.

    Returns:
        float32 [size, size]; a slope instead of a step, so that pasting it meets the edge to the pixel.
    """
    axis = np.linspace(-1, 1, size)
    return (1 - 0.5 * np.hypot(axis[:, None], axis[None, :])).astype(np.float32)


BASELINES = {"full_box": full_box_mask, "ellipse": ellipse_mask}


def baseline_results(
    annotations: str | os.PathLike | dict,
    kind: str,
    seen_ids: Iterable[int] | None = None,
    iou_types: Iterable[str] = ("mask",),
    **options,
) -> dict[str, float]:
    """Evaluates a baseline from ground-truth boxes, through the code path of every model.

    Args:
        annotations: COCO instances JSON file, or its content.
        kind: "full_box" or "ellipse" (inscribed in the box).
        seen_ids: category ids counted as seen; None for no such split.
        iou_types: of "mask", "box" and "boundary".
        **options: further arguments of `MaskEvaluator`.

    Returns:
        `MaskEvaluator.result()`, in percent.

    Raises:
        InputError: an unknown kind, or bad annotations.
    """
    if kind not in BASELINES:
        raise InputError(f"unknown baseline {kind!r}: choose one of {', '.join(BASELINES)}")
    evaluator = MaskEvaluator(annotations, seen_ids, iou_types=tuple(iou_types), **options)
    mask = BASELINES[kind](size=65)
    evaluator.add_from_boxes(lambda image_id, boxes: np.broadcast_to(mask, (len(boxes), *mask.shape)))
    return evaluator.result()
