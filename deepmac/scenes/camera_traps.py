"""A camera-trap collection to try things with: places by day and night, passing animals, and the truth.

A picture is built of layers, the farthest first: RGBA, float32 [HEIGHT, WIDTH, 4], 0..1, colours
premultiplied with alpha. Lengths and distances from the camera are in metres, positions in pixels.
"""

import datetime
import itertools
import json
import math
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import yaml
from PIL import Image, ImageDraw, ImageFont

from deepmac.core.files import atomic_folder
from deepmac.core.label_images import write_label_image
from deepmac.scenes.artwork import CREDITS, artworks
from deepmac.scenes.backgrounds import picture_path, smooth_noise
from deepmac.scenes.pyramid import Pyramid, build_pyramid
from deepmac.scenes.sprites import render

HEIGHT, WIDTH = 480, 640
LABEL = "COMPOSED - NOT A PHOTOGRAPH"
TRUTH_FOLDER = "composed_masks"

_STRIP = 18  # rows at the bottom that the camera writes on
_METRE = 430.0  # pixels that a metre fills at a distance of one metre
_CAMERA_HEIGHT = 0.8
_FARTHEST = 60.0  # the sky counts as that far
_ROWS, _COLUMNS = np.arange(HEIGHT, dtype=np.float32)[:, None], np.arange(WIDTH, dtype=np.float32)

_TABLE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
HABITATS, SPECIES = _TABLE["habitats"], _TABLE["species"]
CAMERAS = [(split, habitat) for split, habitats in _TABLE["cameras"].items() for habitat in habitats]


class Animal(NamedTuple):
    """An animal: `column` is where its middle is at first, `speed` in metres a second, to the right."""

    drawing: Pyramid  # of RGBA, uint8, that looks to the left
    height: float
    distance: float
    column: float
    speed: float


