"""What `benchmark.ipynb` measures: time and memory, as ratios to what the same run measures."""

import dataclasses
import gc
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import psutil
import yaml
from official.core import config_definitions as cfg
from official.core import exp_factory

import deepmac
from deepmac.evaluation import MaskEvaluator
from deepmac.export.exporter import FORMATS
from deepmac.export.graphs import whole_graph
from deepmac.inference.exported import ExportedGraph
from deepmac.inference.load import InferenceNetwork, build_model, trained_model
from deepmac.inference.predictor import Predictor
from deepmac.suite.results import Claim, ResultRow, number
from deepmac.suite.rows import PreparedData
from deepmac.suite.suite import Dataset

_FULL_SIZE_CONFIG = Path("configs/center_net_deepmac_512x512_voc_only.yaml")
_SIDE = 512  # of a picture of noise, pixels
_MANY = 100  # boxes
_MIN_AREA = 16**2  # of a box, pixels; the IoU of smaller masks is that of their edges


@dataclasses.dataclass(frozen=True)
class Scope:
    """How much a profile measures.

    Attributes:
        repeats: calls of everything quick that is compared; their median counts.
        training_steps: timed steps of each way to train.
        compiles: whether to train with XLA too; it compiles for half a minute.
        memory_steps: training steps over which memory is watched.
        num_boxes: counts of boxes in one call.
        input_sizes: sides of the network input, pixels.
        batches: numbers of pictures, one after the other.
        agreement_pictures: whose masks are compared between precisions, at most.
        full_size_repeats: as `repeats`, for the published model; 0 leaves it out.
    """

    repeats: int = 9
    training_steps: int = 5
    compiles: bool = True
    memory_steps: int = 50
    num_boxes: tuple[int, ...] = (1, 4, 16, 64, 256)
    input_sizes: tuple[int, ...] = (128, 256, 384, 512)
    batches: tuple[int, ...] = (1, 2, 4, 8)
    agreement_pictures: int = 50
    full_size_repeats: int = 0


_FULL = Scope(
    repeats=15,
    training_steps=15,
    memory_steps=500,
    num_boxes=(1, 2, 4, 8, 16, 32, 64, 100, 128, 256),
    input_sizes=(128, 192, 256, 384, 512, 640, 768),
    batches=(1, 2, 4, 8, 16),
    full_size_repeats=5,
)
_SMOKE = Scope(1, 1, False, 2, (1, 4), (128, 384), (1, 2), agreement_pictures=8)
SCOPES = {"smoke": _SMOKE, "quick": Scope()}
SCOPES |= dict.fromkeys(("mini", "styles", "subset", "photographs", "paper"), _FULL)


def config_sha256(profile: str, dataset: Dataset) -> str:
    """Hash of what a profile measures, and of its pictures."""
    return hashlib.sha256(f"{SCOPES[profile]}{dataset.sha256}".encode()).hexdigest()


class Section(NamedTuple):
    """What one part of the benchmark found."""

    rows: Sequence[ResultRow]
    claims: Sequence[Claim] = ()

    def table(self):
        """Shows the rows as a pandas Styler: a line for each name, a column for each metric."""
        frame = pd.DataFrame([(row.name, row.metric, row.measurement.value) for row in self.rows])
        frame.columns = ["", "metric", "value"]
        table = frame.pivot_table("value", "", "metric", sort=False)[frame["metric"].unique()]
        return table.style.format(number, na_rep="")


def limited(text: str, value: float | None, unit="", at_most=0.0, at_least: float | None = None) -> Claim:
    """Claims that a value does not exceed a limit, or that it reaches one; undecided without a value."""
    if value is None:
        return Claim.checked(text, None, "not measured in the profiles smoke and quick")
    if at_least is None:
        return Claim.checked(text, bool(value <= at_most), f"{value:.3g}{unit}, at most {at_most:g}{unit}")
    return Claim.checked(text, bool(value >= at_least), f"{value:.3g}{unit}, at least {at_least:g}{unit}")


def interleaved(
    calls: Mapping[str, Callable[[], object]], repeats: int, warm_ups: int = 2
) -> dict[str, np.ndarray]:
    """Calls several things in turn, so that what disturbs the machine disturbs all of them alike.

    Args:
        calls: name -> what to call; it returns when everything is computed.
        repeats: timed calls of each.
        warm_ups: calls of each before: the first ones compile and prepare.

    Returns:
        Name -> float [2], medians: seconds of a call on the clock, which grow with what else the machine
        does, and seconds that the process computed, all threads together, which hardly do.
    """
    times = {name: [] for name in calls}
    for _ in range(warm_ups + repeats):
        for name, call in calls.items():
            cpu, wall = time.process_time(), time.perf_counter()
            call()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: np.median(rounds[warm_ups:], axis=0) for name, rounds in times.items()}


def resident() -> int:
    """Bytes of memory the process has."""
    gc.collect()
    return psutil.Process().memory_info().rss


def random_picture() -> np.ndarray:
    """Noise, uint8 RGB [512, 512, 3]; no time depends on what a picture shows."""
    return np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), np.uint8)


def random_boxes(count: int) -> np.ndarray:
    """Boxes float32 [count, 4], (ymin, xmin, ymax, xmax) normalised."""
    rng = np.random.default_rng(count)
    corners = rng.uniform(0, 0.6, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(0.1, 0.4, (count, 2))], axis=1).astype(np.float32)


def full_size_config() -> cfg.ExperimentConfig:
    """The published 512x512 model: Hourglass-104 with an hourglass52 mask head."""
    config = exp_factory.get_exp_config("deepmac_hourglass_coco")
    config.override(yaml.safe_load(_FULL_SIZE_CONFIG.read_text()), is_strict=False)
    return config


