"""Annotations in COCO format: one reader and checker for training, evaluation and commands."""

import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm.auto import tqdm

from deepmac.core.categories import COCO_CATEGORIES, NAME_BY_ID
from deepmac.core.errors import InputError
from deepmac.data.flaws import (
    BAD_MASK,
    BAD_POINTS,
    CORRUPT_PICTURE,
    MISSING_PICTURE,
    NO_AREA,
    NO_AREA_INSIDE,
    NOT_FINITE,
    NOT_LISTED,
    OTHER_SIZE,
    REACHES_BEYOND,
    TRAINING,
    UNKNOWN_IMAGE,
    WITHOUT_MASK,
    Flaw,
    Policy,
)
from deepmac.data.points import most_points, read_points
from deepmac.data.segmentations import mask_problem
from deepmac.data.splits import draw_validation

SPLITS = ("train2017", "val2017")
_EXAMPLES = 3  # of each flaw that a message tells


class CocoData(NamedTuple):
    """Checked annotations.

    Attributes:
        name: the file's path, for messages.
        image_dir: folder of the pictures; None if they are not needed.
        images: image id -> its entry, with `height` and `width` in pixels.
        categories: the entries, with `id` and `name`.
        annotations: the images' entries, with `id`, `image_id`, `category_id`, `bbox` (x, y, width, height)
            and `area` in pixels, `iscrowd` and `segmentation`, empty for those that are boxes only.
        repairs: flaw and how it was mended -> a text for each case.
    """

    name: str
    image_dir: Path | None
    images: dict[int, dict]
    categories: list[dict]
    annotations: list[dict]
    repairs: dict[str, list[str]]

    def annotations_of_images(self) -> dict[int, list[dict]]:
        """Returns image id -> its annotations, for every image."""
        by_image = {image_id: [] for image_id in self.images}
        for annotation in self.annotations:
            by_image[annotation["image_id"]].append(annotation)
        return by_image

    def part(self, image_ids: Collection[int]) -> "CocoData":
        """The same annotations, of some of the images."""
        return self._replace(
            images={i: image for i, image in self.images.items() if i in image_ids},
            annotations=[entry for entry in self.annotations if entry["image_id"] in image_ids],
        )

    def __str__(self):
        counts = f"{len(self.images)} images, {len(self.annotations)} annotations"
        if points := most_points(self.annotations):
            counts += f", {points} points for each (task.train_data.num_keypoints)"
        repairs = [f"  {_summary(kind, cases)}" for kind, cases in self.repairs.items()]
        return "\n".join([f"{self.name}: {counts}", *repairs])


def read_coco(
    source: str | os.PathLike | dict,
    policy: Policy,
    image_ids: Iterable[int] | None = None,
    image_dir: Path | None = None,
) -> CocoData:
    """Reads and checks annotations, and their pictures.

    Args:
        source: a JSON file as COCO's `instances_*.json`, or its content, which is left unchanged.
        policy: `TRAINING` or `EVALUATION`.
        image_ids: images to keep, those of other files may be among them; None keeps all.
        image_dir: folder of the pictures, all of which are decoded; None: they are not needed.

    Raises:
        InputError: file or folder is missing, the file holds no COCO annotations (of these images), or they
            have flaws that the policy calls errors.
    """
    name, content = _load(source)
    if image_dir is not None and not image_dir.is_dir():
        raise InputError(f"{image_dir}: no such folder; it must hold the pictures of {name}")
    listed = {image["id"]: image for image in _entries(name, content, "images")}
    entries = _entries(name, content, "annotations")
    if not policy.needs_categories and not content.get("categories"):
        content = content | {"categories": _categories_of(entries)}
    categories = _entries(name, content, "categories")
    wanted = listed if image_ids is None else set(image_ids)
    images = {image_id: image for image_id, image in listed.items() if image_id in wanted}
    if not images:
        raise InputError(f"{name}: none of the listed image ids is in it; check the list and the split")

    found = defaultdict(list)  # flaw -> a text for each case
    if image_dir is not None:
        for flaw, case in _picture_flaws(name, images.values(), image_dir):
            found[flaw].append(case)
    category_ids = {category["id"] for category in categories}
    annotations = []
    for entry in entries:
        image = images.get(entry["image_id"])
        if image is None and entry["image_id"] in listed:
            continue
        for flaw, case in _annotation_flaws(entry, image, category_ids):
            if flaw in policy.ignores:
                continue
            found[flaw].append(f"annotation {entry['id']}: {case}")
            if flaw not in policy.mends or flaw not in _MENDS:
                break
            entry = entry | _MENDS[flaw](entry, image)
        else:
            annotations.append(entry if "iscrowd" in entry else entry | {"iscrowd": 0})

    errors = [
        f"{_summary(flaw.name, cases)}: {flaw.remedy}"
        for flaw, cases in found.items()
        if flaw not in policy.mends
    ]
    if errors:
        raise InputError(f"{name}: {'; '.join(errors)}")
    if not annotations:
        raise InputError(f"{name}: no usable annotation of the {len(images)} images")
    repairs = {f"{flaw.name} {flaw.mended}".strip(): cases for flaw, cases in found.items()}
    return CocoData(name, image_dir, images, categories, annotations, repairs)


