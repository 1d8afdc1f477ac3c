"""Animals of a collection for other programs: a table, and masks as COCO JSON with run-length encoding."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from pycocotools import mask as coco_mask

from deepmac.core.errors import InputError
from deepmac.core.files import atomic_file
from deepmac.core.label_images import read_label_image
from deepmac.iwildcam.collection import Collection, lines_of_pictures
from deepmac.jobs.writers import write_coco

TABLE, COCO = "animals.csv", "animals_coco.json"
_DIGITS = 5  # of numbers


def export(collection: Collection, animals: pd.DataFrame, folder: Path) -> str:
    """Writes animals that are not rejected as `animals.csv` and, where they have masks, `animals_coco.json`.

    Args:
        collection: where the masks are.
        animals: lines of its table; those without an animal are left out.
        folder: to write to; files of these names are replaced.

    Returns:
        What was written.

    Raises:
        InputError: no animal is left; what an earlier export wrote stays.
    """
    animals = animals[animals["number"] > 0]
    kept = animals[animals["review"] != "reject"]
    if kept.empty:
        reason = "all animals that fit are rejected" if len(animals) else "no animal fits"
        raise InputError(f"Nothing is exported: {reason}.")
    kept = collection.with_masks_of_now(kept)
    with atomic_file(folder / TABLE) as path:
        numbers = kept.select_dtypes("number").round(_DIGITS).convert_dtypes()  # pixels without a point
        kept.assign(**numbers).to_csv(path, index=False, encoding="utf-8-sig")  # as spreadsheets know it
    masks, pictures = write_masks(folder / COCO, collection, kept)
    rejected = f", {len(animals) - len(kept)} rejected left out" if len(animals) > len(kept) else ""
    unseen = int((kept["area"] == 0).sum())
    lost = len(kept) - masks - unseen
    without = f", {lost} animals left out whose mask files are missing or damaged" if lost else ""
    without += f", {unseen} left out of which the mask files have no pixel" if unseen else ""
    return (
        f"{len(kept)} animals in {TABLE}{rejected}; {masks} masks of {pictures} pictures in {COCO}{without}: "
        f"see the folder {folder.resolve()}"
    )


def write_masks(path: Path, collection: Collection, animals: pd.DataFrame) -> tuple[int, int]:
    """Writes masks as COCO annotations, one picture after the other.

    Categories are species, or what was detected (animal, person, vehicle) where these are not known. Masks
    are what is visible of them in the label image; `bbox` is the detection in pixels, `score` its confidence,
    `detection` its number. Pictures have the additions of COCO Camera Traps that are known. Animals whose
    masks cannot be read, or have no pixel, are left out.

    Returns:
        Numbers of annotations and of pictures.
    """
    seen = animals[animals["area"] > 0].sort_index()  # the lines of a picture one after the other
    seen = seen.assign(name=seen["species"].where(seen["species"] != "", seen["kind"]))
    ids = {name: number for number, name in enumerate(sorted(seen["name"].unique()), start=1)}
    images, numbers = [], itertools.count()

    def annotations() -> Iterator[dict]:
        """Those of one picture after the other, which is added to `images`."""
        for picture, found in lines_of_pictures(seen):
            try:
                labels = read_label_image(collection.mask_path(picture))
            except InputError:
                continue
            height, width = labels.shape
            first = found[0]
            image = {"id": len(images) + 1, "file_name": picture, "height": height, "width": width}
            image |= {"location": first.camera, "seq_id": first.sequence, "datetime": str(first.time)}
            image["frame_num"] = "" if pd.isna(first.frame) else int(first.frame)
            images.append({key: value for key, value in image.items() if value not in ("", "NaT")})
            for animal in found:
                mask = labels == animal.number
                rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
                box = np.array([animal.xmin, animal.ymin, animal.width, animal.height])
                yield {
                    "id": next(numbers) + 1,
                    "image_id": len(images),
                    "category_id": ids[animal.name],
                    "bbox": (box * [width, height, width, height]).round(2).tolist(),
                    "segmentation": {"size": [height, width], "counts": rle["counts"].decode("ascii")},
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "score": round(animal.confidence, _DIGITS),
                    "detection": animal.number,
                }

    categories = [{"id": number, "name": name} for name, number in ids.items()]
    write_coco(path, {"annotations": annotations(), "images": images, "categories": categories})
    return next(numbers), len(images)
