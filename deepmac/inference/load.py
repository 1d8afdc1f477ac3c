"""The two halves of a trained model, compiled: image to embeddings, boxes to masks."""

import contextlib
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from official.modeling import optimization
from official.projects.centernet.modeling.backbones.hourglass import HOURGLASS_SPECS

from deepmac import configs
from deepmac.core.categories import COCO_CATEGORIES
from deepmac.core.errors import InputError
from deepmac.core.machine import resolve_precision
from deepmac.data.classes import read_classes
from deepmac.data.preprocessing import network_input
from deepmac.inference.find import PARAMS_FILE, PIPELINE_FILE, find_model, read_params
from deepmac.inference.folding import fold
from deepmac.inference.network import TENSORFLOW_LOCK, FoundObjects, Network
from deepmac.interop.pipeline import pipeline_experiment
from deepmac.interop.published import find_checkpoint, restore_published
from deepmac.modeling.keras_fixes import compute_dtype
from deepmac.modeling.model import DeepMACModel, build_deepmac

# What bounds the memory of a call: boxes, and boxes times positions a mask is predicted at.
_MOST_BOXES, _MOST_POSITIONS = 64, 64 * 64 * 64
COCO_CLASSES = tuple(category._asdict() for category in COCO_CATEGORIES)


class InferenceNetwork(Network):
    """A trained model, compiled for one input size and precision."""

    def __init__(
        self,
        config: configs.DeepMACTaskConfig,
        restore: Callable[[DeepMACModel], object],
        precision: str = "auto",
        input_size: int | None = None,
        classes: Sequence[dict] = COCO_CLASSES,
    ):
        """Builds a model, restores its weights and compiles it; the part that detects when it is asked to.

        Arguments and errors as `build_model`, where 'auto' is bfloat16 if the hardware computes with it;
        `classes` come from `model_classes`.
        """
        self.precision = resolve_precision(precision)
        model = build_model(config, restore, self.precision, input_size)
        self._model, self._config = model, config
        self._classes = {entry["id"]: (entry.get("file_id", entry["id"]), entry["name"]) for entry in classes}
        self._normalization = normalization(config)
        self.input_size: int = config.model.input_size[0]
        self._image = tf.TensorSpec([1, *config.model.input_size])
        self._encode = fold(model.encode, [self._image])
        outputs = self._encode.get_concrete_function().outputs
        maps = [tf.TensorSpec(output.shape, output.dtype) for output in outputs]
        self._masks = fold(model.mask_probs, [*maps, tf.TensorSpec([1, None, 4])])
        self.most_boxes = most_boxes(config.model.mask_head, maps[1].shape[1:3])

    def _prepare(self, image: np.ndarray) -> tuple[tf.Tensor, np.ndarray]:
        """The network input, float32 [1, S, S, 3], and the part of it that the picture fills."""
        pixels, part = network_input(image, self.input_size, **self._normalization)
        return pixels, part.numpy()

    def encode(self, image: np.ndarray) -> tuple[list[tf.Tensor], np.ndarray]:
        """Gives the instance embedding [1, h, w, E] and the pixel embedding [1, h, w, D]; see `Network`."""
        pixels, part = self._prepare(image)
        with TENSORFLOW_LOCK:
            return self._encode(pixels), part

    def detect(self, image: np.ndarray) -> tuple[list[tf.Tensor], np.ndarray, FoundObjects]:
        """As `encode`, with what was found."""
        pixels, part = self._prepare(image)
        with TENSORFLOW_LOCK:
            *embeddings, boxes, class_ids, scores = self._detect(pixels)
        found = self._named(boxes[0].numpy(), class_ids[0].numpy().astype(np.int64), scores[0].numpy())
        return embeddings, part, found

    @cached_property
    def _detect(self):
        if not self._config.losses.detection.object_center_weight:
            raise InputError(
                "this model was trained on masks in boxes and finds no objects: give boxes, or load one of "
                "`deepmac finetune`"
            )
        return fold(self._model.encode_and_detect, [self._image])

    def _named(self, boxes, class_ids, scores) -> FoundObjects:
        """The detections of a picture that are of a category: ids between COCO's are of none."""
        kept = np.isin(class_ids, list(self._classes)) & (scores > 0)
        categories = [self._classes[class_id] for class_id in class_ids[kept].tolist()]
        category_ids = np.array([category_id for category_id, _ in categories], np.int64)
        return FoundObjects(boxes[kept], scores[kept], category_ids, [name for _, name in categories])

    def _masks_of_call(self, embeddings: list[tf.Tensor], boxes: np.ndarray) -> np.ndarray:
        with TENSORFLOW_LOCK:
            return self._masks(*embeddings, boxes)[0].numpy()


def model_classes(name_or_path: str | os.PathLike) -> Sequence[dict]:
    """The classes a model detects, as from `read_classes`: those in its folder, else COCO's."""
    return read_classes(find_model(name_or_path).folder) or COCO_CLASSES


