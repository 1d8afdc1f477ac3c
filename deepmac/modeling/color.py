"""Colours of the network input, in CIELAB."""

import tensorflow as tf
from official.projects.centernet.dataloaders import centernet_input

# Linear sRGB -> XYZ (IEC 61966-2-1) and the D65 white point of the 2 degree observer, as in scikit-image.
_RGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)


def network_input_to_lab(images, size):
    """Resizes network inputs and converts them to CIELAB.

    Args:
        images: float [B, H, W, 3], BGR, normalised as `CenterNetParser` does.
        size: (height, width) wanted.

    Returns:
        float32 [B, height, width, 3]: L* from 0 to 100, a*, b*.
    """
    images = tf.image.resize(tf.cast(images, tf.float32), size)
    bgr = images * tf.constant(centernet_input.CHANNEL_STDS) + tf.constant(centernet_input.CHANNEL_MEANS)
    return rgb_to_lab(tf.reverse(bgr, axis=[-1]) / 255.0)


def rgb_to_lab(rgb):
    """Converts sRGB to CIELAB, D65.

    Args:
        rgb: float32 [..., 3], from 0 to 1.

    Returns:
        float32 [..., 3]: L* from 0 to 100, a*, b*.
    """
    bright = tf.pow((tf.maximum(rgb, 0.04045) + 0.055) / 1.055, 2.4)
    linear = tf.where(rgb > 0.04045, bright, rgb / 12.92)
    xyz = tf.linalg.matvec(tf.constant(_RGB_TO_XYZ), linear) / tf.constant(_WHITE)
    cube_root = tf.pow(tf.maximum(xyz, 0.008856), 1.0 / 3.0)
    x, y, z = tf.unstack(tf.where(xyz > 0.008856, cube_root, 7.787 * xyz + 16.0 / 116.0), axis=-1)
    return tf.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], axis=-1)
