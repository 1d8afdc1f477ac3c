"""Masks of many pictures: finds out what is missing, makes it, writes it, and goes on where it was stopped.

Each core reads, segments and writes a picture of its own, so that at any time only a few are held.

What is written for a picture is up to its job, a subclass of `PictureJob`. Last of all comes its target, a
label image mostly, which holds the digest of what everything was made from: by it a later run knows what it
may keep.
"""

import abc
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from deepmac import __version__
from deepmac.core.boxes import normalized_boxes
from deepmac.core.errors import InputError
from deepmac.core.executors import ahead, open_cluster, threads
from deepmac.core.label_images import read_texts
from deepmac.data.flaws import summary
from deepmac.data.picture_files import read_annotated
from deepmac.inference.find import find_model
from deepmac.inference.prediction import QUALITY_WORDS, Prediction, quality_words
from deepmac.inference.predictor import SAME_OBJECT, EncodedImage, Predictor, load
from deepmac.jobs.box_files import ImageBoxes

# Text in a target: digest of what it was made from.
FINGERPRINT = "Fingerprint"

_PART = 128  # pictures that a worker of a cluster gets at once
_PARTS_UNDER_WAY = 256


@dataclasses.dataclass(frozen=True)
class ModelChoice:
    """A model and what computes it; attributes as the arguments of `deepmac.load`."""

    name: str = "mini"
    precision: str = "auto"
    input_size: int | None = None
    runtime: str = "auto"

    def state(self) -> dict[str, Any]:
        """Tells one state of a model from another without loading it. InputError: no such model."""
        choices = dataclasses.asdict(self)
        weights = find_model(choices.pop("name")).weights_sha256
        return choices | {"version": __version__, "weights": weights}

    def load(self, cores: int | None = None) -> Predictor:
        """Loads what computes the masks, with some or all cores in each call."""
        return load(self.name, self.precision, self.input_size, self.runtime, cores)


_loading = threading.Lock()  # the threads of a cluster's worker share what is loaded
_loaded = functools.lru_cache(maxsize=1)(ModelChoice.load)


@dataclasses.dataclass(frozen=True, eq=False)
class PictureJob(abc.ABC):
    """A picture whose masks are wanted."""

    name: str  # for messages
    path: Path | None  # its file; None if it is missing
    given: ImageBoxes  # its boxes; or none, in all jobs of a run, in which objects are found
    target: Path  # the file that is written last, a label image
    fingerprint: str  # of all that is written, from `fingerprint`

    def read(self, path: Path) -> np.ndarray:
        """Reads the picture, uint8 RGB [H, W, 3], as its boxes see it; InputError: it cannot be read."""
        return read_annotated(path, self.given.size)

    def texts(self) -> dict[Any, Any] | None:
        """The texts in the target, its fingerprint among them; None if it is damaged."""
        return read_texts(self.target)

    def is_complete(self) -> bool:
        """Whether the other files that belong to the target are there, and whole."""
        return True

    @abc.abstractmethod
    def write(self, prediction: Prediction) -> None:
        """Writes the masks, each file complete or not at all, the target with its fingerprint last.

        InputError: these masks cannot be written; others may.
        """


def fingerprint(path: Path | None, *parts: Any) -> str:
    """Digest of what masks are made from: size of the picture's file, boxes, model and so on, fit for JSON.

    The same on every machine, so not of the picture's time, which is compared with that of the label image.
    """
    size = None if path is None else path.stat().st_size
    return hashlib.sha256(json.dumps([size, *parts], sort_keys=True).encode()).hexdigest()


class Outcome(NamedTuple):
    """What became of a picture: "written", "present" (it had its masks already), or "failed" and why.

    `words` are the `quality_words` of the masks that were written.
    """

    name: str
    state: str
    problem: str = ""
    words: Sequence[str] = ()