class Place:
    """A place, seen from a camera that does not move; the same generator state draws the same place."""

    def __init__(self, rng: np.random.Generator, habitat: dict):
        """Draws what is there without animals: one of `HABITATS`."""
        self._horizon = HEIGHT * rng.uniform(0.32, 0.42)
        below = np.maximum(_ROWS - self._horizon, 1e-3)
        self._distances = np.minimum(_METRE * _CAMERA_HEIGHT / below, _FARTHEST)  # of the ground: (HEIGHT, 1)
        self._backdrop = self._draw_backdrop(rng, habitat)  # (HEIGHT, WIDTH, 3)
        self._plants = list(self._draw_plants(rng, habitat))

    def photograph(
        self, rng: np.random.Generator, animals: Sequence[Animal], hour: float, second: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Takes a picture at an hour of the day, some seconds after the animals were where they are at first.

        Returns:
            uint8 RGB [HEIGHT, WIDTH, 3]; and which animal, from 1, a pixel shows: uint8 [HEIGHT, WIDTH].
        """
        layers = [(distance, 0, layer) for distance, layer in self._plants]
        for number, animal in enumerate(animals, start=1):
            layers.append((animal.distance, number, self._draw_animal(rng, animal, second)))
        picture, distances = self._backdrop.copy(), np.repeat(self._distances, WIDTH, axis=1)
        owner = np.zeros((HEIGHT, WIDTH), np.uint8)
        for distance, number, layer in sorted(layers, key=lambda entry: -entry[0]):
            alpha = layer[..., 3]
            if number:  # its shadow is its flattened shape
                flat = np.array([[1, 0, 0], [0, 0.1, 0.9 * self._foot(distance)]])
                shadow = cv2.blur(cv2.warpAffine(alpha, flat, (WIDTH, HEIGHT)), (25, 9))
                picture *= 1 - (0.15 if _is_night(hour) else 0.5) * shadow[..., None]
            picture = picture * (1 - alpha[..., None]) + layer[..., :3]
            owner[alpha > 0.5], distances[alpha > 0.5] = number, distance
        owner[HEIGHT - _STRIP :] = 0
        return _develop(rng, picture, distances, hour), owner

    def _foot(self, distance: float) -> float:
        """The row of the ground at a distance."""
        return self._horizon + _METRE * _CAMERA_HEIGHT / distance

    def _draw_backdrop(self, rng: np.random.Generator, habitat: dict) -> np.ndarray:
        """Sky, hills, and ground with a texture in perspective; float32 [HEIGHT, WIDTH, 3]."""
        sky, plants = np.float32(habitat["sky"]), np.float32(habitat["plants"])
        picture = np.tile(sky, (HEIGHT, WIDTH, 1))
        for near in (0.35, 0.65, 0.9):
            ridge = self._horizon - (1.05 - near) * HEIGHT * 0.3 * smooth_noise(rng, 1, WIDTH, 7)
            picture[ridge < _ROWS] = near * plants + (1 - near) * sky
        with Image.open(picture_path(habitat["texture"])) as texture:
            grain = np.asarray(texture.convert("L"), np.float32) / 128 - 1
        x = 110 * self._distances * (_COLUMNS / WIDTH - 0.5) * WIDTH / _METRE + 500 * rng.random()
        y = np.broadcast_to(110 * self._distances, x.shape) + 500 * rng.random()
        grain = cv2.remap(grain, np.float32(x), np.float32(y), cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT)
        grain *= np.clip(5 / self._distances, 0, 1)  # far away a pixel shows the mean of many grains
        ground = np.float32(habitat["ground"]) * (1 + 0.5 * grain[..., None])
        overgrown = np.clip(3 * smooth_noise(rng, HEIGHT, WIDTH, 9) - 1.3, 0, 0.7)[..., None]
        border = np.clip((_ROWS[..., None] - self._horizon) / 4, 0, 1)
        return picture + border * (ground + overgrown * (plants - ground) - picture)

    def _draw_plants(self, rng: np.random.Generator, habitat: dict) -> Iterator[tuple[float, np.ndarray]]:
        """Yields distances and layers: trunks, bushes, leaves overhead, and blades of grass in front."""
        for distance in rng.uniform(2.5, 14.0, habitat["trees"]):
            height = _ROWS / self._foot(distance)  # 0 at the top of the picture, 1 at the foot
            radius = rng.uniform(0.08, 0.18) * _METRE / distance * (1 + 0.5 * np.minimum(height, 1) ** 12)
            bend = 0.5 * radius * smooth_noise(rng, HEIGHT, 1, 6)
            across = (_COLUMNS - rng.uniform(-0.05, 1.05) * WIDTH - bend) / radius  # -1 to 1
            alpha = np.clip((1 - np.abs(across)) * radius / 2, 0, 1) * (height <= 1)
            light = alpha * (1 - 0.4 * across**2) * (0.7 + 0.6 * smooth_noise(rng, 1, WIDTH, 120))
            yield distance, np.float32(np.stack([0.3 * light, 0.25 * light, 0.18 * light, alpha], axis=-1))
        for distance in rng.uniform(4.0, 20.0, habitat["bushes"]):
            size = rng.uniform(0.5, 1.3) * _METRE / distance
            angles, radii = rng.uniform(-math.pi, 0.2, 260), 0.7 * size * np.sqrt(rng.random((260, 1)))
            foot = (rng.uniform(-0.1, 1.1) * WIDTH, self._foot(distance))
            centres = foot + radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            yield distance, _leaves(rng, habitat, centres, rng.uniform(0, 180, 260), 0.05 * size, 0.02 * size)
        centres = rng.random((habitat["leaves"], 2)) ** (1.0, 1.7) * (WIDTH, 0.3 * HEIGHT)
        yield 8.0, _leaves(rng, habitat, centres, rng.uniform(0, 180, habitat["leaves"]), 9, 4)
        feet = rng.random((habitat["blades"], 2)) * (WIDTH, 9) + (0, HEIGHT)
        yield 1.2, _leaves(rng, habitat, feet, rng.normal(90, 20, habitat["blades"]), 60, 2)

    def _draw_animal(self, rng: np.random.Generator, animal: Animal, second: int) -> np.ndarray:
        """An animal that stands on the ground and looks where it goes."""
        metre, foot = _METRE / animal.distance, self._foot(animal.distance)
        rows, columns = animal.drawing.shape
        linear = animal.height * metre / rows * np.diag([-1 if animal.speed > 0 else 1, 1])
        offset = (animal.column + animal.speed * second * metre, foot) - linear @ (columns / 2, rows)
        matrix = np.column_stack([linear, offset])
        layer = animal.drawing.warp(matrix, HEIGHT, WIDTH, cv2.BORDER_CONSTANT) / 255
        # Fur: muted colours, grain, and a belly darker than the back.
        grey = layer[..., :3].mean(axis=-1, keepdims=True)
        grain = cv2.GaussianBlur(rng.standard_normal((HEIGHT, WIDTH), dtype=np.float32), (0, 0), 1.5)
        light = np.interp(_ROWS, [foot - animal.height * metre, foot], [0.95, 0.6]) * (1 + 0.35 * grain)
        layer[..., :3] = (grey + 0.55 * (layer[..., :3] - grey)) * light[..., None]
        return np.clip(layer, 0, layer[..., 3:])


def _leaves(
    rng, habitat: dict, centres: np.ndarray, angles: np.ndarray, length: float, width: float
) -> np.ndarray:
    """A layer of ellipses at `centres` [N, 2] (x, y), turned by `angles` [N] in degrees; half axes vary."""
    layer = np.zeros((HEIGHT, WIDTH, 4), np.float32)
    for centre, angle in zip(centres, angles, strict=True):
        axes = np.maximum(1, rng.uniform(0.5, 1.4) * np.array([length, width]))
        rgba = (*(rng.uniform(0.5, 1.25) * np.array(habitat["plants"])), 1.0)
        cv2.ellipse(layer, np.round(centre).astype(int), np.round(axes).astype(int), angle, 0, 360, rgba, -1)
    return cv2.GaussianBlur(layer, (0, 0), 0.8)


def _is_night(hour: float) -> bool:
    return not 6 <= hour < 19


def _develop(rng: np.random.Generator, picture: np.ndarray, distances: np.ndarray, hour: float) -> np.ndarray:
    """Lights what is there, float [HEIGHT, WIDTH, 3], and adds the camera's grain: uint8, grey by night."""
    if _is_night(hour):
        # By the infra-red flash, bright near by. Plants and fur reflect it, whatever their colour.
        reflected = 0.22 + 0.6 * picture @ np.float32([0.5, 0.4, 0.1])
        beam = np.exp(-0.7 * (2 * _COLUMNS / WIDTH - 1) ** 2 - 0.5 * (2 * _ROWS / HEIGHT - 1.2) ** 2)
        reach = np.minimum(1.25, (3.5 / distances) ** 1.5)
        picture, grain = (reflected * beam * reach + 0.02) ** 0.8, 0.06
    else:
        brightness = np.clip(1.8 * math.sin(math.pi * (hour - 6) / 13), 0.45, 1.0)
        haze = 0.35 / _FARTHEST * distances[..., None]
        picture = picture + haze * (np.float32([0.75, 0.8, 0.85]) - picture)
        grey = picture.mean(axis=-1, keepdims=True)
        colourful = grey + (0.45 + 0.55 * brightness) * (picture - grey)
        picture, grain = colourful * (0.35 + 0.65 * brightness), 0.07 - 0.04 * brightness
    noise = rng.standard_normal(picture.shape, dtype=np.float32)
    picture = cv2.GaussianBlur(picture, (0, 0), 0.7) + grain * cv2.GaussianBlur(noise, (0, 0), 0.7)
    pixels = np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)
    return pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1)


