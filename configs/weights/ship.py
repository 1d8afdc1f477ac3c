"""Writes weights to ship: `python configs/weights/ship.py OUT INPUT_SIZE MODEL_DIR...`.

Of several models, trained on from the same weights, the mean is shipped (arXiv 2203.05482): it takes as long
as one. A model that is named twice counts twice. What only training needs, optimizer state and paths of the
machine, is left out; ONNX files, which need no TensorFlow, are added in the folder `onnx`. `make weights`
trains the model of the package and calls this; `papermill_runs/README.md` says when it serves a reference
run.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from official.core import exp_factory

from deepmac.core.files import atomic_folder
from deepmac.export.exporter import export_model
from deepmac.inference.load import build_model, trained_model
from deepmac.modeling.model import save_model


def write_shipped_weights(
    model_dirs: Sequence[str | Path], out: str | Path, input_size: int, threshold: float = 0.5
):
    """Copies trained models, or the mean of several, in the layout `deepmac.load` reads.

    Args:
        model_dirs: written by training, of one configuration of the model; the last checkpoints count.
        out: new or empty folder.
        input_size: side of the network input in pixels to load the model with.
        threshold: the probability that masks are best cut at; the last bias makes it 0.5.

    Raises:
        InputError: no trained model there.
    """
    weights = {}
    for model_dir in dict.fromkeys(model_dirs):
        config, restore = trained_model(model_dir)
        # A few steps on one's own pictures spoil what the first blocks have learnt (docs/measurements.md).
        config.model.backbone.efficientnet_lite.num_frozen_blocks = 3
        model = build_model(config, restore, "float32", input_size)
        weights[model_dir] = model.get_weights()
    counted = [weights[model_dir] for model_dir in model_dirs]
    model.set_weights([np.mean(values, axis=0) for values in zip(*counted, strict=True)])
    [bias] = [variable for variable in model.mask_head.weights if "/bias" in variable.name]
    bias.assign_sub([np.log(threshold / (1 - threshold))])
    config.train_data.input_path = config.validation_data.input_path = config.annotation_file = ""
    config.init_checkpoint = None
    params = exp_factory.get_exp_config("deepmac_mini")
    no_best = {"best_checkpoint_eval_metric": "", "best_checkpoint_export_subdir": ""}
    params.override({"task": config.as_dict(), "trainer": no_best})
    with atomic_folder(out) as folder:
        save_model(model, params, folder)
    export_model(out, Path(out) / "onnx", "onnx")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("input_size", type=int)
    parser.add_argument("model_dirs", nargs="+", type=Path)
    parser.add_argument("--threshold", type=float, default=0.5, help="that becomes 0.5")
    options = parser.parse_args()
    write_shipped_weights(options.model_dirs, options.out, options.input_size, options.threshold)
