"""Masks are brought to one form and checked before pycocotools sees them, which garbage would crash."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from synthetic import run_lengths

from deepmac.data.flaws import ALONG_ROWS, BAD_MASK, BAD_PART, DISAGREES, ODD_MASK, WITHOUT_MASK
from deepmac.data.rules import place_findings
from deepmac.data.segmentations import mask_area, mask_box, mask_findings

IMAGE = {"height": 30, "width": 20}
TRIANGLE = [2, 3, 15, 4, 9, 25]
PAIRS = [[2, 3], [15, 4], [9, 25]]
RUNS = {"size": [30, 20], "counts": [60, 300, 240]}  # columns 2 to 11
BOX_OF_RUNS = [2, 0, 10, 30]


def read(segmentation, bbox=None):
    """The flaw that is found, if there is one, and the mask that goes on."""
    entry, flaw = {"segmentation": segmentation, "bbox": bbox}, None
    for rule in (mask_findings, place_findings):
        for finding in rule(entry, IMAGE):
            entry, flaw = entry | finding.mended, finding.flaw
    return flaw, entry["segmentation"]


def pixels(mask):
    """bool [30, 20] of a checked mask, by pycocotools' own means."""
    if isinstance(mask, list):
        return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(mask, 30, 20))).astype(bool)
    rle = coco_mask.frPyObjects(mask, 30, 20) if isinstance(mask["counts"], list) else mask
    return coco_mask.decode(rle).astype(bool)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.98), st.booleans())
def test_run_lengths_of_any_mask_are_taken(seed, share, compressed):
    mask = np.random.default_rng(seed).random((30, 20)) < share
    mask[4, 7] = True
    rle = run_lengths(mask, compressed)
    assert read(rle) == (None, rle)
    assert mask_area(rle, IMAGE) == mask.sum()
    (rows,), (columns,) = mask.any(axis=1).nonzero(), mask.any(axis=0).nonzero()
    sides = [columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
    assert mask_box(rle) == [columns[0], rows[0], *sides]


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=30))
def test_text_is_taken_only_if_it_is_run_lengths_of_the_picture(text):
    _, mask = read({"size": [30, 20], "counts": text})
    if mask:
        assert pixels(mask).sum() == coco_mask.area(mask) > 0


def test_text_that_is_cut_short_is_refused():
    mask = np.zeros((30, 20), bool)
    mask[3:20, 4:11] = True
    whole = run_lengths(mask, compressed=True)
    for length in range(len(whole["counts"])):
        assert read(whole | {"counts": whole["counts"][:length]}) == (BAD_MASK, [])


@pytest.mark.parametrize(
    "segmentation",
    [
        *({"size": [30, 20], "counts": counts} for counts in (None, "", "[1, 2", {}, [600])),
        *({"size": [30, 20], "counts": counts} for counts in ([300.5, 299.5], [700, -100])),
        {"size": [60, 40], "counts": [600, 1800]},
        {"size": "30x20", "counts": [300, 300]},
        {"size": [30, 20]},
        [[1e12, 0, 0, 1e12, 5, 5]],
        [[10**400, 0, 0, 5, 5, 5]],
        [[2, 3, float("nan"), 4, 9, 25]],
        [[2, 3, 15, float("nan"), 9, 25]],
        [["two", "3", "15", "4", "9", "25"]],
        [[2, 2, 5, 5, 9, 9]],  # a line
        [[100, 100, 120, 100, 120, 120]],
        [[-20, -20, -5, -20, -5, -5]],
        [[3.1, 3.1, 3.2, 3.1, 3.2, 3.2]],
        *([TRIANGLE[:4]], [TRIANGLE[:5]], [[2, 3], [15, 4]]),
        *([None], [[None]], [{}], [[[[]]]], [[TRIANGLE[:2], TRIANGLE[2:4], []]]),
        "1 2 three 4 5 6",
        *(7, True, "text", "[[1, 2", "[" * 5000),
    ],
)
def test_what_is_no_mask_is_left_out(segmentation):
    assert read(segmentation) == (BAD_MASK, [])


@pytest.mark.parametrize("segmentation", [None, [], {}, "", [[]]])
def test_no_mask_is_no_flawed_mask(segmentation):
    assert read(segmentation) == (WITHOUT_MASK, [])


@pytest.mark.parametrize(
    "segmentation",
    [
        TRIANGLE,
        [str(x) for x in TRIANGLE],
        [[str(x) for x in TRIANGLE]],
        json.dumps([TRIANGLE]),
        json.dumps(TRIANGLE),
        PAIRS,
        [PAIRS],
        [[str(x), str(y)] for x, y in PAIRS],
        [{"x": x, "y": y} for x, y in PAIRS],
        [[{"x": x, "y": y} for x, y in PAIRS]],
        [[{"X": x, "Y": y} for x, y in PAIRS]],
        [[PAIRS]],
        [[[[x, y]] for x, y in PAIRS]],  # a contour of OpenCV
        {"all_points_x": TRIANGLE[::2], "all_points_y": TRIANGLE[1::2]},
        " ".join(map(str, TRIANGLE)),
        "(" + ", ".join(map(str, TRIANGLE)) + ")",
    ],
)
def test_polygons_in_other_forms_are_read(segmentation):
    assert read(segmentation) == (ODD_MASK, [TRIANGLE])


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [30.0, 20.0], "counts": [60.0, 300.0, 240.0]},
        {"size": ["30", "20"], "counts": ["60", "300", "240"]},
        {"size": [30, 20], "counts": "[60, 300, 240]"},
        {"size": [30, 20], "counts": "60 300 240"},
        {"counts": [60, 300, 240]},
        {"size": [20, 30], "counts": [60, 300, 240]},
        [RUNS],
    ],
)
def test_run_lengths_in_other_forms_are_read(segmentation):
    flaw, mask = read(segmentation, BOX_OF_RUNS)
    assert flaw == ODD_MASK or segmentation == [RUNS]
    np.testing.assert_array_equal(pixels(mask), pixels(RUNS))
    assert all(type(x) is int for x in mask["counts"]) and mask["size"] == [30, 20]


