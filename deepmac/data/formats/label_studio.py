"""JSON of Label Studio, a task for each picture (https://labelstud.io/guide/export)."""

import math
from functools import partial
from pathlib import Path

import numpy as np

from deepmac.data.formats.collected import annotation, each
from deepmac.data.picture_files import PictureName, PictureSize

_LABELS = "labels"  # of a shape beside the first, until all are read


def task_picture(task: dict) -> str:
    """The first value of a task of Label Studio that is called like a picture, or that is a text."""
    texts = [value for value in task["data"].values() if isinstance(value, str)]
    return next((text for text in texts if PictureName.of(text).suffix), (texts or [""])[0])


def read_task(paths: dict[str, Path], task: dict) -> tuple[dict, list]:
    """A task of Label Studio's JSON (https://labelstud.io/guide/export): boxes and polygons in percent."""
    name = task_picture(task)
    where, given = f"task {task.get('id')}", task["annotations"]
    read = partial(_object, PictureSize.read(paths[name]) if name in paths else None)
    first = next((done for done in given if not done.get("was_cancelled")), {"result": []})
    others = [f"{where}: an annotation, cancelled or not the first" for done in given if done is not first]
    found = each(read, first["result"], f"{where} result")
    for shape in (one for one in found if isinstance(one, dict)):
        others += [f"{shape['id']}: {label!r}, a label beside the first" for label in shape.pop(_LABELS)]
    return {"file_name": name}, others + found


def _object(size: PictureSize | None, result: dict) -> dict | None:
    kind = result["type"]
    if "labels" not in kind and kind not in ("rectangle", "polygon"):
        return None
    value = result["value"]
    if not value.get(kind):
        raise ValueError(f"its {kind} is without a label")
    sides = size.upright if size else (result["original_width"], result["original_height"])
    width, height = sides[0] / 100, sides[1] / 100
    points = [x for x, y in value["points"] for x in (x * width, y * height)] if "points" in value else []
    label, *more = [value[kind]] if isinstance(value[kind], str) else value[kind]
    points = points if kind == "polygonlabels" else []
    return annotation(label, points, _box(kind, value, width, height)) | {_LABELS: more}


def _box(kind: str, value: dict, width: float, height: float) -> list | dict | str:
    """The box around a rectangle or an ellipse, as fields if it is derived; the kind of what has no box.

    Shapes are turned as the clock goes, by degrees; `width` and `height` are those of a percent, in pixels.
    """
    angle = math.radians(value.get("rotation") or 0)
    along = np.array([math.cos(angle), math.sin(angle)])
    across = np.array([-along[1], along[0]])
    if kind == "ellipselabels":
        centre = np.array([value["x"] * width, value["y"] * height])
        half = np.hypot(value["radiusX"] * width * along, value["radiusY"] * height * across)
    elif kind == "rectanglelabels":
        box = [value["x"] * width, value["y"] * height, value["width"] * width, value["height"] * height]
        if not angle:
            return box
        along, across = box[2] * along, box[3] * across
        centre = np.array(box[:2]) + (along + across) / 2  # they are turned about their upper left corners
        half = (abs(along) + abs(across)) / 2
    else:
        return kind
    (x, y), (box_width, box_height) = (centre - half).tolist(), (2 * half).tolist()
    return {"x": x, "y": y, "width": box_width, "height": box_height}
