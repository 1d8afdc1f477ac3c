"""Makes the instance masks of a whole collection; `deepmac iwildcam-masks`."""

import dataclasses
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm.auto import tqdm

from deepmac.core.errors import InputError
from deepmac.core.files import atomic_file
from deepmac.iwildcam.cluster import segment_on_cluster
from deepmac.iwildcam.jobs import Plan, Shard
from deepmac.iwildcam.mask_task import MaskTask
from deepmac.iwildcam.segmentation import Failure, segment_pictures

REPORT_NAME = "iwildcam_masks_report"
WHOLE = Shard(0, 1)


@dataclasses.dataclass
class Summary:
    """What became of the pictures of a shard.

    Attributes:
        pictures: number of pictures of the shard.
        written: of those whose masks were written.
        present: of those that had them already.
        without_boxes: of those without a detection of sufficient confidence.
        seconds: wall-clock time of segmenting, without what was there already.
        failed: pictures without masks, and why.
    """

    pictures: int = 0
    written: int = 0
    present: int = 0
    without_boxes: int = 0
    seconds: float = 0.0
    failed: list[Failure] = dataclasses.field(default_factory=list)

    def __str__(self):
        counts = [
            (self.written, "segmented"),
            (self.present, "there already"),
            (self.without_boxes, "without boxes"),
            (len(self.failed), "skipped"),
        ]
        text = "Pictures: " + (", ".join(f"{count} {what}" for count, what in counts if count) or "none")
        return f"{text}; {self.written / self.seconds:.1f} a second" if self.written else text


def make_masks(
    images: str | os.PathLike,
    detections: str | os.PathLike,
    out: str | os.PathLike,
    *,
    model: str | os.PathLike = "mini",
    precision: str = "auto",
    input_size: int | None = None,
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
        model: as for `deepmac.load`.
        precision: as for `deepmac.load`.
        input_size: as for `deepmac.load`.
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
    task = MaskTask(
        images=Path(images),
        detections=Path(detections),
        out=Path(out),
        model=str(model),
        precision=precision,
        input_size=input_size,
        min_conf=min_conf,
        sixteen_bit=sixteen_bit,
        overwrite=overwrite,
    )
    task.check()
    plan = task.plan(shard)
    summary = Summary(pictures=len(plan.indices) + plan.without_boxes, without_boxes=plan.without_boxes)
    todo = _remaining(plan, overwrite, summary, progress)
    plan.remove_leftovers(todo)
    if todo:
        results = _results(task, plan, todo, workers, scheduler)
        try:
            _count(tqdm(results, total=len(todo), unit="picture", disable=_disable(progress)), summary)
        finally:
            results.close()  # waits for the files under way
            if summary.written or summary.failed:
                _write_report(task, shard, summary)
    if summary.failed and not (summary.written or summary.present):
        name, problem = summary.failed[0].name, summary.failed[0].problem
        raise InputError(f"all {len(summary.failed)} pictures were skipped, the first, {name}: {problem}")
    return summary


def _remaining(plan: Plan, overwrite: bool, summary: Summary, progress: bool) -> list[int]:
    """The pictures whose masks are not there; counts the others."""
    bar = tqdm(plan.indices, "looking for masks", unit="picture", disable=_disable(progress), leave=False)
    todo = [index for index in bar if not plan.is_done(plan.job(index), overwrite)]
    summary.present = len(plan.indices) - len(todo)
    return todo


def _results(
    task: MaskTask, plan: Plan, todo: list[int], workers: int | None, scheduler: str | None
) -> Iterator[Failure | None]:
    if scheduler is not None:
        return segment_on_cluster(task, todo, scheduler)
    network = task.load_network()
    return segment_pictures(map(plan.job, todo), task.images, network, task.sixteen_bit, workers)


def _count(results: Iterable[Failure | None], summary: Summary) -> None:
    start = time.monotonic()
    for failure in results:
        if failure is None:
            summary.written += 1
        else:
            summary.failed.append(failure)
        summary.seconds = time.monotonic() - start


def _disable(progress: bool | None) -> bool | None:
    return None if progress is None else not progress


def _write_report(task: MaskTask, shard: Shard, summary: Summary) -> None:
    """Writes what became of the pictures, `failed` above all, as JSON."""
    name = REPORT_NAME if shard.count == 1 else f"{REPORT_NAME}_{shard}"
    report = {"shard": str(shard), "settings": task.settings(), **dataclasses.asdict(summary)}
    with atomic_file(task.out / f"{name}.json") as path:
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
