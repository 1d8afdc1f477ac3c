"""Trains the suite's rows, executes its notebooks through papermill and collects their results."""

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, as_completed, wait
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from tqdm.auto import tqdm

from deepmac.core.errors import InputError
from deepmac.core.executors import open_cluster, threads
from deepmac.core.files import atomic_file
from deepmac.core.machine import usable_cores
from deepmac.suite.report import ERROR_KEY, write_report
from deepmac.suite.rows import RowStore
from deepmac.suite.suite import Row, Suite

# Jupyter picks a kernel's ports some time before the kernel takes them: another program may have by then.
_KERNEL_STARTS = 3


@dataclasses.dataclass(frozen=True)
class NotebookRun:
    """How the execution of a notebook ended: the executed one, and an `error`, empty when it succeeded."""

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
        profile: smoke, quick, mini, styles, subset, photographs or paper.
        only: notebooks to run; none means all.
        root: the checkout.
        work_dir: holds data sets and training runs.
        output_dir: where executed notebooks, results (of rows in `rows/`) and report go;
            `papermill_runs/<profile>` in the checkout when None.
        jobs: rows or notebooks at once; None chooses by the machine.
        scheduler: address of a Dask scheduler that runs them instead; its workers share the folders above.

    Returns:
        How each notebook ended.

    Raises:
        InputError: unknown profile or notebook, not in a checkout, no scheduler there, or a folder that is
            the address of a bucket.
    """
    root = Path(root).absolute()  # workers of a scheduler are at work elsewhere
    suite = Suite.load(profile, root)
    unknown = set(only) - set(suite.notebooks)
    if unknown:
        raise InputError(
            f"unknown notebook {', '.join(sorted(unknown))}: choose from {', '.join(suite.notebooks)}"
        )
    for folder in (work_dir, output_dir):
        if "://" in str(folder):
            raise InputError(f"{folder} is no folder: mount the bucket, see configs/cluster/README.md")
    names = [name for name in suite.notebooks if not only or name in only]
    work_dir = Path(work_dir).absolute()
    output_dir = Path(output_dir or root / "papermill_runs" / profile).absolute()
    output_dir.mkdir(parents=True, exist_ok=True)
    # Two trainings on a core each take less time than two, one after the other, on both.
    has_accelerator = Path("/dev/nvidia0").exists() or Path("/dev/accel0").exists()
    jobs = jobs or (1 if has_accelerator else min(8, usable_cores()))
    # Workers of a scheduler know best how many cores they have.
    cores = None if scheduler else max(1, usable_cores() // jobs)
    store = RowStore(work_dir, output_dir / "rows", cores)
    rows = rows_to_train(
        (run for name in names for line in suite.table_rows(name) for run in line.runs), store
    )
    bar = tqdm(
        total=len(rows) + len(names),
        desc=f"reproduce {profile}",
        unit="run",
        mininterval=1 if sys.stderr.isatty() else 30,  # seconds; a log file takes a line each time
    )
    runs = []
    with open_cluster(scheduler) if scheduler else threads(jobs) as executor, bar:
        errors = train_rows(rows, store, executor, bar.update)
        for row, error in errors.items():
            bar.write(f"{row}: {error}", file=sys.stderr)
        for run in _execute_all(suite, names, work_dir, output_dir, executor):
            runs.append(run)
            bar.update()
            failures = {run.notebook: run.error for run in runs if run.error}
            write_report(output_dir, suite, errors | failures)
    return sorted(runs, key=lambda run: names.index(run.notebook))


def rows_to_train(rows: Iterable[Row], store: RowStore) -> list[Row]:
    """What is missing for the results of rows, each once, those that others start from first."""
    missing = {part.folder_name: part for row in rows for part in store.missing(row)}
    return list(missing.values())


def train_rows(
    rows: list[Row], store: RowStore, executor: Executor, done: Callable[[], object] = lambda: None
) -> dict[str, str]:
    """Trains rows, as many at once as the executor runs, each after the row it starts from.

    Args:
        rows: from `rows_to_train`.
        done: called whenever a row is trained or has failed.

    Returns:
        Row's folder name -> what went wrong, for rows that failed or start from one that did.
    """
    waiting = {row.folder_name: row for row in rows}
    running, errors = {}, {}
    while waiting or running:
        for name, row in list(waiting.items()):
            init = row.init.folder_name if row.init else None
            if init in errors:
                errors[name] = f"starts from {init}, which failed"
                del waiting[name]
                done()
            elif init not in waiting and init not in running.values():
                running[executor.submit(store.train, row)] = name
                del waiting[name]
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            name = running.pop(future)
            if future.exception():
                errors[name] = str(future.exception())
            done()
    return errors


def _execute_all(
    suite: Suite, names: Sequence[str], work_dir: Path, output_dir: Path, executor: Executor
) -> Iterator[NotebookRun]:
    """Executes notebooks side by side, then one by one those that measure the machine."""
    alone = [name for name in names if suite.notebooks[name].alone]
    for group in ([name for name in names if name not in alone], *([name] for name in alone)):
        futures = {
            executor.submit(_execute, name, suite.profile, suite.root, work_dir, output_dir): name
            for name in group
        }
        for future in as_completed(futures):
            name = futures[future]
            failure = future.exception()  # of the machinery: a notebook's own failure is a result
            seconds, error = (0.0, f"{type(failure).__name__}: {failure}") if failure else future.result()
            yield NotebookRun(name, output_dir / f"{name}.ipynb", seconds, error)


def _execute(name: str, profile: str, root: Path, work_dir: Path, output_dir: Path) -> tuple[float, str]:
    """Executes a notebook; returns how many seconds it took and its error, empty if it succeeded."""
    output, results = output_dir / f"{name}.ipynb", output_dir / f"{name}.json"
    parameters = {
        "profile": profile,
        # Relative to the checkout, where the kernel runs: executed notebooks are published.
        "work_dir": os.path.relpath(work_dir, root),
        "results_path": os.path.relpath(results, root),
    }
    start = time.monotonic()
    # The report, written whenever a notebook ends, reads the executed ones: it never sees a half-written one.
    with atomic_file(output) as executed:
        error = _run_papermill(name, root, executed, parameters)
        notebook = nbformat.read(executed, as_version=4)
        paths = notebook.metadata.papermill
        paths.input_path, paths.output_path = f"notebooks/{name}.ipynb", os.path.relpath(output, root)
        notebook.metadata[ERROR_KEY] = error
        for cell in notebook.cells:  # readers see the title and then the figure
            if {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", [])):
                cell.metadata.tags.append("remove-cell")
                cell.metadata.jupyter = {"source_hidden": True}
        nbformat.write(notebook, executed)
    if error:
        results.unlink(missing_ok=True)  # of an earlier run
    return time.monotonic() - start, error


def prefer_own_kernel() -> None:
    """Lets Jupyter find this environment's kernel first: another one called python3 lacks our packages."""
    os.environ.pop("JUPYTER_PATH", None)
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"


def _run_papermill(name: str, root: Path, executed: Path, parameters: dict[str, str]) -> str:
    """Executes a notebook; returns what went wrong, or an empty text."""
    prefer_own_kernel()
    error = ""
    for _ in range(_KERNEL_STARTS):
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
            return ""
        except PapermillExecutionError as failure:
            return f"cell {failure.cell_index}: {failure.ename}: {failure.evalue}"
        except DeadKernelError as failure:
            return str(failure)
        except RuntimeError as failure:  # Jupyter's, of a kernel that does not answer: another may
            error = str(failure)
    return error
