"""Trains and evaluates rows, each once for each configuration hash, and keeps their results."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from deepmac import __version__
from deepmac.core.errors import InputError
from deepmac.core.files import exclusive, refuse_pattern, write_text
from deepmac.core.machine import hardware
from deepmac.data import data_sets
from deepmac.data.annotation_folders import SPLITS
from deepmac.evaluation.files import EVALUATION_FILE, Evaluation, read_evaluation
from deepmac.scenes.dataset import compose_scenes
from deepmac.suite.suite import Dataset, Row

_LOG = "train.log"
_CONFIG_FILE = "row.yaml"  # written when a training begins
# Of single classes only these are kept: the rest fills nine tenths of a result and no table.
_CLASS_METRICS = ("/AP", "/mIoU")


@dataclasses.dataclass(frozen=True)
class RowResult(Evaluation):
    """What is kept of a trained and evaluated row; small enough to be published.

    Attributes:
        key: the row's name.
        seed: of the run.
        config_sha256: of everything that decides the numbers.
        curves: loss -> [[step, mean since the step before], ...].
        seconds: wall-clock time, without the rows it starts from; of an interrupted training, since it was
            resumed for the last time.
        hardware: what it ran on.
        code_version: of this package.
    """

    key: str
    seed: int
    config_sha256: str
    curves: dict[str, list[list[float]]]
    seconds: float
    hardware: str
    code_version: str


class PreparedData(NamedTuple):
    """A data set on this machine.

    Attributes:
        coco_dir: the pictures, in COCO layout.
        records: TFRecords, and the annotations of exactly the pictures in them.
    """

    coco_dir: Path
    records: Path

    @property
    def annotation_file(self) -> Path:
        """Annotations of the evaluated pictures."""
        return self.records / "instances_val2017.json"


def prepare_dataset(dataset: Dataset, work_dir: Path) -> PreparedData:
    """Composes pictures and writes TFRecords, unless they are in `work_dir`.

    Raises:
        InputError: an environment variable is missing, or the pictures cannot be used.
    """
    name = dataset.sha256[:12]
    with exclusive(work_dir / f"{name}.lock"):  # processes that train rows of the same pictures wait
        ids = None
        if dataset.source == "scenes":
            coco_dir = work_dir / f"scenes-{name}"
            if not coco_dir.exists():
                compose_scenes(coco_dir, **dataset.arguments)
        else:
            coco_dir = Path(_expanded(dataset.arguments["coco_dir"]))
            if "ids" in dataset.arguments:
                folder = dataset.root / dataset.arguments["ids"]
                ids = {split: data_sets.read_image_ids(folder / f"{split}.txt") for split in SPLITS}
        records = work_dir / f"tfrecord-{name}"
        if not records.exists():
            read = data_sets.read_coco_folder(coco_dir, ids=ids)
            from deepmac.data.tfrecords import write_tfrecords  # with TensorFlow, which only writing needs

            write_tfrecords(read, records)
    return PreparedData(coco_dir, records)


def _expanded(text: str) -> str:
    """Replaces environment variables, which are the user's to set."""
    result = os.path.expandvars(text)
    if "$" in result:
        raise InputError(f"this profile needs the environment variable {result}: see the README")
    return result


