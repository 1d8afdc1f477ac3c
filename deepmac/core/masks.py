"""Puts the masks predicted inside boxes back into the image, as bitmaps or as COCO RLE.

The inverse of the RoI crop: image pixel p of H lies at the normalised coordinate p / (H - 1), and the
S samples of a mask span its box from edge to edge, both included. Between samples the probability is
interpolated bilinearly, outside the box it is zero. These are the values the published evaluation
computes (`reframe_box_masks_to_image_masks` of the TensorFlow Object Detection API), which then keeps
the pixels strictly greater than 0.5. Here only the part of the image that the box covers is computed, so
time and memory grow with the area of the box.
"""

import numpy as np
from pycocotools import mask as coco_mask

# Boxes come as float32: a pixel this close to an edge, in pixels, lies on the edge.
_EDGE_TOLERANCE = 1e-4


def paste_mask(
    mask_prob: np.ndarray, box: np.ndarray, height: int, width: int, threshold: float = 0.5
) -> tuple[np.ndarray, int, int]:
    """Pastes one mask and returns the part of the image that its box covers.

    Args:
        mask_prob: float [S, S], probabilities inside the box.
        box: float [4], (ymin, xmin, ymax, xmax) normalised to the image; may reach beyond it.
        height, width: of the image in pixels.
        threshold: a pixel belongs to the mask when its probability is greater.

    Returns:
        The mask, bool [h, w], and the row and the column of its first pixel in the image. h or w is 0
        when the box is empty, inverted or not a number, lies outside the image or between two pixels.
    """
    ymin, xmin, ymax, xmax = np.asarray(box, np.float64)
    rows, y0 = _positions(ymin, ymax, mask_prob.shape[0], height)  # (h,)
    columns, x0 = _positions(xmin, xmax, mask_prob.shape[1], width)  # (w,)
    # Both steps gather whole rows: faster than products with interpolation matrices, whose threads, for
    # factors this small, mostly wait for each other. Columns last: RLE runs down the columns.
    stretched = _interpolate(np.asarray(mask_prob, np.float32), rows)  # (h, S)
    probs = _interpolate(np.ascontiguousarray(stretched.T), columns)  # (w, h)
    return (probs > threshold).T, y0, x0


def paste_masks(
    mask_probs: np.ndarray, boxes: np.ndarray, height: int, width: int, threshold: float = 0.5
) -> np.ndarray:
    """Pastes masks, float [N, S, S], with boxes [N, 4] into the image, one bitmap for each; see `paste_mask`.

    Returns:
        bool [N, height, width]. The mask of an empty box is empty.
    """
    masks = np.zeros((len(boxes), height, width), bool)
    for image_mask, mask_prob, box in zip(masks, mask_probs, boxes, strict=True):
        crop, y0, x0 = paste_mask(mask_prob, box, height, width, threshold)
        image_mask[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]] = crop
    return masks


def encode_masks(
    mask_probs: np.ndarray, boxes: np.ndarray, height: int, width: int, threshold: float = 0.5
) -> list[dict]:
    """Like `paste_masks`, but run-length encodes each mask at once; no bitmap of the image is ever held.

    Returns:
        N COCO RLE dictionaries, {"size": [height, width], "counts": compressed str}, fit for JSON.
    """
    return [
        _encode_crop(*paste_mask(mask_prob, box, height, width, threshold), height, width)
        for mask_prob, box in zip(mask_probs, boxes, strict=True)
    ]


def _positions(low: float, high: float, samples: int, pixels: int) -> tuple[np.ndarray, int]:
    """Where the covered pixels of one axis lie among the samples, 0 to samples - 1; first such pixel."""
    if not (high > low and np.isfinite(high - low)):
        return np.zeros(0), 0
    # A single pixel stands for the middle of the image.
    grid = np.arange(pixels) / (pixels - 1) if pixels > 1 else np.array([0.5])
    tolerance = _EDGE_TOLERANCE / pixels
    first = int(np.searchsorted(grid, low - tolerance, side="left"))
    end = int(np.searchsorted(grid, high + tolerance, side="right"))
    return np.clip((grid[first:end] - low) / (high - low), 0, 1) * (samples - 1), first


def _interpolate(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Linear interpolation between the rows of `values` [S, K] at `positions` [P]: float32 [P, K]."""
    below = positions.astype(np.intp)
    above = np.minimum(below + 1, len(values) - 1)
    fraction = (positions - below).astype(np.float32)[:, None]
    result, step = values[below], values[above]
    step -= result
    step *= fraction
    result += step
    return result


def _encode_crop(crop: np.ndarray, y0: int, x0: int, height: int, width: int) -> dict:
    """COCO RLE of an image that is zero but for `crop`; costs the area of the crop."""
    rows, columns = crop.shape
    # RLE runs down the columns. A zero before the first and after each column ends every run there.
    flat = np.zeros(columns * (rows + 1) + 1, bool)
    flat[1:].reshape(columns, rows + 1)[:, :rows] = crop.T
    column, row = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]), rows + 1)
    changes = (x0 + column) * height + y0 + row  # starts and ends of runs in the image, alternating
    # In a crop of full height a run that ends with its column may go on in the next one.
    joined = np.flatnonzero(changes[1:-1:2] == changes[2::2]) * 2 + 1
    changes = np.delete(changes, np.concatenate([joined, joined + 1]))
    counts = np.diff(changes, prepend=0, append=height * width)
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]
    rle = coco_mask.frPyObjects({"counts": counts.tolist(), "size": [height, width]}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}
