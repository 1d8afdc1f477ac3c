"""Sprites: cut-outs of objects, split into training and validation, and rendered from their artwork."""

import difflib
import hashlib
import io
import itertools
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import resvg_py
from PIL import Image

from deepmac.core.categories import CLASS_SETS, COCO_CATEGORIES, ID_BY_NAME
from deepmac.core.errors import InputError
from deepmac.core.images import open_picture_file
from deepmac.scenes.artwork import ARTWORK, Artwork, Picture, artworks

SPLITS = ("train", "val")

_SVG_SHAPES = {"path", "circle", "ellipse", "rect", "line", "polyline", "polygon"}
_SVG_DEFINITIONS = {"defs", "clipPath", "mask"}
_PREVIEW = 48  # pixels; enough to see which part of a drawing the object fills
_OPAQUE = 8  # of 255: fainter pixels do not count as part of a cut-out

SpritePools = dict[str, dict[int, tuple[Artwork, ...]]]


def sprite_pools(
    own_sprites: str | Path | None = None, styles: Mapping[str, str] | None = None
) -> SpritePools:
    """Returns the artworks of each split: `pools["train"][category_id]`.

    An artwork is in one split only, whatever the seed of the scenes, so that objects of the validation
    scenes are never seen in training. Every third artwork of a class goes to validation, the vendors taking
    turns; where each vendor has one drawing, every second class validates on Twemoji, the others on OpenMoji.
    Of a user's pictures about a fifth goes to validation, by a hash of the file name. A class with nothing
    for training is not in validation: its pictures are for training.

    Args:
        own_sprites: a folder with the user's own RGBA cut-outs, a subfolder for each class.
        styles: set of classes, "voc" or "non_voc" -> the one vendor that draws them; both do unless given.

    Returns:
        For "train" and "val", category id -> artworks; classes without artwork are absent.

    Raises:
        InputError: a subfolder is not a COCO class, or a picture has no alpha channel or cannot be read.
    """
    pools = {split: {} for split in SPLITS}
    own = _own_artworks(Path(own_sprites)) if own_sprites is not None else {}
    vendors = itertools.cycle((("twemoji", "openmoji"), ("openmoji", "twemoji")))
    drawn_by = {number: vendor for name, vendor in (styles or {}).items() for number in CLASS_SETS[name]}
    for category in COCO_CATEGORIES:
        members = {split: [] for split in SPLITS}
        listed = artworks(ARTWORK.get(category.name, ""))
        if only := drawn_by.get(category.id):
            listed = [artwork for artwork in listed if artwork.vendor == only]
        if listed:
            for place, artwork in enumerate(_in_turns(listed, next(vendors))):
                members["val" if place % 3 == 1 else "train"].append(artwork)
        for artwork in own.get(category.id, []):
            members["val" if _hash(f"{category.name}/{artwork.name}") % 5 == 0 else "train"].append(artwork)
        if not members["train"]:
            members["train"], members["val"] = members["val"], []
        for split in SPLITS:
            if members[split]:
                pools[split][category.id] = tuple(members[split])
    return pools


