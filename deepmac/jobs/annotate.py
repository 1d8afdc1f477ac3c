"""The work behind `deepmac annotate`: masks for the annotations of a data set that have none.

The masks of each picture go into a file of a folder beside the result. A run that was killed makes what is
missing there; the result is written in one go when nothing is.
"""

import dataclasses
import functools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from deepmac.core.errors import InputError
from deepmac.core.files import exclusive, write_text
from deepmac.data.annotation_folders import find_splits
from deepmac.data.coco import CocoData, read_coco
from deepmac.data.flaws import TRAINING, WITHOUT_MASK, summary
from deepmac.data.formats import load_annotations
from deepmac.data.formats.collected import COLLECTED
from deepmac.inference.prediction import Prediction
from deepmac.jobs.box_files import ImageBoxes
from deepmac.jobs.stream import FINGERPRINT, ModelChoice, PictureJob, Summary, fingerprint, segment_pictures
from deepmac.jobs.writers import label_files, write_coco, write_yolo

_POSITION = "position in the file"  # key of an annotation while it is worked on
_MASKS = "masks"  # in the file of a picture: position of an annotation -> what it gets


def annotate(
    annotations: str | Path,
    images: str | Path | None,
    out: str | Path,
    model: ModelChoice,
    file_format: str = "coco",
    replace: bool = False,
    rle: bool = False,
    min_quality: float = 0.0,
) -> str:
    """Writes a data set again, with a mask for every annotation that has none.

    Args:
        annotations: in a format of `load_annotations`.
        images: folder of its pictures; None: `annotations` is a folder of one split, see `find_splits`.
        out: file to write, for "yolo" a folder; must not exist.
        model: what makes the masks.
        file_format: "coco": the same file, in which annotations get `segmentation` and `quality`; "yolo":
            `labels/NAME.txt` with a polygon for each annotation, and `data.yaml`.
        replace: whether annotations that have a mask get another one.
        rle: whether masks are run lengths instead of polygons.
        min_quality: 0 to 1; masks below it are left out.

    Returns:
        What became of pictures and annotations, and a line for what was left out, skipped, or unusable.

    Raises:
        InputError: unusable annotations, no such model, `out` exists, or all pictures were skipped.
    """
    if images is None:
        places = find_splits(Path(annotations))
        if len(places) > 1:
            raise InputError(
                f"{annotations} has {', '.join(places)}: name one's annotations, and give --images"
            )
        [(annotations, images)] = places.values()
    images, out = Path(images), Path(out)
    _refuse_existing(out)
    document = load_annotations(Path(annotations), images)
    entries = document.get("annotations")
    for number, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, dict):  # the reader may number, mend and drop annotations
            entry[_POSITION] = number
    data = read_coco(document, TRAINING, image_dir=images, name=str(annotations))
    if file_format == "yolo":
        label_files(data)  # fails before masks are made
    folder = out.with_name(f".{out.name}-masks")
    jobs = list(_jobs(data, folder, model.state(), replace, (rle, min_quality)))
    became, count, empty = Summary(pictures=len(data.images)), 0, []
    read = {entry[_POSITION]: entry for entry in data.annotations}
    with exclusive(folder / "lock"):  # a second run for the same file waits, and finds it
        _refuse_existing(out)
        became.count(segment_pictures(jobs, model))
        became.require_success()
        if file_format == "coco":
            content = data.content() if COLLECTED in document else document  # COCO's stays as it was
            write_coco(out, content | {"annotations": _completed(content["annotations"], _made(jobs))})
        else:
            write_yolo(data, out, _made(jobs))
        for job in jobs:
            if (masks := job.masks()) is not None:
                count += len(masks)
                empty += [read[position] for position in job.positions if str(position) not in masks]
        shutil.rmtree(folder, ignore_errors=True)
    left_alone = {
        "crowd regions, which are no objects": [one for one in data.annotations if one["iscrowd"]],
        "boxes without a mask, since the model sees nothing in them, or it is below --min-quality": empty,
    }
    kinds = data.repairs | {
        kind: [f"annotation {one.get('given_id', one['id'])}" for one in entries]
        for kind, entries in left_alone.items()
    }
    told = [summary(*kind) for kind in kinds.items() if kind[1] and not kind[0].startswith(WITHOUT_MASK.name)]
    wanted = [read.get(i, given) for i, given in enumerate(document["annotations"])]  # also what was left out
    wanted = [entry for entry in wanted if not isinstance(entry, dict) or _is_wanted(entry, replace)]
    poorer = f", those below a quality of {min_quality} left out" if min_quality else ""
    made = f"{count} of {len(wanted)} masks made{poorer}; {became}"
    return "\n".join([*told, *became.problems(), made])


