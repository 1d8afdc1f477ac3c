"""Folders that trainings and notebooks work in: what can be done with them, wherever they are."""

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from deepmac.core.files import atomic_file

if TYPE_CHECKING:
    from deepmac.suite.bucket import Lease


@dataclasses.dataclass(frozen=True)
class Timing:
    """How often a machine talks to a bucket, in seconds.

    Attributes:
        beat: between signs of life of whoever holds a lease.
        expiry: without one, after which a lease is taken over.
        push: between uploads of a running training.
        poll: between downloads of a running training's log.
    """

    beat: float = 5
    expiry: float = 60
    push: float = 30
    poll: float = 10


class Folder:
    """A folder on this machine, or on a file system that several machines share.

    Names are relative to it, with slashes. What concerns the copy of a bucket does nothing here.

    Attributes:
        timing: how often to ask for what changes.
    """

    timing = Timing(poll=0)

    def __init__(self, path: str | Path):
        """Names the folder; it need not exist."""
        self._path = Path(path).absolute()

    @property
    def path(self) -> Path:
        """The files on this machine."""
        return self._path

    def subfolder(self, name: str) -> "Folder":
        """A folder in this one."""
        return Folder(self.path / name)

    def place(self, name: str, start: Path | None = None) -> Path | str:
        """What the user knows a file as.

        Args:
            name: of the file; empty for the folder itself.
            start: what paths are relative to; None for absolute ones.
        """
        return self.path / name if start is None else os.path.relpath(self.path / name, start)

    def check(self):
        """Makes sure that a bucket is there.

        Raises:
            InputError: it is not, cannot be reached, or may not be read.
        """

    def read(self, name: str) -> bytes | None:
        """Content of a file, None if it is not there."""
        path = self.path / name
        return path.read_bytes() if path.is_file() else None

    def write(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """Gives a temporary path to write to; the file is replaced in one step when the block succeeds."""
        return atomic_file(self.path / name)

    def remove(self, name: str):
        """Deletes a file, if it is there."""
        (self.path / name).unlink(missing_ok=True)

    def has_file(self, name: str) -> bool:
        """Whether a file is there."""
        return (self.path / name).is_file()

    def has_folder(self, name: str) -> bool:
        """Whether a folder is there."""
        return (self.path / name).is_dir()

    def pull(self, name: str):
        """Makes the local copy of a file or folder the same as in the bucket."""

    def push(self, name: str, leave_out: str = ""):
        """Makes a file or folder in the bucket the same as the local copy."""

    def lease(self, name: str) -> contextlib.AbstractContextManager["Lease | None"]:
        """Holds a lock across machines while the block runs; waits for whoever holds it.

        Here it does nothing: processes that share a file system share its locks.
        """
        return contextlib.nullcontext()

    def pushing(self, name: str, lease: "Lease | None", last: str) -> contextlib.AbstractContextManager:
        """Uploads a folder now and then while the block runs, and all of it at the end.

        Args:
            name: of the folder.
            lease: the one held.
            last: name of the file whose presence in the bucket says that the folder is complete.

        Raises:
            LostLeaseError: at the end, if another machine has taken over.
        """
        return contextlib.nullcontext()
