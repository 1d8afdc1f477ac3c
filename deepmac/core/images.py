"""Pictures of every kind to uint8 RGB."""

import contextlib
import io
import os
import struct
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image
from PIL.ExifTags import Base as ExifTag

from deepmac.core.errors import InputError

_KINDS = "avif bmp gif jfif jpeg jpg jp2 pbm pgm png ppm tif tiff webp"
PICTURE_SUFFIXES = frozenset(f".{kind}" for kind in _KINDS.split())

PNG_LEVEL = 1  # of photographs: half the time of 6, which is Pillow's own, and a seventh larger
# What Pillow's readers raise for files that are damaged or no pictures.
_DAMAGED = (SyntaxError, ValueError, TypeError, EOFError, IndexError, RuntimeError, struct.error)
READ_ERRORS = (OSError, Image.DecompressionBombError, *_DAMAGED)
# Pillow refuses pictures of twice the size that it warns of.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
# EXIF orientation -> what turns the stored pixels upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(picture: Image.Image) -> int:
    """The EXIF orientation of an opened picture, 1 to 8: from 5 on, width and height change places upright.

    1 also for those without a usable one, and for TIFF, which Pillow turns itself.
    """
    try:
        found = 1 if picture.format == "TIFF" else picture.getexif().get(ExifTag.Orientation)
    except READ_ERRORS:
        found = 1
    return found if found in _TURNS else 1


def read_image(source, upright: bool = True) -> np.ndarray:
    """Reads a picture as it is meant to be seen.

    EXIF orientation is applied, transparency is laid over white, 16-bit samples are scaled to 8 bits (those
    of a camera with fewer from the bits they need), of an animation the first frame is taken.

    Args:
        source: path of a file, a file's content as `bytes`, PIL image, or array: uint8 or uint16 [H, W]
            grey, [H, W, 1] grey, [H, W, 3] RGB or [H, W, 4] RGBA.
        upright: whether EXIF orientation is applied; otherwise pixels stay as they are stored.

    Returns:
        uint8 RGB [H, W, 3], contiguous, a copy.

    Raises:
        InputError: no such file, not a picture, truncated, empty, or an array of another shape or dtype.
    """
    if not isinstance(source, str | os.PathLike | bytes | Image.Image):
        return _from_array(source)
    with open_picture_file(source) as (picture, name):
        return _from_pil(picture, name, upright)


@contextlib.contextmanager
def open_picture_file(source) -> Iterator[tuple[Image.Image, str]]:
    """Opens a picture's file with Pillow; what goes wrong with it, as long as it is open, is an `InputError`.

    Args:
        source: path of a file, a file's content as `bytes`, or a PIL image, which stays open.

    Yields:
        The picture, and what to call it.
    """
    path = source if isinstance(source, str | os.PathLike) else getattr(source, "filename", "")
    name = str(path or "the picture")
    try:
        if isinstance(source, Image.Image):
            yield source, name
        else:
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
                yield picture, name
    except FileNotFoundError as error:
        raise InputError(f"no such picture: {name}") from error
    except InputError:
        raise
    except READ_ERRORS as error:
        reason = getattr(error, "strerror", None) or f"damaged ({error})"
        if isinstance(error, Image.UnidentifiedImageError):
            reason = "not a picture, or of a kind to convert to JPEG or PNG"
        if isinstance(error, Image.DecompressionBombError):
            reason = "too large, make it smaller"
        raise InputError(f"cannot read {name}: {reason}") from error


def fit_square(image: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Resizes a picture for the network, as `deepmac.data.preprocessing` does, without TensorFlow.

    The longer side becomes `size`, output pixel i shows input coordinate i * scale (bilinear, no half-pixel
    shift, no anti-aliasing), zeros fill the bottom or the right.

    Args:
        image: uint8 RGB [H, W, 3].
        size: side of the square in pixels.

    Returns:
        float32 RGB 0..255 [size, size, 3], and float32 [2], the part (height, width) of it that the picture
        fills.
    """
    sides = np.array(image.shape[:2], np.float32)
    scale = (np.float32(size) / sides).min()
    height, width = np.maximum(np.rint(scale * sides), 1).astype(int)
    top, bottom, down = _neighbors(image.shape[0], height)
    left, right, across = _neighbors(image.shape[1], width)
    lines = np.unique([top, bottom])  # (L,)
    near, far = (image[lines].take(column, axis=1).astype(np.float32) for column in (left, right))
    between = near + (far - near) * across[:, np.newaxis]  # (L, width, 3)
    above, below = (between[np.searchsorted(lines, rows)] for rows in (top, bottom))
    square = np.zeros((size, size, 3), np.float32)
    square[:height, :width] = above + (below - above) * down[:, np.newaxis, np.newaxis]
    return square, np.array([height, width], np.float32) / size


def _neighbors(length: int, samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each sample of an axis the pixel before it, the one after it, and its distance from the former."""
    position = np.arange(samples, dtype=np.float32) * (np.float32(length) / np.float32(samples))
    before = position.astype(int)
    return before, np.minimum(before + 1, length - 1), position - before.astype(np.float32)


def _from_pil(picture, name, upright):
    picture.load()
    if upright and (turn := orientation(picture)) > 1:
        picture = picture.transpose(_TURNS[turn])  # ImageOps.exif_transpose stumbles over odd EXIF data
    if picture.mode.startswith("I"):
        samples = np.asarray(picture)  # of 16 bits, in int32 or in either order of bytes
        if samples.size and (samples.min() < 0 or samples.max() > 65535):
            raise InputError(f"{name} has samples beyond 16 bits: convert it to 8 or 16 bits")
        return _from_array(samples.astype(np.uint16))
    if picture.mode == "F":
        raise InputError(f"{name} has floating-point samples: convert it to 8 or 16 bits")
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    return _from_array(np.asarray(picture if picture.mode == mode else picture.convert(mode)))


def _from_array(array):
    array = np.asarray(array)
    if array.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"an image must be uint8 (or uint16) RGB [H, W, 3], not {array.dtype}: "
            "scale it to 0..255 and convert it with astype('uint8')"
        )
    if array.ndim == 2:
        array = array[..., np.newaxis]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise InputError(f"an image must be RGB [H, W, 3], not an array of shape {list(array.shape)}")
    if array.size == 0:
        raise InputError(f"the image is empty: shape {list(array.shape)}")
    if array.dtype == np.uint16:
        white = (1 << max(8, int(array.max()).bit_length())) - 1
        array = ((array.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)
    if array.shape[2] == 4:
        alpha = array[..., 3:].astype(np.uint16)
        array = ((array[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.array(np.broadcast_to(array, (*array.shape[:2], 3)), order="C")


def encoded(image: Image.Image, file_format: str, **options) -> bytes:
    """A picture as a file's content; format and options are those of Pillow's `save`."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()
