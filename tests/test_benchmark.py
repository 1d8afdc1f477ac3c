"""Parts of the benchmark; `test_reproduction.py` executes its notebook."""

import json
import time

import numpy as np
import pytest
import synthetic
import yaml

from deepmac.data.data_sets import read_coco_folder
from deepmac.data.tfrecords import write_tfrecords
from deepmac.suite.rows import PreparedData
from deepmac.suite.suite import SUITE_FILE, Suite
from lib import benchmark, benchmark_training, own_data
from lib.benchmark import SCOPES, interleaved, limited

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


def test_precisions_agree_on_drawn_objects(data):
    assert 0.9 < benchmark.mean_agreement(SMOKE, data) <= 1


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
    assert not benchmark_training.measure_full_size(SMOKE, data).rows


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
