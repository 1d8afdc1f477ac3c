"""Points on and beside objects, as annotations in COCO format hold them.

Two forms are read: COCO's `keypoints` (x, y, visibility, …), and `point_coords` with `point_labels` of
point-supervised data (arXiv 2104.06404), which go first. Records hold them as the TF Object Detection
API does: coordinates, visibility as in COCO, and a depth, above 0 for points on the object.
"""

from collections.abc import Iterable, Sequence

import numpy as np

_NOT_ANNOTATED, _ANNOTATED = 0, 2  # of COCO's visibilities
_ON_OBJECT = 2


def read_points(annotation: dict) -> np.ndarray:
    """Reads the points of an annotation.

    COCO calls a keypoint visible (2) if it falls inside the object's segment; hidden ones (1) fall outside,
    which makes them background.

    Args:
        annotation: of an annotation file in COCO format.

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
    keypoints = _array(annotation.get("keypoints") or [], 3)
    visibility = keypoints[:, 2]
    if not np.isin(visibility, (0, 1, 2)).all():
        raise ValueError("the visibility of keypoints must be 0, 1 or 2")
    return np.column_stack([keypoints, visibility == _ON_OBJECT]).astype(np.float32)


def draw_points(rng: np.random.Generator, mask: np.ndarray, bbox: Sequence[int], count: int) -> dict:
    """Annotates an object with points drawn evenly in its box, as arXiv 2104.06404 does.

    Args:
        rng: draws the points.
        mask: bool [H, W].
        bbox: (x, y, width, height) of the object, whole pixels.
        count: number of points.

    Returns:
        `point_coords`, centres of pixels, and `point_labels`, 1 on the object, for its annotation.
    """
    left, top, width, height = bbox
    columns, rows = left + rng.integers(width, size=count), top + rng.integers(height, size=count)
    return {
        "point_coords": (np.column_stack([columns, rows]) + 0.5).tolist(),
        "point_labels": mask[rows, columns].astype(int).tolist(),
    }


def points_problem(annotation: dict) -> str | None:
    """What is wrong with the points of an annotation; None if nothing is."""
    try:
        read_points(annotation)
    except (ValueError, TypeError) as error:
        return str(error)
    return None


def most_points(annotations: Iterable[dict]) -> int:
    """The largest number of points of one annotation."""
    return max((len(read_points(annotation)) for annotation in annotations), default=0)


def add_points(example, annotations: Sequence[dict], count: int, height: int, width: int) -> None:
    """Adds the points of an image's annotations to its `tf.train.Example`.

    Args:
        example: changed.
        annotations: of the image, in the order of the example's objects.
        count: points of every object; those missing are not annotated.
        height: of the image in pixels.
        width: of the image in pixels.
    """
    points = np.full((len(annotations), count, 4), [np.nan, np.nan, _NOT_ANNOTATED, 0.0])
    for row, annotation in zip(points, annotations, strict=True):
        found = read_points(annotation)
        row[: len(found)] = found / [width, height, 1, 1]
    x, y, visibility, depth = points.reshape(-1, 4).T
    features = example.features.feature
    for name, values in {"x": x, "y": y, "z": depth}.items():
        features[f"image/object/keypoint/{name}"].float_list.value.extend(values)
    features["image/object/keypoint/visibility"].int64_list.value.extend(visibility.astype(int))


def _array(numbers, columns: int) -> np.ndarray:
    """float32 [k, columns] of a flat or nested list."""
    array = np.asarray(numbers, np.float32).ravel()
    if array.size % columns:
        raise ValueError(f"{array.size} numbers do not make points of {columns}")
    return array.reshape(-1, columns)
