"""The work behind `deepmac segment`: masks of many pictures, written file by file."""

import dataclasses
import hashlib
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, PngImagePlugin
from tqdm import tqdm

from deepmac import __version__
from deepmac.core.drawing import overlay
from deepmac.core.errors import InputError
from deepmac.core.files import atomic_file
from deepmac.inference.predictor import load
from deepmac.jobs.box_files import BoxFile, ImageBoxes, SameBoxes
from deepmac.jobs.pictures import Picture

# Texts in the label image: whose picture it is of, and what everything was made from.
_SOURCE, _FINGERPRINT = "Source", "Fingerprint"


@dataclasses.dataclass
class Summary:
    """What became of the pictures.

    Attributes:
        written: number of pictures whose results were written.
        present: number of those that had them already.
        without_boxes: number of pictures nobody gave boxes for.
        failed: pictures that were skipped, with the reason.
    """

    written: int = 0
    present: int = 0
    without_boxes: int = 0
    failed: list[tuple[Path, str]] = dataclasses.field(default_factory=list)

    def __str__(self):
        counts = [
            (self.written, "segmented"),
            (self.present, "there already"),
            (self.without_boxes, "without boxes"),
            (len(self.failed), "skipped"),
        ]
        return "Pictures: " + ", ".join(f"{count} {what}" for count, what in counts if count)

    def problems(self) -> list[str]:
        """A line for every picture that was skipped."""
        return [f"skipped: {_about(path, reason)}" for path, reason in self.failed]


def segment(
    pictures: Sequence[Picture],
    boxes: BoxFile | SameBoxes,
    out: Path,
    model: str,
    precision: str = "auto",
    overwrite: bool = False,
) -> Summary:
    """Predicts masks in the boxes of pictures and writes them.

    For `NAME.jpg` these files, complete or not at all: `NAME_masks.json`, COCO results; `NAME_labels.png`,
    the label image; `NAME_overlay.png`. Pictures of subfolders go to subfolders; a picture whose name is
    taken by another one gets a suffix made from its path. Results that exist are kept if picture, boxes and
    model are the same.

    Args:
        pictures: what to segment.
        boxes: of the pictures.
        out: folder for the results.
        model: as for `deepmac.load`.
        precision: as for `deepmac.load`.
        overwrite: whether results are made again even if they exist.

    Returns:
        What became of each; pictures that cannot be read or have unusable boxes are skipped.

    Raises:
        InputError: the model cannot be loaded, no picture has boxes, or all were skipped.
    """
    summary, jobs, taken = Summary(), [], set()
    settings = [__version__, _model_state(model), precision]
    for picture in tqdm(pictures, desc="looking for results", unit="picture", disable=None, leave=False):
        given = boxes.of(picture.path, picture.name)
        if given is None or not given.boxes:
            summary.without_boxes += 1
            continue
        result = _Result.of(picture, given, out, taken, settings)
        if not overwrite and result.is_complete(len(given.boxes)):
            summary.present += 1
        else:
            jobs.append((picture, given, result))
    predictor = load(model, precision) if jobs else None
    for picture, given, result in tqdm(jobs, unit="picture", disable=None):
        try:
            result.write(_predict(predictor, picture, given), picture, given)
            summary.written += 1
        except InputError as error:
            summary.failed.append((picture.path, str(error)))
    _check_success(summary, pictures, boxes)
    return summary


def _check_success(summary, pictures, boxes):
    if summary.written or summary.present:
        return
    if not summary.failed:
        raise InputError(f"no boxes for {pictures[0].name} or any other picture in {boxes.describe()}")
    count = len(summary.failed)
    first = _about(*summary.failed[0])
    raise InputError(
        first if count == 1 else f"all {count} pictures were skipped, the first one because: {first}"
    )


def _about(path, reason):
    return reason if str(path) in reason else f"{path}: {reason}"


def _predict(predictor, picture, boxes):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        prediction = predictor.predict(boxes.boxes, boxes.box_format, encoded=predictor.encode(picture.path))
    for warning in caught:
        tqdm.write(f"{picture.path}: {warning.message}", file=sys.stderr)
    return prediction


@dataclasses.dataclass(frozen=True)
class _Result:
    """The files of one picture.

    Attributes:
        stem: path of the files without `_masks.json` and so on.
        source: digest of the picture's path.
        fingerprint: digest of all the results were made from.
    """

    stem: Path
    source: str
    fingerprint: str

    @classmethod
    def of(cls, picture: Picture, boxes: ImageBoxes, out: Path, taken: set[Path], settings: list):
        """Finds a name that is neither in `taken`, to which it is added, nor another picture's on disk."""
        path = picture.path.resolve()
        source = _digest(str(path))
        stem = out / picture.name.with_suffix("")
        if stem in taken or _owner(stem) not in (None, source):
            stem = stem.with_name(f"{stem.name}-{source[:8]}")
        taken.add(stem)
        return cls(stem, source, _digest([_file_state(path), dataclasses.asdict(boxes), settings]))

    def path(self, ending):
        return self.stem.with_name(self.stem.name + ending)

    def is_complete(self, num_boxes):
        """Whether all files are there, whole, and made from the same things."""
        try:
            for ending in ("_labels.png", "_overlay.png"):
                with Image.open(self.path(ending)) as picture:
                    if ending == "_labels.png" and picture.info.get(_FINGERPRINT) != self.fingerprint:
                        return False
                    picture.verify()
            results = json.loads(self.path("_masks.json").read_text(encoding="utf-8"))
        except (OSError, SyntaxError, ValueError):
            return False
        return isinstance(results, list) and len(results) == num_boxes

    def write(self, prediction, picture, boxes):
        """Writes the files; the label image, which says what they were made from, comes last."""
        image_id = picture.name.as_posix() if boxes.image_id is None else boxes.image_id
        stability = prediction.stability.tolist()
        scores = [s if given is None else given for s, given in zip(stability, boxes.scores, strict=True)]
        results = prediction.to_coco(image_id, boxes.category_ids, scores)
        labels = prediction.to_label_image()
        with atomic_file(self.path("_masks.json")) as path:
            path.write_text(json.dumps(results), encoding="utf-8")
        with atomic_file(self.path("_overlay.png")) as path:
            Image.fromarray(overlay(prediction.image, labels, prediction.boxes)).save(path)
        texts = PngImagePlugin.PngInfo()
        texts.add_text(_SOURCE, self.source)
        texts.add_text(_FINGERPRINT, self.fingerprint)
        with atomic_file(self.path("_labels.png")) as path:
            Image.fromarray(labels).save(path, pnginfo=texts)


def _owner(stem):
    """Which picture the results at `stem` are of; None if there are none, "" if they are nobody's."""
    try:
        with Image.open(stem.with_name(f"{stem.name}_labels.png")) as labels:
            return labels.info.get(_SOURCE, "")
    except (OSError, SyntaxError, ValueError):
        return None


def _model_state(model):
    """Tells one state of a model from another without loading it."""
    checkpoint = Path(model) / "checkpoint"  # names the last checkpoint of a model directory
    return [str(model), *(_file_state(checkpoint) if checkpoint.is_file() else ())]


def _file_state(path):
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]


def _digest(data):
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()
