"""Detections in the pictures of camera traps, held in columns, from the files of several programs.

MegaDetector's JSON (https://lila.science/megadetector-output-format) has variants that differ in how they
name pictures: iWildCam 2021 by `id`; iWildCam 2022 by `file`, `train/<ID>.jpg`; today's batch output and
animl by `file`, any path; SpeciesNet by `filepath`. Tables become the same by `deepmac.data.trap_tables`. The
order of a picture's detections means something: instance masks refer to them by number.
"""

import dataclasses
import math
import os
import sys
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepmac.core.errors import InputError
from deepmac.data import trap_tables
from deepmac.data.documents import load_json
from deepmac.data.flaws import LOST
from deepmac.data.numbers import number

# The median box of a file in normalised coordinates lies far below, that of a file in pixels far above.
_LARGEST_NORMALIZED = 2
EXPECTED_BOX = "[xmin, ymin, width, height] from 0 to 1"
_NAMED_BY = ("file", "filepath", "id")  # fields that name a picture; the second is SpeciesNet's
_SPECIESNET_CATEGORIES = {"1": "animal", "2": "human", "3": "vehicle"}
_NO_BOX = [math.nan] * 4
_TWICE = f"pictures that are listed again {LOST}"
_NAMELESS = f"entries of pictures without a name {LOST}"
_UNKNOWN = "0"  # category of detections without one
# What files may say of a picture -> what it is called here. SpeciesNet's prediction ends with a name.
_FACTS = {"datetime": "time", "location": "camera", "seq_id": "sequence", "prediction": "species"}
_FACTS |= {"failure": "failure"}


@dataclasses.dataclass(frozen=True, eq=False)
class PictureDetections:
    """The detections of one picture, in the order of the file: the k-th is number k, from 1.

    Boxes are as in the file, of MegaDetector normalised to the picture; the properties are about these.
    """

    name: str  # a path with forward slashes, or an id
    boxes: np.ndarray  # float64 [N, 4]: xmin, ymin, width, height
    confidences: np.ndarray  # float64 [N]; NaN for boxes without one
    categories: list[str]  # N ids of detection categories
    species: list[str]  # N names, "" where the file has none

    def __len__(self):
        return len(self.boxes)

    @property
    def exact_corners(self) -> np.ndarray:
        """float64 [N, 4], the boxes as (ymin, xmin, ymax, xmax) normalised; sides may run backwards."""
        xmin, ymin, width, height = self.boxes.T
        start, end = np.array([ymin, xmin]), np.array([ymin + height, xmin + width])
        return np.concatenate([np.minimum(start, end), np.maximum(start, end)]).T

    @property
    def corners(self) -> np.ndarray:
        """float64 [N, 4], as `exact_corners`, clipped to the picture."""
        return np.clip(self.exact_corners, 0, 1)

    @property
    def usable(self) -> np.ndarray:
        """bool [N]: which boxes are finite and cover a part of the picture."""
        ymin, xmin, ymax, xmax = self.corners.astype(np.float32).T
        return np.isfinite(self.boxes).all(axis=1) & (ymax > ymin) & (xmax > xmin)


class Detections(Sequence):
    """The detections of many pictures, by the number of the picture; 56 bytes a detection."""

    def __init__(self, named_by: str = "file", categories: dict[str, str] | None = None):
        """Makes an empty table, to be added to."""
        self.names: list[str] = []  # of the pictures: paths with forward slashes, or ids
        self.named_by = named_by  # "file" or "id", what the file calls the name
        self.categories = categories if categories is not None else {"1": "animal"}  # id -> name
        self.species: dict[str, str] = {}  # id of a classification -> name
        # Number of a picture -> what the file says of it: "time", "camera", "sequence", "species", "failure".
        self.facts: dict[int, dict[str, Any]] = {}
        self.lost: dict[str, list[str]] = {}  # kind of entries that were left out -> a text for each
        self._known: set[str] = set()
        self._ends = array("q")  # number of detections up to and with each picture
        self._boxes, self._confidences = array("d"), array("d")
        self._categories: list[str] = []
        self._species: list[str] = []

    @classmethod
    def of_images(cls, images: trap_tables.Images, categories: dict[str, str]) -> "Detections":
        """A table of images as readers of `trap_tables` give them."""
        table = cls(categories=categories)
        for image in images:
            table.add_image(image["file"], image)
        return table

    def add(self, name: str, detections: Iterable[tuple], facts: dict[str, Any] | None = None) -> None:
        """Adds a picture: (bbox, category, conf) of each detection, and the id of its species if known.

        Of pictures that are added twice the first stays. Those called "" are not known to be the same.
        """
        if name in self._known:
            self.lost.setdefault(_TWICE, []).append(name)
            return
        if name:
            self._known.add(name)
        for box, category, confidence, *classes in detections:
            self._boxes.extend(map(float, box))
            self._confidences.append(float(confidence))
            self._categories.append(sys.intern(str(category)))
            self._species.append(sys.intern(str(classes[0]) if classes else ""))
        if facts:
            self.facts[len(self.names)] = facts
        self.names.append(name)
        self._ends.append(len(self._confidences))

    def add_image(self, name: str, image: dict[str, Any]) -> None:
        """Adds a picture as an image of MegaDetector's JSON holds it, or of SpeciesNet's with `failures`."""
        found = image.get("detections")
        if not isinstance(found, list):
            reasons = image.get("failures") or image.get("failure") or "it has no list of detections"
            reasons = reasons if isinstance(reasons, list) else [reasons]
            image, found = image | {"failure": ", ".join(map(str, reasons))}, []
        facts = {fact: str(image[field]).split(";")[-1] for field, fact in _FACTS.items() if image.get(field)}
        self.add(name.replace("\\", "/"), map(_detection, found), facts)

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index: int) -> PictureDetections:
        index = range(len(self))[index]
        start, end = self._ends[index - 1] if index > 0 else 0, self._ends[index]
        boxes = np.array(self._boxes[4 * start : 4 * end]).reshape(-1, 4)
        confidences, categories = np.array(self._confidences[start:end]), self._categories[start:end]
        species = [self.species.get(one, one) for one in self._species[start:end]]
        return PictureDetections(self.names[index], boxes, confidences, categories, species)

    @property
    def found_categories(self) -> list[str]:
        """Ids of the categories that were detected."""
        return list(dict.fromkeys(self._categories))

    @property
    def is_scored(self) -> np.ndarray:
        """bool, for every detection: whether it has a confidence."""
        return ~np.isnan(self._confidences)

    @property
    def in_pixels(self) -> bool:
        """Whether the boxes seem to be in pixels instead of normalised."""
        largest = np.abs(np.array(self._boxes).reshape(-1, 4)).max(axis=1, initial=0)
        largest = largest[np.isfinite(largest)]
        return len(largest) > 0 and bool(np.median(largest) > _LARGEST_NORMALIZED)


