"""Executes the suite's notebooks through papermill and collects their results."""

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path

import papermill
from papermill.exceptions import PapermillExecutionError
from tqdm.auto import tqdm

from deepmac.errors import InputError
from deepmac.reproduction import report
from deepmac.reproduction.suite import Suite

OUTPUT_DIR = Path("papermill_runs")


@dataclasses.dataclass(frozen=True)
class NotebookRun:
    """How the execution of a notebook ended; `error` is empty when it succeeded."""

    notebook: str
    output: Path
    seconds: float
    error: str = ""


def reproduce(
    profile: str,
    only: Sequence[str] = (),
    root: str | Path = ".",
    work_dir: str | Path = "runs",
    output_dir: str | Path | None = None,
) -> list[NotebookRun]:
    """Regenerates the tables and figures of a profile.

    Every notebook is executed; training runs whose results exist for the same configuration are used
    again. A notebook that fails keeps what it has shown and does not stop the others.

    Args:
        profile: smoke, quick, mini, subset or paper.
        only: notebooks to run; none means all.
        root: the checkout.
        work_dir: holds data sets and training runs.
        output_dir: where executed notebooks, results and report go; `papermill_runs/<profile>` in the
            checkout when None.

    Returns:
        How each notebook ended.

    Raises:
        InputError: unknown profile or notebook, or not in a checkout.
    """
    suite = Suite.load(profile, root)
    unknown = set(only) - set(suite.notebooks)
    if unknown:
        raise InputError(
            f"unknown notebook {', '.join(sorted(unknown))}: choose from {', '.join(suite.notebooks)}"
        )
    output_dir = Path(output_dir) if output_dir else Path(root) / OUTPUT_DIR / profile
    output_dir.mkdir(parents=True, exist_ok=True)
    names = [name for name in suite.notebooks if not only or name in only]
    runs = []
    for name in tqdm(names, desc=f"reproduce {profile}", unit="notebook"):
        runs.append(_execute(name, profile, Path(root), Path(work_dir), output_dir))
        report.write_report(output_dir, profile, {run.notebook: run.error for run in runs if run.error})
    return runs


def _execute(name: str, profile: str, root: Path, work_dir: Path, output_dir: Path) -> NotebookRun:
    output = output_dir / f"{name}.ipynb"
    start = time.monotonic()
    error = ""
    try:
        papermill.execute_notebook(
            root / "notebooks" / f"{name}.ipynb",
            output,
            parameters={
                "profile": profile,
                # Relative to the checkout, where the kernel runs: executed notebooks are published.
                "work_dir": os.path.relpath(work_dir, root),
                "results_path": os.path.relpath(output.with_suffix(".json"), root),
            },
            cwd=str(root.absolute()),
            kernel_name="python3",
            progress_bar=True,
            log_output=False,
        )
    except PapermillExecutionError as failure:
        error = f"cell {failure.cell_index}: {failure.ename}: {failure.evalue}"
    return NotebookRun(name, output, time.monotonic() - start, error)
