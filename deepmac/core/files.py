"""Files and folders that appear under their name only when they are complete."""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from deepmac.core.errors import InputError


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` when the block succeeds.

    Args:
        path: the final file; its folder is created, an existing file is replaced in one step.

    Yields:
        The temporary path to write to, with the same suffix. It is removed when the block fails.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.stem}-{secrets.token_hex(4)}{path.suffix}"
    temporary.touch()
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text in UTF-8 as `atomic_file` does."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def refuse_pattern(path: str | os.PathLike) -> None:
    """Raises InputError for a path in which TensorFlow sees a pattern, or several paths."""
    if odd := sorted(set(str(path)) & set(",*?[]")):
        raise InputError(f"{path}: training takes {' '.join(odd)} for a pattern: choose another folder")


def refuse_occupied(path: str | os.PathLike) -> None:
    """Raises InputError unless `path` is new or an empty folder."""
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} already exists and is not an empty folder: name another one, or delete it")


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; renames it to `path` when the block succeeds.

    The current folder, and one where a disk is mounted, cannot be replaced: there it is made inside.

    Yields:
        The temporary folder to fill. It is removed when the block fails.

    Raises:
        InputError: `path` exists and is not an empty folder.
    """
    path = Path(path).resolve()
    stays = path.is_dir() and (path == Path.cwd() or os.path.ismount(path))
    beside = path.parent / f".{path.name}-{secrets.token_hex(4)}"
    temporary = path / ".deepmac-incomplete" if stays else beside
    shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
    refuse_occupied(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if stays:
            for child in list(temporary.iterdir()):
                child.rename(path / child.name)
        else:
            temporary.replace(path)  # it may be there, empty
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[IO]:
    """Holds a lock, a file that stays behind, while the block runs; waits for whoever holds it.

    Yields:
        The open file. A child process that inherits it (`pass_fds`) keeps the lock until it ends, even when
        the process that took the lock is killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