def build_model(
    config: configs.DeepMACTaskConfig,
    restore: Callable[[DeepMACModel], object],
    precision: str,
    input_size: int | None = None,
) -> DeepMACModel:
    """Builds a model for inference and restores its weights; `config` becomes the one it was built from.

    Args:
        restore: puts the trained weights into the model it is called with.
        precision: 'float32' or 'bfloat16'.
        input_size: side of the network input in pixels; the configuration's unless given.

    Raises:
        InputError: an input size that does not fit the network; unknown precision.
    """
    model_config = config.model
    # Statistics are not updated in inference, let alone over replicas; the fused kernel is quicker.
    model_config.norm_activation.use_sync_bn = False
    if input_size is not None:
        model_config.input_size = [input_size, input_size, 3]
    _check_input_size(model_config)
    with compute_dtype(precision), without_warnings():
        model = build_deepmac(model_config)
    restore(model)
    return model


def most_boxes(mask_head: configs.MaskHeadConfig, map_size: Sequence[int]) -> int | None:
    """How many boxes the mask head takes at once, which bounds memory; None: all of a picture.

    `map_size` is height and width of the pixel embedding.
    """
    if not mask_head.predict_full_resolution_masks:
        positions = mask_head.mask_size**2
    elif mask_head.resize_by_box_count:
        return None  # the published slip makes masks depend on how many boxes are predicted together
    else:
        positions = int(np.prod(map_size))
    return min(_MOST_BOXES, max(1, _MOST_POSITIONS // positions))


def normalization(config: configs.DeepMACTaskConfig) -> dict[str, Any]:
    """Arguments of `preprocessing.normalize`, as the model was trained with."""
    parser = config.validation_data.parser
    return {
        "bgr_ordering": parser.bgr_ordering,
        "channel_means": parser.channel_means,
        "channel_stds": parser.channel_stds,
    }


def trained_model(
    name_or_path: str | os.PathLike,
) -> tuple[configs.DeepMACTaskConfig, Callable[[DeepMACModel], object]]:
    """Reads what describes a trained model, by a name or path as for `find_model`, and finds its weights.

    Returns:
        The configuration, and what puts the weights, of the last checkpoint, into a model built from it. It
        raises `InputError` if the weights are damaged or do not fit.

    Raises:
        InputError: no such model, or a graph; the checkpoint is missing, or the configuration damaged.
    """
    model = find_model(name_or_path)
    if model.kind != "checkpoint":
        raise InputError(f"{model.folder} is an exported graph: give the model it was made of")
    folder = model.folder
    if not (folder / PARAMS_FILE).is_file():
        config, published = pipeline_experiment(folder / PIPELINE_FILE).task, find_checkpoint(folder)
        return config, lambda model: restore_published(model, published)
    checkpoint = tf.train.latest_checkpoint(folder)
    if checkpoint is None:
        raise InputError(f"no checkpoint in {folder}: training writes ckpt-* there")

    def restore(model):
        try:
            status = tf.train.Checkpoint(**model.checkpoint_items).restore(checkpoint)
            status.expect_partial().assert_existing_objects_matched()
            _restore_averages(model, checkpoint)
        except (ValueError, AssertionError, IndexError, tf.errors.OpError) as error:
            reason = str(error).split("\n")[0]
            raise InputError(f"{checkpoint} does not fit {folder / 'params.yaml'}: {reason}") from error

    return read_task_config(folder / PARAMS_FILE), restore


def _restore_averages(model, checkpoint):
    """Takes the moving averages of the weights where training kept them, as its evaluation does."""
    names = tf.train.load_checkpoint(checkpoint).get_variable_to_shape_map()
    if not any(".OPTIMIZER_SLOT/optimizer/average/" in name for name in names):
        return
    optimizer = optimization.ExponentialMovingAverage(tf_keras.optimizers.legacy.SGD())
    optimizer.shadow_copy(model)
    tf.train.Checkpoint(**model.checkpoint_items, optimizer=optimizer).restore(checkpoint).expect_partial()
    optimizer.assign_average_vars(model.trainable_variables)


def read_task_config(path: Path) -> configs.DeepMACTaskConfig:
    """Reads the task's configuration from the `params.yaml` of a model directory.

    Raises:
        InputError: not YAML, or not the configuration of a DeepMAC task.
    """
    try:
        config = configs.DeepMACTaskConfig()
        config.override(read_params(path)["task"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} does not describe a DeepMAC experiment: {reason}") from error
    return config


@contextlib.contextmanager
def without_warnings():
    """Silences TensorFlow about deprecated names in Model Garden, and about files it writes."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)


def _check_input_size(config):
    height, width = config.input_size[:2]
    if height != width:
        raise InputError(f"the predictor needs a square network input, not {height} x {width}")
    if config.backbone.type == "hourglass":
        levels = len(HOURGLASS_SPECS[config.backbone.hourglass.model_id]["blocks_per_stage"])
        stride = 4 * 2 ** (levels - 1)
        if height < stride or height % stride:
            raise InputError(f"input_size must be a multiple of {stride} for this network, not {height}")
