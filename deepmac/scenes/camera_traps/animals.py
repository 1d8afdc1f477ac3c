"""Animals of the sample: drawings in side view, their true size, and how they are lit."""

import dataclasses
import functools

import cv2
import numpy as np

from deepmac.scenes.artwork import Picture, svg_path
from deepmac.scenes.camera_traps.view import Layer, ground_row, pixels_per_metre
from deepmac.scenes.sprites import render

_RENDERED_SIDE = 320  # pixels


@dataclasses.dataclass(frozen=True)
class Species:
    """A category of the sample.

    Attributes:
        name: scientific, as the categories of iWildCam.
        drawings: (vendor, code points) of emoji in side view.
        height: in metres.
        nocturnal: probability that it comes at night.
        habitats: where it lives.
        detection_category: of MegaDetector: "1" animal, "2" person.
    """

    name: str
    drawings: tuple[tuple[str, str], ...]
    height: float
    nocturnal: float
    habitats: tuple[str, ...]
    detection_category: str = "1"


def _both(code: str) -> tuple[tuple[str, str], ...]:
    return ("openmoji", code), ("twemoji", code)


_PEOPLE = ("twemoji", "1f6b6-1f3fd"), ("twemoji", "1f6b6-1f3fe")
SPECIES = (
    Species("panthera pardus", _both("1f406"), 0.75, 0.8, ("savanna", "forest")),
    Species("syncerus caffer", _both("1f403"), 1.5, 0.3, ("savanna",)),
    Species("loxodonta africana", _both("1f418"), 2.6, 0.3, ("savanna", "forest")),
    Species("giraffa camelopardalis", _both("1f992"), 3.6, 0.1, ("savanna",)),
    Species("equus quagga", (("openmoji", "1f993"),), 1.4, 0.2, ("savanna",)),
    Species("hippopotamus amphibius", (("twemoji", "1f99b"),), 1.4, 0.8, ("savanna",)),
    Species("sus scrofa", (("openmoji", "1f417"),), 0.8, 0.7, ("forest", "meadow")),
    Species("cervus elaphus", (("openmoji", "1f98c"),), 1.5, 0.5, ("forest", "meadow")),
    Species("meles meles", _both("1f9a1"), 0.4, 0.9, ("forest", "meadow")),
    Species("oryctolagus cuniculus", _both("1f407"), 0.35, 0.5, ("meadow", "scrub")),
    Species("mephitis mephitis", _both("1f9a8"), 0.4, 0.9, ("scrub", "meadow")),
    Species("meleagris gallopavo", _both("1f983"), 0.9, 0.0, ("forest", "meadow")),
    Species("capra hircus", _both("1f410"), 0.9, 0.1, ("scrub",)),
    Species("bos taurus", _both("1f402"), 1.4, 0.1, ("scrub", "meadow")),
    Species("canis familiaris", _both("1f415"), 0.6, 0.3, ("scrub",)),
    Species("homo sapiens", _PEOPLE, 1.7, 0.1, ("meadow", "scrub"), "2"),
)


@functools.cache
def _cutout(vendor: str, code: str) -> np.ndarray:
    """float32 [h, w, 4], premultiplied RGBA 0..1; all drawings look to the left."""
    return render(Picture(svg_path(vendor, code)), _RENDERED_SIDE).astype(np.float32) / 255


def animal_layer(
    rng: np.random.Generator,
    drawing: tuple[str, str],
    height: float,
    distance: float,
    column: float,
    speed: float,
    horizon: float,
) -> Layer:
    """Places an animal.

    Args:
        rng: source of its fur and gait.
        drawing: (vendor, code points).
        height: of the animal in metres.
        distance: from the camera in metres.
        column: of its middle.
        speed: in metres per exposure, to the right; the animal looks where it goes.
        horizon: row of the horizon.
    """
    scale = pixels_per_metre(distance)
    cutout = _cutout(*drawing)
    if speed > 0:
        cutout = cutout[:, ::-1]
    rows = max(8, round(height * scale))
    columns = max(8, round(cutout.shape[1] * rows / cutout.shape[0]))
    smear = abs(speed) * scale
    margin = round(smear) + 3
    rgba = cv2.resize(np.ascontiguousarray(cutout), (columns, rows), interpolation=cv2.INTER_AREA)
    rgba = cv2.copyMakeBorder(rgba, 3, 3, margin, margin, cv2.BORDER_CONSTANT, value=0)
    turn = cv2.getRotationMatrix2D((rgba.shape[1] / 2, rgba.shape[0]), rng.normal(0, 2), 1)
    rgba = cv2.warpAffine(rgba, turn, rgba.shape[1::-1])
    rgba = _blur_motion(rgba, smear)
    colour = np.clip(_fur(rng, rgba[..., :3]), 0, rgba[..., 3:])
    top = round(ground_row(horizon, distance)) - rows - 3
    left = round(column - rgba.shape[1] / 2)
    return Layer(colour, rgba[..., 3:], top, left, distance)


def _fur(rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    """Muted colours, grain, and a belly darker than the back."""
    height, width = colour.shape[:2]
    grey = colour.mean(axis=-1, keepdims=True)
    grain = cv2.GaussianBlur(rng.standard_normal((height, width), dtype=np.float32), (0, 0), 1.5)
    light = np.linspace(1.1, 0.7, height, dtype=np.float32)[:, None] * (1 + 0.35 * grain)
    return (grey + 0.55 * (colour - grey)) * 0.85 * light[..., None]


def _blur_motion(rgba: np.ndarray, smear: float) -> np.ndarray:
    """Blurs along the way that the animal goes during the exposure."""
    length = round(smear)
    return rgba if length < 2 else cv2.blur(rgba, (length, 1), borderType=cv2.BORDER_CONSTANT)
