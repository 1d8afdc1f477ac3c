"""Pictures of masks: overlays, grids for comparison, sheets of many."""

import colorsys
import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GOLDEN_RATIO = (5**0.5 - 1) / 2
_PAPER, _INK = (250, 250, 248), (40, 40, 40)
_GAP, _CAPTION = 8, 20  # pixels
_GRID_WIDTH = 11.0  # inches
_MARGIN = 0.2  # of the box's size, shown on each side of it in a grid
_LARGEST = 7  # boxes: lines and letters suit a picture of so many at most, or they would hide small objects


def instance_colors(count: int) -> np.ndarray:
    """Colours, uint8 RGB [count, 3], that are easy to tell apart; the first are the same for any count."""
    index = np.arange(count)
    hue = (0.92 + index * _GOLDEN_RATIO) % 1  # neighbours in the sequence are far apart on the colour wheel
    saturation, value = 0.9 - 0.3 * (index // 3 % 2), 1 - 0.2 * (index // 6 % 2)
    colors = [colorsys.hsv_to_rgb(*color) for color in zip(hue, saturation, value, strict=True)]
    return (np.reshape(colors, (count, 3)) * 255).round().astype(np.uint8)


def overlay(
    image: np.ndarray,
    masks: np.ndarray,
    boxes: np.ndarray | None = None,
    labels: Sequence[str] | None = None,
    opacity: float = 0.5,
    outline: bool = True,
    colors: np.ndarray | None = None,
    short_labels: Sequence[str] | None = None,
) -> np.ndarray:
    """Lays masks over an image, each in a colour of its own; where they overlap the smaller is seen.

    Args:
        image: uint8 RGB [H, W, 3].
        masks: bool [N, H, W], or a label image, integer [H, W], as `Prediction.to_label_image` gives.
        boxes: float [N, 4], (ymin, xmin, ymax, xmax) normalised, drawn if given.
        labels: N texts, written at the boxes.
        opacity: of the masks, 0 to 1.
        outline: whether masks get a border of full opacity.
        colors: uint8 RGB [N, 3]; `instance_colors` unless given.
        short_labels: N texts, written instead of those that would lie over one another.

    Returns:
        uint8 RGB [H, W, 3].
    """
    height, width = image.shape[:2]
    boxes = np.reshape([] if boxes is None else boxes, (-1, 4)) * [height, width, height, width]
    label_image = masks
    if masks.ndim == 3:
        label_image = np.zeros((height, width), np.int32)
        for index in np.argsort(-masks.sum(axis=(1, 2)), kind="stable"):
            label_image[masks[index]] = index + 1
    count = max(int(label_image.max()), len(boxes))
    colors = instance_colors(count) if colors is None else np.asarray(colors, np.uint8)
    colors = np.concatenate([np.zeros((1, 3), np.uint8), colors])
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1)
    side = min(height, width, _LARGEST * np.sqrt(np.median(areas)) if len(boxes) else np.inf)
    line = max(1, round(side / 300))
    inside = label_image > 0
    result = image.copy()
    blended = (1 - opacity) * image[inside] + opacity * colors[label_image[inside]]
    result[inside] = blended.round().astype(np.uint8)
    if outline:
        border = label_border(label_image, line)
        result[border] = colors[label_image[border]]
    if not len(boxes):
        return result
    font = _font(max(10, round(side / 30)))
    return _draw_boxes(result, boxes, colors[1 : 1 + len(boxes)], labels, line, font, short_labels)