def read_coco_folder(
    coco_dir: str | os.PathLike,
    splits: Sequence[str] = SPLITS,
    ids: set[int] | dict[str, set[int]] | None = None,
) -> dict[str, CocoData]:
    """Reads and checks a folder for training: `annotations/instances_<split>.json`, pictures in `<split>/`.

    Args:
        coco_dir: the folder.
        splits: names of the splits.
        ids: image ids to use, as from `read_image_ids`; None uses all.

    Returns:
        Split -> its annotations.

    Raises:
        InputError: as `read_coco`, or listed ids are in none of the splits.
    """
    coco_dir = Path(coco_dir)
    if not coco_dir.is_dir():
        raise InputError(
            f"{coco_dir}: no such folder; it must have COCO's layout (annotations/, {splits[0]}/, …)"
        )
    ids_of = {split: ids.get(split, set()) if isinstance(ids, dict) else ids for split in splits}
    read = {}
    for split in splits:
        file = coco_dir / "annotations" / f"instances_{split}.json"
        read[split] = read_coco(file, TRAINING, ids_of[split], coco_dir / split)
    if ids is not None:
        lost = set().union(*ids_of.values()).difference(*(data.images for data in read.values()))
        if lost:
            files = ", ".join(data.name for data in read.values())
            raise InputError(f"{_summary('listed image ids', [str(i) for i in sorted(lost)])} not in {files}")
    return read


def read_annotation_files(
    annotations: str | os.PathLike,
    image_dir: str | os.PathLike,
    val_annotations: str | os.PathLike | None = None,
    val_fraction: float = 0.0,
) -> dict[str, CocoData]:
    """Reads and checks annotation files for training, whatever they are called.

    Args:
        annotations: JSON file in COCO format.
        image_dir: folder of the pictures.
        val_annotations: a second file, of the pictures to validate with.
        val_fraction: part of the pictures, 0 to 1, that `draw_validation` draws where there is no such file.

    Returns:
        "train", and if there is one "val" -> its annotations.

    Raises:
        InputError: as `read_coco`.
    """
    image_dir = Path(image_dir)
    if val_annotations:
        files = {"train": annotations, "val": val_annotations}
        return {split: read_coco(file, TRAINING, None, image_dir) for split, file in files.items()}
    data = read_coco(annotations, TRAINING, None, image_dir)
    drawn = draw_validation(data.images, data.annotations, val_fraction)
    if not drawn:
        return {"train": data}
    repairs_told_once = data._replace(repairs={}).part(drawn)
    return {"train": data.part(data.images.keys() - drawn), "val": repairs_told_once}


def read_image_ids(path: str | os.PathLike) -> set[int] | dict[str, set[int]]:
    """Reads a list of image ids.

    Args:
        path: text with ids separated by white space or commas (`#` starts a comment), a JSON list, or a
            JSON object {split: list}.

    Returns:
        The ids; for a JSON object, {split: ids}.
    """
    try:
        text = Path(path).read_text()
        if text.lstrip()[:1] in ("[", "{"):
            content = json.loads(text)
            if isinstance(content, dict):
                return {split: {int(image_id) for image_id in ids} for split, ids in content.items()}
            return {int(image_id) for image_id in content}
        lines = (line.partition("#")[0].replace(",", " ") for line in text.splitlines())
        return {int(word) for line in lines for word in line.split()}
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: not a list of image ids (text or JSON): {error}") from error


def _load(source: str | os.PathLike | dict) -> tuple[str, dict]:
    """The name of annotations, for messages, and their content."""
    if isinstance(source, dict):
        return "the annotations", source
    expected = "it must hold the annotations in COCO format"
    try:
        text = Path(source).read_bytes()
        content = json.loads(text)
    except OSError as error:
        raise InputError(f"{source}: {error.strerror.lower()}; {expected}") from error
    except ValueError as error:
        what = f"is not valid JSON ({error})" if text else "is empty"
        raise InputError(f"{source} {what}; {expected}") from error
    if not isinstance(content, dict):
        raise InputError(f"{source} holds no JSON object; {expected}")
    return str(source), content


def _is_number(value) -> bool:
    return isinstance(value, int | float)


_INTEGER = "an integer", lambda value: isinstance(value, int)
_LENGTH = "a positive integer", lambda value: isinstance(value, int) and value > 0
_TEXT = "a text", lambda value: isinstance(value, str)
_BOX = (
    "four numbers (x, y, width, height)",
    lambda value: isinstance(value, list) and len(value) == 4 and all(map(_is_number, value)),
)
# What every entry needs, whatever it is used for.
_FIELDS = {
    "images": {"id": _INTEGER, "height": _LENGTH, "width": _LENGTH},
    "annotations": {"id": _INTEGER, "image_id": _INTEGER, "category_id": _INTEGER, "bbox": _BOX},
    "categories": {"id": _INTEGER, "name": _TEXT},
}


