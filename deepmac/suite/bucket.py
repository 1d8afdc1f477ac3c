"""Folders in object storage that several machines work in, each in a local copy."""

import contextlib
import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deepmac.core.errors import InputError
from deepmac.core.files import atomic_file
from deepmac.inference.find import cache_folder
from deepmac.suite.changing_files import (
    CHECKPOINT_FILE,
    CHECKPOINT_STATE,
    LOCAL_ONLY,
    file_checksum,
    is_ready,
    named_checkpoints,
    upload_order,
)
from deepmac.suite.folders import Folder, Timing

_ATTEMPTS = 3  # to fetch a folder that changes meanwhile


class LostLeaseError(RuntimeError):
    """Another machine has taken over, as this one had not answered for too long."""


class Bucket(Folder):
    """A folder in Google Cloud Storage with a local copy, in the user's cache.

    Only whoever holds a folder's lease changes it, or its local copy.
    """

    def __init__(self, url: str, timing: Timing | None = None):
        """Names the folder.

        Args:
            url: gs://bucket/folder.
            timing: how often to talk to the bucket; None for the usual.

        Raises:
            InputError: not such a URL.
        """
        match = re.fullmatch(r"gs://([^/]+)(?:/+(.*?))?/*", url)
        if not match:
            raise InputError(f"{url}: of object storage, only gs://bucket/folder can be used")
        self._bucket, self._prefix = match[1], match[2] or ""
        self.url = f"gs://{self._bucket}/{self._prefix}".rstrip("/")
        self.timing = timing or Timing()

    @property
    def path(self) -> Path:
        """The local copy: asked for where it is used, as machines have different caches."""
        return cache_folder() / "buckets" / self._bucket / self._prefix

    def subfolder(self, name: str) -> "Bucket":
        return Bucket(f"{self.url}/{name}", self.timing)

    def place(self, name: str, start: Path | None = None) -> str:
        return f"{self.url}/{name}" if name else self.url

    def check(self):
        try:
            self._call("GET", "b/{}/o", self._bucket, maxResults=1)
        except FileNotFoundError as error:
            raise InputError(f"{self.url}: no such bucket") from error

    def read(self, name: str) -> bytes | None:
        with contextlib.suppress(FileNotFoundError), self._reached() as files:
            return files.cat_file(self._key(name))
        return None

    @contextlib.contextmanager
    def write(self, name: str) -> Iterator[Path]:
        # Not through the local copy, which other processes of this machine may be renewing.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, Path(name).name)
            yield path
            with self._reached() as files:
                files.pipe_file(self._key(name), path.read_bytes())

    def remove(self, name: str):
        with contextlib.suppress(FileNotFoundError), self._reached() as files:
            files.rm_file(self._key(name))

    def has_file(self, name: str) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return bool(self._call("GET", "b/{}/o/{}", self._bucket, self._object(name)))
        return False

    def has_folder(self, name: str) -> bool:
        prefix = f"{self._object(name)}/"
        return bool(self._call("GET", "b/{}/o", self._bucket, prefix=prefix, maxResults=1).get("items"))

    def pull(self, name: str):
        for attempt in range(_ATTEMPTS):
            try:
                return self._pull(name)
            except FileNotFoundError:  # deleted after it was listed
                if attempt == _ATTEMPTS - 1:
                    raise

    def _pull(self, name: str):
        objects = self._objects(name)
        for part in sorted(objects, key=upload_order):
            path = self.path / part
            if file_checksum(path) != objects[part]:
                with atomic_file(path) as temporary, self._reached() as files:
                    files.get_file(self._key(part), str(temporary))
        for part in self._local_files(name):
            if part not in objects:
                (self.path / part).unlink(missing_ok=True)

    def push(self, name: str, leave_out: str = ""):
        """Makes a file or folder in the bucket the same as the local copy.

        Whoever reads meanwhile finds every checkpoint whole that is named there: the file that names them
        goes up after them, and what is gone locally is deleted only then.

        Args:
            name: of the file or folder.
            leave_out: name of files to leave out.

        Raises:
            FileNotFoundError: files were deleted meanwhile; push again.
            InputError: the bucket cannot be reached.
        """
        # Read before all else: the checkpoints they name are complete, and what is written later waits.
        states = {
            path.relative_to(self.path).as_posix(): path.read_bytes()
            for path in (self.path / name).rglob(CHECKPOINT_STATE)
            if path.is_file()
        }
        parts = {part for part in self._local_files(name) if Path(part).name != leave_out}
        parts = {part for part in parts if is_ready(part, states)}
        for part, state in states.items():
            for last in named_checkpoints(state)[:1]:
                if f"{part.removesuffix(CHECKPOINT_STATE)}{last}.index" not in parts:
                    raise FileNotFoundError(f"{last}, which {part} names")
        objects = self._objects(name)
        for part in sorted(parts, key=upload_order):
            checksum = file_checksum(self.path / part)
            if checksum is None or checksum != objects.get(part):
                self._upload(part, states.get(part))
        for part in set(objects) - parts:
            is_named = CHECKPOINT_FILE.fullmatch(Path(part).name) and is_ready(part, states)
            if not is_named and Path(part).name != leave_out:
                self.remove(part)

    def _upload(self, part: str, content: bytes | None):
        path = self.path / part
        with self._reached() as files:
            if CHECKPOINT_FILE.fullmatch(path.name):  # large, and not written to any more
                files.put_file(str(path), self._key(part))
            else:
                files.pipe_file(self._key(part), path.read_bytes() if content is None else content)

    @contextlib.contextmanager
    def lease(self, name: str) -> Iterator["Lease"]:
        lease = Lease(self, f"{name}.lease")
        lease.acquire()
        try:
            with _repeating(lease.renew, self.timing.beat):
                yield lease
        finally:
            lease.release()

    @contextlib.contextmanager
    def pushing(self, name: str, lease: "Lease", last: str) -> Iterator[None]:
        def push(leave_out: str = last):
            lease.renew()  # whoever has lost it, without having noticed, uploads nothing
            self.push(name, leave_out)

        try:
            with _repeating(push, self.timing.push):
                yield
        finally:
            push()
            push(leave_out="")

    def _objects(self, name: str) -> dict[str, str]:
        """Name -> checksum of a file, or of all files in a folder."""
        with self._reached() as files:
            found = files.find(self._key(name), detail=True, update_cache=False)
        start = len(self._key(""))
        return {key[start:]: entry["crc32c"] for key, entry in found.items() if not key.endswith("/")}

    def _local_files(self, name: str) -> list[str]:
        path = self.path / name
        if path.is_file():
            return [name]
        parts = (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
        return [f"{name}/{part}" for part in parts if not LOCAL_ONLY.search(part)]

    def _object(self, name: str) -> str:
        return f"{self._prefix}/{name}".lstrip("/")

    def _key(self, name: str) -> str:
        return f"{self._bucket}/{self._object(name)}"

    def _call(self, method: str, path: str, *arguments: str, **options) -> dict[str, Any]:
        """Asks the storage's JSON interface, where the file system has no function for it."""
        with self._reached() as files:
            return files.call(method, path, *arguments, json_out=method != "DELETE", **options)

    @contextlib.contextmanager
    def _reached(self) -> Iterator[Any]:
        """Yields the file system; what goes wrong there is an InputError, unless files are (not) there."""
        try:
            from gcsfs.core import GCSFileSystem
            from gcsfs.retry import RETRIABLE_EXCEPTIONS, HttpError
            from google.auth.exceptions import GoogleAuthError
        except ImportError as error:
            raise InputError(f"{self.url} needs gcsfs: pip install 'deepmac[cluster]'") from error
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # writes a traceback for every error
        try:
            # An emulator knows no credentials. File systems are cached: this opens one a process.
            anonymous = "anon" if os.environ.get("STORAGE_EMULATOR_HOST") else None
            yield GCSFileSystem(token=anonymous, use_listings_cache=False)
        except (FileNotFoundError, FileExistsError):
            raise
        except (OSError, ValueError, HttpError, GoogleAuthError, *RETRIABLE_EXCEPTIONS) as error:
            raise InputError(f"{self.url}: {' '.join(str(error).split()) or type(error).__name__}") from error


class Lease:
    """A lock across machines: an object that whoever holds the lock created, and renews.

    Nobody's clock is compared with another's: who waits measures how long the object has not changed. Every
    change names the version it replaces, so of several that take over one succeeds.
    """

    def __init__(self, bucket: Bucket, name: str):
        """Names the object."""
        self._bucket = bucket
        self._name = name
        self._generation = ""  # of the object this one created
        self._leash: int | None = None

    def acquire(self):
        """Creates the object; waits until whoever holds the lock releases it or shows no sign of life."""
        seen, since = None, 0.0
        while not self._create():
            version = self._version()
            if version != seen:
                seen, since = version, time.monotonic()
            elif version and time.monotonic() - since > self._bucket.timing.expiry:
                self._delete(*version)
                continue
            time.sleep(self._bucket.timing.beat)

    def renew(self):
        """Gives a sign of life.

        Raises:
            LostLeaseError: another machine has taken over; a process on the leash ends.
            InputError: the bucket cannot be reached.
        """
        change = {"metadata": {"beat": f"{time.time():.3f}"}}
        try:
            self._call("PATCH", ifGenerationMatch=self._generation, json=change)
        except (FileNotFoundError, FileExistsError) as error:
            self._let_go()
            raise LostLeaseError(
                f"{self._bucket.place(self._name)}: another machine has taken over"
            ) from error

    def release(self):
        """Deletes the object, if it is still this one's."""
        with contextlib.suppress(InputError):  # it expires
            self._delete(self._generation)

    @contextlib.contextmanager
    def leash(self) -> Iterator[int]:
        """Yields a file, for `tether`, that ends when the lease is lost, or with this process."""
        end, self._leash = os.pipe()
        try:
            yield end
        finally:
            os.close(end)
            self._let_go()

    def _let_go(self):
        leash, self._leash = self._leash, None
        if leash is not None:
            os.close(leash)

    def _create(self) -> bool:
        with contextlib.suppress(FileExistsError), self._bucket._reached() as files:
            created = files.pipe_file(self._bucket._key(self._name), b"\n", mode="create")
            self._generation = created["generation"]
            return True
        return False

    def _version(self) -> tuple[str, str] | None:
        """What changes with every sign of life; None if nobody holds the lock."""
        with contextlib.suppress(FileNotFoundError):
            found = self._call("GET")
            return found["generation"], found["metageneration"]
        return None

    def _delete(self, generation: str, metageneration: str | None = None):
        with contextlib.suppress(FileNotFoundError, FileExistsError):  # someone else was faster
            self._call("DELETE", ifGenerationMatch=generation, ifMetagenerationMatch=metageneration)

    def _call(self, method: str, **options) -> dict[str, Any]:
        bucket = self._bucket
        return bucket._call(method, "b/{}/o/{}", bucket._bucket, bucket._object(self._name), **options)


def open_folder(place: "str | Path | Folder") -> Folder:
    """Opens a folder: a path, or gs://bucket/folder.

    Raises:
        InputError: other object storage.
    """
    if isinstance(place, Folder):
        return place
    return Bucket(str(place)) if "://" in str(place) else Folder(place)


def open_file(place: str | Path) -> tuple[Folder, str]:
    """The folder of a file, a path or gs://bucket/folder/file, and its name there.

    Raises:
        InputError: other object storage.
    """
    if "://" in str(place):
        folder, _, name = str(place).rpartition("/")
        return open_folder(folder), name
    return open_folder(Path(place).parent), Path(place).name


@contextlib.contextmanager
def _repeating(action, seconds: float) -> Iterator[None]:
    """Runs something now and then while the block runs; what fails is tried again the next time."""
    stopped = threading.Event()

    def repeat():
        while not stopped.wait(seconds):
            with contextlib.suppress(InputError, FileNotFoundError, LostLeaseError):
                action()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
