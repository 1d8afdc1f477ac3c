"""The demo's samples with their masks: what the notebook shows and measures."""

import dataclasses
import time

import numpy as np

from deepmac.demo.samples import SAMPLES, Sample
from deepmac.inference.prediction import Prediction
from deepmac.inference.predictor import Predictor


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


def segment_samples(predictor: Predictor) -> list[Exhibit]:
    """Predicts the masks of all samples, and times them."""
    exhibits = []
    for name, sample in SAMPLES.items():
        image, boxes = sample.image(), sample.normalized_boxes()
        prediction = predictor.predict(boxes, encoded=predictor.encode(image))  # warms up
        predictor.predict(boxes[:1], encoded=predictor.encode(image))
        times = [time.perf_counter()]
        encoded = predictor.encode(image)
        for box in (boxes[:1], boxes[-1:]):
            predictor.predict(box, encoded=encoded)
            times.append(time.perf_counter())
        exhibits.append(Exhibit(name, sample, prediction, *(1000 * np.diff(times)).tolist()))
    return exhibits
