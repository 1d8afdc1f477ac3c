"""The demo's samples with their masks: figure, measurements, claims."""

import dataclasses
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from matplotlib.figure import Figure

from deepmac.core.categories import ID_BY_NAME
from deepmac.core.drawing import overlay
from deepmac.demo.samples import SAMPLES, Sample
from deepmac.inference.prediction import Prediction
from deepmac.inference.predictor import Predictor
from deepmac.suite.results import Claim, Measurement, ResultRow, write_results

_COLUMNS = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Exhibit:
    """A sample with its masks.

    Attributes:
        name: key of the sample.
        sample: the picture and its boxes.
        prediction: the masks.
        first_ms: from picture to the mask of one box, in milliseconds.
        next_ms: the mask of another box, in milliseconds.
    """

    name: str
    sample: Sample
    prediction: Prediction
    first_ms: float
    next_ms: float

    @property
    def fills(self) -> np.ndarray:
        """Percent of its box that each mask fills: float [N]."""
        return 100 * (self.prediction.mask_probs > self.prediction.threshold).mean(axis=(1, 2))


@dataclasses.dataclass(frozen=True)
class Gallery:
    """All samples with their masks.

    Attributes:
        model: name or folder of the model.
        exhibits: one a sample.
        seconds: what it took.
    """

    model: str
    exhibits: Sequence[Exhibit]
    seconds: float

    def figure(self) -> Figure:
        """Every sample with its masks and the names of its objects; a star marks classes outside COCO."""
        rows = -(-len(self.exhibits) // _COLUMNS)
        figure = Figure(figsize=(11, 3.4 * rows), layout="constrained")
        for ax in figure.subplots(rows, _COLUMNS, squeeze=False).ravel():
            ax.set_axis_off()
        for ax, exhibit in zip(figure.axes, self.exhibits, strict=False):
            prediction = exhibit.prediction
            ax.imshow(overlay(prediction.image, prediction.masks, prediction.boxes))
            names = [name if name in ID_BY_NAME else f"{name}*" for name in exhibit.sample.names]
            ax.set_title(", ".join(dict.fromkeys(names)), fontsize="medium")
        return figure

    def rows(self) -> list[ResultRow]:
        """How much of its box every mask fills, and how long masks take."""
        rows = [
            _row(f"{exhibit.name}: {name} {number}", "mask, percent of its box", fill)
            for exhibit in self.exhibits
            for number, (name, fill) in enumerate(zip(exhibit.sample.names, exhibit.fills, strict=True), 1)
        ]
        return [
            *rows,
            _row("picture to first mask, median", "ms", self._median("first_ms")),
            _row("another box, median", "ms", self._median("next_ms")),
        ]

    def claims(self) -> list[Claim]:
        """What the demo promises."""
        fills = np.concatenate([exhibit.fills for exhibit in self.exhibits])
        first, following = self._median("first_ms"), self._median("next_ms")
        return [
            Claim(
                "every box holds a mask that is neither empty nor the whole box",
                bool((fills > 5).all() and (fills < 95).all()),
                f"{len(fills)} masks fill {fills.min():.0f} to {fills.max():.0f} % of their boxes",
            ),
            Claim(
                "another box on the same picture takes less than a third of the first mask's time",
                following < first / 3,
                f"median {following:.1f} ms against {first:.1f} ms",
            ),
        ]

    def write(self, path: str | Path | None, parameters: dict):
        """Writes the results JSON; None writes nothing (interactive use)."""
        if path is None:
            return
        decisive = {
            "model": self.model,
            "boxes": {exhibit.name: exhibit.prediction.boxes.tolist() for exhibit in self.exhibits},
        }
        write_results(
            path,
            notebook="deepmac_colab",
            parameters=parameters,
            config_sha256=hashlib.sha256(yaml.safe_dump(decisive).encode()).hexdigest(),
            rows=self.rows(),
            claims=self.claims(),
            seconds=self.seconds,
        )

    def _median(self, attribute):
        return float(np.median([getattr(exhibit, attribute) for exhibit in self.exhibits]))


def segment_samples(predictor: Predictor, model: str) -> Gallery:
    """Predicts the masks of all samples.

    Args:
        predictor: a loaded model.
        model: what it was loaded from, for the results.
    """
    start = time.monotonic()
    exhibits = [_exhibit(predictor, name, sample) for name, sample in SAMPLES.items()]
    return Gallery(model, exhibits, time.monotonic() - start)


def _exhibit(predictor, name, sample):
    image, boxes = sample.image(), sample.normalized_boxes()
    prediction = predictor.predict(boxes, encoded=predictor.encode(image))  # warms up
    predictor.predict(boxes[:1], encoded=predictor.encode(image))
    start = time.perf_counter()
    encoded = predictor.encode(image)
    predictor.predict(boxes[:1], encoded=encoded)
    first = time.perf_counter()
    predictor.predict(boxes[-1:], encoded=encoded)
    end = time.perf_counter()
    return Exhibit(name, sample, prediction, 1000 * (first - start), 1000 * (end - first))


def _row(name, metric, value):
    return ResultRow(name, metric, Measurement.exact(float(value)))
