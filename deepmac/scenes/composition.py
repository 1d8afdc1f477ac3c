"""Composes one scene: objects and distractors over a background, and what remains visible of each object.

Objects and distractors are layers, turned, lit and coloured at random.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from deepmac.scenes.artwork import Artwork, Picture
from deepmac.scenes.backgrounds import background, texture
from deepmac.scenes.pyramid import Pyramid, build_pyramid
from deepmac.scenes.sprites import render

MIN_VISIBLE_SHARE = 0.3
MIN_VISIBLE_PIXELS = 24

_OBJECTS = (2, 8)  # wanted in a scene, both included
_ATTEMPTS = 4  # to find a place for an object
_MOST_DISTRACTORS = 4
_DISTRACTOR_IN_FRONT = 0.08  # probability after each object
_SHADOW = 0.5  # probability for each layer

# Side of an object in parts of the image side: log-uniform, some objects large.
_SCALE = (0.12, 0.6)
_LARGE_SCALE = (0.6, 1.1)
_LARGE_SHARE = 0.1
_SMALLEST_SIDE = 10  # pixels

_MARGIN = 0.065  # room around a layer for its blurred edge and its shadow, in parts of the image side
_DRAWN_CANVAS = 96  # side of the square a distractor is drawn on


class Layer(NamedTuple):
    """A patch of the scene and where it lies.

    Attributes:
        colour: float32 [h, w, 3], RGB 0..1, premultiplied with alpha.
        alpha: float32 [h, w, 1], 0..1.
        region: rows and columns of the image that the patch covers.
        area: visible pixels if the image had no border.
    """

    colour: np.ndarray
    alpha: np.ndarray
    region: tuple[slice, slice]
    area: float


class Scene(NamedTuple):
    """An image, uint8 RGB [size, size, 3], and its objects from the lowest to the topmost.

    Of each object its key in the pool, the COCO category id, and its visible mask, bool [size, size].
    """

    image: np.ndarray
    objects: list[tuple[int, np.ndarray]]


class _Canvas:
    """A scene in the making: its colours, and which object owns which pixel."""

    def __init__(self, picture: np.ndarray):
        self.picture = picture  # float32 [size, size, 3]
        self.owner = np.zeros(picture.shape[:2], np.int32)  # 0: none; k: the k-th object
        self.visible = [0]  # pixels of each object; [0] is not used
        self.least = [0.0]  # pixels of each object that have to stay visible

    def place(self, rng: np.random.Generator, layer: Layer | None, is_object: bool) -> bool:
        """Lays a layer down, unless too little of it, or of an object below, would be visible."""
        if layer is None:
            return False
        mask = layer.alpha[..., 0] > 0.5  # pixels it owns: it is more visible there than what lies below
        pixels = np.count_nonzero(mask)
        least = max(MIN_VISIBLE_PIXELS, MIN_VISIBLE_SHARE * layer.area)
        hidden = np.bincount(self.owner[layer.region][mask], minlength=len(self.visible))
        hidden[0] = 0  # background
        remaining = np.array(self.visible) - hidden
        if (is_object and pixels < least) or ((hidden > 0) & (remaining < self.least)).any():
            return False
        self._blend(rng, layer)
        self.visible = remaining.tolist()
        self.owner[layer.region][mask] = len(self.visible) if is_object else 0
        if is_object:
            self.visible.append(pixels)
            self.least.append(least)
        return True

    def _blend(self, rng: np.random.Generator, layer: Layer) -> None:
        """Blends a layer over the picture, sometimes with a soft shadow below it."""
        below = self.picture[layer.region]
        if rng.random() < _SHADOW:
            size = len(self.picture)
            right, down = rng.uniform(-0.025, 0.025, 2) * size
            shift = np.array([[1, 0, right], [0, 1, down]])
            shadow = cv2.warpAffine(layer.alpha, shift, layer.alpha.shape[1::-1])
            shadow = cv2.GaussianBlur(shadow, (0, 0), size / 128 * rng.uniform(0.6, 2.0))
            below *= 1 - np.float32(rng.uniform(0.2, 0.6)) * shadow[..., None]
        below *= 1 - layer.alpha
        below += layer.colour


def compose_scene(rng: np.random.Generator, pool: dict[int, Sequence[Artwork]], size: int) -> Scene:
    """Composes one scene, at random, with at most 8 objects.

    At least 24 pixels and 30 % of each object are visible. `pool` has the artworks to draw from by category
    id; `size` is the side of the square image in pixels.
    """
    canvas = _Canvas(background(rng, size))
    categories = []
    for _ in range(rng.integers(_MOST_DISTRACTORS + 1)):
        canvas.place(rng, distractor_layer(rng, size), is_object=False)
    for _ in range(rng.integers(_OBJECTS[0], _OBJECTS[1] + 1)):
        category, picture = _draw_sprite(rng, pool)
        for _ in range(_ATTEMPTS):
            layer = object_layer(rng, picture, size)
            if canvas.place(rng, layer, is_object=True):
                categories.append(category)
                break
        if rng.random() < _DISTRACTOR_IN_FRONT:
            canvas.place(rng, distractor_layer(rng, size), is_object=False)
    objects = [(category, canvas.owner == k) for k, category in enumerate(categories, start=1)]
    return Scene(_finish(rng, canvas.picture), objects)


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


def object_layer(rng: np.random.Generator, picture: Picture, size: int) -> Layer | None:
    """Places a sprite at random: scale, rotation, mirror image, shear, colours, light, sharpness.

    Returns:
        The layer, cut at the border of the scene, a square of `size` pixels; None when it lies outside.
    """
    bounds = _LARGE_SCALE if rng.random() < _LARGE_SHARE else _SCALE
    side = max(_SMALLEST_SIDE, size * math.exp(rng.uniform(*np.log(bounds))))
    layer = _place(rng, _sprite(picture, min(max(round(0.75 * size), 64), 256)), side, size)
    if layer is None:
        return None
    rgba = np.concatenate([layer.colour, layer.alpha], axis=-1)
    colour = cv2.transform(rgba, _colour_jitter(rng))
    colour *= _light(rng, *layer.alpha.shape[:2])
    return layer._replace(colour=np.clip(colour, 0.0, layer.alpha))


def distractor_layer(rng: np.random.Generator, size: int) -> Layer | None:
    """Places a shape that is no object: a blob, a polygon or a stroke with a texture; see `object_layer`."""
    side = size * math.exp(rng.uniform(math.log(0.1), math.log(0.5)))
    canvas = np.zeros((_DRAWN_CANVAS, _DRAWN_CANVAS, 4), np.float32)
    outline = _outline(rng)
    stroke = rng.random() < 0.25
    if stroke:
        cv2.polylines(canvas, [outline[: len(outline) // 2]], False, (0, 0, 0, 255), int(rng.integers(3, 10)))
    else:
        cv2.fillPoly(canvas, [outline], (0, 0, 0, 255))
    layer = _place(rng, build_pyramid(canvas), side, size)
    if layer is None:
        return None
    colour = texture(rng, *layer.alpha.shape[:2])
    if rng.random() < 0.4:  # one plain colour, as in flat drawings
        colour = np.broadcast_to(colour.mean(axis=(0, 1)), colour.shape)
    if not stroke and rng.random() < 0.4:  # a dark or light rim, as many drawings have
        inner = cv2.erode(layer.alpha, np.ones((3, 3), np.uint8))[..., None]
        colour = colour * inner + np.float32(rng.choice([0.05, 0.95])) * (1 - inner)
    colour = colour * _light(rng, *layer.alpha.shape[:2])
    return layer._replace(colour=np.clip(colour, 0.0, 1.0) * layer.alpha)


def _place(rng: np.random.Generator, source: Pyramid, side: float, size: int) -> Layer | None:
    """Warps a premultiplied uint8-range RGBA picture to a random place of the scene."""
    height, width = source.shape
    matrix = _random_turn(rng) * (side / max(height, width))
    centre = rng.uniform(-0.03 * size, 1.03 * size, 2)
    corners = matrix @ (np.array([[-1, -1, 1, 1], [-1, 1, -1, 1]]) * [[width / 2], [height / 2]])
    reach = np.abs(corners).max(axis=1) + _MARGIN * size
    left, top = np.maximum(0, np.floor(centre - reach)).astype(int)
    right, bottom = np.minimum(size, np.ceil(centre + reach)).astype(int)
    if right <= left or bottom <= top:
        return None
    offset = centre - (left, top) - matrix @ (width / 2, height / 2)
    placement = np.column_stack([matrix, offset])
    rgba = source.warp(placement, bottom - top, right - left, cv2.BORDER_CONSTANT) / np.float32(255)
    blur = rng.uniform(0.0, 0.7) * size / 128
    if blur > 0.3:
        rgba = cv2.GaussianBlur(rgba, (0, 0), blur)
    area = np.count_nonzero(source.levels[0][..., 3] > 127) * abs(np.linalg.det(matrix))
    return Layer(rgba[..., :3], rgba[..., 3:], (slice(top, bottom), slice(left, right)), area)


def _random_turn(rng: np.random.Generator) -> np.ndarray:
    """Rotation (mostly slight), mirror image, shear and stretch; float [2, 2] for (x, y)."""
    angle = rng.uniform(-math.pi, math.pi) if rng.random() < 0.3 else rng.normal(0.0, 0.3)
    cosine, sine = math.cos(angle), math.sin(angle)
    stretch = math.exp(rng.normal(0.0, 0.1))
    mirror = -1 if rng.random() < 0.5 else 1
    shear = rng.normal(0.0, 0.1)
    turned = np.array([[cosine, -sine], [sine, cosine]]) @ np.array([[1, shear], [0, 1]])
    return turned @ np.diag([mirror * stretch, 1 / stretch])


def _colour_jitter(rng: np.random.Generator) -> np.ndarray:
    """Random hue, saturation, contrast and brightness of a premultiplied picture.

    Returns:
        float32 [3, 4]: new RGB = matrix @ (R, G, B, alpha), where alpha stands for the constant 1.
    """
    luma = np.array([[0.299, 0.587, 0.114]]).repeat(3, axis=0)
    # A rotation about the grey axis shifts the hue (Rodrigues' formula).
    hue = rng.uniform(-math.pi, math.pi) if rng.random() < 0.3 else rng.normal(0.0, 0.2)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    rotation = math.cos(hue) * np.eye(3) + (1 - math.cos(hue)) / 3 + math.sin(hue) * cross
    saturation = rng.uniform(0.4, 1.3)
    contrast = rng.uniform(0.5, 1.2)
    brightness = rng.uniform(-0.15, 0.2)
    mixing = contrast * (luma + saturation * (np.eye(3) - luma)) @ rotation
    constant = np.full((3, 1), 0.5 - 0.5 * contrast + brightness)
    return np.concatenate([mixing, constant], axis=1).astype(np.float32)


def _light(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Factors of the colours: a gradient of light, and sometimes the grain of a texture; [h, w, 1 or 3]."""
    angle, strength = rng.uniform(0.0, 2 * math.pi), rng.uniform(0.0, 0.35)
    down, right = strength * math.sin(angle), strength * math.cos(angle)
    ys = np.linspace(-down, down, height, dtype=np.float32)[:, None]
    light = (1 + ys + np.linspace(-right, right, width, dtype=np.float32))[..., None]
    if rng.random() < 0.4:
        grain = np.float32(rng.uniform(0.2, 0.8))
        light = light * (1 + grain * (texture(rng, height, width) - np.float32(0.5)))
    return light


def _outline(rng: np.random.Generator) -> np.ndarray:
    """A closed curve on the canvas: smooth, angular, or star-shaped; int32 [points, 2]."""
    angular = rng.random() < 0.5
    points = int(rng.integers(3, 8)) if angular else 48
    angles = np.arange(points) * (2 * math.pi / points)
    if angular:
        radius = rng.uniform(0.35, 1.0, points)
    else:
        waves = np.arange(1, 5)[:, None]
        heights = rng.normal(0.0, 0.25, (4, 1)) / np.sqrt(waves)
        phases = rng.uniform(0.0, 2 * math.pi, (4, 1))
        radius = np.clip(0.65 + (heights * np.sin(waves * angles + phases)).sum(axis=0), 0.15, 1.0)
    middle = _DRAWN_CANVAS / 2
    curve = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None]
    return np.round(middle + 0.95 * middle * curve).astype(np.int32)


@functools.cache
def _sprite(picture: Picture, side: int) -> Pyramid:
    return build_pyramid(render(picture, side), smallest=4)
