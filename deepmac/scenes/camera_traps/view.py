"""What a camera trap sees: layers at different distances, by daylight or by its infra-red flash."""

import dataclasses

import cv2
import numpy as np

HEIGHT, WIDTH = 480, 640
_FOCAL_LENGTH = 430.0  # pixels
_CAMERA_HEIGHT = 0.8  # metres
# Distance at which the flash lights a light thing fully, in metres.
_FLASH_REACH = 3.5
_FARTHEST = 60.0  # metres; the sky counts as that far


@dataclasses.dataclass(frozen=True)
class Layer:
    """A flat thing standing in the view.

    Attributes:
        colour: float32 [h, w, 3], RGB 0..1, premultiplied with alpha.
        alpha: float32 [h, w, 1], 0..1.
        top: row of its first row in the picture; may be negative.
        left: column of its first column.
        distance: from the camera in metres.
    """

    colour: np.ndarray
    alpha: np.ndarray
    top: int
    left: int
    distance: float


def pixels_per_metre(distance: float) -> float:
    """How large a metre is at a distance, in pixels."""
    return _FOCAL_LENGTH / distance


def ground_row(horizon: float, distance: float) -> float:
    """The row of the ground at a distance, for a horizon at a row."""
    return horizon + _FOCAL_LENGTH * _CAMERA_HEIGHT / distance


def ground_distances(horizon: float) -> np.ndarray:
    """float32 [HEIGHT]: how far what is seen in a row is, if it is ground, in metres."""
    below = np.maximum(np.arange(HEIGHT, dtype=np.float32) - horizon, 1e-3)
    return np.minimum(_FOCAL_LENGTH * _CAMERA_HEIGHT / below, _FARTHEST)


class Canvas:
    """A picture that layers are laid into, and which of them owns which pixel.

    Attributes:
        picture: float32 [HEIGHT, WIDTH, 3], RGB 0..1.
        distance: float32 [HEIGHT, WIDTH], of what is seen, in metres.
        owner: int32 [HEIGHT, WIDTH], number of the animal that is seen; 0 is none.
    """

    def __init__(self, picture: np.ndarray, distance: np.ndarray):
        """Args: picture, distance: of the background; copied."""
        self.picture, self.distance = picture.copy(), distance.copy()
        self.owner = np.zeros((HEIGHT, WIDTH), np.int32)

    def lay(self, layer: Layer, number: int = 0) -> None:
        """Lays a layer over what is there.

        Args:
            layer: what is nearer than everything laid before.
            number: of the animal; 0 for all other things.
        """
        rows, columns, cut = _overlap(layer)
        alpha = layer.alpha[cut]
        self.picture[rows, columns] *= 1 - alpha
        self.picture[rows, columns] += layer.colour[cut]
        mask = alpha[..., 0] > 0.5
        self.owner[rows, columns][mask] = number
        self.distance[rows, columns][mask] = layer.distance

    def shade(self, layer: Layer, strength: float) -> None:
        """Darkens the ground where a layer stands: a soft, flat copy of its lower part."""
        height, width = layer.alpha.shape[:2]
        flat = np.zeros((max(4, height // 6), width), np.float32)
        cv2.ellipse(flat, (width // 2, len(flat) // 2), (width // 2, len(flat) // 2), 0, 0, 360, 1.0, -1)
        flat = cv2.GaussianBlur(flat, (0, 0), max(1.0, height / 30))[..., None]
        top = layer.top + height - len(flat) // 2
        rows, columns, cut = _overlap(dataclasses.replace(layer, alpha=flat, top=top))
        self.picture[rows, columns] *= 1 - strength * flat[cut]


def _overlap(layer: Layer):
    """Rows and columns of the picture that a layer covers, and the part of the layer that is inside."""
    height, width = layer.alpha.shape[:2]
    top, left = max(layer.top, 0), max(layer.left, 0)
    bottom = max(top, min(layer.top + height, HEIGHT))
    right = max(left, min(layer.left + width, WIDTH))
    cut = (slice(top - layer.top, bottom - layer.top), slice(left - layer.left, right - layer.left))
    return slice(top, bottom), slice(left, right), cut


def daylight(rng: np.random.Generator, canvas: Canvas, brightness: float) -> np.ndarray:
    """Develops a picture in daylight.

    Args:
        rng: source of the grain.
        canvas: what is there.
        brightness: 1 at noon, less at dusk, when colours fade as well.

    Returns:
        uint8 RGB [HEIGHT, WIDTH, 3].
    """
    haze = np.clip(canvas.distance / _FARTHEST, 0, 1)[..., None] * 0.35
    picture = canvas.picture * (1 - haze) + np.float32([0.75, 0.8, 0.85]) * haze
    grey = picture.mean(axis=-1, keepdims=True)
    colourful = min(1.0, 0.45 + 0.55 * brightness)
    picture = (grey + colourful * (picture - grey)) * (0.35 + 0.65 * brightness)
    return _camera(rng, picture, grain=0.015 + 0.02 * (1 - brightness), softness=0.6)


def infrared(rng: np.random.Generator, canvas: Canvas) -> np.ndarray:
    """Develops a picture by the light of the infra-red flash: grey, bright near by, black far away.

    Args:
        rng: source of the grain.
        canvas: what is there.

    Returns:
        uint8 RGB [HEIGHT, WIDTH, 3], grey.
    """
    # Plants and fur reflect infra-red, whatever their colour: contrasts are low, and dark things light.
    reflected = 0.22 + 0.6 * canvas.picture @ np.float32([0.5, 0.4, 0.1])
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j].astype(np.float32)
    beam = np.exp(-(0.7 * x**2 + 0.5 * (y - 0.2) ** 2))
    light = beam * np.minimum(1.25, (_FLASH_REACH / np.maximum(canvas.distance, 1.0)) ** 1.5)
    picture = np.repeat((reflected * light + 0.02)[..., None], 3, axis=-1)
    return _camera(rng, picture**0.8, grain=0.03, softness=0.9, grey=True)


def _camera(rng, picture, grain: float, softness: float, grey: bool = False) -> np.ndarray:
    """Lens and sensor: softness, and grain that is coarser than a pixel."""
    picture = cv2.GaussianBlur(picture, (0, 0), softness)
    noise = rng.standard_normal((HEIGHT, WIDTH, 1 if grey else 3), dtype=np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 0.7).reshape(HEIGHT, WIDTH, -1)
    return np.round(np.clip(picture + 2 * grain * noise, 0, 1) * 255).astype(np.uint8)
