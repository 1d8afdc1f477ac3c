"""Annotations in COCO format: one reader and checker for training, evaluation and commands."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm.auto import tqdm

from deepmac.core.errors import InputError
from deepmac.core.executors import threads
from deepmac.data import flaws, rules
from deepmac.data.category_lists import CATEGORY_FIELDS, numbered, read_categories
from deepmac.data.flaws import LOST, Finding, Findings, Policy, summary
from deepmac.data.formats import load_annotations
from deepmac.data.formats.collected import COLLECTED
from deepmac.data.numbers import key_in, key_of, whole
from deepmac.data.picture_files import find_pictures, measure

_CONTENT = ("segmentation", "iscrowd", "point_coords", "point_labels", "score")  # beside category and box
_IMAGE_FIELDS = ("image_id", "img_id", "file_name", "image")  # with which annotations name their image
_REPORTED = 20  # examples of each kind of flaw in a report


class NothingAnnotatedError(InputError):
    """Annotations without an image or an annotation."""


class CocoData(NamedTuple):
    """Checked annotations."""

    name: str  # the file's path, for messages
    image_dir: Path | None  # folder of the pictures; None if they are not needed
    images: dict[int, dict]  # image id -> its entry, with `height` and `width` in pixels
    categories: list[dict]  # the entries, with `id` and `name`
    # The images' entries, with `id`, `image_id`, `category_id`, `bbox` (x, y, width, height) and `area` in
    # pixels, `iscrowd` and `segmentation`, empty for those that are boxes only.
    annotations: list[dict]
    repairs: dict[str, list[str]]  # flaw and how it was mended -> a text for each case
    are_names: bool = False  # whether the file names categories only, and their ids are made up

    @property
    def lost(self) -> list[str]:
        """A line about each kind of flaw that cost entries."""
        return [summary(kind, cases) for kind, cases in self.repairs.items() if kind.endswith(LOST)]

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

    def seen_from(self, folder: Path) -> "CocoData":
        """The same annotations, whose pictures are called by their paths in another folder."""
        way = os.path.relpath(self.image_dir or ".", folder)
        named = {
            i: image | {"file_name": Path(way, image["file_name"]).as_posix()}
            for i, image in self.images.items()
        }
        return self._replace(images=named, image_dir=folder)

    def content(self) -> dict:
        """The same as the content of a COCO file."""
        images = list(self.images.values())
        return {"images": images, "annotations": self.annotations, "categories": self.categories}

    def most_points(self) -> int:
        """The largest number of points of one annotation."""
        return max((len(entry.get("point_labels") or ()) for entry in self.annotations), default=0)

    def report(self) -> dict:
        """What was read, derived, repaired and left out, fit for JSON."""
        kinds = {category["id"]: category["name"] for category in self.categories}
        boxes = Counter(kinds[entry["category_id"]] for entry in self.annotations)
        masks = Counter(kinds[entry["category_id"]] for entry in self.annotations if entry["segmentation"])
        return {
            "file": self.name,
            "images": len(self.images),
            "annotations": len(self.annotations),
            "masks": masks.total(),
            "categories": {name: {"boxes": boxes[name], "masks": masks[name]} for name in kinds.values()},
            "repairs": [
                {"what": kind, "count": len(cases), "examples": cases[:_REPORTED]}
                for kind, cases in self.repairs.items()
            ],
        }

    def __str__(self):
        counts = f"{len(self.images)} images, {len(self.annotations)} annotations"
        if crowds := sum(entry["iscrowd"] for entry in self.annotations):
            counts += f" ({crowds} of crowds, which are no objects)"
        counts += f", {sum(bool(entry['segmentation']) for entry in self.annotations)} with masks"
        if points := self.most_points():
            counts += f", {points} points for each (task.train_data.num_keypoints)"
        repairs = [f"  {summary(kind, cases)}" for kind, cases in self.repairs.items()]
        return "\n".join([f"{self.name}: {counts}", *repairs])


def read_coco(
    source: str | os.PathLike | dict,
    policy: Policy,
    image_ids: Iterable[int] | None = None,
    image_dir: Path | None = None,
    name: str = "the annotations",
) -> CocoData:
    """Reads and checks annotations, and their pictures.

    Args:
        source: annotations in a format of `load_annotations`, or the content of a COCO file, left unchanged,
            which messages call `name`.
        policy: `TRAINING`, `EVALUATION` or `BOXES`.
        image_ids: images to keep, those of other files may be among them; None keeps all.
        image_dir: folder of the pictures, all of which are decoded; None: they are not needed.

    Raises:
        InputError: file or folder is missing, the file holds no COCO annotations (of these images), or they
            have flaws that the policy calls errors.
    """
    name = name if isinstance(source, dict) else str(source)
    content = source if isinstance(source, dict) else load_annotations(Path(source), image_dir)
    if image_dir is not None and not image_dir.is_dir():
        raise InputError(f"{image_dir}: no such folder; it must hold the pictures of {name}")
    collected = COLLECTED in content
    findings = Findings(policy, flaws.NOT_OF_OTHERS if collected else ())
    listed, ways = _images(name, content, findings)
    entries = _entries(name, content, "annotations", findings)
    image_of = _image_of(name, ways, {key_in(entry, _IMAGE_FIELDS) for entry in entries})
    wanted = set(listed if image_ids is None else image_ids)
    chosen = [image for image_id, image in listed.items() if image_id in wanted]
    if listed and not chosen:
        raise InputError(f"{name}: none of the listed image ids is in it; check the list and the split")

    def boxes_of(image_ids: Collection[int]) -> dict[int, list]:
        """The boxes of images as they are written."""
        boxes: dict[int, list] = {image_id: [] for image_id in image_ids}
        for entry in entries:
            image_id = image_of.get(key_in(entry, _IMAGE_FIELDS))
            if image_id in boxes and (box := rules.read_box(entry)):
                boxes[image_id].append(box)
        return boxes

    images = _checked_images(name, chosen, image_dir, boxes_of, findings)
    if not images:
        reasons = findings.remedies() or findings.remedies(LOST)
        raise InputError(f"{name}: no usable image: {reasons}")
    categories, category_ids = read_categories(name, content.get("categories"), entries, findings)

    pairs = []
    for entry in numbered(entries, "annotations", findings):
        image_id = image_of.get(key_in(entry, _IMAGE_FIELDS))
        if image_id is None or image_id in images:
            pairs.append((entry, images.get(image_id)))
    mode = rules.box_mode(name, (pair for pair in pairs if pair[1])) if policy.mends is None else None
    if mode is not None:
        pairs = [(entry | {"bbox_mode": mode}, image) for entry, image in pairs]
    settled = (
        findings.settle(entry, "annotation", rules.ANNOTATION_RULES, image, category_ids)
        for entry, image in pairs
    )
    annotations = [entry for entry in settled if entry is not None]
    if flaws.REPEATED not in policy.ignores:
        annotations = _once(annotations, findings)
    if flaws.ALL_CROWDS not in policy.ignores:
        annotations = rules.objects_of(annotations, findings)
    if flaws.RECTANGLES not in policy.ignores:
        for finding in rules.rectangle_findings(annotations, {one["id"]: one["name"] for one in categories}):
            findings.add(finding)
    if errors := findings.remedies():
        raise InputError(f"{name}: {errors}")
    if not annotations:
        reasons = findings.remedies(LOST)
        raise InputError(f"{name}: no usable annotation of the {len(images)} images; {reasons}".rstrip("; "))
    given = content.get("categories") if collected else None
    used = [one["id"] for one in given] if given else {key_in(one, CATEGORY_FIELDS) for one in entries}
    are_names = (collected or not content.get("categories")) and all(isinstance(key, str) for key in used)
    return CocoData(name, image_dir, images, categories, annotations, findings.repairs(), are_names)


def _entries(name: str, content: dict, section: str, findings: Findings) -> list[dict]:
    """The entries of a section that are JSON objects."""
    entries = content.get(section)
    if not isinstance(entries, list):
        raise InputError(f"{name} has no list '{section}'; it must hold the annotations in COCO format")
    if not entries:
        reasons = f"; {lost}" if (lost := findings.remedies(LOST)) else ""
        raise NothingAnnotatedError(f"{name} has no {section}: the list is empty{reasons}")
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            findings.add(Finding(flaws.NOT_AN_ENTRY, f"entry {index} of '{section}' is {str(entry)[:200]}"))
    return [entry for entry in entries if isinstance(entry, dict)]


def _once(annotations: list[dict], findings: Findings) -> list[dict]:
    """Settled annotations without those that say what another one does."""
    alike: dict[tuple, list[dict]] = {}  # those of the same image, category and box
    kept = []
    for entry in annotations:
        others = alike.setdefault((entry["image_id"], entry["category_id"], *entry["bbox"]), [])
        said = [entry.get(field) for field in _CONTENT]
        if any(said == [other.get(field) for field in _CONTENT] for other in others):
            findings.add(Finding(flaws.REPEATED, f"annotation {entry.get('given_id', entry['id'])}", {}))
        else:
            others.append(entry)
            kept.append(entry)
    return kept


def _images(
    name: str, content: dict, findings: Findings
) -> tuple[dict[int, dict], list[dict[int | str, set[int]]]]:
    """The listed images by id; and how annotations may give them -> ids, the surest ways first."""
    by_key: dict = {}
    for entry in _entries(name, content, "images", findings):
        key = key_of(entry["id"]) if entry.get("id") is not None else (len(by_key), "no id")
        first = by_key.setdefault(key, entry)
        if first is not entry and rules.name_of(first) != rules.name_of(entry):
            raise InputError(f"{name}: 2 of the images have the same id {key}: make it unique")
        if first is not entry:
            findings.add(Finding(flaws.TWICE, str(entry.get("file_name")), {}))
    images = numbered(list(by_key.values()), "images", findings)
    first_of: list[dict] = []
    same: dict[tuple, dict] = {}
    for image in images:
        picture = (rules.name_of(image), str(image.get("path")), rules.annotated_size(image))
        first = image if picture[0] is None else same.setdefault(picture, image)
        first_of.append(first)
        if first is not image:
            findings.add(Finding(flaws.TWICE, str(picture[0]), {}))
    ways: list[dict[int | str, set[int]]] = [defaultdict(set) for _ in range(5)]
    for key, image in zip(by_key, first_of, strict=True):
        file_name = rules.name_of(image) or ""
        stem = PurePosixPath(file_name).stem
        for way, said in zip(ways, (key, file_name, stem, whole(key), whole(stem)), strict=True):
            if said not in (None, ""):
                way[said].add(image["id"])
    return {image["id"]: image for image in first_of}, ways


def _image_of(name: str, ways: list[dict[int | str, set[int]]], keys: set) -> dict[int | str, int]:
    """Image ids by `keys`, as annotations give them: by the numbers in them only if there is no other way.

    Raises:
        InputError: one of them could be several images.
    """
    ids, names, stems, *numbers = ways
    found = stems | names | ids
    for way in numbers:
        if not keys & found.keys():
            found = {key: way[n] for key in keys if (n := whole(key)) is not None and n in way}
    for key in keys & found.keys():
        if len(found[key]) > 1:
            raise InputError(f"{name}: image {key} of annotations could be any of {len(found[key])}")
    return {key: next(iter(image_ids)) for key, image_ids in found.items()}


def _checked_images(
    name: str, images: list[dict], folder: Path | None, boxes_of: Callable, findings: Findings
) -> dict[int, dict]:
    """The usable images by id, with the sizes and paths of their pictures."""

    def settled(images: Iterable[dict], *checks: Callable) -> list[dict]:
        found = (findings.settle(image, "", checks) for image in images)
        return [image for image in found if image is not None]

    if folder is not None:
        shared = rules.shared_names(images)
        images = settled(images, lambda image: rules.name_findings(image, shared))
        try:
            paths = find_pictures([image["file_name"] for image in images], folder)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        paths |= _converted({image["file_name"] for image in images} - paths.keys(), paths, folder)
        with threads() as pool:
            sizes = pool.map(lambda path: measure(folder / path), paths.values())
            bar = tqdm(sizes, f"Checking {folder.name}", len(paths), unit="image", disable=None, leave=False)
            pictures = {key: (paths[key].as_posix(), size) for key, size in zip(paths, bar, strict=True)}
        found = ((image, pictures.get(image["file_name"], ("", ""))[1]) for image in images)
        swapped = [image for image, size in found if rules.is_swapped(image, size)]
        boxes = boxes_of([image["id"] for image in swapped]) if swapped else {}
        may_swap = rules.sizes_are_swapped((image, boxes[image["id"]]) for image in swapped)
        images = settled(
            images, lambda image: rules.image_findings(image, pictures.get(image["file_name"]), may_swap)
        )
    return {image["id"]: image for image in settled(images, rules.size_findings)}


def _converted(missing: Collection[str], found: dict[str, Path], folder: Path) -> dict[str, Path]:
    """Paths of missing pictures that are there with another suffix, of another format."""
    names = {re.sub(r"\.[a-z]{3,4}$", "", name, flags=re.IGNORECASE): name for name in missing}
    try:
        others = find_pictures(names, folder)
    except InputError:  # several have the name
        return {}
    taken = set(found.values())
    return {names[stem]: path for stem, path in others.items() if path not in taken}
