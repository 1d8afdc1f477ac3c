"""Prepares a profile's pictures and their TFRecords on this machine."""

import os
from pathlib import Path
from typing import NamedTuple

from deepmac.core.errors import InputError
from deepmac.core.files import exclusive
from deepmac.data import coco
from deepmac.scenes.dataset import compose_scenes
from deepmac.suite.suite import Dataset


class PreparedData(NamedTuple):
    """A data set on this machine.

    Attributes:
        coco_dir: the pictures, in COCO layout.
        records: TFRecords, and the annotations of exactly the pictures in them.
    """

    coco_dir: Path
    records: Path

    @property
    def annotation_file(self) -> Path:
        """Annotations of the evaluated pictures."""
        return self.records / "instances_val2017.json"


def prepare_dataset(dataset: Dataset, work_dir: Path) -> PreparedData:
    """Composes pictures and writes TFRecords, unless they are there.

    Args:
        dataset: what to prepare.
        work_dir: holds everything the suite makes.

    Raises:
        InputError: an environment variable is missing, or the pictures cannot be used.
    """
    name = dataset.sha256[:12]
    with exclusive(work_dir / f"{name}.lock"):  # processes that train rows of the same pictures wait
        if dataset.source == "scenes":
            coco_dir = work_dir / f"scenes-{name}"
            if not coco_dir.exists():
                compose_scenes(coco_dir, **dataset.arguments)
        else:
            coco_dir = Path(expanded(dataset.arguments["coco_dir"]))
        records = work_dir / f"tfrecord-{name}"
        if not records.exists():
            coco.write_tfrecords(coco_dir, records, ids=_image_ids(dataset))
    return PreparedData(coco_dir, records)


def expanded(text: str) -> str:
    """Replaces environment variables.

    Raises:
        InputError: one is not set; it is the user's to set.
    """
    result = os.path.expandvars(text)
    if "$" in result:
        raise InputError(f"this profile needs the environment variable {result}: see the README")
    return result


def _image_ids(dataset: Dataset):
    if "ids" not in dataset.arguments:
        return None
    folder = dataset.root / dataset.arguments["ids"]
    return {split: coco.read_image_ids(folder / f"{split}.txt") for split in coco.SPLITS}
