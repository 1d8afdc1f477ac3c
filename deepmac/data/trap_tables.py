"""Tables of detections, animl's and Camtrap DP, as images of MegaDetector's JSON; metadata of pictures."""

import mimetypes
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from deepmac.core.errors import InputError
from deepmac.data.documents import load_json, read_table
from deepmac.data.numbers import key_of, whole
from deepmac.data.picture_files import LARGER_THAN_ANY, PictureSize, find_pictures
from deepmac.data.rules import CORNERS, read_box

TABLES = (".csv", ".tsv")  # suffixes of files that `read_table` reads
Images = list[dict[str, Any]]  # each {"file", "detections", "datetime", "location", "seq_id", "prediction"}
_ANIML_CATEGORIES = {"0": "empty", "1": "animal", "2": "person", "3": "vehicle"}
_ANIML_BOXES = (("bbox1", "bbox2", "bbox3", "bbox4"), ("bbox_x", "bbox_y", "bbox_w", "bbox_h"))
_CAMTRAP_CLASS = ("classificationprobability", "scientificname")
_CAMTRAP_BOX = ("bboxx", "bboxy", "bboxwidth", "bboxheight")


def read_animl(path: Path) -> tuple[Images, dict[str, str]]:
    """Reads animl's table (https://github.com/conservationtechlab/animl-py): a line a detection.

    Returns its pictures, also those without detections, and categories: id -> name.
    """
    rows = read_table(path)
    columns = rows[0] if rows else {}
    box = next((names for names in _ANIML_BOXES if columns.keys() >= {*names}), None)
    named_by = next((name for name in ("file", "filepath") if name in columns), None)
    if box is None or named_by is None or not columns.keys() >= {"category", "conf"}:
        expected = f"filepath, category, conf, {', '.join(_ANIML_BOXES[-1])}"
        raise InputError(f"{path} is no table of animl, with columns {expected}")
    images: dict[str, dict[str, Any]] = {}
    for row in rows:
        camera = row.get("station") or row.get("camera") or row.get("site")
        image = {"file": row[named_by], "datetime": row.get("datetime"), "location": camera, "detections": []}
        detections = images.setdefault(row[named_by], image)["detections"]
        if row[box[0]] not in ("", "NA"):  # frames without an animal have a line without a box
            kind = str(key_of(row["category"]))  # beside such a line "1.0"
            detections.append(_detection(row, box, kind, row["conf"], row.get("prediction")))
    return list(images.values()), _ANIML_CATEGORIES


def read_camtrap_dp(path: Path, resources: list[Any]) -> tuple[Images, dict[str, str]]:
    """Reads a Camtrap DP (https://camtrap-dp.tdwg.org): an event becomes a sequence, a deployment a camera.

    Takes `datapackage.json` and its resources. Returns the pictures, no videos, and categories: id -> name.
    """
    files = {str(entry.get("name")): str(entry.get("path")) for entry in resources if isinstance(entry, dict)}
    try:
        deployments, media, observations = (
            read_table(path.parent / files[name]) for name in ("deployments", "media", "observations")
        )
        cameras = {row["deploymentid"]: row.get("locationname") or row["deploymentid"] for row in deployments}
        kinds = sorted({row["observationtype"] for row in observations})
        keys = {kind: str(key) for key, kind in enumerate(kinds, start=1)}
        by_medium: dict[str, list[dict[str, str]]] = {}
        by_place: dict[str, list[dict[str, str]]] = {}  # those of events
        for row in observations:
            of = by_medium if row["mediaid"] else by_place
            of.setdefault(row["mediaid"] or row["deploymentid"], []).append(row)
        images = []
        for medium in media:
            kind = medium["filemediatype"] or mimetypes.guess_type(medium["filepath"])[0] or "image"
            if kind.startswith("image"):
                of_place = by_place.get(medium["deploymentid"], [])
                image = _camtrap_image(medium, by_medium.get(medium["mediaid"], []), of_place, keys)
                images.append(image | {"location": cameras.get(image["location"], image["location"])})
    except KeyError as error:
        raise InputError(f"{path}: its tables have no {error.args[0]}, as Camtrap DP has") from error
    counts = Counter(image["file"] for image in images)
    if name := next((name for name, count in counts.items() if count > 1), None):
        raise InputError(f"{path}: several media are called {name}: give the paths of their files")
    return images, {key: kind for kind, key in keys.items()}


