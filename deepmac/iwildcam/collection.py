"""A collection as one table: a line an animal, with everything that is known of it and of its picture."""

import contextlib
import dataclasses
import datetime
import itertools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from PIL.ExifTags import IFD
from PIL.ExifTags import Base as ExifTag
from tqdm.auto import tqdm

from deepmac.core.errors import InputError
from deepmac.core.executors import ahead, threads
from deepmac.core.files import atomic_file
from deepmac.core.images import READ_ERRORS
from deepmac.core.label_images import QUALITY, read_label_image, read_texts
from deepmac.data.megadetector import Detections, read_detections
from deepmac.data.trap_tables import read_coco_camera_traps
from deepmac.inference.prediction import quality_words
from deepmac.iwildcam.layout import SPLITS, Layout, find_layout, mask_path, picture_path, relative_names

REVIEW_FILE = "mask_review.csv"
_BOX = ["xmin", "ymin", "width", "height"]
_KEY = ["picture", "number", *_BOX]  # of a verdict: another box would be another animal
_CLOCK = "datetime64[us]"  # reaches farther than nanoseconds
_DIGITS = 6  # by which boxes are compared
_PICTURE = ["picture", "split", "camera", "time", "sequence", "frame", "species", "counted"]
_TEXTS = ["split", "camera", "sequence", "species"]
_SIZE = ["picture_height", "picture_width"]
_ANIMAL = ["number", "kind", "detected", "confidence", *_BOX, "box_share", "area", "quality", *_SIZE]
COLUMNS = ["picture", "split", "camera", "time", "sequence", "frame", "number", "track", "kind", "species"]
COLUMNS += ["confidence", *_BOX, "area", "share", "box_share", "fill", "quality", "rating", "review", "masks"]
COLUMNS += [*_SIZE, "counted"]
_FARTHEST = 2.0  # boxes that differ more, as `_difference` has it, show different animals
_EXIF_DATE = re.compile(r"^(\d{4}):(\d\d):")


@dataclasses.dataclass
class Collection:
    """Pictures with detections and, where they exist, masks.

    Attributes:
        layout: where the files are.
        animals: a line an animal, that is, a detection; pictures without one have a line of number 0. They
            come camera by camera in the order of time. Texts that are not known are "", numbers NaN. Columns:

            picture: its name, a path from the collection's folder; split: "train" or "test" of a release
            camera, time, sequence, frame; counted: animals in the sequence, where people counted them
            number: of the detection in its picture, from 1, and in the label image
            track: number that it keeps through a sequence, from `tracks`
            kind: animal, person, vehicle; species; confidence: of the detection
            xmin, ymin, width, height: of the box, in parts of the picture; picture_width, picture_height
            area, share, fill: of the mask in pixels, in percent of the picture, in parts of the box
            box_share: of the box in percent of the picture, if it shows any of it
            quality: IoU that the mask is expected to have; rating: "good", "check", "doubtful"
            review: "keep", "reject" or ""; masks: file of the label image, from the collection's folder
    """

    layout: Layout
    animals: pd.DataFrame

    def picture_path(self, name: str) -> Path | None:
        """The file of a picture; None if it is missing."""
        return picture_path(self.layout.images, name)

    def mask_path(self, name: str) -> Path:
        """The file of a picture's masks, which may be missing."""
        return mask_path(self.layout.masks, name)

    def with_masks_of_now(self, animals: pd.DataFrame) -> pd.DataFrame:
        """Lines of the table without what it says of masks whose files are gone since it was made."""
        there = {name: self.mask_path(name).is_file() for name in animals["picture"].unique()}
        lost = ~animals["picture"].map(there).astype(bool)
        of_masks = dict.fromkeys(("area", "share", "fill", "quality"), np.nan) | {"rating": "", "masks": ""}
        return animals.assign(**{name: animals[name].mask(lost, none) for name, none in of_masks.items()})

    def review(self, rows: list[int], verdict: str) -> None:
        """Marks animals, rows of the table, as "keep", "reject" or "" and saves all verdicts so far.

        They are saved as `mask_review.csv` beside the pictures, whatever part of the collection is open.
        """
        marked = self.animals.loc[rows, _KEY].round(_DIGITS).assign(review=verdict)
        verdicts = pd.concat([_read_review(self.layout), marked])
        verdicts = verdicts.drop_duplicates(_KEY, keep="last").query("review != ''").sort_values(_KEY)
        with atomic_file(self.layout.images / REVIEW_FILE) as path:
            verdicts.to_csv(path, index=False)
        self.animals["review"] = _verdicts(self.animals, verdicts)

    def take_over_verdicts(self) -> None:
        """Brings the table up to the file of verdicts, to which another notebook may have added."""
        self.animals["review"] = _verdicts(self.animals, _read_review(self.layout))


