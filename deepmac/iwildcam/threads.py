"""Threads that run ahead of who takes their results, by a bounded number of items."""

import concurrent.futures
import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any


@contextlib.contextmanager
def threads(count: int | None = None) -> Iterator[concurrent.futures.Executor]:
    """A pool of threads; what they have not begun when the block is left is dropped.

    Args:
        count: of the threads; one for each core that may be used unless given.
    """
    pool = concurrent.futures.ThreadPoolExecutor(count or _cores())
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(
    pool: concurrent.futures.Executor, function: Callable[[Any], Any], items: Iterable, most: int = 64
) -> Iterator[Any]:
    """Like `map`, in order, computed in a pool with up to `most` items under way or waiting to be taken."""
    under_way = deque()
    for item in items:
        under_way.append(pool.submit(function, item))
        if len(under_way) >= most:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
