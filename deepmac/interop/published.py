"""Reads checkpoints of the published DeepMAC into the trainable model.

Every variable of the model gets the key it has in a published object-based checkpoint
(`published_variables`); restoring then compares keys and shapes, and says of each tensor of either side what
became of it. CenterNet detectors of the TF2 Object Detection API have the same keys without the mask head.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras
import yaml
from official.core import exp_factory
from official.modeling import hyperparams
from official.projects.centernet.modeling.layers import cn_nn_blocks
from official.vision.modeling.backbones import mobilenet
from official.vision.modeling.layers import nn_blocks

from deepmac.core.errors import InputError
from deepmac.core.files import atomic_folder
from deepmac.interop.pipeline import EXPERIMENT, pipeline_experiment
from deepmac.modeling.model import DeepMACModel, build_deepmac, save_model

REPORT_NAME = "import_report.txt"

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_BACKBONE = "model/_feature_extractor/_network"
_HEADS = "model/_prediction_head_dict"
_MASK_HEAD = "model/_mask_net"
# In the path to a variable of a head or a block -> in its key, replaced in this order; ".S" stands for "/".
_PUBLISHED_NAMES = {
    "heads/ct_heatmaps/": "object_center/",
    "heads/ct_size/": "box.Sscale/",
    "heads/ct_offset/": "box.Soffset/",
    "heads/instance_embedding/": "INSTANCE_EMBEDDING/",
    "heads/pixel_embedding/": "PIXEL_EMBEDDING/",
    "/layer_with_weights-": "/",
    "/conv1/": "/layer_with_weights-0/",
    "/conv2/": "/layer_with_weights-1/",
    "/inner_hg/blocks/": "/inner_block/",
    "/inner_hg": "/inner_block/0",
    "/_conv0/": "/conv/",
    "/_conv1/": "/conv_block/conv/",
    "/_norm1/": "/conv_block/norm/",
    "/_conv2/": "/conv/",
    "/_norm2/": "/norm/",
    "/_shortcut/": "/skip/conv/",
    "/_norm0/": "/skip/norm/",
}
# Keys of optimizer, counters, random state, and of what a checkpoint says of itself.
_TRAINING_STATE = re.compile(
    r".*/\.OPTIMIZER_SLOT/|optimizer/|(save_counter|step|global_step|_CHECKPOINTABLE_OBJECT_GRAPH)$"
    r"|model/_self_supervised_rng/|.*/\.ATTRIBUTES/OBJECT_CONFIG_JSON$"
)


class TensorReport(NamedTuple):
    """What became of one tensor.

    Attributes:
        status: "restored"; "training state", of no use to the model; or, of those left over, "another shape",
            "not in the model", and "not in the checkpoint", whose variables keep their initial values.
        key: in the checkpoint, or the variable's name if it has none.
        checkpoint_shape: None if it is not in the checkpoint.
        model_shape: None if it is not in the model.
    """

    status: str
    key: str
    checkpoint_shape: list[int] | None = None
    model_shape: list[int] | None = None

    def __str__(self):
        return f"{self.status}: {self.key}, checkpoint {self.checkpoint_shape}, model {self.model_shape}"


def misfits(report: Sequence[TensorReport]) -> list[TensorReport]:
    """Tensors left over on either side."""
    return [one for one in report if one.status not in ("restored", "training state")]


def summary(report: Sequence[TensorReport]) -> str:
    """Counts of tensors, then a line for every one left over."""
    counts = Counter(tensor.status for tensor in report)
    counted = ", ".join(f"{count} {status}" for status, count in counts.items())
    return "\n".join([f"Tensors: {counted}", *map(str, misfits(report))])


def published_variables(model: DeepMACModel) -> dict[str, tf.Variable]:
    """The key of every variable of a built model in a published checkpoint."""
    variables = _object_variables(_MASK_HEAD, model.mask_head)
    for prefix, part in ((_HEADS, model.head), *_backbone_blocks(model.backbone)):
        for key, variable in _object_variables(prefix, part).items():
            if isinstance(part, mobilenet.Conv2DBNBlock):
                key = key.replace("/_norm0/", "/norm/")
            for name, published_name in _PUBLISHED_NAMES.items():
                key = key.replace(name, published_name)
            variables[key] = variable
    return variables


def restore_published(
    model: DeepMACModel, checkpoint: str | os.PathLike, partial: bool = False
) -> list[TensorReport]:
    """Restores a published checkpoint into a built model.

    Nothing is assigned unless all fits. Kernels of 1x3 (embedding heads of later published versions) go into
    the middle row of 3x3 kernels, which gives the same values.

    Args:
        checkpoint: prefix such as `checkpoint/ckpt-0`, or a folder that holds a checkpoint.
        partial: warm start: restores what fits and leaves the rest as it is.

    Returns:
        What became of every tensor of the checkpoint, and of every variable of the model.

    Raises:
        InputError: no checkpoint there, or a damaged one; tensors of either side are left over (not with
            `partial`), or none fits.
    """
    prefix = find_checkpoint(checkpoint)
    variables = published_variables(model)
    try:
        reader = tf.train.load_checkpoint(prefix)
        report = list(_compare(reader.get_variable_to_shape_map(), variables, model))
        restored = [tensor.key for tensor in report if tensor.status == "restored"]
        values = {key: reader.get_tensor(key + _VALUE) for key in restored}
    except (tf.errors.OpError, IndexError, RuntimeError) as error:  # these do not say which file it is
        reason = str(error).split("\n")[0]
        raise InputError(f"{prefix} is damaged: {reason}. Copy or download the checkpoint again") from error
    left_over = misfits(report)
    if not values or (left_over and not partial):
        examples = "; ".join(map(str, left_over[:3]))
        raise InputError(
            f"{prefix} does not fit the model: {len(left_over)} tensors are left over, such as: {examples}. "
            "Compare the model's configuration with the checkpoint's pipeline.config"
        )
    for key in list(values):
        value, variable = values.pop(key), variables[key]
        if value.shape != variable.shape:  # `_compare` let pass that it fits in the middle
            value = np.pad(value, [(1, 1), (0, 0), (0, 0), (0, 0)])
        variable.assign(tf.cast(value, variable.dtype))
    return report


def find_checkpoint(path: str | os.PathLike) -> str:
    """The prefix of the checkpoint at `path`: a prefix, or a folder with a checkpoint or `checkpoint/`.

    Raises:
        InputError: there is none.
    """
    path = Path(path)
    if Path(f"{path}.index").is_file():
        return str(path)
    for folder in (path / "checkpoint", path):
        if prefix := tf.train.latest_checkpoint(str(folder)):
            return prefix
        found = list(folder.glob("*.index"))
        if len(found) == 1:
            return str(found[0].with_suffix(""))
    raise InputError(f"no checkpoint at {path}: give a prefix such as checkpoint/ckpt-0, or its folder")


def target_config(
    folder: str | os.PathLike,
    experiment: str = EXPERIMENT,
    config_files: Sequence[str] = (),
    params_override: str | None = None,
):
    """The configuration of the model a published checkpoint goes into.

    Args:
        folder: published folder; its `pipeline.config` counts where no file is given.
        experiment: name of a registered experiment, the base of `config_files`.
        config_files: YAML files with overrides, in their order.
        params_override: further overrides, as Model Garden's flag: "task.model.num_classes=5,...".

    Raises:
        OSError: the folder has no `pipeline.config`.
        InputError: another file is missing, or an override is unknown or malformed.
    """
    for name in config_files:
        if not Path(name).is_file():
            raise InputError(f"no such configuration file: {name}")
    config = None if config_files else pipeline_experiment(Path(folder) / "pipeline.config")
    try:
        config = config or exp_factory.get_exp_config(experiment)
        for source in (*config_files, *filter(None, [params_override])):
            config = hyperparams.override_params_dict(config, source, is_strict=True)
    except (ValueError, TypeError, LookupError, yaml.YAMLError) as error:
        raise InputError(f"configuration: {error.args[0] if error.args else error}") from error
    return config


def import_checkpoint(
    checkpoint: str | os.PathLike, config, model_dir: str | os.PathLike, partial: bool = False
) -> list[TensorReport]:
    """Writes a published checkpoint as a model directory of our training; arguments as `restore_published`.

    Args:
        config: `ExperimentConfig` of the model to fill.
        model_dir: new or empty folder; gets `params.yaml`, the checkpoint as Model Garden's trainer saves it,
            and the report.

    Raises:
        InputError: as `restore_published`, or `model_dir` is not empty.
    """
    with atomic_folder(model_dir) as folder:
        model = build_deepmac(config.task.model)
        report = restore_published(model, checkpoint, partial)
        config.override({"task": {"init_checkpoint": None}})  # the weights are here
        save_model(model, config, folder)
        table = "\n".join(map(str, report))
        (folder / REPORT_NAME).write_text(f"{summary(report)}\n\n{table}\n", encoding="utf-8")
    return report


def _compare(checkpoint_shapes, variables, model) -> Iterator[TensorReport]:
    """Accounts for every tensor of the checkpoint and every variable of the model."""
    shapes = {key.removesuffix(_VALUE): list(shape) for key, shape in checkpoint_shapes.items()}
    for key, shape in sorted(shapes.items()):
        if key in variables:
            model_shape = variables[key].shape.as_list()
            is_middle_row = (shape[:2], model_shape[:2], shape[2:]) == ([1, 3], [3, 3], model_shape[2:])
            status = "restored" if shape == model_shape or is_middle_row else "another shape"
            yield TensorReport(status, key, shape, model_shape)
        else:
            status = "training state" if _TRAINING_STATE.match(key) else "not in the model"
            yield TensorReport(status, key, shape)
    keys = {id(variable): key for key, variable in variables.items()}
    for variable in model.variables:
        key = keys.get(id(variable), variable.name)
        if key not in shapes:
            yield TensorReport("not in the checkpoint", key, model_shape=variable.shape.as_list())


def _backbone_blocks(backbone) -> Iterator[tuple[str, tf_keras.layers.Layer]]:
    """Blocks of Model Garden's `Hourglass`, a functional model, with what their keys begin with."""
    kinds = (mobilenet.Conv2DBNBlock, nn_blocks.ResidualBlock, cn_nn_blocks.HourglassBlock)
    convs, residuals, hourglasses = (
        [layer for layer in backbone.layers if isinstance(layer, kind)] for kind in kinds
    )
    yield f"{_BACKBONE}/downsample_input/conv_block", convs.pop(0)
    yield f"{_BACKBONE}/downsample_input/residual_block", residuals.pop(0)
    for stage, hourglass in enumerate(hourglasses):
        yield f"{_BACKBONE}/hourglass_network/{stage}", hourglass
        # Layers are sorted by their distance from the output; the intermediate convolutions, of the stage's
        # input and of its output, have the same, and come in the order of the sum they enter.
        names = ("output_conv", "intermediate_conv1", "intermediate_conv2")
        for name, conv in zip(names, convs[3 * stage : 3 * stage + 3], strict=False):
            yield f"{_BACKBONE}/{name}/{stage}", conv
        for residual in residuals[stage : stage + 1]:
            yield f"{_BACKBONE}/intermediate_residual/{stage}", residual


def _object_variables(prefix: str, root) -> dict[str, tf.Variable]:
    """Keys that a checkpoint of an object has: of the paths to a variable, the first in breadth."""
    view = tf.train.TrackableView(root)
    found, seen, queue = {}, set(), [(prefix, root)]
    while queue:
        path, node = queue.pop(0)
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, tf.Variable):
            found[path] = node
        queue += [(f"{path}/{name}", child) for name, child in view.children(node).items()]
    return found
