"""A data set of one's own, composed where none is given, and what `deepmac finetune` made of it."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from deepmac.core.files import atomic_folder
from deepmac.evaluation.files import read_evaluation
from deepmac.scenes.artwork import CREDITS, artworks
from deepmac.scenes.composition import compose_scene
from deepmac.scenes.polygons import mask_to_polygons
from deepmac.suite.results import Measurement

# Classes that COCO does not have -> artwork, in the notation of `deepmac/scenes/artwork.yaml`.
ARTWORK = {
    **{"anchor": "2693", "axe": "1fa93", "bell": "1f514", "butterfly": "1f98b", "cactus": "1f335"},
    **{"crab": "1f980", "crown": "1f451", "guitar": "1f3b8", "hammer": "1f528", "helicopter": "1f681"},
    **{"key": "1f511", "lizard": "1f98e", "lobster": "1f99e", "mushroom": "1f344", "octopus": "1f419"},
    **{"rocket": "1f680", "saxophone": "1f3b7", "snail": "1f40c", "snowman": "26c4", "turtle": "1f422"},
}
WITH_MASKS = sorted(ARTWORK)[2::4]  # every fourth: not picked
METRICS = ("mask/unseen/AP", "mask/seen/AP", "mask/unseen/mIoU")
# Lines of what was there before training -> its name in `evaluation.json`.
UNTRAINED = {"mini, untouched": "start", "inscribed ellipse": "ellipse", "whole box": "full_box"}
_SIDE, _NEW = 128, 6  # pixels of a composed picture; pictures without annotations


class Scope(NamedTuple):
    """Of a profile: composed pictures to train on and to validate with, steps, seeds, and new mask heads."""

    pictures: int
    val_pictures: int
    steps: int | None  # of fine-tuning; None: as `deepmac finetune` chooses
    head_steps: int  # of each new mask head
    seeds: int
    heads: tuple[str, ...] = ("resnet4", "hourglass20")


_QUICK = Scope(240, 60, 100, 100, 1)
SCOPES = {"smoke": Scope(16, 8, 2, 2, 1, heads=()), "quick": _QUICK, "mini": Scope(600, 120, None, 200, 3)}
SCOPES |= dict.fromkeys(("styles", "subset", "photographs", "paper"), _QUICK)  # whose pictures are others


def compose(folder: Path, scope: Scope) -> None:
    """Writes a data set: `pictures/`, and `new/` without annotations.

    `annotations.json` has boxes of all objects and masks of the classes `WITH_MASKS`; `shapes.json` has all
    masks of the same pictures, and `validation.json` those of others.
    """
    categories = [{"id": number, "name": name} for number, name in enumerate(sorted(ARTWORK), start=1)]
    drawn = {category["id"]: artworks(ARTWORK[category["name"]]) for category in categories}
    with_masks = {category["id"] for category in categories if category["name"] in WITH_MASKS}
    with atomic_folder(folder) as out:
        shapes = _compose(out / "pictures", "train", scope.pictures, drawn)
        boxes = [
            one if one["category_id"] in with_masks else one | {"segmentation": None}
            for one in shapes["annotations"]
        ]
        validation = _compose(out / "pictures", "val", scope.val_pictures, drawn)
        _compose(out / "new", "new", _NEW, drawn)
        common = {"info": {"contributor": " ".join(CREDITS)}, "categories": categories}
        annotations = shapes | {"annotations": boxes}
        documents = {"shapes": shapes, "annotations": annotations, "validation": validation}
        for name, document in documents.items():
            (out / f"{name}.json").write_text(json.dumps(common | document))


def _compose(folder: Path, split: str, count: int, pool: Mapping) -> dict:
    """Writes pictures, the same for the same split, and returns their annotations with masks."""
    folder.mkdir(exist_ok=True)
    images, annotations = [], []
    for index in range(count):
        scene = compose_scene(np.random.default_rng([*split.encode(), index]), pool, _SIDE)
        image = {"id": index, "file_name": f"{split}-{index:04d}.png", "width": _SIDE, "height": _SIDE}
        Image.fromarray(scene.image).save(folder / image["file_name"])
        images.append(image)
        for number, mask in scene.objects:
            annotations.append(
                {
                    **{"id": len(annotations), "image_id": index, "category_id": number, "iscrowd": 0},
                    **{"area": int(mask.sum()), "bbox": list(cv2.boundingRect(mask.astype(np.uint8)))},
                    "segmentation": mask_to_polygons(mask),
                }
            )
    return {"images": images, "annotations": annotations}


def measure(trained: Mapping[str, Sequence[Path]]) -> dict[str, dict[str, Measurement]]:
    """Figures of masks in annotated boxes.

    Args:
        trained: line -> folders of the models of all seeds, which have measured the untrained lines, too.

    Returns:
        Line -> metric -> value.
    """
    sources = {name: ("gt_boxes", folders) for name, folders in trained.items()}
    first = next(iter(trained.values()))[:1]
    measured = {}
    for name, (source, folders) in (sources | {n: (s, first) for n, s in UNTRAINED.items()}).items():
        evaluations = [read_evaluation(folder) for folder in folders]
        found = {
            metric: Measurement.from_evaluations(evaluations, f"{source}/{metric}") for metric in METRICS
        }
        seeds = len(folders) if name in trained else 0
        measured[name] = {metric: dataclasses.replace(one, seeds=seeds) for metric, one in found.items()}
    return measured