@dataclasses.dataclass
class Summary:
    """What became of the pictures: how many there are of each kind."""

    pictures: int = 0  # all of them
    written: int = 0  # whose masks were written
    present: int = 0  # that had them already
    without_boxes: int = 0  # without boxes that count
    outdated: int = 0  # of those, whose masks of an earlier run were removed
    seconds: float = 0.0  # wall-clock time from loading the model on
    failed: list[dict[str, str]] = dataclasses.field(default_factory=list)  # `name`, `problem`
    masks: dict[str, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(QUALITY_WORDS, 0))
    repairs: dict[str, list[str]] = dataclasses.field(default_factory=dict)  # of boxes -> texts

    def count(self, outcomes: Generator[Outcome, None, None]) -> None:
        """Works through outcomes; what is under way when it is interrupted is still written."""
        start = time.monotonic()
        with contextlib.closing(outcomes):
            for name, state, problem, words in outcomes:
                for word in words:
                    self.masks[word] += 1
                self.written += state == "written"
                self.present += state == "present"
                if state == "present":
                    start = time.monotonic()
                elif state == "failed":
                    self.failed.append({"name": name, "problem": problem})
                self.seconds = time.monotonic() - start

    def problems(self) -> list[str]:
        """A line for every kind of unusual boxes, then one for every picture that was skipped."""
        return [summary(what, cases) for what, cases in self.repairs.items() if cases] + [
            f"skipped: {problem}" if name in problem else f"skipped: {name}: {problem}"
            for name, problem in (failure.values() for failure in self.failed)
        ]

    def require_success(self) -> None:
        """Raises InputError: there are pictures, and all were skipped."""
        if self.failed and not self.written and not self.present:
            count = len(self.failed)
            kinds = [_kind(**failure) for failure in self.failed]
            kind, alike = Counter(kinds).most_common(1)[0]
            example = self.problems()[kinds.index(kind) - count].removeprefix("skipped: ")
            several = f"all {count} pictures were skipped, {alike} of them like this one: {example}"
            raise InputError(example if count == 1 else several)

    def __str__(self):
        masks = ", ".join(f"{count} {word}" for word, count in self.masks.items() if count)
        counts = [
            (self.written, f"segmented (masks: {masks})" if masks else "segmented"),
            (self.present, "there already"),
            (self.without_boxes, "without boxes"),
            (self.outdated, "whose old masks were removed"),
            (len(self.failed), "skipped"),
        ]
        return "Pictures: " + (", ".join(f"{count} {what}" for count, what in counts if count) or "none")


def _kind(name: str, problem: str) -> str:
    """What is wrong with a picture without the path to it."""
    return problem.rpartition(Path(name).name)[2]


def segment_pictures(
    jobs: Sequence[PictureJob],
    model: ModelChoice,
    *,
    overwrite: bool = False,
    scheduler: str | None = None,
    progress: bool | None = None,
    begin: Callable[[], None] = lambda: None,
) -> Generator[Outcome, None, None]:
    """Makes the masks that are missing; the model is loaded only if some are.

    Args:
        jobs: the pictures. It is asked for each several times and may make it anew, to hold none.
        model: what segments them.
        overwrite: whether masks that are there are made again.
        scheduler: of a Dask cluster, see `open_cluster`, whose workers make the masks.
        progress: whether to show progress bars; in a terminal unless given.
        begin: called when it is known that all can be written, before any is.

    Yields:
        What became of each picture, those with masks first; else in the order of the jobs.

    Raises:
        InputError: no such model or scheduler, masks that cannot be written, or that would replace what is
            not theirs.
    """
    bar = {"unit": "picture", "disable": None if progress is None else not progress}
    todo = []
    for index in tqdm(range(len(jobs)), "looking for masks", leave=False, **bar):
        if is_done(job := jobs[index], overwrite):
            yield Outcome(job.name, "present")
        else:
            todo.append(index)
    begin()
    if not todo:
        return
    _remove_leftovers({jobs[index].target for index in todo})
    missing = (jobs[index] for index in todo)
    with tqdm(desc=f"loading {model.name}", total=len(todo), **bar) as shown:
        if scheduler is None:
            outcomes = _stream(missing, model.load(cores=1 if len(todo) > 1 else None))
        else:
            outcomes = _on_cluster(missing, model, overwrite, scheduler)
        shown.set_description("segmenting")
        with contextlib.closing(outcomes):  # waits for the files under way
            for outcome in outcomes:
                yield outcome
                shown.update()


