"""Places where cameras hang: ground, hills, trees and grass, drawn at random and always the same."""

import dataclasses
import functools
import math

import cv2
import numpy as np
from PIL import Image

from deepmac.scenes.backgrounds import picture_path
from deepmac.scenes.camera_traps.view import (
    HEIGHT,
    WIDTH,
    Canvas,
    Layer,
    ground_distances,
    ground_row,
    pixels_per_metre,
)

_MARGIN = 12  # pixels around drawn plants, for their blurred edges


@dataclasses.dataclass(frozen=True)
class Habitat:
    """Colours, RGB 0..1, and how much grows.

    Attributes:
        sky: at the horizon.
        ground: of the ground.
        plants: of leaves and grass.
        bark: of trunks.
        texture: picture of scikit-image's wheel that gives the ground its grain.
        trees: trunks in sight.
        bushes: bushes in sight.
        blades: blades of grass in front of the camera.
        canopy: whether leaves hide the sky.
    """

    sky: tuple[float, float, float]
    ground: tuple[float, float, float]
    plants: tuple[float, float, float]
    bark: tuple[float, float, float]
    texture: str
    trees: int
    bushes: int
    blades: int
    canopy: bool


HABITATS = {
    "savanna": Habitat(
        sky=(0.78, 0.84, 0.9),
        ground=(0.66, 0.56, 0.34),
        plants=(0.55, 0.52, 0.24),
        bark=(0.34, 0.27, 0.2),
        texture="grass.png",
        trees=2,
        bushes=5,
        blades=260,
        canopy=False,
    ),
    "forest": Habitat(
        sky=(0.5, 0.58, 0.48),
        ground=(0.36, 0.29, 0.2),
        plants=(0.2, 0.34, 0.13),
        bark=(0.25, 0.2, 0.15),
        texture="gravel.png",
        trees=9,
        bushes=7,
        blades=60,
        canopy=True,
    ),
    "meadow": Habitat(
        sky=(0.72, 0.8, 0.9),
        ground=(0.34, 0.42, 0.18),
        plants=(0.3, 0.45, 0.16),
        bark=(0.3, 0.25, 0.2),
        texture="grass.png",
        trees=3,
        bushes=4,
        blades=340,
        canopy=False,
    ),
    "scrub": Habitat(
        sky=(0.85, 0.83, 0.78),
        ground=(0.68, 0.55, 0.42),
        plants=(0.42, 0.43, 0.28),
        bark=(0.4, 0.32, 0.25),
        texture="gravel.png",
        trees=1,
        bushes=9,
        blades=30,
        canopy=False,
    ),
}


class Scenery:
    """A place, seen from a camera that does not move.

    Attributes:
        horizon: row of the horizon.
    """

    def __init__(self, rng: np.random.Generator, habitat: Habitat):
        """Draws the place; the same generator state draws the same place."""
        self.horizon = HEIGHT * rng.uniform(0.32, 0.42)
        self._picture = _background(rng, habitat, self.horizon)
        distances = ground_distances(self.horizon)
        self._distance = np.repeat(distances[:, None], WIDTH, axis=1)
        plants = [_tree(rng, habitat, self.horizon) for _ in range(habitat.trees)]
        plants += [_bush(rng, habitat, self.horizon) for _ in range(habitat.bushes)]
        if habitat.canopy:
            plants.append(_canopy(rng, habitat))
        plants.append(_grass(rng, habitat))
        self._plants = sorted(plants, key=lambda layer: -layer.distance)

    def with_animals(self, animals: list[Layer], shadow: float) -> Canvas:
        """Lays plants and animals into the place, the farthest first.

        Args:
            animals: number k of the canvas's `owner` is the k-th of them, from 1.
            shadow: how dark their shadows are, 0..1.
        """
        canvas = Canvas(self._picture, self._distance)
        numbered = [(layer, 0) for layer in self._plants]
        numbered += [(layer, number) for number, layer in enumerate(animals, start=1)]
        for layer, number in sorted(numbered, key=lambda pair: -pair[0].distance):
            if number:
                canvas.shade(layer, shadow)
            canvas.lay(layer, number)
        return canvas


