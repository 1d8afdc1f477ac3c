"""The fast evaluation backend against pycocotools, on the same detections."""

import numpy as np

from deepmac.core.categories import ALL_IDS
from deepmac.evaluation import MaskEvaluator
from deepmac.evaluation.baselines import BASELINES
from deepmac.evaluation.coco_ap import choose_backend
from lib.benchmark.record import Section, at_most, row
from lib.benchmark.scope import Benchmark
from lib.benchmark.timing import interleaved

_SAMPLES = 33  # of a mask, per side
_DIGITS = 6  # of AP from 0 to 1
_CALLS = 3  # of seconds each, which hardly differ
_REFERENCE = "pycocotools"


def measure_evaluation(benchmark: Benchmark) -> Section:
    """Times AP of masks and boxes with both backends, and compares every figure."""
    backends = dict.fromkeys([_REFERENCE, choose_backend("auto", ())])
    evaluators = {name: _filled(benchmark, name) for name in backends}
    figures = {}

    def evaluate(name):
        figures[name] = evaluators[name].result()

    calls = {name: lambda name=name: evaluate(name) for name in backends}
    timings = interleaved(calls, min(_CALLS, benchmark.scope.repeats), warm_ups=0)
    rows = [
        row(f"evaluation, {name}", "ratio to pycocotools", timing.wall / timings[_REFERENCE].wall)
        for name, timing in timings.items()
    ]
    if len(timings) == 1:
        return Section(rows, [at_most("the fast evaluation backend is installed", None, 1 / 3)])
    [fast] = set(timings) - {_REFERENCE}
    difference = _largest_difference(figures[_REFERENCE], figures[fast])
    rows.append(row(f"evaluation, {fast}", "largest difference of a figure, 0 to 1", difference))
    claims = [
        at_most(
            "the fast evaluation backend takes a third of pycocotools' time",
            timings[fast].wall / timings[_REFERENCE].wall,
            1 / 3,
        ),
        at_most("both backends give the same figures", difference, 0.5 * 10**-_DIGITS),
    ]
    return Section(rows, claims)


def _filled(benchmark: Benchmark, backend: str) -> MaskEvaluator:
    """An evaluator with detections around and beside the annotated objects of the profile's pictures."""
    every = MaskEvaluator(benchmark.data.annotation_file, backend=backend)
    image_ids = every.image_ids[: benchmark.scope.pictures]
    evaluator = MaskEvaluator(benchmark.data.annotation_file, image_ids=image_ids, backend=backend)
    rng = np.random.default_rng(0)
    mask = BASELINES["ellipse"](_SAMPLES)
    count = benchmark.scope.detections
    for image_id in image_ids:
        truth = evaluator.ground_truth(image_id)
        chosen = rng.integers(0, len(truth.boxes), count) if len(truth.boxes) else None
        boxes = np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=1).reshape(count, 4)
        classes = rng.choice(ALL_IDS, count)
        if chosen is not None:
            near = rng.random(count) < 0.7
            moved = truth.boxes[chosen] + rng.normal(0, 0.02, (count, 4))
            boxes = np.where(near[:, np.newaxis], np.clip(moved, 0, 1), boxes)
            classes = np.where(near, truth.classes[chosen], classes)
        scores = rng.random(count)
        evaluator.add(image_id, boxes, classes, scores, np.repeat(mask[np.newaxis], count, axis=0))
    return evaluator


def _largest_difference(first: dict[str, float], second: dict[str, float]) -> float:
    """Of the same figures, in percent, as parts of 1; figures without ground truth are NaN in both."""
    values = np.array([(first[name], second[name]) for name in first], np.float64)
    if not np.array_equal(*np.isnan(values).T):
        return np.inf
    return float(np.nanmax(np.abs(values[:, 0] - values[:, 1]))) / 100
