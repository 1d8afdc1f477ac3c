"""Writes detections of pictures without annotations as COCO's evaluation server takes them.

The format: https://cocodataset.org/#upload, a ZIP that holds one JSON file of COCO results.
"""

import json
import zipfile
from pathlib import Path

from deepmac.core.errors import InputError
from deepmac.core.files import atomic_file
from deepmac.data.documents import load_json
from deepmac.inference.evaluate import encoded_pictures
from deepmac.inference.predictor import load

_MOST_DETECTIONS = 100  # of a picture, that COCO counts
_FIELDS = {"id", "file_name", "width", "height"}  # of a picture in the list
_KEYS = ("image_id", "category_id", "segmentation", "score")  # without boxes, whose area would count


def write_submission(
    model: str | Path,
    coco_dir: str | Path,
    out: str | Path,
    split: str = "test-dev2017",
    name: str = "deepmac",
    precision: str = "auto",
) -> Path:
    """Detects and segments the objects of all pictures of a split, none looked at from closer, as published.

    Args:
        model: name or folder, as `deepmac.load` takes it, except exported graphs.
        coco_dir: folder in COCO layout, with `annotations/image_info_<split>.json`, or `instances_…`.
        out: folder for the ZIP.
        split: the pictures; those of test-dev2017 lie in `test2017/`.
        name: of the method, part of the file's name.
        precision: 'float32', 'bfloat16', or 'auto': bfloat16 where the hardware computes with it.

    Returns:
        `<out>/detections_<split>_<name>_results.zip`.

    Raises:
        InputError: no model, no list of pictures, or a picture is missing.
    """
    images = read_image_list(coco_dir, split)
    folder = Path(coco_dir) / split.replace("test-dev", "test")
    paths = [folder / image["file_name"] for image in images]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(f"{len(missing)} of {len(paths)} pictures are missing, the first is {missing[0]}")
    predictor = load(model, precision, runtime="tensorflow")
    results = []
    for image, encoded in encoded_pictures(predictor, images, folder, split):
        found = predictor.detect(encoded=encoded, min_score=0, closer=False).to_coco(image["id"])
        results += [{key: result[key] for key in _KEYS} for result in found[:_MOST_DETECTIONS]]
    stem = f"detections_{split}_{name}_results"
    path = Path(out) / f"{stem}.zip"
    with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{stem}.json", json.dumps(results))
    return path


def read_image_list(coco_dir: str | Path, split: str) -> list[dict]:
    """Reads id, size and file name of the pictures of a split.

    Raises:
        InputError: there is no such list.
    """
    folder = Path(coco_dir) / "annotations"
    for kind in ("image_info", "instances"):
        path = folder / f"{kind}_{split}.json"
        if path.is_file():
            content = load_json(path)
            images = content.get("images") if isinstance(content, dict) else None
            if isinstance(images, list) and all(map(_is_listed, images)):
                return images
            raise InputError(f"{path} needs 'images', each with {', '.join(sorted(_FIELDS))}")
    raise InputError(f"no list of pictures: neither image_info_{split}.json nor instances_… in {folder}")


def _is_listed(image) -> bool:
    return isinstance(image, dict) and image.keys() >= _FIELDS
