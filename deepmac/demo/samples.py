"""Pictures to begin with: photographs in scikit-image's wheel, with boxes drawn by hand.

All are free: in the public domain, CC0 (coffee), or without known copyright restrictions (coins, glands).
"""

import dataclasses

import numpy as np
from skimage import data

from deepmac.core.boxes import normalized_boxes
from deepmac.core.images import read_image


@dataclasses.dataclass(frozen=True)
class Sample:
    """A picture with boxes.

    Attributes:
        function: of `skimage.data`, gives the picture.
        title: what is seen, and who made the picture.
        boxes: (name, (xmin, ymin, xmax, ymax) in pixels) of each box.
    """

    function: str
    title: str
    boxes: tuple[tuple[str, tuple[float, float, float, float]], ...]

    def image(self) -> np.ndarray:
        """The picture, uint8 RGB [H, W, 3]."""
        return read_image(getattr(data, self.function)())

    @property
    def names(self) -> list[str]:
        """Names of the N boxes."""
        return [name for name, _ in self.boxes]

    def normalized_boxes(self) -> np.ndarray:
        """The boxes as the predictor takes them: float32 [N, 4], (ymin, xmin, ymax, xmax) from 0 to 1."""
        return normalized_boxes([box for _, box in self.boxes], "xyxy", *self.image().shape[:2])


SAMPLES = {
    "coffee": Sample(
        "coffee",
        "A cup of coffee (Rachel Michetti)",
        (("cup", (158, 14, 416, 305)), ("spoon", (320, 65, 430, 330)), ("saucer", (72, 58, 482, 386))),
    ),
    "coins": Sample(
        "coins",
        "Greek coins from Pompeii (Brooklyn Museum)",
        (
            ("coin", (302, 12, 367, 75)),
            ("coin", (242, 92, 297, 145)),
            ("coin", (315, 150, 380, 220)),
            ("coin", (15, 230, 77, 290)),
            ("coin", (140, 234, 202, 292)),
        ),
    ),
    "rocket": Sample("rocket", "A rocket before its start (SpaceX)", (("rocket", (305, 122, 340, 410)),)),
    "astronaut": Sample(
        "astronaut",
        "Eileen Collins, astronaut (NASA)",
        (("person", (0, 2, 420, 512)), ("helmet", (272, 350, 500, 512))),
    ),
    "glands": Sample(
        "immunohistochemistry",
        "Glands of a colon, stained (CMMI)",
        (("gland", (245, 300, 388, 510)), ("gland", (275, 0, 465, 300)), ("gland", (5, 130, 160, 512))),
    ),
    "galaxies": Sample(
        "hubble_deep_field",
        "Galaxies, seen by Hubble (NASA)",
        (("galaxy", (98, 370, 150, 425)), ("galaxy", (690, 440, 760, 500)), ("galaxy", (400, 690, 445, 745))),
    ),
}
