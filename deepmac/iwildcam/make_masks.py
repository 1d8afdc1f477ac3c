"""Makes the instance masks of a whole collection; `deepmac iwildcam-masks`."""

import dataclasses
import itertools
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deepmac.core.boxes import EDGE_TOLERANCE
from deepmac.core.drawing import overlay, sheet
from deepmac.core.errors import InputError
from deepmac.core.files import atomic_file, write_text
from deepmac.core.images import read_image
from deepmac.core.label_images import QUALITY, read_texts, write_label_image
from deepmac.data.flaws import LOST
from deepmac.data.megadetector import EXPECTED_BOX, Detections, read_detections
from deepmac.inference.prediction import Prediction
from deepmac.iwildcam.layout import mask_path, picture_path, relative_names
from deepmac.iwildcam.views import fit_view
from deepmac.jobs.box_files import ImageBoxes
from deepmac.jobs.pictures import MASKS_REPORT
from deepmac.jobs.stream import FINGERPRINT, ModelChoice, PictureJob, Summary, fingerprint, segment_pictures

_OVERLAY_SIZE = (1600, 1600)  # pixels that an overlay must not exceed
_SHEET_PICTURES, _SHEET_COLUMNS = 30, 5
_TRIED = 20  # masks that tell what all were made with
_MINI = ModelChoice()