def read_detections(path: str | os.PathLike, image_dir: Path | None = None) -> Detections:
    """Reads the detections of a collection; pictures the detector failed on have none.

    That is JSON of MegaDetector, SpeciesNet, PytorchWildlife, animl or a release, animl's CSV, or
    `datapackage.json`. PytorchWildlife's boxes are in pixels of the pictures, so that it needs their folder.

    Raises:
        InputError: no such file, another format, no picture with a name, boxes in pixels.
    """
    path = Path(path)
    document = None if path.suffix.lower() in trap_tables.TABLES else read_json(path)
    if isinstance(document, Detections):
        return document
    if document is None:
        images, categories = trap_tables.read_animl(path)
    elif isinstance(document, dict) and isinstance(document.get("resources"), list):
        images, categories = trap_tables.read_camtrap_dp(path, document["resources"])
    elif image_dir is not None and trap_tables.is_pytorch_wildlife(document):
        images, categories = trap_tables.read_pytorch_wildlife(document, image_dir)
    else:
        raise InputError(
            f"{path} has no detections of pictures: give results of MegaDetector, SpeciesNet or "
            "PytorchWildlife (.json), of animl (.json, .csv), or Camtrap DP (datapackage.json)"
        )
    return Detections.of_images(images, categories)


def read_json(path: str | os.PathLike) -> Any:
    """Reads a JSON file: `Detections` if it is MegaDetector's, anything else as it is.

    Detections go into columns as soon as they are parsed: as Python objects they would take ten times the
    memory.

    Raises:
        InputError: no such file, not JSON; of MegaDetector no picture with a name, or boxes in pixels.
    """
    table = Detections()

    def collect(item: dict[str, Any]) -> dict[str, Any] | None:
        """Called with every dictionary, innermost first; moves pictures into the table."""
        is_image = {"detections", "failure", "failures"} & item.keys()
        return None if is_image and add(item) else item

    def add(image: Any) -> bool:
        """Adds a picture, if it has a name."""
        fields = image if isinstance(image, dict) else {}
        named_by = next((field for field in _NAMED_BY if fields.get(field) not in (None, "")), None)
        if named_by:
            if not table:  # the first one tells of all
                table.named_by = "id" if named_by == "id" else "file"
            table.add_image(str(image[named_by]), image)
        return bool(named_by)

    document = load_json(path, object_hook=collect)
    if isinstance(document, dict) and "predictions" in document:  # of SpeciesNet
        document = {"images": document["predictions"], "detection_categories": _SPECIESNET_CATEGORIES}
    sections = document if isinstance(document, dict) else {}
    if not (
        isinstance(sections.get("images"), list) and isinstance(sections.get("detection_categories"), dict)
    ):
        return document
    nameless = [n for n, image in enumerate(document["images"]) if image is not None and not add(image)]
    if nameless and not table:
        raise InputError(f"{path}: image {nameless[0]} is malformed: it has no file or id")
    if nameless:
        table.lost[_NAMELESS] = [f"image {number}" for number in nameless]
    table.categories = {str(key): str(name) for key, name in document["detection_categories"].items()}
    if _UNKNOWN in table.found_categories:
        table.categories.setdefault(_UNKNOWN, "unknown")
    if isinstance(species := document.get("classification_categories"), dict):
        table.species = {str(key): str(name) for key, name in species.items()}
    if table.in_pixels:
        raise InputError(f"{path} has boxes in pixels or percent: MegaDetector's are {EXPECTED_BOX}")
    return table


def _detection(entry: Any) -> tuple[list[float], str, float, str]:
    """bbox, category, confidence, species. One without a usable box keeps its number; people give no conf."""
    entry = entry if isinstance(entry, dict) else {}
    box, confidence = entry.get("bbox"), number(entry.get("conf"))
    numbers = [number(x) for x in box] if isinstance(box, list) and len(box) == 4 else _NO_BOX
    confidence = 1.0 if math.isnan(confidence) else confidence
    category = _UNKNOWN if entry.get("category") is None else str(entry["category"])
    return numbers, category, confidence, _species(entry.get("classifications"))


def _species(classes: Any) -> str:
    """The id in the most certain pair of an id and a confidence; "" if there is none."""
    lists = [one for one in classes if isinstance(one, list)] if isinstance(classes, list) else []
    pairs = [(number(one[1]), str(one[0])) for one in lists if len(one) == 2]
    return max((pair for pair in pairs if not math.isnan(pair[0])), default=(0, ""))[1]
