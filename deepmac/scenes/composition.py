"""Composes one scene: objects and distractors over a background, and what remains visible of each object."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from deepmac.scenes.artwork import Artwork, Picture
from deepmac.scenes.backgrounds import background
from deepmac.scenes.layers import Layer, distractor_layer, object_layer

MIN_VISIBLE_SHARE = 0.3
MIN_VISIBLE_PIXELS = 24

_OBJECTS = (2, 8)  # wanted in a scene, both included
_ATTEMPTS = 4  # to find a place for an object
_MOST_DISTRACTORS = 4
_DISTRACTOR_IN_FRONT = 0.08  # probability after each object
_SHADOW = 0.5  # probability for each layer


class SceneObject(NamedTuple):
    """An object of a scene: COCO category id and visible mask, bool [size, size]."""

    category_id: int
    mask: np.ndarray


class Scene(NamedTuple):
    """An image, uint8 RGB [size, size, 3], and its objects from the lowest to the topmost."""

    image: np.ndarray
    objects: list[SceneObject]


class _Canvas:
    """A scene in the making: its colours, and which object owns which pixel."""

    def __init__(self, picture: np.ndarray):
        self.picture = picture  # float32 [size, size, 3]
        self.owner = np.zeros(picture.shape[:2], np.int32)  # 0: none; k: the k-th object
        self.visible = [0]  # pixels of each object; [0] is not used
        self.least = [0.0]  # pixels of each object that have to stay visible

    def place(self, rng: np.random.Generator, layer: Layer, is_object: bool) -> bool:
        """Lays a layer down, unless too little of it or of an object below would be visible."""
        mask = layer.mask
        pixels = np.count_nonzero(mask)
        least = max(MIN_VISIBLE_PIXELS, MIN_VISIBLE_SHARE * layer.area)
        hidden = np.bincount(self.owner[layer.region][mask], minlength=len(self.visible))
        hidden[0] = 0  # background
        remaining = np.array(self.visible) - hidden
        if (is_object and pixels < least) or ((hidden > 0) & (remaining < self.least)).any():
            return False
        self._blend(rng, layer)
        self.visible = remaining.tolist()
        if is_object:
            self.owner[layer.region][mask] = len(self.visible)
            self.visible.append(pixels)
            self.least.append(least)
        else:
            self.owner[layer.region][mask] = 0
        return True

    def _blend(self, rng: np.random.Generator, layer: Layer) -> None:
        """Blends a layer over the picture, sometimes with a soft shadow below it."""
        below = self.picture[layer.region]
        if rng.random() < _SHADOW:
            size = len(self.picture)
            right, down = rng.uniform(-0.025, 0.025, 2) * size
            shadow = cv2.warpAffine(
                layer.alpha, np.array([[1, 0, right], [0, 1, down]]), layer.alpha.shape[1::-1]
            )
            shadow = cv2.GaussianBlur(shadow, (0, 0), size / 128 * rng.uniform(0.6, 2.0))
            below *= 1 - np.float32(rng.uniform(0.2, 0.6)) * shadow[..., None]
        below *= 1 - layer.alpha
        below += layer.colour


def compose_scene(rng: np.random.Generator, pool: dict[int, Sequence[Artwork]], size: int) -> Scene:
    """Composes one scene.

    Args:
        rng: source of all randomness.
        pool: category id -> artworks to draw from.
        size: side of the square image in pixels.

    Returns:
        The scene, with at most 8 objects. At least 24 pixels and 30 % of each object are visible.
    """
    canvas = _Canvas(background(rng, size))
    categories = []
    for _ in range(rng.integers(_MOST_DISTRACTORS + 1)):
        _try_distractor(rng, canvas)
    for _ in range(rng.integers(_OBJECTS[0], _OBJECTS[1] + 1)):
        category, picture = _draw_sprite(rng, pool)
        for _ in range(_ATTEMPTS):
            layer = object_layer(rng, picture, size)
            if layer is not None and canvas.place(rng, layer, is_object=True):
                categories.append(category)
                break
        if rng.random() < _DISTRACTOR_IN_FRONT:
            _try_distractor(rng, canvas)
    objects = [SceneObject(category, canvas.owner == k) for k, category in enumerate(categories, start=1)]
    return Scene(_finish(rng, canvas.picture), objects)


def _try_distractor(rng: np.random.Generator, canvas: _Canvas) -> None:
    layer = distractor_layer(rng, len(canvas.picture))
    if layer is not None:
        canvas.place(rng, layer, is_object=False)


def _draw_sprite(rng: np.random.Generator, pool: dict[int, Sequence[Artwork]]) -> tuple[int, Picture]:
    """Draws a class, the more often the more artworks it has, and one of its pictures."""
    categories = list(pool)
    weights = np.sqrt([len(pool[category]) for category in categories])
    category = categories[rng.choice(len(categories), p=weights / weights.sum())]
    artwork = pool[category][rng.integers(len(pool[category]))]
    return category, artwork.variants[rng.integers(len(artwork.variants))]


def _finish(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Exposure, sharpness and grain of a camera; float32 RGB 0..1 -> uint8."""
    picture = picture * np.float32(rng.uniform(0.75, 1.15))
    if rng.random() < 0.2:
        picture = cv2.GaussianBlur(picture, (0, 0), len(picture) / 128 * rng.uniform(0.4, 0.8))
    grain = np.float32(rng.uniform(0.0, 0.03))
    picture = picture + grain * rng.standard_normal(picture.shape, dtype=np.float32)
    return np.round(np.clip(picture, 0.0, 1.0) * 255).astype(np.uint8)
