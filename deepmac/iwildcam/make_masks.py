"""Makes the instance masks of a whole collection; `deepmac iwildcam-masks`."""

import dataclasses
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepmac.core.errors import InputError
from deepmac.core.files import atomic_file
from deepmac.core.label_images import label_image, sample_bits, write_label_image
from deepmac.data.megadetector import Detections, PictureDetections, read_detections
from deepmac.inference.prediction import Prediction
from deepmac.iwildcam.layout import mask_path, picture_path, relative_names
from deepmac.jobs.stream import FINGERPRINT, ModelChoice, PictureJob, Summary, fingerprint, segment_pictures

REPORT_NAME = "iwildcam_masks_report"
_BATCH_SIZE = 8


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


WHOLE = Shard(0, 1)


def make_masks(
    images: str | os.PathLike,
    detections: str | os.PathLike,
    out: str | os.PathLike,
    *,
    model: str | os.PathLike = "mini",
    precision: str = "auto",
    input_size: int | None = None,
    runtime: str = "auto",
    min_conf: float = 0.0,
    shard: Shard = WHOLE,
    sixteen_bit: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: bool | None = None,
) -> Summary:
    """Makes the instance masks of a collection, or of a part of it.

    For each picture with detections `out/<ID>.png`, complete or not at all. What is there already, from the
    same picture, detections and model, is kept. Whatever the number of shards, the files are the same.

    Args:
        images: folder of the pictures.
        detections: MegaDetector's results, JSON.
        out: folder for the masks, and for the report `iwildcam_masks_report.json`.
        model: as for `deepmac.load`; also `precision`, `input_size` and `runtime`.
        min_conf: detections of lower confidence get no mask, but keep their number.
        shard: which pictures.
        sixteen_bit: whether pictures with more than 255 detections get 16-bit masks.
        overwrite: whether masks that are there are made again.
        workers: threads that decode, and as many that write; one for each core unless given.
        scheduler: address of a Dask scheduler, as tcp://host:8786, whose workers make the masks; they need
            this package, and the folders under the same paths.
        progress: whether to show progress bars; in a terminal unless given.

    Returns:
        What became of the pictures; those that cannot be read are skipped and listed.

    Raises:
        InputError: unusable folders, detections or model; masks that cannot be written; every picture was
            skipped.
    """
    images, out = Path(images), Path(out)
    if not images.is_dir():
        raise InputError(f"no such folder of pictures: {images}")
    if not 0 <= min_conf <= 1:
        raise InputError(f"--min-conf must lie between 0 and 1, not {min_conf}")
    choice = ModelChoice(str(model), precision, input_size, runtime)
    settings = {**choice.state(), "min_conf": min_conf}
    jobs = CollectionJobs(images, read_detections(detections), out, shard, sixteen_bit, settings)
    summary = Summary(pictures=len(jobs) + jobs.without_boxes, without_boxes=jobs.without_boxes)
    outcomes = segment_pictures(
        jobs,
        choice,
        batch_size=_BATCH_SIZE,
        overwrite=overwrite,
        workers=workers,
        scheduler=scheduler,
        progress=progress,
    )
    try:
        summary.count(outcomes)
    finally:
        if summary.written or summary.failed:
            name = REPORT_NAME if shard.count == 1 else f"{REPORT_NAME}_{shard}"
            report = {"shard": str(shard), "settings": settings, **dataclasses.asdict(summary)}
            with atomic_file(out / f"{name}.json") as path:
                path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    summary.require_success()
    return summary


class CollectionJobs(Sequence):
    """The pictures of a shard that have detections worth a mask; each is made when it is asked for.

    Attributes:
        without_boxes: number of the shard's other pictures.
    """

    def __init__(
        self,
        images: Path,
        detections: Detections,
        masks: Path,
        shard: Shard = WHOLE,
        sixteen_bit: bool = False,
        settings: dict | None = None,
    ):
        """Finds the pictures.

        Args:
            images: folder of the pictures.
            detections: of the pictures.
            masks: folder for the label images.
            shard: which pictures.
            sixteen_bit: whether pictures with more than 255 detections get 16-bit masks.
            settings: what masks depend on beside pictures and detections; detections of lower confidence than
                its `min_conf` get no mask, but keep their number.

        Raises:
            InputError: two pictures whose masks would be the same file, or names that lead elsewhere.
        """
        self._images, self._detections, self._masks = images, detections, masks
        self._sixteen_bit, self._settings = sixteen_bit, {"min_conf": 0.0, **(settings or {})}
        self._names = relative_names(detections.names, images)
        owners: dict[Path, str] = {}
        for name in self._names:
            if (path := mask_path(masks, name)) in owners:
                raise InputError(
                    f"the masks of {owners[path]} and {name} would be the same file: rename a picture"
                )
            owners[path] = name
        mine = range(shard.index, len(detections), shard.count)
        self._rows = [row for row in mine if self._numbers(detections[row]).size]
        self.without_boxes = len(mine) - len(self._rows)

    def __len__(self):
        return len(self._rows)

    def _numbers(self, picture: PictureDetections) -> np.ndarray:
        """Which detections of a picture get a mask, from 1."""
        return np.flatnonzero((picture.confidences >= self._settings["min_conf"]) & picture.usable) + 1

    def __getitem__(self, index: int) -> "CollectionJob":
        name, detections = self._names[self._rows[index]], self._detections[self._rows[index]]
        path, numbers = picture_path(self._images, name), self._numbers(detections)
        rows = [detections.boxes.tolist(), detections.confidences.tolist(), numbers.tolist()]
        return CollectionJob(
            name=name,
            path=path,
            boxes=detections.corners[numbers - 1],
            box_format="yxyx_norm",
            target=mask_path(self._masks, name),
            fingerprint=fingerprint(path, rows, self._settings),
            numbers=numbers.tolist(),
            confidences=detections.confidences[numbers - 1].tolist(),
            num_detections=len(detections),
            sixteen_bit=self._sixteen_bit,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class CollectionJob(PictureJob):
    """A picture of a collection; its masks are a label image.

    Attributes:
        numbers: of the N detections that get a mask, from 1.
        confidences: theirs.
        num_detections: of the picture, whether or not they get a mask.
        sixteen_bit: whether more than 255 of them get a 16-bit label image.
    """

    numbers: list[int]
    confidences: list[float]
    num_detections: int
    sixteen_bit: bool

    def write(self, prediction: Prediction) -> None:
        bits = sample_bits(self.num_detections, self.sixteen_bit)
        size = prediction.image.shape[:2]
        labels = label_image(
            prediction.mask_probs, prediction.boxes, self.numbers, self.confidences, *size, bits
        )
        write_label_image(self.target, labels, {FINGERPRINT: self.fingerprint})
