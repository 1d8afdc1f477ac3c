"""COCO categories and the class splits of the paper.

The 80 categories of COCO 2017 (ids 1 to 90 with gaps), and the split of section 4 of
arXiv 2104.00613: the 20 classes that are also in PASCAL VOC against the other 60.
"""

from typing import NamedTuple


class Category(NamedTuple):
    """A COCO category: id as in the annotation files, name, super-category."""

    id: int
    name: str
    supercategory: str


COCO_CATEGORIES = (
    Category(1, "person", "person"),
    Category(2, "bicycle", "vehicle"),
    Category(3, "car", "vehicle"),
    Category(4, "motorcycle", "vehicle"),
    Category(5, "airplane", "vehicle"),
    Category(6, "bus", "vehicle"),
    Category(7, "train", "vehicle"),
    Category(8, "truck", "vehicle"),
    Category(9, "boat", "vehicle"),
    Category(10, "traffic light", "outdoor"),
    Category(11, "fire hydrant", "outdoor"),
    Category(13, "stop sign", "outdoor"),
    Category(14, "parking meter", "outdoor"),
    Category(15, "bench", "outdoor"),
    Category(16, "bird", "animal"),
    Category(17, "cat", "animal"),
    Category(18, "dog", "animal"),
    Category(19, "horse", "animal"),
    Category(20, "sheep", "animal"),
    Category(21, "cow", "animal"),
    Category(22, "elephant", "animal"),
    Category(23, "bear", "animal"),
    Category(24, "zebra", "animal"),
    Category(25, "giraffe", "animal"),
    Category(27, "backpack", "accessory"),
    Category(28, "umbrella", "accessory"),
    Category(31, "handbag", "accessory"),
    Category(32, "tie", "accessory"),
    Category(33, "suitcase", "accessory"),
    Category(34, "frisbee", "sports"),
    Category(35, "skis", "sports"),
    Category(36, "snowboard", "sports"),
    Category(37, "sports ball", "sports"),
    Category(38, "kite", "sports"),
    Category(39, "baseball bat", "sports"),
    Category(40, "baseball glove", "sports"),
    Category(41, "skateboard", "sports"),
    Category(42, "surfboard", "sports"),
    Category(43, "tennis racket", "sports"),
    Category(44, "bottle", "kitchen"),
    Category(46, "wine glass", "kitchen"),
    Category(47, "cup", "kitchen"),
    Category(48, "fork", "kitchen"),
    Category(49, "knife", "kitchen"),
    Category(50, "spoon", "kitchen"),
    Category(51, "bowl", "kitchen"),
    Category(52, "banana", "food"),
    Category(53, "apple", "food"),
    Category(54, "sandwich", "food"),
    Category(55, "orange", "food"),
    Category(56, "broccoli", "food"),
    Category(57, "carrot", "food"),
    Category(58, "hot dog", "food"),
    Category(59, "pizza", "food"),
    Category(60, "donut", "food"),
    Category(61, "cake", "food"),
    Category(62, "chair", "furniture"),
    Category(63, "couch", "furniture"),
    Category(64, "potted plant", "furniture"),
    Category(65, "bed", "furniture"),
    Category(67, "dining table", "furniture"),
    Category(70, "toilet", "furniture"),
    Category(72, "tv", "electronic"),
    Category(73, "laptop", "electronic"),
    Category(74, "mouse", "electronic"),
    Category(75, "remote", "electronic"),
    Category(76, "keyboard", "electronic"),
    Category(77, "cell phone", "electronic"),
    Category(78, "microwave", "appliance"),
    Category(79, "oven", "appliance"),
    Category(80, "toaster", "appliance"),
    Category(81, "sink", "appliance"),
    Category(82, "refrigerator", "appliance"),
    Category(84, "book", "indoor"),
    Category(85, "clock", "indoor"),
    Category(86, "vase", "indoor"),
    Category(87, "scissors", "indoor"),
    Category(88, "teddy bear", "indoor"),
    Category(89, "hair drier", "indoor"),
    Category(90, "toothbrush", "indoor"),
)

MAX_CATEGORY_ID = 90  # class channel of a heat map = category id - 1, so 90 channels

VOC_IDS = (1, 2, 3, 4, 5, 6, 7, 9, 16, 17, 18, 19, 20, 21, 44, 62, 63, 64, 67, 72)
NON_VOC_IDS = tuple(category.id for category in COCO_CATEGORIES if category.id not in VOC_IDS)
ALL_IDS = tuple(category.id for category in COCO_CATEGORIES)

NAME_BY_ID = {category.id: category.name for category in COCO_CATEGORIES}
ID_BY_NAME = {category.name: category.id for category in COCO_CATEGORIES}
SUPERCATEGORIES = {
    name: tuple(category.id for category in COCO_CATEGORIES if category.supercategory == name)
    for name in dict.fromkeys(category.supercategory for category in COCO_CATEGORIES)
}

# Names a user may give for a set of classes.
CLASS_SETS = {"all": ALL_IDS, "voc": VOC_IDS, "non_voc": NON_VOC_IDS}
