"""Writes detections of pictures without annotations as COCO's evaluation server takes them.

The format: https://cocodataset.org/#upload, a ZIP that holds one JSON file of COCO results.
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from pycocotools import mask as coco_mask
from tqdm.auto import tqdm

from deepmac.core.categories import ALL_IDS
from deepmac.core.errors import InputError
from deepmac.core.files import atomic_file
from deepmac.core.machine import resolve_precision
from deepmac.core.masks import encode_masks
from deepmac.data.preprocessing import network_input
from deepmac.inference.find import find_model
from deepmac.inference.load import build_model, normalization, trained_model

_BATCH_SIZE = 8
_MOST_DETECTIONS = 100  # of a picture, that COCO counts
_OUTPUTS = ("boxes", "classes", "confidence", "masks")  # of the network, that are sent in
_FIELDS = {"image_id", "category_id", "segmentation", "score"}


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
        `<out>/detections_<split>_<name>_results.zip`, validated.

    Raises:
        InputError: no model, no list of pictures, or a picture is missing.
    """
    found = find_model(model)
    if found.is_graph:
        raise InputError(f"{model} is an exported graph: use the model it was exported from")
    images = read_image_list(coco_dir, split)
    folder = Path(coco_dir) / split.replace("test-dev", "test")
    paths = [folder / image["file_name"] for image in images]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(f"{len(missing)} of {len(paths)} pictures are missing, the first is {missing[0]}")
    config, restore = trained_model(found.folder)
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
    check_submission(path, images)
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
        {
            "image_id": image["id"],
            "category_id": int(category_id),
            "segmentation": rle,
            "score": float(score),
        }
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


def check_submission(path: str | Path, images: list[dict]) -> int:
    """Checks a ZIP against what the evaluation server demands.

    Args:
        path: the ZIP.
        images: from `read_image_list`.

    Returns:
        The number of detections.

    Raises:
        InputError: the first thing that is wrong.
    """
    path = Path(path)
    with zipfile.ZipFile(path) as archive:
        if archive.namelist() != [f"{path.stem}.json"]:
            raise InputError(f"{path}: must hold {path.stem}.json and nothing else")
        results = json.loads(archive.read(f"{path.stem}.json"))
    sizes = {image["id"]: [image["height"], image["width"]] for image in images}
    counts = dict.fromkeys(sizes, 0)
    for number, result in enumerate(results):
        problem = _problem(result, sizes)
        if problem:
            raise InputError(f"{path}: result {number}: {problem}")
        counts[result["image_id"]] += 1
    crowded = [image_id for image_id, count in counts.items() if count > _MOST_DETECTIONS]
    if crowded:
        raise InputError(f"{path}: more than {_MOST_DETECTIONS} detections in picture {crowded[0]}")
    return len(results)


def _problem(result: dict, sizes: dict[int, list[int]]) -> str | None:
    """What is wrong with a result; None if nothing is."""
    if set(result) != _FIELDS:
        return f"has {sorted(result)}, not {sorted(_FIELDS)}"
    if result["image_id"] not in sizes:
        return f"no picture {result['image_id']} in the split"
    if result["category_id"] not in ALL_IDS:
        return f"no category {result['category_id']} in COCO"
    if not 0 <= result["score"] <= 1:
        return f"the score {result['score']} is not in 0 to 1"
    mask = result["segmentation"]
    if mask["size"] != sizes[result["image_id"]]:
        return f"the mask is of {mask['size']} pixels, the picture of {sizes[result['image_id']]}"
    return None if coco_mask.area(mask) <= np.prod(mask["size"]) else "the mask cannot be decoded"
