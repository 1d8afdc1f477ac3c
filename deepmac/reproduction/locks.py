"""Locks between processes, also of several machines that share a folder."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[IO]:
    """Holds a lock while the block runs; waits for whoever holds it.

    Args:
        path: the lock's file; stays behind.

    Yields:
        The open file. A child process that inherits it (`pass_fds`) keeps the lock until it ends, even when
        the process that took the lock is killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
