"""Trains and evaluates rows, each once for each configuration hash."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import yaml
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.util import tensor_util

from deepmac.atomic import atomic_file
from deepmac.data import coco, scenes
from deepmac.errors import InputError
from deepmac.evaluation.files import EVALUATION_FILE, read_evaluation
from deepmac.reproduction.suite import Dataset, Row

_SECONDS_FILE = "seconds.txt"  # a line for every attempt


class RowError(RuntimeError):
    """A row's training process failed; names its log."""


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
    """Composes pictures and writes TFRecords, unless they are there.

    Args:
        dataset: what to prepare.
        work_dir: holds everything the suite makes.
    """
    if dataset.source == "scenes":
        coco_dir = work_dir / f"scenes-{dataset.sha256[:12]}"
        if not coco_dir.exists():
            scenes.compose_scenes(coco_dir, **dataset.arguments)
    else:
        coco_dir = Path(_expanded(dataset.arguments["coco_dir"]))
    records = work_dir / f"tfrecord-{dataset.sha256[:12]}"
    if not records.exists():
        coco.write_tfrecords(coco_dir, records, ids=_image_ids(dataset))
    return PreparedData(coco_dir, records)


def _image_ids(dataset: Dataset):
    if "ids" not in dataset.arguments:
        return None
    folder = Path(dataset.arguments["ids"])
    return {split: coco.read_image_ids(folder / f"{split}.txt") for split in coco.SPLITS}


def _expanded(text: str) -> str:
    """Replaces environment variables; a missing one is the user's to set."""
    expanded = os.path.expandvars(text)
    if "$" in expanded:
        raise InputError(f"this profile needs the environment variable {expanded}: see the README")
    return expanded


def train_row(row: Row, work_dir: Path) -> dict:
    """Trains and evaluates a row, or reads the result of an earlier run.

    The rows it starts from are trained first. An interrupted run resumes from its last checkpoint.

    Args:
        row: what to train.
        work_dir: holds data sets and rows.

    Returns:
        What `deepmac.evaluation.files.write_evaluation` describes.

    Raises:
        RowError: the training process failed.
    """
    folder = row_folder(row, work_dir)
    if not (folder / EVALUATION_FILE).exists():
        data = prepare_dataset(row.dataset, work_dir)
        if row.init:
            train_row(row.init, work_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(folder / "row.yaml") as path:
            path.write_text(yaml.safe_dump(_overrides(row, data, work_dir)))
        _run_training(row, folder)
    return read_evaluation(folder)


def row_folder(row: Row, work_dir: Path) -> Path:
    """Where a row's checkpoints, summaries and results lie."""
    return work_dir / "rows" / row.folder_name


def _overrides(row: Row, data: PreparedData, work_dir: Path) -> dict:
    """The row's configuration beyond its file: schedule, seed, and where things lie on this machine."""
    task = {
        "seed": row.seed,
        "train_data": {"input_path": f"{data.records}/train2017-*.tfrecord", "seed": row.seed},
        "validation_data": {"input_path": f"{data.records}/val2017-*.tfrecord"},
        "annotation_file": str(data.annotation_file),
    }
    if row.init:
        task["init_checkpoint"] = str(row_folder(row.init, work_dir))
    elif row.init_checkpoint:
        task["init_checkpoint"] = _expanded(row.init_checkpoint)
    return {**row.overrides, "task": task}


def _run_training(row: Row, folder: Path):
    """Trains in a process of its own: precision policy, memory and crashes stay there."""
    command = [
        sys.executable,
        "-m",
        "deepmac.train",
        f"--experiment={row.experiment}",
        f"--config_file={row.config_file}",
        f"--config_file={folder / 'row.yaml'}",
        "--mode=train_and_post_eval",
        f"--model_dir={folder}",
    ]
    log = folder / "train.log"
    start = time.monotonic()
    with log.open("ab") as output:
        status = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    with (folder / _SECONDS_FILE).open("a") as seconds:
        seconds.write(f"{time.monotonic() - start:.1f}\n")
    if status:
        raise RowError(f"training {row.folder_name} failed with status {status}; see {log}")


def training_seconds(trained: Iterable[Row], work_dir: Path) -> float:
    """Wall-clock time that rows and those they start from took, in all attempts, each row once."""
    folders = set()
    for row in trained:
        while row:
            folders.add(row_folder(row, work_dir))
            row = row.init
    lines = [line for folder in folders for line in (folder / _SECONDS_FILE).read_text().split()]
    return sum(map(float, lines))


def training_curve(folder: Path, loss: str) -> pd.Series:
    """Reads a loss from a run's TensorBoard summaries.

    Args:
        folder: the run's model_dir.
        loss: e.g. "total_loss".

    Returns:
        Step -> mean of the loss since the step before.
    """
    events = event_accumulator.EventAccumulator(str(folder / "train"), size_guidance={"tensors": 0})
    events.Reload()
    points = {e.step: float(tensor_util.make_ndarray(e.tensor_proto)) for e in events.Tensors(loss)}
    return pd.Series(points, name=loss).rename_axis("step")
