"""Parts of the benchmark; `test_reproduction.py` executes its notebook."""

import json
import time

import numpy as np
import pytest
import synthetic
import tensorflow as tf
import yaml

from deepmac.data.coco import read_coco_folder
from deepmac.data.tfrecords import write_tfrecords
from deepmac.suite.rows import PreparedData
from deepmac.suite.suite import SUITE_FILE, Suite
from lib import benchmark, benchmark_training, own_data
from lib.benchmark import SCOPES, interleaved, limited
from lib.benchmark_training import Work, convolution_operations, fastest_convolutions

SMOKE = SCOPES["smoke"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Drawn pictures."""
    folder = tmp_path_factory.mktemp("coco")
    synthetic.write_splits(folder, (96, 128), num_images=4, shape="ellipse")
    write_tfrecords(read_coco_folder(folder), folder / "records")
    return PreparedData(folder, folder / "records")


def test_things_are_called_in_turn_and_warm_ups_do_not_count():
    calls = []

    def pause(name):
        calls.append(name)
        time.sleep(0.2 if calls.count(name) == 1 else 0.01 if name == "a" else 0.03)

    times = interleaved({name: lambda name=name: pause(name) for name in "ab"}, repeats=3, warm_ups=1)
    assert "".join(calls) == "abababab"
    wall, cpu = times["a"]
    assert 0.01 <= wall < 0.1
    assert times["b"][0] >= 0.03
    assert cpu < wall, "a pause is no work"


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
def test_peaks_are_plausible(monkeypatch, capsys, has_bfloat16):
    monkeypatch.setattr(benchmark_training, "computes_bfloat16", lambda: has_bfloat16)
    peaks = fastest_convolutions(repeats=1)
    assert set(peaks) == ({"float32", "bfloat16"} if has_bfloat16 else {"float32"})
    rates = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
    assert all(0.1 < rate < 1e6 for rate in rates)


def test_the_share_of_a_peak_is_measured_under_the_same_load():
    peak, step = Work(lambda: None, 100.0), Work(lambda: None, 50.0)
    assert step.share(4.0, peak, 2.0) == (50 / 4) / (100 / 2)


def test_precisions_agree_on_drawn_objects(data):
    assert 0.9 < benchmark.mean_agreement(SMOKE, data) <= 1


def test_backends_are_compared_figure_by_figure(data):
    section = benchmark.measure_evaluation(SMOKE, data)
    names = [row.name for row in section.rows]
    assert names[:2] == ["evaluation, pycocotools", "evaluation, faster_coco_eval"]
    assert section.rows[0].measurement.value == 1
    assert section.claims[1].verdict == "holds"
    differences = benchmark.largest_difference({"AP": 50.0, "x": np.nan}, {"AP": 50.1, "x": np.nan})
    assert differences == pytest.approx(1e-3)
    assert benchmark.largest_difference({"AP": 50.0}, {"AP": np.nan}) == np.inf


def test_the_evaluated_detections_are_neither_all_right_nor_all_wrong(data):
    metrics = benchmark.fill_evaluator(SMOKE, data, "pycocotools").result()
    assert 0.5 < metrics["box/AP50"] < 99


def test_latencies_are_ratios_to_the_exported_graph():
    walls = {"first mask": 0.4, "next box": 0.01, "100 boxes": 0.3, "graph": 1.0, "graph, 100": 1.6}
    times = {name: np.array([wall, 2 * wall]) for name, wall in walls.items()}
    values = {(row.name, row.metric): row.measurement.value for row in benchmark.latency_rows("m", times)}
    for clock in ("", "CPU "):
        assert values["m: first mask", f"{clock}time / exported graph's"] == pytest.approx(0.4)
        assert values["m: next box", f"{clock}time / exported graph's"] == pytest.approx(0.01)
        extra = values["m: 100 boxes", f"{clock}time / exported graph's for 100 over 1"]
        assert extra == pytest.approx(0.3 / 0.6 if clock == "" else 0.6 / 1.2)
    assert values["m: graph", "ms"] == 1000


def test_the_full_size_is_left_out_of_short_profiles(data):
    section = benchmark.measure_full_size(SMOKE)
    assert not section.rows
    assert [claim.verdict for claim in section.claims] == ["undecided"] * 3
    assert not benchmark_training.measure_full_size(SMOKE, data, {}).rows


@pytest.mark.parametrize(
    ("claim", "verdict", "evidence"),
    [
        (limited("a", 2.0, " s", at_most=2), "holds", "2 s, at most 2 s"),
        (limited("a", 2.1, at_most=2), "contradicted", "2.1, at most 2"),
        (limited("a", None, at_most=2), "undecided", "not measured in the profiles smoke and quick"),
        (limited("a", 2.0, at_least=2), "holds", "2, at least 2"),
        (limited("a", 1.9, " times", at_least=2), "contradicted", "1.9 times, at least 2 times"),
    ],
)
def test_claims_compare_with_their_limit(claim, verdict, evidence):
    assert (claim.verdict, claim.evidence) == (verdict, evidence)


def test_every_profile_has_a_scope():
    profiles = yaml.safe_load(SUITE_FILE.read_text())["profiles"]
    assert set(SCOPES) == set(own_data.SCOPES) == set(profiles)
    assert not SCOPES["quick"].full_size_repeats
    assert SCOPES["mini"].full_size_repeats


def test_the_committed_results_are_of_this_scope():
    committed = json.loads((SUITE_FILE.parents[1] / "papermill_runs/mini/benchmark.json").read_text())
    assert benchmark.config_sha256("mini", Suite.load("mini").dataset) == committed["config_sha256"]
