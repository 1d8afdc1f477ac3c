"""Parts of the benchmark; `test_reproduction.py` executes its notebook."""

import json
import time

import numpy as np
import pytest
import synthetic
import tensorflow as tf
import yaml

from deepmac.core.errors import InputError
from deepmac.data.coco import read_coco_folder
from deepmac.data.tfrecords import write_tfrecords
from deepmac.suite.rows import PreparedData
from deepmac.suite.suite import SUITE_FILE
from lib.benchmark import (
    agreement,
    charts,
    convolutions,
    evaluating,
    prediction,
    record,
    scaling,
    timing,
)
from lib.benchmark.convolutions import (
    Convolution,
    convolution_operations,
    fastest_convolutions,
)
from lib.benchmark.scope import _SCOPES, Benchmark


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """The smallest scope, with drawn pictures."""
    folder = tmp_path_factory.mktemp("coco")
    synthetic.write_splits(folder, (96, 128), num_images=4, shape="ellipse")
    write_tfrecords(read_coco_folder(folder), folder / "records")
    data = PreparedData(folder, folder / "records")
    return Benchmark("smoke", _SCOPES["smoke"], data, sha256="0" * 64)


def test_things_are_called_in_turn_and_warm_ups_do_not_count():
    calls = []

    def pause(name):
        calls.append(name)
        time.sleep(0.2 if calls.count(name) == 1 else 0.01 if name == "a" else 0.03)

    timings = timing.interleaved(
        {name: lambda name=name: pause(name) for name in "ab"}, repeats=3, warm_ups=1
    )
    assert "".join(calls) == "abababab"
    assert 0.01 <= timings["a"].wall < 0.1
    assert timings["b"].wall >= 0.03
    assert timings["a"].cpu < timings["a"].wall, "a pause is no work"


def test_differences_are_those_of_the_same_round():
    busy_at_last = timing.Timing((1.0, 2.0, 9.0), (1.0, 1.0, 1.0)), timing.Timing((0.5, 1.5, 8.5), (0.7,) * 3)
    assert (busy_at_last[0] - busy_at_last[1]).wall == 0.5
    assert (busy_at_last[0] - busy_at_last[1]).cpu == pytest.approx(0.3)


def test_start_up_is_that_of_fresh_processes():
    seconds = timing.start_up_seconds(repeats=1)
    assert set(seconds) == {"python", "import deepmac", "deepmac --help"}
    assert 0 < seconds["python"] < 10


def test_operations_are_those_of_convolutions():
    @tf.function(input_signature=[tf.TensorSpec([2, 8, 10, 3])])
    def network(image):
        net = tf.nn.conv2d(image, tf.ones([3, 3, 3, 5]), 2, "SAME")  # (2, 4, 5, 5)
        return tf.nn.conv2d(net, tf.ones([1, 1, 5, 7]), 1, "VALID")

    expected = 2 * (2 * 4 * 5 * 5) * (3 * 3 * 3) + 2 * (2 * 4 * 5 * 7) * 5
    assert convolution_operations(network.get_concrete_function()) == expected


@pytest.mark.parametrize(("padding", "outputs"), [("SAME", 2 * 4 * 5 * 5), ("VALID", 2 * 3 * 4 * 5)])
def test_gradients_of_a_convolution_take_what_it_takes(padding, outputs):
    kernel = tf.Variable(tf.ones([3, 3, 3, 5]))

    @tf.function(input_signature=[tf.TensorSpec([2, 8, 10, 3])])
    def gradients(image):
        with tf.GradientTape() as tape:
            tape.watch(image)
            loss = tf.reduce_sum(tf.nn.conv2d(image, kernel, 2, padding) ** 2)
        return tape.gradient(loss, [image, kernel])

    forward = 2 * outputs * (3 * 3 * 3)
    assert convolution_operations(gradients.get_concrete_function()) == 3 * forward


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_peaks_are_plausible(monkeypatch, has_bfloat16):
    monkeypatch.setattr(convolutions, "computes_bfloat16", lambda: has_bfloat16)
    peaks = fastest_convolutions(repeats=1)
    assert set(peaks) == ({"float32", "bfloat16"} if has_bfloat16 else {"float32"})
    assert all(1e8 < peak.rate < 1e15 for peak in peaks.values())


def test_the_share_of_a_peak_is_measured_under_the_same_load():
    peak = Convolution(lambda: None, operations=100.0, rate=100.0)
    busy = timing.Timing((2.0,), (1.0,))  # half as fast as when it was chosen
    assert peak.share(busy, 50.0, timing.Timing((4.0,), (1.0,))) == (50 / 4) / (100 / 2)


