"""How the mini model's time grows with boxes, input size and pictures."""

import numpy as np
import pandas as pd

import deepmac
from deepmac.inference.predictor import Predictor
from lib.benchmark.prediction import random_boxes, random_picture
from lib.benchmark.record import Section, row
from lib.benchmark.scope import Benchmark
from lib.benchmark.timing import interleaved


def scaling(benchmark: Benchmark) -> dict[str, pd.DataFrame]:
    """Times calls of several sizes.

    Returns:
        "boxes" (in one call), "input size" (pixels) and "pictures" (encoded in one call) -> columns
        "time" (ms) and "ratio" to the first line's time.
    """
    predictor = deepmac.load("mini")
    calls = {
        "boxes": _box_calls(predictor, benchmark.scope.num_boxes),
        "input size": _size_calls(benchmark.scope.input_sizes),
        "pictures": _batch_calls(predictor, benchmark.scope.batches),
    }
    return {axis: _table(of_axis, benchmark.scope.repeats) for axis, of_axis in calls.items()}


def scaling_section(tables: dict[str, pd.DataFrame]) -> Section:
    """Rows of what `scaling` found."""
    return Section(
        [
            row(f"mini, {axis}: {value}", f"time / that of {table.index[0]}", ratio)
            for axis, table in tables.items()
            for value, ratio in table["ratio"].items()
        ]
    )


def _box_calls(predictor: Predictor, counts):
    encoded = predictor.encode(random_picture())

    def call(boxes):
        return lambda: predictor.predict(boxes, encoded=encoded)

    return {count: call(random_boxes(count)) for count in counts}


def _size_calls(sizes):
    picture = random_picture()

    def call(predictor):
        return lambda: [np.asarray(part) for part in predictor.encode(picture).embeddings]

    return {size: call(deepmac.load("mini", input_size=size)) for size in sizes}


def _batch_calls(predictor: Predictor, counts):
    picture = random_picture()

    def call(count):
        return lambda: predictor.predict_batch([picture] * count, [random_boxes(1)] * count, batch_size=count)

    return {count: call(count) for count in counts}


def _table(calls, repeats: int) -> pd.DataFrame:
    timings = interleaved(calls, repeats)
    times = pd.Series({key: 1000 * timing.wall for key, timing in timings.items()})
    return pd.DataFrame({"time": times, "ratio": times / times.iloc[0]})
