"""Measures masks in boxes, exact and moved: `python configs/weights/measure.py mini COCO_DIR`.

IoU of every annotated object that is no crowd region and larger than 32² pixels, as the bars for the shipped
weights demand; boundary IoU (arXiv 2103.16562) beside it.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from pycocotools.coco import COCO

import deepmac
from deepmac.data.data_sets import read_image_ids

_SMALLEST = 32**2  # pixels of a mask; the IoU of smaller ones is that of their edges
_LARGEST_MOVE = 0.1  # of the box's height or width, for each edge
_BOUNDARY = 0.02  # of the picture's diagonal, as in the paper


def main():
    """Prints the means, and those of single classes on demand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="as deepmac.load takes it")
    parser.add_argument("coco_dir", type=Path)
    parser.add_argument("--split", default="val2017")
    parser.add_argument("--ids", type=Path, default=Path(__file__).with_name("val2017.txt"))
    parser.add_argument("--input-size", type=int)
    parser.add_argument("--every", type=int, default=1, help="measure each so-many-th picture only")
    parser.add_argument("--classes", nargs="*", default=[], help="names of classes to list")
    parser.add_argument("--out", type=Path, help="CSV file with a line for each object")
    parser.add_argument("--fit", type=Path, help="quality.json to write for the model")
    options = parser.parse_args()
    predictor = deepmac.load(options.model, input_size=options.input_size)
    coco = COCO(options.coco_dir / "annotations" / f"instances_{options.split}.json")
    image_ids = sorted(read_image_ids(options.ids))[:: options.every]
    table = pd.concat(
        [objects(predictor, coco, image_id, options.coco_dir / options.split) for image_id in image_ids]
    )
    if options.out:
        table.to_csv(options.out, index=False)
    print(f"{len(table)} objects; in percent:")
    print((100 * table[["iou", "moved_iou", "boundary_iou"]].mean()).round(1).to_string())
    print(f"correlation of quality with IoU: {table['quality'].corr(table['iou']):.2f}")
    for name in options.classes:
        print(f"{name}: {100 * table.loc[table['class'] == name, 'iou'].mean():.1f}")
    if options.fit:
        expected = np.concatenate([table["quality"], table["moved_quality"]])
        slope, intercept = np.polyfit(expected, np.concatenate([table["iou"], table["moved_iou"]]), 1)
        options.fit.write_text(
            json.dumps({"intercept": round(intercept, 3), "slope": round(slope, 3)}) + "\n"
        )


def objects(predictor: deepmac.Predictor, coco: COCO, image_id: int, folder: Path) -> pd.DataFrame:
    """One line for each object of a picture: class, IoU in the exact and in the moved box, quality."""
    annotations = [
        annotation
        for annotation in coco.imgToAnns[image_id]
        if not annotation["iscrowd"] and annotation["area"] > _SMALLEST
    ]
    if not annotations:
        return pd.DataFrame()
    predictor.set_image(folder / coco.imgs[image_id]["file_name"])
    truth = [coco.annToMask(annotation).astype(bool) for annotation in annotations]
    boxes = np.array([annotation["bbox"] for annotation in annotations])
    moves = np.random.default_rng(image_id).uniform(-_LARGEST_MOVE, _LARGEST_MOVE, (len(boxes), 4))
    sides = boxes[:, [2, 3, 2, 3]]
    moved = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]) + moves * sides
    height, width = truth[0].shape
    moved = moved.clip(0, [width, height, width, height])
    # The quality as it is before the model's calibration, which is fitted to it.
    exact, inexact = (
        dataclasses.replace(predictor.predict(*given), calibration=(0.0, 1.0))
        for given in ((boxes, "xywh"), (moved, "xyxy"))
    )
    return pd.DataFrame(
        {
            "image_id": image_id,
            "class": [coco.cats[annotation["category_id"]]["name"] for annotation in annotations],
            "iou": list(map(iou, exact.masks, truth)),
            "moved_iou": list(map(iou, inexact.masks, truth)),
            "boundary_iou": [iou(boundary(a), boundary(b)) for a, b in zip(exact.masks, truth, strict=True)],
            "quality": exact.quality,
            "moved_quality": inexact.quality,
        }
    )


def iou(mask: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks, bool [H, W]."""
    return (mask & other).sum() / max(1, (mask | other).sum())


def boundary(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask, bool [H, W], that are near its outline; the picture's edge is one."""
    distance = max(1, round(_BOUNDARY * np.hypot(*mask.shape)))
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance)[1:-1, 1:-1]
    return mask & (inner == 0)


if __name__ == "__main__":
    main()