def test_ious_of_masks():
    first = np.zeros((3, 4, 4), bool)
    second = first.copy()
    first[0, :2], second[0, 1:3] = True, True  # 8 pixels each, 4 in common
    first[1, 0] = True  # nothing in common
    np.testing.assert_allclose(agreement.mask_ious(first, second), [4 / 12, 0, 1])


def test_precisions_agree_on_drawn_objects(benchmark):
    assert 0.9 < agreement.mean_agreement(benchmark) <= 1


def test_backends_are_compared_figure_by_figure(benchmark):
    section = evaluating.measure_evaluation(benchmark)
    assert [row.name for row in section.rows][:2] == [
        "evaluation, pycocotools",
        "evaluation, faster_coco_eval",
    ]
    assert section.rows[0].measurement.value == 1
    assert section.claims[1].holds is True
    assert evaluating._largest_difference(
        {"AP": 50.0, "x": np.nan}, {"AP": 50.1, "x": np.nan}
    ) == pytest.approx(1e-3)
    assert evaluating._largest_difference({"AP": 50.0}, {"AP": np.nan}) == np.inf


def test_the_evaluated_detections_are_neither_all_right_nor_all_wrong(benchmark):
    metrics = evaluating._filled(benchmark, "pycocotools").result()
    assert 0.5 < metrics["box/AP50"] < 99


def test_latencies_are_ratios_to_the_exported_graph():
    walls = {"first mask": 0.4, "next box": 0.01, "100 boxes": 0.3, "graph": 1.0, "graph, 100": 1.6}
    timings = {name: timing.Timing((wall,), (2 * wall,)) for name, wall in walls.items()}
    values = {(row.name, row.metric): row.measurement.value for row in prediction._latency_rows("m", timings)}
    for clock in ("", "CPU "):
        assert values["m: first mask", f"{clock}time / exported graph's"] == pytest.approx(0.4)
        assert values["m: next box", f"{clock}time / exported graph's"] == pytest.approx(0.01)
        extra = values["m: 100 boxes", f"{clock}time / exported graph's for 100 over 1"]
        assert extra == pytest.approx(0.3 / 0.6)
    assert values["m: graph", "ms"] == 1000


def test_the_full_size_is_left_out_of_short_profiles(benchmark):
    section = prediction.measure_full_size(benchmark)
    assert not section.rows
    assert [claim.holds for claim in section.claims] == [None] * 3


def test_scaling_is_relative_to_the_smallest(benchmark):
    tables = scaling.scaling(benchmark)
    assert {axis: tuple(table.index) for axis, table in tables.items()} == {
        "boxes": benchmark.scope.num_boxes,
        "input size": benchmark.scope.input_sizes,
        "pictures": benchmark.scope.batches,
    }
    for table in tables.values():
        np.testing.assert_allclose(table["ratio"], table["time"] / table["time"].iloc[0])
        assert table["ratio"].iloc[0] == 1
    assert len(charts.scaling_chart(tables).axes) == 3
    assert len(scaling.scaling_section(tables).rows) == sum(map(len, tables.values()))


@pytest.mark.parametrize(
    ("claim", "holds"),
    [
        (record.at_most("a", 2.0, 2), True),
        (record.at_most("a", 2.1, 2), False),
        (record.at_most("a", None, 2), None),
        (record.at_least("a", 2.0, 2), True),
        (record.at_least("a", 1.9, 2), False),
        (record.at_least("a", None, 2), None),
    ],
)
def test_claims_compare_with_their_limit(claim, holds):
    assert claim.holds is holds


def test_results_are_written(benchmark, tmp_path):
    section = record.Section([record.row("step", "ratio", 0.123)], [record.at_most("fast", 0.1, 0.2, " s")])
    record.write(None, benchmark, {}, [section], time.monotonic())
    record.write(tmp_path / "benchmark.json", benchmark, {"profile": "smoke"}, [section], time.monotonic())
    document = json.loads((tmp_path / "benchmark.json").read_text())
    assert document["notebook"] == "benchmark"
    assert document["rows"][0] | {"name": "step", "measured": 0.12, "published": None} == document["rows"][0]
    assert document["claims"] == [{"text": "fast", "holds": True, "evidence": "0.1 s, at most 0.2 s"}]
    assert "0.123" in record.rows_table(section).to_html()


def test_every_profile_has_a_scope():
    profiles = yaml.safe_load(SUITE_FILE.read_text())["profiles"]
    assert set(_SCOPES) == set(profiles)
    assert not _SCOPES["quick"].full_size_repeats
    assert _SCOPES["mini"].full_size_repeats
    with pytest.raises(InputError, match="unknown profile"):
        Benchmark.of_profile("huge", "runs")
