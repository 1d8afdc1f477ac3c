"""A collection for looking at: what is known of each picture, from metadata and detections."""

import csv
import dataclasses
import datetime
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepmac.core.errors import InputError
from deepmac.data.formats import load_json
from deepmac.data.megadetector import Detections, PictureDetections, read_detections
from deepmac.data.numbers import key_of, whole
from deepmac.iwildcam.layout import (
    SPLITS,
    Layout,
    find_layout,
    mask_path,
    picture_id,
    picture_path,
    relative_names,
)


@dataclasses.dataclass(frozen=True, slots=True)
class CameraTrapPicture:
    """What is known of a picture. None stands for what the metadata do not say.

    Attributes:
        id: of the picture; also the name of its mask.
        name: path relative to the collection's folder, or the id where only that is known.
        split: "train", "test", or "" for collections without splits.
        location: of the camera.
        sequence: id of the burst of pictures it belongs to.
        frame: its number in the sequence.
        time: when it was taken.
        categories: names of what is annotated: species, or "empty".
        count: of animals in the sequence, where people counted them.
    """

    id: str
    name: str
    split: str = ""
    location: str | None = None
    sequence: str | None = None
    frame: int | None = None
    time: datetime.datetime | None = None
    categories: tuple[str, ...] = ()
    count: int | None = None


class Collection:
    """Pictures with detections and, where they exist, masks.

    Attributes:
        layout: where the files are.
        pictures: of the collection, in the order of the detections file.
    """

    def __init__(self, layout: Layout, pictures: Sequence[CameraTrapPicture], detections: Detections):
        """Joins what was read.

        Args:
            layout: where the files are.
            pictures: each with an id that `detections` may know.
            detections: of the pictures, named relative to the layout's folder.
        """
        self.layout = layout
        self.pictures = list(pictures)
        self._detections = detections
        self._rows = {picture_id(name): row for row, name in enumerate(detections.names)}

    def __len__(self):
        return len(self.pictures)

    @property
    def detection_categories(self) -> dict[str, str]:
        """Id of a detection category -> its name, as animal, person, vehicle."""
        return self._detections.categories

    def detections(self, picture: CameraTrapPicture) -> PictureDetections:
        """The detections of a picture; none for one the detections file does not name."""
        row = self._rows.get(picture.id)
        if row is None:
            return PictureDetections(picture.name, np.zeros((0, 4)), np.zeros(0), [])
        return self._detections[row]

    def picture_path(self, picture: CameraTrapPicture) -> Path | None:
        """The file of a picture; None if it is missing."""
        return picture_path(self.layout.images, picture.name)

    def mask_path(self, picture: CameraTrapPicture) -> Path:
        """The file of a picture's masks, which may be missing."""
        return mask_path(self.layout.masks, picture.name)

    def part(self, most: int | None, seed: int = 0) -> "Collection":
        """A random part of a large collection: whole sequences, in the collection's order.

        Args:
            most: number of pictures to stay below; None takes all.
            seed: same seed, same part.
        """
        if most is None or len(self) <= most:
            return self
        sequences: dict[str, list[int]] = {}
        for index, picture in enumerate(self.pictures):
            sequences.setdefault(picture.sequence or picture.id, []).append(index)
        members = list(sequences.values())
        chosen: list[int] = []
        for number in np.random.default_rng(seed).permutation(len(members)):
            if len(chosen) + len(members[number]) <= most:
                chosen += members[number]
        return Collection(self.layout, [self.pictures[i] for i in sorted(chosen)], self._detections)


def open_collection(root: str | os.PathLike) -> Collection:
    """Reads a collection: iWildCam 2021 or 2022 as released, or any folder with detections.

    Args:
        root: laid out as `deepmac.iwildcam.layout` says.

    Raises:
        InputError: no such folder, files are missing or malformed.
    """
    layout = find_layout(root)
    detections = read_detections(layout.detections)
    detections.names = relative_names(detections.names, layout.images)
    counts: dict[str, int] = {}  # sequence -> animals
    if layout.counts:
        try:
            with layout.counts.open(encoding="utf-8-sig", newline="") as file:
                counts = {row["seq_id"]: int(row["count"]) for row in csv.DictReader(file)}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{layout.counts} is not a table of seq_id and count: {error}") from error
    described = {picture.id: picture for path in layout.metadata for picture in _read_metadata(path, counts)}
    known = [described.pop(picture_id(name), None) or _undescribed(name) for name in detections.names]
    return Collection(layout, [*known, *described.values()], detections)


def _undescribed(name: str) -> CameraTrapPicture:
    """A picture of which only the name is known; its folder stands for the location of the camera."""
    folder = name.rpartition("/")[0]
    if folder in SPLITS:
        return CameraTrapPicture(picture_id(name), name, split=folder)
    return CameraTrapPicture(picture_id(name), name, location=folder or None)


def _read_metadata(path: Path, counts: dict[str, int]) -> list[CameraTrapPicture]:
    """Reads a COCO Camera Traps file."""
    split = next((split for split in SPLITS if split in path.name.lower()), "")
    try:
        document = load_json(path)
        names = {key_of(entry["id"]): entry["name"] for entry in document.get("categories", ())}
        annotated: dict[tuple[str, str], list[str]] = {}  # ("image_id" or "seq_id", its value) -> categories
        for entry in document.get("annotations", ()):
            category = names.get(key_of(entry["category_id"]), str(entry["category_id"]))
            field = (
                "image_id" if entry.get("image_id") is not None else "seq_id"
            )  # of all pictures of a sequence
            annotated.setdefault((field, str(entry.get(field))), []).append(category)
        return [
            _picture(
                entry,
                split,
                [
                    *annotated.get(("image_id", str(entry.get("id"))), ()),
                    *annotated.get(("seq_id", str(entry.get("seq_id"))), ()),
                ],
                counts,
            )
            for entry in document["images"]
            if entry.get("file_name")  # names of pictures that show people are taken out
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise InputError(f"{path} is not in COCO Camera Traps format: {reason}") from error


def _picture(entry: dict[str, Any], split: str, categories: Iterable[str], counts: dict[str, int]):
    name = str(entry["file_name"]).replace("\\", "/")
    name = f"{split}/{name}" if split and "/" not in name else name
    location, sequence = (
        None if entry.get(key) is None else str(entry[key]) for key in ("location", "seq_id")
    )
    try:
        time = datetime.datetime.fromisoformat(str(entry.get("datetime")))
    except ValueError:
        time = None
    return CameraTrapPicture(
        id=picture_id(name),
        name=name,
        split=split,
        location=location,
        sequence=sequence,
        frame=whole(entry.get("frame_num")),
        time=time,
        categories=tuple(dict.fromkeys(categories)),
        count=counts.get(sequence),
    )
