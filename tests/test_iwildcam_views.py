import camera_traps
import numpy as np
import pytest
from PIL import Image

from deepmac.core.images import read_image
from deepmac.core.label_images import write_label_image
from deepmac.iwildcam.collection import CameraTrapPicture, open_collection
from deepmac.iwildcam.views import caption, few_colours, in_time_order, picture_view, sheet


@pytest.fixture
def collection(tmp_path):
    root = camera_traps.write_release(tmp_path)
    labels = np.zeros(camera_traps.SIZE, np.uint8)
    labels[5:15, 5:15], labels[20:40, 40:70] = 1, 2
    write_label_image(root / "instance_masks/b-2.png", labels)
    return open_collection(root)


def _changed(view, path):
    return (np.asarray(view) != read_image(path)).any(axis=2)


def test_masks_lie_where_the_label_image_says(collection):
    picture = collection.pictures[1]
    view = picture_view(collection, picture, boxes=False, ids=False)
    changed = _changed(view, collection.picture_path(picture))
    assert changed[6:14, 6:14].all()
    assert changed[21:39, 41:69].all()
    assert not changed[:5].any()
    assert not changed[41:].any()


def test_only_the_wanted_detections_are_drawn(collection):
    picture = collection.pictures[1]
    path = collection.picture_path(picture)
    changed = _changed(picture_view(collection, picture, [2], boxes=False, ids=False), path)
    assert not changed[5:15, 5:15].any()
    assert changed[21:39, 41:69].all()
    assert not _changed(picture_view(collection, picture, [], opacity=0.5), path).any()
    unmasked = picture_view(collection, picture, opacity=0, boxes=False, ids=False)
    assert not _changed(unmasked, path).any()
    assert _changed(picture_view(collection, picture, opacity=0, ids=False), path).any(), "boxes"


def test_views_are_made_smaller_with_their_masks(collection):
    picture = collection.pictures[1]
    view = picture_view(collection, picture, boxes=False, ids=False, width=40)
    assert view.size == (40, 24)
    plain = picture_view(collection, picture, [], width=40)
    changed = (np.asarray(view) != np.asarray(plain)).any(axis=2)
    assert changed[11:19, 21:34].all()
    assert not changed[21:].any()


def test_missing_pictures_masks_and_unknown_detections_do_not_stop_it(collection, tmp_path):
    (tmp_path / "train/a-1.jpg").unlink()
    (tmp_path / "train/c-3.jpg").write_bytes(b"damaged")
    write_label_image(tmp_path / "instance_masks/d-4.png", np.full(camera_traps.SIZE, 9, np.uint8))
    (tmp_path / "instance_masks/b-2.png").write_bytes(b"damaged")
    views = [picture_view(collection, picture) for picture in collection.pictures]
    assert [view.size for view in views] == [(960, 720), (80, 48), (960, 720), (80, 48)]
    assert sheet(collection, collection.pictures, columns=2, tile=100).width == 2 * 106 + 6


def test_a_sheet_has_a_place_for_each_picture(collection):
    image = sheet(collection, collection.pictures, columns=3, tile=80)
    assert image.size == (6 + 3 * 86, 6 + 2 * (48 + 18 + 6))
    tile = np.asarray(image)[6:54, 6 + 86 : 6 + 86 + 80]
    expected = picture_view(collection, collection.pictures[1], ids=False, width=80)
    np.testing.assert_array_equal(tile, np.asarray(expected))
    assert sheet(collection, []).width > 0


def test_captions_say_what_is_known(collection):
    assert caption(collection.pictures[1]) == (
        "panthera pardus · camera 7 · 2013-10-04 13:31:51 · frame 1 · train"
    )
    assert caption(CameraTrapPicture("x", "x.jpg")) == "x"


def test_sequences_are_shown_in_the_order_of_time(collection):
    first, second, *_ = collection.pictures
    assert in_time_order([second, first]) == [first, second]
    unknown = CameraTrapPicture("x", "x.jpg")
    assert in_time_order([unknown, second, first]) == [first, second, unknown]


def test_few_colours():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    assert len(few_colours(noise).convert("RGB").getcolors()) <= 256
