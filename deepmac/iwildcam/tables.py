"""A collection as two tables, of pictures and of objects, and the selection of pictures by them."""

import dataclasses
import itertools
from collections.abc import Iterable

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from deepmac.core.errors import InputError
from deepmac.core.executors import ahead, threads
from deepmac.core.label_images import read_label_image
from deepmac.iwildcam.collection import CameraTrapPicture, Collection

ANY = "any"


def pictures_table(collection: Collection) -> pd.DataFrame:
    """Returns a row for each picture, in the collection's order.

    Columns: `id`, `split`, `location`, `sequence`, `frame`, `time`, `category` (annotated; several joined by
    commas), `count` (of animals in the sequence, where counted).
    """
    columns = ("id", "split", "location", "sequence", "frame", "time", "count")
    rows = [[getattr(picture, column) for column in columns] for picture in collection.pictures]
    table = pd.DataFrame(rows, columns=columns)
    table["category"] = [", ".join(picture.categories) for picture in collection.pictures]
    table["time"] = pd.to_datetime(table["time"])
    text = ["split", "location", "sequence"]
    table[text] = table[text].fillna("")
    return table


def objects_table(collection: Collection, progress: bool = False, workers: int | None = None) -> pd.DataFrame:
    """Returns a row for each detection, and reads every mask for it.

    Columns: `picture` (row of the pictures' table), `number` (of the detection, from 1), `detection_category`
    (its name), `confidence`, `box_area` and `mask_area` (in parts of the picture; the latter NaN where masks
    are missing or unreadable), `fill_ratio` (mask_area / box_area).

    Args:
        collection: what to tabulate.
        progress: whether to show a progress bar.
        workers: threads that read masks; one for each core unless given.
    """
    columns = {"number": int, "detection_category": object, "confidence": float, "box_area": float}
    columns |= {"mask_area": float, "picture": int}
    with threads(workers) as pool:
        found = ahead(pool, lambda picture: _objects(collection, picture), collection.pictures)
        bar = tqdm(found, total=len(collection), unit="picture", disable=not progress)
        rows = [(*item, row) for row, objects in enumerate(bar) for item in objects]
    table = pd.DataFrame(rows, columns=list(columns)).astype(columns)
    with np.errstate(divide="ignore", invalid="ignore"):
        table["fill_ratio"] = table["mask_area"] / table["box_area"]
    return table


def _objects(collection: Collection, picture: CameraTrapPicture) -> Iterable[tuple]:
    """Number, category, confidence, area of the box and of the mask of each detection of a picture."""
    detections = collection.detections(picture)
    ymin, xmin, ymax, xmax = detections.corners.T
    names = [collection.detection_categories.get(key, key) for key in detections.categories]
    areas = np.full(len(detections), np.nan)
    try:
        if len(detections):
            labels = read_label_image(collection.mask_path(picture))
            areas = np.bincount(labels.ravel(), minlength=len(detections) + 1)[1:] / labels.size
    except InputError:
        pass  # `deepmac.iwildcam.checks` says what is wrong
    box_areas = (ymax - ymin) * (xmax - xmin)
    return zip(itertools.count(1), names, detections.confidences, box_areas, areas, strict=False)


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which pictures are looked at. Both ends of a range are in it.

    Attributes:
        split, location, sequence, category: of the picture; ANY takes all.
        detection_category: of the objects that count; ANY takes all.
        confidence: range of the objects that count.
        mask_area: range of the objects that count, in parts of the picture; objects without masks count
            where the range begins at 0.
        animals: range of the number of such objects in the picture.
    """

    split: str = ANY
    location: str = ANY
    sequence: str = ANY
    category: str = ANY
    detection_category: str = ANY
    confidence: tuple[float, float] = (0.0, 1.0)
    mask_area: tuple[float, float] = (0.0, 1.0)
    animals: tuple[int, int] = (0, 1_000_000)

    def counting(self, objects: pd.DataFrame) -> pd.DataFrame:
        """The rows of the objects' table that count."""
        keep = objects["confidence"].between(*self.confidence)
        keep &= objects["mask_area"].fillna(0.0).between(*self.mask_area)
        if self.detection_category != ANY:
            keep &= objects["detection_category"] == self.detection_category
        return objects[keep]

    def rows(self, pictures: pd.DataFrame, objects: pd.DataFrame) -> list[int]:
        """The rows of the pictures' table that are selected: camera by camera, in the order of time."""
        counts = self.counting(objects)["picture"].value_counts().reindex(pictures.index, fill_value=0)
        keep = counts.between(*self.animals)
        for column in ("split", "location", "sequence", "category"):
            wanted = getattr(self, column)
            if wanted != ANY:
                keep &= pictures[column] == wanted
        # Training set first; cameras are numbered: 10 comes after 2.
        place = pictures.assign(split=-pictures["split"].rank(), location=pictures["location"].str.zfill(12))
        order = ["split", "location", "time", "sequence", "frame"]
        return place[keep].sort_values(order).index.tolist()
