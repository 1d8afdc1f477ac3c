"""The file an evaluation leaves in a model's folder."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path

from deepmac.core.files import write_text
from deepmac.evaluation.evaluator import MaskEvaluator

EVALUATION_FILE = "evaluation.json"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """All figures of an evaluation, in percent; names start with the source of the boxes.

    Attributes:
        metrics: name -> value, those of single classes included; None where there is no ground truth.
        bootstrap: name -> the value, then that of each draw of images; only of sets of classes, not of single
            classes. Draw i of all evaluations of the same images is the same.
    """

    metrics: Mapping[str, float | None]
    bootstrap: Mapping[str, list[float | None]]

    @classmethod
    def of(cls, evaluators: Mapping[str, MaskEvaluator]) -> "Evaluation":
        """Evaluates: source of the boxes ("detections", "gt_boxes") -> evaluator with all predictions."""
        metrics, samples = {}, {}
        for source, evaluator in evaluators.items():
            metrics |= {f"{source}/{name}": _number(value) for name, value in evaluator.result().items()}
            for name, values in evaluator.bootstrap().items():
                if "class/" not in name and "supercategory/" not in name:
                    samples[f"{source}/{name}"] = [_number(round(value, 4)) for value in values]
        return cls(metrics, samples)


def write_evaluation(evaluators: Mapping[str, MaskEvaluator], folder: Path):
    """Writes the `Evaluation` of a model into its folder."""
    write_text(folder / EVALUATION_FILE, json.dumps(dataclasses.asdict(Evaluation.of(evaluators))))


def read_evaluation(folder: Path) -> Evaluation:
    """Reads what `write_evaluation` wrote."""
    return Evaluation(**json.loads((folder / EVALUATION_FILE).read_text()))


def _number(value):
    return None if math.isnan(value) else float(value)
