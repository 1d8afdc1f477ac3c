"""Composes the sample: bursts of pictures at several places, metadata, and detections as a detector gives."""

import dataclasses
import datetime
import json
import os
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deepmac.core.files import atomic_folder
from deepmac.core.label_images import write_label_image
from deepmac.data.megadetector import Detections, write_detections
from deepmac.scenes.artwork import CREDITS
from deepmac.scenes.camera_traps.animals import SPECIES, Species, animal_layer
from deepmac.scenes.camera_traps.scenery import HABITATS, Scenery
from deepmac.scenes.camera_traps.view import HEIGHT, WIDTH, daylight, infrared, pixels_per_metre

# Split -> habitats of its cameras: as in iWildCam, no camera is in both.
LOCATIONS = {"train": ("savanna", "forest", "meadow", "scrub"), "test": ("savanna", "forest")}
TRUTH_FOLDER = "composed_masks"
LABEL = "COMPOSED - NOT A PHOTOGRAPH"

_STRIP = 18  # rows at the bottom that the camera writes on
_MOST_FRAMES = 4
_EMPTY_SEQUENCES = 0.15  # probability: something else set the camera off
_MISSED = 0.04  # probability that the detector misses an animal
_FALSE_ALARM = 0.12  # probability of a weak detection where nothing is
_FEWEST_PIXELS = 40  # of an animal that counts as seen
_COUNTED = 0.6  # probability that people counted the animals of a training sequence
_FIRST_DAY = datetime.datetime(2022, 3, 1)


@dataclasses.dataclass
class _Animal:
    """One animal of a sequence; `column` is that of the first frame, `speed` is in metres a second."""

    drawing: tuple[str, str]
    height: float
    distance: float
    column: float
    speed: float


class _Sequence(NamedTuple):
    """A burst: its id, when it began, whether the flash was on, its species (None: empty) and animals."""

    id: str
    time: datetime.datetime
    is_night: bool
    species: Species | None
    animals: list[_Animal]
    frames: int


class _Frame(NamedTuple):
    """A picture, uint8 RGB, and visible masks, bool [N, H, W], of its animals."""

    picture: np.ndarray
    masks: np.ndarray


def compose_sample(folder: str | os.PathLike, sequences: int = 8, seed: int = 0) -> Path:
    """Composes a collection in the format of iWildCam 2022, without instance masks.

    Beside what a release has, `composed_masks/<ID>.png` says, as instance masks do, which pixels show the
    detected animals in truth.

    Args:
        folder: to write; new or empty.
        sequences: bursts of pictures at each of the six cameras.
        seed: same seed, same collection.

    Returns:
        The folder.
    """
    names = sorted({species.name for species in SPECIES})
    category_ids = {"empty": 0} | {name: number for number, name in enumerate(names, start=1)}
    categories = [{"id": number, "name": name} for name, number in category_ids.items()]
    rng = np.random.default_rng(seed)
    detections = Detections(categories={"1": "animal", "2": "person", "3": "vehicle"})
    counts: list[tuple[str, int]] = []
    with atomic_folder(folder) as root:
        location = 0
        for split, habitats in LOCATIONS.items():
            images: list[dict[str, Any]] = []
            annotations: list[dict[str, Any]] = []
            (root / split).mkdir()
            for habitat in habitats:
                location += 1
                place = Scenery(rng, HABITATS[habitat])
                for sequence in _sequences(rng, habitat, sequences):
                    entries = _write_sequence(rng, root, split, location, place, sequence, detections)
                    images += entries
                    category = category_ids[sequence.species.name if sequence.species else "empty"]
                    annotations += [_annotation(rng, entry["id"], category) for entry in entries]
                    if split == "train" and rng.random() < _COUNTED:
                        counts.append((sequence.id, len(sequence.animals)))
            _write_metadata(root / "metadata", split, images, categories, annotations)
        write_detections(root / "metadata" / "iwildcam2022_mdv4_detections.json", detections)
        table = "".join(f"{sequence},{count}\n" for sequence, count in counts)
        (root / "metadata" / "train_sequence_counts.csv").write_text(f"seq_id,count\n{table}")
    return Path(folder)


def _sequences(rng: np.random.Generator, habitat: str, count: int) -> list[_Sequence]:
    """What comes by at a camera, in the order of time."""
    residents = [species for species in SPECIES if habitat in species.habitats]
    days = np.sort(rng.integers(0, 60, count))
    found = []
    for day in days.tolist():
        species = None if rng.random() < _EMPTY_SEQUENCES else residents[rng.integers(len(residents))]
        is_night = rng.random() < (species.nocturnal if species else 0.4)
        hour = (rng.uniform(20, 29) if is_night else rng.uniform(7, 18)) % 24
        time = _FIRST_DAY + datetime.timedelta(days=day, hours=hour)
        animals = _herd(rng, species) if species else []
        found.append(
            _Sequence(_id(rng), time, is_night, species, animals, int(rng.integers(1, _MOST_FRAMES + 1)))
        )
    return sorted(found, key=lambda sequence: sequence.time)


def _herd(rng: np.random.Generator, species: Species) -> list[_Animal]:
    """Animals that go the same way."""
    way = rng.choice([-1, 1])
    drawing = species.drawings[rng.integers(len(species.drawings))]
    nearest = max(1.6, 2.0 * species.height)
    herd = []
    for _ in range(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15])):
        distance = nearest * rng.uniform(1.0, 2.2)
        speed = way * rng.uniform(0.1, 0.8)
        column = WIDTH * (0.5 - way * rng.uniform(-0.1, 0.4))
        herd.append(_Animal(drawing, species.height * rng.uniform(0.8, 1.1), distance, column, speed))
    return herd


