"""What a notebook works with: its rows trained, its measurements, curves and masks, its results file."""

import hashlib
import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import yaml
from official.core import config_definitions as cfg
from official.core import exp_factory
from tqdm.auto import tqdm

from deepmac import configs  # noqa: F401  # registers the experiments
from deepmac.core.categories import CLASS_SETS, ID_BY_NAME
from deepmac.suite import results
from deepmac.suite.rows import PreparedData, RowResult, RowStore, prepare_dataset
from deepmac.suite.suite import Row, Suite
from deepmac.suite.tables import MINUS

# The columns of a table of rows: all measured from ground-truth boxes, so that only the mask can be wrong.
METRICS = ("gt_boxes/mask/unseen/AP", "gt_boxes/mask/seen/AP", "gt_boxes/mask/unseen/mIoU")
# What the printed commands leave to the shell.
_PLACEHOLDERS = {
    "TFRECORDS": "what `deepmac tfrecord --coco-dir COCO --out DIR` wrote, here or in a bucket (gs://...)",
    "MODELS": "where models go, here or in a bucket",
    "TPU_NAME": "the TPU",
    "CENTERNET_512_CHECKPOINT": "a CenterNet detector of 512x512, from `deepmac import-checkpoint`",
    "CENTERNET_1024_CHECKPOINT": "one of 1024x1024",
    "DEEPMAC_1024_CHECKPOINT": "a DeepMAC of 1024x1024, likewise imported",
}
_TPU_OPTIONS = {
    "runtime.distribution_strategy": "tpu",
    "task.annotation_file": "$TFRECORDS/instances_val2017.json",
    "task.train_data.input_path": "$TFRECORDS/train2017-*",
    "task.validation_data.input_path": "$TFRECORDS/val2017-*",
}


class Study:
    """The part of a profile that a notebook reproduces.

    Attributes:
        profile: its name.
        lines: what the table shows and this profile runs.
        not_run: the lines that this profile leaves out.
    """

    def __init__(
        self,
        notebook: str,
        profile: str,
        work_dir: str | Path = "runs",
        results_path: str | Path | None = None,
        root: str | Path = ".",
    ):
        """Reads `configs/reproduction.yaml`.

        Args:
            profile: smoke, quick, mini, styles, subset, photographs or paper.
            work_dir: holds data sets and training runs; those that are there are used again.
            results_path: where the results JSON goes; results of rows lie in `rows/` beside it. None: the
                notebook writes none, and rows are those of `papermill_runs/<profile>`.

        Raises:
            InputError: no such profile, or not in a checkout.
        """
        self.notebook = notebook
        self.profile = profile
        self.suite = Suite.load(profile, root)
        self.lines = self.suite.table_rows(notebook)
        self.not_run = self.suite.not_run(notebook)
        self._results_path = results_path
        folder = Path(root, "papermill_runs", profile) if results_path is None else Path(results_path).parent
        self.store = RowStore(work_dir, folder / "rows")

    def describe(self) -> None:
        """Prints what the lines of the table stand for, and which ones this profile leaves out."""
        for line in self.lines:
            seeds = ", ".join(str(run.seed) for run in line.runs)
            print(f"{line.name}: {model_summary(line.runs[0])}, seed{'s' * (len(line.runs) > 1)} {seeds}")
        if self.not_run:
            print("not run in this profile:", "; ".join(line.name for line in self.not_run))

    def train(self):
        """Reads the result of every run of the table; trains and evaluates those that have none.

        `deepmac reproduce` has trained them before it executes a notebook, several at once.
        """
        runs = [run for line in self.lines for run in line.runs]
        missing = any(map(self.store.missing, runs))
        for run in tqdm(runs, desc=self.notebook, unit="row", disable=not missing):
            self.store.train(run)

    def measurement(self, key: str, metric: str) -> results.Measurement:
        """A metric, as "gt_boxes/mask/unseen/AP", of a row over its seeds."""
        return results.Measurement.from_evaluations(list(map(self.store.result, self.runs(key))), metric)

    def has(self, *keys: str) -> bool:
        """Whether this profile runs all these rows."""
        return set(keys) <= {line.key for line in self.lines}

    def runs(self, key: str) -> tuple[Row, ...]:
        """The training runs of a row of the table, one a seed.

        Raises:
            KeyError: the profile does not run it; ask `has` first.
        """
        return {line.key: line.runs for line in self.lines}[key]

    def seen_classes(self, key: str) -> list[int]:
        """Ids of the categories whose masks a row sees; empty for all."""
        task = self.runs(key)[0].config["task"]
        return task.get("allowed_masked_classes_ids") or task.get("allowed_mask_class_ids") or []

    def model_folder(self, key: str) -> Path:
        """The model of a row's first seed, for `deepmac.load`; trained again if only its result is there."""
        run = self.runs(key)[0]
        self.store.train(run, with_model=True)
        return self.store.model_folder(run)

    def curve(self, key: str, loss: str, run: int = 0) -> pd.Series:
        """A training loss of one of a row's runs: step -> value, the mean since the step before."""
        points = dict(self.store.result(self.runs(key)[run]).curves.get(loss, []))
        return pd.Series(points, name=loss, dtype=float).rename_axis("step")

    @property
    def data(self) -> PreparedData:
        """The profile's pictures and records."""
        return prepare_dataset(self.suite.dataset, self.store.work_dir)

    @property
    def shown(self) -> PreparedData:
        """The pictures that figures show."""
        return prepare_dataset(self.suite.shown_dataset, self.store.work_dir)

    def print_tpu_commands(self) -> None:
        """Prints how each line of the table is trained at full size, in the profile `paper`."""
        for name, meaning in _PLACEHOLDERS.items():
            print(f"# ${name}: {meaning}")
        for line in Suite.load("paper", self.suite.root).table_rows(self.notebook):
            print(f"\n# {line.name}", *map(tpu_command, line.runs), sep="\n")

    def write(
        self, parameters: dict, result_rows: Sequence[results.ResultRow], claims: Sequence[results.Claim]
    ):
        """Writes the results JSON, if the study has a `results_path`."""
        runs = {run.folder_name: run for line in self.lines for run in line.runs}
        parts = {part.folder_name: part for run in runs.values() for part in run.with_predecessors()}
        trained = [result for part in parts.values() if (result := self.store.result(part))]
        hashes = sorted(run.sha256 for run in runs.values())
        results.write_results(
            self._results_path,
            notebook=self.notebook,
            parameters=parameters,
            config_sha256=hashlib.sha256(yaml.safe_dump(hashes).encode()).hexdigest(),
            rows=result_rows,
            claims=claims,
            seconds=sum(result.seconds for result in trained),
            not_run=[line.name for line in self.not_run],
            pictures=f"{self.suite.dataset}{_measured_classes(trained)}",
            trained_on=sorted({result.hardware for result in trained}),
        )


