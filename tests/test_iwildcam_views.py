import camera_traps
import numpy as np
import pytest

from deepmac.core.images import read_image
from deepmac.core.label_images import write_label_image
from deepmac.iwildcam.views import fit_view, read_view

SIZE = camera_traps.SIZE  # height, width


@pytest.fixture
def paths(tmp_path):
    camera_traps.write_picture(tmp_path / "a.jpg")
    labels = np.zeros(SIZE, np.uint8)
    labels[5:15, 5:15], labels[20:40, 40:70] = 1, 2
    write_label_image(tmp_path / "a.png", labels)
    return tmp_path / "a.jpg", tmp_path / "a.png"


def test_a_view_has_the_picture_and_the_masks_that_are_asked_for(paths):
    view = read_view(*paths, [2], (1000, 1000))
    np.testing.assert_array_equal(view.image, read_image(paths[0]))
    assert view.labels[20:40, 40:70].all() and view.labels.sum() == 20 * 30
    both = read_view(*paths, [2, 1], (1000, 1000))
    assert both.labels[6, 6] == 2 and both.labels[21, 41] == 1 and both.problem == ""
    assert not read_view(*paths, [], (1000, 1000)).labels.any()
    view = read_view(*paths, [1, 2], (40, 100))  # made smaller
    assert view.image.shape == (24, 40, 3)
    assert (view.labels[11:19, 21:34] == 2).all() and not view.labels[21:].any()
    assert read_view(*paths, [], (100, 12)).image.shape == (12, 20, 3)


def test_a_part_of_it_is_seen_closer_in_its_own_pixels(paths):
    view = read_view(*paths, [2], (1000, 1000), window=(0.5, 0.25, 1.0, 0.75))
    np.testing.assert_array_equal(view.image, read_image(paths[0])[12:36, 40:])
    assert view.labels[8:, :30].all() and not view.labels[:8].any() and not view.labels[:, 30:].any()


@pytest.mark.parametrize("largest", [255, 256])
def test_the_largest_number_of_8_bits_is_an_animal_as_any_other(largest):
    labels = np.full(SIZE, largest, np.min_scalar_type(largest))
    image = np.zeros((*SIZE, 3), np.uint8)
    assert (fit_view(image, labels, [largest], (1000, 1000)).labels == 1).all()
    assert not fit_view(image, labels, [], (1000, 1000)).labels.any()


def test_missing_and_damaged_files_do_not_stop_it(paths):
    picture, masks = paths
    masks.write_bytes(b"damaged")
    assert not read_view(*paths, [1], (80, 60)).labels.any()
    picture.write_bytes(b"damaged")
    assert "a.jpg" in read_view(*paths, [1], (80, 60)).problem
    view = read_view(None, masks, [1], (80, 60))
    assert view.image.shape == (60, 80, 3) and "missing" in view.problem


def test_labels_of_another_size_and_of_many_animals():
    labels = np.zeros((24, 40), np.uint16)
    labels[12:] = 300
    view = fit_view(np.zeros((*SIZE, 3), np.uint8), labels, [300], (1000, 1000))
    assert view.labels.shape == SIZE
    assert (view.labels[24:] == 1).all() and not view.labels[:24].any()
    view = fit_view(np.zeros((*SIZE, 3), np.uint8), labels, range(1, 301), (40, 40), (0, 0.25, 1, 1))
    assert view.labels.shape == (18, 40)
    assert (view.labels[6:] == 300).all() and not view.labels[:6].any()