class RowStore:
    """The rows of a suite: results, which may be published, and model folders, which are large.

    Results outlive model folders: a row whose result is there is not trained again, unless another row
    starts from its checkpoint and that is gone. Weights that others start from may lie beside the results,
    in a folder of the row's name: so all rows of a run that takes several machines start from the same ones.

    Attributes:
        work_dir: holds data sets and model folders.
        results_dir: holds a JSON file for each row, and weights that rows start from.
    """

    def __init__(self, work_dir: str | Path, results_dir: str | Path, threads: int | None = None):
        """Names the places, which need not exist, and the threads of a training; None: one for each core."""
        self.work_dir = Path(work_dir).absolute()
        refuse_pattern(self.work_dir)
        self.results_dir = Path(results_dir).absolute()
        self._threads = threads

    def model_folder(self, row: Row) -> Path:
        """Where a row's checkpoints and summaries lie."""
        return self.work_dir / "rows" / row.folder_name

    def result(self, row: Row) -> RowResult | None:
        """The result of a row, None if there is none."""
        path = self._result_file(row)
        return RowResult(**json.loads(path.read_text())) if path.is_file() else None

    def missing(self, row: Row, with_model: bool = False) -> list[Row]:
        """What has to be trained for the result of a row (or also for its model), in order."""
        is_trained = (self.model_folder(row) / EVALUATION_FILE).is_file()
        if is_trained or (not with_model and self.result(row)):
            return []
        if row.init and self._start_folder(row.init) == self.model_folder(row.init):
            return [*self.missing(row.init, with_model=True), row]
        return [row]

    def train(self, row: Row, with_model: bool = False) -> RowResult:
        """Trains and evaluates a row, or reads the result of an earlier run.

        The rows it starts from are trained first. An interrupted run resumes from its last checkpoint.
        Several processes may ask for the same row: one trains, the others wait.

        Args:
            row: what to train.
            with_model: whether the row's model is needed, too: trains it again if only its result is there.

        Raises:
            RuntimeError: the training process failed; names its log.
        """
        for part in self.missing(row, with_model):
            self._train(part)
        return self.result(row) or self._keep_result(row)

    def _result_file(self, row: Row) -> Path:
        return self.results_dir / f"{row.folder_name}.json"

    def _start_folder(self, row: Row) -> Path:
        """Where rows that start from this one find its checkpoint."""
        published = self.results_dir / row.folder_name
        return published if published.is_dir() else self.model_folder(row)

    def _train(self, row: Row):
        """Trains in a process of its own: precision policy, memory and crashes stay there.

        If this process is killed, that one goes on, and keeps the lock.
        """
        data = prepare_dataset(row.dataset, self.work_dir)
        folder = self.model_folder(row)
        log_file = folder / _LOG
        command = [
            *(sys.executable, "-m", "deepmac.train"),
            f"--experiment={row.experiment}",
            f"--config_file={folder / _CONFIG_FILE}",
            "--mode=train_and_post_eval",
            f"--model_dir={folder}",
        ]
        environment = dict(os.environ)
        if self._threads is not None:
            environment |= {f"TF_NUM_{kind}_THREADS": str(self._threads) for kind in ("INTRAOP", "INTEROP")}
        with exclusive(folder / "lock") as lock, log_file.open("ab") as log:
            if not (folder / EVALUATION_FILE).is_file():
                write_text(folder / _CONFIG_FILE, yaml.safe_dump(self._complete_config(row, data)))
                options = {"stderr": subprocess.STDOUT, "env": environment, "pass_fds": [lock.fileno()]}
                status = subprocess.run(command, stdout=log, check=False, **options).returncode
                if status:
                    name = row.folder_name
                    raise RuntimeError(f"training {name} failed with status {status}; see {log_file}")
            self._keep_result(row)

    def _complete_config(self, row: Row, data: PreparedData) -> dict[str, Any]:
        """The row's configuration with its seed, and where things lie on this machine."""
        options = {
            "task.seed": row.seed,
            "task.annotation_file": str(data.annotation_file),
            "task.train_data.seed": row.seed,
            "task.train_data.input_path": f"{data.records}/train2017-*.tfrecord",
            "task.validation_data.input_path": f"{data.records}/val2017-*.tfrecord",
        }
        if row.init:
            options["task.init_checkpoint"] = str(self._start_folder(row.init))
        elif row.init_checkpoint:
            options["task.init_checkpoint"] = _expanded(row.init_checkpoint)
        return dataclasses.replace(row, overrides=row.overrides | options).config

    def _keep_result(self, row: Row) -> RowResult:
        folder = self.model_folder(row)
        evaluation = read_evaluation(folder)
        began, ended = ((folder / name).stat().st_mtime for name in (_CONFIG_FILE, EVALUATION_FILE))
        result = RowResult(
            key=row.key,
            seed=row.seed,
            config_sha256=row.sha256,
            metrics={
                name: None if value is None else round(value, 4)
                for name, value in evaluation.metrics.items()
                if "/class/" not in name or name.endswith(_CLASS_METRICS)
            },
            bootstrap=evaluation.bootstrap,
            curves=_training_curves(folder),
            seconds=round(ended - began, 1),
            hardware=hardware(),
            code_version=__version__,
        )
        write_text(self._result_file(row), json.dumps(dataclasses.asdict(result)) + "\n")
        return result


def _training_curves(folder: Path) -> dict[str, list[list[float]]]:
    """Reads the losses of a run's TensorBoard summaries."""
    from tensorboard.backend.event_processing import event_accumulator  # slow to import
    from tensorboard.util import tensor_util

    events = event_accumulator.EventAccumulator(str(folder / "train"), size_guidance={"tensors": 0})
    events.Reload()
    curves = {}
    for name in events.Tags()["tensors"]:
        if events.SummaryMetadata(name).plugin_data.plugin_name == "scalars":
            points = {e.step: tensor_util.make_ndarray(e.tensor_proto) for e in events.Tensors(name)}
            curves[name] = [[step, round(float(value), 5)] for step, value in sorted(points.items())]
    return curves