def _background(rng: np.random.Generator, habitat: Habitat, horizon: float) -> np.ndarray:
    """Sky, hills and ground; float32 [HEIGHT, WIDTH, 3]."""
    height = np.linspace(1.0, 0.0, HEIGHT, dtype=np.float32)[:, None, None]
    picture = np.float32(habitat.sky) * (1 - 0.25 * height) + np.float32([0.0, 0.02, 0.12]) * height
    picture = np.broadcast_to(picture, (HEIGHT, WIDTH, 3)).copy()
    for near in (0.35, 0.65, 0.9):
        ridge = horizon - (1.05 - near) * HEIGHT * 0.3 * _noise(rng, 1, WIDTH, 5)[0]
        hill = np.float32(habitat.plants) * near + np.float32(habitat.sky) * (1 - near)
        picture[np.arange(HEIGHT)[:, None] > ridge] = hill
    ground = np.float32(habitat.ground) * (1 + 0.5 * _ground_grain(rng, habitat.texture, horizon))
    patches = np.clip(3 * _noise(rng, HEIGHT, WIDTH, 7) - 1.3, 0, 0.7)[..., None]
    ground += patches * (np.float32(habitat.plants) - ground)
    border = np.clip((np.arange(HEIGHT)[:, None, None] - horizon) / 4, 0, 1)
    return (picture + border * (ground - picture)).astype(np.float32)