def lines_of_pictures(animals: pd.DataFrame) -> Iterator[tuple[str, list[Any]]]:
    """Name of each picture, and its lines as `itertuples` gives them: they stand one after the other."""
    for name, lines in itertools.groupby(animals.itertuples(), lambda line: line.picture):
        yield name, list(lines)


def open_collection(
    root: str | os.PathLike,
    detections: str | os.PathLike | None = None,
    masks: str | os.PathLike | None = None,
    *,
    sequence_gap: float = 60.0,
    most: int | None = None,
    progress: bool = False,
) -> Collection:
    """Reads a collection: iWildCam 2021 or 2022 as released, or any folder of pictures with detections.

    Args:
        root: laid out as `deepmac.iwildcam.layout` says.
        detections: file of them; found in the folder unless given.
        masks: folder of the label images; likewise.
        sequence_gap: seconds; pictures of a camera that were taken closer to each other make up a sequence,
            where metadata know of none.
        most: pictures to read; of more a random part, of whole sequences where metadata know them.
        progress: whether to show a progress bar.

    Raises:
        InputError: no such folder, files are missing or malformed.
    """
    layout = find_layout(root, detections, masks)
    found = read_detections(layout.detections, layout.images)
    pictures = _part(_read_pictures(layout, found), most)
    items = list(zip(pictures["picture"], pictures.pop("row"), pictures["time"].isna(), strict=True))
    with threads() as pool:
        looks = ahead(pool, lambda item: _look(layout, found, *item), items)
        looks = list(tqdm(looks, "reading masks", len(items), unit="picture", disable=not progress))
    pictures["time"] = pictures["time"].fillna(pd.Series([time for time, _ in looks], dtype=_CLOCK))
    _find_sequences(pictures, pd.Timedelta(seconds=sequence_gap))
    animals = pd.DataFrame([row for _, rows in looks for row in rows], columns=_ANIMAL)
    of_picture = np.repeat(np.arange(len(looks)), [len(rows) for _, rows in looks])
    animals = pictures.iloc[of_picture].reset_index(drop=True).join(animals)
    return Collection(layout, _complete(animals, layout))


