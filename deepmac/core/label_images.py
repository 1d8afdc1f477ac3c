"""Label images of instance masks: which detection a pixel belongs to, as PNG.

One channel, 0 is background, k the k-th detection of the picture (from 1, in the order of MegaDetector's
results). Where masks overlap, the detection of higher confidence keeps the pixel.
"""

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from deepmac.core.drawing import instance_colors
from deepmac.core.errors import InputError
from deepmac.core.files import atomic_file
from deepmac.core.images import open_picture_file

_MOST = 2**16 - 1  # detections of a picture
QUALITY = "Quality"  # text in a label image: JSON, number of a detection -> `Prediction.quality` of its mask
# Pillow's modes of one integer channel.
_SINGLE_CHANNEL = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")


def write_label_image(
    path: str | os.PathLike, labels: np.ndarray, texts: Mapping[str, str] | None = None, palette: bool = False
) -> None:
    """Writes a label image, uint8 or uint16 [H, W], as a grey PNG, complete or not at all.

    With `texts`, keyword -> text; with a palette 8-bit images are shown in colours, values are the same.
    """
    info = PngImagePlugin.PngInfo()
    for keyword, text in (texts or {}).items():
        info.add_text(keyword, text)
    with atomic_file(path) as temporary:
        image = in_colors(labels) if palette else Image.fromarray(labels)
        image.save(temporary, pnginfo=info, compress_type=zlib.Z_RLE)  # made for areas of one number


def in_colors(labels: np.ndarray) -> Image.Image:
    """A label image with a palette, background black, if it has 8 bits: a PNG knows no larger palettes."""
    image = Image.fromarray(labels)
    if image.mode == "L":
        image.putpalette(bytes(3) + instance_colors(255).tobytes())
    return image


def read_label_image(path: str | os.PathLike) -> np.ndarray:
    """Reads a label image, uint8 or uint16 [H, W]; InputError: none, a damaged one, or several channels."""
    with open_picture_file(path) as (picture, name):
        if picture.mode not in _SINGLE_CHANNEL:
            raise InputError(f"{name} has the channels {picture.mode}: an instance mask has one")
        labels = np.asarray(picture)
        if labels.min(initial=0) < 0 or labels.max(initial=0) > _MOST:
            raise InputError(
                f"{name} has numbers from {labels.min()} to {labels.max()}: 0 to {_MOST} are read"
            )
        return labels.astype(np.uint8 if picture.mode in ("1", "L", "P") else np.uint16)


def read_texts(path: Path) -> dict[Any, Any] | None:
    """Returns the texts kept in a PNG; None for a file that is missing or, by its checksums, damaged."""
    try:
        with open_picture_file(path) as (picture, _):
            texts = dict(picture.info)
            picture.verify()
    except InputError:
        return None
    return texts
