"""The files of annotated pictures: found by the names that annotations give them, measured, and encoded.

Names come from other machines: with backslashes, folders that are not here, addresses, another spelling of
accents, another case, without a suffix. A name fits to a file if one path ends with the other.
"""

import itertools
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote, unquote_plus, urlsplit

import numpy as np
from PIL import Image

from deepmac.core.errors import InputError
from deepmac.core.images import PICTURE_SUFFIXES, encoded, open_picture_file, orientation, read_image

LARGER_THAN_ANY = (65_000, 65_000)  # width and height, in pixels, of pictures of which nobody knows more
_SAME_SUFFIX = {".jpeg": ".jpg", ".jfif": ".jpg", ".tiff": ".tif"}
# What TensorFlow decodes to the colours that are meant; all else is encoded anew for records.
_DECODED_ALIKE = {("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "L"), ("BMP", "RGB")}
_LOSSY = {"JPEG", "MPO", "WEBP", "AVIF", "JPEG2000"}


class PictureName(NamedTuple):
    """A name of a picture as it compares: its folders, its stem, and its suffix or ""."""

    folders: tuple[str, ...]
    stem: str
    suffix: str

    @classmethod
    def of(cls, name: str) -> "PictureName":
        """Takes a path of any machine, an address, or a name without suffix."""
        name = name.strip().replace("\\", "/")
        if "://" in name or "?d=" in name:  # of Label Studio's local files
            address = urlsplit(name)
            values = [unquote(part.rpartition("=")[2]) for part in address.query.split("&")]
            pictures = [value for value in values if Path(value).suffix.lower() in PICTURE_SUFFIXES]
            name = pictures[0] if pictures else unquote(address.path)
        path = PurePosixPath(unicodedata.normalize("NFC", name).casefold())
        parts = tuple(part for part in path.parts if part != "..") or ("",)  # from where is not known here
        suffix = PurePosixPath(parts[-1]).suffix
        suffix = suffix if suffix in PICTURE_SUFFIXES else ""
        return cls(parts[:-1], parts[-1].removesuffix(suffix), _SAME_SUFFIX.get(suffix, suffix))

    @classmethod
    def spellings(cls, name: str) -> "set[PictureName]":
        """What a name may mean: quoted for an address, or of an upload, whose folder is Label Studio's own.

        Its files begin with eight digits that their pictures may not have.
        """
        uploaded = re.sub(r".*/data/upload/\d+/", "", name)
        unprefixed = re.sub(r"(^|.*[/=])[0-9a-f]{8}-", r"\1", uploaded)
        return {cls.of(one) for one in {name, unquote(name), unquote_plus(name), uploaded, unprefixed}}

    def end(self, count: int) -> tuple[str, ...]:
        """The last parts of the name, the picture's without a suffix."""
        return (*self.folders[len(self.folders) + 1 - count :], self.stem)


class PictureNames:
    """Things by the names of their pictures, to find those that agree most with another name.

    Names agree in their last parts: in what the picture is called, its folder, and so on. A suffix that one
    of them lacks agrees with any. Finding takes the same time however many names there are.
    """

    def __init__(self):
        self._suffixes: set[str] = set()
        # Suffix and last parts of names, or all -> the things.
        self._ends: dict[tuple, list] = defaultdict(list)
        self._whole: dict[tuple, list] = defaultdict(list)

    def add(self, name: PictureName, thing: Any) -> None:
        """Adds something by a name of its picture; it may have several."""
        self._suffixes.add(name.suffix)
        count = len(name.folders) + 1
        for part in range(1, count + 1):
            self._ends[name.suffix, *name.end(part)].append(thing)
        self._whole[name.suffix, *name.end(count)].append(thing)

    def find(self, name: PictureName, least: int) -> Iterator[tuple[int, bool, list]]:
        """Finds what agrees in all of its name, or else in at least so many parts; what agrees most first.

        Yields the number of parts, whether they are all of its name, and the things, all that agree so.
        """
        suffixes = {name.suffix, ""} if name.suffix else self._suffixes
        for count in range(len(name.folders) + 1, 0, -1):
            for names in (self._whole, self._ends)[: 1 + (count >= least)]:
                found = [names.get((suffix, *name.end(count)), ()) for suffix in suffixes]
                if any(found):
                    yield count, names is self._whole, list(itertools.chain(*found))


def find_pictures(names: Iterable[str], folder: Path) -> dict[str, Path]:
    """Finds the pictures of a folder and its subfolders by their names in an annotation file.

    Returns:
        Name -> path relative to the folder, for those that are there, whatever way leads to them; that of a
        picture elsewhere stays as it is. A file has one name only: that which says more of its path.

    Raises:
        InputError: a name that fits to several files alike.
    """
    # Path.is_file fails for names that are longer than they can be.
    found = {name: _below(folder, name) for name in names if os.path.isfile(folder / name)}  # noqa: PTH113
    others = [name for name in names if name not in found]
    if not others:
        return found
    files, above = PictureNames(), PictureName.of(f"{folder.absolute()}/x").folders
    for path in files_below(folder):
        files.add(PictureName.of(str(path.relative_to(folder))), path)
    taken = {folder / path for path in found.values()}
    claims: dict[Path, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in others:
        agreeing, path = _best_file(name, files, above)
        if path is not None:
            claims[path][agreeing].append(name)
    for path, claimants in claims.items():
        best_names = claimants[max(claimants)]
        if len(best_names) > 1 and len({PictureName.of(name) for name in best_names}) > 1:
            raise InputError(f"{path} could be {best_names[0]} or {best_names[1]}: name one after its folder")
        if path not in taken:
            found |= {name: path.relative_to(folder) for name in best_names}
    return found


def _below(folder: Path, name: str) -> Path:
    """The path of a file relative to a folder, if it lies there."""
    path = Path(os.path.normpath(folder.absolute() / name))
    return path.relative_to(folder.absolute()) if path.is_relative_to(folder.absolute()) else Path(name)


def _best_file(name: str, files: PictureNames, above: tuple[str, ...]) -> tuple[int, Path | None]:
    """How many parts of a name and of the file that it fits to best agree, and the file.

    It fits if one ends with the other, the file's path below the folders `above`.
    """
    fitting = defaultdict(list)
    for wanted in PictureName.spellings(name):
        for agreeing, is_whole, paths in files.find(wanted, least=len(wanted.folders) + 1):
            rest = wanted.folders[: len(wanted.folders) + 1 - agreeing]
            pairs = zip(reversed(rest), reversed(above), strict=False)
            more = itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)
            fitting[agreeing + is_whole * len(list(more))] += paths
    most = max(fitting, default=0)
    if not most:
        return 0, None
    alike = list(dict.fromkeys(fitting[most]))
    paths = [path for path in alike if path.name in (name, PurePosixPath(name).name)]
    paths = paths if len(paths) == 1 else alike
    if len(paths) > 1:
        raise InputError(f"{name} could be {paths[0]} or {paths[1]}: give more of its path")
    return most, paths[0]


def files_below(folder: Path) -> list[Path]:
    """The files of pictures in a folder and its subfolders, sorted; also in linked ones, each folder once."""
    found, places, seen = [], [folder], set(map(str, Path(os.path.realpath(folder)).parents))
    for place in places:  # links come last, so that what they lead to is called after its own folder
        for root, folders, names in os.walk(place):
            if (real := os.path.realpath(root)) in seen:
                folders.clear()
                continue
            seen.add(real)
            places += [path for name in folders if (path := Path(root, name)).is_symlink()]
            found += [Path(root, name) for name in names if Path(name).suffix.lower() in PICTURE_SUFFIXES]
    return sorted(found)


class PictureSize(NamedTuple):
    """Sides of a picture in pixels, (width, height), as it is stored and as it is meant to be seen."""

    stored: tuple[int, int]
    upright: tuple[int, int]
    is_turned: bool = False  # whether both pictures differ: by half a turn, sides stay the same

    @classmethod
    def of(cls, picture: Image.Image) -> "PictureSize":
        """Takes the sides of an opened picture."""
        kind = orientation(picture)
        return cls(picture.size, picture.size[::-1] if kind >= 5 else picture.size, kind != 1)

    @classmethod
    def read(cls, path: Path) -> "PictureSize | None":
        """Reads the sides of a picture without decoding it; None if it is none."""
        try:
            with open_picture_file(path) as (picture, _):
                return cls.of(picture)
        except InputError:
            return None


def read_annotated(source: Path | Image.Image, size: tuple[int, int] | None) -> np.ndarray:
    """Reads a picture that is annotated as (width, height) in pixels: as it is stored if only that fits.

    Returns uint8 RGB [H, W, 3], upright otherwise; errors as of `read_image`.
    """
    with open_picture_file(source) as (picture, _):
        found = PictureSize.of(picture)
        return read_image(picture, upright=size == found.upright or size != found.stored)


def measure(path: Path) -> PictureSize | str:
    """Measures a picture, and reads all of it to see whether that is possible; else says what is wrong."""
    try:
        with open_picture_file(path) as (picture, _):
            size = PictureSize.of(picture)
            if (picture.format, picture.mode) not in _DECODED_ALIKE:
                read_image(path)
                return size
            # A JPEG at an eighth of its size: every byte is read, most of the work is saved.
            picture.draft("L", (max(1, size.stored[0] // 8), max(1, size.stored[1] // 8)))
            picture.load()
            return size
    except InputError as error:
        return str(error)


def encode_for_records(path: Path, width: int, height: int) -> bytes | None:
    """Encodes a picture that TensorFlow would not decode as it is meant: as it is annotated, in pixels.

    Returns a JPEG file if the picture is one or of that kind, else a PNG file; None if the picture can stay.
    """
    with Image.open(path) as picture:
        kind = picture.format
        turned = orientation(picture) != 1 and PictureSize.of(picture).upright == (width, height)
        if (kind, picture.mode) in _DECODED_ALIKE and not turned:
            return None
    image = Image.fromarray(read_image(path, upright=turned))
    return encoded(image, "JPEG", quality=95, subsampling=0) if kind in _LOSSY else encoded(image, "PNG")