def mask_grid(
    images: Sequence[np.ndarray],
    masks: Sequence[Sequence[np.ndarray]],
    boxes: Sequence[np.ndarray],
    names: Sequence[str],
    sources: Sequence[str],
):
    """A figure with a column for each object and a row for each source of masks.

    Args:
        images: N images, uint8 RGB [H, W, 3].
        masks: for each the masks of R sources, bool [H, W]: none, the annotated one, and predictions, which
            get their IoU.
        boxes: N boxes, (ymin, xmin, ymax, xmax) normalised: each column shows its box's surroundings.
        names: N titles of columns.
        sources: R titles of rows.

    Returns:
        `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    windows = [_window(box, image.shape[:2]) for image, box in zip(images, boxes, strict=True)]
    aspects = [(x.stop - x.start) / (y.stop - y.start) for y, x in windows]  # width relative to height
    aspects = [min(max(aspect, 0.6), 1.8) for aspect in aspects]
    height = (_GRID_WIDTH / sum(aspects) + 0.2) * len(sources)
    figure = Figure(figsize=(_GRID_WIDTH, height), layout="constrained", dpi=150)
    axes = figure.subplots(len(sources), len(images), squeeze=False, width_ratios=aspects)
    for column, (image, of_object, window) in enumerate(zip(images, masks, windows, strict=True)):
        for row, (ax, mask) in enumerate(zip(axes[:, column], of_object, strict=True)):
            ax.imshow(overlay(image[window], mask[window].astype(np.uint8)), interpolation="nearest")
            ax.set(xticks=[], yticks=[], frame_on=False)
            if row > 1:
                iou = (mask & of_object[1]).sum() / max(1, (mask | of_object[1]).sum())
                ax.set_xlabel(f"IoU {iou:.2f}", labelpad=2)
    for ax, name in zip(axes[0], names, strict=True):
        ax.set_title(name.replace(" ", "\n"), fontsize="medium")
    for ax, source in zip(axes[:, 0], sources, strict=True):
        ax.set_ylabel(source)
    return figure


def sheet(
    pictures: Sequence[np.ndarray],
    captions: Sequence[str],
    columns: int = 4,
    size: tuple[int, int] = (320, 240),
) -> Image.Image:
    """Lays pictures out in rows, each in the middle of its field, with lines of text below.

    Args:
        pictures: N pictures, uint8 RGB [H, W, 3] of any size; those that are larger are made smaller.
        captions: N texts, broken into lines between parts "a · b"; what is too long ends with an ellipsis.
        columns: of the sheet.
        size: width and height of a field in pixels.
    """
    (width, height), columns = size, max(1, min(columns, len(pictures)))
    lines_of = [_lines(caption.replace("\n", " "), width) for caption in captions]
    below = _CAPTION * max(map(len, lines_of), default=1)
    step = (width + _GAP, height + below + _GAP)
    rows = -(-len(pictures) // columns)
    result = Image.new("RGB", (_GAP + columns * step[0], _GAP + rows * step[1]), _PAPER)
    for place, (picture, lines) in enumerate(zip(pictures, lines_of, strict=True)):
        field = Image.new("RGB", (width, height + below), _PAPER)
        image = Image.fromarray(picture)
        image.thumbnail(size, Image.Resampling.BOX)
        field.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
        for line, text in enumerate(lines):
            part = width / max(width, _font(13).getlength(text))  # of it that fits
            text = text if part == 1 else f"{text[: int(part * len(text))][:-1]}…"
            ImageDraw.Draw(field).text((0, height + 2 + line * _CAPTION), text, _INK, _font(13))
        row, column = divmod(place, columns)
        result.paste(field, (_GAP + column * step[0], _GAP + row * step[1]))
    return result


def _lines(caption: str, width: int) -> list[str]:
    """A caption in lines of so many pixels, broken between its parts."""
    lines = [""]
    for part in caption.split(" · "):
        longer = f"{lines[-1]} · {part}" if lines[-1] else part
        if lines[-1] and _font(13).getlength(longer) > width:
            lines.append(part)
        else:
            lines[-1] = longer
    return lines


def label_border(labels: np.ndarray, thickness: int) -> np.ndarray:
    """Pixels of a label that lie within `thickness` of another label or the background: bool [H, W]."""
    border = np.zeros(labels.shape, bool)
    for shift in range(1, thickness + 1):
        rows, columns = labels[shift:] != labels[:-shift], labels[:, shift:] != labels[:, :-shift]
        border[shift:] |= rows
        border[:-shift] |= rows
        border[:, shift:] |= columns
        border[:, :-shift] |= columns
    return border & (labels > 0)


def _draw_boxes(image, boxes, colors, labels, line, font, short_labels):
    """Draws boxes in pixels, and over all of them their labels."""
    picture, colors = Image.fromarray(image), [*map(tuple, colors.tolist())]
    draw = ImageDraw.Draw(picture)
    if labels and short_labels is not None:
        places = [_label_place(draw, *one, font) for one in zip(labels, boxes[:, 1::-1], strict=True)]
        choices = zip(_crowded(places), labels, short_labels, strict=True)
        labels = [short if crowded else label for crowded, label, short in choices]
    for (ymin, xmin, ymax, xmax), color in zip(boxes, colors, strict=True):
        # Rectangles include their last row and column; a box ends before it.
        draw.rectangle((xmin, ymin, max(xmin, xmax - 1), max(ymin, ymax - 1)), outline=color, width=line)
    for label, corner, color in zip(labels or (), boxes[:, 1::-1], colors, strict=False):
        _draw_label(draw, label, corner, color, font)
    return np.array(picture)


def _draw_label(draw, text, corner, color, font):
    left, top, right, bottom = _label_place(draw, text, corner, font)
    draw.rectangle((left, top, right, bottom), fill=color)
    bright = np.dot(color, [0.299, 0.587, 0.114]) > 140
    draw.text((left + 2, top), text, fill="black" if bright else "white", font=font)


def _label_place(draw, text, corner, font):
    """Left, top, right, bottom of a text above its box's upper edge, or below it where there is no room."""
    width, height = draw.textlength(text, font=font) + 4, sum(font.getmetrics())
    left, top = max(0, min(corner[0], draw.im.size[0] - width)), max(0, corner[1] - height)
    return left, top, left + width, top + height


def _crowded(places):
    """Which of N rectangles (left, top, right, bottom) lie over another one: bool [N]."""
    left, top, right, bottom = np.transpose(places)[..., np.newaxis]
    begins_before = (left < right.T) & (top < bottom.T)  # the end of the other
    return (begins_before & begins_before.T).sum(axis=1) > 1  # more than itself


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font that comes with matplotlib, which has most alphabets; Pillow's own has little but ASCII."""
    found = importlib.util.find_spec("matplotlib")  # importing it takes a second
    assert found and found.origin
    return ImageFont.truetype(Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf", size)


def _window(box, size):
    """Slices of the box's surroundings, cut off at the image's edges."""
    low, high = np.asarray(box[:2], np.float64) * size, np.asarray(box[2:], np.float64) * size
    border = _MARGIN * (high - low)
    starts = np.floor(np.maximum(low - border, 0)).astype(int)
    ends = np.ceil(np.minimum(high + border, size)).astype(int)
    return tuple(slice(start, max(end, start + 1)) for start, end in zip(starts, ends, strict=True))
