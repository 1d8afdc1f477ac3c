"""Boxes in, masks out: `deepmac.load` and the `Predictor` it returns."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepmac.core.boxes import apart, normalized_boxes
from deepmac.core.errors import InputError, missing_package
from deepmac.core.images import read_image
from deepmac.core.machine import RUNTIMES
from deepmac.inference.crops import plan_crops
from deepmac.inference.find import find_model, read_graphs
from deepmac.inference.network import FoundObjects, Network
from deepmac.inference.prediction import Prediction

SAME_OBJECT = 0.7  # IoU of boxes above which two detections, perhaps of several classes, are one object


def load(
    name_or_path: str | os.PathLike = "mini",
    precision: str = "auto",
    input_size: int | None = None,
    runtime: str = "auto",
    cores: int | None = None,
) -> "Predictor":
    """Loads a trained model.

    Args:
        name_or_path: "mini", the small model shipped with the package; "deepmac_1024x1024_coco17", the
            published one, downloaded at first use; or a folder: a `model_dir` written by training
            (`params.yaml` and a checkpoint), one in the published layout (`pipeline.config` and
            `checkpoint/`), or an exported graph (`saved_model/`, the SavedModel itself, or ONNX files).
        precision: "float32", "bfloat16" (masks agree, about twice as fast where the hardware has it), or
            "auto": float32 in ONNX Runtime; in TensorFlow the hardware decides. An exported graph keeps its
            own.
        input_size: side of the square network input in pixels, a multiple of the network's stride; the
            one it was trained with unless given. A larger one shows smaller objects and takes longer. An
            exported graph keeps its own.
        runtime: "onnx": ONNX Runtime, for "mini", ONNX exports, and checkpoints with such an export in their
            folder `onnx`; "tensorflow": for everything but ONNX exports; or "auto": ONNX Runtime where it
            can, unless a precision or an input size is asked for that it has not.
        cores: that ONNX Runtime takes for a call, where several are made at the same time; all unless given.

    Raises:
        InputError: no such model, a damaged one, an unknown precision or runtime, an unsuitable input size,
            or TensorFlow is needed and not installed.
    """
    if runtime not in RUNTIMES:
        raise InputError(f"unknown runtime {runtime!r}: use one of {', '.join(RUNTIMES)}")
    model = find_model(name_or_path)
    onnx = model.onnx
    has_size = input_size is None or (onnx and input_size == read_graphs(onnx)["input_size"])
    as_exported = precision in ("auto", "float32") and has_size
    if runtime == "auto":
        runtime = "onnx" if model.kind == "onnx" or (onnx and as_exported) else "tensorflow"
    if runtime == "onnx" and not onnx:
        raise InputError(
            f"{model.folder} has no ONNX files of its weights: write them with deepmac export --format onnx "
            f"--model {model.folder} --out {model.folder / 'onnx'}"
        )
    if runtime == "tensorflow" and model.kind == "onnx":
        raise InputError(f"TensorFlow does not run the ONNX files of {model.folder}: leave out the runtime")
    if not as_exported and (runtime == "onnx" or model.kind == "saved_model"):
        raise InputError(
            f"{model.folder} is an exported graph, whose precision (float32) and input size cannot be "
            "chosen: leave them out, or load the model it was made of"
        )
    try:  # the runtimes are imported only where they are used: TensorFlow takes seconds
        if onnx and runtime == "onnx":
            from deepmac.inference.runtime_onnx import OnnxNetwork

            network: Network = OnnxNetwork(onnx, cores)
        elif model.kind == "saved_model":
            from deepmac.inference.exported import ExportedGraph

            network = ExportedGraph(model.folder)
        else:
            from deepmac.inference.load import InferenceNetwork, model_classes, trained_model

            classes = model_classes(model.folder)
            network = InferenceNetwork(*trained_model(model.folder), precision, input_size, classes)
    except ModuleNotFoundError as error:
        needed = missing_package(error)
        if onnx and not as_exported:
            needed = InputError(f"{name_or_path} is exported in float32 at one input size; else {needed}")
        raise needed from error
    network.calibration = model.calibration
    return Predictor(network)


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedImage:
    """An image with what the network made of it; boxes of it can be asked for at any time."""

    image: np.ndarray  # uint8 RGB [H, W, 3]
    embeddings: Any = None  # what the network's `encode` gave; None: it is encoded when a box needs it
    # float32 [2], the part (height, width) of the square network input that the image fills.
    part: np.ndarray = dataclasses.field(default_factory=lambda: np.ones(2, np.float32))
    detections: FoundObjects | None = None  # where the network was asked to detect


class Predictor:
    """Predicts the masks of objects in given boxes.

    `set_image` does most of the work, once for each image; `predict` then takes milliseconds a box:

        predictor = deepmac.load()
        predictor.set_image("picture.jpg")
        prediction = predictor.predict([[0.1, 0.2, 0.6, 0.7]])

    Threads may share a predictor: each call of `predict` sees one image from beginning to end, the
    one that was set last. Threads with images of their own use `encode` and `predict(..., encoded=...)`.
    """

    def __init__(self, network: Network):
        self._network = network
        self._encoded: EncodedImage | None = None

    @property
    def input_size(self) -> int | None:
        """Side of the square network input in pixels, to which images are scaled; None if a graph does it."""
        return self._network.input_size

    @property
    def precision(self) -> str:
        """'float32' or 'bfloat16'."""
        return self._network.precision

    def set_image(self, image) -> None:
        """Encodes the image that boxes will be given for.

        Args:
            image: uint8 RGB [H, W, 3], a path, a PIL image, or what else `deepmac.core.images.read_image`
                takes.

        Raises:
            InputError: not an image, or a damaged file.
        """
        self._encoded = self.encode(image)

    def encode(self, image, detect: bool = False) -> EncodedImage:
        """Encodes an image without setting it, see `set_image`; with `detect` also finds its objects."""
        image = read_image(image)
        return EncodedImage(image, *self._network.detect(image)) if detect else self._encode(image)

    def _encode(self, image: np.ndarray) -> EncodedImage:
        return EncodedImage(image, *self._network.encode(image))

    def predict(
        self,
        boxes,
        box_format: str = "yxyx_norm",
        *,
        encoded: EncodedImage | None = None,
        threshold: float = 0.5,
        closer: bool = True,
    ) -> Prediction:
        """Predicts the mask of the object in each box.

        Args:
            boxes: numbers [N, 4], N at least 1. What reaches beyond the image is clipped, with a warning.
            box_format: "yxyx_norm": (ymin, xmin, ymax, xmax) from 0 to 1; "xyxy": (xmin, ymin, xmax, ymax) in
                pixels of the image; "xywh": (xmin, ymin, width, height) in pixels of the image.
            encoded: from `encode`; the image that was set unless given.
            threshold: a pixel belongs to a mask when its probability is greater.
            closer: whether objects of large pictures that would be small in the network's input are looked at
                again, in squares around them, which takes as long as an image for each square.

        Returns:
            The masks, in the order of the boxes.

        Raises:
            InputError: no image was set; no boxes; a box, named by its index, is inverted, has no area,
                lies outside the image or is not a number.
        """
        encoded = encoded or self._encoded
        if encoded is None:
            raise InputError("no image yet: call set_image before predict")
        boxes = normalized_boxes(boxes, box_format, *encoded.image.shape[:2])
        mask_probs = self._mask_probs(encoded, boxes, closer)
        return Prediction(encoded.image, boxes, mask_probs, threshold, calibration=self._network.calibration)

    def _mask_probs(self, encoded: EncodedImage, boxes: np.ndarray, closer: bool) -> np.ndarray:
        """Masks in boxes, float32 [N, S, S]; with `closer` as `predict` says."""
        height, width = encoded.image.shape[:2]
        crops = plan_crops(boxes, height, width, self.input_size) if closer else {}
        rest = np.delete(np.arange(len(boxes)), [index for indices in crops.values() for index in indices])
        found = []
        if len(rest):
            whole = self._encode(encoded.image) if encoded.embeddings is None else encoded
            found.append((rest.tolist(), self._masks_of(whole, boxes[rest])))
        for (top, left, side), indices in crops.items():
            crop = self._encode(encoded.image[top : top + side, left : left + side])
            inside = boxes[indices] * ([height, width] * 2) - [top, left] * 2
            inside = np.clip(inside / np.tile(crop.image.shape[:2], 2), 0, 1).astype(np.float32)
            found.append((indices, self._masks_of(crop, inside)))
        order = np.argsort(np.concatenate([indices for indices, _ in found]))
        return np.concatenate([masks for _, masks in found])[order]

    def _masks_of(self, encoded: EncodedImage, boxes: np.ndarray) -> np.ndarray:
        return self._network.mask_probs(encoded.embeddings, boxes * np.tile(encoded.part, 2))

    def detect(
        self,
        image=None,
        min_score: float = 0.3,
        *,
        encoded: EncodedImage | None = None,
        closer: bool = True,
        max_overlap: float = 1.0,
    ) -> Prediction:
        """Finds objects of the classes the model was trained on, and predicts their masks.

        Args:
            image: as for `set_image`; the image that was set there stays.
            min_score: objects of lower score are left out, 0 to 1.
            encoded: instead of an image, one with `detections`.
            closer: as for `predict`.
            max_overlap: largest IoU of the boxes of two kept objects of any classes; 1, for COCO's AP: all.

        Returns:
            The objects, the most certain one first, with `scores`, `category_ids` and `names`; perhaps none.

        Raises:
            InputError: as `set_image`; the model finds no objects, but needs boxes.
        """
        encoded = encoded or self.encode(image, detect=True)
        if encoded.detections is None:
            raise InputError("this image was encoded without detections: give the image itself")
        boxes, scores, category_ids, names = encoded.detections
        boxes = np.clip(boxes / np.tile(encoded.part, 2), 0, 1)
        kept = np.flatnonzero((scores >= min_score) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        kept = kept[np.argsort(-scores[kept], kind="stable")]
        kept = kept[apart(boxes[kept], max_overlap)]
        boxes, mask_probs = boxes[kept], np.zeros((0, 1, 1), np.float32)
        if len(kept):
            mask_probs = self._mask_probs(encoded, boxes, closer)
        return Prediction(
            encoded.image,
            boxes,
            mask_probs,
            scores=scores[kept],
            category_ids=category_ids[kept],
            names=[names[i] for i in kept],
            calibration=self._network.calibration,
        )

    def predict_batch(
        self, images: Sequence, boxes: Sequence, box_format: str = "yxyx_norm", *, threshold: float = 0.5
    ) -> list[Prediction]:
        """Predicts masks in many images, one after the other: several at once would take longer.

        Args:
            images: as for `set_image`; of any sizes. The image that was set there stays.
            boxes: for each image its boxes, as for `predict`.
            box_format, threshold: of all, as for `predict`.

        Returns:
            One prediction for each image.

        Raises:
            InputError: as `set_image` and `predict`, naming the image by its index.
        """
        if len(images) != len(boxes):
            raise InputError(
                f"{len(images)} images, but boxes for {len(boxes)}: give a list of boxes for each image"
            )
        predictions = []
        for index, (image, given) in enumerate(zip(images, boxes, strict=True)):
            try:
                encoded = EncodedImage(read_image(image))
                predictions.append(self.predict(given, box_format, encoded=encoded, threshold=threshold))
            except InputError as error:
                raise InputError(f"image {index}: {error}") from error
        return predictions
