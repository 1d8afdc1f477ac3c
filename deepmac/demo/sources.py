"""Pictures from wherever people have them: samples, files, addresses, uploads."""

import os
import re
import zlib
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
import requests

from deepmac.core.errors import InputError
from deepmac.core.images import open_picture_file, read_image
from deepmac.demo.samples import SAMPLES

_TIMEOUT = 20  # seconds without an answer
_LARGEST = 100 << 20  # bytes of a picture's file
_CHUNK = 1 << 16
_BITS_PER_SAMPLE = 258  # of a TIFF
_PERCENTILES = (0.1, 99.9)  # samples of more than 8 bits are stretched so that these are black and white


class OpenedPicture(NamedTuple):
    """A picture.

    Attributes:
        file_name: without folders.
        image: uint8 RGB [H, W, 3].
        content: its file, or what is in it.
        sample: its name in `SAMPLES`, if it is one.
        page, pages: which page of the file this is, from 0, and how many there are.
        contrast: samples that are shown black and white, where they have more than 8 bits.
    """

    file_name: str
    image: np.ndarray
    content: Path | bytes = b""
    sample: str | None = None
    page: int = 0
    pages: int = 1
    contrast: tuple[float, float] | None = None

    @property
    def stem(self) -> str:
        """The file's name without suffix and without characters that are trouble in names of files."""
        stem = re.sub(r"[^\w-]+", "_", PurePath(self.file_name).stem).strip("_") or "picture"
        return stem if self.pages == 1 else f"{stem}_page{self.page + 1}"

    @property
    def identity(self) -> str:
        """Which of the pictures of its name it is: where it lies, or a checksum of its file."""
        if isinstance(self.content, Path):
            return str(self.content.resolve())
        return self.sample or f"{self.file_name} {zlib.crc32(self.content):08x}"

    def turned_to(self, page: int) -> "OpenedPicture":
        """Another page of the same file."""
        return _read(self.file_name, self.content, page)


def open_picture(source: str | os.PathLike) -> OpenedPicture:
    """Opens a picture.

    Args:
        source: a name in `SAMPLES`, a path, or an address that begins with http:// or https://.

    Raises:
        InputError: no such picture, one that cannot be read, or an address that does not answer.
    """
    source = re.sub(r"""^(["'])(.*)\1$""", r"\2", os.fspath(source).strip())  # file managers copy quotes, too
    if not source:
        raise InputError("no picture given: write the path or the address of one")
    if "\0" in source:
        raise InputError("no such picture: paths and addresses have no NUL characters")
    if source in SAMPLES:
        return OpenedPicture(SAMPLES[source].file_name, SAMPLES[source].image(), sample=source)
    if re.match("https?://", source, re.IGNORECASE):
        content = _download(source)
        return opened_upload(PurePosixPath(unquote(urlsplit(source).path)).name, content)
    if "://" in source:  # a path would be shown with one slash
        raise InputError(f"{source} cannot be opened: addresses begin with http:// or https://")
    path = Path(os.path.expanduser(source))  # noqa: PTH111 - Path refuses the `~` of nobody
    if path.is_dir():
        raise InputError(f"{source} is a folder: give a picture in it")
    return _read(path.name, path)


def opened_upload(name: str, content: bytes) -> OpenedPicture:
    """Opens a file's content; raises `InputError` if it cannot be read."""
    try:
        return _read(name, content)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _read(name: str, content: Path | bytes, page: int = 0) -> OpenedPicture:
    with open_picture_file(content) as (picture, _):
        pages = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)  # phones add a small copy
        picture.seek(page)
        image, contrast = picture, None
        if picture.mode.startswith(("I", "F")):
            image, contrast = _stretched(np.asarray(picture))
        elif ";16" in str(picture.tile):
            image, contrast = _stretched(_deep_colors(content, page))
        elif 16 in getattr(picture, "tag_v2", {}).get(_BITS_PER_SAMPLE, ()):
            raise InputError("colours of 16 bits plane by plane cannot be read: save it as interleaved RGB")
        return OpenedPicture(name, read_image(image), content, None, page, pages, contrast)


def _deep_colors(content: Path | bytes, page: int) -> np.ndarray:
    """Colours of 16 bits, of which Pillow keeps the upper 8: uint16 RGB [H, W, 3]."""
    try:
        import cv2
    except ImportError as error:
        raise InputError("colours of 16 bits need OpenCV: pip install opencv-python-headless") from error
    file = np.frombuffer(content if isinstance(content, bytes) else content.read_bytes(), np.uint8)
    found, images = cv2.imdecodemulti(file, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH, range=(page, page + 1))
    if not found:
        raise InputError("these colours of 16 bits cannot be read: convert the picture to 8 bits")
    return images[0][..., ::-1]


def _stretched(samples: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Samples [H, W] or [H, W, 3] of any range as uint8, and which of them have become black and white."""
    finite = samples[np.isfinite(samples)]
    low, high = np.percentile(finite, _PERCENTILES) if finite.size else (0, 0)
    if high <= low:  # next to nothing in the picture, or nothing
        low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
    scaled = np.nan_to_num((samples.astype(np.float32) - low) / max(high - low, 1e-12))
    return (255 * np.clip(scaled, 0, 1)).round().astype(np.uint8), (float(low), float(high))


def _download(url: str) -> bytes:
    try:
        with requests.get(url, timeout=_TIMEOUT, stream=True) as answer:
            answer.raise_for_status()
            content = bytearray()
            for chunk in answer.iter_content(_CHUNK):
                content += chunk
                if len(content) > _LARGEST:
                    raise InputError(f"{url} is larger than {_LARGEST >> 20} MiB: give a smaller picture")
    except requests.HTTPError as error:
        raise InputError(f"no picture at {url}: the server answers {error.response.status_code}") from error
    except requests.RequestException as error:
        raise InputError(f"cannot reach {url}: check the address and the connection") from error
    return bytes(content)
