import re
from collections import Counter

import pytest

from deepmac.suite.headline import counts, sentences, unique_claims

ROW = {"name": "deep", "metric": "detections/mask/unseen/AP", "published": 35.5, "measured": None}


def _claim(text, verdict="holds", kind="paper", difference=2.0):
    ends = [difference - 1, difference + 1]
    evidence = f"difference {difference}"
    return {
        **{"text": text, "kind": kind, "verdict": verdict, "evidence": evidence},
        **{"difference": difference, "ci95": ends, "seeds": 3},
    }


def _document(claims, rows=(), pictures="composed drawings: 10 to learn from, 5 to measure on"):
    return {"claims": claims, "rows": list(rows), "pictures": pictures}


@pytest.fixture
def documents():
    check = {**_claim("it is fast", kind="software"), "difference": None, "ci95": None, "evidence": "1 s"}
    return [
        _document(
            [_claim("deep beats shallow"), _claim("beats the ellipse", kind="own", difference=9.0)], [ROW]
        ),
        _document(
            [
                _claim("the deeper head is better"),  # the same difference in other words
                _claim("gains more without masks", "no difference", difference=0.1),
                _claim("ground-truth boxes are better", "undecided", difference=0.5),
            ],
            [{**ROW, "measured": 30.0, "name": "another"}, {**ROW, "metric": "m", "published": None}],
        ),
        _document([check, {**check, "text": "so is that"}], pictures="a data set of one's own"),
    ]


def test_a_difference_counts_once_and_checks_with_the_same_words_do_not_merge(documents):
    texts = [claim["text"] for claim in unique_claims(documents)]
    assert texts == [
        *("deep beats shallow", "beats the ellipse", "gains more without masks"),
        *("ground-truth boxes are better", "it is fast", "so is that"),
    ]


def test_the_counts_are_those_of_the_claims_listed(documents):
    claims = unique_claims(documents)
    text = counts(claims)
    assert text == (
        "claims of the paper (3): 1 holds, 1 no difference, 1 undecided; own observations (1): 1 holds; "
        "checks of the software (2): 2 holds"
    )
    assert sum(map(int, re.findall(r"\((\d+)\)", text))) == len(claims)
    verdicts = Counter(claim["verdict"] for claim in claims)
    for verdict, count in verdicts.items():
        assert sum(map(int, re.findall(rf"(\d+) {verdict}", text))) == count


def test_five_sentences_give_every_number_with_its_interval_seeds_and_pictures(documents):
    paper, pictures, shows, does_not, not_run = sentences("mini", documents)
    assert "architecture" in paper
    assert pictures.endswith("composed drawings: 10 to learn from, 5 to measure on.")
    assert "1 of its 3 claims checked: deep beats shallow (+2.0, +1.0 to +3.0; 3 seeds)." in shows
    assert "1: gains more without masks (+0.1, -0.9 to +1.1; 3 seeds); undecided: 1: ground" in does_not
    assert "1 of 2 published values" in not_run and "cannot be compared" in not_run
    assert "cannot be compared" not in sentences("paper", documents)[-1]
