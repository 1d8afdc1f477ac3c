"""What masks are worth that look at nothing but the box: the lowest rows of a table."""

import numpy as np


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


# Name -> function of the samples along each side.
BASELINES = {"full_box": full_box_mask, "ellipse": ellipse_mask}
