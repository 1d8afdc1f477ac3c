"""The file an evaluation leaves in a model's folder."""

import json
import math
from pathlib import Path

from deepmac.atomic import atomic_file

EVALUATION_FILE = "evaluation.json"


def evaluation_document(evaluators) -> dict:
    """All figures of an evaluation, those of single classes included, with bootstrap samples.

    Args:
        evaluators: source of the boxes ("detections", "gt_boxes") -> `MaskEvaluator`.

    Returns:
        `{"metrics": {name: value}, "bootstrap": {name: samples}}`, in percent; names start with the
        source; None where there is no ground truth. Only figures of all, seen and unseen classes have
        samples. Sample i of all evaluations of the same images comes from the same draw of images.
    """
    metrics, samples = {}, {}
    for source, evaluator in evaluators.items():
        metrics |= {f"{source}/{name}": _number(value) for name, value in evaluator.result().items()}
        for name, values in evaluator.bootstrap().items():
            if "class/" not in name and "supercategory/" not in name:
                samples[f"{source}/{name}"] = [_number(round(value, 4)) for value in values]
    return {"metrics": metrics, "bootstrap": samples}


def write_evaluation(evaluators, folder: Path):
    """Writes `evaluation_document` into a model's folder."""
    with atomic_file(folder / EVALUATION_FILE) as path:
        path.write_text(json.dumps(evaluation_document(evaluators)))


def read_evaluation(folder: Path) -> dict:
    """Reads what `write_evaluation` wrote."""
    return json.loads((folder / EVALUATION_FILE).read_text())


def _number(value):
    return None if math.isnan(value) else float(value)
