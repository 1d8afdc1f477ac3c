"""Regions of interest: crops by boxes, box jitter, box masks.

Boxes are (ymin, xmin, ymax, xmax) normalised to the padded network input. Everything here is
matrix products and element-wise arithmetic on static shapes, so it compiles under XLA (TPU) and
converts to TFLite and ONNX; `tf.image.crop_and_resize` does not.
"""

import tensorflow as tf

from deepmac.core.errors import InputError

# Samples this close to the map's edge, as a part of its length, count as inside: a box that ends at
# exactly 1.0 may land a rounding error beyond the last cell.
_EDGE_TOLERANCE = 1e-6


def crop_boxes(feature_map, boxes, size):
    """Crops every box of every image to a fixed size, bilinearly, edge to edge.

    Coordinate y maps to y * (H - 1); the samples are equally spaced from one edge of the box to the
    other, both included, and zero outside the map: the values of `tf.image.crop_and_resize`. Written
    as two products with matrices of interpolation weights (computed in float32, applied in the
    map's dtype).

    Args:
        feature_map: float [B, H, W, D].
        boxes: float32 [B, N, 4], normalised; inverted boxes give mirrored crops.
        size: samples per side S, or a pair (height, width).

    Returns:
        Crops [B, N, S, S, D] in the dtype of `feature_map`.
    """
    batch, height, width, depth = _shape(feature_map)
    rows, columns = _crop_weights(boxes, (height, width), size, feature_map.dtype)
    num_boxes, crop_height = _shape(boxes)[1], rows.shape[2]
    rows = tf.reshape(rows, [batch, num_boxes * crop_height, height])
    net = tf.matmul(rows, tf.reshape(feature_map, [batch, height, width * depth]))
    net = tf.reshape(net, [batch, num_boxes, crop_height, width, depth])
    return tf.matmul(columns[:, :, tf.newaxis], net)  # (B, N, S, S, D)


def crop_maps(maps, boxes, size):
    """Crops each map [B, N, H, W] by its own box [B, N, 4], like `crop_boxes`: [B, N, S, S]."""
    height, width = _shape(maps)[2:]
    rows, columns = _crop_weights(boxes, (height, width), size, maps.dtype)
    return tf.matmul(tf.matmul(rows, maps), columns, transpose_b=True)


def coordinate_grid(low: float, high: float, height, width):
    """Coordinates (y, x), both equally spaced from `low` to `high`: float32 [height, width, 2]."""
    steps = tf.linspace(low, high, height), tf.linspace(low, high, width)
    return tf.stack(tf.meshgrid(*steps, indexing="ij"), axis=-1)


def box_centers(boxes):
    """Centres (y, x) float32 [B, N, 2] of boxes [B, N, 4]."""
    boxes = tf.cast(boxes, tf.float32)
    return (boxes[..., :2] + boxes[..., 2:]) / 2.0


def resize_maps(maps, height, width):
    """Resizes maps [B, N, H, W] bilinearly, pixel centres to pixel centres: float32 [B, N, height, width]."""
    batch, num_maps, old_height, old_width = _shape(maps)
    flat = tf.reshape(maps, [batch * num_maps, old_height, old_width, 1])
    return tf.reshape(tf.image.resize(flat, [height, width]), [batch, num_maps, height, width])


def flatten_maps(maps):
    """The pixels of maps [B, N, H, W] in one row each: [B, N, H * W]."""
    *leading, height, width = _shape(maps)
    return tf.reshape(maps, [*leading, height * width])


def map_size(maps, axis=1):
    """Height and width of maps whose rows are at `axis`: integers where known, else scalar tensors."""
    return _shape(maps)[axis : axis + 2]


def gather_points(maps, points):
    """Reads each map in the cells its points lie in, floor(point * (H, W)); outside, in the nearest one.

    Args:
        maps: float [..., H, W, D].
        points: float32 [..., N, 2] (y, x), normalised.

    Returns:
        [..., N, D] in the dtype of `maps`.
    """
    *leading, height, width, depth = _shape(maps)
    cells = tf.cast(tf.floor(points * tf.cast([height, width], tf.float32)), tf.int32)
    rows = tf.clip_by_value(cells[..., 0], 0, height - 1)
    columns = tf.clip_by_value(cells[..., 1], 0, width - 1)
    flat_maps = tf.reshape(maps, [*leading, height * width, depth])
    return tf.gather(flat_maps, rows * width + columns, batch_dims=len(leading))


def fill_boxes(boxes, height, width):
    """Draws boxes float32 [B, N, 4], normalised, as filled rectangles.

    Returns:
        float32 [B, N, height, width]: 1 where ymin * height <= y <= ymax * height and likewise
        for x (y, x are the pixel's indices), else 0.
    """
    corners = tf.cast(boxes, tf.float32) * tf.cast([height, width] * 2, tf.float32)
    ymin, xmin, ymax, xmax = tf.split(corners, 4, axis=-1)  # each (B, N, 1)
    rows, columns = _indices(height), _indices(width)
    inside_rows = tf.cast((rows >= ymin) & (rows <= ymax), tf.float32)  # (B, N, height)
    inside_columns = tf.cast((columns >= xmin) & (columns <= xmax), tf.float32)  # (B, N, width)
    return inside_rows[..., tf.newaxis] * inside_columns[..., tf.newaxis, :]


