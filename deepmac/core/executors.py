"""What runs tasks: threads of this process, some way ahead of who takes their results, or a Dask cluster."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from deepmac.core.errors import InputError
from deepmac.core.machine import usable_cores

_CONNECT_SECONDS = 10  # for a scheduler to answer
_RETRIES = 3  # of a task whose worker dies


@contextlib.contextmanager
def open_cluster(scheduler: str) -> Iterator[Executor]:
    """The workers of a Dask scheduler, which need this package, and the same folders under the same paths.

    InputError: no scheduler there.
    """
    from distributed import Client

    try:
        client = Client(scheduler, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(f"no Dask scheduler at {scheduler}: {error}") from error
    with client:
        yield client.get_executor(retries=_RETRIES, pure=False)


@contextlib.contextmanager
def threads(count: int | None = None) -> Iterator[Executor]:
    """A pool of threads, by default one for each core; what has not begun when it is left is dropped."""
    pool = ThreadPoolExecutor(count or usable_cores())
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(pool: Executor, function: Callable[[Any], Any], items: Iterable, most: int = 64) -> Iterator[Any]:
    """Like `map`, in order, computed in a pool with up to `most` items under way or waiting to be taken."""
    under_way = deque()
    for item in items:
        under_way.append(pool.submit(function, item))
        if len(under_way) >= most:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()
