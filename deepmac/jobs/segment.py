"""The work behind `deepmac segment`: masks of many pictures as COCO results, label images and overlays."""

import dataclasses
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

from deepmac.core.drawing import overlay
from deepmac.core.errors import InputError
from deepmac.core.files import atomic_file, refuse_occupied, write_text
from deepmac.core.images import PNG_LEVEL, open_picture_file
from deepmac.core.label_images import read_texts, write_label_image
from deepmac.data.coco import CocoData
from deepmac.data.picture_files import read_annotated
from deepmac.inference.prediction import Prediction
from deepmac.jobs.box_files import BoxFile, ImageBoxes
from deepmac.jobs.pictures import Picture
from deepmac.jobs.stream import FINGERPRINT, ModelChoice, PictureJob, Summary, fingerprint, segment_pictures
from deepmac.jobs.writers import polygons, write_coco, write_yolo

_SOURCE = "Source"  # text in a label image: digest of the path of its picture


def segment(
    pictures: Sequence[Picture],
    boxes: BoxFile | ImageBoxes,
    out: Path,
    model: ModelChoice,
    overwrite: bool = False,
    together: str = "",
) -> Summary:
    """Predicts masks in boxes of pictures, given or found, and writes them.

    For `NAME.jpg` these files, complete or not at all: `NAME_masks.json`, COCO results; `NAME_labels.png`,
    the label image; `NAME_overlay.png`. Pictures of subfolders go to subfolders; a picture whose name is
    taken by another one gets a suffix made from its path. Results that exist are kept if picture, boxes and
    model are the same.

    Args:
        pictures: what to segment.
        boxes: of the pictures, or the same ones for each.
        out: folder for the results.
        model: what segments them.
        overwrite: whether results are made again even if they exist.
        together: "coco" or "polygons": also writes the masks of all pictures into `annotations.json`, as run
            lengths or polygons; "yolo": into the folder `yolo`, which must be new.

    Returns:
        What became of each; pictures that cannot be read or have unusable boxes are skipped.

    Raises:
        InputError: the model cannot be loaded, no picture has boxes, `yolo` is there, or all were
            skipped.
    """
    if together == "yolo":
        refuse_occupied(out / "yolo")
    state, taken, jobs = model.state(), set(), []
    names = Counter(picture.name for picture in pictures)
    found = boxes.of(pictures) if isinstance(boxes, BoxFile) else [boxes] * len(pictures)
    for picture, given in zip(pictures, found, strict=True):
        if given is not None and given.boxes != []:
            told_apart = picture.name if names[picture.name] == 1 else picture.path
            jobs.append(_job(picture, told_apart, given, out, taken, state))
    if not jobs:
        source = boxes.describe() if isinstance(boxes, BoxFile) else "--box"
        raise InputError(f"no usable boxes for {pictures[0].name} or any other picture in {source}")
    summary = Summary(pictures=len(pictures), without_boxes=len(pictures) - len(jobs))
    summary.count(segment_pictures(jobs, model, overwrite=overwrite))
    summary.require_success()
    if together:
        _write_together(jobs, _category_names(boxes, model.name), out, together)
    return summary


def _category_names(boxes: BoxFile | ImageBoxes, model: str) -> dict[str, str]:
    """Names of the categories that boxes, or objects the model finds, may have: id as text -> name."""
    if isinstance(boxes, BoxFile):
        return boxes.category_names
    if boxes.boxes is not None:
        return {}
    from deepmac.inference.load import model_classes  # with TensorFlow, which detections need anyway

    return {str(entry.get("file_id", entry["id"])): entry["name"] for entry in model_classes(model)}


