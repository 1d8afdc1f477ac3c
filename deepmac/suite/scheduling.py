"""Runs rows side by side: in local processes or on a Dask cluster, each after the row it starts from."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Executor, wait
from pathlib import Path

from deepmac.suite.rows import RowStore
from deepmac.suite.suite import Row

_POLL_SECONDS = 1.0


def default_jobs() -> int:
    """Rows to train at once: one for each core, of which it then has one; one where there is a GPU or TPU.

    Two trainings on a core each take less time than two, one after the other, on both.
    """
    accelerator = Path("/dev/nvidia0").exists() or Path("/dev/accel0").exists()
    return 1 if accelerator else max(1, min(8, os.cpu_count() or 1))


def rows_to_train(rows: Iterable[Row], store: RowStore) -> list[Row]:
    """What is missing for the results of rows, each once, those that others start from first."""
    missing = {part.folder_name: part for row in rows for part in store.missing(row)}
    return list(missing.values())


def train_rows(
    rows: list[Row], store: RowStore, executor: Executor, progress: Callable[[int], None] = lambda steps: None
) -> dict[str, str]:
    """Trains rows, as many at once as the executor runs.

    Args:
        rows: from `rows_to_train`.
        store: where results and models go.
        executor: from `deepmac.core.executors.open_executor`.
        progress: called now and then with the steps trained so far, of all rows together.

    Returns:
        Row's folder name -> what went wrong, for rows that failed or start from one that did.
    """
    waiting = {row.folder_name: row for row in rows}
    running, finished, errors = {}, [], {}
    while waiting or running:
        for name, row in list(waiting.items()):
            init = row.init.folder_name if row.init else None
            if init in errors:
                errors[name] = f"starts from {init}, which failed"
                del waiting[name]
            elif init not in waiting and all(init != other.folder_name for other in running.values()):
                running[executor.submit(store.train, row)] = waiting.pop(name)
        done, _ = wait(running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            row = running.pop(future)
            finished.append(row)
            if future.exception():
                errors[row.folder_name] = str(future.exception())
        steps = sum(row.steps for row in finished)
        progress(steps + sum(min(store.progress(row), row.steps) for row in running.values()))
    return errors
