"""MegaDetector's results for a collection of pictures, held in columns.

Three variants of one JSON format (https://lila.science/megadetector-output-format) differ in how they name
pictures: iWildCam 2021 by `id`; iWildCam 2022 by `file`, `train/<ID>.jpg`; today's batch output by `file`,
any path. The order of a picture's detections means something: instance masks refer to them by number.
"""

import dataclasses
import json
import os
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from deepmac.core.errors import InputError
from deepmac.core.files import atomic_file

_FORMAT_VERSION = "1.4"
# The median box of a file in normalised coordinates lies far below, that of a file in pixels far above.
_LARGEST_NORMALIZED = 2


@dataclasses.dataclass(frozen=True, eq=False)
class PictureDetections:
    """The detections of one picture, in the order of the file: the k-th is number k, from 1.

    Attributes:
        name: of the picture: a path with forward slashes, or its id.
        boxes: float64 [N, 4] as in the file; of MegaDetector (xmin, ymin, width, height) normalised to the
            picture; the properties are about these.
        confidences: float64 [N]; NaN for boxes without one.
        categories: N ids of detection categories.
    """

    name: str
    boxes: np.ndarray
    confidences: np.ndarray
    categories: list[str]

    def __len__(self):
        return len(self.boxes)

    @property
    def exact_corners(self) -> np.ndarray:
        """float64 [N, 4], the boxes as (ymin, xmin, ymax, xmax) normalised."""
        xmin, ymin, width, height = self.boxes.T
        return np.stack([ymin, xmin, ymin + height, xmin + width], axis=1)

    @property
    def corners(self) -> np.ndarray:
        """float64 [N, 4], as `exact_corners`, clipped to the picture."""
        return np.clip(self.exact_corners, 0, 1)

    @property
    def usable(self) -> np.ndarray:
        """bool [N]: which boxes are finite and cover a part of the picture."""
        ymin, xmin, ymax, xmax = self.corners.astype(np.float32).T
        return np.isfinite(self.boxes).all(axis=1) & (ymax > ymin) & (xmax > xmin)


class Detections:
    """The detections of many pictures, by the number of the picture; 42 bytes a detection.

    Attributes:
        names: of the pictures: paths with forward slashes, or ids.
        named_by: "file" or "id", what the file calls the name.
        categories: id of a detection category -> its name.
    """

    def __init__(self, named_by: str = "file", categories: dict[str, str] | None = None):
        """Makes an empty table, to be added to; arguments as the attributes."""
        self.names: list[str] = []
        self.named_by = named_by
        self.categories = categories if categories is not None else {"1": "animal"}
        self._ends = array("q")  # number of detections up to and with each picture
        self._boxes, self._confidences, self._category_codes = array("d"), array("d"), array("H")
        self._codes: dict[str, int] = {}

    def add(self, name: str, detections: Iterable[tuple[Any, Any, Any]]) -> None:
        """Adds a picture.

        Args:
            name: of the picture.
            detections: (bbox, category, conf) of each detection.

        Raises:
            ValueError: a bbox that is not four numbers, a confidence that is none.
        """
        for number, (box, category, confidence) in enumerate(detections, start=1):
            if len(box) != 4:
                raise ValueError(f"bbox of detection {number} has {len(box)} numbers instead of 4")
            self._boxes.extend(map(float, box))
            self._confidences.append(float(confidence))
            self._category_codes.append(self._codes.setdefault(str(category), len(self._codes)))
        self.names.append(name)
        self._ends.append(len(self._confidences))

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index: int) -> PictureDetections:
        start, end = self._ends[index - 1] if index > 0 else 0, self._ends[index]
        boxes = np.array(self._boxes[4 * start : 4 * end]).reshape(-1, 4)
        ids = self.found_categories
        categories = [ids[code] for code in self._category_codes[start:end]]
        return PictureDetections(self.names[index], boxes, np.array(self._confidences[start:end]), categories)

    def __iter__(self) -> Iterator[PictureDetections]:
        return (self[index] for index in range(len(self)))

    @property
    def found_categories(self) -> list[str]:
        """Ids of the categories that were detected."""
        return list(self._codes)

    @property
    def in_pixels(self) -> bool:
        """Whether the boxes seem to be in pixels instead of normalised."""
        largest = np.abs(np.array(self._boxes).reshape(-1, 4)).max(axis=1, initial=0)
        return len(largest) > 0 and bool(np.median(largest) > _LARGEST_NORMALIZED)


def read_detections(path: str | os.PathLike) -> Detections:
    """Reads MegaDetector's results; pictures MegaDetector failed on have no detections.

    Args:
        path: JSON of iWildCam 2021 or 2022, or of MegaDetector's batch output.

    Raises:
        InputError: no such file, another format, a malformed entry, boxes in pixels.
    """
    detections = read_json(path)
    if not isinstance(detections, Detections):
        raise InputError(
            f"{path} is not MegaDetector's output: a dictionary with images and detection_categories"
        )
    return detections


def read_json(path: str | os.PathLike) -> Any:
    """Reads a JSON file: `Detections` if it is MegaDetector's, anything else as it is.

    Detections go into columns as soon as they are parsed: as Python objects they would take ten times the
    memory.

    Raises:
        InputError: no such file, not JSON; of MegaDetector a malformed entry, or boxes in pixels.
    """
    table = Detections()

    def collect(item: dict[str, Any]) -> dict[str, Any] | None:
        """Called with every dictionary, innermost first; moves pictures into the table."""
        if not (("file" in item or "id" in item) and ("detections" in item or "failure" in item)):
            return item
        table.named_by = "file" if "file" in item else "id"
        name = str(item[table.named_by]).replace("\\", "/")
        found = item.get("detections") or ()
        table.add(name, [(entry["bbox"], entry.get("category", "1"), entry["conf"]) for entry in found])
        return None

    try:
        document = json.loads(Path(path).read_text(encoding="utf-8-sig"), object_hook=collect)
    except OSError as error:
        raise InputError(f"cannot read boxes from {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read boxes from {path}: it is not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise InputError(f"{path}: image {len(table)} is malformed: {reason}") from error
    if not (isinstance(document, dict) and "images" in document and "detection_categories" in document):
        return document
    strange = next((i for i, image in enumerate(document["images"]) if image is not None), None)
    if strange is not None:
        raise InputError(f"{path}: image {strange} is malformed: it has no file or id, or no detections")
    table.categories = {str(key): str(name) for key, name in document["detection_categories"].items()}
    if table.in_pixels:
        raise InputError(
            f"{path} has boxes in pixels: MegaDetector's are [xmin, ymin, width, height] from 0 to 1"
        )
    return table


def write_detections(path: str | os.PathLike, detections: Detections) -> None:
    """Writes detections as MegaDetector does; `read_detections` gives them back.

    Args:
        path: JSON file; replaced in one step.
        detections: of the pictures.
    """
    images = [
        {
            detections.named_by: picture.name,
            "max_detection_conf": float(picture.confidences.max(initial=0)),
            "detections": [
                {"category": category, "bbox": box, "conf": confidence}
                for category, box, confidence in zip(
                    picture.categories, picture.boxes.tolist(), picture.confidences.tolist(), strict=True
                )
            ],
        }
        for picture in detections
    ]
    document = {
        "info": {"format_version": _FORMAT_VERSION},
        "detection_categories": detections.categories,
        "images": images,
    }
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1), encoding="utf-8")
