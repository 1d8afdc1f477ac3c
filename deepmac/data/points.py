"""Points on and beside objects, as annotations in COCO format hold them.

Two forms are read: COCO's `keypoints` (x, y, visibility, …), and `point_coords` with `point_labels` of
point-supervised data (arXiv 2104.06404), which go first. Records hold them as the TF Object Detection
API does: coordinates, visibility as in COCO, and a depth, above 0 for points on the object.
"""

from collections.abc import Iterable

import numpy as np

_ANNOTATED = _ON_OBJECT = 2  # of COCO's visibilities


def read_points(annotation: dict) -> np.ndarray:
    """Reads the points of an annotation.

    COCO calls a keypoint visible (2) if it falls inside the object's segment; hidden ones (1) fall outside,
    which makes them background.

    Returns:
        float32 [k, 4]: x, y in pixels, visibility, depth.

    Raises:
        ValueError: the points are not as described.
    """
    if annotation.get("point_coords"):
        points = _array(annotation["point_coords"], 2)
        labels = np.asarray(annotation.get("point_labels"), np.float32)
        if labels.shape != (len(points),) or not np.isin(labels, (0, 1)).all():
            raise ValueError("point_labels must be a 0 or 1 for each of point_coords")
        visibility = np.full_like(labels, _ANNOTATED)
        return np.column_stack([points, visibility, labels])
    if not annotation.get("keypoints"):
        return np.zeros((0, 4), np.float32)
    keypoints = _array(annotation["keypoints"], 3)
    visibility = keypoints[:, 2]
    if not np.isin(visibility, (0, 1, 2)).all():
        raise ValueError("the visibility of keypoints must be 0, 1 or 2")
    return np.column_stack([keypoints, visibility == _ON_OBJECT]).astype(np.float32)


def most_points(annotations: Iterable[dict]) -> int:
    """The largest number of points of one annotation."""
    return max((len(read_points(annotation)) for annotation in annotations), default=0)


def _array(numbers, columns: int) -> np.ndarray:
    """float32 [k, columns] of a flat or nested list."""
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        array = np.asarray(numbers, np.float32).ravel()
    if array.size % columns:
        raise ValueError(f"{array.size} numbers do not make points of {columns}")
    return array.reshape(-1, columns)
