"""Which files of a running training can be copied, in which order, and which have changed."""

import base64
import re
from pathlib import Path

CHECKPOINT_STATE = "checkpoint"  # TensorFlow's file that names the checkpoints beside it
CHECKPOINT_FILE = re.compile(r"(.+)\.(index|data-\d+-of-\d+)")
# Half-written files, and locks between processes of one machine.
LOCAL_ONLY = re.compile(r"(^|/)\.|(^|/)lock$|_temp(/|$)|\.tempstate|\.tmp")
_checksums: dict[Path, tuple[tuple[int, int], str]] = {}  # path -> size and time when read, checksum


def upload_order(part: str) -> tuple[int, str]:
    """Key to sort files by: whatever names other files comes after them."""
    name = Path(part).name
    return (2 if name == CHECKPOINT_STATE else 1 if name.endswith(".index") else 0), part


def is_ready(part: str, states: dict[str, bytes]) -> bool:
    """Whether a file can be copied: is no part of a checkpoint that is being written or deleted.

    Args:
        part: the file.
        states: name -> content of the files that name checkpoints, read before the folder was listed.
    """
    folder, _, name = part.rpartition("/")
    if name == CHECKPOINT_STATE:
        return part in states
    checkpoint = CHECKPOINT_FILE.fullmatch(name)
    state = states.get(f"{folder}/{CHECKPOINT_STATE}", b"")
    return not checkpoint or checkpoint[1] in named_checkpoints(state)


def named_checkpoints(state: bytes) -> list[str]:
    """The checkpoints that a state names, the last one first."""
    return re.findall(r'_paths?: "(?:[^"]*/)?([^"/]+)"', state.decode())


def file_checksum(path: Path) -> str | None:
    """CRC32C of a file as the storage writes it, None if it is not there; large files are read once."""
    from google_crc32c import Checksum

    try:
        status = path.stat()
        version = status.st_size, status.st_mtime_ns
        if _checksums.get(path, (None,))[0] != version:
            with path.open("rb") as file:
                checksum = Checksum()
                for _ in checksum.consume(file, 1 << 20):
                    pass
            _checksums[path] = version, base64.b64encode(checksum.digest()).decode()
    except FileNotFoundError:
        return None
    return _checksums[path][1]
