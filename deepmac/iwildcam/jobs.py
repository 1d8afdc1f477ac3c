"""What is to be done: the pictures of a shard, what their masks depend on, and which are there already."""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepmac.core.errors import InputError
from deepmac.core.label_images import read_texts
from deepmac.data.megadetector import Detections, PictureDetections
from deepmac.iwildcam.layout import mask_path, picture_path, relative_names

# Text in a label image: digest of what it was made from.
FINGERPRINT = "Fingerprint"


class Shard(NamedTuple):
    """Every `count`-th picture, beginning with number `index`, from 0."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Reads "i/n"; i may count from 0 or from 1: n/n is the same shard as 0/n.

        Raises:
            InputError: not two numbers, or i is not one of n shards.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        index, count = map(int, match.groups()) if match else (1, 0)
        if index > count or count < 1:
            raise InputError(f"--shard {text} is not i/n, such as 3/8: the third of eight parts")
        return cls(index % count, count)

    def __str__(self):
        return f"{self.index}-of-{self.count}"


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """A picture whose masks are wanted.

    Attributes:
        detections: of the picture, all of them.
        numbers: int [N], which of them get a mask, from 1.
        target: file of the label image.
        fingerprint: digest of all the masks are made from but the pixels.
    """

    detections: PictureDetections
    numbers: np.ndarray
    target: Path
    fingerprint: str

    @functools.cached_property
    def boxes(self) -> np.ndarray:
        """float32 [N, 4], (ymin, xmin, ymax, xmax) normalised to the picture, of the numbers."""
        return self.detections.corners[self.numbers - 1].astype(np.float32)


class Plan:
    """The pictures of a shard that have detections worth a mask, by number; nothing is held of them."""

    def __init__(
        self,
        images: Path,
        detections: Detections,
        masks: Path,
        min_conf: float,
        shard: Shard,
        settings: dict,
    ):
        """Finds the pictures.

        Args:
            images: folder of the pictures.
            detections: of the pictures.
            masks: folder for the label images.
            min_conf: detections of lower confidence get no mask, but keep their number.
            shard: which pictures.
            settings: what else masks depend on.

        Raises:
            InputError: two pictures whose masks would be the same file, or names that lead elsewhere.
        """
        self._images, self._detections, self._masks = images, detections, masks
        self._min_conf, self._settings = min_conf, settings
        self._names = relative_names(detections.names, images)
        self._refuse_same_masks()
        mine = range(shard.index, len(detections), shard.count)
        self.indices = [index for index in mine if self._numbers(detections[index]).size]
        self.without_boxes = len(mine) - len(self.indices)

    def _refuse_same_masks(self):
        owners: dict[Path, str] = {}
        for name in self._names:
            path = mask_path(self._masks, name)
            if path in owners:
                raise InputError(
                    f"the masks of {owners[path]} and {name} would be the same file: rename a picture"
                )
            owners[path] = name

    def _numbers(self, picture: PictureDetections) -> np.ndarray:
        return np.flatnonzero((picture.confidences >= self._min_conf) & picture.usable) + 1

    def job(self, index: int) -> Job:
        """What is to be done with a picture of `indices`."""
        name = self._names[index]
        detections = dataclasses.replace(self._detections[index], name=name)
        numbers = self._numbers(detections)
        parts = [
            self._settings,
            detections.boxes.tolist(),
            detections.confidences.tolist(),
            numbers.tolist(),
            self._picture_bytes(name),
        ]
        fingerprint = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return Job(detections, numbers, mask_path(self._masks, name), fingerprint)

    def _picture_bytes(self, name: str) -> int | None:
        path = picture_path(self._images, name)
        return None if path is None else path.stat().st_size

    def is_done(self, job: Job, overwrite: bool) -> bool:
        """Whether the masks are there, whole, made from the same things, and not older than the picture.

        Raises:
            InputError: the file is the picture itself; or it is somebody else's and `overwrite` is false.
        """
        if not job.target.exists():
            return False
        picture = picture_path(self._images, job.detections.name)
        if picture is not None and job.target.samefile(picture):
            raise InputError(f"the masks of {picture} would replace it: choose another --out")
        texts = read_texts(job.target)
        if overwrite or texts is None:  # damaged: made again
            return False
        if FINGERPRINT not in texts:
            raise InputError(
                f"{job.target} was not written by this command: choose another --out, or --overwrite"
            )
        is_newer = picture is None or job.target.stat().st_mtime >= picture.stat().st_mtime
        return texts[FINGERPRINT] == job.fingerprint and is_newer

    def remove_leftovers(self, indices: list[int]) -> None:
        """Removes temporary files that a killed run left beside the masks of pictures."""
        targets = {mask_path(self._masks, self._names[index]) for index in indices}
        for folder in {target.parent for target in targets}:
            for path in folder.glob(".*-*.png"):  # as `deepmac.core.files` calls them
                if path.with_name(f"{path.stem[1:].rpartition('-')[0]}.png") in targets:
                    path.unlink(missing_ok=True)

    def __iter__(self) -> Iterator[Job]:
        return map(self.job, self.indices)
