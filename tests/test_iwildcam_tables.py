import camera_traps
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmac.core.label_images import write_label_image
from deepmac.iwildcam.collection import open_collection
from deepmac.iwildcam.tables import ANY, Selection, objects_table, pictures_table


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Tables of a collection in which b-2 and d-4 have masks."""
    root = camera_traps.write_release(tmp_path_factory.mktemp("tables"))
    labels = np.zeros(camera_traps.SIZE, np.uint8)
    labels[:12], labels[24:] = 1, 2
    write_label_image(root / "instance_masks/b-2.png", labels)
    write_label_image(root / "instance_masks/d-4.png", np.full(camera_traps.SIZE, 1, np.uint8))
    collection = open_collection(root)
    return pictures_table(collection), objects_table(collection)


def test_pictures(tables):
    pictures, _ = tables
    assert pictures["id"].tolist() == ["a-1", "b-2", "c-3", "d-4"]
    assert pictures["category"].tolist() == ["panthera pardus", "panthera pardus", "empty", ""]
    assert pictures["location"].tolist() == ["7", "7", "7", "8"]
    assert (pictures["time"].diff().dropna().dt.total_seconds() == 1).all()


def test_objects(tables):
    _, objects = tables
    assert objects["picture"].tolist() == [0, 0, 1, 1, 1, 3]
    assert objects["number"].tolist() == [1, 2, 1, 2, 3, 1]
    np.testing.assert_allclose(objects["box_area"], [0.3, 0.3, 0.3, 0.3, 0.16, 0.3])
    np.testing.assert_allclose(objects["mask_area"], [np.nan, np.nan, 0.25, 0.5, 0, 1])
    np.testing.assert_allclose(objects["fill_ratio"][2:5], [0.25 / 0.3, 0.5 / 0.3, 0])


@pytest.mark.parametrize(
    ("selection", "ids"),
    [
        (Selection(), ["a-1", "b-2", "c-3", "d-4"]),
        (Selection(split="test"), ["d-4"]),
        (Selection(location="7", category="panthera pardus"), ["a-1", "b-2"]),
        (Selection(sequence="s2"), ["c-3"]),
        (Selection(detection_category="person"), ["a-1", "b-2", "c-3", "d-4"]),
        (Selection(detection_category="person", animals=(1, 9)), []),
        (Selection(confidence=(0.9, 1), animals=(1, 9)), ["a-1", "b-2"]),
        (Selection(animals=(0, 0)), ["c-3"]),
        (Selection(animals=(2, 2)), ["a-1"]),
        (Selection(mask_area=(0.3, 1), animals=(1, 9)), ["b-2", "d-4"]),
    ],
)
def test_selections(tables, selection, ids):
    pictures, objects = tables
    assert pictures["id"][selection.rows(pictures, objects)].tolist() == ids


@settings(deadline=None)
@given(
    st.sampled_from([ANY, "train", "test"]),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
def test_a_selection_is_what_counting_one_by_one_finds(tables, split, confidence, area, animals):
    pictures, objects = tables
    selection = Selection(split=split, confidence=confidence, mask_area=area, animals=animals)
    expected = []
    for row in range(len(pictures)):
        count = 0
        for item in objects[objects["picture"] == row].itertuples():
            mask_area = 0 if np.isnan(item.mask_area) else item.mask_area
            count += confidence[0] <= item.confidence <= confidence[1] and area[0] <= mask_area <= area[1]
        if animals[0] <= count <= animals[1] and split in (ANY, pictures["split"][row]):
            expected.append(row)
    assert sorted(selection.rows(pictures, objects)) == expected


def test_cameras_are_in_the_order_of_their_numbers(tables):
    pictures, objects = tables
    renamed = pictures.assign(location=["10", "2", "1", "3"])
    assert renamed["location"][Selection().rows(renamed, objects)].tolist() == ["1", "2", "10", "3"]


def test_an_empty_collection(tmp_path):
    camera_traps.write_detections(tmp_path / "detections.json", {})
    collection = open_collection(tmp_path)
    pictures, objects = pictures_table(collection), objects_table(collection)
    assert len(pictures) == len(objects) == 0
    assert Selection().rows(pictures, objects) == []
