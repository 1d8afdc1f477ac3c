"""The classes of a data set: which are COCO's, what ids records give them, how many have masks.

Records number the classes of any data set from 1, as networks do, whatever their ids in its annotation file
are; COCO's keep theirs. `categories.json` beside the records, and in the folder of a model trained on them,
has both ids of each class.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping

import tensorflow as tf

from deepmac.core.categories import is_coco
from deepmac.core.errors import InputError
from deepmac.data.coco import CocoData

CATEGORIES_FILE = "categories.json"


def classes_of(splits: Mapping[str, CocoData]) -> list[dict]:
    """The classes of a data set of these splits, in the order of their ids.

    Returns:
        A dict for each: `id` in records, `file_id` in the annotation file, `name`, `supercategory` if there
        is one, `boxes` and `masks`, dicts of the number of each by split, without crowd regions.

    Raises:
        InputError: the splits name a category differently.
    """
    by_id = {}
    for data in splits.values():
        for category in data.categories:
            known = by_id.setdefault(category["id"], category)
            if known["name"] != category["name"]:
                raise InputError(
                    f"{data.name}: category {category['id']} is {category['name']!r}, but another split "
                    f"calls it {known['name']!r}: give both the same categories"
                )
    entries = [by_id[file_id] for file_id in sorted(by_id)]
    keeps_ids = is_coco(entries)
    boxes, masks = Counter(), Counter()
    for split, data in splits.items():
        for annotation in data.annotations:
            if not annotation["iscrowd"]:
                boxes[annotation["category_id"], split] += 1
                masks[annotation["category_id"], split] += bool(annotation["segmentation"])
    return [
        {
            **{key: entry[key] for key in ("name", "supercategory") if key in entry},
            "id": entry["id"] if keeps_ids else number,
            "file_id": entry["id"],
            "boxes": {split: boxes[entry["id"], split] for split in splits},
            "masks": {split: masks[entry["id"], split] for split in splits},
        }
        for number, entry in enumerate(entries, start=1)
    ]


def write_classes(classes: list[dict], folder: str | os.PathLike) -> None:
    """Writes `categories.json` into a folder, any that TensorFlow can write to."""
    path = f"{folder}/{CATEGORIES_FILE}"
    with tf.io.gfile.GFile(f"{path}.tmp", "w") as file:
        file.write(json.dumps({"categories": classes}, indent=1))
    tf.io.gfile.rename(f"{path}.tmp", path, overwrite=True)


def read_classes(folder: str | os.PathLike) -> list[dict] | None:
    """The classes in a folder of records or of a model; None without `categories.json`.

    Raises:
        InputError: the file is damaged.
    """
    path = f"{folder}/{CATEGORIES_FILE}"
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path) as file:
        try:
            classes = json.loads(file.read())["categories"]
            return [entry | {"id": int(entry["id"]), "name": str(entry["name"])} for entry in classes]
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{path} is damaged ({error}): write the records again with `deepmac tfrecord`"
            ) from error