def parse_shard(text: str) -> tuple[int, int]:
    """Reads a shard "i/n": index i, from 0, and number n of all; i may count from 1, too: n/n is 0/n.

    InputError: not one of n shards.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    index, count = map(int, match.groups()) if match else (1, 0)
    if index > count or count < 1:
        raise InputError(f"--shard {text} is not i/n, such as 3/8: the third of eight parts")
    return index % count, count


@dataclasses.dataclass(frozen=True)
class MaskOptions:
    """What the masks of a collection are like.

    Attributes:
        min_conf: 0 to 1; detections of lower confidence get no mask, but keep their number.
        palette: whether other programs show masks in colours; their values are the same.
        overlays: whether pictures with their masks are written to the folder `overlays`, and some, small, to
            `contact_sheet.jpg`.
    """

    min_conf: float = 0.0
    palette: bool = False
    overlays: bool = False


def make_masks(
    images: str | os.PathLike,
    detections: str | os.PathLike,
    out: str | os.PathLike,
    model: ModelChoice = _MINI,
    options: MaskOptions = MaskOptions(),
    shard: tuple[int, int] = (0, 1),
    **how: Any,
) -> Summary:
    """Makes the instance masks of a collection, or of a part of it.

    For each picture with detections `out/<ID>.png`, complete or not at all. What is there already, from the
    same picture, detections, model and options, is kept; what an earlier run made of pictures that get
    no mask now is removed. The files are the same for any number of shards.

    Args:
        images: folder of the pictures.
        detections: a file that `read_detections` takes.
        out: folder for the masks, and for the report `iwildcam_masks_report.json`.
        model: what makes them.
        options: what they are like.
        shard: index, from 0, and number n of parts: every n-th picture from that one on.
        how: `overwrite`, `scheduler` and `progress` of `segment_pictures`.

    Returns:
        What became of the pictures; those that cannot be read are skipped and listed.

    Raises:
        InputError: unusable folders, detections or model; masks that cannot be written; every picture was
            skipped.
    """
    images, out = Path(images), Path(out)
    if not images.is_dir():
        raise InputError(f"no such folder of pictures: {images}")
    state, part = model.state(), "{}-of-{}".format(*shard)
    ending = "" if shard == (0, 1) else f"_{part}"
    jobs = CollectionJobs(images, read_detections(detections, images), out, shard, options, state)
    summary = jobs.summary
    try:
        summary.count(segment_pictures(jobs, model, begin=jobs.tidy, **how))
    finally:
        if summary.written or summary.failed or summary.outdated:
            settings = {**state, **dataclasses.asdict(options)}
            report = {"shard": part, "settings": settings, **dataclasses.asdict(summary)}
            write_text(out / f"{MASKS_REPORT}{ending}.json", json.dumps(report, indent=1) + "\n")
    if len(jobs) or not summary.without_boxes:
        summary.require_success()
    if options.overlays:
        rows = np.linspace(0, len(jobs) - 1, min(len(jobs), _SHEET_PICTURES)).astype(int).tolist()
        shown = [job for job in map(jobs.__getitem__, rows) if job.overlay.is_file()]
        overlays = [read_image(job.overlay) for job in shown]
        with atomic_file(out / f"contact_sheet{ending}.jpg") as path:
            sheet(overlays, [job.name for job in shown], _SHEET_COLUMNS).save(path, quality=90)
    return summary


def can_resume(
    images: str | os.PathLike,
    detections: str | os.PathLike,
    out: str | os.PathLike,
    options: MaskOptions = MaskOptions(),
) -> bool:
    """Whether `make_masks` with these arguments would keep the masks that are there, or there are none.

    Not where they are somebody else's, or of another model or other options: those would be made again. The
    first masks tell, unless they are damaged, or their pictures or detections have changed.
    """
    images, out = Path(images), Path(out)
    jobs = CollectionJobs(
        images, read_detections(detections, images), out, options=options, state=_MINI.state()
    )
    there = list(itertools.islice((job for job in jobs if job.target.is_file()), _TRIED))
    if not there:
        return all(map(_is_ours, itertools.islice(out.rglob("[!.]*.png"), _TRIED)))
    return any((job.texts() or {}).get(FINGERPRINT) == job.fingerprint for job in there)


class CollectionJobs(Sequence):
    """The pictures of a shard that have detections worth a mask; `summary` tells about the others."""

    def __init__(
        self,
        images: Path,
        detections: Detections,
        masks: Path,
        shard: tuple[int, int] = (0, 1),
        options: MaskOptions = MaskOptions(),
        state: dict[str, Any] | None = None,
    ):
        """Finds the pictures; arguments as of `make_masks`, and the state of the model.

        InputError: two pictures whose masks would be the same file, or names that lead elsewhere.
        """
        self._images, self._detections, self._masks, self._options = images, detections, masks, options
        # Not in it: overlays, which leave masks as they are.
        self._settings = {**(state or {}), "min_conf": options.min_conf, "palette": options.palette}
        self._names = relative_names(detections.names, images)
        self._listed: dict[Path, str] = {}
        for name in self._names:
            if (path := mask_path(masks, name)) in self._listed:
                raise InputError(
                    f"the masks of {self._listed[path]} and {name} would be the same file: rename a picture"
                )
            self._listed[path] = name
        self._mine = range(shard[0], len(detections), shard[1])
        # Row of a picture -> its detections that get a mask, from 1.
        self._numbers: dict[int, np.ndarray] = {}
        self.summary, unusable, clipped = Summary(len(self._mine)), [], []
        for row in self._mine:
            picture, name = detections[row], self._names[row]
            wanted = picture.confidences >= options.min_conf
            numbers, lost = (
                np.flatnonzero(wanted & usable) + 1 for usable in (picture.usable, ~picture.usable)
            )
            beyond = np.abs(picture.exact_corners - picture.corners).max(axis=1) > EDGE_TOLERANCE
            clipped += [f"detection {number} of {name}" for number in numbers if beyond[number - 1]]
            unusable += [f"detection {number} of {name}" for number in lost]
            failure = detections.facts.get(row, {}).get("failure")
            if numbers.size:
                self._numbers[row] = numbers
            elif failure or lost.size:
                problem = f"the detector failed: {failure}" if failure else "no usable box"
                self.summary.failed.append({"name": name, "problem": problem})
            else:
                self.summary.without_boxes += 1
        self._rows = list(self._numbers)
        self.summary.repairs = detections.lost | {
            f"boxes without area in their picture {LOST}": unusable,
            f"boxes clipped to their picture, {EXPECTED_BOX} is expected": clipped,
        }

    def __len__(self):
        return len(self._rows)

    def tidy(self) -> None:
        """Removes what this command made of pictures of the shard that get no mask now; names other masks.

        Those are of pictures that the detections do not list: they may belong to another file of detections.
        """
        for name in (self._names[row] for row in sorted({*self._mine} - {*self._numbers})):
            target = mask_path(self._masks, name)
            if _is_ours(target):
                self._overlay(name).unlink(missing_ok=True)
                target.unlink()  # last: by it a run that was interrupted knows what is left to do
                self.summary.outdated += 1
        others = sorted({*self._masks.rglob("[!.]*.png")} - self._listed.keys())
        names = [path.relative_to(self._masks).as_posix() for path in others if _is_ours(path)]
        self.summary.repairs["masks of pictures that the detections do not list, which nothing shows"] = names

    def _overlay(self, name: str) -> Path:
        return mask_path(self._masks.absolute() / "overlays", name).with_suffix(".jpg")

    def __getitem__(self, index: int) -> "CollectionJob":
        row = self._rows[index]
        name, detections, numbers = self._names[row], self._detections[row], self._numbers[row]
        path = picture_path(self._images, name)
        rows = [detections.boxes.tolist(), detections.confidences.tolist(), numbers.tolist()]
        return CollectionJob(
            name=name,
            path=path,
            given=ImageBoxes("yxyx_norm", detections.corners[numbers - 1]),
            target=mask_path(self._masks, name),
            fingerprint=fingerprint(path, rows, self._settings),
            numbers=numbers,
            confidences=detections.confidences[numbers - 1],
            options=self._options,
            overlay=self._overlay(name),
        )


def _is_ours(target: Path) -> bool:
    """Whether this command made a label image."""
    return FINGERPRINT in (read_texts(target) or ())


@dataclasses.dataclass(frozen=True, eq=False)
class CollectionJob(PictureJob):
    """A picture of a collection; its masks are a label image.

    Attributes:
        numbers: of the detections that get a mask, from 1.
        confidences: of these.
        options: what the masks are like.
        overlay: file for the picture with its masks, if they are wanted.
    """

    numbers: np.ndarray
    confidences: np.ndarray
    options: MaskOptions
    overlay: Path

    def is_complete(self) -> bool:
        return not self.options.overlays or self.overlay.is_file()

    def write(self, prediction: Prediction) -> None:
        numbers = self.numbers.tolist()
        labels = prediction.to_label_image(numbers, self.confidences)
        if self.options.overlays:
            view = fit_view(prediction.image, labels, numbers, _OVERLAY_SIZE)
            names = [f"{k} {conf:.2f}" for k, conf in zip(numbers, self.confidences, strict=True)]
            with atomic_file(self.overlay) as path:
                drawn = overlay(view.image, view.labels, prediction.boxes, names)
                Image.fromarray(drawn).save(path, quality=90)
        quality = dict(zip(numbers, prediction.quality.round(4).tolist(), strict=True))
        texts = {FINGERPRINT: self.fingerprint, QUALITY: json.dumps(quality)}
        write_label_image(self.target, labels, texts, self.options.palette)
