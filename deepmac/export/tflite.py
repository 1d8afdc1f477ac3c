"""Graphs as TFLite files, one each."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from deepmac.export.graphs import Graph

_SUFFIX = ".tflite"


class _Converted(tf.Module):
    """Keeps a function's variables, which TFLite makes constants of."""

    def __init__(self, function):
        super().__init__()
        self._variables = list(function.variables)


def write(graphs: Sequence[Graph], folder: Path):
    """Writes a file for each graph into a folder."""
    for graph in graphs:
        function = graph.function.get_concrete_function()
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function], _Converted(function))
        (folder / f"{graph.name}{_SUFFIX}").write_bytes(converter.convert())


def open_graphs(folder: Path) -> dict[str, Callable[..., dict[str, np.ndarray]]]:
    """Opens what `write` wrote: graph name -> a function of arrays by name, returning arrays by name."""
    return {path.stem: _open(path) for path in folder.glob(f"*{_SUFFIX}")}


def _open(path: Path):
    with warnings.catch_warnings():
        # It announces the interpreter's removal from later TensorFlows.
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
        interpreter = tf.lite.Interpreter(str(path))
    return interpreter.get_signature_runner()
