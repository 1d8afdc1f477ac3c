"""A collection as two tables, of pictures and of objects, and the selection of pictures by them."""

import dataclasses

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
    parts = []
    with threads(workers) as pool:
        found = ahead(pool, lambda picture: _objects(collection, picture), collection.pictures)
        for row, part in enumerate(tqdm(found, total=len(collection), unit="picture", disable=not progress)):
            parts.append(part.assign(picture=row))
    table = pd.concat(parts, ignore_index=True) if parts else _frame([], [], [], [], []).assign(picture=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        table["fill_ratio"] = table["mask_area"] / table["box_area"]
    return table


def _objects(collection: Collection, picture: CameraTrapPicture) -> pd.DataFrame:
    detections = collection.detections(picture)
    ymin, xmin, ymax, xmax = detections.corners.T
    names = [collection.detection_categories.get(key, key) for key in detections.categories]
    areas = np.full(len(detections), np.nan)
    try:
        if len(detections):
            labels = read_label_image(collection.mask_path(picture))
            pixels = np.bincount(labels.ravel(), minlength=len(detections) + 1)
            areas = pixels[1 : len(detections) + 1] / labels.size
    except InputError:
        pass  # `deepmac.iwildcam.checks` says what is wrong
    numbers = np.arange(1, len(detections) + 1)
    return _frame(numbers, names, detections.confidences, (ymax - ymin) * (xmax - xmin), areas)


def _frame(numbers, names, confidences, box_areas, mask_areas) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "number": np.asarray(numbers, np.int64),
            "detection_category": np.asarray(names, object),
            "confidence": np.asarray(confidences, np.float64),
            "box_area": np.asarray(box_areas, np.float64),
            "mask_area": np.asarray(mask_areas, np.float64),
        }
    )


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
        order = ["split", "location", "time", "sequence", "frame"]
        ascending = [column != "split" for column in order]  # train before test
        chosen = pictures[keep].sort_values(order, ascending=ascending, key=_sort_key)
        return chosen.index.tolist()


def _sort_key(column: pd.Series) -> pd.Series:
    """Cameras are numbered: 10 comes after 2."""
    return column.str.zfill(12) if column.name == "location" else column
