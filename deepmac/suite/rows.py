"""Trains and evaluates rows, each once for each configuration hash, and keeps their results."""

import contextlib
import dataclasses
import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from deepmac import __version__
from deepmac.core.errors import InputError
from deepmac.core.files import atomic_file, exclusive
from deepmac.core.machine import hardware
from deepmac.evaluation.files import EVALUATION_FILE, read_evaluation
from deepmac.suite.bucket import Lease, LostLeaseError, open_folder
from deepmac.suite.datasets import PreparedData, expanded, prepare_dataset
from deepmac.suite.folders import Folder
from deepmac.suite.suite import Row

_LOG = "train.log"
_ATTEMPTS_FILE = "attempts.txt"  # a line for every attempt: when it started and, unless killed, ended
# Of single classes only these are kept: the rest fills nine tenths of a result and no table.
_CLASS_METRICS = ("AP", "mIoU")
_TETHER = (sys.executable, "-m", "deepmac.suite.tether")


class RowError(RuntimeError):
    """A row's training process failed; names its log."""


@dataclasses.dataclass(frozen=True)
class RowResult:
    """What is kept of a trained and evaluated row; small enough to be published.

    Attributes:
        key: the row's name.
        seed: of the run.
        config_sha256: of everything that decides the numbers.
        metrics: name -> value in percent, None without ground truth (see `MaskEvaluator.result`).
        bootstrap: name -> the value, then that of each draw of images (see `MaskEvaluator.bootstrap`).
        curves: loss -> [[step, mean since the step before], ...].
        seconds: wall-clock time of all attempts that were not killed, without the rows it starts from.
        hardware: what it ran on.
        code_version: of this package.
    """

    key: str
    seed: int
    config_sha256: str
    metrics: dict[str, float | None]
    bootstrap: dict[str, list[float | None]]
    curves: dict[str, list[list[float]]]
    seconds: float
    hardware: str
    code_version: str

    def curve(self, loss: str) -> pd.Series:
        """A training loss: step -> mean since the step before."""
        steps, values = zip(*self.curves.get(loss, []), strict=True) if self.curves.get(loss) else ((), ())
        return pd.Series(values, index=steps, name=loss, dtype=float).rename_axis("step")


