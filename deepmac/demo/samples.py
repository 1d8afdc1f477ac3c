"""Pictures to begin with, in the folder `pictures`, with boxes drawn by hand.

All are in the public domain or CC0; `pictures/README.md` says where they are from.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from deepmac.core.boxes import normalized_boxes
from deepmac.core.images import read_image

_PICTURES = Path(__file__).with_name("pictures")


class Sample(NamedTuple):
    """A picture with N boxes.

    Attributes:
        file_name: in the folder `pictures`.
        title: what is seen, and who made the picture.
        boxes: name of each, and (xmin, ymin, xmax, ymax) in pixels.
    """

    file_name: str
    title: str
    boxes: list[tuple[str, list[float]]]

    def image(self) -> np.ndarray:
        """The picture, uint8 RGB [H, W, 3]."""
        return read_image(_PICTURES / self.file_name)

    @property
    def names(self) -> list[str]:
        """Names of the N boxes."""
        return [name for name, _ in self.boxes]

    def normalized_boxes(self) -> np.ndarray:
        """The boxes as the predictor takes them: float32 [N, 4], (ymin, xmin, ymax, xmax) from 0 to 1."""
        return normalized_boxes([box for _, box in self.boxes], "xyxy", *self.image().shape[:2])


_TABLE = yaml.safe_load((_PICTURES / "samples.yaml").read_text(encoding="utf-8"))
SAMPLES = {name: Sample(f"{name}.jpg", **facts) for name, facts in _TABLE.items()}
