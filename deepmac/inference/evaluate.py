"""Evaluates a trained model on annotated pictures."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from deepmac.core.errors import InputError
from deepmac.data.coco import CocoData
from deepmac.data.picture_files import read_annotated
from deepmac.evaluation import MaskEvaluator
from deepmac.inference.load import model_classes, trained_model
from deepmac.inference.prediction import Prediction
from deepmac.inference.predictor import EncodedImage, Predictor, load

# What a summary shows of the hundreds of figures.
HEADLINES = ("mask/AP", "mask/seen/AP", "mask/unseen/AP", "mask/mIoU", "mask/unseen/mIoU", "box/AP")


def evaluate_model(
    model: str | Path,
    data: CocoData,
    seen: Iterable[str] | None = None,
    precision: str = "auto",
) -> dict[str, MaskEvaluator]:
    """Measures masks and boxes, as published: no object is looked at again from closer.

    Where model and pictures do not have the same classes, those of the same name correspond.

    Args:
        model: name or folder, as `deepmac.load` takes it, except exported graphs.
        data: pictures and their annotations.
        seen: names of the classes counted as seen; None means those whose masks the model was trained on.
        precision: 'float32', 'bfloat16', or 'auto': bfloat16 where the hardware computes with it.

    Returns:
        Source of the boxes ("detections", "gt_boxes") -> evaluator with all predictions.

    Raises:
        InputError: no model there, or the pictures have none of the classes that are called seen.
    """
    trained_on = trained_model(model)[0].allowed_masked_classes_ids
    ids = {category["name"]: category["id"] for category in data.categories}
    if seen is None:
        classes = model_classes(model)
        seen = [entry["name"] for entry in classes if not trained_on or entry["id"] in trained_on]
    elif not ids.keys() & (seen := set(seen)):
        names = ", ".join([*ids][:10])
        raise InputError(f"{data.name} has none of the classes of --seen: its classes are {names}")
    predictor = load(model, precision, runtime="tensorflow")
    seen_ids = [ids[name] for name in seen if name in ids]
    truth, folder = data.content(), data.image_dir or Path()
    evaluators = {source: MaskEvaluator(truth, seen_ids) for source in ("detections", "gt_boxes")}
    for _ in measured_pictures(predictor, truth, folder, evaluators, closer=False):
        pass
    return evaluators


def measured_pictures(
    predictor: Predictor,
    truth: dict,
    folder: Path,
    evaluators: dict[str, MaskEvaluator],
    closer: bool = True,
) -> Iterator[tuple[int, EncodedImage, Prediction | None]]:
    """Adds what is found in pictures, and the masks in their annotated boxes, to evaluators.

    Args:
        predictor: of a model that finds objects.
        truth: content of a COCO file without flaws.
        folder: of its pictures.
        evaluators: "detections" and "gt_boxes", others stay as they are.
        closer: as for `Predictor.predict`.

    Yields:
        The picture's id, what the model made of it, and masks in its annotated boxes, None without boxes.
    """
    ids = {category["name"]: category["id"] for category in truth["categories"]}
    unlisted = min(ids.values()) - 1  # the evaluator leaves out what the file does not list
    for image, encoded in encoded_pictures(predictor, truth["images"], folder, "Measuring"):
        found = predictor.detect(encoded=encoded, min_score=0, closer=closer)
        classes = np.array([ids.get(name, unlisted) for name in found.names or ()], np.int64)
        scores, masks = np.asarray(found.scores), found.mask_probs
        evaluators["detections"].add(image["id"], found.boxes, classes, scores, masks)
        boxes = evaluators["gt_boxes"].ground_truth(image["id"]).boxes
        given = predictor.predict(boxes, encoded=encoded, closer=closer) if len(boxes) else None
        if given:
            evaluators["gt_boxes"].add_given(image["id"], given.mask_probs)
        yield image["id"], encoded, given


def encoded_pictures(
    predictor: Predictor, images: list[dict], folder: Path, title: str
) -> Iterator[tuple[dict, EncodedImage]]:
    """Entries of a COCO file, and their pictures encoded with detections; in a terminal with a bar."""
    for image in tqdm(images, title, unit="picture", leave=False, disable=None):
        pixels = read_annotated(folder / image["file_name"], (image["width"], image["height"]))
        yield image, predictor.encode(pixels, detect=True)


def summary(evaluators: dict[str, MaskEvaluator]) -> str:
    """A table of the headline figures, in percent."""
    table = pd.DataFrame({source: evaluator.result() for source, evaluator in evaluators.items()})
    return table.reindex(HEADLINES).to_string(float_format="%.1f", na_rep="-")