def _measured_classes(trained: Sequence[RowResult]) -> str:
    """How many of COCO's classes the measured pictures have objects of: AP is the mean over these."""
    metrics = trained[-1].metrics
    aps = {number: metrics.get(f"gt_boxes/mask/class/{name}/AP") for name, number in ID_BY_NAME.items()}
    measured = {number for number, value in aps.items() if value is not None}
    voc, others = (len(measured.intersection(CLASS_SETS[part])) for part in ("voc", "non_voc"))
    return f". Those have objects of {voc} VOC and {others} other classes" if measured else ""


def study_rows(study: Study, metrics: Sequence[str] = METRICS) -> list[results.ResultRow]:
    """The lines of a trained study's table: of each the published metric, if there is one, and `metrics`.

    A line that is compared with another one has a line of differences for each metric, too. One that the
    profile does not run has its published value alone.
    """
    names = {line.key: line.name for line in (*study.lines, *study.not_run)}
    trained = {line.key for line in study.lines}
    lines = []
    for line in study.lines:
        published = {line.metric: (line.published, line.source)} if line.metric else {}
        for metric in [*published, *(metric for metric in metrics if metric != line.metric)]:
            measured = study.measurement(line.key, metric)
            of_line = published.get(metric, ()) if not line.base else ()
            lines.append(results.ResultRow(line.name, metric, measured, *of_line))
            if line.base in trained:
                difference = measured - study.measurement(line.base, metric)
                name = f"{line.name}{MINUS}{names[line.base]}"
                lines.append(results.ResultRow(name, metric, difference, *published.get(metric, ())))
    nothing = results.Measurement.exact(None)
    for line in study.not_run:
        if line.metric:
            name = line.name + (f"{MINUS}{names[line.base]}" if line.base else "")
            lines.append(results.ResultRow(name, line.metric, nothing, line.published, line.source))
    return lines


def row_config(row: Row) -> cfg.ExperimentConfig:
    """The complete configuration of a row, without places on a machine: experiment, file and options."""
    config = exp_factory.get_exp_config(row.experiment)
    config.override(row.config)
    return config


def model_summary(row: Row) -> str:
    """What is trained, in a few words: input size and mask head."""
    model = row_config(row).task.model
    height, width = model.input_size[:2]
    # DeepMAC's and Mask R-CNN's heads name their architecture by different options.
    name = getattr(model.mask_head, "network_type", None) or model.mask_head.convnet_variant
    return f"{height}x{width}, mask head {name}"


def tpu_command(row: Row) -> str:
    """The command that trains and evaluates a row on a TPU, one row a slice.

    Args:
        row: of a profile on real pictures. Data come from $TFRECORDS, written by `deepmac tfrecord`, the
            model goes to $MODELS; both may be gs://… .
    """
    options = {**row.overrides, "task.seed": row.seed, **_TPU_OPTIONS}
    if row.init_checkpoint:
        options["task.init_checkpoint"] = row.init_checkpoint
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in options.items()}
    override = ",".join(f"{name}={text}" for name, text in texts.items())
    arguments = [
        f"--experiment={row.experiment}",
        f"--config_file={shlex.quote(str(row.config_file))}",
        "--mode=train_and_eval",
        f'--params_override="{override}"',  # in double quotes, the shell puts in the variables
        f'--model_dir="$MODELS/{row.key}"',
        '--tpu="$TPU_NAME"',
    ]
    return " ".join(["python -m deepmac.train", *arguments])
