"""Trains the suite's rows, executes its notebooks through papermill and collects their results."""

import dataclasses
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from tqdm.auto import tqdm

from deepmac.core.errors import InputError
from deepmac.core.executors import open_executor
from deepmac.suite import report
from deepmac.suite.bucket import Bucket, open_folder
from deepmac.suite.folders import Folder
from deepmac.suite.rows import RowStore
from deepmac.suite.scheduling import default_jobs, rows_to_train, train_rows
from deepmac.suite.suite import Suite

OUTPUT_DIR = Path("papermill_runs")
_LOCAL_WORK_DIR = "runs"  # in the checkout
ROWS_DIR = "rows"  # results of the rows, beside those of the notebooks
# Training steps that take about as long as a notebook: the progress bar counts both.
_NOTEBOOK_STEPS = 100
# Jupyter picks a kernel's ports some time before the kernel takes them: another program may have by then.
_KERNEL_STARTS = 3


@dataclasses.dataclass(frozen=True)
class NotebookRun:
    """How the execution of a notebook ended; `error` is empty when it succeeded.

    The executed one lies at `output`: a path, or gs://bucket/file.
    """

    notebook: str
    output: Path | str
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
        work_dir: holds data sets and training runs; may be gs://bucket/folder.
        output_dir: where executed notebooks, results (of rows in `rows/`) and report go; may be
            gs://bucket/folder; `papermill_runs/<profile>` in the checkout when None.
        jobs: rows or notebooks at once; None chooses by the machine.
        scheduler: address of a Dask scheduler that runs them instead.

    Returns:
        How each notebook ended.

    Raises:
        InputError: unknown profile or notebook, not in a checkout, no scheduler there, or a bucket that
            cannot be used.
    """
    root = Path(root).absolute()  # workers of a scheduler are at work elsewhere
    suite = Suite.load(profile, root)
    unknown = set(only) - set(suite.notebooks)
    if unknown:
        raise InputError(
            f"unknown notebook {', '.join(sorted(unknown))}: choose from {', '.join(suite.notebooks)}"
        )
    work = open_folder(work_dir)
    output = open_folder(output_dir or root / OUTPUT_DIR / profile)
    for folder in (work, output):
        folder.check()
    output.path.mkdir(parents=True, exist_ok=True)
    names = [name for name in suite.notebooks if not only or name in only]
    jobs = jobs or default_jobs()
    # Workers of a scheduler know best how many cores they have.
    threads = None if scheduler else max(1, (os.cpu_count() or 1) // jobs)
    store = RowStore(work, output.subfolder(ROWS_DIR), threads)
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
        runs = []
        _pull(output, suite.notebooks)  # the report shows those of earlier runs, too
        for run in _execute_all(suite, names, work, output, executor):
            runs.append(run)
            _pull(output, [run.notebook])
            bar.update(_NOTEBOOK_STEPS)
            bar.set_postfix_str(run.notebook, refresh=False)
            failures = {run.notebook: run.error for run in runs if run.error}
            report.write_report(output.path, suite, errors | failures)
            for name in report.FILES:
                output.push(name)
    return sorted(runs, key=lambda run: names.index(run.notebook))


def _pull(output: Folder, names: Iterable[str]):
    """Gets executed notebooks and their results, of notebooks that no worker has in hand."""
    for name in names:
        for suffix in (".ipynb", ".json"):
            output.pull(name + suffix)


def _execute_all(
    suite: Suite, names: Sequence[str], work: Folder, output: Folder, executor: Executor
) -> Iterator[NotebookRun]:
    """Executes notebooks side by side, then one by one those that measure the machine."""
    alone = [name for name in names if suite.notebooks[name].get("alone")]
    for group in ([name for name in names if name not in alone], *([name] for name in alone)):
        futures = {
            executor.submit(
                _execute, name, suite.profile, suite.root, _notebook_folder(suite, name, work), output
            ): name
            for name in group
        }
        for future in as_completed(futures):
            failure = future.exception()  # of the machinery: a notebook's own failure is a result
            if failure:
                name = futures[future]
                error = f"{type(failure).__name__}: {failure}"
                yield NotebookRun(name, output.place(f"{name}.ipynb"), 0.0, error)
            else:
                yield future.result()


def _notebook_folder(suite: Suite, name: str, work: Folder) -> Folder:
    """What a notebook works in: one that trains nothing uses data sets alone, which no bucket holds."""
    trains = suite.notebooks[name]["rows"]
    return open_folder(suite.root / _LOCAL_WORK_DIR) if isinstance(work, Bucket) and not trains else work


def _execute(name: str, profile: str, root: Path, work: Folder, output: Folder) -> NotebookRun:
    parameters = {
        "profile": profile,
        # Relative to the checkout, where the kernel runs: executed notebooks are published.
        "work_dir": work.place("", root),
        "results_path": output.place(f"{name}.json", root),
    }
    start = time.monotonic()
    # The report, written whenever a notebook ends, reads the executed ones: it never sees a half-written one.
    with output.write(f"{name}.ipynb") as executed:
        for _ in range(_KERNEL_STARTS):
            error, kernel_started = _run_papermill(name, root, executed, parameters)
            if kernel_started:
                break
        _finish_metadata(executed, root, output.place(f"{name}.ipynb", root), error)
    if error:
        output.remove(f"{name}.json")  # of an earlier run
    return NotebookRun(name, output.place(f"{name}.ipynb"), time.monotonic() - start, error)


def _run_papermill(name: str, root: Path, executed: Path, parameters: dict[str, str]) -> tuple[str, bool]:
    """Executes a notebook once; returns what went wrong, or an empty text, and whether its kernel started."""
    try:
        papermill.execute_notebook(
            root / "notebooks" / f"{name}.ipynb",
            executed,
            parameters=parameters,
            kernel_name="python3",
            progress_bar=False,
            log_output=False,
            # The kernel's folder. Papermill's `cwd` changes that of this process, all threads of it.
            resources={"metadata": {"path": str(root)}},
            # What a kernel has to say of itself: sockets without encryption, its end as an error.
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
        )
    except PapermillExecutionError as failure:
        return f"cell {failure.cell_index}: {failure.ename}: {failure.evalue}", True
    except DeadKernelError as failure:
        return f"cell {_running_cell(executed)}: {failure}", True
    except RuntimeError as failure:  # Jupyter's, of a kernel that does not answer
        return str(failure), False
    return "", True


def _running_cell(executed: Path) -> int:
    """Index of the cell that was running when papermill saved the notebook for the last time."""
    cells = nbformat.read(executed, as_version=4).cells
    statuses = [cell.metadata.get("papermill", {}).get("status") for cell in cells]
    return next((i for i, status in enumerate(statuses) if status != "completed"), len(cells) - 1)


def _finish_metadata(executed: Path, root: Path, place: str, error: str):
    """Notes where the notebook ends up, with paths relative to the checkout, and what went wrong."""
    notebook = nbformat.read(executed, as_version=4)
    paths = notebook.metadata.papermill
    paths.input_path, paths.output_path = os.path.relpath(paths.input_path, root), place
    notebook.metadata[report.ERROR_KEY] = error
    nbformat.write(notebook, executed)
