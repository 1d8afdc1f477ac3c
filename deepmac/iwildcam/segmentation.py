"""The work behind `deepmac iwildcam-masks`: a collection streamed through decoding, segmentation, writing.

Pictures are decoded by threads that run ahead, segmented in batches, and their masks written by threads that
run behind, so that at any time only a few pictures are held. A batch always has the same shape, so that a
picture's masks do not depend on which pictures are segmented with it.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deepmac.core import label_images as masks
from deepmac.core.errors import InputError
from deepmac.core.executors import ahead, threads
from deepmac.core.images import read_image
from deepmac.iwildcam.jobs import FINGERPRINT, Job
from deepmac.iwildcam.layout import picture_path

BATCH_SIZE = 8
# Pictures that decoding may be ahead, and writing behind, in batches.
_BATCHES_IN_FLIGHT = 2


class _Decoded(NamedTuple):
    """A picture ready for the network.

    Attributes:
        job: what to do with it.
        pixels: network input of one picture.
        part: float32 [2], the part (height, width) of the network input that the picture fills.
        size: height and width of the picture in pixels.
    """

    job: Job
    pixels: Any
    part: np.ndarray
    size: tuple[int, int]


class _Segmented(NamedTuple):
    """A picture with its masks: job, height and width, and float32 [N, S, S], probabilities in the boxes."""

    job: Job
    size: tuple[int, int]
    mask_probs: np.ndarray


@dataclasses.dataclass(frozen=True)
class Failure:
    """A picture without masks, and why."""

    name: str
    problem: str


def segment_pictures(
    jobs: Iterable[Job],
    images: Path,
    network,
    sixteen_bit: bool = False,
    workers: int | None = None,
) -> Iterator[Failure | None]:
    """Makes the masks of pictures and writes them.

    Args:
        jobs: pictures and where their masks go.
        images: folder of the pictures.
        network: as `deepmac.inference.predictor.load_network` returns.
        sixteen_bit: whether pictures with more than 255 detections get 16-bit masks.
        workers: threads that decode, and as many that write; one for each core unless given.

    Yields:
        For each job, once its mask is written, None; or why there is none.

    Raises:
        InputError: a mask cannot be written.
    """
    in_flight = BATCH_SIZE * _BATCHES_IN_FLIGHT
    with threads(workers) as readers, threads(workers) as writers:
        decoded = ahead(readers, lambda job: _decode(job, images, network, sixteen_bit), jobs, in_flight)
        results = _segment(decoded, network)
        yield from ahead(writers, _write, results, in_flight)


def _decode(job: Job, images: Path, network, sixteen_bit: bool) -> _Decoded | Failure:
    try:
        masks.sample_bits(len(job.detections), sixteen_bit)
        path = picture_path(images, job.detections.name)
        if path is None:
            raise InputError("no such picture")
        image = read_image(path)
    except InputError as error:
        return Failure(job.detections.name, str(error))
    return _Decoded(job, *network.prepare(image), image.shape[:2])


def _segment(decoded: Iterator[_Decoded | Failure], network) -> Iterator[_Segmented | Failure]:
    while batch := list(itertools.islice(decoded, BATCH_SIZE)):
        yield from (item for item in batch if isinstance(item, Failure))
        pictures = [item for item in batch if isinstance(item, _Decoded)]
        if not pictures:
            continue
        padding = [pictures[-1].pixels] * (BATCH_SIZE - len(pictures))
        embeddings = network.encode([picture.pixels for picture in pictures] + padding)
        for picture, embedding in zip(pictures, embeddings, strict=False):  # those of the padding are left
            mask_probs = network.mask_probs(embedding, picture.job.boxes * np.tile(picture.part, 2))
            yield _Segmented(picture.job, picture.size, mask_probs)


def _write(picture: _Segmented | Failure) -> Failure | None:
    if isinstance(picture, Failure):
        return picture
    job, size, mask_probs = picture
    bits = masks.sample_bits(len(job.detections), sixteen_bit=True)
    confidences = job.detections.confidences[job.numbers - 1]
    labels = masks.label_image(mask_probs, job.boxes, job.numbers.tolist(), confidences.tolist(), *size, bits)
    try:
        masks.write_label_image(job.target, labels, {FINGERPRINT: job.fingerprint})
    except OSError as error:
        raise InputError(f"cannot write {job.target}: {error.strerror or error}") from error
    return None
