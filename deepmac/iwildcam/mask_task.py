"""What masks are wanted, of what, made with what; enough for another process to make a part of them."""

import dataclasses
from pathlib import Path
from typing import Any

from deepmac import __version__
from deepmac.core.errors import InputError
from deepmac.data.megadetector import read_detections
from deepmac.inference.find import weights_sha256
from deepmac.inference.predictor import load_network
from deepmac.iwildcam.jobs import Plan, Shard


@dataclasses.dataclass(frozen=True)
class MaskTask:
    """The masks of a collection.

    Attributes:
        images: folder of the pictures.
        detections: MegaDetector's results, JSON.
        out: folder for the masks.
        model: as for `deepmac.load`; also `precision` and `input_size`.
        min_conf: detections of lower confidence get no mask, but keep their number.
        sixteen_bit: whether pictures with more than 255 detections get 16-bit masks.
        overwrite: whether masks that are there are made again.
    """

    images: Path
    detections: Path
    out: Path
    model: str = "mini"
    precision: str = "auto"
    input_size: int | None = None
    min_conf: float = 0.0
    sixteen_bit: bool = False
    overwrite: bool = False

    def check(self) -> None:
        """Raises InputError: no such folder of pictures, or a confidence that is none."""
        if not self.images.is_dir():
            raise InputError(f"no such folder of pictures: {self.images}")
        if not 0 <= self.min_conf <= 1:
            raise InputError(f"--min-conf must lie between 0 and 1, not {self.min_conf}")

    def settings(self) -> dict[str, Any]:
        """What masks depend on beside pictures and detections.

        Raises:
            InputError: no such model.
        """
        return {
            "version": __version__,
            "weights": weights_sha256(self.model),
            "precision": self.precision,
            "input_size": self.input_size,
            "min_conf": self.min_conf,
        }

    def plan(self, shard: Shard) -> Plan:
        """Reads the detections and finds the pictures of a shard; see `Plan` for errors."""
        detections = read_detections(self.detections)
        return Plan(self.images, detections, self.out, self.min_conf, shard, self.settings())

    def load_network(self):
        """Loads the model; see `deepmac.inference.predictor.load_network`."""
        return load_network(self.model, self.precision, self.input_size)
