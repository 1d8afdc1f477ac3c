"""Pictures to begin with, in the folder `pictures`, with boxes drawn by hand.

All are in the public domain or CC0; `pictures/README.md` says where they are from.
"""

import dataclasses
from pathlib import Path

import numpy as np

from deepmac.core.boxes import normalized_boxes
from deepmac.core.images import read_image

_PICTURES = Path(__file__).with_name("pictures")


@dataclasses.dataclass(frozen=True)
class Sample:
    """A picture with boxes.

    Attributes:
        file_name: in the folder `pictures`.
        title: what is seen, and who made the picture.
        boxes: (name, (xmin, ymin, xmax, ymax) in pixels) of each box.
    """

    file_name: str
    title: str
    boxes: tuple[tuple[str, tuple[float, float, float, float]], ...]

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


SAMPLES = {
    "coffee": Sample(
        "coffee.jpg",
        "A cup of coffee (Rachel Michetti)",
        (("cup", (158, 14, 416, 305)), ("spoon", (320, 65, 430, 330)), ("saucer", (72, 58, 482, 386))),
    ),
    "rocket": Sample("rocket.jpg", "A rocket before its start (SpaceX)", (("rocket", (305, 122, 340, 410)),)),
    "astronaut": Sample(
        "astronaut.jpg",
        "Eileen Collins, astronaut (NASA)",
        (("person", (0, 2, 420, 512)), ("helmet", (272, 350, 500, 512))),
    ),
    "cell": Sample("cell.jpg", "A cell in saline (Paul Müller et al.)", (("cell", (360, 306, 497, 442)),)),
    "retina": Sample(
        "retina.jpg", "The back of an eye (Mikael Häggström)", (("macula", (270, 280, 420, 420)),)
    ),
    "galaxies": Sample(
        "galaxies.jpg",
        "Galaxies, seen by Hubble (NASA)",
        (("galaxy", (98, 370, 150, 425)), ("galaxy", (690, 440, 760, 500)), ("galaxy", (400, 690, 445, 745))),
    ),
}
