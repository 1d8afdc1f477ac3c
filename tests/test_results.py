import json

import numpy as np
import pytest

from deepmac.evaluation.files import Evaluation
from deepmac.suite.results import Claim, Measurement, ResultRow, alike, higher, write_results

METRIC = "gt_boxes/mask/unseen/AP"


def _evaluation(value, samples):
    return Evaluation({METRIC: value}, {METRIC: [value, *samples]})


def test_measurement_averages_seeds_and_resamples_both_images_and_seeds():
    rng = np.random.default_rng(0)
    images = rng.normal(0, 1, 4000)  # what the draw of images adds, the same for every seed
    evaluations = [_evaluation(value, value + images) for value in (30.0, 34.0)]

    measurement = Measurement.from_evaluations(evaluations, METRIC)

    assert measurement.value == 32.0
    assert measurement.seeds == 2
    # Mean of two seeds drawn with replacement: 30, 32 or 34 with odds 1:2:1, so variance 2; images add 1.
    assert np.var(measurement.samples) == pytest.approx(3.0, rel=0.1)
    low, high = measurement.ci95
    assert low < 30 < 34 < high
    nothing = Measurement.from_evaluations([_evaluation(None, [None] * 5)], METRIC)
    assert (nothing.value, nothing.ci95) == (None, None), "without ground truth"


@pytest.mark.parametrize(
    ("difference", "spread", "verdict", "alike_verdict"),
    [
        (5.0, 1.0, "holds", "contradicted"),
        (-5.0, 1.0, "contradicted", "contradicted"),
        (0.2, 1.0, "undecided", "undecided"),
        (0.1, 0.1, "no difference", "holds"),
        (0.5, 0.1, "holds", "holds"),
    ],
)
def test_claims_are_decided_by_the_interval_of_the_difference(difference, spread, verdict, alike_verdict):
    noise = np.random.default_rng(1).normal(0, spread, (2, 1000))
    better = Measurement(30 + difference, 30 + difference + noise[0], 3)
    worse = Measurement(30.0, 30 + noise[1], 3)
    claim = higher("one is higher", better, worse, "paper")
    assert (claim.verdict, claim.kind, claim.seeds) == (verdict, "paper", 3)
    assert f"{difference:+.1f}" in claim.evidence
    assert claim.difference == pytest.approx(difference, abs=0.01)
    low, high = claim.ci95
    assert high - low == pytest.approx(2 * 1.96 * 2**0.5 * spread, rel=0.15)
    assert alike("they are alike", better, worse).verdict == alike_verdict


def test_claims_say_by_how_much_the_runs_of_each_seed_differ():
    images = np.random.default_rng(2).normal(0, 1, 100)
    one = Measurement(31.0, 31 + images, 3, (30.0, 32.0, 31.0))
    other = Measurement(29.0, 29 + images, 3, (29.5, 28.0, 29.5))
    assert higher("one is higher", one, other).evidence.endswith(", by seed +0.5, +4.0, +1.5")
    assert (one - other).of_seeds == (0.5, 4.0, 1.5)
    baseline = Measurement(20.0, 20 + images, 0, (20.0,))
    assert "by seed" not in higher("one is higher", one, baseline).evidence


def test_claims_use_that_both_saw_the_same_images():
    images = np.random.default_rng(2).normal(0, 10, 1000)
    better, worse = Measurement(31.0, 31 + images, 2), Measurement(30.0, 30 + images, 2)
    assert higher("one is higher", better, worse).verdict == "holds"
    nothing = Measurement(None, np.zeros(0), 1)
    assert higher("one is higher", nothing, Measurement(1.0, np.ones(5), 1)).verdict == "undecided"
    for holds, verdict in ((True, "holds"), (False, "contradicted"), (None, "undecided")):
        claim = Claim.checked("a check", holds, "seen")
        assert (claim.kind, claim.verdict, claim.ci95) == ("software", verdict, None)


@pytest.mark.parametrize(
    ("better_seeds", "worse_seeds", "verdict", "said"),
    [
        (1, 3, "undecided", "1 and 3 seeds"),
        (1, 1, "undecided", "1 seed each"),
        (2, 3, "holds", "2 and 3 seeds"),
        (1, 0, "holds", "1 seed:"),
    ],
    ids=["one run against three", "one run each", "several", "a baseline, which has no seeds"],
)
def test_two_rows_are_compared_only_with_several_seeds_of_both(better_seeds, worse_seeds, verdict, said):
    noise = np.random.default_rng(1).normal(0, 1, 1000)
    pair = Measurement(35.0, 35 + noise, better_seeds), Measurement(30.0, 30 - noise, worse_seeds)
    claim = higher("one is higher", *pair)
    assert claim.verdict == verdict
    assert said in claim.evidence
    assert ("leaves out the spread" in claim.evidence) == (verdict == "undecided")
    assert (alike("they are alike", *pair).verdict == "undecided") == (verdict == "undecided")


def test_results_file_has_the_documented_fields(tmp_path):
    measurement = Measurement(31.234, np.array([30.0, 32.0]), 3)
    rows = [ResultRow("row", METRIC, measurement, published=35.5, source="a page")]
    claim = higher("a claim", measurement, Measurement(1.0, np.zeros(0), 0))
    path = tmp_path / "results.json"
    write_results(path, "table", {"profile": "smoke"}, "abc", rows, [claim], seconds=1.26)

    document = json.loads(path.read_text())
    assert set(document) == {
        *("notebook", "parameters", "config_sha256", "code_version", "seconds", "hardware"),
        *("pictures", "not_run", "rows", "claims"),
    }
    [row] = document["rows"]
    assert row["measured"] == 31.234
    assert row["published"] == 35.5
    assert row["seeds"] == 3
    assert row["ci95"] == pytest.approx([30.284, 32.184], abs=1e-3)
    assert document["claims"] == [
        {
            **{"text": "a claim", "kind": "own", "verdict": "holds", "evidence": claim.evidence},
            **{"difference": 30.234, "ci95": pytest.approx([29.284, 31.184], abs=1e-3), "seeds": 3},
            "alike": False,
        }
    ]


@pytest.mark.parametrize(
    ("value", "written"),
    [(32.25326, 32.2533), (0.0, 0.0), (0.012, 0.012), (1.2345e-6, 1.2e-6), (-3.21e-4, -3.2e-4)],
)
def test_small_values_keep_two_digits(value, written):
    row = ResultRow("a row", METRIC, Measurement(value, np.empty(0), seeds=0)).as_dict()
    assert row["measured"] == written
