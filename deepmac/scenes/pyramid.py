"""Image pyramids: pictures that can be shrunk, turned and sheared without aliasing."""

import math
from typing import NamedTuple

import cv2
import numpy as np


class Pyramid(NamedTuple):
    """A picture at full, half, quarter ... size; each level float32 or uint8 [h, w, C]."""

    levels: tuple[np.ndarray, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the full-size level."""
        return self.levels[0].shape[:2]

    def warp(self, matrix: np.ndarray, height: int, width: int, border: int) -> np.ndarray:
        """Resamples the picture.

        Args:
            matrix: float [2, 3], maps (x, y) of the full-size level to (x, y) of the result; pixel centres
                are at half-integers, so that (0, 0) is the outer corner of the first pixel.
            border: OpenCV's border mode, for what lies outside the picture.

        Returns:
            float32 [height, width, C].
        """
        scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
        level = min(max(0, math.floor(-math.log2(scale))), len(self.levels) - 1)
        picture = self.levels[level]
        # Level sizes are rounded: the exact shrinkage differs a little between the axes.
        shrink = np.array([self.shape[1] / picture.shape[1], self.shape[0] / picture.shape[0]])
        linear = matrix[:, :2] * shrink
        # OpenCV puts pixel centres at integers: shift by half a pixel on both sides.
        offset = matrix[:, 2] + linear @ (0.5, 0.5) - 0.5
        placement = np.column_stack([linear, offset])
        warped = cv2.warpAffine(picture, placement, (width, height), borderMode=border)  # bilinear
        return warped.reshape(height, width, -1).astype(np.float32)


def build_pyramid(picture: np.ndarray, smallest: int = 16) -> Pyramid:
    """Halves a picture [h, w, C] until its shorter side would be less than `smallest` pixels."""
    levels = [picture]
    while min(levels[-1].shape[:2]) >= 2 * smallest:
        height, width = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    return Pyramid(tuple(levels))
