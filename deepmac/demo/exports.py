"""Masks of the demo as files for other programs."""

import csv
import dataclasses
import io
import itertools
import json
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import roifile
from PIL import Image
from pycocotools import mask as rle

from deepmac.core.boxes import pixel_xywh
from deepmac.core.categories import ID_BY_NAME, MAX_CATEGORY_ID
from deepmac.core.drawing import instance_colors, overlay
from deepmac.core.files import atomic_file, write_text
from deepmac.core.images import PNG_LEVEL, encoded
from deepmac.core.label_images import in_colors
from deepmac.inference.prediction import Prediction, quality_words

_OWNERS = ".pictures.json"  # in a folder of exports: name of a picture's files -> which picture it is
_COLUMNS = "picture number name xmin ymin width height area quality verdict".split()  # noqa: SIM905


class Drawing(NamedTuple):
    """What is exported.

    Attributes:
        file_name: of the picture.
        prediction: N masks, the number of each being its index + 1.
        names: N names.
        opacity, outline: of the masks in an overlay.
        page: which one of the file the picture is, from 1; 0 if there are no others.
    """

    file_name: str
    prediction: Prediction
    names: Sequence[str]
    opacity: float
    outline: bool
    page: int = 0


def mask_areas(prediction: Prediction) -> list[int]:
    """Pixels of N masks."""
    return [int(rle.area(result["segmentation"])) for result in prediction.to_coco(1)]


def hidden_pixels(prediction: Prediction) -> int:
    """Pixels that masks lose in a label image to smaller ones over them, of all masks together."""
    return sum(mask_areas(prediction)) - np.count_nonzero(prediction.to_label_image())


def coco(drawing: Drawing) -> bytes:
    """Boxes, names and masks as a COCO data set (JSON)."""
    new = itertools.count(MAX_CATEGORY_ID + 1)  # for names that are not among COCO's
    ids = {name: ID_BY_NAME.get(name) or next(new) for name in dict.fromkeys(drawing.names)}
    results = drawing.prediction.to_coco(1, [ids[name] for name in drawing.names])
    height, width = drawing.prediction.image.shape[:2]
    page = {"page": drawing.page} if drawing.page else {}
    dataset = {
        "images": [{"id": 1, "file_name": drawing.file_name, "height": height, "width": width} | page],
        "annotations": [
            {"id": number, **result, "area": int(rle.area(result["segmentation"])), "iscrowd": 0}
            for number, result in enumerate(results, 1)
        ],
        "categories": [{"id": category_id, "name": name} for name, category_id in ids.items()],
    }
    return json.dumps(dataset).encode()


def labels(drawing: Drawing) -> bytes:
    """Image whose pixels are the numbers of their masks, where masks overlap of the smaller one (PNG)."""
    return encoded(in_colors(drawing.prediction.to_label_image()), "PNG")


def table(drawing: Drawing) -> bytes:
    """Boxes, areas in pixels and quality, for a spreadsheet (CSV)."""
    prediction = drawing.prediction
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(_COLUMNS)
    boxes = pixel_xywh(prediction.boxes, *prediction.image.shape[:2]).round(2).tolist()
    qualities = prediction.quality.astype(float)  # in single precision, 0.856 is 0.8560000061988831
    verdicts = quality_words(qualities)
    title = drawing.file_name + (f" page {drawing.page}" if drawing.page else "")
    lines = zip(boxes, mask_areas(prediction), qualities.round(3).tolist(), verdicts, strict=True)
    for number, (name, (box, *facts)) in enumerate(zip(drawing.names, lines, strict=True), 1):
        writer.writerow([title, number, name, *box, *facts])
    return file.getvalue().encode("utf-8-sig")  # spreadsheets take it for a local code page otherwise


def imagej_rois(drawing: Drawing) -> bytes:
    """Outlines for the RoI Manager of ImageJ and Fiji, one for each part of a mask (ZIP)."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        masks = zip(drawing.names, drawing.prediction.to_polygons(), strict=True)
        for number, (name, polygons) in enumerate(masks, 1):
            for part, polygon in enumerate(polygons, 1):
                title = f"{number:03d} {name}" + (f" part {part}" if part > 1 else "")
                roi = roifile.ImagejRoi.frompoints(np.reshape(polygon, (-1, 2)), name=title)
                roi.position = drawing.page  # in the stack, from 1
                file_name = re.sub(r'[<>:"/\\|?*]', "_", title)  # what Windows does not allow
                archive.writestr(f"{file_name}.roi", roi.tobytes())
    return file.getvalue()


def geojson(drawing: Drawing) -> bytes:
    """Outlines in pixels for QuPath and others (GeoJSON)."""
    colors = instance_colors(len(drawing.names)).tolist()
    masks = zip(drawing.names, drawing.prediction.to_rings(), strict=True)
    features = [
        {
            "type": "Feature",
            "id": str(number),
            "geometry": {
                "type": "MultiPolygon",  # its rings, borders and holes, end where they begin
                "coordinates": [[[*ring.tolist(), ring[0].tolist()] for ring in one] for one in islands],
            },
            "properties": {
                "objectType": "annotation",
                "name": f"{number} {name}",
                "classification": {"name": name, "color": colors[number - 1]},
                **({"page": drawing.page} if drawing.page else {}),
            },
        }
        for number, (name, islands) in enumerate(masks, 1)
        if islands
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def picture(drawing: Drawing) -> bytes:
    """The picture with masks, boxes, numbers and names, at its own size (PNG)."""
    drawn = Image.fromarray(overlaid(drawing, drawing.prediction.image))
    return encoded(drawn, "PNG", compress_level=PNG_LEVEL)


def overlaid(drawing: Drawing, image: np.ndarray) -> np.ndarray:
    """Masks, boxes, numbers and names over the picture at any size: uint8 RGB [H, W, 3]."""
    return overlay(
        image,
        dataclasses.replace(drawing.prediction, image=image).to_label_image(),
        drawing.prediction.boxes,
        [f"{number} {name}" for number, name in enumerate(drawing.names, 1)],
        opacity=drawing.opacity,
        outline=drawing.outline,
        short_labels=[f"{number}" for number, _ in enumerate(drawing.names, 1)],
    )


# Title -> ending of the file's name, and what makes its content; the latter's docstring is shown as a hint.
EXPORTS: dict[str, tuple[str, Callable[[Drawing], bytes]]] = {
    "Table": ("masks.csv", table),
    "Labels": ("labels.png", labels),
    "Overlay": ("overlay.png", picture),
    "ImageJ": ("rois.zip", imagej_rois),
    "Polygons": ("outlines.geojson", geojson),
    "COCO": ("masks.json", coco),
}


def file_stem(folder: Path, stem: str, picture: str) -> str:
    """How files of a picture begin in a folder: with a number where those of another one have its name."""
    owners = _owners(folder)
    names = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
    return next(name for name in names if owners.get(name, picture) == picture)


def write_file(folder: Path, stem: str, ending: str, picture: str, content: bytes) -> None:
    """Writes a file of a picture, and whose it is."""
    with atomic_file(folder / f"{stem}_{ending}") as temporary:
        temporary.write_bytes(content)
    owners = _owners(folder)
    if stem not in owners:
        write_text(folder / _OWNERS, json.dumps(owners | {stem: picture}))


def _owners(folder):
    try:
        return json.loads((folder / _OWNERS).read_text("utf-8"))
    except (OSError, ValueError):  # none, or damaged: names count from the beginning
        return {}
