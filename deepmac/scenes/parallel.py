"""Spreads independent tasks over processes and keeps their results in order."""

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

import cv2
from tqdm.auto import tqdm

_CHUNK = 16  # tasks sent to a process at once
_CHUNKS_WORTH_A_PROCESS = 4  # starting a process takes about as long

_function: Callable[[Any, Any], Any]
_shared: Any


def map_in_order(
    function: Callable[[Any, Any], Any],
    tasks: Sequence,
    shared: Any,
    jobs: int | None,
    progress: bool,
    unit: str,
) -> list:
    """Returns `[function(task, shared) for task in tasks]`, computed by several processes.

    Processes are spawned, so that threads of the caller (TensorFlow's, say) do no harm. When the caller is
    interrupted or killed, they end as well.

    Args:
        function: a function of a module, which a new process can import.
        tasks: what to do; can be pickled.
        shared: what every call gets besides its task; sent to each process once.
        jobs: number of processes; by default one for each core, fewer for few tasks. 1: no new process.
        progress: whether to show a progress bar.
        unit: what a task makes, for the progress bar.
    """
    if jobs is None:
        jobs = min(os.cpu_count() or 1, len(tasks) // (_CHUNK * _CHUNKS_WORTH_A_PROCESS))
    bar = {"total": len(tasks), "unit": f" {unit}", "disable": not progress, "smoothing": 0}
    if jobs <= 1:
        return [function(task, shared) for task in tqdm(tasks, **bar)]
    executor = concurrent.futures.ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_process,
        initargs=(function, shared),
    )
    try:
        return list(tqdm(executor.map(_call, tasks, chunksize=_CHUNK), **bar))
    finally:
        executor.shutdown(cancel_futures=True)


def _start_process(function: Callable, shared: Any) -> None:
    global _function, _shared
    _function, _shared = function, shared
    cv2.setNumThreads(1)  # the processes use the cores already
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot stop its processes, and they would wait for tasks forever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _call(task: Any) -> Any:
    return _function(task, _shared)
