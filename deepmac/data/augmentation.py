"""Random crops of an image and its boxes that also tell where every output pixel comes from.

Masks follow by sampling the same input pixels (`sample_mask`), so they are decoded after the crop is
known, and only at the size of the network's input; points follow by `move_points`.

Every draw depends on its `seed` alone, int32 [2], so that an interrupted training can repeat it.
"""

import functools
from typing import NamedTuple

import tensorflow as tf
from official.projects.centernet.ops import preprocess_ops as centernet_ops
from official.vision.ops import box_ops, preprocess_ops

from deepmac.data.preprocessing import nearest_indices, pad_to_square, resize_image

# Of the square crop, as published.
NUM_SCALES = 8
MAX_BORDER = 128

# Colour jitter -> Model Garden's operation, lowest and highest draw, as published.
COLOR_JITTERS = {
    "hue": (centernet_ops.random_adjust_hue, -0.02, 0.02),
    "contrast": (centernet_ops.random_adjust_contrast, 0.8, 1.25),
    "saturation": (centernet_ops.random_adjust_saturation, 0.8, 1.25),
    "brightness": (centernet_ops.random_adjust_brightness, -0.2, 0.2),
}


class View(NamedTuple):
    """The network's input and its relation to the picture it was cut from."""

    image: tf.Tensor  # RGB float32 [size, size, 3], 0..255, zero outside the picture
    # float32 [n, 4], (ymin, xmin, ymax, xmax) in pixels of `image`, clipped to it; none wholly outside
    boxes: tf.Tensor
    kept: tf.Tensor  # int [n], the row of each box among the boxes given
    rows: tf.Tensor  # int32 [size], the picture's row that each row of `image` shows; -1 outside
    columns: tf.Tensor  # int32 [size], the same for columns
    # float32 [4, 2], (height, width) of: picture, `image`, scale, offset; a coordinate of the picture times
    # the scale minus the offset is one of `image`.
    image_info: tf.Tensor
    unpadded_shape: tf.Tensor  # float32 [3], (height, width, channels) of `image` without padding


def random_flip(image, boxes, points, seed) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Flips left-right in half of the cases.

    Args:
        image: [H, W, 3].
        boxes: float32 [n, 4], normalised (ymin, xmin, ymax, xmax).
        points: float32 [n, P, 2], normalised (y, x).
        seed: int32 [2].

    Returns:
        Image, boxes, points, and int32 [W], the column of the given image that each column now shows.
    """
    is_flipped = tf.random.stateless_uniform([], seed) < 0.5
    mirrored = tf.stack([points[..., 0], 1.0 - points[..., 1]], axis=-1)
    columns = tf.range(tf.shape(image)[1])
    return (
        tf.cond(is_flipped, lambda: preprocess_ops.horizontal_flip_image(image), lambda: image),
        tf.where(is_flipped, box_ops.horizontal_flip_boxes(boxes), boxes),
        tf.where(is_flipped, mirrored, points),
        tf.where(is_flipped, columns[::-1], columns),
    )


def jitter_colors(image: tf.Tensor, jitters: list[str], seed) -> tf.Tensor:
    """Applies the published colour jitters named ('hue', 'contrast', …) in turn to RGB float32 0..255."""
    draws = tf.random.stateless_uniform([len(jitters)], seed)
    for index, name in enumerate(jitters):
        adjust, low, high = COLOR_JITTERS[name]
        draw = low + (high - low) * draws[index]
        image = adjust(image, preprocess_vars_cache=_Draws(**{"": draw}))
    return image


@functools.cache
def _square_crop_by_scale():
    """Model Garden's crop, converted: it branches on tensors, and inputs are read without AutoGraph."""
    return tf.autograph.to_graph(centernet_ops.random_square_crop_by_scale)


def random_square_crop(
    image: tf.Tensor, boxes: tf.Tensor, size: int, scale_min: float, scale_max: float, seed: tf.Tensor
) -> View:
    """Crops a random square (the published `random_square_crop_by_scale`) and resizes it.

    The square's side is one of 8 scales, equally spaced in [scale_min, scale_max], times the picture's
    longer side; its centre keeps a border from the picture's edges: 128 pixels, halved until the border is
    below half the picture's side.

    Args:
        image: RGB float32 [H, W, 3].
        boxes: float32 [n, 4], normalised (ymin, xmin, ymax, xmax).
        size: side of the output in pixels.
        seed: int32 [2].
    """
    shape = tf.shape(image)[:2]
    seeds = tf.random.split(seed, 3)
    scales = tf.linspace(scale_min, scale_max, NUM_SCALES)
    scale = scales[tf.random.stateless_uniform([], seeds[0], 0, NUM_SCALES, tf.int32)]
    center = [_random_center(shape[axis], seeds[axis + 1]) for axis in range(2)]
    square, boxes, kept = _square_crop_by_scale()(
        image,
        boxes,
        labels=tf.range(tf.shape(boxes)[0]),  # comes back as the rows of the boxes inside
        preprocess_vars_cache=_Draws(scale=scale, y_center=center[0], x_center=center[1]),
    )
    side = tf.shape(square)[0]
    half = tf.cast(side / 2, tf.int32)
    start = tf.stack(center) - half  # (2,) first row and column of the square in the picture
    zoom = size / tf.cast(side, tf.float32)
    not_empty = box_ops.get_non_empty_box_indices(boxes)
    # Model Garden leaves out the picture's last row and column when the square reaches beyond them, and
    # the square's own when its side is odd; masks do as the image does.
    end = tf.minimum(start + 2 * half, shape - 1)
    in_square = nearest_indices(0, size, side, size)
    index = in_square[:, tf.newaxis] + start  # (size, 2) row and column of the picture
    index = tf.where((index >= 0) & (index < end), index, -1)
    return View(
        image=tf.ensure_shape(resize_image(square, [size, size]), [size, size, 3]),
        boxes=tf.gather(boxes, not_empty) * size,
        kept=tf.gather(kept, not_empty),
        rows=index[:, 0],
        columns=index[:, 1],
        image_info=_image_info(shape, size, tf.stack([zoom, zoom]), tf.cast(start, tf.float32) * zoom),
        unpadded_shape=tf.constant([size, size, 3], tf.float32),
    )


