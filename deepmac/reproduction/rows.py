"""Trains and evaluates rows, each once for each configuration hash."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from deepmac.atomic import atomic_file
from deepmac.data import coco, scenes
from deepmac.reproduction.suite import Dataset, Row

# Written by `deepmac.train` after evaluation; a row with this file is finished.
EVALUATION_FILE = "evaluation.json"


class RowError(RuntimeError):
    """A row's training process failed; names its log."""


def prepare_dataset(dataset: Dataset, work_dir: Path) -> Path:
    """Makes a data set's TFRecords unless they exist.

    Args:
        dataset: what to prepare.
        work_dir: holds everything the suite makes.

    Returns:
        A folder in COCO layout with `tfrecord/` beside its annotations.
    """
    if dataset.source == "scenes":
        folder = work_dir / f"scenes-{dataset.sha256[:12]}"
        if not folder.exists():
            scenes.compose_scenes(folder, **dataset.arguments)
        coco_dir = folder
    else:
        coco_dir = Path(os.path.expandvars(dataset.arguments["coco_dir"]))
        folder = work_dir / f"coco-{dataset.sha256[:12]}"
    if not (folder / "tfrecord").exists():
        coco.write_tfrecords(coco_dir, folder / "tfrecord")
    return folder


def train_row(row: Row, work_dir: Path) -> dict[str, float]:
    """Trains and evaluates a row, or reads the result of an earlier run.

    The rows it starts from are trained first. An interrupted run resumes from its last checkpoint.

    Args:
        row: what to train.
        work_dir: holds data sets and rows.

    Returns:
        Evaluation figures by name, AP in percent.

    Raises:
        RowError: the training process failed.
    """
    folder = row_folder(row, work_dir)
    result = folder / EVALUATION_FILE
    if not result.exists():
        data = prepare_dataset(row.dataset, work_dir)
        if row.init:
            train_row(row.init, work_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(folder / "row.yaml") as path:
            path.write_text(yaml.safe_dump(_overrides(row, data, work_dir)))
        _run_training(row, folder)
    return json.loads(result.read_text())


def row_folder(row: Row, work_dir: Path) -> Path:
    """Where a row's checkpoints, summaries and results lie."""
    return work_dir / "rows" / row.folder_name


def _overrides(row: Row, data: Path, work_dir: Path) -> dict:
    """The row's configuration beyond its file: schedule, seed, and where things lie on this machine."""
    task = {
        "seed": row.seed,
        "train_data": {"input_path": f"{data}/tfrecord/train2017-*.tfrecord", "seed": row.seed},
        "validation_data": {"input_path": f"{data}/tfrecord/val2017-*.tfrecord"},
        "annotation_file": f"{data}/tfrecord/instances_val2017.json",
    }
    if row.init:
        task["init_checkpoint"] = str(row_folder(row.init, work_dir))
    return {**row.overrides, "task": task}


def _run_training(row: Row, folder: Path):
    """Trains in a process of its own: precision policy, memory and crashes stay there."""
    log = folder / "train.log"
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
    with log.open("ab") as output:
        status = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    if status:
        raise RowError(f"training {row.folder_name} failed with status {status}; see {log}")
