"""Masks as COCO polygons, exact to the pixel."""

import cv2
import numpy as np

from deepmac.core.polygons import join


def mask_to_polygons(mask: np.ndarray) -> list[list[int]]:
    """Outlines a mask along its pixel edges.

    `pycocotools` (`frPyObjects`, `annToMask`) turns the polygons back into exactly this mask. A hole is
    joined to the outline around it by an edge there and back, which covers nothing.

    Args:
        mask: bool [H, W].

    Returns:
        A polygon [x0, y0, x1, y1, ...] in pixels for each connected part, corners of pixels being integers.
    """
    # At double size each pixel has two columns; in an outline the left one then stands for the pixel's left
    # edge, the right one for its right edge, and likewise the rows.
    doubled = mask.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    polygons = []
    for number, contour in enumerate(contours):
        _, _, hole, parent = hierarchy[0, number]
        if parent >= 0:
            continue
        polygon = _corners(contour)
        while hole >= 0:
            polygon = join(polygon, _corners(contours[hole]))
            hole = hierarchy[0, hole, 0]
        polygons.append(polygon.ravel().tolist())
    return polygons


def _corners(contour: np.ndarray) -> np.ndarray:
    """Contour [n, 1, 2] at double size -> the corners [m, 2] of the outline along pixel edges."""
    points = (contour[:, 0] + 1) // 2
    return points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
