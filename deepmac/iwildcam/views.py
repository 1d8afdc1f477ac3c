"""Pictures of pictures: one with its masks, a sequence in the order of time, a sheet of many."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deepmac.core.drawing import overlay
from deepmac.core.errors import InputError
from deepmac.core.images import read_image
from deepmac.core.label_images import read_label_image
from deepmac.iwildcam.collection import CameraTrapPicture, Collection

_PAPER, _INK = (250, 250, 248), (40, 40, 40)
_GAP = 6
_CAPTION = 18


def picture_view(
    collection: Collection,
    picture: CameraTrapPicture,
    numbers: Sequence[int] | None = None,
    opacity: float = 0.5,
    boxes: bool = True,
    ids: bool = True,
    width: int = 960,
) -> Image.Image:
    """Draws a picture with its masks; without those that are missing, on grey where the picture is.

    Args:
        collection: where the files are.
        picture: of it.
        numbers: detections to draw, from 1; all unless given.
        opacity: of the masks, 0 to 1.
        boxes: whether boxes are drawn.
        ids: whether numbers, categories and confidences are written at the boxes, with or without these.
        width: of the result at most, in pixels.
    """
    image = _image(collection, picture, width)
    detections = collection.detections(picture)
    count = len(detections)
    shown = [k for k in range(1, count + 1) if numbers is None or k in numbers]
    # Other labels become background, also those of no detection, which `deepmac.iwildcam.checks` reports.
    labels = _labels(collection, picture, image.shape[:2])
    renumbered = np.zeros(max(count, labels.max(initial=0)) + 1, np.int32)
    renumbered[shown] = np.arange(1, len(shown) + 1)
    categories = [collection.detection_categories.get(key, "?") for key in detections.categories]
    texts = [f"{k} {categories[k - 1]} {detections.confidences[k - 1]:.2f}" for k in shown]
    drawn = overlay(
        image,
        renumbered[labels],
        boxes=detections.corners[[k - 1 for k in shown]] if boxes or ids else None,
        labels=texts if ids else None,
        opacity=opacity,
        outline=opacity > 0,
    )
    return Image.fromarray(drawn)


def sheet(
    collection: Collection,
    pictures: Sequence[CameraTrapPicture],
    columns: int = 4,
    tile: int = 300,
    opacity: float = 0.5,
    boxes: bool = True,
) -> Image.Image:
    """Draws many pictures with their masks, each with its camera, time and category.

    Args:
        collection: where the files are.
        pictures: of it, in the order wanted.
        columns: of the sheet.
        tile: width of a picture in pixels.
        opacity: of the masks, 0 to 1.
        boxes: whether boxes are drawn.
    """
    views = [picture_view(collection, p, None, opacity, boxes, False, tile) for p in pictures]
    height = max((view.height for view in views), default=0) + _CAPTION + _GAP
    columns = max(1, min(columns, len(views)))
    rows = -(-len(views) // columns)
    result = Image.new("RGB", (_GAP + columns * (tile + _GAP), _GAP + rows * height), _PAPER)
    draw, font = ImageDraw.Draw(result), ImageFont.load_default(11)
    for place, (view, picture) in enumerate(zip(views, pictures, strict=True)):
        row, column = divmod(place, columns)
        left, top = _GAP + column * (tile + _GAP), _GAP + row * height
        result.paste(view, (left, top))
        text = _shortened(draw, caption(picture), font, tile)
        draw.text((left, top + view.height + 2), text, _INK, font)
    return result


def few_colours(image: Image.Image) -> Image.Image:
    """Reduces an RGB picture to 256 colours, a quarter of the size as PNG: executed notebooks stay small."""
    return image.quantize(256, dither=Image.Dither.NONE)


def caption(picture: CameraTrapPicture) -> str:
    """One line on a picture: what is annotated, camera, time, frame of its sequence, split."""
    parts = [
        ", ".join(picture.categories),
        f"camera {picture.location}" if picture.location else "",
        f"{picture.time:%Y-%m-%d %H:%M:%S}" if picture.time else "",
        f"frame {picture.frame}" if picture.frame is not None else "",
        picture.split,
    ]
    return " · ".join(part for part in parts if part) or picture.id


def in_time_order(pictures: Sequence[CameraTrapPicture]) -> list[CameraTrapPicture]:
    """The pictures of a sequence as they were taken: by frame number, then by time."""
    return sorted(pictures, key=lambda p: (p.frame is None, p.frame or 0, str(p.time), p.id))


def _image(collection: Collection, picture: CameraTrapPicture, width: int) -> np.ndarray:
    """The picture, or grey with the reason why there is none; uint8 RGB, at most `width` wide."""
    path = collection.picture_path(picture)
    try:
        if path is None:
            raise InputError(f"missing: {picture.name}")
        image = Image.fromarray(read_image(path))
    except InputError as error:
        image = Image.new("RGB", (width, width * 3 // 4), (128, 128, 128))
        draw = ImageDraw.Draw(image)
        font = ImageFont.load_default(max(9, width // 40))
        draw.text((8, 8), _shortened(draw, str(error), font, width - 16), "white", font)
    height = max(1, round(image.height * width / image.width))
    return np.asarray(image if image.width <= width else image.resize((width, height), Image.Resampling.BOX))


def _labels(collection: Collection, picture: CameraTrapPicture, size: tuple[int, int]) -> np.ndarray:
    """The picture's label image at another size (height, width); zeros if it cannot be read."""
    try:
        labels = read_label_image(collection.mask_path(picture))
    except InputError:
        return np.zeros(size, np.uint8)
    return np.asarray(Image.fromarray(labels).resize(size[::-1], Image.Resampling.NEAREST))


def _shortened(draw, text: str, font, width: float) -> str:
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(f"{text}…", font) > width:
        text = text[:-1]
    return f"{text}…"