def _ground_grain(rng: np.random.Generator, texture: str, horizon: float) -> np.ndarray:
    """A texture lying on the ground, in perspective; float32 [HEIGHT, WIDTH, 1], about -1 to 1."""
    source = _texture(texture)
    distance = ground_distances(horizon)[:, None]
    across = (np.arange(WIDTH, dtype=np.float32)[None] - WIDTH / 2) / pixels_per_metre(1.0) * distance
    place = rng.uniform(0, 500, 2)
    x = (across * 110 + place[0]).astype(np.float32)
    y = np.broadcast_to(distance * 110 + place[1], x.shape).astype(np.float32)
    grain = cv2.remap(source, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    fading = np.clip(5 / distance, 0, 1)  # far away a pixel shows the mean of many grains
    return (grain * fading)[..., None]


@functools.cache
def _texture(name: str) -> np.ndarray:
    """A picture's grey values around their mean, float32, about -1 to 1."""
    with Image.open(picture_path(name)) as picture:
        grey = np.asarray(picture.convert("L"), np.float32) / 255
    return 2 * (grey - cv2.GaussianBlur(grey, (0, 0), 40))


def _tree(rng: np.random.Generator, habitat: Habitat, horizon: float) -> Layer:
    """A trunk that leaves the picture at the top."""
    distance = float(rng.uniform(2.5, 14.0))
    foot = round(ground_row(horizon, distance))
    half = pixels_per_metre(distance) * rng.uniform(0.1, 0.22)
    width = round(3 * half) + 2 * _MARGIN
    rows = np.linspace(0, 1, foot, dtype=np.float32)[:, None]
    bend = 0.4 * half * (_noise(rng, 1, foot, 4)[0][:, None] - 0.5)
    radius = half * (0.75 + 0.15 * rows + 0.5 * rows**12)  # roots
    across = (np.arange(width, dtype=np.float32)[None] - width / 2 - bend) / radius
    alpha = np.clip((1 - np.abs(across)) * radius / 2, 0, 1)
    bark = cv2.resize(_noise(rng, 40, 40, 39), (width, foot), interpolation=cv2.INTER_LINEAR)
    shade = (0.55 + 0.5 * np.sqrt(np.clip(1 - across**2, 0, 1))) * (0.7 + 0.6 * bark)
    colour = np.float32(habitat.bark) * shade[..., None]
    left = round(rng.uniform(-0.05, 1.05) * WIDTH - width / 2)
    return Layer(colour * alpha[..., None], alpha[..., None].astype(np.float32), 0, left, distance)


def _bush(rng: np.random.Generator, habitat: Habitat, horizon: float) -> Layer:
    """Many leaves around a middle."""
    distance = float(rng.uniform(4.0, 20.0))
    size = pixels_per_metre(distance) * rng.uniform(0.5, 1.3)
    side = round(1.6 * size) + 2 * _MARGIN
    leaves = np.zeros((side, side, 4), np.float32)
    for _ in range(260):
        angle, radius = rng.uniform(-math.pi, 0.2), size * 0.7 * math.sqrt(rng.uniform())
        centre = (side / 2 + radius * math.cos(angle), side - _MARGIN + radius * math.sin(angle))
        light = rng.uniform(0.55, 1.25) * (0.75 + 0.4 * radius / size)
        axes = (max(1, round(size * rng.uniform(0.03, 0.07))), max(1, round(size * 0.02)))
        colour = (*(np.float32(habitat.plants) * light).tolist(), 1.0)
        cv2.ellipse(leaves, _point(centre), axes, rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA)
    top = round(ground_row(horizon, distance)) - side + _MARGIN
    left = round(rng.uniform(-0.1, 1.1) * WIDTH - side / 2)
    return Layer(leaves[..., :3], leaves[..., 3:], top, left, distance)


def _canopy(rng: np.random.Generator, habitat: Habitat) -> Layer:
    """Leaves along the upper edge."""
    height = HEIGHT // 3
    leaves = np.zeros((height, WIDTH, 4), np.float32)
    for _ in range(1800):
        y = height * rng.uniform() ** 1.7 * 0.9
        colour = (*(np.float32(habitat.plants) * rng.uniform(0.35, 1.2)).tolist(), 1.0)
        axes = (int(rng.integers(5, 14)), int(rng.integers(3, 6)))
        centre = _point((rng.uniform(0, WIDTH), y))
        cv2.ellipse(leaves, centre, axes, rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA)
    return Layer(leaves[..., :3], leaves[..., 3:], 0, 0, 8.0)


def _grass(rng: np.random.Generator, habitat: Habitat) -> Layer:
    """Blades in front of the camera, out of focus; animals pass behind them."""
    height = HEIGHT // 3
    blades = np.zeros((height, WIDTH, 4), np.float32)
    for _ in range(habitat.blades):
        foot, length = rng.uniform(-20, WIDTH + 20), height * rng.uniform(0.15, 0.75) ** 1.5
        lean, steps = rng.normal(0, 0.35) * length, np.linspace(0, 1, 6)
        points = np.stack([foot + lean * steps**2, height + 5 - length * steps], axis=1)
        colour = (*(np.float32(habitat.plants) * rng.uniform(0.6, 1.3)).tolist(), 1.0)
        cv2.polylines(
            blades, [np.round(points).astype(np.int32)], False, colour, int(rng.integers(1, 4)), cv2.LINE_AA
        )
    blades = cv2.GaussianBlur(blades, (0, 0), 1.2)
    return Layer(blades[..., :3], blades[..., 3:], HEIGHT - height, 0, 1.2)


def _noise(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Smooth noise 0..1, float32 [height, width], with a knot for each of `cells` and their halves."""
    result = np.zeros((height, width), np.float32)
    for octave, weight in ((1, 0.6), (2, 0.3), (4, 0.1)):
        knots = rng.random((min(height, octave * cells) + 1, octave * cells + 1), dtype=np.float32)
        result += weight * cv2.resize(knots, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(result, 0, 1)


def _point(centre) -> tuple[int, int]:
    return round(centre[0]), round(centre[1])