def compose_sample(folder: str | os.PathLike, sequences: int = 8, seed: int = 0) -> Path:
    """Composes a collection in the format of iWildCam 2022, without instance masks; returns its folder.

    Beside what a release has, `composed_masks/<ID>.png` says, as instance masks do, which pixels show the
    detected animals in truth.

    Args:
        folder: to write; new or empty.
        sequences: bursts of pictures at each of the six cameras.
        seed: same seed, same collection.
    """
    rng = np.random.default_rng(seed)
    ids = (str(uuid.UUID(bytes=rng.bytes(16))) for _ in itertools.count())
    names = ["empty", *(species["name"] for species in SPECIES)]
    info = {"description": f"{LABEL}. {' '.join(CREDITS)}"}
    document = {"info": info, "categories": [{"id": k, "name": name} for k, name in enumerate(names)]}
    documents = {split: document | {"images": [], "annotations": []} for split in ("train", "test")}
    detections: dict = {"info": {"format_version": "1.4"}, "images": []}
    detections["detection_categories"] = {"1": "animal", "2": "person", "3": "vehicle"}
    counts = "seq_id,count\n"
    with atomic_folder(folder) as root:
        for name in (*documents, "metadata"):
            (root / name).mkdir()
        for location, (split, habitat) in enumerate(CAMERAS, start=1):
            place = Place(rng, HABITATS[habitat])
            for days in np.sort(rng.uniform(0, 60, sequences)).tolist():
                hour, sequence, frames = days % 1 * 24, next(ids), int(rng.integers(1, 5))
                species, animals = _visitors(rng, habitat, hour)
                category = names.index(species["name"] if animals else "empty")
                if split == "train" and rng.random() < 0.6:  # people counted the animals of some
                    counts += f"{sequence},{len(animals)}\n"
                for frame in range(frames):
                    image_id = next(ids)
                    time = datetime.datetime(2022, 3, 1) + datetime.timedelta(days=days, seconds=frame)
                    pixels, owner = place.photograph(rng, animals, hour, frame)
                    boxes, truth = _detect(rng, owner, len(animals), species.get("detected_as", "1"))
                    detections["images"].append({"file": f"{split}/{image_id}.jpg", "detections": boxes})
                    write_label_image(root / TRUTH_FOLDER / f"{image_id}.png", truth)
                    text = f"{time:%Y-%m-%d %H:%M:%S}   CAM {location}"
                    _write_picture(root / split / f"{image_id}.jpg", pixels, text)
                    image = {"id": image_id, "file_name": f"{image_id}.jpg", "width": WIDTH, "height": HEIGHT}
                    image |= {"location": location, "datetime": time.isoformat(" ", "milliseconds")}
                    image |= {"seq_id": sequence, "seq_num_frames": frames, "frame_num": frame}
                    annotation = {"id": next(ids), "image_id": image_id, "category_id": category}
                    documents[split]["images"].append(image | {"rights_holder": LABEL})
                    documents[split]["annotations"].append(annotation)
        del documents["test"]["annotations"]
        for split, name in (("train", "train_annotations"), ("test", "test_information")):
            (root / f"metadata/iwildcam2022_{name}.json").write_text(json.dumps(documents[split], indent=1))
        (root / "metadata/train_sequence_counts.csv").write_text(counts)
        (root / "metadata/iwildcam2022_mdv4_detections.json").write_text(json.dumps(detections, indent=1))
    return Path(folder)