def _camtrap_image(medium: dict, of_medium: list[dict], of_place: list[dict], keys: dict[str, str]) -> dict:
    """A medium with what was observed in it, and in the events of its place that it was taken in."""
    time = medium["timestamp"]
    events = [row for row in of_place if row["eventstart"] <= time <= row["eventend"]]
    seen = of_medium + events
    species = dict.fromkeys(row["scientificname"] for row in seen if row["scientificname"])
    return {
        "file": medium["filename"] if "://" in medium["filepath"] else medium["filepath"],
        "datetime": time,
        "location": medium["deploymentid"],
        "seq_id": next((row["eventid"] for row in events + seen if row["eventid"]), None),
        "prediction": ", ".join(species),
        "detections": [
            _detection(row, _CAMTRAP_BOX, keys[row["observationtype"]], *map(row.get, _CAMTRAP_CLASS))
            for row in seen
            if row["bboxx"]
        ],
    }


def is_pytorch_wildlife(document: Any) -> bool:
    """Whether a JSON document holds results of PytorchWildlife: lists of boxes for each picture."""
    entries = document.get("annotations") if isinstance(document, dict) else None
    return isinstance(entries, list) and any(isinstance(one, dict) and "img_id" in one for one in entries)


def read_pytorch_wildlife(document: dict, folder: Path | None = None) -> tuple[Images, dict[str, str]]:
    """Reads results of PytorchWildlife, whose boxes are (xmin, ymin, xmax, ymax) in pixels.

    Returns its pictures, and categories: id -> name. With a folder of the pictures boxes become as
    MegaDetector's by their sizes; those of missing pictures by a size that no picture has.
    """
    images: Images = []
    entries = [one for one in document["annotations"] if isinstance(one, dict) and "img_id" in one]
    paths = find_pictures([str(entry["img_id"]) for entry in entries], folder) if folder else {}
    for entry in entries:
        name = str(entry["img_id"])
        lists = [entry.get(field) for field in ("bbox", "category", "confidence")]
        rows = zip_longest(*(values if isinstance(values, list) else [] for values in lists))
        found = [{"bbox": box, "category": 1 if kind is None else kind, "conf": c} for box, kind, c in rows]
        images.append({"file": name, "detections": found})
        if folder:
            size = PictureSize.read(folder / paths.get(name, ""))
            sides = (size.upright if size else LARGER_THAN_ANY) * 2
            for detection in found:
                box = read_box(detection | {"bbox_mode": CORNERS}) or []
                detection["bbox"] = [x / side for x, side in zip(box, sides, strict=False)]
    listed = document.get("categories")
    kinds = [one for one in (listed if isinstance(listed, list) else ()) if isinstance(one, dict)]
    return images, {str(kind.get("id")): str(kind.get("name")) for kind in kinds}


def read_coco_camera_traps(path: Path) -> Iterator[dict[str, Any]]:
    """Reads metadata in COCO Camera Traps format, in which iWildCam is released.

    Yields:
        Of each picture what is known of "picture" (its file; in the folder of its split), "split", "camera",
        "sequence", "frame", "time" and "species" (annotated; several joined by commas).

    Raises:
        InputError: no such file, or another format.
    """
    split = next((split for split in ("train", "test") if split in path.name.lower()), "")
    try:
        document = load_json(path)
        names = {key_of(entry["id"]): entry["name"] for entry in document.get("categories", ())}
        seen: dict[tuple[str, str], list[str]] = {}  # ("image_id" or "seq_id", its value) -> categories
        for entry in document.get("annotations", ()):
            category = names.get(key_of(entry["category_id"]), str(entry["category_id"]))
            field = "seq_id" if entry.get("image_id") is None else "image_id"  # of all pictures of a sequence
            seen.setdefault((field, str(entry.get(field))), []).append(category)
        for image in document["images"]:
            if not image.get("file_name"):  # names of pictures that show people are taken out
                continue
            name = str(image["file_name"]).replace("\\", "/")
            of_image = seen.get(("image_id", str(image.get("id"))), [])
            of_sequence = seen.get(("seq_id", str(image.get("seq_id"))), [])
            facts = {
                "picture": f"{split}/{name}" if split and "/" not in name else name,
                "split": split,
                "camera": image.get("location"),
                "sequence": image.get("seq_id"),
                "frame": whole(image.get("frame_num")),
                "time": image.get("datetime"),
                "species": ", ".join(dict.fromkeys(of_image + of_sequence)),
            }
            yield {column: value for column, value in facts.items() if value not in (None, "", -1)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise InputError(f"{path} is not in COCO Camera Traps format: {reason}") from error


def _detection(row: dict[str, str], box: tuple, category: str, confidence: str, species: str | None) -> dict:
    classes = [[species, 1.0]] if species else []
    bbox = [row[column] for column in box]
    return {"category": category, "conf": confidence, "bbox": bbox, "classifications": classes}
