"""Masks are checked before pycocotools sees them, which garbage would crash."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from synthetic import run_lengths

from deepmac.data.segmentations import mask_problem

IMAGE = {"height": 30, "width": 20}
TRIANGLE = [2, 3, 15, 4, 9, 25]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.98), st.booleans())
def test_run_lengths_of_any_mask_are_taken(seed, share, compressed):
    mask = np.random.default_rng(seed).random((30, 20)) < share
    mask[4, 7] = True
    assert mask_problem(run_lengths(mask, compressed), IMAGE) is None


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=30))
def test_text_is_taken_only_if_it_is_run_lengths_of_the_picture(text):
    segmentation = {"size": [30, 20], "counts": text}
    if mask_problem(segmentation, IMAGE) is None:
        assert coco_mask.decode(segmentation).sum() == coco_mask.area(segmentation) > 0


def test_text_that_is_cut_short_is_refused():
    mask = np.zeros((30, 20), bool)
    mask[3:20, 4:11] = True
    whole = run_lengths(mask, compressed=True)
    for length in range(len(whole["counts"])):
        assert mask_problem(whole | {"counts": whole["counts"][:length]}, IMAGE)


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [30, 20], "counts": None},
        {"size": [30, 20], "counts": ""},
        {"size": [30, 20], "counts": [300.0, 300.0]},
        {"size": [30, 20], "counts": [700, -100]},
        {"size": [30, 20], "counts": ["300", "300"]},
        {"size": [20, 30], "counts": [300, 300]},
        [TRIANGLE, [1e12, 0, 0, 1e12, 5, 5]],
        [[2, 3, float("nan"), 4, 9, 25]],
        [["2", "3", "15", "4", "9", "25"]],
        [[[2, 3], [15, 4], [9, 25]]],
        [TRIANGLE[:4]],
        [TRIANGLE[:5]],
        [None],
        7,
        "text",
    ],
)
def test_what_is_no_mask_is_refused(segmentation):
    assert mask_problem(segmentation, IMAGE)


def test_polygons_may_reach_out_of_the_picture():
    assert mask_problem([TRIANGLE, [-9, 1, 28, 40, 3, 9]], IMAGE) is None
