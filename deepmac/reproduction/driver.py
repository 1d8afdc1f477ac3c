"""Trains the suite's rows, executes its notebooks through papermill and collects their results."""

import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Executor, as_completed
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from tqdm.auto import tqdm

from deepmac.atomic import atomic_file
from deepmac.errors import InputError
from deepmac.reproduction import report
from deepmac.reproduction.rows import RowStore
from deepmac.reproduction.scheduling import default_jobs, open_executor, rows_to_train, train_rows
from deepmac.reproduction.suite import Suite

OUTPUT_DIR = Path("papermill_runs")
ROWS_DIR = "rows"  # results of the rows, beside those of the notebooks
# Training steps that take about as long as a notebook: the progress bar counts both.
_NOTEBOOK_STEPS = 100
# Jupyter picks a kernel's ports some time before the kernel takes them: another program may have by then.
_KERNEL_STARTS = 3


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
    jobs: int | None = None,
    scheduler: str | None = None,
) -> list[NotebookRun]:
    """Regenerates the tables and figures of a profile.

    First all rows that the notebooks show are trained, then every notebook is executed. Rows whose results
    exist for the same configuration are not trained again. A row or a notebook that fails keeps what it
    has so far and does not stop the others.

    Args:
        profile: smoke, quick, mini, subset or paper.
        only: notebooks to run; none means all.
        root: the checkout.
        work_dir: holds data sets and training runs.
        output_dir: where executed notebooks, results (of rows in `rows/`) and report go;
            `papermill_runs/<profile>` in the checkout when None.
        jobs: rows or notebooks at once; None chooses by the machine.
        scheduler: address of a Dask scheduler that runs them instead.

    Returns:
        How each notebook ended.

    Raises:
        InputError: unknown profile or notebook, not in a checkout, or no scheduler there.
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
    jobs = jobs or default_jobs()
    # Workers of a scheduler know best how many cores they have.
    threads = None if scheduler else max(1, (os.cpu_count() or 1) // jobs)
    store = RowStore(work_dir, output_dir / ROWS_DIR, threads)
    rows = rows_to_train(
        (run for name in names for line in suite.table_rows(name) for run in line.runs), store
    )
    total = sum(row.steps for row in rows) + _NOTEBOOK_STEPS * len(names)
    interval = 1 if sys.stderr.isatty() else 30  # seconds; a log file takes a line each time
    with (
        open_executor(jobs, scheduler) as executor,
        tqdm(
            total=total, desc=f"reproduce {profile}", unit="step", smoothing=0.05, mininterval=interval
        ) as bar,
    ):
        bar.set_postfix_str(f"{len(rows)} rows to train", refresh=False)
        errors = train_rows(rows, store, executor, lambda steps: bar.update(steps - bar.n))
        for row, error in errors.items():
            bar.write(f"{row}: {error}", file=sys.stderr)
        return _execute_all(suite, names, store, output_dir, executor, bar)


def _execute_all(
    suite: Suite, names: Sequence[str], store: RowStore, output_dir: Path, executor: Executor, bar: tqdm
) -> list[NotebookRun]:
    """Executes notebooks side by side, then one by one those that measure the machine."""
    alone = [name for name in names if suite.notebooks[name].get("alone")]
    runs = {}
    for group in ([name for name in names if name not in alone], *([name] for name in alone)):
        futures = [
            executor.submit(_execute, name, suite.profile, suite.root, store.work_dir, output_dir)
            for name in group
        ]
        for future in as_completed(futures):
            run = future.result()
            runs[run.notebook] = run
            bar.update(_NOTEBOOK_STEPS)
            bar.set_postfix_str(run.notebook, refresh=False)
            failures = {run.notebook: run.error for run in runs.values() if run.error}
            report.write_report(output_dir, suite.profile, failures)
    return [runs[name] for name in names]


def _execute(name: str, profile: str, root: Path, work_dir: Path, output_dir: Path) -> NotebookRun:
    output = output_dir / f"{name}.ipynb"
    parameters = {
        "profile": profile,
        # Relative to the checkout, where the kernel runs: executed notebooks are published.
        "work_dir": os.path.relpath(work_dir, root),
        "results_path": os.path.relpath(output.with_suffix(".json"), root),
    }
    start = time.monotonic()
    # The report, written whenever a notebook ends, reads the executed ones: it never sees a half-written one.
    with atomic_file(output) as executed:
        for _ in range(_KERNEL_STARTS):
            error, kernel_started = _run_papermill(name, root, executed, parameters)
            if kernel_started:
                break
        _set_output_path(executed, output)
    return NotebookRun(name, output, time.monotonic() - start, error)


def _run_papermill(name: str, root: Path, executed: Path, parameters: dict[str, str]) -> tuple[str, bool]:
    """Executes a notebook once; returns what went wrong, or an empty text, and whether its kernel started."""
    try:
        papermill.execute_notebook(
            root / "notebooks" / f"{name}.ipynb",
            executed,
            parameters=parameters,
            cwd=str(root.absolute()),
            kernel_name="python3",
            progress_bar=False,
            log_output=False,
        )
    except PapermillExecutionError as failure:
        return f"cell {failure.cell_index}: {failure.ename}: {failure.evalue}", True
    except DeadKernelError as failure:
        return str(failure), True
    except RuntimeError as failure:  # Jupyter's, of a kernel that does not answer
        return str(failure), False
    return "", True


def _set_output_path(executed: Path, output: Path):
    """Replaces the temporary path in papermill's metadata by the one the notebook ends up at."""
    notebook = nbformat.read(executed, as_version=4)
    notebook.metadata.papermill.output_path = str(output)
    nbformat.write(notebook, executed)