class RowStore:
    """The rows of a suite: results, which may be published, and model folders, which are large.

    Results outlive model folders: a row whose result is there is not trained again, unless another row
    starts from its checkpoint and that is gone. Weights that others start from may lie beside the results,
    in a folder of the row's name: so all rows of a run that takes several machines start from the same ones.
    """

    def __init__(
        self, work_dir: str | Path | Folder, results_dir: str | Path | Folder, threads: int | None = None
    ):
        """Names the places: folders, or gs://bucket/folder.

        Args:
            work_dir: holds data sets, on each machine its own, and model folders.
            results_dir: holds a JSON file for each row, and weights that rows start from.
            threads: of a training process; None leaves it to TensorFlow, which takes all cores.

        Raises:
            InputError: object storage that cannot be used.
        """
        self._work = open_folder(work_dir)
        self.results = open_folder(results_dir)
        self._threads = threads
        self._progress: dict[str, tuple[float, int]] = {}  # row -> when its log was read, its last step

    @property
    def work_dir(self) -> Path:
        """Data sets and model folders on this machine."""
        return self._work.path

    @property
    def results_dir(self) -> Path:
        """Results on this machine; of a bucket, only weights that rows start from."""
        return self.results.path

    def model_folder(self, row: Row) -> Path:
        """Where a row's checkpoints and summaries lie on this machine."""
        return self.work_dir / _model_name(row)

    def start_folder(self, row: Row) -> Path:
        """Where rows that start from this one find its checkpoint."""
        if self.results.has_folder(row.folder_name):
            self.results.pull(row.folder_name)
            return self.results_dir / row.folder_name
        self._work.pull(_model_name(row))
        return self.model_folder(row)

    def result(self, row: Row) -> RowResult | None:
        """The result of a row, None if there is none."""
        text = self.results.read(_result_name(row))
        return RowResult(**json.loads(text)) if text is not None else None

    def is_trained(self, row: Row) -> bool:
        """Whether the row's model is there."""
        return self._work.has_file(f"{_model_name(row)}/{EVALUATION_FILE}")

    def missing(self, row: Row, with_model: bool = False) -> list[Row]:
        """What has to be trained for the result of a row (or its model), in order."""
        if (not with_model and self.result(row)) or self.is_trained(row):
            return []
        has_start = not row.init or self.results.has_folder(row.init.folder_name)
        return [*([] if has_start else self.missing(row.init, with_model=True)), row]

    def train(self, row: Row) -> RowResult:
        """Trains and evaluates a row, or reads the result of an earlier run.

        The rows it starts from are trained first. An interrupted run resumes from its last checkpoint.
        Several processes may ask for the same row: one trains, the others wait.

        Raises:
            RowError: the training process failed.
        """
        for part in self.missing(row):
            self._train(part)
        if result := self.result(row):
            return result
        self._work.pull(_model_name(row))
        return self._keep_result(row)

    def train_model(self, row: Row) -> Path:
        """Trains a row, also if its result is there, unless its model is; returns the model's folder."""
        for part in self.missing(row, with_model=True):
            self._train(part)
        self._work.pull(_model_name(row))
        return self.model_folder(row)

    def progress(self, row: Row) -> int:
        """The step that a running training has logged last; what is in a bucket, as of some seconds ago."""
        last_read, step = self._progress.get(row.folder_name, (-math.inf, 0))
        if time.monotonic() - last_read >= self._work.timing.poll:
            with contextlib.suppress(InputError):  # a bucket that does not answer now may do so later
                log = self._work.read(f"{_model_name(row)}/{_LOG}")
                step = _last_step(log or b"")
            self._progress[row.folder_name] = time.monotonic(), step
        return step

    def _train(self, row: Row):
        data = prepare_dataset(row.dataset, self.work_dir)
        is_done = False
        while not is_done:
            with contextlib.suppress(LostLeaseError):  # waits for whoever has taken over
                self._train_once(row, data)
                is_done = True

    def _train_once(self, row: Row, data: PreparedData):
        name, folder = _model_name(row), self.model_folder(row)
        with self._work.lease(name) as lease, exclusive(folder / "lock") as lock:
            self._work.pull(name)
            if not (folder / EVALUATION_FILE).is_file():
                with atomic_file(folder / "row.yaml") as path:
                    path.write_text(yaml.safe_dump(self._overrides(row, data)))
                with self._work.pushing(name, lease, last=EVALUATION_FILE):
                    self._run_training(row, folder, lock, lease)
            self._keep_result(row)

    def _overrides(self, row: Row, data: PreparedData) -> dict[str, Any]:
        """The row's configuration, complete: seed, and where things lie on this machine."""
        config = row.config
        task = config.setdefault("task", {})
        task |= {"seed": row.seed, "annotation_file": str(data.annotation_file)}
        for split, name in (("train2017", "train_data"), ("val2017", "validation_data")):
            task.setdefault(name, {})["input_path"] = f"{data.records}/{split}-*.tfrecord"
        task["train_data"]["seed"] = row.seed
        if row.init:
            task["init_checkpoint"] = str(self.start_folder(row.init))
        elif row.init_checkpoint:
            task["init_checkpoint"] = expanded(row.init_checkpoint)
        return config

    def _run_training(self, row: Row, folder: Path, lock, lease: Lease | None):
        """Trains in a process of its own: precision policy, memory and crashes stay there.

        If this process is killed, that one goes on, and keeps the lock. With a lease it ends, as another
        machine takes over.
        """
        command = [
            sys.executable,
            "-m",
            "deepmac.train",
            f"--experiment={row.experiment}",
            f"--config_file={folder / 'row.yaml'}",
            "--mode=train_and_post_eval",
            f"--model_dir={folder}",
        ]
        log = folder / _LOG
        with (folder / _ATTEMPTS_FILE).open("a") as attempts:
            attempts.write(f"\n{time.time():.1f}")
        with log.open("ab") as output, lease.leash() if lease else contextlib.nullcontext() as leash:
            status = subprocess.run(
                [*_TETHER, *command] if lease else command,
                stdin=leash,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                pass_fds=[lock.fileno()],
                check=False,
            ).returncode
        with (folder / _ATTEMPTS_FILE).open("a") as attempts:
            attempts.write(f" {time.time():.1f}")
        if status:
            place = self._work.place(f"{_model_name(row)}/{_LOG}")
            raise RowError(f"training {row.folder_name} failed with status {status}; see {place}")

    def _environment(self) -> dict[str, str]:
        if self._threads is None:
            return dict(os.environ)
        threads = str(self._threads)
        return {**os.environ, "TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": threads}

    def _keep_result(self, row: Row) -> RowResult:
        folder = self.model_folder(row)
        evaluation = read_evaluation(folder)
        result = RowResult(
            key=row.key,
            seed=row.seed,
            config_sha256=row.sha256,
            metrics=_kept_metrics(evaluation.metrics),
            bootstrap=evaluation.bootstrap,
            curves=_training_curves(folder),
            seconds=round(_seconds(folder), 1),
            hardware=hardware(),
            code_version=__version__,
        )
        with self.results.write(_result_name(row)) as path:
            path.write_text(json.dumps(dataclasses.asdict(result)) + "\n")
        return result


def _model_name(row: Row) -> str:
    return f"rows/{row.folder_name}"


def _last_step(log: bytes) -> int:
    # The lines that `deepmac.training.progress.training_line` makes; importing it takes TensorFlow.
    steps = re.findall(rb"\bstep (\d+)/", log)
    return int(steps[-1]) if steps else 0


def _result_name(row: Row) -> str:
    return f"{row.folder_name}.json"


def _kept_metrics(metrics: dict[str, float | None]) -> dict[str, float | None]:
    kept = {}
    for name, value in metrics.items():
        if "/class/" not in name or name.rpartition("/")[2] in _CLASS_METRICS:
            kept[name] = None if value is None else round(value, 4)
    return kept


def _seconds(folder: Path) -> float:
    """Time of all attempts that ended; the last one, if nobody saw its end, until it left its evaluation."""
    attempts = [line.split() for line in (folder / _ATTEMPTS_FILE).read_text().splitlines() if line]
    if len(attempts[-1]) == 1:
        attempts[-1].append((folder / EVALUATION_FILE).stat().st_mtime)
    return sum(float(times[1]) - float(times[0]) for times in attempts if len(times) == 2)


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