def _in_turns(listed: list[Artwork], vendors: tuple[str, str]) -> list[Artwork]:
    """Shuffles each vendor's artworks by their name and lets the vendors take turns."""
    shuffled = sorted(listed, key=lambda artwork: _hash(artwork.name))
    pairs = itertools.zip_longest(*([a for a in shuffled if a.vendor == vendor] for vendor in vendors))
    return [artwork for pair in pairs for artwork in pair if artwork is not None]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _own_artworks(folder: Path) -> dict[int, list[Artwork]]:
    """Reads the user's folder `<class name>/<picture>`; category id -> artworks."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; --sprites takes one with a subfolder for each class")
    found = {}
    for subfolder in sorted(path for path in folder.iterdir() if path.is_dir()):
        if subfolder.name not in ID_BY_NAME:
            near = difflib.get_close_matches(subfolder.name.lower(), ID_BY_NAME, n=3)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise InputError(f"{subfolder}: {subfolder.name!r} is not the name of a COCO class{hint}")
        paths = sorted(path for path in subfolder.iterdir() if not path.name.startswith("."))
        for path in paths:
            read_cutout(path)
        found[ID_BY_NAME[subfolder.name]] = [Artwork("own", path.name, (Picture(path),)) for path in paths]
    if not any(found.values()):
        raise InputError(f"{folder} holds no pictures; put them into <COCO class name>/<picture>.png")
    return found


def read_cutout(path: Path) -> np.ndarray:
    """Reads a user's RGBA picture.

    Returns:
        uint8 [H, W, 4], RGBA, not premultiplied.

    Raises:
        InputError: the file is damaged, has no alpha channel, or nothing in it is visible or transparent.
    """
    with open_picture_file(path) as (picture, _):
        has_alpha = "A" in picture.getbands() or "transparency" in picture.info
        pixels = np.asarray(picture.convert("RGBA"))
    if not has_alpha:
        raise InputError(f"{path} has no alpha channel; save the cut-out object as RGBA")
    if (pixels[..., 3] < _OPAQUE).all():
        raise InputError(f"{path} is transparent everywhere; it shows no object")
    return pixels


def render(picture: Picture, side: int) -> np.ndarray:
    """Renders a cut-out, cropped to what is visible.

    Returns:
        uint8 [h, w, 4], RGB premultiplied with alpha, and alpha; max(h, w) is about `side` pixels.
    """
    if picture.path.suffix != ".svg":
        pixels = _crop(cv2.cvtColor(read_cutout(picture.path), cv2.COLOR_RGBA2mRGBA))
        scale = side / max(pixels.shape[:2])
        size = [max(1, math.floor(length * scale)) for length in pixels.shape[1::-1]]
        return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
    svg = _svg_text(picture)
    longer = max(_cut_svg(svg, _PREVIEW, picture.part).shape[:2])
    # The object fills only a part of its drawing, so the drawing has to be larger than the object.
    return _cut_svg(svg, round(side * _PREVIEW / longer), picture.part)


def _svg_text(picture: Picture) -> str:
    """Reads an SVG and takes out the elements that are not wanted."""
    text = picture.path.read_text(encoding="utf-8")
    if picture.keep is None and not picture.drop:
        return text
    root = ElementTree.fromstring(text)
    shapes = list(_shapes(root))
    for number, (parent, shape) in enumerate(shapes):
        if number in picture.drop or (picture.keep is not None and number not in picture.keep):
            parent.remove(shape)
    return ElementTree.tostring(root, encoding="unicode")


def _shapes(parent):
    """Yields (parent, shape) for the drawn shapes of an SVG in document order."""
    for child in parent:
        tag = child.tag.rpartition("}")[2]
        if tag in _SVG_SHAPES:
            yield parent, child
        elif tag not in _SVG_DEFINITIONS:
            yield from _shapes(child)


def _cut_svg(svg: str, side: int, part: int | None) -> np.ndarray:
    png = resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side, skip_system_fonts=True)
    rgba = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    pixels = cv2.cvtColor(rgba, cv2.COLOR_RGBA2mRGBA)  # premultiplied with alpha
    return _crop(pixels if part is None else _connected_part(pixels, part))


def _connected_part(pixels: np.ndarray, part: int) -> np.ndarray:
    """Blanks all but one connected part; parts count from the left."""
    opaque = (pixels[..., 3] >= _OPAQUE).astype(np.uint8)
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(opaque, connectivity=8)
    from_left = np.argsort(boxes[1:, cv2.CC_STAT_LEFT], kind="stable") + 1
    return pixels * (labels == from_left[part])[..., None].astype(np.uint8)


def _crop(pixels: np.ndarray) -> np.ndarray:
    left, top, width, height = cv2.boundingRect(np.uint8(pixels[..., 3] >= _OPAQUE))
    return pixels[top : top + height, left : left + width]
