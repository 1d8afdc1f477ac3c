"""COCO folders: check them, and write them as TFRecords.

The layout is COCO's: `annotations/instances_<split>.json` and the pictures in `<split>/`. Real COCO has
flaws of its own (boxes a hundredth of a pixel outside, boxes without area): those are repaired and
reported. What would train on wrong data, or stop half-way, is an error before anything is written.
"""

import dataclasses
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as rle
from tqdm.auto import tqdm

from deepmac.core.categories import NAME_BY_ID
from deepmac.core.errors import InputError
from deepmac.core.files import atomic_folder
from deepmac.data.points import add_points, most_points, points_problem

SPLITS = ("train2017", "val2017")

# Kinds of errors, with what to do about them.
_REMEDIES = {
    "missing images": "complete the folder",
    "corrupt images": "download them again",
    "images of another size than annotated": "use the annotations made for these pictures",
    "annotations of categories that COCO does not have": "map their category_id to COCO's ids",
    "annotations with malformed points": "give keypoints as COCO, or point_coords and point_labels",
}
_MIN_IMAGES_FOR_PROCESSES = 200
_EXAMPLES = 3


@dataclasses.dataclass
class CocoReport:
    """What a check found.

    Attributes:
        annotation_file: the file checked.
        dataset: its content, with the repairs made and only the images asked for.
        errors: kind -> a text for each case; the data cannot be used while there are any.
        repairs: kind -> a text for each case that was repaired or left out.
    """

    annotation_file: Path
    dataset: dict
    errors: dict[str, list[str]]
    repairs: dict[str, list[str]]

    def __str__(self):
        counts = f"{len(self.dataset['images'])} images, {len(self.dataset['annotations'])} annotations"
        if not self.errors and (points := most_points(self.dataset["annotations"])):
            counts += f", {points} points for each (task.train_data.num_keypoints)"
        return "\n".join(
            [f"{self.annotation_file}: {counts}"]
            + [f"  error: {_summary(kind, cases)}" for kind, cases in self.errors.items()]
            + [f"  {_summary(kind, cases)}" for kind, cases in self.repairs.items()]
        )

    def raise_errors(self) -> None:
        """Raises InputError, with counts, examples and remedies, if there are errors."""
        if self.errors:
            found = "; ".join(
                f"{_summary(kind, cases)}: {_REMEDIES[kind]}" for kind, cases in self.errors.items()
            )
            raise InputError(f"{self.annotation_file}: {found}")


def check_coco(annotation_file: Path, image_dir: Path, ids: Iterable[int] | None = None) -> CocoReport:
    """Checks an annotation file in COCO format and its pictures.

    Args:
        annotation_file: `instances_*.json`.
        image_dir: folder of the pictures; every picture is decoded.
        ids: image ids to keep; None keeps all.

    Returns:
        The report. Boxes are clipped to the image; boxes without area, and annotations of unknown images
        or without a usable mask, are left out.

    Raises:
        InputError: file or folder is missing, the file is not COCO annotations, has no images or no
            annotations (of the ids).
    """
    dataset = _read_annotations(Path(annotation_file))
    if not Path(image_dir).is_dir():
        raise InputError(f"{image_dir}: no such folder; it must hold the pictures of {annotation_file}")
    known = {image["id"]: image for image in dataset["images"]}
    ids = known if ids is None else set(ids)
    wanted = {image_id: image for image_id, image in known.items() if image_id in ids}
    if not wanted:
        raise InputError(
            f"{annotation_file}: none of the listed image ids is in it; check the list and the split"
        )
    errors, repairs = defaultdict(list), defaultdict(list)
    _check_images(wanted.values(), Path(image_dir), errors)
    annotations = list(_repaired(dataset["annotations"], known, wanted, errors, repairs))
    if not annotations and not errors:
        raise InputError(f"{annotation_file}: no usable annotation of the {len(wanted)} images")
    for category in dataset.get("categories", []):
        name = NAME_BY_ID.get(category["id"], category["name"])
        if category["name"] != name:
            text = f"{category['id']} is {category['name']!r}, taken as {name!r}"
            repairs["categories named differently from COCO"].append(text)
    dataset = dataset | {"images": list(wanted.values()), "annotations": annotations}
    return CocoReport(Path(annotation_file), dataset, dict(errors), dict(repairs))


def read_image_ids(path: Path) -> set[int] | dict[str, set[int]]:
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


