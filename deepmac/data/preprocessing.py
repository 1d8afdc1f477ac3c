"""From a picture to the network's input, the same in training, evaluation and prediction.

The published configurations resize with `keep_aspect_ratio_resizer` (TF Object Detection API): the
longer side becomes the network's side, output pixel i shows input coordinate i * scale (bilinear, no
half-pixel shift, no anti-aliasing), zeros fill the bottom or the right, then the channels are
normalised, padding included.
"""

from collections.abc import Sequence

import tensorflow as tf
from official.projects.centernet.dataloaders.centernet_input import CHANNEL_MEANS, CHANNEL_STDS
from official.vision.ops import preprocess_ops


def resized_shape(shape: tf.Tensor, size: int) -> tf.Tensor:
    """Returns the shape, height and width in pixels, of an image scaled so that its longer side is `size`.

    From int [2] to int32 [2], rounded half to even, at least 1.
    """
    shape = tf.cast(shape, tf.float32)
    scale = tf.reduce_min(size / shape)
    return tf.maximum(tf.cast(tf.round(scale * shape), tf.int32), 1)


def resize_image(image: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Resizes [H, W, C] (any real dtype) to `shape` (int [2]) as float32, output pixel i from i * scale."""
    resized = tf.raw_ops.ResizeBilinear(
        images=image[tf.newaxis], size=shape, align_corners=False, half_pixel_centers=False
    )
    return resized[0]


def nearest_indices(start: tf.Tensor, scaled_length: tf.Tensor, length: tf.Tensor, size: int) -> tf.Tensor:
    """Returns which input pixel each output pixel shows, along one axis, under the sampling above.

    The axis of `length` pixels is resized to `scaled_length` (nearest neighbour), of which `size` pixels
    from `start` on are seen.

    Returns:
        int32 [size], indices in [0, length), -1 beyond the resized axis.
    """
    position = tf.range(size) + start
    scale = tf.cast(length, tf.float32) / tf.cast(scaled_length, tf.float32)
    index = tf.minimum(tf.cast(tf.cast(position, tf.float32) * scale, tf.int32), length - 1)
    return tf.where((position >= 0) & (position < scaled_length), index, -1)


def pad_to_square(image: tf.Tensor, size: int) -> tf.Tensor:
    """Pads [h, w, 3] with zeros at the bottom and right to [size, size, 3]."""
    shape = tf.shape(image)
    padded = tf.pad(image, [[0, size - shape[0]], [0, size - shape[1]], [0, 0]])
    return tf.ensure_shape(padded, [size, size, 3])


def normalize(
    image: tf.Tensor,
    bgr_ordering: bool = True,
    channel_means: Sequence[float] = CHANNEL_MEANS,
    channel_stds: Sequence[float] = CHANNEL_STDS,
) -> tf.Tensor:
    """Normalises RGB float32 0..255 [..., 3]; means and deviations are in the order of the result."""
    if bgr_ordering:
        image = tf.reverse(image, axis=[-1])
    return preprocess_ops.normalize_scaled_float_image(image, tuple(channel_means), tuple(channel_stds))


def displayable(
    image: tf.Tensor,
    bgr_ordering: bool = True,
    channel_means: Sequence[float] = CHANNEL_MEANS,
    channel_stds: Sequence[float] = CHANNEL_STDS,
) -> tf.Tensor:
    """Takes back `normalize`: RGB uint8 [..., 3] of a normalised image."""
    image = tf.cast(image, tf.float32) * tuple(channel_stds) + tuple(channel_means)
    if bgr_ordering:
        image = tf.reverse(image, axis=[-1])
    return tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)


def network_input(image, size: int, **normalization) -> tuple[tf.Tensor, tf.Tensor]:
    """Prepares one picture for the network.

    Args:
        image: RGB [H, W, 3], uint8 or float 0..255.
        size: side of the square network input in pixels.
        **normalization: `bgr_ordering`, `channel_means`, `channel_stds` of `normalize`.

    Returns:
        The input, float32 [1, size, size, 3], and float32 [2], the part (height, width) of the padded
        square that the picture fills: boxes (ymin, xmin, ymax, xmax) normalised to the picture times
        (part, part) are normalised to the square.
    """
    image = tf.convert_to_tensor(image)
    shape = resized_shape(tf.shape(image)[:2], size)
    padded = pad_to_square(resize_image(image, shape), size)
    return normalize(padded, **normalization)[tf.newaxis], tf.cast(shape, tf.float32) / size