def _entries(name: str, content: dict, section: str) -> list[dict]:
    """The entries of a section, each with what it needs and an id of its own."""
    entries = content.get(section)
    if not isinstance(entries, list):
        raise InputError(f"{name} has no list '{section}'; it must hold the annotations in COCO format")
    if not entries:
        raise InputError(f"{name} has no {section}: the list is empty")
    for index, entry in enumerate(entries):
        for field, (what, is_right) in _FIELDS[section].items():
            if not (isinstance(entry, dict) and is_right(entry.get(field))):
                raise InputError(
                    f"{name}: entry {index} of '{section}' needs '{field}', {what}: {str(entry)[:100]}"
                )
    ids = [entry["id"] for entry in entries]
    if len(set(ids)) < len(ids):
        value, count = Counter(ids).most_common(1)[0]
        raise InputError(f"{name}: {count} of the {section} have the same id {value}: make it unique")
    return entries


def _categories_of(annotations: list[dict]) -> list[dict]:
    """Categories for a file that lists none: COCO's if it has all ids, else named by their ids."""
    ids = {annotation["category_id"] for annotation in annotations}
    if ids <= NAME_BY_ID.keys():
        return [category._asdict() for category in COCO_CATEGORIES]
    return [{"id": number, "name": str(number)} for number in sorted(ids)]


def _picture_flaws(name: str, images: Collection[dict], folder: Path) -> Iterator[tuple[Flaw, str]]:
    """Decodes the pictures of a folder; yields the flaws, each with the file's name."""
    for image in images:
        if not isinstance(image.get("file_name"), str):
            raise InputError(f"{name}: image id {image['id']} needs 'file_name', a text: {str(image)[:100]}")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        flaws = pool.map(lambda image: _picture_flaw(folder / image["file_name"], image), images)
        bar = tqdm(flaws, f"Checking {folder.name}", len(images), unit="image", disable=None, leave=False)
        for image, flaw in zip(images, bar, strict=True):
            if flaw:
                yield flaw, image["file_name"]


def _picture_flaw(path: Path, annotated: dict) -> Flaw | None:
    try:
        with Image.open(path) as image:
            size = image.size
            # A JPEG at an eighth of its size: every byte is read, most of the work is saved.
            image.draft("L", (size[0] // 8, size[1] // 8))
            image.load()
    except FileNotFoundError:
        return MISSING_PICTURE
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return CORRUPT_PICTURE
    return None if size == (annotated["width"], annotated["height"]) else OTHER_SIZE


def _annotation_flaws(
    entry: dict, image: dict | None, category_ids: Collection[int]
) -> Iterator[tuple[Flaw, str]]:
    """Yields the flaws of an annotation, each with what exactly is wrong."""
    if image is None:
        yield UNKNOWN_IMAGE, f"image id {entry['image_id']} is not in the list of images"
        return
    if entry["category_id"] not in category_ids:
        yield NOT_LISTED, f"category id {entry['category_id']} is not in the list"
    box = entry["bbox"]
    if not all(map(math.isfinite, box)):
        yield NOT_FINITE, f"'bbox' is {box}"
    elif (clipped := _clipped_box(box, image)) != box:
        yield REACHES_BEYOND if clipped else NO_AREA_INSIDE, f"'bbox' is {box}"
    if entry.get("segmentation") in (None, [], {}, ""):
        yield WITHOUT_MASK, "a box only"
    elif problem := mask_problem(entry["segmentation"], image):
        yield BAD_MASK, problem
    try:
        read_points(entry)
    except (ValueError, TypeError) as error:
        yield BAD_POINTS, str(error)
    if not (_is_number(entry.get("area")) and math.isfinite(entry["area"])):
        yield NO_AREA, "it needs 'area', a number"


# What replaces a flaw of an annotation (its image beside it); other flaws cost the annotation.
_MENDS = {
    WITHOUT_MASK: lambda entry, image: {"segmentation": []},
    BAD_MASK: lambda entry, image: {"segmentation": []},
    REACHES_BEYOND: lambda entry, image: {"bbox": _clipped_box(entry["bbox"], image)},
    NO_AREA: lambda entry, image: {"area": entry["bbox"][2] * entry["bbox"][3]},
}


def _clipped_box(box: list[float], image: dict) -> list[float] | None:
    """The part of (x, y, width, height) in the image, the same numbers if it is all; None without area."""
    x, y, width, height = box
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + width, image["width"]), min(y + height, image["height"])
    if not (width > 0 and height > 0 and right > left and bottom > top):
        return None
    clipped_width = width if (left, right) == (x, x + width) else right - left
    clipped_height = height if (top, bottom) == (y, y + height) else bottom - top
    return [left, top, clipped_width, clipped_height]


def _summary(kind: str, cases: list[str]) -> str:
    more = ", …" if len(cases) > _EXAMPLES else ""
    return f"{kind}: {len(cases)} ({', '.join(cases[:_EXAMPLES])}{more})"