def write_tfrecords(
    coco_dir: Path,
    out_dir: Path,
    splits: Sequence[str] = SPLITS,
    num_shards: int | None = None,
    ids: set[int] | dict[str, set[int]] | None = None,
) -> dict[str, CocoReport]:
    """Checks a COCO folder and writes it as TFRecords, with masks, by Model Garden's converter.

    Writes `<split>-00000-of-0000N.tfrecord` and, for evaluation, `instances_<split>.json` with exactly
    the images and annotations written. The folder appears when everything is complete.

    Args:
        coco_dir: folder in COCO layout.
        out_dir: folder to write; new or empty.
        splits: names of the splits.
        num_shards: files per split; None: 8, and one per 400 images of larger splits, up to 256.
        ids: image ids to use, as from `read_image_ids`; None uses all.

    Returns:
        The report of each split.

    Raises:
        InputError: `out_dir` is not empty, or the data has errors; nothing is written.
    """
    coco_dir, out_dir = Path(coco_dir), Path(out_dir)
    if not coco_dir.is_dir():
        raise InputError(
            f"{coco_dir}: no such folder; it must have COCO's layout (annotations/, {splits[0]}/, …)"
        )
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise InputError(f"{out_dir} exists and is not an empty folder: name another one, or delete it")
    reports = {split: _check_split(coco_dir, split, ids) for split in splits}
    for report in reports.values():
        report.raise_errors()
    _require_all_found(ids, reports)
    with atomic_folder(out_dir) as folder:
        for split, report in reports.items():
            _write_split(report.dataset, coco_dir / split, folder, split, num_shards)
    return reports


def _read_annotations(path: Path) -> dict:
    if not path.is_file():
        raise InputError(f"{path}: no such file; it must hold the annotations in COCO format")
    try:
        dataset = json.loads(path.read_bytes())
    except ValueError as error:
        what = "is empty" if path.stat().st_size == 0 else f"is not valid JSON ({error})"
        raise InputError(f"{path} {what}; it must hold the annotations in COCO format") from error
    for key, is_complete in {"images": _is_image, "annotations": _is_annotation}.items():
        entries = dataset.get(key) if isinstance(dataset, dict) else None
        if not isinstance(entries, list):
            raise InputError(f"{path} has no list {key!r}; it must hold the annotations in COCO format")
        if not entries:
            raise InputError(f"{path}: the list {key!r} is empty, there is nothing to train on")
        for number, entry in enumerate(entries):
            if not is_complete(entry):
                raise InputError(f"{path}: entry {number} of {key!r} is not as in COCO: {str(entry)[:100]}")
        if len({entry["id"] for entry in entries}) < len(entries):
            raise InputError(f"{path}: an id is used twice in {key!r}")
    categories = dataset.get("categories", [])
    if not (isinstance(categories, list) and all(map(_is_category, categories))):
        raise InputError(f"{path}: 'categories' is not a list of ids and names as in COCO")
    return dataset


def _is_category(entry) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("id"), int) and isinstance(entry.get("name"), str)


def _is_image(entry) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("file_name"), str)
        and all(isinstance(entry.get(key), int) for key in ("id", "height", "width"))
        and min(entry["height"], entry["width"]) > 0
    )


def _is_annotation(entry) -> bool:
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(key), int) for key in ("id", "image_id", "category_id"))
        and isinstance(entry.get("bbox"), list)
        and len(entry["bbox"]) == 4
        and all(isinstance(number, int | float) for number in entry["bbox"])
    )


def _check_images(images: Iterable[dict], image_dir: Path, errors: dict[str, list[str]]) -> None:
    images = list(images)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        kinds = pool.map(lambda image: _image_error(image_dir / image["file_name"], image), images)
        progress = tqdm(
            kinds, f"Checking {image_dir.name}", len(images), unit="image", disable=None, leave=False
        )
        for image, kind in zip(images, progress, strict=True):
            if kind:
                errors[kind].append(image["file_name"])


