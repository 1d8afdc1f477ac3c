"""What a notebook works with: its rows trained, its measurements, curves and masks, its results file."""

import hashlib
from pathlib import Path

import pandas as pd
import yaml
from tqdm.auto import tqdm

from deepmac.evaluation import MaskEvaluator
from deepmac.evaluation.baselines import BASELINES
from deepmac.evaluation.files import evaluation_document
from deepmac.reproduction import results, rows
from deepmac.reproduction.suite import Row, Suite

_SAMPLES_PER_BOX = 65


class Study:
    """The part of a profile that a notebook reproduces.

    Attributes:
        lines: what the table shows and this profile runs.
        is_published_data: whether measured values may be compared with the published ones.
    """

    def __init__(self, notebook: str, profile: str, work_dir: str | Path = "runs", root: str | Path = "."):
        """Reads `configs/reproduction.yaml`.

        Args:
            notebook: name of the notebook, without suffix.
            profile: smoke, quick, mini, subset or paper.
            work_dir: holds data sets and training runs; those that are there are used again.
            root: the checkout.

        Raises:
            InputError: no such profile, or not in a checkout.
        """
        self.notebook = notebook
        self.suite = Suite.load(profile, root)
        self.lines = self.suite.table_rows(notebook)
        self.is_published_data = profile == "paper"
        self._work_dir = Path(work_dir).absolute()
        self._evaluations: dict[Row, dict] = {}

    def train(self):
        """Trains and evaluates every run of the table, or reads what earlier runs left."""
        runs = [run for line in self.lines for run in line.runs]
        for run in tqdm(runs, desc=self.notebook, unit="row"):
            self._evaluations[run] = rows.train_row(run, self._work_dir)

    def measurement(self, key: str, metric: str) -> results.Measurement:
        """A metric of a row over the profile's seeds.

        Args:
            key: the row's name in `reproduction.yaml`.
            metric: e.g. "gt_boxes/mask/unseen/AP".
        """
        return results.Measurement.from_evaluations(
            [self._evaluations[run] for run in self.runs(key)], metric
        )

    def baseline(self, kind: str, key: str, metric: str) -> results.Measurement:
        """The same metric for masks that look at nothing but the ground-truth box.

        Args:
            kind: "full_box" or "ellipse".
            key: the row whose seen and unseen classes count.
            metric: a metric of ground-truth boxes.
        """
        evaluator = MaskEvaluator(
            self.data.annotation_file, seen_ids=self.seen_classes(key), iou_types=("mask",)
        )
        mask = BASELINES[kind](_SAMPLES_PER_BOX)
        evaluator.add_from_boxes(lambda _, boxes: [mask] * len(boxes))
        return results.Measurement.from_evaluations([evaluation_document({"gt_boxes": evaluator})], metric)

    def runs(self, key: str) -> tuple[Row, ...]:
        """The training runs of a row, one a seed."""
        return next(line.runs for line in self.lines if line.key == key)

    def seen_classes(self, key: str) -> list[int]:
        """Ids of the categories whose masks a row sees."""
        return self.runs(key)[0].config["task"]["allowed_masked_classes_ids"]

    def model_folder(self, key: str) -> Path:
        """The trained model of a row's first seed, for `deepmac.load`."""
        return rows.row_folder(self.runs(key)[0], self._work_dir)

    def curve(self, key: str, loss: str) -> pd.Series:
        """A training loss of a row's first seed: step -> value, the mean since the step before."""
        return rows.training_curve(self.model_folder(key), loss)

    @property
    def data(self) -> rows.PreparedData:
        """The profile's pictures and records."""
        return rows.prepare_dataset(self.suite.dataset, self._work_dir)

    def write(self, path: str | Path | None, parameters: dict, result_rows, claims):
        """Writes the results JSON.

        Args:
            path: the file; None writes nothing (interactive use).
            parameters: the notebook's parameters.
            result_rows: the table's `ResultRow`s.
            claims: the checked `Claim`s.
        """
        if path is None:
            return
        hashes = sorted(run.sha256 for line in self.lines for run in line.runs)
        results.write_results(
            path,
            notebook=self.notebook,
            parameters=parameters,
            config_sha256=hashlib.sha256(yaml.safe_dump(hashes).encode()).hexdigest(),
            rows=result_rows,
            claims=claims,
            seconds=rows.training_seconds(self._evaluations, self._work_dir),
        )


def results_table(result_rows):
    """Shows results as a pandas Styler: published, measured, difference, 95 % interval, seeds, source."""
    frame = pd.DataFrame([row.as_dict() for row in result_rows])
    frame["difference"] = frame["measured"] - frame["published"].astype(float)
    frame = frame.set_index(["name", "metric"])
    columns = ["published", "measured", "difference", "ci95", "seeds", "source"]
    return frame[columns].style.format(precision=1, na_rep="-").format(_interval, subset=["ci95"])


def claims_table(claims):
    """Shows claims as a pandas Styler."""
    words = {True: "holds", False: "does not hold", None: "not enough evidence"}
    frame = pd.DataFrame(
        [{"claim": claim.text, "result": words[claim.holds], "evidence": claim.evidence} for claim in claims]
    )
    return frame.style.hide(axis="index").set_properties(**{"text-align": "left"})


def _interval(ci95) -> str:
    return "-" if ci95 is None else f"{ci95[0]:.1f} to {ci95[1]:.1f}"