def measure_mini(scope: Scope, data: PreparedData) -> Section:
    """The shipped model in the runtime that `load` chooses; masks pasted into the picture."""
    config, restore = trained_model("mini")
    graph = _exported(build_model(config, restore, "float32"), config)
    times = _latencies(deepmac.load("mini"), graph, scope.repeats, warm_ups=3)
    agreement = mean_agreement(scope, data)
    first, following = (1000 * times[what][0] for what in ("first mask", "next box"))
    rows = [
        *latency_rows("mini, 384x384", times),
        ResultRow.exact("mini, masks in bfloat16 and float32", "mean IoU", agreement),
    ]
    claims = [
        limited("mini: image to first mask", first, " ms", at_most=150),
        limited("mini: each further box", following, " ms", at_most=15),
        limited("mini: masks in bfloat16 agree with float32, mean IoU", agreement, at_least=0.98),
    ]
    return Section(rows, claims)


def measure_full_size(scope: Scope) -> Section:
    """The published size with random weights, which take as long as trained ones."""
    limits = {
        "hourglass-104: image to first mask, part of the exported float32 graph's time": 0.45,
        "hourglass-104: each further box, part of the exported graph's time": 1 / 50,
        f"hourglass-104: {_MANY} boxes of a cached picture, part of the graph's extra time for {_MANY}": 0.6,
    }
    if not scope.full_size_repeats:
        return Section([], [limited(text, None) for text in limits])
    config = full_size_config().task
    before = resident()
    model = build_model(config, lambda model: None, "float32")
    weights = model.get_weights()
    graph = _exported(model, config)
    del model
    predictor = Predictor(InferenceNetwork(config, lambda model: model.set_weights(weights)))
    times = _latencies(predictor, graph, scope.full_size_repeats, warm_ups=1)
    held = (resident() - before) / sum(value.nbytes for value in weights)
    name = "hourglass-104, 512x512"
    rows = latency_rows(name, times)
    ratios = [row.measurement.value for row in rows if row.metric.startswith("time /")]
    claims = [
        limited(text, ratio, at_most=limit)
        for (text, limit), ratio in zip(limits.items(), ratios, strict=True)
    ]
    memory = ResultRow.exact(f"{name}, predictor and exported graph", "memory / weights", held)
    return Section([*rows, memory], claims)


def _exported(model, config) -> ExportedGraph:
    """The model as a SavedModel of images and boxes, which computes everything in every call."""
    with tempfile.TemporaryDirectory() as folder:
        FORMATS["saved_model"](whole_graph(model, config), Path(folder))
        return ExportedGraph(Path(folder) / "saved_model")


def _latencies(predictor: Predictor, graph: ExportedGraph, repeats: int, warm_ups: int):
    picture, one, many = random_picture(), random_boxes(1), random_boxes(_MANY)
    encoded = predictor.encode(picture)
    calls = {
        "first mask": lambda: predictor.predict(one, encoded=predictor.encode(picture)).masks,
        "next box": lambda: predictor.predict(one, encoded=encoded).masks,
        f"{_MANY} boxes": lambda: predictor.predict(many, encoded=encoded).mask_probs,
        "exported graph, 1 box": lambda: graph.outputs(picture[np.newaxis], one[np.newaxis]),
        f"exported graph, {_MANY} boxes": lambda: graph.outputs(picture[np.newaxis], many[np.newaxis]),
    }
    return interleaved(calls, repeats, warm_ups)


def latency_rows(name: str, times: Mapping[str, np.ndarray]) -> list[ResultRow]:
    """Rows of what was called: milliseconds, and parts of the graph's time, on the clock and computed."""
    rows = [ResultRow.exact(f"{name}: {what}", "ms", 1000 * wall) for what, (wall, _) in times.items()]
    first, following, many, graph, graph_many = times.values()
    # On a busy machine 100 boxes may seem to take no longer than 1.
    extra = np.maximum(graph_many - graph, 1e-9)
    for what, metric, (wall, cpu) in (
        ("first mask", "time / exported graph's", first / graph),
        ("next box", "time / exported graph's", following / graph),
        (f"{_MANY} boxes", f"time / exported graph's for {_MANY} over 1", many / extra),
    ):
        rows.append(ResultRow.exact(f"{name}: {what}", metric, wall))
        rows.append(ResultRow.exact(f"{name}: {what}", f"CPU {metric}", cpu))
    return rows


def mean_agreement(scope: Scope, data: PreparedData) -> float:
    """Mean IoU of the shipped model's masks in bfloat16 and float32, in the annotated boxes."""
    predictors = [deepmac.load("mini", precision=precision) for precision in ("float32", "bfloat16")]
    coco = json.loads(data.annotation_file.read_text())
    images = {image["id"]: image for image in coco["images"]}
    evaluator = MaskEvaluator(coco)
    ious = []
    for image_id in evaluator.image_ids[: scope.agreement_pictures]:
        image, boxes = images[image_id], evaluator.ground_truth(image_id).boxes
        sides = (boxes[:, 2:] - boxes[:, :2]) * (image["height"], image["width"])
        boxes = boxes[sides.prod(axis=1) >= _MIN_AREA]
        if len(boxes):
            path = data.coco_dir / "val2017" / image["file_name"]
            first, second = (p.predict(boxes, encoded=p.encode(path)).masks for p in predictors)  # (N, H, W)
            union = (first | second).sum(axis=(1, 2))
            ious += ((first & second).sum(axis=(1, 2)) / np.maximum(union, 1))[union > 0].tolist()
    return float(np.mean(ious))