def _complete(animals: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    """Sorts the table, and adds what follows from the rest of it, and what people said."""
    numbers = ["frame", "counted", *_ANIMAL[3:]]
    animals[numbers] = animals[numbers].astype(float)
    animals["species"] = animals["detected"].where(animals["detected"] != "", animals["species"])
    animals["share"] = 100 * animals["area"] / animals[_SIZE].prod(axis=1)
    animals["fill"] = animals["share"] / animals["box_share"]
    words = quality_words(animals["quality"].fillna(0))
    animals["rating"] = pd.Series(words, dtype=object).where(animals["quality"].notna(), "")
    files = [os.path.relpath(mask_path(layout.masks, name), layout.images) for name in animals["picture"]]
    animals["masks"] = pd.Series(files, dtype=object).where(animals["area"].notna(), "")
    animals["review"] = _verdicts(animals, _read_review(layout))
    order = {column: animals[column].map(in_order) for column in ("camera", "sequence", "picture")}
    order["split"] = -animals["split"].rank()  # training set first
    by = ["split", "camera", "time", "sequence", "frame", "picture", "number"]
    animals = animals.loc[animals.assign(**order).sort_values(by).index].reset_index(drop=True)
    return animals.assign(track=tracks(animals))[COLUMNS]


def tracks(animals: pd.DataFrame) -> np.ndarray:
    """Gives every animal a number, the same one in all pictures of its sequence in which it is found again.

    The boxes of a picture are compared with where the sequence's animals were last, the closest pair first.

    Args:
        animals: table of `Collection`, pictures in the order of time.

    Returns:
        For each line a number, 1 for the most confident animal of a first picture, 0 for no animal.
    """
    boxes = animals[_BOX].to_numpy(float)
    found = animals[animals["number"] > 0]
    by_confidence = found.sort_values("confidence", ascending=False, kind="stable")
    of_picture = by_confidence.groupby("picture", sort=False).groups  # its lines
    track = np.zeros(len(animals), int)
    for pictures in found.groupby("sequence", sort=False)["picture"].unique():
        last: dict[int, int] = {}  # animal -> line where it was seen last
        for picture in pictures:
            lines = of_picture[picture]
            pairs = [
                (_difference(boxes[line], boxes[seen]), animal, line)
                for animal, seen in last.items()
                for line in lines
            ]
            again: dict[int, int] = {}
            for difference, animal, line in sorted(pairs):
                if difference <= _FARTHEST and line not in again and animal not in again.values():
                    again[line] = animal
            for line in lines:
                track[line] = again.get(line) or len(last) + 1
                last[track[line]] = line
    return track


def _difference(box: np.ndarray, other: np.ndarray) -> float:
    """Distance of two boxes' middles in their mean side, plus the logarithm of how their sides differ."""
    side, other_side = (np.sqrt(max(width * height, 1e-8)) for _, _, width, height in (box, other))
    apart = box[:2] + box[2:] / 2 - other[:2] - other[2:] / 2
    return 2 * np.hypot(*apart) / (side + other_side) + abs(np.log(side / other_side))


def in_order(text: str) -> str:
    """A key to sort texts by in which numbers count: "camera 10" comes after "camera 2"."""
    return re.sub(r"\d+", lambda digits: digits[0].zfill(12), text)


def _read_pictures(layout: Layout, found: Detections) -> pd.DataFrame:
    """A line a picture: those of the detections, in their order, then others that only metadata know."""
    try:
        counts = pd.read_csv(layout.counts, index_col="seq_id")["count"].astype(int) if layout.counts else {}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{layout.counts} is not a table of seq_id and count: {error}") from error
    known = itertools.chain.from_iterable(map(read_coco_camera_traps, layout.metadata))
    # By the files of their masks, which are the same for a name and an id.
    described = {mask_path(layout.masks, facts["picture"]): facts for facts in known}
    lines = []
    for row, name in enumerate(relative_names(found.names, layout.images)):
        folder = name.rpartition("/")[0]
        facts = {"picture": name, "split" if folder in SPLITS else "camera": folder, "row": row}
        lines.append(facts | found.facts.get(row, {}) | described.pop(mask_path(layout.masks, name), {}))
    pictures = pd.DataFrame([*lines, *described.values()], columns=[*_PICTURE, "row"])
    pictures[_TEXTS] = pictures[_TEXTS].astype(object).fillna("").astype(str)
    pictures["time"] = pd.Series(map(_time, pictures["time"]), dtype=_CLOCK)
    pictures["counted"] = pictures["sequence"].map(dict(counts))
    return pictures.assign(row=pictures["row"].fillna(-1).astype(int))


def _part(pictures: pd.DataFrame, most: int | None) -> pd.DataFrame:
    """A random part of many pictures, the same each time: whole sequences, where they are known."""
    if most is None or len(pictures) <= most:
        return pictures
    sequences = pictures["sequence"].where(pictures["sequence"] != "", pictures["picture"])
    sizes = sequences.value_counts(sort=False).sample(frac=1, random_state=0)
    chosen = sizes.index[(sizes.cumsum() <= most) | (np.arange(len(sizes)) == 0)]  # one at least
    return pictures[sequences.isin(chosen)].reset_index(drop=True)


def _find_sequences(pictures: pd.DataFrame, gap: pd.Timedelta) -> None:
    """Names sequences that metadata do not know after their first picture."""
    unknown = pictures[pictures["sequence"] == ""].sort_values(["camera", "time", "picture"])
    goes_on = (unknown["time"].diff() <= gap) & (unknown["camera"] == unknown["camera"].shift())
    names = unknown["picture"].mask(goes_on).ffill()  # a picture without a time is one of its own
    pictures.loc[unknown.index, "sequence"] = names


def _look(layout: Layout, found: Detections, name: str, row: int, undated: bool) -> tuple[Any, list[tuple]]:
    """When a picture was taken, as its file says, and what is known of its animals, as `_ANIMAL`."""
    time = _exif_time(picture_path(layout.images, name)) if undated else None
    detections = found[row] if row >= 0 else ()
    size, areas, qualities = (None, None), [None] * len(detections), {}
    with contextlib.suppress(InputError, ValueError):  # `deepmac.iwildcam.checks` says what is wrong
        labels = read_label_image(path := mask_path(layout.masks, name))
        size, areas = labels.shape, np.bincount(labels.ravel(), minlength=len(detections) + 1)[1:].tolist()
        qualities = json.loads((read_texts(path) or {}).get(QUALITY, "{}"))
    if not detections:
        return time, [(0, "", "", *[None] * 8, *size)]
    kinds = [found.categories.get(key, key) for key in detections.categories]
    sides = detections.corners[:, 2:] - detections.corners[:, :2]
    shares = np.where(detections.usable, 100 * sides.prod(axis=1), np.nan)
    facts = zip(
        kinds, detections.species, detections.confidences, *detections.boxes.T, shares, areas, strict=False
    )
    return time, [
        (number, *of_animal, qualities.get(str(number)), *size)
        for number, of_animal in enumerate(facts, start=1)
    ]


def _exif_time(path: Path | None) -> datetime.datetime | None:
    try:
        with Image.open(path) as picture:
            exif = picture.getexif()
            return _time(exif.get_ifd(IFD.Exif).get(ExifTag.DateTimeOriginal) or exif.get(ExifTag.DateTime))
    except (*READ_ERRORS, AttributeError):  # no such picture, or none that can be read
        return None


def _time(text) -> datetime.datetime | None:
    """Reads a time as ISO 8601, EXIF or American spreadsheets write it, by the clock of the camera."""
    try:
        return datetime.datetime.fromisoformat(_EXIF_DATE.sub(r"\1-\2-", str(text))).replace(tzinfo=None)
    except ValueError:
        with contextlib.suppress(ValueError):  # only with AM or PM it is known that the month comes first
            return datetime.datetime.strptime(str(text).strip(), "%m/%d/%Y %I:%M %p")
        return None


def _verdicts(animals: pd.DataFrame, verdicts: pd.DataFrame) -> np.ndarray:
    """The verdict on each line, "" where there is none."""
    reviewed = animals[_KEY].round(_DIGITS).merge(verdicts, "left", _KEY)
    return reviewed["review"].fillna("").to_numpy()


def _read_review(layout: Layout) -> pd.DataFrame:
    path = layout.images / REVIEW_FILE
    if not path.is_file():
        return pd.DataFrame(columns=[*_KEY, "review"]).astype({"number": int} | dict.fromkeys(_BOX, float))
    try:
        kinds = {"picture": str, "review": str} | dict.fromkeys(_BOX, float)  # "1001" is a name, too
        no_box = {column: [""] for column in _BOX}
        table = pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=no_box)
        return table[[*_KEY, "review"]].round(_DIGITS).drop_duplicates(_KEY, keep="last")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError) as error:
        columns = ", ".join([*_KEY, "review"])
        raise InputError(f"{path} is damaged: mend its columns {columns}, or move it away") from error
