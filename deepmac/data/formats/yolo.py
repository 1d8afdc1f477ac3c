"""YOLO: a text for each picture, and a file with the names of the classes (https://docs.ultralytics.com)."""

import itertools
import re
from functools import partial
from pathlib import Path

import yaml

from deepmac.core.errors import InputError
from deepmac.data.formats.collected import annotation, collected, each
from deepmac.data.numbers import number, whole
from deepmac.data.picture_files import PictureSize

CLASS_FILES = ("data.yaml", "dataset.yaml", "data.yml", "classes.txt", "obj.names", "labels.txt")
_BEYOND = 1.1  # numbers above are no part of a side


def read_yolo(files: list[Path], folder: Path, files_of_pictures: list[Path], image_dir: Path) -> dict:
    """Text for each picture, a line for each object: class, then centre and sides, or points, from 0 to 1."""

    def named(paths: list[Path], place: Path) -> dict[Path, Path]:
        found: dict[Path, Path] = {}
        for path in paths:  # both may lie below one folder, in labels and images
            parts = path.relative_to(place).with_suffix("").parts
            name = Path(*(part.casefold() for part in parts if part not in ("labels", "images")))
            if found.setdefault(name, path) is not path:
                raise InputError(f"{found[name]} and {path} are both called {name}: rename or remove one")
        return found

    labels = named([file for file in files if "labels" in file.relative_to(folder).parts] or files, folder)
    pictures = named(files_of_pictures, image_dir)
    names, points = _class_file(folder)
    first = min(labels)
    labels = {name: path for name, path in labels.items() if name in pictures or _has_objects(path)}
    if not labels.keys() & pictures.keys():
        raise InputError(
            f"{folder}: no label is named like a picture of {image_dir}, the first is {first}: "
            "give the folder of these pictures by --images, and the folder of their labels"
        )

    def read(name: Path) -> tuple[dict, list]:
        if name not in pictures:
            return {"file_name": str(name)}, []
        size = PictureSize.read(pictures[name])
        width, height = size.upright if size else (1, 1)
        lines = labels[name].read_text("utf-8-sig", "replace").splitlines() if name in labels else []
        objects = each(partial(_object, width, height, points), lines, f"{name}.txt line")
        file_name = pictures[name].relative_to(image_dir).as_posix()
        return {"file_name": file_name, "width": width, "height": height}, objects

    return collected(sorted(labels.keys() | pictures.keys()), read, names)


def _has_objects(file: Path) -> bool:
    """Whether it is a file of labels, and no notice or list of pictures; True if it cannot be read."""
    try:
        lines = file.read_text("utf-8-sig", "replace").splitlines()
    except OSError:
        return True
    return not lines or any(isinstance(one, dict) for one in each(partial(_object, 1, 1, 0), lines, ""))


def _object(width: int, height: int, points: int, line: str) -> dict | None:
    """The object of a line, in which `points` numbers behind the box are those of a pose."""
    words = line.split()
    if not words:
        return None
    kind = whole(words[0])
    values = [number(x) * side for x, side in zip(words[1:], itertools.cycle((width, height)), strict=False)]
    if kind is None or kind < 0 or len(values) < 4:
        raise ValueError(f"{line[:60]!r} is no class with a box or a polygon")
    x, y, box_width, box_height = values[:4]
    box = [x - box_width / 2, y - box_height / 2, box_width, box_height]
    is_pose = max(map(number, words[5:]), default=0) > _BEYOND  # how visible its points are, 0 to 2
    if is_pose or (points and len(values) >= 4 + points):
        return {"category_id": kind, "bbox": box}
    return annotation("", values[: len(values) // 2 * 2], box) | {
        "category_id": kind
    }  # without the confidence


def _class_file(folder: Path) -> tuple[dict[int, str], int]:
    """Classes of a YOLO data set, from the file beside its labels or above; numbers of points in a line.

    Raises:
        InputError: the file has no names.
    """
    places = [place / name for place in (folder, *folder.absolute().parents[:2]) for name in CLASS_FILES]
    others = [
        file
        for place in dict.fromkeys(one.parent for one in places)
        for file in place.glob("*.yaml")
        if file.is_file()
    ]
    named = (
        file for file in sorted(others) if re.search(r"^names:", file.read_text("utf-8", "replace"), re.M)
    )
    path = next((place for place in places if place.is_file()), None) or next(named, None)
    if path is None:
        return {}, 0
    text = path.read_text("utf-8-sig", "replace")
    if path.suffix not in (".yaml", ".yml"):
        return dict(enumerate(line.strip() for line in text.splitlines() if line.strip())), 0
    try:
        content = yaml.BaseLoader(text).get_single_data()  # texts only: a class may be called "no"
        names, points = content["names"], content.get("kpt_shape") or [0, 0]
        if whole(names) is not None:
            raise ValueError(names)
        names = names.split(",") if isinstance(names, str) else names
        names = names if isinstance(names, dict) else dict(enumerate(names))
        return {int(key): str(name).strip() for key, name in names.items()}, int(points[0]) * int(points[1])
    except (yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} has no 'names': a list, or class numbers with their names") from error
