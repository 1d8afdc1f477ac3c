"""Draws the pictures to validate with: none of the same sequence as one to train on, some of every class."""

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePosixPath

_SEQUENCE_FIELDS = ("seq_id", "sequence_id", "video_id")
_MIN_FOLDERS = 8  # fewer are no sequences, but parts of a data set


def draw_validation(images: Mapping[int, dict], annotations: Iterable[dict], fraction: float) -> set[int]:
    """Draws ids of pictures to validate with, the same ones every time.

    Pictures of a sequence stay together (COCO Camera Traps' `seq_id`, else the folder, where there are many).
    Of every class about the same part is drawn, the rarest first, but never all pictures that have it.

    Args:
        images: id -> entry of the annotation file.
        annotations: their entries, with `image_id` and `category_id`.
        fraction: part of the pictures, 0 to 1.
    """
    group_of = _groups(images)
    categories = defaultdict(set)  # of each group
    for annotation in annotations:
        categories[group_of[annotation["image_id"]]].add(annotation["category_id"])
    groups = sorted(set(group_of.values()), key=str)
    random.Random(0).shuffle(groups)
    groups_with = defaultdict(list)
    for group in groups:
        for category in categories[group]:
            groups_with[category].append(group)
    left = Counter(category for members in categories.values() for category in members)  # to train on
    drawn = set()

    def draw(candidates: Collection) -> None:
        missing = round(fraction * len(candidates)) - len(drawn.intersection(candidates))
        missing = min(missing, round(fraction * len(groups)) - len(drawn))
        for group in candidates:
            if missing > 0 and group not in drawn and all(left[one] > 1 for one in categories[group]):
                drawn.add(group)
                left.subtract(categories[group])
                missing -= 1

    for category in sorted(left, key=lambda one: (left[one], one)):
        draw(groups_with[category])
    draw(groups)
    return {image_id for image_id, group in group_of.items() if group in drawn}


def _groups(images: Mapping[int, dict]) -> dict[int, object]:
    """Image id -> what names its sequence; the id itself where there are none."""
    for field in _SEQUENCE_FIELDS:
        names = {i: None if image.get(field) is None else str(image[field]) for i, image in images.items()}
        if len(set(names.values())) > 1:
            return {image_id: image_id if name is None else name for image_id, name in names.items()}
    folders = {i: PurePosixPath(str(image.get("file_name", ""))).parent for i, image in images.items()}
    return folders if len(set(folders.values())) >= _MIN_FOLDERS else {i: i for i in images}