def is_done(job: PictureJob, overwrite: bool = False) -> bool:
    """Whether a picture's masks are there, whole, made from the same things, and not older than it.

    InputError: the target is the picture itself; or it is somebody else's and `overwrite` is false.
    """
    target, picture = job.target, job.path
    if not target.exists():
        return False
    if picture is not None and target.samefile(picture):
        raise InputError(f"the masks of {picture} would replace it: choose another --out")
    texts = job.texts()
    if overwrite or texts is None:  # damaged: made again
        return False
    if FINGERPRINT not in texts:
        raise InputError(f"{target} was not written by this command: choose another --out, or --overwrite")
    is_newer = picture is None or target.stat().st_mtime >= picture.stat().st_mtime
    return texts[FINGERPRINT] == job.fingerprint and is_newer and job.is_complete()


def _remove_leftovers(targets: set[Path]) -> None:
    """Removes temporary files that a killed run left beside targets."""
    for folder in {target.parent for target in targets}:
        for path in folder.glob(".*-*"):  # as `deepmac.core.files` calls them
            if path.with_name(path.stem[1:].rpartition("-")[0] + path.suffix) in targets:
                path.unlink(missing_ok=True)


def _stream(jobs: Iterable[PictureJob], predictor: Predictor) -> Generator[Outcome, None, None]:
    """Works on a picture with each core: reads, segments and writes it."""
    with threads() as pool:
        yield from ahead(pool, lambda job: _segment(job, predictor), jobs)


def _segment(job: PictureJob, predictor: Predictor) -> Outcome:
    def tell(text: str) -> None:
        tqdm.write(f"{job.name}: {text}", file=sys.stderr)

    try:
        if job.path is None:
            raise InputError("no such picture")
        image = job.read(job.path)
        if job.given.boxes is None:
            prediction = predictor.detect(image, job.given.min_score, max_overlap=SAME_OBJECT)
        else:
            height, width = image.shape[:2]
            boxes = normalized_boxes(job.given.boxes, job.given.box_format, height, width, tell)
            prediction = predictor.predict(boxes, encoded=EncodedImage(image))
        job.write(prediction)
    except InputError as error:
        return Outcome(job.name, "failed", str(error))
    except OSError as error:
        raise InputError(f"cannot write {job.target}: {error.strerror or error}") from error
    return Outcome(job.name, "written", words=quality_words(prediction.quality))


def _on_cluster(
    jobs: Iterable[PictureJob], model: ModelChoice, overwrite: bool, scheduler: str
) -> Generator[Outcome, None, None]:
    """Makes masks on a Dask cluster.

    A part that dies with its worker is begun again elsewhere and finds what was written.
    """
    # Workers run in folders of their own.
    if Path(model.name).exists():
        model = dataclasses.replace(model, name=str(Path(model.name).absolute()))
    jobs = (
        dataclasses.replace(job, path=job.path and job.path.absolute(), target=job.target.absolute())
        for job in jobs
    )
    parts = iter(lambda: list(itertools.islice(jobs, _PART)), [])
    work = functools.partial(segment_part, model=model, overwrite=overwrite)
    with open_cluster(scheduler) as executor:
        for outcomes in ahead(executor, work, parts, _PARTS_UNDER_WAY):
            yield from outcomes


def segment_part(jobs: list[PictureJob], model: ModelChoice, overwrite: bool) -> list[Outcome]:
    """Makes the masks of some pictures that are not there, in this process; counts the others as written."""
    with _loading:
        predictor = _loaded(model, cores=1)
    missing = [job for job in jobs if not is_done(job, overwrite)]
    done = [Outcome(job.name, "written") for job in jobs if job not in missing]
    return done + list(_stream(missing, predictor))
