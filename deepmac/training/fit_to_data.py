"""Fits a configuration to the classes of the data it is trained on."""

import re
from collections.abc import Sequence

from deepmac import configs
from deepmac.core.categories import MAX_CATEGORY_ID, VOC_IDS, is_coco
from deepmac.core.errors import InputError
from deepmac.data.classes import CATEGORIES_FILE, read_classes
from deepmac.data.tfrecords import record_files


def fit_to_data(task: configs.DeepMACTaskConfig | configs.MaskRCNNTaskConfig) -> list[dict]:
    """Sets what follows from data of other classes than COCO's, where the configuration leaves COCO's.

    The number of classes becomes theirs, and the classes whose masks are used, which count as seen, become
    those with masks in the training records; for Mask R-CNN those with a mask in every box.

    Args:
        task: changed in place.

    Returns:
        The classes, as from `read_classes`; none for records without `categories.json`.

    Raises:
        InputError: the model has too few classes, or folders of records have different ones.
    """
    training_files = record_files(task.train_data.input_path)
    files = training_files or record_files(task.validation_data.input_path)
    classes = _common_classes(sorted({path.rpartition("/")[0] or "." for path in files}))
    is_mask_rcnn = isinstance(task, configs.MaskRCNNTaskConfig)
    # Channels before that of class 1: the background of Mask R-CNN.
    first = 1 if is_mask_rcnn else 1 - task.losses.class_offset
    if classes and not is_coco(classes):
        if task.model.num_classes == MAX_CATEGORY_ID + is_mask_rcnn:
            task.model.num_classes = len(classes) + first
        field = "allowed_mask_class_ids" if is_mask_rcnn else "allowed_masked_classes_ids"
        if getattr(task, field) in (None, [], list(VOC_IDS)):
            splits = {re.sub(r"-\d+-of-\d+.*", "", path.rpartition("/")[2]) for path in training_files}
            setattr(task, field, _ids_with_masks(classes, splits, in_every_box=is_mask_rcnn))
    used = [entry["id"] for entry in classes if any(entry["boxes"].values())]
    needed = max(used, default=1) + first
    if task.model.num_classes < needed:
        raise InputError(
            f"task.model.num_classes is {task.model.num_classes}, but the data need {needed}: leave it out"
        )
    return classes


def _common_classes(folders: Sequence[str]) -> list[dict]:
    """The classes of all folders of records; empty unless all have `categories.json`."""
    found = [read_classes(folder) for folder in folders]
    if not found or None in found:
        return []
    for folder, classes in zip(folders, found, strict=True):
        if [(one["id"], one["name"]) for one in classes] != [(one["id"], one["name"]) for one in found[0]]:
            raise InputError(
                f"{folder}/{CATEGORIES_FILE} has other classes than {folders[0]}: write the records together"
            )
    return found[0]


def _ids_with_masks(classes: Sequence[dict], splits: set[str], in_every_box: bool) -> list[int]:
    ids = []
    for entry in classes:
        boxes = sum(entry["boxes"].get(split, 0) for split in splits)
        masks = sum(entry["masks"].get(split, 0) for split in splits)
        if masks and (masks == boxes or not in_every_box):
            ids.append(entry["id"])
    return ids
