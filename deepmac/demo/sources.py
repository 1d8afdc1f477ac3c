"""Pictures from wherever people have them: samples, files, addresses, uploads."""

import os
import re
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
import requests

from deepmac.core.errors import InputError
from deepmac.core.images import read_image
from deepmac.demo.samples import SAMPLES

_TIMEOUT = 20  # seconds without an answer
_LARGEST = 100 << 20  # bytes of a picture's file
_CHUNK = 1 << 16


class OpenedPicture(NamedTuple):
    """A picture.

    Attributes:
        file_name: without folders.
        image: uint8 RGB [H, W, 3].
        sample: its name in `SAMPLES`, if it is one.
    """

    file_name: str
    image: np.ndarray
    sample: str | None = None

    @property
    def stem(self) -> str:
        """The file's name without suffix and without characters that are trouble in names of files."""
        return re.sub(r"[^\w-]+", "_", PurePath(self.file_name).stem).strip("_") or "picture"


def open_picture(source: str | os.PathLike) -> OpenedPicture:
    """Opens a picture.

    Args:
        source: a name in `SAMPLES`, a path, or an address that begins with http:// or https://.

    Raises:
        InputError: no such picture, one that cannot be read, or an address that does not answer.
    """
    source = os.fspath(source).strip()
    if not source:
        raise InputError("no picture given: write the path or the address of one")
    if source in SAMPLES:
        return OpenedPicture(SAMPLES[source].file_name, SAMPLES[source].image(), source)
    if re.match("https?://", source, re.IGNORECASE):
        content = _download(source)
        return opened_upload(PurePosixPath(unquote(urlsplit(source).path)).name, content)
    path = Path(os.path.expanduser(source))  # noqa: PTH111 - Path refuses the `~` of nobody
    if path.is_dir():
        raise InputError(f"{source} is a folder: give a picture in it")
    return OpenedPicture(path.name, read_image(path))


def opened_upload(name: str, content: bytes) -> OpenedPicture:
    """Opens a file's content; raises `InputError` if it cannot be read."""
    try:
        return OpenedPicture(name, read_image(content))
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _download(url: str) -> bytes:
    try:
        with requests.get(url, timeout=_TIMEOUT, stream=True) as answer:
            answer.raise_for_status()
            content = bytearray()
            for chunk in answer.iter_content(_CHUNK):
                content += chunk
                if len(content) > _LARGEST:
                    raise InputError(
                        f"{url} is larger than {_LARGEST >> 20} MiB: no picture to try this with"
                    )
    except requests.HTTPError as error:
        raise InputError(f"no picture at {url}: the server answers {error.response.status_code}") from error
    except requests.RequestException as error:
        raise InputError(f"cannot reach {url}: check the address and the connection") from error
    return bytes(content)
