import datetime
import json

import camera_traps
import pytest

from deepmac.core.errors import InputError
from deepmac.iwildcam.collection import open_collection


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("year", [2021, 2022])
def test_releases_are_read(tmp_path, year, nested):
    collection = open_collection(camera_traps.write_release(tmp_path, year, nested))
    assert [picture.id for picture in collection.pictures] == ["a-1", "b-2", "c-3", "d-4"]
    first, second, empty, test = collection.pictures
    assert (first.split, first.location, first.sequence, first.frame) == ("train", "7", "s1", 0)
    assert first.time == datetime.datetime(2013, 10, 4, 13, 31, 50)
    assert (first.categories, empty.categories, test.categories) == (("panthera pardus",), ("empty",), ())
    assert (first.count, second.count, empty.count) == ((2, 2, None) if year == 2022 else (None,) * 3)
    assert (test.split, test.location) == ("test", "8")
    assert [len(collection.detections(picture)) for picture in collection.pictures] == [2, 3, 0, 1]
    assert all(collection.picture_path(picture).is_file() for picture in collection.pictures)
    assert collection.mask_path(test) == tmp_path / "instance_masks" / "d-4.png"


def test_pictures_that_only_the_metadata_name_have_no_detections(tmp_path):
    root = camera_traps.write_release(tmp_path)
    camera_traps.write_detections(
        root / "metadata/iwildcam2022_mdv4_detections.json", {"train/b-2.jpg": 1, "train/new.jpg": 2}
    )
    collection = open_collection(root)
    assert [picture.name for picture in collection.pictures] == [
        "train/b-2.jpg",
        "train/new.jpg",
        "train/a-1.jpg",
        "train/c-3.jpg",
        "test/d-4.jpg",
    ]
    assert [len(collection.detections(picture)) for picture in collection.pictures] == [1, 2, 0, 0, 0]


def test_a_collection_of_ones_own_needs_nothing_but_detections(tmp_path):
    camera_traps.write_picture(tmp_path / "camera 1" / "x.jpg")
    names = {f"{tmp_path.as_posix()}/camera 1/x.jpg": 2, f"{tmp_path.as_posix()}/camera 2/x.jpg": 1}
    camera_traps.write_detections(tmp_path / "megadetector.json", names)
    collection = open_collection(tmp_path)
    first, second = collection.pictures
    assert (first.location, first.split, first.time, first.categories) == ("camera 1", "", None, ())
    assert collection.picture_path(first) == tmp_path / "camera 1" / "x.jpg"
    assert collection.picture_path(second) is None
    assert collection.mask_path(second) == tmp_path / "instance_masks" / "camera 2" / "x.png"


def test_a_part_has_whole_sequences(tmp_path):
    collection = open_collection(camera_traps.write_release(tmp_path))
    assert collection.part(None) is collection
    assert collection.part(4) is collection
    for seed in range(5):
        ids = {picture.id for picture in collection.part(3, seed).pictures}
        assert len(ids) <= 3
        assert ("a-1" in ids) == ("b-2" in ids)
    assert {len(collection.part(3, seed)) for seed in range(5)} <= {2, 3}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("iwildcam2022_train_annotations.json", "{}", "Camera Traps format: 'images' is missing"),
        ("iwildcam2022_train_annotations.json", json.dumps({"images": [3]}), "Camera Traps format"),
        ("iwildcam2022_test_information.json", "broken", "Camera Traps format"),
        ("train_sequence_counts.csv", "seq,count\ns1,3\n", "not a table of seq_id and count"),
        ("train_sequence_counts.csv", "seq_id,count\ns1,many\n", "not a table of seq_id and count"),
    ],
)
def test_malformed_metadata_are_refused(tmp_path, name, text, words):
    root = camera_traps.write_release(tmp_path)
    (root / "metadata" / name).write_text(text)
    with pytest.raises(InputError, match=words):
        open_collection(root)
