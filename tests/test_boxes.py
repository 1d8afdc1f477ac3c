import re
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepmac.core.boxes import apart, normalized_boxes, pixel_xywh
from deepmac.core.errors import InputError

GOOD = [0.1, 0.2, 0.5, 0.6]


def test_the_formats_describe_the_same_box():
    expected = np.array([[0.1, 0.2, 0.5, 0.6]], np.float32)
    for box_format, box in {
        "yxyx_norm": [0.1, 0.2, 0.5, 0.6],
        "xyxy": [40, 10, 120, 50],
        "xywh": [40, 10, 80, 40],
    }.items():
        boxes = normalized_boxes([box], box_format, height=100, width=200)
        assert boxes.dtype == np.float32
        np.testing.assert_allclose(boxes, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([0.5, 0.2, 0.1, 0.6], "inverted"),
        ([0.1, 0.6, 0.5, 0.2], "inverted"),
        ([0.1, 0.2, 0.1, 0.6], "no area"),
        ([0.1, 0.2, 0.5, 0.2], "no area"),
        ([0.1, 0.2, np.nan, 0.6], "not a finite number"),
        ([-np.inf, 0.2, 0.5, 0.6], "not a finite number"),
        ([1.1, 0.2, 1.5, 0.6], "outside"),
        ([0.1, -0.6, 0.5, 0.0], "outside"),
        ([10, 20, 50, 60], "pixels need the box format xyxy or xywh"),
        ([0.5, 0.5, 0.5 + 1e-12, 0.6], "too small"),
    ],
)
def test_an_impossible_box_is_named_by_its_index(box, words):
    with pytest.raises(InputError, match=rf"^box 2 .*{words}"):
        normalized_boxes([GOOD, GOOD, box, GOOD], "yxyx_norm", 100, 100)


@pytest.mark.parametrize("box_format", ["xyxy", "xywh"])
def test_fractions_in_the_place_of_pixels_are_refused(box_format):
    with pytest.raises(InputError, match="in pixels; numbers from 0 to 1 need yxyx_norm"):
        normalized_boxes([GOOD, [0, 0, 1, 1]], box_format, 100, 100)
    assert len(normalized_boxes([GOOD, [10, 10, 30, 40]], box_format, 100, 100)) == 2, "one may be tiny"
    assert normalized_boxes([[0, 0, 1, 1]], box_format, 1, 1).tolist() == [[0, 0, 1, 1]], (
        "a picture of one pixel"
    )


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([], "no boxes"),
        (np.zeros((0, 4)), "no boxes"),
        (GOOD, "list of one box"),
        ([[0.1, 0.2, 0.5]], r"shape \[1, 3\]"),
        ([[GOOD]], r"shape \[1, 1, 4\]"),
        ([GOOD, [0.1, 0.2, 0.5]], "box 1 is"),
        ([GOOD, GOOD, ["a", 0, 1, 1]], "box 2 is"),
        ([GOOD, None], "box 1 is"),
        ("0.1,0.2,0.5,0.6", "N x 4 numbers"),
        (None, "N x 4 numbers"),
        (object(), "N x 4 numbers.*; not <object"),
    ],
)
def test_what_is_no_list_of_boxes_is_refused(boxes, words):
    with pytest.raises(InputError, match=words):
        normalized_boxes(boxes, "yxyx_norm", 100, 100)
    with pytest.raises(InputError, match="yxyx_norm, xyxy, xywh"):
        normalized_boxes([GOOD], "yxyx", 100, 100)


def test_boxes_that_reach_beyond_the_image_are_clipped_with_a_warning():
    with pytest.warns(UserWarning, match="^clipped to the image: box 1$"):
        boxes = normalized_boxes([GOOD, [-0.5, 0.2, 0.5, 1.7]], "yxyx_norm", 100, 100)
    np.testing.assert_allclose(boxes, np.float32([GOOD, [0, 0.2, 0.5, 1]]))
    with warnings.catch_warnings(action="error"):  # by rounding at the edge
        boxes = normalized_boxes([[0, 0, 640.01, 480.01]], "xyxy", 480, 640)
    np.testing.assert_array_equal(boxes, [[0, 0, 1, 1]])


@given(
    boxes=hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 5), st.just(4)),
        elements=st.floats(-2, 3) | st.sampled_from([0.0, 1.0, np.nan, np.inf, -np.inf, 1e308, 1e-300]),
    ),
    box_format=st.sampled_from(["yxyx_norm", "xyxy", "xywh"]),
)
@pytest.mark.filterwarnings("ignore:boxes that reach")
def test_boxes_come_out_valid_or_one_is_named(boxes, box_format):
    try:
        result = normalized_boxes(boxes, box_format, height=2, width=3)
    except InputError as error:
        if box_format != "yxyx_norm" and boxes.max() <= 1.001:  # none of them is named
            return
        assert int(re.match(r"box (\d+) ", str(error))[1]) < len(boxes)
        return
    assert result.shape == boxes.shape
    assert ((result >= 0) & (result <= 1)).all()
    assert (result[:, 2:] > result[:, :2]).all()


@given(
    corner=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)),
    size=st.tuples(st.floats(0.01, 0.5), st.floats(0.01, 0.5)),
)
def test_pixel_xywh_is_the_inverse(corner, size):
    box = np.float32([[*corner, corner[0] + size[0], corner[1] + size[1]]])
    back = normalized_boxes(pixel_xywh(box, 480, 640), "xywh", 480, 640)
    np.testing.assert_allclose(back, box, atol=1e-6)


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 12), st.just(4)), elements=st.floats(0, 1, width=32)))
def test_boxes_that_are_apart_overlap_no_surer_one_and_all_others_do(given_boxes):
    ends = given_boxes[:, :2], given_boxes[:, 2:]
    low, high = np.minimum(*ends), np.maximum(*ends)
    boxes = np.concatenate([low, high + 0.1], axis=1)

    def iou(one, two):
        shared = np.minimum(one[2:], two[2:]) - np.maximum(one[:2], two[:2])
        both = np.prod(np.clip(shared, 0, None))
        return both / (np.prod(one[2:] - one[:2]) + np.prod(two[2:] - two[:2]) - both)

    kept = apart(boxes, 0.5).tolist()
    for row, box in enumerate(boxes.astype(np.float64)):
        overlaps = [iou(box, boxes[other].astype(np.float64)) for other in kept if other < row]
        assert max(overlaps, default=0) <= 0.5 + 1e-6 if row in kept else max(overlaps) > 0.5 - 1e-6
    assert apart(boxes, 1.0).tolist() == list(range(len(boxes)))
