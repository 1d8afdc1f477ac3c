"""DeepMAC: segment objects of classes nobody drew masks for (arXiv 2104.00613).

Importing this package does not import TensorFlow; `load` does where a model needs it.
"""

import os
from importlib import import_module
from pathlib import Path

# TensorFlow's start-up messages are noise, except where they say why a GPU is not used.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1" if Path("/dev/nvidia0").exists() else "3")

# Model Garden is written for Keras 2 (tf_keras). TensorFlow would import Keras 3 too, a quarter of what a
# program needs to start.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

# Public name -> module that defines it; imported on first use, so that the command line is instant.
_LAZY = {
    "load": "deepmac.inference.predictor",
    "Predictor": "deepmac.inference.predictor",
    "Prediction": "deepmac.inference.prediction",
}

__all__ = ["Prediction", "Predictor", "__version__", "load"]


def __getattr__(name):
    if name == "__version__":
        return import_module("importlib.metadata").version("deepmac")
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'deepmac' has no attribute {name!r}")
