"""Composed scenes: images with instance masks in COCO format, made from emoji artwork and photographs.

The default data of the suite. Scene k of a split depends on nothing but the seed, the size, and the sprites,
so that a larger set begins with the scenes of a smaller one.
"""

import contextlib
import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from deepmac.core.categories import COCO_CATEGORIES, NAME_BY_ID
from deepmac.core.drawing import overlay, sheet
from deepmac.core.executors import ahead, threads
from deepmac.core.files import atomic_folder
from deepmac.scenes.artwork import CREDITS
from deepmac.scenes.composition import compose_scene
from deepmac.scenes.polygons import mask_to_polygons
from deepmac.scenes.sprites import SPLITS, SpritePools, sprite_pools

_FIRST_IMAGE_ID = {"train": 1, "val": 1_000_001}
_POINTS = 10  # of an object, drawn evenly in its box as arXiv 2104.06404 does
_TILE, _COLUMNS = 256, 6  # of the contact sheet: pixels, tiles in a row
_SHOWN = {"train": 18, "val": 12}


def compose_scenes(
    out: str | os.PathLike,
    images: int,
    val_images: int | None = None,
    size: int = 128,
    seed: int = 0,
    jobs: int | None = None,
    sprites: str | os.PathLike | None = None,
    styles: Mapping[str, str] | None = None,
) -> Path:
    """Writes scenes as a folder in COCO's layout, which appears when it is complete; returns it.

    The folder holds `annotations/instances_{train,val}2017.json`, `train2017/`, `val2017/`,
    `contact_sheet.png`, and `README.txt`. The same arguments give the same bytes, whatever `jobs` is.

    Args:
        out: the folder to write; must not exist, or be empty.
        images: number of training images, at most a million.
        val_images: number of validation images; by default a fifth of `images`.
        size: side of the square images in pixels.
        seed: of the scenes; the split of the sprites does not depend on it.
        jobs: scenes to compose at once; by default one for each core.
        sprites: a folder with own RGBA cut-outs to add, `<COCO class name>/<picture>.png`.
        styles: classes -> the vendor that draws them, as of `sprite_pools`.

    Raises:
        InputError: `out` is not empty, or a sprite cannot be used.
    """
    counts = {"train": images, "val": max(1, images // 5) if val_images is None else val_images}
    pools = sprite_pools(sprites, styles)
    with atomic_folder(out) as folder:
        (folder / "annotations").mkdir()
        for split in SPLITS:
            (folder / f"{split}2017").mkdir()
        tasks = [(split, index) for split in SPLITS for index in range(counts[split])]
        with contextlib.ExitStack() as stack:
            stack.callback(cv2.setNumThreads, cv2.getNumThreads())
            cv2.setNumThreads(1)  # OpenCV's own ones would wait for each other
            compose = functools.partial(_write_scene, folder, pools, size, seed)
            composed = ahead(stack.enter_context(threads(jobs)), compose, tasks)
            scenes = list(tqdm(composed, total=len(tasks), unit=" scenes", smoothing=0))
        tiles = {}
        for split, of_split in zip(SPLITS, (scenes[:images], scenes[images:]), strict=True):
            coco = _coco(split, of_split, size, seed)
            text = json.dumps(coco, separators=(",", ":"))
            (folder / "annotations" / f"instances_{split}2017.json").write_text(text, encoding="utf-8")
            for image, annotations in zip(coco["images"][: _SHOWN[split]], of_split, strict=False):
                name = f"{split}2017/{image['file_name']}"
                tiles[name] = _tile(folder / name, annotations)
        readme = _readme(counts, size, seed, pools, sprites is not None)
        (folder / "README.txt").write_text(readme, encoding="utf-8")
        contact_sheet = sheet([*tiles.values()], [*tiles], _COLUMNS, (_TILE, _TILE))  # training above
        contact_sheet.save(folder / "contact_sheet.png")
    return Path(out)


def _write_scene(folder: Path, pools: SpritePools, size: int, seed: int, task: tuple[str, int]) -> list[dict]:
    """Composes scene `index` of a split, writes its JPEG, returns its annotations (yet without ids)."""
    split, index = task
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    scene = compose_scene(rng, pools[split], size)
    path = folder / f"{split}2017" / f"{_FIRST_IMAGE_ID[split] + index:012d}.jpg"
    Image.fromarray(scene.image).save(path, quality=92, subsampling=0)
    return [_annotation(*scene_object, rng) for scene_object in scene.objects]


def _annotation(category_id: int, mask: np.ndarray, rng: np.random.Generator) -> dict:
    left, top, width, height = bbox = list(cv2.boundingRect(mask.astype(np.uint8)))
    columns, rows = left + rng.integers(width, size=_POINTS), top + rng.integers(height, size=_POINTS)
    return {
        "category_id": category_id,
        "bbox": bbox,
        "area": int(mask.sum()),
        "iscrowd": 0,
        "segmentation": mask_to_polygons(mask),
        "point_coords": (np.column_stack([columns, rows]) + 0.5).tolist(),  # centres of pixels
        "point_labels": mask[rows, columns].astype(int).tolist(),
    }


def _coco(split: str, scenes: list[list[dict]], size: int, seed: int) -> dict:
    """The annotation file of a split; `scenes[k]` are the annotations of its k-th image."""
    images, annotations = [], []
    for image_id, of_image in enumerate(scenes, start=_FIRST_IMAGE_ID[split]):
        image = {
            "id": image_id,
            "license": 1,
            "file_name": f"{image_id:012d}.jpg",
            "height": size,
            "width": size,
        }
        images.append(image | dict.fromkeys(("date_captured", "coco_url", "flickr_url"), ""))
        for one in of_image:
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **one})
    info = {"description": f"deepmac composed scenes: {split}, size {size}, seed {seed}", "url": ""}
    info |= {"version": "1.0", "year": 2026, "contributor": " ".join(CREDITS), "date_created": ""}
    url = "https://creativecommons.org/licenses/by-sa/4.0/"
    return {
        "info": info,
        "licenses": [{"id": 1, "name": "Attribution-ShareAlike License", "url": url}],
        "images": images,
        "annotations": annotations,
        "categories": [category._asdict() for category in COCO_CATEGORIES],
    }


