"""Evaluates a trained model on annotated pictures."""

import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf
from tqdm.auto import tqdm

from deepmac.core.errors import InputError
from deepmac.core.machine import resolve_precision
from deepmac.data.classes import classes_of, ids_by_name
from deepmac.data.coco import CocoData
from deepmac.data.tfrecords import write_tfrecords
from deepmac.evaluation import MaskEvaluator
from deepmac.inference.find import find_model
from deepmac.inference.load import build_model, model_classes, trained_model
from deepmac.training.task import DeepMACTask
from deepmac.training.validation import EVALUATION_LOG

# What a summary shows of the hundreds of figures.
HEADLINES = ("mask/AP", "mask/seen/AP", "mask/unseen/AP", "mask/mIoU", "mask/unseen/mIoU", "box/AP")


def evaluate_model(
    model: str | Path,
    data: CocoData,
    seen: Iterable[str] | None = None,
    precision: str = "auto",
    progress: bool = True,
) -> dict[str, MaskEvaluator]:
    """Measures masks and boxes, from detections and from ground-truth boxes.

    Where model and pictures do not have the same classes, those of the same name correspond.

    Args:
        model: name or folder, as `deepmac.load` takes it, except exported graphs.
        data: pictures and their annotations.
        seen: names of the classes counted as seen; None means those whose masks the model was trained on.
        precision: 'float32', 'bfloat16', or 'auto': bfloat16 where the hardware computes with it.
        progress: whether to show a progress bar.

    Returns:
        Source of the boxes ("detections", "gt_boxes") -> evaluator with all predictions.

    Raises:
        InputError: no model there, or the pictures have none of the classes that are called seen.
    """
    config, restore = trained_model(model)
    with tempfile.TemporaryDirectory() as scratch:
        records = Path(scratch) / "records"
        write_tfrecords({"val": data}, records)
        config.validation_data.input_path = f"{records}/val-*"
        config.annotation_file = str(records / "instances_val.json")
        classes = classes_of({"val": data})
        data_ids = ids_by_name(model_classes(find_model(model).folder), classes)
        if seen is None:
            trained_on = config.allowed_masked_classes_ids or data_ids
            seen_ids = [data_ids[class_id] for class_id in trained_on if class_id in data_ids]
        else:
            seen_ids = [entry["id"] for entry in classes if entry["name"] in seen]
            if not seen_ids:
                names = ", ".join(entry["name"] for entry in classes[:10])
                raise InputError(f"{data.name} has none of the classes of --seen: its classes are {names}")
        config.allowed_masked_classes_ids = sorted(seen_ids) or [0]  # 0: none of the classes
        # Of each of the model's classes the id in the records, 0 for those that the pictures do not have.
        id_table = np.zeros(config.model.num_classes + config.losses.class_offset, np.int32)
        for class_id, data_id in data_ids.items():
            if class_id < len(id_table):
                id_table[class_id] = data_id
        counts = Counter(annotation["image_id"] for annotation in data.annotations)
        config.model.max_num_instances = max(counts.values())
        network = build_model(config, restore, resolve_precision(precision))
        task = DeepMACTask(config)
        state: Any = None
        step = tf.function(lambda batch: task.validation_step(batch, network), reduce_retracing=True)
        with tqdm(desc="evaluating", unit="picture", disable=not progress) as bar:
            for batch in task.build_inputs(config.validation_data):
                outputs = step(batch)
                detections = outputs[EVALUATION_LOG]["detections"]
                detections["classes"] = tf.gather(id_table, tf.cast(detections["classes"], tf.int32))
                # A tuple over replicas, as a distribution strategy gives it.
                outputs = tf.nest.map_structure(lambda value: (value,), outputs)
                state = task.aggregate_logs(state, outputs)
                bar.update(int(tf.math.count_nonzero(batch[1]["groundtruths"]["source_id"] >= 0)))
        return state


def summary(evaluators: dict[str, MaskEvaluator]) -> str:
    """A table of the headline figures, in percent."""
    table = pd.DataFrame({source: evaluator.result() for source, evaluator in evaluators.items()})
    return table.reindex(HEADLINES).to_string(float_format="%.1f", na_rep="-")
