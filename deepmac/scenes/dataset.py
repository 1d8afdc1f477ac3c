"""Composed scenes: images with instance masks in COCO format, made from emoji artwork and photographs.

The default data of the suite. Scene k of a split depends on nothing but the seed, the size, and the sprites,
so that a larger set begins with the scenes of a smaller one.
"""

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from deepmac.core.categories import COCO_CATEGORIES
from deepmac.core.errors import InputError
from deepmac.core.files import atomic_folder
from deepmac.data.points import draw_points
from deepmac.scenes.artwork import CREDITS
from deepmac.scenes.composition import SceneObject, compose_scene
from deepmac.scenes.contact_sheet import contact_sheet
from deepmac.scenes.parallel import map_in_order
from deepmac.scenes.polygons import mask_to_polygons
from deepmac.scenes.sprites import SPLITS, SpritePools, sprite_pools

_MIN_SIZE, _MAX_SIZE = 32, 4096
_MOST_IMAGES = 1_000_000  # of a split; keeps the image ids of the splits apart
_FIRST_IMAGE_ID = {"train": 1, "val": _MOST_IMAGES + 1}
_POINTS = 10  # of an object, for point supervision
_JPEG = {"quality": 92, "subsampling": 0}  # full colour resolution: the objects are small


def compose_scenes(
    out: str | os.PathLike,
    images: int,
    val_images: int | None = None,
    size: int = 128,
    seed: int = 0,
    jobs: int | None = None,
    sprites: str | os.PathLike | None = None,
    progress: bool = True,
) -> Path:
    """Writes scenes as a folder in COCO's layout, which appears when it is complete.

    The folder holds `annotations/instances_{train,val}2017.json`, `train2017/`, `val2017/`,
    `contact_sheet.png`, and `README.txt`. The same arguments give the same bytes, whatever `jobs` is.
    With more than one job the processes import the calling script anew, which therefore needs the usual
    `if __name__ == "__main__":`.

    Args:
        out: the folder to write; must not exist, or be empty.
        images: number of training images.
        val_images: number of validation images; by default a fifth of `images`.
        size: side of the square images in pixels.
        seed: of the scenes; the split of the sprites does not depend on it.
        jobs: number of processes; by default one for each core, fewer for few images.
        sprites: a folder with own RGBA cut-outs to add, `<COCO class name>/<picture>.png`.
        progress: whether to show a progress bar.

    Returns:
        The folder.

    Raises:
        InputError: an argument is out of range, `out` is not empty, or a sprite cannot be used.
    """
    out = Path(out)
    counts = {"train": images, "val": max(1, images // 5) if val_images is None else val_images}
    _check(counts, size, seed, jobs)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"{out} already exists and is not an empty folder; choose another --out or remove it"
        )
    pools = sprite_pools(sprites)
    with atomic_folder(out) as folder:
        (folder / "annotations").mkdir()
        for split in SPLITS:
            (folder / f"{split}2017").mkdir()
        tasks = [(split, index) for split in SPLITS for index in range(counts[split])]
        scenes = map_in_order(_write_scene, tasks, (folder, pools, size, seed), jobs, progress, unit="scenes")
        for split, of_split in zip(SPLITS, (scenes[:images], scenes[images:]), strict=True):
            text = json.dumps(_coco(split, of_split, size, seed), separators=(",", ":"))
            (folder / "annotations" / f"instances_{split}2017.json").write_text(text, encoding="utf-8")
        (folder / "README.txt").write_text(_readme(counts, size, seed, pools), encoding="utf-8")
        contact_sheet(folder).save(folder / "contact_sheet.png")
    return out


def _check(counts: dict[str, int], size: int, seed: int, jobs: int | None) -> None:
    for option, count in (("images", counts["train"]), ("val-images", counts["val"])):
        if not 1 <= count <= _MOST_IMAGES:
            raise InputError(f"--{option} is {count}; give 1 to {_MOST_IMAGES:,}")
    if not _MIN_SIZE <= size <= _MAX_SIZE:
        raise InputError(f"--size is {size}; give {_MIN_SIZE} to {_MAX_SIZE} pixels")
    if seed < 0:
        raise InputError(f"--seed is {seed}; give 0 or a positive number")
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs is {jobs}; give 1 or more processes")


def _write_scene(task: tuple[str, int], shared: tuple[Path, SpritePools, int, int]) -> list[dict]:
    """Composes scene `index` of a split, writes its JPEG, returns its annotations (yet without ids)."""
    (split, index), (folder, pools, size, seed) = task, shared
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    scene = compose_scene(rng, pools[split], size)
    Image.fromarray(scene.image).save(folder / f"{split}2017" / _file_name(split, index), **_JPEG)
    return [_annotation(scene_object, rng) for scene_object in scene.objects]


def _annotation(scene_object: SceneObject, rng: np.random.Generator) -> dict:
    ys, xs = np.nonzero(scene_object.mask)
    left, top, right, bottom = (int(edge) for edge in (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
    bbox = [left, top, right - left, bottom - top]
    return {
        "category_id": scene_object.category_id,
        "bbox": bbox,
        "area": len(xs),
        "iscrowd": 0,
        "segmentation": mask_to_polygons(scene_object.mask),
        **draw_points(rng, scene_object.mask, bbox, _POINTS),
    }


def _file_name(split: str, index: int) -> str:
    return f"{_FIRST_IMAGE_ID[split] + index:012d}.jpg"


def _coco(split: str, scenes: list[list[dict]], size: int, seed: int) -> dict:
    """The annotation file of a split; `scenes[k]` are the annotations of its k-th image."""
    first = _FIRST_IMAGE_ID[split]
    placed = [(first + index, one) for index, scene in enumerate(scenes) for one in scene]
    return {
        "info": {
            "description": f"deepmac composed scenes: {split}, size {size}, seed {seed}",
            "url": "",
            "version": "1.0",
            "year": 2026,
            "contributor": " ".join(CREDITS),
            "date_created": "",
        },
        "licenses": [
            {
                "id": 1,
                "name": "Attribution-ShareAlike License",
                "url": "https://creativecommons.org/licenses/by-sa/4.0/",
            }
        ],
        "images": [
            {
                "id": first + index,
                "license": 1,
                "file_name": _file_name(split, index),
                "height": size,
                "width": size,
                "date_captured": "",
                "coco_url": "",
                "flickr_url": "",
            }
            for index in range(len(scenes))
        ],
        "annotations": [
            {"id": number, "image_id": image_id, **one}
            for number, (image_id, one) in enumerate(placed, start=1)
        ],
        "categories": [category._asdict() for category in COCO_CATEGORIES],
    }


def _readme(counts: dict[str, int], size: int, seed: int, pools: SpritePools) -> str:
    lines = [
        "Composed scenes with instance masks, in COCO's layout; written by `deepmac scenes`.",
        "",
        f"Images of {size} x {size} pixels, seed {seed}.",
    ]
    vendors = set()
    for split in SPLITS:
        artworks = [artwork for listed in pools[split].values() for artwork in listed]
        vendors.update(artwork.vendor for artwork in artworks)
        lines.append(
            f"{split}: {counts[split]} images, objects of {len(pools[split])} COCO classes "
            f"from {len(artworks)} artworks."
        )
    lines += [
        "No artwork is in both splits.",
        "",
        "The objects are made from",
        *(f"- {credit}" for credit in CREDITS),
        *(["- pictures given with --sprites, under whatever licence they have"] if "own" in vendors else []),
        "They were cut out, turned, scaled, and recoloured. The backgrounds are made from the photographs",
        "and textures in scikit-image's wheel. To share the images, keep to CC BY-SA 4.0 and pass on these",
        "credits.",
    ]
    return "\n".join(lines) + "\n"
