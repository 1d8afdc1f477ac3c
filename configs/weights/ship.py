"""Writes weights to ship: `python configs/weights/ship.py MODEL_DIR OUT INPUT_SIZE`.

What only training needs, optimizer state and paths of the machine, is left out; ONNX files, which need no
TensorFlow, are added in the folder `onnx`. `make weights` trains the model of the package and calls this;
`papermill_runs/README.md` says when it serves a reference run.
"""

import sys
from pathlib import Path

from official.core import exp_factory

from deepmac.core.files import atomic_folder
from deepmac.export.exporter import export_model
from deepmac.inference.load import build_model, trained_model
from deepmac.modeling.model import save_model


def write_shipped_weights(model_dir: str | Path, out: str | Path, input_size: int):
    """Copies a trained model in the layout `deepmac.load` reads.

    Args:
        model_dir: written by training; its last checkpoint counts.
        out: new or empty folder.
        input_size: side of the network input in pixels to load the model with.

    Raises:
        InputError: no trained model there.
    """
    config, restore = trained_model(model_dir)
    config.train_data.input_path = config.validation_data.input_path = config.annotation_file = ""
    config.init_checkpoint = None
    model = build_model(config, restore, "float32", input_size)
    # A few steps on few pictures of one's own spoil what the first blocks have learnt (docs/measurements.md).
    config.model.backbone.efficientnet_lite.num_frozen_blocks = 3
    params = exp_factory.get_exp_config("deepmac_mini")
    no_best = {"best_checkpoint_eval_metric": "", "best_checkpoint_export_subdir": ""}
    params.override({"task": config.as_dict(), "trainer": no_best})
    with atomic_folder(out) as folder:
        save_model(model, params, folder)
    export_model(out, Path(out) / "onnx", "onnx")


if __name__ == "__main__":
    write_shipped_weights(sys.argv[1], sys.argv[2], int(sys.argv[3]))
