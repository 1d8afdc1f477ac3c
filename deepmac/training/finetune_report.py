"""What fine-tuning was good for: a table of figures and a contact sheet of validation pictures."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from deepmac import configs
from deepmac.core.drawing import overlay, sheet
from deepmac.core.files import atomic_file, write_text
from deepmac.evaluation import MaskEvaluator
from deepmac.evaluation.baselines import BASELINES
from deepmac.evaluation.files import read_evaluation, write_evaluation
from deepmac.inference.evaluate import measured_pictures
from deepmac.inference.prediction import Prediction
from deepmac.inference.predictor import SAME_OBJECT, load

TABLE_FILE, SHEET_FILE = "report.txt", "contact_sheet.png"
# Of the table: what made masks in annotated boxes, as in `evaluation.json` -> its row.
_ROWS = {"gt_boxes": "this model", "ellipse": "the inscribed ellipse", "full_box": "the whole box"}
_SHOWN, _TILE = 24, 320  # tiles; their width in pixels
_CAPTIONS = ["masks in annotated boxes", "detected"]
_SAMPLES = 32  # of a baseline's mask


def write_report(out: Path, images: Path, start: str, task: configs.DeepMACTaskConfig) -> None:
    """Measures a model on the validation pictures it was not trained on, beside the one it started from.

    The folder of the model and of `records/` gets the table, the contact sheet, and `evaluation.json`.
    """
    seen_ids = task.allowed_masked_classes_ids
    truth = json.loads((out / "records" / "instances_val.json").read_text(encoding="utf-8"))
    tuned, untuned, shown = load(out), load(start), []
    sources = ("detections", "gt_boxes", "start", *BASELINES)
    evaluators = {source: MaskEvaluator(truth, seen_ids) for source in sources}
    for image_id, encoded, given in measured_pictures(tuned, truth, images, evaluators):
        if given is None:
            continue
        before = untuned.predict(given.boxes, encoded=untuned.encode(given.image))
        evaluators["start"].add_given(image_id, before.mask_probs)
        if len(shown) < _SHOWN:
            shown += [_tile(given), _tile(tuned.detect(encoded=encoded, max_overlap=SAME_OBJECT))]
    for name, draw in BASELINES.items():
        evaluators[name].add_from_boxes(lambda _, boxes, draw=draw: np.stack([draw(_SAMPLES)] * len(boxes)))
    write_evaluation(evaluators, out)
    with atomic_file(out / SHEET_FILE) as path:
        sheet(shown, _CAPTIONS * (len(shown) // 2)).save(path)
    names = _ROWS | {"start": f"{start}, untouched"}
    text = _table(read_evaluation(out).metrics, names, truth, seen_ids)
    if task.keep_masks:
        text += f"In boxes without a mask, training learnt that of {start}; no figure is measured on these.\n"
    write_text(out / TABLE_FILE, text)


def _table(metrics, names, truth, seen_ids) -> str:
    """The figures in percent, with the numbers of masks they stand on."""
    with_masks = [
        entry["category_id"] in seen_ids
        for entry in truth["annotations"]
        if entry["segmentation"] and not entry["iscrowd"]
    ]
    counts = f"{sum(with_masks)} of seen classes, {len(with_masks) - sum(with_masks)} of unseen"
    table = pd.DataFrame(
        {
            f"{part} {metric}": {
                name: metrics.get(f"{row}/mask/{part}/{metric}") for row, name in names.items()
            }
            for part in ("seen", "unseen")
            for metric in ("AP", "mIoU")
        }
    )
    found = pd.Series(metrics, dtype=float).map(lambda value: "-" if np.isnan(value) else f"{value:.1f}")
    return "\n".join(
        [
            f"Masks in boxes of {len(truth['images'])} validation pictures, percent (annotated: {counts})",
            table.astype(float).to_string(float_format="%.1f", na_rep="-"),
            f"Detection: box AP {found['detections/box/AP']}, at IoU 0.5 {found['detections/box/AP50']}; "
            f"with masks of seen classes AP {found['detections/mask/seen/AP']}",
            "",
        ]
    )


def _tile(prediction: Prediction) -> np.ndarray:
    """A picture with masks, and with names where objects were detected, as wide as its column."""
    height, width = prediction.image.shape[:2]
    image = Image.fromarray(prediction.image).resize((_TILE, max(1, round(height * _TILE / width))))
    enlarged = dataclasses.replace(prediction, image=np.asarray(image))
    return overlay(enlarged.image, enlarged.to_label_image(), enlarged.boxes, enlarged.names)