def _visitors(rng: np.random.Generator, habitat: str, hour: float) -> tuple[dict, list[Animal]]:
    """Draws up to three animals of a species that go the same way; none when something else moved."""
    residents = [species for species in SPECIES if habitat in species["habitats"]]
    chances = np.array([abs(species["nocturnal"] - (not _is_night(hour))) for species in residents])
    species = residents[rng.choice(len(residents), p=chances / chances.sum())]
    drawings, way = artworks(species["drawings"]), rng.choice([-1, 1])
    drawing = build_pyramid(render(drawings[rng.integers(len(drawings))].variants[0], 320))
    animals = [
        Animal(
            drawing,
            height=species["height"] * rng.uniform(0.8, 1.1),
            distance=max(1.6, 2 * species["height"]) * rng.uniform(1.0, 2.2),
            column=WIDTH * (0.5 - way * rng.uniform(-0.1, 0.4)),
            speed=way * rng.uniform(0.1, 0.8),
        )
        for _ in range(rng.choice(4, p=[0.15, 0.5, 0.2, 0.15]))
    ]
    return species, animals


def _write_picture(path: Path, pixels: np.ndarray, text: str) -> None:
    """Writes a picture with the camera's line under it, which also says that it is none."""
    picture = Image.fromarray(pixels)
    draw, font, row = ImageDraw.Draw(picture), ImageFont.load_default(12), HEIGHT - _STRIP / 2
    draw.rectangle((0, HEIGHT - _STRIP, WIDTH, HEIGHT), fill=(12, 12, 12))
    draw.text((6, row), text, (225, 225, 225), font, anchor="lm")
    draw.text((WIDTH - 6, row), LABEL, (255, 190, 90), font, anchor="rm")
    picture.save(path, quality=88, comment=LABEL)


def _detect(
    rng: np.random.Generator, owner: np.ndarray, animals: int, category: str
) -> tuple[list, np.ndarray]:
    """What a detector would find: a few animals are missed, and boxes are some hundredths of their size off.

    Returns:
        The detections as in MegaDetector's JSON, the most confident first, and the label image.
    """
    found = []
    for number in range(1, animals + 1):
        rows, columns = (owner == number).nonzero()
        if len(rows) < 40 or rng.random() < 0.04:
            continue
        corners = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)
        corners += rng.normal(0, 0.015, 4) * np.tile(corners[2:] - corners[:2], 2)
        corners = np.clip(corners / [WIDTH, HEIGHT, WIDTH, HEIGHT], 0, 1)
        confidence = np.clip(rng.normal(0.35 + 0.1 * np.log10(len(rows)), 0.1), 0.15, 0.999)
        found.append((confidence, number, category, [*corners[:2], *(corners[2:] - corners[:2])]))
    if rng.random() < 0.12:  # something that is no animal
        box = [*rng.uniform(0, 0.7, 2), *rng.uniform(0.05, 0.25, 2)]
        found.append((rng.uniform(0.1, 0.15), 255, "1", box))
    truth, detections = np.zeros_like(owner), []
    for confidence, number, kind, box in sorted(found, reverse=True):
        conf = float(round(confidence, 3))
        detections.append({"category": kind, "bbox": np.round(box, 4).tolist(), "conf": conf})
        truth[owner == number] = len(detections)
    return detections, truth
