"""Writes detections of pictures without annotations as COCO's evaluation server takes them.

The format: https://cocodataset.org/#upload, a ZIP that holds one JSON file of COCO results.
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from deepmac.core.categories import ALL_IDS
from deepmac.core.errors import InputError
from deepmac.core.files import atomic_file
from deepmac.core.machine import resolve_precision
from deepmac.core.masks import encode_masks
from deepmac.data.preprocessing import network_input
from deepmac.inference.load import build_model, normalization, trained_model

_BATCH_SIZE = 8
_MOST_DETECTIONS = 100  # of a picture, that COCO counts
_OUTPUTS = ("boxes", "classes", "confidence", "masks")  # of the network, that are sent in


def write_submission(
    model: str | Path,
    coco_dir: str | Path,
    out: str | Path,
    split: str = "test-dev2017",
    name: str = "deepmac",
    precision: str = "auto",
    progress: bool = True,
) -> Path:
    """Detects and segments the objects of all pictures of a split.

    Args:
        model: name or folder, as `deepmac.load` takes it, except exported graphs.
        coco_dir: folder in COCO layout, with `annotations/image_info_<split>.json`, or `instances_…`.
        out: folder for the ZIP.
        split: the pictures; those of test-dev2017 lie in `test2017/`.
        name: of the method, part of the file's name.
        precision: 'float32', 'bfloat16', or 'auto': bfloat16 where the hardware computes with it.
        progress: whether to show a progress bar.

    Returns:
        `<out>/detections_<split>_<name>_results.zip`.

    Raises:
        InputError: no model, no list of pictures, or a picture is missing.
    """
    config, restore = trained_model(model)
    images = read_image_list(coco_dir, split)
    folder = Path(coco_dir) / split.replace("test-dev", "test")
    paths = [folder / image["file_name"] for image in images]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(f"{len(missing)} of {len(paths)} pictures are missing, the first is {missing[0]}")
    network = build_model(config, restore, resolve_precision(precision))
    detect = tf.function(lambda pixels: network(pixels, training=False), reduce_retracing=True)
    size, options = config.model.input_size[0], normalization(config)
    results = []
    with tqdm(total=len(images), desc=split, unit="picture", disable=not progress) as bar:
        for start in range(0, len(images), _BATCH_SIZE):
            batch = slice(start, start + _BATCH_SIZE)
            inputs = [network_input(_pixels(path), size, **options) for path in paths[batch]]
            outputs = detect(tf.concat([pixels for pixels, _ in inputs], axis=0))
            for index, (image, (_, part)) in enumerate(zip(images[batch], inputs, strict=True)):
                detections = {key: outputs[key][index].numpy() for key in _OUTPUTS}
                detections["boxes"] /= np.tile(part, 2) * size  # normalised to the picture
                results += _coco_results(image, **detections)
                bar.update()
    stem = f"detections_{split}_{name}_results"
    path = Path(out) / f"{stem}.zip"
    with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{stem}.json", json.dumps(results))
    return path


def _pixels(path: Path):
    try:
        return tf.io.decode_image(path.read_bytes(), channels=3, expand_animations=False)
    except tf.errors.InvalidArgumentError as error:
        raise InputError(f"{path} cannot be read as a picture") from error


def _coco_results(image: dict, boxes, classes, confidence, masks) -> list[dict]:
    """The best detections of a picture, of boxes [D, 4] normalised to it and masks [D, S, S] in them."""
    order = np.argsort(-confidence, kind="stable")
    order = order[(confidence[order] > 0) & np.isin(classes[order], ALL_IDS)][:_MOST_DETECTIONS]
    rles = encode_masks(masks[order], boxes[order], image["height"], image["width"])
    return [
        {"image_id": image["id"], "category_id": int(category_id), "segmentation": rle, "score": float(score)}
        for category_id, score, rle in zip(classes[order], confidence[order], rles, strict=True)
    ]


def read_image_list(coco_dir: str | Path, split: str) -> list[dict]:
    """Reads id, size and file name of the pictures of a split.

    Raises:
        InputError: there is no such list.
    """
    folder = Path(coco_dir) / "annotations"
    for kind in ("image_info", "instances"):
        path = folder / f"{kind}_{split}.json"
        if path.is_file():
            return json.loads(path.read_text())["images"]
    raise InputError(f"no list of pictures: neither image_info_{split}.json nor instances_… in {folder}")
