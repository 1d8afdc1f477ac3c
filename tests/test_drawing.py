import itertools

import matplotlib
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deepmac.core.drawing import instance_colors, mask_grid, overlay, sheet
from deepmac.inference.prediction import Prediction

matplotlib.use("agg")
IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


def _masks():
    masks = np.zeros((2, 60, 80), bool)
    masks[0, 10:50, 10:50] = True
    masks[1, 20:30, 20:30] = True  # inside the first
    return masks


def test_colours_differ_and_stay_the_same():
    colors = instance_colors(12)
    assert colors.dtype == np.uint8
    np.testing.assert_array_equal(instance_colors(5), colors[:5])
    distances = [np.abs(a.astype(int) - b).sum() for a, b in itertools.combinations(colors, 2)]
    assert min(distances) > 60
    assert len(instance_colors(0)) == 0


@given(opacity=st.floats(0, 1))
def test_masks_are_blended_and_the_rest_is_untouched(opacity):
    masks = _masks()[:1]
    result = overlay(IMAGE, masks, opacity=opacity, outline=False)
    np.testing.assert_array_equal(result[~masks[0]], IMAGE[~masks[0]])
    expected = (1 - opacity) * IMAGE[masks[0]] + opacity * instance_colors(1)[0]
    np.testing.assert_allclose(result[masks[0]], expected, atol=0.501)


def test_colours_can_be_given_and_masks_be_labels_or_none_at_all():
    colors = np.array([[1, 2, 3], [200, 100, 50]], np.uint8)
    labels, before = np.zeros((60, 80), np.uint16), IMAGE.copy()
    for index, mask in enumerate(_masks()):
        labels[mask] = index + 1
    result = overlay(IMAGE, _masks(), opacity=1.0, colors=colors)
    np.testing.assert_array_equal(overlay(IMAGE, labels, opacity=1.0, colors=colors), result)
    np.testing.assert_array_equal(result[_masks()[1]], np.broadcast_to(colors[1], (100, 3)))
    np.testing.assert_array_equal(result[15, 15], colors[0])
    np.testing.assert_array_equal(overlay(IMAGE, np.zeros((0, 60, 80), bool)), IMAGE)
    for size in ((1, 1), (1, 300), (200, 12000)):
        image = np.zeros((*size, 3), np.uint8)
        drawn = overlay(image, np.ones((1, *size), bool), boxes=[[0, 0, 1, 1]], labels=["all"])
        assert drawn.shape == image.shape and drawn.any()
    np.testing.assert_array_equal(IMAGE, before, "the image itself is not drawn on")


def test_the_smaller_mask_is_seen_whatever_the_order():
    masks, colors = _masks(), instance_colors(2)
    for order in ([0, 1], [1, 0]):
        result = overlay(IMAGE, masks[order], opacity=1.0)
        for position, index in enumerate(order):
            point = [(45, 45), (25, 25)][index]
            np.testing.assert_array_equal(result[point], colors[position])


def test_the_outline_follows_the_border():
    result = overlay(IMAGE, _masks(), opacity=0)
    changed = (result != IMAGE).any(axis=2)
    expected = np.zeros((60, 80), bool)
    expected[10:50, 10:50] = True
    expected[11:49, 11:49] = False
    expected[19:31, 20:30] = expected[20:30, 19:31] = True  # of both masks, where they meet
    expected[21:29, 21:29] = False
    np.testing.assert_array_equal(changed, expected)


def test_labels_that_would_lie_over_one_another_are_shortened():
    image, nothing = np.zeros((300, 400, 3), np.uint8), np.zeros((3, 300, 400), bool)
    boxes = [[0.2, 0.1, 0.4, 0.2], [0.2, 0.21, 0.4, 0.3], [0.7, 0.1, 0.9, 0.9]]
    names, numbers = ["1 nucleus", "2 nucleus", "3 nucleus"], ["1", "2", "3"]
    drawn = overlay(image, nothing, boxes, names, short_labels=numbers)
    expected = overlay(image, nothing, boxes, ["1", "2", "3 nucleus"])
    np.testing.assert_array_equal(drawn, expected)
    assert (overlay(image, nothing, boxes, names) != expected).any()
    none = overlay(image, nothing, np.zeros((0, 4)), [], short_labels=[])
    np.testing.assert_array_equal(none, image)


def test_boxes_are_drawn_inside_the_image_with_their_labels():
    nothing = np.zeros((1, 60, 80), bool)
    plain = overlay(IMAGE, nothing, boxes=[[0.25, 0.25, 0.75, 1.0]])
    changed = (plain != IMAGE).any(axis=2)
    rows, columns = changed.any(axis=1).nonzero()[0], changed.any(axis=0).nonzero()[0]
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (15, 44, 20, 79)
    assert not changed[20:40, 25:75].any()
    for corner in (0.0, 0.5):  # at the upper edge there is no room above the box
        labelled = overlay(IMAGE, nothing, boxes=[[corner, 0.25, 1.0, 1.0]], labels=["cat"])
        unlabelled = overlay(IMAGE, nothing, boxes=[[corner, 0.25, 1.0, 1.0]])
        assert (labelled != unlabelled).any(axis=2).sum() > 50


