"""Latencies of the predictor against an exported graph of the same model."""

import gc
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import yaml
from official.core import exp_factory

import deepmac
from deepmac.export.formats import FORMATS
from deepmac.export.graphs import whole_graph
from deepmac.inference.exported import ExportedGraph
from deepmac.inference.find import find_model
from deepmac.inference.load import build_model, build_network, trained_model
from deepmac.inference.predictor import Predictor
from lib.benchmark.agreement import mean_agreement
from lib.benchmark.record import Section, at_least, at_most, row
from lib.benchmark.scope import Benchmark
from lib.benchmark.timing import Timing, interleaved, start_up_seconds
from lib.benchmark.training import FULL_SIZE_CONFIG

_SIDE = 512  # of the picture, pixels; nothing depends on what it shows
_MANY = 100  # boxes


class Ratios(NamedTuple):
    """The predictor's latencies as parts of the exported graph's."""

    first_mask: float
    next_box: float
    many_boxes: float


def measure_mini(benchmark: Benchmark) -> Section:
    """The shipped model, in the precision the hardware suggests; masks pasted into the picture."""
    config, restore = trained_model(find_model("mini").folder)
    graph = _exported(build_model(config, restore, "float32"), config)
    timings = _latencies(deepmac.load("mini"), graph, benchmark.scope.repeats, warm_ups=3)
    first, following = 1000 * timings["first mask"].wall, 1000 * timings["next box"].wall
    agreement = mean_agreement(benchmark)
    rows = [
        *_latency_rows("mini, 384x384", timings),
        row("mini, masks in bfloat16 and float32", "mean IoU", agreement),
    ]
    claims = [
        at_most("mini: image to first mask", first, 150, " ms"),
        at_most("mini: each further box", following, 15, " ms"),
        at_least("mini: masks in bfloat16 agree with float32, mean IoU", agreement, 0.98),
    ]
    return Section(rows, claims)


def measure_full_size(benchmark: Benchmark) -> Section:
    """Hourglass-104 at 512x512 with an hourglass52 mask head and random weights."""
    texts = (
        "hourglass-104: image to first mask, part of the exported float32 graph's time",
        "hourglass-104: each further box, part of the exported graph's time",
        f"hourglass-104: {_MANY} boxes of a cached picture, part of the graph's extra time for {_MANY}",
    )
    limits = Ratios(0.45, 1 / 50, 0.6)
    if not benchmark.scope.full_size_repeats:
        return Section([], [at_most(text, None, limit) for text, limit in zip(texts, limits, strict=True)])
    config = exp_factory.get_exp_config("deepmac_hourglass_coco")
    config.override(yaml.safe_load(FULL_SIZE_CONFIG.read_text()), is_strict=False)
    before = psutil.Process().memory_info().rss
    model = build_model(config.task, lambda model: None, "float32")
    weights = model.get_weights()
    graph = _exported(model, config.task)
    del model
    gc.collect()
    predictor = Predictor(build_network(config.task, lambda model: model.set_weights(weights)))
    timings = _latencies(predictor, graph, benchmark.scope.full_size_repeats, warm_ups=1)
    held = (psutil.Process().memory_info().rss - before) / sum(value.nbytes for value in weights)
    name = "hourglass-104, 512x512"
    rows = [
        *_latency_rows(name, timings),
        row(f"{name}, predictor and exported graph", "memory / weights", held),
    ]
    claims = [
        at_most(text, ratio, limit)
        for text, ratio, limit in zip(texts, _ratios(timings, "wall"), limits, strict=True)
    ]
    return Section(rows, claims)


def measure_start_up(benchmark: Benchmark) -> Section:
    """What a user waits for before anything is computed."""
    seconds = start_up_seconds(benchmark.scope.repeats)
    rows = [row(name, "ratio to Python alone", value / seconds["python"]) for name, value in seconds.items()]
    claims = [
        at_most("import deepmac is instant", seconds["import deepmac"], 0.3, " s"),
        at_most("deepmac --help is instant", seconds["deepmac --help"], 1, " s"),
    ]
    return Section(rows, claims)


def _exported(model, config) -> ExportedGraph:
    """The model as a SavedModel of images and boxes, which computes everything in every call."""
    with tempfile.TemporaryDirectory() as folder:
        FORMATS["saved_model"].write(whole_graph(model, config), Path(folder))
        return ExportedGraph(Path(folder) / "saved_model")


def _latencies(predictor: Predictor, graph: ExportedGraph, repeats: int, warm_ups: int) -> dict[str, Timing]:
    picture, one, many = random_picture(), random_boxes(1), random_boxes(_MANY)
    encoded = predictor.encode(picture)

    def first_mask():
        predictor.set_image(picture)
        return predictor.predict(one).masks

    calls = {
        "first mask": first_mask,
        "next box": lambda: predictor.predict(one, encoded=encoded).masks,
        f"{_MANY} boxes": lambda: predictor.predict(many, encoded=encoded).mask_probs,
        "exported graph, 1 box": lambda: graph.outputs(picture[np.newaxis], one[np.newaxis]),
        f"exported graph, {_MANY} boxes": lambda: graph.outputs(picture[np.newaxis], many[np.newaxis]),
    }
    return interleaved(calls, repeats, warm_ups)


def _ratios(timings: dict[str, Timing], clock: str) -> Ratios:
    first, following, many, graph, graph_many = timings.values()
    seconds = [getattr(timing, clock) for timing in (first, following, many, graph, graph_many - graph)]
    # On a busy machine 100 boxes may seem to take no longer than 1.
    return Ratios(seconds[0] / seconds[3], seconds[1] / seconds[3], seconds[2] / max(seconds[4], 1e-9))


def _latency_rows(name: str, timings: dict[str, Timing]):
    wall, cpu = (_ratios(timings, clock) for clock in ("wall", "cpu"))
    lines = (
        ("first mask", "time / exported graph's", wall.first_mask, cpu.first_mask),
        ("next box", "time / exported graph's", wall.next_box, cpu.next_box),
        (f"{_MANY} boxes", f"time / exported graph's for {_MANY} over 1", wall.many_boxes, cpu.many_boxes),
    )
    rows = [row(f"{name}: {what}", "ms", 1000 * timing.wall) for what, timing in timings.items()]
    for what, metric, wall_ratio, cpu_ratio in lines:
        rows.append(row(f"{name}: {what}", metric, wall_ratio))
        rows.append(row(f"{name}: {what}", f"CPU {metric}", cpu_ratio))
    return rows


def random_picture() -> np.ndarray:
    """Noise, uint8 RGB [512, 512, 3]."""
    return np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), np.uint8)


def random_boxes(count: int) -> np.ndarray:
    """Boxes float32 [count, 4], (ymin, xmin, ymax, xmax) normalised."""
    rng = np.random.default_rng(count)
    corners = rng.uniform(0, 0.6, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(0.1, 0.4, (count, 2))], axis=1).astype(np.float32)