def _readme(counts: dict[str, int], size: int, seed: int, pools: SpritePools, has_own_sprites: bool) -> str:
    lines = ["Composed scenes with instance masks, in COCO's layout; written by `deepmac scenes`.", ""]
    lines.append(f"Images of {size} x {size} pixels, seed {seed}.")
    for split, pool in pools.items():
        objects = f"objects of {len(pool)} COCO classes from {sum(map(len, pool.values()))} artworks"
        lines.append(f"{split}: {counts[split]} images, {objects}.")
    lines += ["No artwork is in both splits.", "", "The objects are made from"]
    lines += [f"- {credit}" for credit in CREDITS]
    if has_own_sprites:
        lines.append("- pictures given with --sprites, under whatever licence they have")
    lines += [
        "They were cut out, turned, scaled, and recoloured. The backgrounds are made from the photographs",
        "and textures in scikit-image's wheel. To share the images, keep to CC BY-SA 4.0 and pass on these",
        "credits.",
    ]
    return "\n".join(lines) + "\n"


def _tile(path: Path, annotations: list[dict]) -> np.ndarray:
    """An enlarged square image with outlines, boxes and class names."""
    with Image.open(path) as image:
        scale = _TILE / image.width
        pixels = np.asarray(image.resize((_TILE, _TILE), Image.Resampling.BICUBIC))
    labels = np.zeros((_TILE, _TILE), np.int32)
    for number, annotation in enumerate(annotations, start=1):
        for polygon in annotation["segmentation"]:
            cv2.fillPoly(labels, [np.rint(np.reshape(polygon, (-1, 2)) * scale).astype(np.int32)], number)
    corners = [(y, x, y + h, x + w) for x, y, w, h in (one["bbox"] for one in annotations)]
    names = [NAME_BY_ID[one["category_id"]] for one in annotations]
    return overlay(pixels, labels, np.reshape(corners, (-1, 4)) * scale / _TILE, names, opacity=0.0)