def test_lines_and_labels_of_small_boxes_leave_the_objects_of_a_large_picture_visible():
    size, boxes = (1800, 2400), []
    masks = np.zeros((4, *size), bool)
    for place, mask in enumerate(masks):  # of 30 pixels, with as much between them
        top, left = 900 + 60 * (place // 2), 1200 + 60 * (place % 2)
        mask[top : top + 30, left : left + 30] = True
        boxes.append(np.array([top - 2, left - 2, top + 32, left + 32]) / [*size, *size])
    numbers = ["1", "2", "3", "4"]
    drawn = overlay(np.zeros((*size, 3), np.uint8), masks, boxes, numbers, 0.5, short_labels=numbers)
    for mask, color in zip(masks, instance_colors(4), strict=True):
        assert (drawn[mask] == np.round(color / 2).astype(np.uint8)).all(axis=1).mean() > 0.6


def test_lines_of_boxes_lie_under_all_labels():
    image, nothing = np.zeros((300, 400, 3), np.uint8), np.zeros((2, 300, 400), bool)
    boxes = [[0.5, 0.25, 0.8, 0.5], [0.48, 0.0, 0.9, 0.9]]  # a line of the second crosses the first's label
    drawn = overlay(image, nothing, boxes, ["1 spoon", "2 saucer"])
    alone = overlay(image, nothing[:1], boxes[:1], ["1 spoon"])
    np.testing.assert_array_equal(drawn[138:149, 100:140], alone[138:149, 100:140])


def test_names_beyond_ascii_are_written_in_their_letters():
    names = ["\u00fc", "\u03b1", "\u0416", "\U0010fffd"]  # the last is no letter: an empty frame
    nothing, box = np.zeros((1, 60, 80), bool), [[0.5, 0.0, 1.0, 1.0]]
    drawn = {overlay(IMAGE, nothing, box, [name]).tobytes() for name in names}
    assert len(drawn) == len(names)


def test_a_prediction_is_plotted_with_boxes_and_labels():
    boxes = np.array([[0.1, 0.1, 0.6, 0.5], [0.2, 0.3, 0.9, 0.9]], np.float32)
    prediction = Prediction(IMAGE, boxes, np.full((2, 4, 4), 0.9, np.float32))
    masks, labels = prediction.to_label_image(), ["cat", "dog"]
    ax = prediction.plot(labels=labels)
    np.testing.assert_array_equal(ax.images[0].get_array(), overlay(IMAGE, masks, boxes, labels))
    np.testing.assert_array_equal(ax.figure.canvas.get_width_height(), IMAGE.shape[1::-1])
    figure = matplotlib.figure.Figure()
    given_axes = figure.add_subplot()
    assert prediction.plot(given_axes, opacity=0.2, outline=False, boxes=False) is given_axes
    expected = overlay(IMAGE, masks, opacity=0.2, outline=False)
    np.testing.assert_array_equal(given_axes.images[0].get_array(), expected)


def test_the_grid_shows_the_surroundings_of_each_box_and_the_iou_of_predictions(tmp_path):
    nothing, true, half = np.zeros((3, 60, 80), bool)
    true[10:50, 10:50] = half[10:30, 10:50] = True
    figure = mask_grid(
        [IMAGE, IMAGE],
        [[nothing, true, half], [nothing, half, half]],
        np.array([[1 / 6, 1 / 8, 5 / 6, 5 / 8], [0, 0, 0.001, 0.001]]),
        names=["cat", "dog"],
        sources=["picture", "annotated", "predicted"],
    )
    assert [ax.get_title() for ax in figure.axes] == ["cat", "dog", "", "", "", ""]
    assert [ax.get_ylabel() for ax in figure.axes] == ["picture", "", "annotated", "", "predicted", ""]
    assert [ax.get_xlabel() for ax in figure.axes] == ["", "", "", "", "IoU 0.50", "IoU 1.00"]
    crop = figure.axes[2].images[0].get_array()
    np.testing.assert_array_equal(crop, overlay(IMAGE[2:58, 2:58], true[2:58, 2:58].astype(int)))
    assert figure.axes[1].images[0].get_array().shape == (1, 1, 3)
    figure.savefig(tmp_path / "grid.png", dpi=50)
    assert np.ptp(np.asarray(Image.open(tmp_path / "grid.png"))) == 255


def test_a_sheet_has_a_field_for_each_picture_whatever_its_shape():
    wide, tall = np.full((60, 80, 3), (255, 0, 0), np.uint8), np.full((800, 94, 3), (0, 0, 255), np.uint8)
    drawn = sheet([wide, tall, wide], ["one", "x" * 100, ""], columns=2, size=(80, 60))
    assert drawn.size == (8 + 2 * 88, 8 + 2 * 88)
    pixels = np.asarray(drawn.convert("RGB")).astype(int)
    assert (pixels[8:68, 8:88] == (255, 0, 0)).all()
    place = pixels[8:68, 96:176]
    assert (place == (0, 0, 255)).all(axis=2).sum(axis=1).tolist() == [7] * 60, "all of it, in the middle"
    assert sheet([], []).width > 0


def test_a_caption_that_is_too_long_ends_with_an_ellipsis():
    one, other, nothing = (sheet([IMAGE], [text], size=(90, 60)) for text in ("i" * 90, "i" * 99, ""))
    assert one == other != nothing
    assert one != sheet([IMAGE], ["i" * 20], size=(90, 60)), "it is not cut off"
    assert sheet([IMAGE[:, :5]], ["a name"], size=(5, 60)).width == 8 + 13
    lines = sheet([IMAGE], ["a name · and what is known"], size=(90, 60))
    assert lines.height == one.height + 20
    assert np.array_equal(np.asarray(lines)[:80], np.asarray(sheet([IMAGE], ["a name"], size=(90, 60)))[:80])
