import re
from collections import Counter
from pathlib import Path

import pytest

from deepmac.suite.report import CENTRAL, ELLIPSE, counts, sentences, unique_claims

COMMITTED = sorted((Path(__file__).resolve().parents[1] / "papermill_runs").glob("*/report.md"))
UNTRAINED = ("the whole box", "whole box", "inscribed ellipse", "mini, untouched", "ContrastMask")
ROW = {"name": "deep", "metric": "detections/mask/unseen/AP", "published": 35.5, "measured": None}


def _claim(text, verdict="holds", kind="paper", difference=2.0):
    ends = [difference - 1, difference + 1]
    evidence = f"difference {difference}"
    return {
        **{"text": text, "kind": kind, "verdict": verdict, "evidence": evidence},
        **{"difference": difference, "ci95": ends, "seeds": 3},
    }


def _document(
    claims, rows=(), pictures="composed drawings: 10 to learn from, 5 to measure on", notebook="table"
):
    return {"notebook": notebook, "claims": claims, "rows": list(rows), "pictures": pictures}


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
        _document(
            [check, {**check, "text": "so is that"}], pictures="a data set of one's own", notebook="own_data"
        ),
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
    paper, pictures, shows, does_not, is_open = sentences("mini", documents)
    assert "architecture" in paper
    assert "on composed drawings: 10 to learn from, 5 to measure on. Boxes are given" in pictures
    assert "3 of its claims were checked here, 1 shown, 1 not, 1 left open" in pictures
    assert "**Shows**: deep beats shallow (+2.0 [+1.0, +3.0], 3 seeds)." in shows
    assert "contradicted: none; no difference" in does_not
    assert "AP: gains more without masks (+0.1 [-0.9, +1.1], 3 seeds)." in does_not
    assert "**Open**: ground-truth boxes are better (+0.5 [-0.5, +1.5], 3 seeds)." in is_open
    assert "1 of 2 published values" in is_open and "not comparable" in is_open
    assert "not comparable" not in sentences("paper", documents)[-1]
    is_open = sentences("mini", documents, quoted={"deep"})[-1]
    assert "0 of 1 published values" in is_open
    assert is_open.endswith("1 more are other papers' and only quoted.")


def test_the_models_and_that_heads_are_no_better_than_an_ellipse_are_said(documents):
    own = _claim(ELLIPSE, "undecided", kind="own", difference=-1.5)
    said = sentences("mini", [_document([own]), *documents], models="100 steps")
    assert "with models far smaller than the published ones (100 steps), on" in said[1]
    assert said[-1].startswith(f"**Mind**: it is not shown that {ELLIPSE} (-1.5 [-2.5, -0.5], 3 seeds).")
    holds = {**own, "verdict": "holds"}
    assert len(sentences("mini", [_document([holds]), *documents])) == 5


def test_the_central_claim_has_a_line_of_its_own(documents):
    central = _claim(f"deep leads shallow {CENTRAL}", "no difference", difference=0.2)
    said = sentences("mini", [_document([central]), *documents])
    assert said[2] == (
        f"**The central claim** no difference: deep leads shallow {CENTRAL} (+0.2 [-0.8, +1.2], 3 seeds)."
    )
    assert said[3].startswith("**Also shows**: deep beats shallow (") and CENTRAL not in "".join(said[3:])
    assert len(said) == 6


def _tables(text):
    """The lines of each table, as cells; the header first."""
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        yield [line[2:-2].split(" | ") for line in table.splitlines() if "| --- |" not in line]


@pytest.mark.parametrize("report", COMMITTED, ids=lambda path: path.parent.name)
def test_a_report_lists_as_many_claims_as_it_counts_and_none_twice(report):
    text = report.read_text(encoding="utf-8")
    listed = [line for header, *lines in _tables(text) if header[0] == "claim" for line in lines]
    [counted] = re.findall(r"^.*Each is counted once.*$", text, re.MULTILINE)
    for verdict, count in Counter(verdict for _, verdict, _ in listed).items():
        assert sum(map(int, re.findall(rf"(\d+) {verdict}\b", counted))) == count
    assert sum(map(int, re.findall(r"\((\d+)\)", counted))) == len(listed)
    differences = [evidence for _, _, evidence in listed if "95 % interval" in evidence]
    assert len(set(differences)) == len(differences)
    on_top, shows, does_not, is_open = re.search(
        r"(\d+) of its claims were checked here, (\d+) shown, (\d+) not, (\d+) left open", text
    ).groups()
    assert int(on_top) == int(shows) + int(does_not) + int(is_open)
    assert f"Claims of the paper ({on_top})" in counted


@pytest.mark.parametrize("report", COMMITTED, ids=lambda path: path.parent.name)
def test_a_report_whose_masks_do_not_beat_the_ellipse_says_so_on_top(report):
    text = report.read_text(encoding="utf-8")
    [verdict] = re.findall(rf"^\| \[{ELLIPSE}\].*?\| (\w[\w ]*) \|", text, re.MULTILINE)
    assert ("**Mind**" in text) == (verdict != "holds")


@pytest.mark.parametrize("report", COMMITTED, ids=lambda path: path.parent.name)
def test_every_number_of_a_report_has_its_run_seeds_and_pictures(report):
    text = report.read_text(encoding="utf-8")
    captions = re.findall(r"^!\[.*\n\n(\*.*)$", text, re.MULTILINE)
    assert captions
    assert [caption for caption in captions if caption.count("*") != 2] == [], "emphasis is not nested"
    for section in re.split('<a id="(?!claims")', text)[1:]:
        assert re.search(r"\[Executed notebook\]\(\w+\.ipynb\).*configuration [0-9a-f]{12}, deepmac", section)
        if "\n## " in section:  # results; checks of the software are folded
            assert re.search(r"Pictures: .+ to learn from, .+ to measure on\.", section)
            for header, *lines in _tables(section):
                for name, *values in lines:
                    seeds = values[header.index("seeds") - 1]
                    measured = [value for value in values if "(" in value]
                    assert seeds != "-" or not measured or name.startswith(UNTRAINED), name
