"""Finds the pictures that files, folders and globs name."""

import glob
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from deepmac.core.errors import InputError
from deepmac.core.images import PICTURE_SUFFIXES
from deepmac.data.picture_files import files_below

MASKS_REPORT = "iwildcam_masks_report"  # .json, beside the masks of a collection


class Picture(NamedTuple):
    """A picture's file; `name` is its path in the folder that was asked for, or the file's name."""

    path: Path
    name: Path


def list_pictures(sources: Iterable[str]) -> list[Picture]:
    """Lists the pictures of files, folders (with their subfolders) and globs, each once.

    Args:
        sources: paths, or patterns with `*`, `?`, `[...]` and `**`.

    Raises:
        InputError: a source that names nothing.
    """
    found = {}
    for source in sources:
        pictures = _pictures(source)
        if not pictures:
            raise InputError(
                f"no pictures at {source}: give files, folders or patterns such as 'photos/*.jpg'"
            )
        for picture in pictures:
            found.setdefault(picture.path.resolve(), picture)
    return list(found.values())


def without_results(pictures: list[Picture]) -> list[Picture]:
    """Leaves out what `deepmac segment` and `deepmac iwildcam-masks` wrote; InputError: that is all."""
    folders = {folder for picture in pictures for folder in picture.path.parents}
    of_masks = {folder for folder in folders if any(folder.glob(f"{MASKS_REPORT}*.json"))}
    kept = [picture for picture in pictures if not _is_result(picture.path, of_masks)]
    if not kept:
        raise InputError(f"{pictures[0].path} is a result of this command: give pictures")
    return kept


def _pictures(source: str) -> list[Picture]:
    path = Path(source)
    if path.is_file():
        return [Picture(path, Path(path.name))]
    folder, found = path, files_below(path)
    if not path.is_dir() and glob.has_magic(source):
        folder = next(parent for parent in path.parents if not glob.has_magic(str(parent)))
        matching = map(Path, glob.iglob(source, recursive=True))  # noqa: PTH207 - which refuses **.jpg
        found = sorted(path for path in matching if path.suffix.lower() in PICTURE_SUFFIXES)
    return [Picture(path, path.relative_to(folder)) for path in found if path.is_file()]


def _is_of_masks(path: Path, folder: Path) -> bool:
    """Whether it is a label image, an overlay or a contact sheet: pictures may lie beside them."""
    overlays = path.relative_to(folder).parts[0] == "overlays"
    return path.suffix == ".png" or overlays or path.name.startswith("contact_sheet")


def _is_result(path: Path, of_masks: set[Path]) -> bool:
    name, _, kind = path.name.rpartition("_")
    beside = kind in ("labels.png", "overlay.png") and path.with_name(f"{name}_masks.json").is_file()
    return beside or any(_is_of_masks(path, folder) for folder in of_masks.intersection(path.parents))