def _write_sequence(
    rng: np.random.Generator,
    root: Path,
    split: str,
    location: int,
    place: Scenery,
    sequence: _Sequence,
    detections: Detections,
) -> list[dict[str, Any]]:
    """Writes the pictures of a sequence and adds their detections; returns the metadata of the pictures."""
    entries = []
    temperature = round(rng.normal(12 if sequence.is_night else 24, 3))
    for number in range(sequence.frames):
        time = sequence.time + datetime.timedelta(seconds=number)
        frame = _frame(rng, place, sequence, number)
        picture = _with_strip(frame.picture, f"{time:%Y-%m-%d %H:%M:%S}   CAM {location}   {temperature} C")
        image_id = _id(rng)
        picture.save(root / split / f"{image_id}.jpg", quality=88, comment=LABEL)
        category = sequence.species.detection_category if sequence.species else "1"
        rows, truth = _detect(rng, frame.masks, category)
        detections.add(f"{split}/{image_id}.jpg", rows)
        write_label_image(root / TRUTH_FOLDER / f"{image_id}.png", truth)
        entries.append(
            {
                "id": image_id,
                "width": WIDTH,
                "height": HEIGHT,
                "file_name": f"{image_id}.jpg",
                "rights_holder": LABEL,
                "location": location,
                "datetime": f"{time:%Y-%m-%d %H:%M:%S}.000",
                "seq_id": sequence.id,
                "seq_num_frames": sequence.frames,
                "frame_num": number,
            }
        )
    return entries


def _frame(rng: np.random.Generator, place: Scenery, sequence: _Sequence, second: int) -> _Frame:
    layers = []
    for animal in sequence.animals:
        column = animal.column + animal.speed * second * pixels_per_metre(animal.distance)
        exposure = 0.12 if sequence.is_night else 0.02  # seconds
        layers.append(
            animal_layer(
                rng,
                animal.drawing,
                animal.height,
                animal.distance,
                column,
                animal.speed * exposure,
                place.horizon,
            )
        )
    canvas = place.with_animals(layers, shadow=0.15 if sequence.is_night else 0.5)
    canvas.owner[HEIGHT - _STRIP :] = 0
    masks = np.stack([canvas.owner == k for k in range(1, len(layers) + 1)]) if layers else []
    if sequence.is_night:
        return _Frame(infrared(rng, canvas), np.array(masks))
    hours = sequence.time.hour + sequence.time.minute / 60
    brightness = float(np.clip(1.8 * np.sin(np.pi * (hours - 6) / 13), 0.45, 1.0))
    return _Frame(daylight(rng, canvas, brightness), np.array(masks))


def _with_strip(picture: np.ndarray, text: str) -> Image.Image:
    """Writes the camera's line under a picture, and that it is none."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, HEIGHT - _STRIP, WIDTH, HEIGHT), fill=(12, 12, 12))
    font, row = ImageFont.load_default(12), HEIGHT - _STRIP / 2
    draw.text((6, row), text, (225, 225, 225), font, anchor="lm")
    draw.text((WIDTH - 6, row), LABEL, (255, 190, 90), font, anchor="rm")
    return image


def _detect(rng: np.random.Generator, masks: np.ndarray, category: str):
    """What a detector would find, the most confident first: boxes a little off, and which pixels are whose.

    Returns:
        (bbox, category, confidence) of each detection, and the label image.
    """
    found = []
    for mask in masks:
        pixels = np.count_nonzero(mask)
        if pixels < _FEWEST_PIXELS or rng.random() < _MISSED:
            continue
        confidence = float(np.clip(rng.normal(0.55 + 0.1 * np.log10(pixels / 100), 0.1), 0.15, 0.999))
        found.append((_box(rng, mask), category, round(confidence, 3), mask))
    if rng.random() < _FALSE_ALARM:
        corner, size = rng.uniform(0, 0.7, 2), rng.uniform(0.05, 0.25, 2)
        box = [round(float(value), 4) for value in (*corner, *size)]
        found.append((box, "1", round(rng.uniform(0.1, 0.3), 3), np.zeros((HEIGHT, WIDTH), bool)))
    found.sort(key=lambda detection: -detection[2])
    truth = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number, (*_, mask) in enumerate(found, start=1):
        truth[mask] = number
    return [detection[:3] for detection in found], truth


def _box(rng: np.random.Generator, mask: np.ndarray) -> list[float]:
    """The box of a mask, each edge off by some hundredths of its size; (xmin, ymin, width, height)."""
    (rows,), (columns,) = mask.any(axis=1).nonzero(), mask.any(axis=0).nonzero()
    corners = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)
    corners += rng.normal(0, 0.015, 4) * np.tile(corners[2:] - corners[:2], 2)
    corners = np.clip(corners / [WIDTH, HEIGHT, WIDTH, HEIGHT], 0, 1)
    return [round(float(value), 4) for value in (*corners[:2], *(corners[2:] - corners[:2]))]


def _annotation(rng: np.random.Generator, image_id: str, category_id: int) -> dict[str, Any]:
    return {"id": _id(rng), "image_id": image_id, "category_id": category_id}


def _id(rng: np.random.Generator) -> str:
    return str(uuid.UUID(bytes=rng.bytes(16)))


def _write_metadata(folder: Path, split: str, images, categories, annotations) -> None:
    """Writes `iwildcam2022_train_annotations.json` or, without annotations, `..._test_information.json`."""
    document = {"info": {"description": f"{LABEL}. {' '.join(CREDITS)}"}, "images": images}
    document["categories"] = categories
    if split == "train":
        document["annotations"] = annotations
    name = "train_annotations" if split == "train" else "test_information"
    folder.mkdir(exist_ok=True)
    (folder / f"iwildcam2022_{name}.json").write_text(json.dumps(document, indent=1))
