"""How much each profile measures."""

import dataclasses
import hashlib
from pathlib import Path

from deepmac.core.errors import InputError
from deepmac.suite.rows import PreparedData, prepare_dataset
from deepmac.suite.suite import Suite


@dataclasses.dataclass(frozen=True)
class Scope:
    """Repeats and sizes.

    Attributes:
        repeats: calls of everything quick that is compared; their median counts.
        training_steps: timed steps of each way to train.
        compiles: whether to train with XLA too; it compiles for half a minute.
        memory_steps: training steps over which memory is watched.
        num_boxes: counts of boxes in one call.
        input_sizes: sides of the network input, pixels.
        batches: pictures encoded in one call.
        pictures: evaluated pictures, at most.
        detections: detections in each of them.
        full_size_repeats: as `repeats`, for the published model; 0 leaves it out.
    """

    repeats: int
    training_steps: int
    compiles: bool
    memory_steps: int
    num_boxes: tuple[int, ...]
    input_sizes: tuple[int, ...]
    batches: tuple[int, ...]
    pictures: int
    detections: int
    full_size_repeats: int


_SMOKE = Scope(
    repeats=1,
    training_steps=1,
    compiles=False,
    memory_steps=2,
    num_boxes=(1, 4),
    input_sizes=(128, 384),
    batches=(1, 2),
    pictures=8,
    detections=20,
    full_size_repeats=0,
)
_QUICK = Scope(
    repeats=9,
    training_steps=5,
    compiles=True,
    memory_steps=50,
    num_boxes=(1, 4, 16, 64, 256),
    input_sizes=(128, 256, 384, 512),
    batches=(1, 2, 4, 8),
    pictures=100,
    detections=100,
    full_size_repeats=0,
)
_FULL = dataclasses.replace(
    _QUICK,
    repeats=15,
    training_steps=15,
    memory_steps=500,
    num_boxes=(1, 2, 4, 8, 16, 32, 64, 100, 128, 256),
    input_sizes=(128, 192, 256, 384, 512, 640, 768),
    batches=(1, 2, 4, 8, 16),
    pictures=400,
    full_size_repeats=5,
)
_SCOPES = {"smoke": _SMOKE, "quick": _QUICK, "mini": _FULL, "subset": _FULL, "paper": _FULL}


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What a notebook run measures, and with which pictures.

    Attributes:
        profile: its name.
        scope: how much.
        data: the profile's pictures.
        sha256: hash of everything that decides what is measured.
    """

    profile: str
    scope: Scope
    data: PreparedData
    sha256: str

    @classmethod
    def of_profile(cls, profile: str, work_dir: str | Path, root: str | Path = ".") -> "Benchmark":
        """Prepares a profile's pictures; those that are there are used again.

        Args:
            profile: smoke, quick, mini, subset or paper.
            work_dir: holds data sets.
            root: the checkout.

        Raises:
            InputError: no such profile, or not in a checkout.
        """
        dataset = Suite.load(profile, root).dataset
        if profile not in _SCOPES:
            raise InputError(f"profile {profile!r} has no benchmark: choose from {', '.join(_SCOPES)}")
        scope = _SCOPES[profile]
        data = prepare_dataset(dataset, Path(work_dir).absolute())
        return cls(profile, scope, data, hashlib.sha256(f"{scope}{dataset.sha256}".encode()).hexdigest())
