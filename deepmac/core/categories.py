"""COCO categories and the class splits of the paper.

The 80 categories of COCO 2017 (ids 1 to 90 with gaps), and the split of section 4 of
arXiv 2104.00613: the 20 classes that are also in PASCAL VOC against the other 60.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Category(NamedTuple):
    """A COCO category: id as in the annotation files, name, super-category."""

    id: int
    name: str
    supercategory: str


# Super-category -> id -> name; ids ascend through the whole table.
# fmt: off
_NAMES = {
    "person": {1: "person"},
    "vehicle": {
        2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    },
    "outdoor": {10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench"},
    "animal": {
        16: "bird", 17: "cat", 18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear",
        24: "zebra", 25: "giraffe",
    },
    "accessory": {27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase"},
    "sports": {
        34: "frisbee", 35: "skis", 36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat",
        40: "baseball glove", 41: "skateboard", 42: "surfboard", 43: "tennis racket",
    },
    "kitchen": {44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife", 50: "spoon", 51: "bowl"},
    "food": {
        52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot", 58: "hot dog",
        59: "pizza", 60: "donut", 61: "cake",
    },
    "furniture": {62: "chair", 63: "couch", 64: "potted plant", 65: "bed", 67: "dining table", 70: "toilet"},
    "electronic": {72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard", 77: "cell phone"},
    "appliance": {78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator"},
    "indoor": {
        84: "book", 85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier",
        90: "toothbrush",
    },
}
# fmt: on
COCO_CATEGORIES = tuple(
    Category(number, name, supercategory)
    for supercategory, names in _NAMES.items()
    for number, name in names.items()
)

MAX_CATEGORY_ID = 90  # class channel of a heat map = category id - 1, so 90 channels

VOC_IDS = (1, 2, 3, 4, 5, 6, 7, 9, 16, 17, 18, 19, 20, 21, 44, 62, 63, 64, 67, 72)
NON_VOC_IDS = tuple(category.id for category in COCO_CATEGORIES if category.id not in VOC_IDS)
ALL_IDS = tuple(category.id for category in COCO_CATEGORIES)

NAME_BY_ID = {category.id: category.name for category in COCO_CATEGORIES}
ID_BY_NAME = {category.name: category.id for category in COCO_CATEGORIES}


def is_coco(categories: Iterable[Mapping]) -> bool:
    """Whether all categories, entries with `id` and `name`, are COCO's: both are the same there."""
    return all(NAME_BY_ID.get(entry["id"]) == entry["name"] for entry in categories)


# Names a user may give for a set of classes.
CLASS_SETS = {"all": ALL_IDS, "voc": VOC_IDS, "non_voc": NON_VOC_IDS}
