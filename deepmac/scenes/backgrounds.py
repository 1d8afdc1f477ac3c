"""Backgrounds of composed scenes: photographs, tinted textures, noise, and gradients."""

import functools
import importlib.util
import math
from pathlib import Path

import cv2
import numpy as np
import yaml
from PIL import Image

from deepmac.scenes.pyramid import Pyramid, build_pyramid

_LONGEST_SIDE = 512


def background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Makes a background, at random: float32 [size, size, 3], RGB, 0 to 1."""
    picture = _one_background(rng, size)
    if rng.random() < 0.35:  # two backgrounds side by side, with a soft or a sharp border
        border = smooth_noise(rng, size, size, cells=2)[..., None]
        share = np.clip(0.5 + (border - 0.5) * 10 ** rng.uniform(0.5, 2.0), 0.0, 1.0)
        picture += share * (_one_background(rng, size) - picture)
    if rng.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), size / 128 * rng.uniform(0.4, 2.5))
    return np.clip(picture, 0.0, 1.0)


def texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A random patch of a picture in other colours: float32 [height, width, 3], RGB, about 0 to 1."""
    patch = _patch(rng, height, width)
    if rng.random() < 0.5:
        return _between_two_colours(rng, patch.mean(axis=-1))
    # Other hues by mixing the channels, each row of weights adding up to 1.
    mixing = np.eye(3) + rng.normal(0.0, 0.2, (3, 3))
    mixing /= mixing.sum(axis=1, keepdims=True)
    contrast, brightness = rng.uniform(0.5, 1.2), rng.uniform(-0.2, 0.2)
    shift = np.float32(0.5 - 0.5 * contrast + brightness)
    return cv2.transform(patch, (contrast * mixing).astype(np.float32)) + shift


def _one_background(rng: np.random.Generator, size: int) -> np.ndarray:
    kind = rng.choice(["texture", "noise", "gradient", "stripes"], p=[0.7, 0.15, 0.1, 0.05])
    if kind == "texture":
        return texture(rng, size, size)
    if kind == "noise":
        octaves = [smooth_noise(rng, size, size, cells) / math.sqrt(cells) for cells in (2, 4, 8, 16, 32)]
        shade = cv2.normalize(sum(octaves), None, 0.0, 1.0, cv2.NORM_MINMAX)
    elif kind == "gradient":
        shade = _ramp(rng, size, size)
    else:
        shade = 0.5 + 0.5 * np.sin(_ramp(rng, size, size) * rng.uniform(10.0, 60.0), dtype=np.float32)
    return _between_two_colours(rng, shade)


def _patch(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A random place, scale, rotation and mirror image of a picture; float32 [height, width, 3]."""
    pictures = _pictures()
    source = pictures[rng.integers(len(pictures))]
    source_height, source_width = source.shape
    # So many pixels of the source become one of the patch: from one to as many as there are.
    most = max(1.0, min(source_height, source_width) / max(height, width))
    shrink = math.exp(rng.uniform(math.log(0.6), math.log(most * 1.2)))
    angle = rng.uniform(0.0, 2 * math.pi) if rng.random() < 0.5 else rng.normal(0.0, 0.1)
    matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) / shrink
    if rng.random() < 0.5:
        matrix[:, 0] *= -1
    centre = np.array([rng.uniform(0.0, source_width), rng.uniform(0.0, source_height)])
    shift = np.array([width, height]) / 2 - matrix @ centre
    patch = source.warp(np.column_stack([matrix, shift]), height, width, cv2.BORDER_REFLECT_101)
    return patch / np.float32(255)


def _between_two_colours(rng: np.random.Generator, shade: np.ndarray) -> np.ndarray:
    """Maps shade 0..1 [h, w] to a line between two random colours; float32 [h, w, 3]."""
    colours = rng.random((2, 3), dtype=np.float32)
    grey = colours.mean(axis=1, keepdims=True)
    first, second = grey + (colours - grey) * rng.uniform(0.1, 1.0, (2, 1)).astype(np.float32)
    return first + shade[..., None].astype(np.float32) * (second - first)


def _ramp(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A linear ramp in a random direction, from about 0 to about 1; float32 [height, width]."""
    angle = rng.uniform(0.0, 2 * math.pi)
    xs = np.linspace(-0.5, 0.5, width, dtype=np.float32) * np.float32(math.cos(angle))
    ys = np.linspace(-0.5, 0.5, height, dtype=np.float32) * np.float32(math.sin(angle))
    return np.float32(0.5) + ys[:, None] + xs


def smooth_noise(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Uniform noise on a grid of `cells` + 1 knots a side, interpolated; float32 [height, width]."""
    return cv2.resize(
        rng.random((cells + 1, cells + 1), dtype=np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )


@functools.cache
def _pictures() -> list[Pyramid]:
    regions = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return [_read(picture_path(name), region) for name, region in regions.items()]


def picture_path(name: str) -> Path:
    """Returns where a picture of scikit-image's wheel lies."""
    return Path(importlib.util.find_spec("skimage").submodule_search_locations[0]) / "data" / name


def _read(path: Path, region: list[float]) -> Pyramid:
    with Image.open(path) as picture:
        corners = np.multiply(region, picture.size * 2).astype(int).tolist()
        crop = picture.convert("RGB").crop(corners)
    crop.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.BOX)
    return build_pyramid(np.asarray(crop))
