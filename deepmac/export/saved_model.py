"""Graphs as signatures of one SavedModel, which share their variables."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from deepmac.export.graphs import Graph
from deepmac.inference.exported import read_saved_model
from deepmac.inference.load import without_warnings

_FOLDER = "saved_model"


class _Served(tf.Module):
    """What a SavedModel holds: functions and the variables they read; no Keras objects."""

    def __init__(self, graphs: Sequence[Graph]):
        super().__init__()
        self._functions = {graph.name: graph.function for graph in graphs}
        variables = [v for graph in graphs for v in graph.function.get_concrete_function().variables]
        self._variables = list({id(variable): variable for variable in variables}.values())


def write(graphs: Sequence[Graph], folder: Path):
    """Writes `saved_model/` into a folder."""
    signatures = {graph.name: graph.function for graph in graphs}
    with without_warnings():
        tf.saved_model.save(_Served(graphs), str(folder / _FOLDER), signatures=signatures)


def open_graphs(folder: Path) -> dict[str, Callable[..., dict[str, np.ndarray]]]:
    """Opens what `write` wrote: graph name -> a function of arrays by name, returning arrays by name."""
    model = read_saved_model(folder / _FOLDER)

    def runner(signature):
        def run(**inputs):
            outputs = signature(**{name: tf.constant(value) for name, value in inputs.items()})
            return {name: value.numpy() for name, value in outputs.items()}

        run.model = model  # its variables live as long as it does
        return run

    return {name: runner(signature) for name, signature in model.signatures.items()}