def _write_together(jobs: Sequence["_SegmentJob"], names: Mapping[str, str], out: Path, how: str) -> None:
    """Writes the masks of all pictures as one data set, from what lies beside their label images."""
    images, annotations = {}, []
    found = {int(number): {"id": int(number), "name": name} for number, name in names.items()}
    for number, job in enumerate((job for job in jobs if job.is_complete()), start=1):
        with Image.open(job.target) as labels:
            width, height = labels.size
        images[number] = {"id": number, "file_name": job.file_name, "height": height, "width": width}
        for entry in job.results():
            category_id, mask = entry["category_id"], entry["segmentation"]
            name = entry.pop("category_name", names.get(str(category_id), str(category_id)))
            found[category_id] = {"id": category_id, "name": name}
            area, entry["image_id"] = int(coco_mask.area(mask)), number
            if how == "polygons":
                entry["segmentation"] = polygons(mask, images[number])
            annotations.append({"id": len(annotations) + 1, **entry, "area": area, "iscrowd": 0})
    categories = [found[category_id] for category_id in sorted(found)]
    data = CocoData("", None, images, categories, annotations, {})
    if how == "yolo":
        write_yolo(data, out / "yolo")
    else:
        write_coco(out / "annotations.json", data.content())


@dataclasses.dataclass(frozen=True, eq=False)
class _SegmentJob(PictureJob):
    """A picture whose results are COCO results, a label image and an overlay."""

    source: str  # digest of the picture's path
    # Relative to the folder that was asked for, or its path where several are called so; the picture's id
    # where boxes have none.
    file_name: str

    def read(self, path: Path) -> np.ndarray:
        with open_picture_file(path) as (picture, name):
            pages = getattr(picture, "n_frames", 1)
            if pages > 1 and picture.format != "MPO":  # phones add a small copy
                tqdm.write(f"{name}: only the first of its {pages} pages is segmented", file=sys.stderr)
            image = read_annotated(picture, self.given.size)
        annotated = self.given.size
        if annotated and sorted(annotated) != sorted(image.shape[:2]):
            raise InputError("it is {1} x {0}, but annotated as {3} x {4}".format(*image.shape, *annotated))
        return image

    def _file(self, ending: str) -> Path:
        return self.target.with_name(self.target.name.removesuffix("_labels.png") + ending)

    def results(self) -> list[dict]:
        """The COCO results that were written."""
        return json.loads(self._file("_masks.json").read_text(encoding="utf-8"))

    def is_complete(self) -> bool:
        try:
            count = len(self.results())
        except (OSError, ValueError, TypeError):
            return False
        is_whole = self.given.boxes is None or count == len(self.given.boxes)
        return is_whole and read_texts(self._file("_overlay.png")) is not None

    def write(self, prediction: Prediction) -> None:
        given = self.given
        image_id = self.file_name if given.image_id is None else given.image_id
        if given.boxes is None:
            results = prediction.to_coco(image_id)
        else:
            pairs = zip(given.scores, prediction.quality.tolist(), strict=True)
            scores = [quality if score is None else score for score, quality in pairs]
            results = prediction.to_coco(image_id, given.category_ids, scores)
        labels = prediction.to_label_image()
        write_text(self._file("_masks.json"), json.dumps(results))
        with atomic_file(self._file("_overlay.png")) as path:
            drawn = overlay(prediction.image, labels, prediction.boxes, prediction.names)
            Image.fromarray(drawn).save(path, compress_level=PNG_LEVEL)
        write_label_image(self.target, labels, {_SOURCE: self.source, FINGERPRINT: self.fingerprint})


def _job(
    picture: Picture, file_name: Path, boxes: ImageBoxes, out: Path, taken: set[Path], model_state: dict
) -> _SegmentJob:
    """Finds a file that is neither in `taken`, to which it is added, nor another picture's on disk."""
    source = hashlib.sha256(os.fsencode(picture.path.resolve())).hexdigest()
    stem = picture.name.with_suffix("")
    target = out / f"{stem}_labels.png"
    texts = read_texts(target)
    if target in taken or (texts is not None and texts.get(_SOURCE) != source):
        target = out / f"{stem}-{source[:8]}_labels.png"
    taken.add(target)
    return _SegmentJob(
        name=str(picture.path),
        path=picture.path,
        given=boxes,
        target=target,
        fingerprint=fingerprint(picture.path, dataclasses.asdict(boxes), model_state),
        source=source,
        file_name=file_name.as_posix(),
    )