def _image_error(path: Path, annotated: dict) -> str | None:
    try:
        with Image.open(path) as image:
            size = image.size
            # A JPEG at an eighth of its size: every byte is read, most of the work is saved.
            image.draft("L", (size[0] // 8, size[1] // 8))
            image.load()
    except FileNotFoundError:
        return "missing images"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return "corrupt images"
    if size != (annotated["width"], annotated["height"]):
        return "images of another size than annotated"
    return None


def _repaired(annotations, known, wanted, errors, repairs) -> Iterator[dict]:
    """Yields the usable annotations of the wanted images, boxes clipped."""
    for annotation in annotations:
        name = f"annotation {annotation['id']}"
        image = wanted.get(annotation["image_id"])
        if image is None:
            if annotation["image_id"] not in known:
                repairs["annotations of unknown images left out"].append(name)
            continue
        if annotation["category_id"] not in NAME_BY_ID:
            kind = "annotations of categories that COCO does not have"
            errors[kind].append(f"{name}: {annotation['category_id']}")
            continue
        box = _clipped_box(annotation["bbox"], image)
        if box is None:
            repairs["boxes without area in the image left out"].append(name)
            continue
        if not _is_segmentation(annotation.get("segmentation"), image):
            repairs["annotations without a usable mask left out"].append(name)
            continue
        if (problem := points_problem(annotation)) is not None:
            errors["annotations with malformed points"].append(f"{name}: {problem}")
            continue
        if box != annotation["bbox"]:
            repairs["boxes clipped to the image"].append(name)
        defaults = {"iscrowd": 0, "area": box[2] * box[3]}
        yield defaults | annotation | {"bbox": box}


def _clipped_box(box, image: dict) -> list[float] | None:
    """Returns the part of (x, y, width, height) in the image, the very same numbers if all of it is."""
    x, y, width, height = box
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + width, image["width"]), min(y + height, image["height"])
    if not (width > 0 and height > 0 and right > left and bottom > top):
        return None
    clipped_width = width if (left, right) == (x, x + width) else right - left
    clipped_height = height if (top, bottom) == (y, y + height) else bottom - top
    return [left, top, clipped_width, clipped_height]


def _is_segmentation(segmentation, image: dict) -> bool:
    """Whether it is polygons of three points or more, or run lengths of the image's size with an object."""
    if isinstance(segmentation, dict):
        shape = [image["height"], image["width"]]
        if segmentation.get("size") != shape:
            return False
        counts = segmentation.get("counts")
        if isinstance(counts, list):
            return sum(counts) == shape[0] * shape[1] and sum(counts[1::2]) > 0
        return isinstance(counts, str) and rle.area(segmentation) > 0
    return bool(segmentation) and all(
        isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in segmentation
    )


def _check_split(coco_dir: Path, split: str, ids) -> CocoReport:
    ids = ids.get(split, set()) if isinstance(ids, dict) else ids
    return check_coco(coco_dir / "annotations" / f"instances_{split}.json", coco_dir / split, ids)


def _require_all_found(ids, reports: dict[str, CocoReport]) -> None:
    found = {split: {image["id"] for image in report.dataset["images"]} for split, report in reports.items()}
    if isinstance(ids, dict):
        lost = set().union(*(ids[split] - found[split] for split in reports))
    else:
        lost = (ids or set()).difference(*found.values())
    if lost:
        files = ", ".join(str(report.annotation_file) for report in reports.values())
        raise InputError(
            f"{_summary('listed image ids', [str(lost_id) for lost_id in sorted(lost)])} not in {files}"
        )


def _write_split(dataset: dict, image_dir: Path, folder: Path, split: str, num_shards: int | None) -> None:
    import tensorflow as tf

    level = tf.get_logger().level
    from official.vision.data import create_coco_tf_record, tfrecord_lib  # noqa: F401

    tf.get_logger().setLevel(level)  # the import sets it to INFO for the whole process
    annotations = defaultdict(list)
    for annotation in dataset["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    images = dataset["images"]
    num_points = most_points(dataset["annotations"])
    items = ((image, annotations[image["id"]], str(image_dir), num_points) for image in images)
    skipped = tfrecord_lib.write_tf_record_dataset(
        str(folder / split),
        tqdm(items, f"Writing {split}", len(images), unit="image", disable=None, leave=False),
        _tf_example,
        num_shards or max(8, min(256, len(images) // 400)),
        multiple_processes=None if len(images) >= _MIN_IMAGES_FOR_PROCESSES else 0,
        unpack_arguments=False,  # streams; otherwise all examples are held in memory
    )
    if skipped:
        raise RuntimeError(f"the converter left out {skipped} annotations of {split} that passed the check")
    with (folder / f"instances_{split}.json").open("w") as file:
        json.dump(dataset, file)


def _tf_example(item: tuple[dict, list[dict], str, int]):
    """Converts one image; returns the `tf.train.Example` and the number of annotations left out."""
    from official.vision.data import create_coco_tf_record

    image, annotations, image_dir, num_points = item
    example, skipped = create_coco_tf_record.create_tf_example(
        image,
        [image_dir],
        bbox_annotations=[
            annotation | {"segmentation": _converter_segmentation(annotation, image)}
            for annotation in annotations
        ],
        id_to_name_map=NAME_BY_ID,
        include_masks=True,
    )
    if num_points:
        add_points(example, annotations, num_points, image["height"], image["width"])
    return example, skipped


def _converter_segmentation(annotation: dict, image: dict):
    """Returns the mask in the forms Model Garden's converter takes.

    Polygons or a list of uncompressed run lengths for an object, uncompressed run lengths for a crowd.
    """
    segmentation = annotation["segmentation"]
    crowd = annotation["iscrowd"]
    if isinstance(segmentation, list):
        if not crowd:
            return segmentation
        polygons = rle.frPyObjects(segmentation, image["height"], image["width"])
        segmentation = rle.merge(polygons)
    if not isinstance(segmentation["counts"], list):
        segmentation = _uncompressed(segmentation)
    return segmentation if crowd else [segmentation]


def _uncompressed(segmentation: dict) -> dict:
    pixels = rle.decode(segmentation).ravel(order="F")
    edges = np.flatnonzero(np.diff(pixels, prepend=0))  # where a run starts, the first run being zeros
    counts = np.diff(edges, prepend=0, append=pixels.size)
    return {"size": segmentation["size"], "counts": counts.tolist()}


def _summary(kind: str, cases: list[str]) -> str:
    more = ", …" if len(cases) > _EXAMPLES else ""
    return f"{kind}: {len(cases)} ({', '.join(cases[:_EXAMPLES])}{more})"