# Mode -> range of the ratios by which boxes grow, in parts of the largest one.
JITTER_MODES = {
    "default": (-1.0, 1.0),
    "expand": (0.0, 1.0),
    "shrink": (-1.0, 0.0),
    "expand_symmetric": (0.0, 1.0),
    "shrink_symmetric": (-1.0, 0.0),
    "expand_symmetric_xy": (0.0, 1.0),
    "shrink_symmetric_xy": (-1.0, 0.0),
}


def jitter_boxes(boxes, max_ratio, mode, seed):
    """Moves the edges of every box at random, as published; each box has its own draws.

    Args:
        boxes: float32 [B, N, 4], normalised.
        max_ratio: largest change of a box's size, relative to it; ratios are drawn uniformly.
        mode: one of `JITTER_MODES`. "default", "expand", "shrink" place each edge separately, at half
            the size times 1 + ratio from the centre. "*_symmetric" keep the centre and scale height and
            width, limited so that both edges stay inside the image; "*_symmetric_xy" scale both
            by the same ratio.
        seed: int32 [2], decides the draws.

    Returns:
        float32 [B, N, 4], clipped to [0, 1].

    Raises:
        InputError: unknown mode.
    """
    if mode not in JITTER_MODES:
        raise InputError(f"unknown jitter_mode {mode!r}: use one of {', '.join(JITTER_MODES)}")
    boxes = tf.cast(boxes, tf.float32)
    centers = box_centers(boxes)  # (B, N, 2)
    half_sizes = tf.maximum(tf.abs(boxes[..., 2:] - boxes[..., :2]), 1e-6) / 2.0  # (B, N, 2)

    low, high = (max_ratio * limit for limit in JITTER_MODES[mode])
    leading = _shape(boxes)[:-1]
    # Factor by which a box may grow about its centre before an edge leaves the image.
    room = tf.abs(tf.minimum(centers, 1.0 - centers)) / half_sizes  # (B, N, 2)
    if mode.endswith("_xy"):
        factors = 1.0 + tf.random.stateless_uniform([*leading, 1], seed, low, high)
        near = far = tf.minimum(factors, tf.reduce_min(room, axis=-1, keepdims=True))
    elif mode.endswith("_symmetric"):
        near = far = tf.minimum(1.0 + tf.random.stateless_uniform([*leading, 2], seed, low, high), room)
    else:
        near, far = tf.split(1.0 + tf.random.stateless_uniform([*leading, 4], seed, low, high), 2, axis=-1)
    jittered = tf.concat([centers - half_sizes * near, centers + half_sizes * far], axis=-1)
    return tf.clip_by_value(jittered, 0.0, 1.0)


def _crop_weights(boxes, map_size, crop_size, dtype):
    """Interpolation weights of both directions: [B, N, crop height, H] and [B, N, crop width, W]."""
    boxes = tf.cast(boxes, tf.float32)
    crop_height, crop_width = (crop_size, crop_size) if isinstance(crop_size, int) else crop_size
    rows = _interpolation_weights(boxes[..., 0], boxes[..., 2], crop_height, map_size[0])
    columns = _interpolation_weights(boxes[..., 1], boxes[..., 3], crop_width, map_size[1])
    return tf.cast(rows, dtype), tf.cast(columns, dtype)


def _interpolation_weights(low, high, samples, cells):
    """Weight of every cell of one axis in samples from one edge, [B, N] normalised, to the other.

    Float32 [B, N, samples, cells]; a row sums to 1, or to 0 for a sample outside the map. One sample alone
    lies in the middle.
    """
    last_cell = tf.cast(cells - 1, tf.float32)
    low, high = low[..., tf.newaxis], high[..., tf.newaxis]
    if samples > 1:
        step = (high - low) * last_cell / tf.cast(samples - 1, tf.float32)
        positions = low * last_cell + step * _indices(samples)  # (B, N, samples)
    else:
        positions = 0.5 * (low + high) * last_cell
    tolerance = _EDGE_TOLERANCE * last_cell
    inside = tf.logical_and(positions >= -tolerance, positions <= last_cell + tolerance)
    positions = tf.clip_by_value(positions, 0.0, last_cell)
    distances = tf.abs(positions[..., tf.newaxis] - _indices(cells))
    return tf.maximum(1.0 - distances, 0.0) * tf.cast(inside, tf.float32)[..., tf.newaxis]


def _indices(count):
    """0, 1, ..., count - 1 as float32."""
    return tf.cast(tf.range(count), tf.float32)


def _shape(tensor):
    """Shape as a list: integers where known, scalar tensors elsewhere."""
    dynamic = tf.shape(tensor)
    return [dynamic[axis] if known is None else known for axis, known in enumerate(tensor.shape)]
