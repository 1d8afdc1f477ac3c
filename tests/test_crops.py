import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deepmac.inference.crops import plan_crops

SIDE = 384


@given(st.integers(20, 5000), st.integers(20, 5000), st.integers(0, 10**6), st.integers(1, 40))
def test_a_square_holds_its_small_boxes_whole_and_much_larger_than_before(height, width, seed, count):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 0.9, (count, 2))
    size = 10 ** rng.uniform(-3, 0, (count, 2)) * [max(height, width) / height, max(height, width) / width]
    boxes = np.concatenate([corner, np.minimum(corner + size, 1)], axis=1)
    crops = plan_crops(boxes, height, width, SIDE)
    longer = ((boxes[:, 2:] - boxes[:, :2]) * [height, width]).max(axis=1)
    in_network = longer * SIDE / max(height, width)
    cropped = sorted(index for indices in crops.values() for index in indices)
    expected = np.flatnonzero(in_network < 90) if max(height, width) > SIDE else []
    assert cropped == list(expected)
    for square, indices in crops.items():
        assert square.top >= 0 and square.left >= 0
        for index in indices:
            top, left, bottom, right = boxes[index] * [height, width, height, width]
            if longer[index] >= 8:  # smaller ones: squares begin at whole pixels
                assert square.top <= top and bottom <= square.top + square.side
                assert square.left <= left and right <= square.left + square.side
            assert plan_crops(boxes[[index]], height, width, SIDE) == {square: [0]}
            assert square.side <= 2.5 * 2**0.5 * max(longer[index], 1) + 1


def test_neighbours_share_a_square_and_small_pictures_are_seen_whole():
    boxes = np.array([[0.5, 0.5, 0.52, 0.52], [0.51, 0.505, 0.53, 0.525]])
    assert [*plan_crops(boxes, 3000, 4000, SIDE).values()] == [[0, 1]]
    assert plan_crops(boxes, 200, 256, 64) == {}
    assert plan_crops(boxes, 200, 257, 64)
