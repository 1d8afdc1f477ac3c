"""A contact sheet of a COCO folder: some of its images with outlined, labelled masks."""

import colorsys
import json
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from deepmac.core.categories import NAME_BY_ID

_TILE = 256
_GAP = 8
_COLUMNS = 6
_ROWS = {"train": 3, "val": 2}
_HEADING = 44
_PAPER, _INK = (250, 250, 248), (40, 40, 40)


def contact_sheet(coco_folder: Path) -> Image.Image:
    """Draws the first images of both splits of a folder in COCO's layout whose masks are polygons.

    Args:
        coco_folder: holds `annotations/instances_{train,val}2017.json` and the images.

    Returns:
        An RGB picture: training above, validation below.
    """
    blocks = [_block(coco_folder, split, rows) for split, rows in _ROWS.items()]
    sheet = Image.new("RGB", (blocks[0].width, sum(block.height for block in blocks)), _PAPER)
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    return sheet


def _block(coco_folder: Path, split: str, most_rows: int) -> Image.Image:
    """The images of one split under a heading."""
    text = (coco_folder / "annotations" / f"instances_{split}2017.json").read_text(encoding="utf-8")
    coco = json.loads(text)
    shown = coco["images"][: most_rows * _COLUMNS]
    rows = -(-len(shown) // _COLUMNS)
    pitch = _TILE + _GAP
    block = Image.new("RGB", (_GAP + _COLUMNS * pitch, _HEADING + rows * pitch), _PAPER)
    heading = f"{split}: {len(coco['images'])} images, {len(coco['annotations'])} objects"
    ImageDraw.Draw(block).text((_GAP, _HEADING / 2), heading, _INK, _font(22), anchor="lm")
    for place, image in enumerate(shown):
        mine = [one for one in coco["annotations"] if one["image_id"] == image["id"]]
        tile = _tile(coco_folder / f"{split}2017" / image["file_name"], mine)
        row, column = divmod(place, _COLUMNS)
        block.paste(tile, (_GAP + column * pitch, _HEADING + row * pitch))
    return block


def _tile(path: Path, annotations: list[dict]) -> Image.Image:
    """An enlarged image with outlines and class names."""
    with Image.open(path) as image:
        scale = _TILE / image.width
        tile = image.convert("RGB").resize((_TILE, _TILE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(tile)
    colours = [_colour(number) for number in range(len(annotations))]
    for annotation, colour in zip(annotations, colours, strict=True):
        for polygon in annotation["segmentation"]:
            corners = [value * scale for value in polygon]
            draw.line([*corners, *corners[:2]], fill=colour, width=2)
    taken = []
    for annotation, colour in zip(annotations, colours, strict=True):
        left, top, width, _ = (value * scale for value in annotation["bbox"])
        taken.append(
            _label(draw, NAME_BY_ID[annotation["category_id"]], left + width / 2, top, colour, taken)
        )
    return tile


def _label(draw, name: str, centre: float, top: float, colour, taken: list) -> tuple[float, ...]:
    """Writes a class name above an object, inside the tile and clear of the names that are there already.

    Returns:
        The rectangle it covers (left, top, right, bottom).
    """
    font = _font(13)
    width, height = draw.textlength(name, font) + 6, 17
    left = min(max(centre - width / 2, 0), _TILE - width)
    top = min(max(top - height - 2, 0), _TILE - height)
    while any(_overlap((left, top, left + width, top + height), other) for other in taken):
        top += 3
        if top > _TILE - height:
            top = 0
            break
    rectangle = (left, top, left + width, top + height)
    draw.rounded_rectangle(rectangle, 4, fill=colour)
    draw.text((left + width / 2, top + height / 2), name, (0, 0, 0), font, anchor="mm")
    return rectangle


def _overlap(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _colour(number: int) -> tuple[int, ...]:
    """Bright colours far apart: hues by the golden ratio."""
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb((0.13 + number * 0.618034) % 1, 0.55, 1.0))


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