def test_the_text_of_bytes_in_python_is_read():
    """`str(rle["counts"])`, where a backslash, a digit of run lengths, stands twice."""
    rle = coco_mask.frPyObjects({"size": [30, 20], "counts": [44, 10, 546]}, 30, 20)
    counts = rle["counts"].decode()
    assert "\\" in counts
    assert read(rle | {"counts": repr(rle["counts"])}) == (ODD_MASK, {"size": [30, 20], "counts": counts})


def test_the_box_tells_how_run_lengths_run():
    """Down the columns, or along the rows; with size [width, height] that alone may be wrong."""
    mask = np.zeros((30, 20), bool)
    mask[3:20, 4:11] = True
    box = [4, 3, 7, 17]
    down, across = run_lengths(mask, True), [run_lengths(mask.T, compressed) for compressed in (True, False)]
    rows = [rle | {"size": size} for rle in across for size in ([20, 30], [30, 20])]
    for rle, expected in ((down | {"size": [20, 30]}, ODD_MASK), *((rle, ALONG_ROWS) for rle in rows)):
        flaw, found = read(rle, box)
        assert flaw == expected
        np.testing.assert_array_equal(pixels(found), mask)
    assert read(down, [15, 25, 4, 4]) == (DISAGREES, down)


@pytest.mark.parametrize("segmentation", [[TRIANGLE], RUNS])
def test_a_mask_elsewhere_than_its_box_is_told(segmentation):
    assert read(segmentation, [17, 20, 3, 8]) == (DISAGREES, segmentation)
    for box in ([2, 3, 8, 9], [0, 0, 20, 30], [-5, -5, 40, 40], [14, 10, 0, 5], [40, 4, 5, 5]):
        assert read(segmentation, box)[1] == segmentation
    assert read([TRIANGLE], [2, 3, 8, 9]) == (DISAGREES, [TRIANGLE])


def test_run_lengths_of_several_parts_are_united():
    parts = [{"size": [30, 20], "counts": [60 * i, 60, 540 - 60 * i]} for i in range(3)]
    flaw, mask = read(parts, [0, 0, 6, 30])
    assert flaw == ODD_MASK and json.dumps(mask)
    np.testing.assert_array_equal(pixels(mask).any(axis=0), np.arange(20) < 6)


@pytest.mark.parametrize(
    "bad",
    [
        TRIANGLE[:4],
        TRIANGLE[:5],
        [],
        [1e12, 0, 0, 1e12, 5, 5],
        [3, float("inf"), 4, 4, 5, 5],
        [5, 5] * 3,
        None,
    ],
)
def test_a_bad_part_costs_that_part(bad):
    assert read([bad, TRIANGLE]) == (BAD_PART, [TRIANGLE])


def test_polygons_may_reach_out_of_the_picture():
    polygons = [TRIANGLE, [-9, 1, 28, 40, 3, 9]]
    assert read(polygons) == (None, polygons)
    assert mask_area(polygons, IMAGE) == pixels(polygons).sum()
    assert mask_box(polygons) == [-9, 1, 37, 39]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.sampled_from(["size", "counts", "x", "y"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(json_values, st.none() | st.lists(st.floats(), min_size=4, max_size=4))
def test_any_json_is_a_mask_or_left_out(segmentation, box):
    _, mask = read(segmentation, box)
    assert mask == [] or pixels(mask).any()


def test_a_mask_of_swapped_size_that_no_memory_holds_is_left_out():
    rle = {"size": [60_000, 50_000], "counts": [1, 60_000 * 50_000 - 1]}
    [finding] = mask_findings(
        {"segmentation": rle, "bbox": [0, 0, 9, 9]}, {"height": 50_000, "width": 60_000}
    )
    assert finding.mended == {"segmentation": []}


@pytest.mark.parametrize("kind", [int, bool, float])
def test_rows_of_pixels_are_a_mask(kind):
    mask = np.zeros([50, 100], np.uint8)
    mask[20:30, 40:70] = 1
    rows = [[kind(value) for value in row] for row in mask.tolist()]
    [finding] = mask_findings({"segmentation": rows}, {"height": 50, "width": 100})
    assert finding.flaw is ODD_MASK
    np.testing.assert_array_equal(coco_mask.decode(finding.mended["segmentation"]), mask)


def test_polygons_from_0_to_1_are_read_where_the_box_is_in_pixels():
    image = {"id": 1, "height": 50, "width": 100}
    given = {"segmentation": [[0.1, 0.2, 0.5, 0.2, 0.5, 0.6]], "bbox": [10, 10, 40, 20]}
    [finding] = mask_findings(given, image)
    assert finding.flaw is ODD_MASK
    np.testing.assert_allclose(finding.mended["segmentation"], [[10, 10, 50, 10, 50, 30]])
    [without_box] = mask_findings(given | {"bbox": None}, {"height": 50, "width": 100})
    assert without_box == finding
    tiny = {"segmentation": [[0.1, 0.2, 0.9, 0.2, 0.9, 0.9]], "bbox": [0, 0, 1, 1]}
    assert not [one for one in mask_findings(tiny, image) if one.flaw is ODD_MASK], "an object of a pixel"
