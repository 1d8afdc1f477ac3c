"""What the predictor returns: masks in boxes, at any resolution and in the usual formats."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from deepmac.core import masks
from deepmac.core.boxes import pixel_xywh
from deepmac.core.drawing import overlay
from deepmac.core.errors import InputError
from deepmac.core.polygons import polygon, rings

# What masks are called, from these qualities on.
QUALITY_WORDS = {"good": 0.75, "check": 0.6, "doubtful": 0.0}


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """Masks of N boxes in one image.

    `dataclasses.replace(prediction, threshold=0.4)` gives the same masks at another threshold.
    """

    image: np.ndarray  # uint8 RGB [H, W, 3], at its own size
    boxes: np.ndarray  # float32 [N, 4], (ymin, xmin, ymax, xmax) normalised to the image, clipped to it
    # float32 [N, S, S], probabilities inside each box; the samples span it from edge to edge, both included.
    mask_probs: np.ndarray
    threshold: float = 0.5  # a pixel belongs to a mask when its probability is greater
    scores: np.ndarray | None = None  # float32 [N], 0 to 1, of detected objects; None for given boxes
    category_ids: np.ndarray | None = None  # int64 [N], of detected ones, as in the model's annotations
    names: list[str] | None = None  # N names of these categories
    calibration: tuple[float, float] = (0.0, 1.0)  # intercept and slope of `quality`, those of the model

    def __post_init__(self):
        if not 0 < self.threshold < 1:
            raise InputError(f"threshold must lie between 0 and 1, not {self.threshold}")

    def __len__(self):
        return len(self.boxes)

    def __repr__(self):
        height, width = self._size
        words = ", ".join(self.names or quality_words(self.quality))
        return f"<Prediction of {len(self)} masks in {width} x {height} pixels: {words}>"

    @cached_property
    def masks(self) -> np.ndarray:
        """bool [N, H, W]: the masks at the image's size, made when first asked for."""
        return masks.paste_masks(self.mask_probs, self.boxes, *self._size, self.threshold)

    @cached_property
    def quality(self) -> np.ndarray:
        """float32 [N], 0 to 1: the IoU that each mask is expected to have; see `quality_words`.

        Were pixels independent, and objects as likely there as the probabilities say, the IoU would be about
        the sum of the probabilities in the mask over its area and those outside. The model's `calibration`
        brings this to what was measured; 0 where the mask is empty.
        """
        inside = self.mask_probs > self.threshold  # (N, S, S)
        area = inside.sum(axis=(1, 2))
        found = (self.mask_probs * inside).sum(axis=(1, 2))
        missed = (self.mask_probs * ~inside).sum(axis=(1, 2))
        intercept, slope = self.calibration
        expected = np.clip(intercept + slope * found / np.maximum(area + missed, 1e-6), 0, 1)
        return np.where(area > 0, expected, 0).astype(np.float32)

    def to_coco(
        self,
        image_id: int | str,
        category_ids: Sequence[int] | None = None,
        scores: Sequence[float] | None = None,
    ) -> list[dict]:
        """COCO results, fit for JSON and for `COCO.loadRes`; no bitmap of the image is held.

        Args:
            image_id: of the image.
            category_ids: N ids; unless given those detected, or 1 for all.
            scores: N numbers; unless given those of the detections, or the quality.

        Returns:
            N dicts: `image_id`, `category_id`, `bbox` [xmin, ymin, width, height] in pixels,
            `segmentation` (run-length encoding), `score`; of detections `category_name`.
            For a mask AP by object size take `bbox` out:
            `COCO.loadRes` would take the box's area for the mask's.
        """
        if category_ids is None:
            category_ids = [1] * len(self) if self.category_ids is None else self.category_ids.tolist()
        if scores is None:
            scores = (self.quality if self.scores is None else self.scores).tolist()
        rles = masks.encode_masks(self.mask_probs, self.boxes, *self._size, self.threshold)
        bboxes = pixel_xywh(self.boxes, *self._size).round(2).tolist()
        named = [{} if self.names is None else {"category_name": name} for name in self.names or category_ids]
        return [
            {
                "image_id": image_id,
                "category_id": int(category_id),
                "bbox": bbox,
                "segmentation": rle,
                "score": round(float(score), 4),
                **name,
            }
            for category_id, bbox, rle, score, name in zip(
                category_ids, bboxes, rles, scores, named, strict=True
            )
        ]

    def to_polygons(self) -> list[list[list[float]]]:
        """N lists of polygons [x0, y0, x1, y1, ...] in pixels, one for each island of a mask.

        As COCO's `segmentation`; an empty mask has none. Holes are cut out: see `deepmac.core.polygons`.
        """
        return [[polygon(island) for island in islands] for islands in self.to_rings()]

    def to_rings(self) -> list[list[list[np.ndarray]]]:
        """As `to_polygons`, with the border of each hole apart: see `deepmac.core.polygons.rings`."""
        return [
            rings(mask_prob, box, *self._size, self.threshold)
            for mask_prob, box in zip(self.mask_probs, self.boxes, strict=True)
        ]

    def to_label_image(
        self, numbers: Sequence[int] | None = None, confidences: Sequence[float] | None = None
    ) -> np.ndarray:
        """One image of all masks: 0 is background, i + 1 the mask of box i.

        Where masks overlap, the smaller one is seen (of equal ones the later), so that an object in
        front of a larger one keeps its pixels.

        Args:
            numbers: N numbers, from 1, instead of i + 1.
            confidences: N of them: where masks overlap, the more confident one is seen (of equal ones that of
                the lower number).

        Returns:
            uint8 [H, W], uint16 for numbers above 255.

        Raises:
            InputError: a number above 65,535.
        """
        numbers = range(1, len(self) + 1) if numbers is None else numbers
        if (most := max(numbers, default=0)) > 65535:
            raise InputError(f"detection {most}, and masks of 16 bits tell 65535 apart: leave weak ones out")
        labels = np.zeros(self._size, np.uint8 if most <= 255 else np.uint16)
        areas = np.full(most + 1, np.inf)  # of each number's mask; background gives way to all
        # The last is seen, or where sizes decide, the last of equal ones.
        order = np.arange(len(self))
        if confidences is not None:
            order = np.lexsort([np.negative(numbers), np.asarray(confidences)])
        for i in order.tolist():
            mask, y0, x0 = masks.paste_mask(self.mask_probs[i], self.boxes[i], *self._size, self.threshold)
            window = labels[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]]
            areas[numbers[i]] = mask.sum() if confidences is None else 0
            window[mask & (areas[window] >= areas[numbers[i]])] = numbers[i]
        return labels

    def plot(
        self,
        ax=None,
        opacity: float = 0.5,
        outline: bool = True,
        boxes: bool = True,
        labels: Sequence[str] | None = None,
    ):
        """Draws the image with masks and boxes with matplotlib.

        Args:
            ax: matplotlib axes; unless given, of a new figure with the picture's pixels, 2,000 at most.
            opacity: of the masks, 0 to 1.
            outline: whether masks get a border.
            boxes: whether boxes are drawn.
            labels: N texts, written at the boxes.

        Returns:
            The axes.
        """
        from matplotlib import pyplot as plt  # only here: chooses a backend

        if ax is None:
            height, width = self._size
            figure = plt.figure(figsize=(8, 8 * height / width), dpi=min(width, 2000) / 8)
            ax = figure.add_axes((0, 0, 1, 1))
        drawn = self.boxes if boxes else None
        ax.imshow(overlay(self.image, self.to_label_image(), drawn, labels, opacity, outline))
        ax.set_axis_off()
        return ax

    @property
    def _size(self) -> tuple[int, int]:
        return self.image.shape[:2]


def quality_words(quality: np.ndarray) -> list[str]:
    """ "good", "check" or "doubtful" for each `Prediction.quality`, [N]."""
    return [next(word for word, least in QUALITY_WORDS.items() if value >= least) for value in quality]