def _refuse_existing(out: Path) -> None:
    if out.exists():
        raise InputError(f"{out} already exists: name another one, or delete it")


@dataclasses.dataclass(frozen=True, eq=False)
class _AnnotateJob(PictureJob):
    """A picture whose masks go into a JSON file."""

    positions: list[int]  # of the annotations of its boxes
    options: tuple[bool, float]  # whether masks are written as run lengths, and their lowest quality

    def texts(self) -> dict[str, Any] | None:
        try:
            return json.loads(self.target.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def masks(self) -> dict[str, dict] | None:
        """What annotations get, by their position; those without a mask nothing. None: it was skipped."""
        texts = self.texts() or {}
        return texts[_MASKS] if texts.get(FINGERPRINT) == self.fingerprint else None

    def write(self, prediction: Prediction) -> None:
        rle, min_quality = self.options
        if rle:
            masks: list[Any] = [entry["segmentation"] for entry in prediction.to_coco(0)]
            is_empty = [not area for area in coco_mask.area(masks)]
        else:
            masks = prediction.to_polygons()
            is_empty = [not polygons for polygons in masks]
        quality = [round(value, 3) for value in prediction.quality.tolist()]
        made = {
            position: {"segmentation": mask, "quality": value}
            for position, mask, value, empty in zip(self.positions, masks, quality, is_empty, strict=True)
            if not empty and value >= min_quality
        }
        write_text(self.target, json.dumps({FINGERPRINT: self.fingerprint, _MASKS: made}))


def _is_wanted(annotation: dict, replace: bool) -> bool:
    return not annotation.get("iscrowd") and (replace or not annotation.get("segmentation"))


def _jobs(
    data: CocoData, folder: Path, state: dict, replace: bool, options: tuple[bool, float]
) -> Iterator[_AnnotateJob]:
    """The pictures with annotations that want a mask; their masks go into a folder."""
    for image_id, annotations in data.annotations_of_images().items():
        wanted = [entry for entry in annotations if _is_wanted(entry, replace)]
        if not wanted:
            continue
        boxes, positions = ([entry[key] for entry in wanted] for key in ("bbox", _POSITION))
        image = data.images[image_id]
        path, size = Path(data.image_dir or ".", image["file_name"]), (image["width"], image["height"])
        yield _AnnotateJob(
            name=str(path),
            path=path,
            given=ImageBoxes("xywh", boxes, size=size),
            target=folder / f"{image_id}.json",
            fingerprint=fingerprint(path, size, boxes, positions, options, state),
            positions=positions,
            options=options,
        )


def _made(jobs: list[_AnnotateJob]) -> Callable[[dict], dict]:
    """What tells the mask of an annotation; it holds those of few pictures at a time."""
    job_of = {position: job for job in jobs for position in job.positions}
    masks = functools.lru_cache(maxsize=64)(lambda job: (job and job.masks()) or {})
    return lambda entry: masks(job_of.get(entry[_POSITION])).get(str(entry[_POSITION]), {})


def _completed(entries: list, made: Callable[[dict], dict]) -> Iterator:
    """The annotations as they were, with the masks; what is no annotation is left out."""
    for entry in entries:
        if isinstance(entry, dict):
            entry = entry | made(entry)
            del entry[_POSITION]
            yield entry