def random_scale_crop(
    image: tf.Tensor, boxes: tf.Tensor, size: int, scale_min: float, scale_max: float, seed: tf.Tensor
) -> View:
    """Scales the picture to the output times a random factor and cuts a random part of what exceeds it.

    Model Garden's augmentation (`resize_and_crop_image`) with the resampling of `resize_image`. Arguments
    and result as in `random_square_crop`.
    """
    shape = tf.shape(image)[:2]
    pixels = tf.cast(shape, tf.float32)
    seeds = tf.random.split(seed, 2)
    target = tf.round(size * tf.random.stateless_uniform([], seeds[0], scale_min, scale_max))
    scaled = tf.maximum(tf.round(pixels * tf.reduce_min(target / pixels)), 1.0)
    excess = tf.maximum(scaled - size, 0.0)
    offset = tf.cast(excess * tf.random.stateless_uniform([2], seeds[1]), tf.int32)
    scaled_shape = tf.cast(scaled, tf.int32)
    part = resize_image(image, scaled_shape)[offset[0] : offset[0] + size, offset[1] : offset[1] + size]
    image_info = _image_info(shape, size, scaled / pixels, tf.cast(offset, tf.float32))
    boxes = preprocess_ops.resize_and_crop_boxes(
        box_ops.denormalize_boxes(boxes, shape), image_info[2], image_info[1], image_info[3]
    )
    kept = box_ops.get_non_empty_box_indices(boxes)
    return View(
        image=pad_to_square(part, size),
        boxes=tf.gather(boxes, kept),
        kept=kept,
        rows=nearest_indices(offset[0], scaled_shape[0], shape[0], size),
        columns=nearest_indices(offset[1], scaled_shape[1], shape[1], size),
        image_info=image_info,
        unpadded_shape=tf.cast(tf.shape(part), tf.float32),
    )


def sample_mask(mask: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Returns mask [H, W] at `rows` [h] and `columns` [w] as [h, w], zero where an index is negative."""
    sampled = tf.gather(tf.gather(mask, tf.maximum(rows, 0)), tf.maximum(columns, 0), axis=1)
    inside = (rows >= 0)[:, tf.newaxis] & (columns >= 0)[tf.newaxis]
    return tf.where(inside, sampled, tf.zeros_like(sampled))


def move_points(points: tf.Tensor, image_info: tf.Tensor) -> tf.Tensor:
    """Returns the points of a picture where a view shows them.

    Args:
        points: float32 [n, P, 2], (y, x) normalised to the picture.
        image_info: of the view.

    Returns:
        float32 [n, P, 2], normalised to the view's image; NaN for points outside.
    """
    picture, size, scale, offset = tf.unstack(image_info)
    moved = (points * picture * scale - offset) / size
    is_inside = tf.reduce_all((moved >= 0.0) & (moved <= 1.0), axis=-1, keepdims=True)
    return tf.where(is_inside, moved, float("nan"))


class _Draws:
    """Hands Model Garden's augmentation the random draws to use, in the shape of its cache."""

    def __init__(self, **draws: tf.Tensor):
        self._draws = draws

    def get(self, _function_id: str, key: str) -> tf.Tensor:
        return self._draws[key]


def _random_center(length: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    # Counted in integers: a border of exactly half the side would leave a single place for the centre.
    halvings = tf.reduce_sum(tf.cast(length * 2 ** tf.range(8) <= 2 * MAX_BORDER, tf.int32))
    border = tf.bitwise.right_shift(MAX_BORDER, halvings)
    return tf.random.stateless_uniform([], seed, border, length - border + 1, tf.int32)


def _image_info(shape, size, scale, offset) -> tf.Tensor:
    return tf.stack([tf.cast(shape, tf.float32), tf.constant([size, size], tf.float32), scale, offset])
