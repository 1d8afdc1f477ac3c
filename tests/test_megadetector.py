import json

import camera_traps
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepmac.core.errors import InputError
from deepmac.data.megadetector import Detections, read_detections

FRACTIONS = st.floats(0, 1, allow_subnormal=False)
BOXES = st.tuples(FRACTIONS, FRACTIONS, FRACTIONS, FRACTIONS)
PICTURES = st.dictionaries(
    st.text("abc/._- é", min_size=1),
    st.lists(st.tuples(BOXES, st.sampled_from(["1", "2", "3"]), FRACTIONS), max_size=4),
    max_size=5,
)


@pytest.mark.parametrize("year", [2021, 2022])
def test_both_releases_are_read_in_the_order_of_the_file(tmp_path, year):
    camera_traps.write_release(tmp_path, year)
    names = ["iwildcam2021_megadetector_results.json", "iwildcam2022_mdv4_detections.json"]
    detections = read_detections(tmp_path / "metadata" / names[year - 2021])
    expected = ["a-1", "b-2", "c-3", "d-4"]
    if year == 2022:
        expected = ["train/a-1.jpg", "train/b-2.jpg", "train/c-3.jpg", "test/d-4.jpg"]
    assert detections.names == expected
    assert detections.named_by == ("id" if year == 2021 else "file")
    assert [len(picture) for picture in detections] == [2, 3, 0, 1]
    np.testing.assert_array_equal(detections[1].boxes, camera_traps.BOXES)
    assert detections[1].confidences.tolist() == [0.61, 0.93, 0.22], "as in the file, not by confidence"
    np.testing.assert_allclose(detections[3].corners, [[0.2, 0.1, 0.8, 0.6]])
    assert detections.categories == {"1": "animal", "2": "person"}


def test_todays_batch_output_is_read(tmp_path):
    path = tmp_path / "detections.json"
    fox = {"category": "3", "conf": 0.926, "bbox": [0, 0.25, 0.5, 0.5], "classifications": [["0", 0.9]]}
    document = {
        "info": {"format_version": "1.5", "detector_metadata": {"id": "x", "classes": ["animal"]}},
        "detection_categories": {"1": "animal", "3": "vehicle"},
        "classification_categories": {"0": "fox"},
        "images": [
            {"file": "cam1\\a.jpg", "detections": [fox]},
            {"file": "cam1/broken.jpg", "failure": "Failure image access", "detections": None},
            {"file": "cam1/failed.jpg", "failure": "Failure image access"},
            {"file": "cam1/empty.jpg", "detections": [], "failure": None},
        ],
    }
    path.write_text(json.dumps(document))
    detections = read_detections(path)
    assert detections.names == ["cam1/a.jpg", "cam1/broken.jpg", "cam1/failed.jpg", "cam1/empty.jpg"]
    assert [len(picture) for picture in detections] == [1, 0, 0, 0]
    assert (detections[0].categories, detections[0].species) == (["3"], ["fox"])
    assert detections.facts == {number: {"failure": "Failure image access"} for number in (1, 2)}


@given(PICTURES, st.sampled_from(["file", "id"]))
def test_what_was_written_is_read_again(tmp_path_factory, pictures, named_by):
    images = [
        {
            named_by: name,
            "detections": [{"bbox": box, "category": kind, "conf": conf} for box, kind, conf in rows],
        }
        for name, rows in pictures.items()
    ]
    document = {"images": images, "detection_categories": {"1": "animal", "2": "person", "3": "vehicle"}}
    path = tmp_path_factory.mktemp("detections") / "a.json"
    path.write_text(json.dumps(document))
    read = read_detections(path)
    assert read.names == list(pictures)
    assert not pictures or read.named_by == named_by
    assert read.categories == document["detection_categories"]
    for picture, rows in zip(read, pictures.values(), strict=True):
        assert picture.boxes.tolist() == [list(box) for box, _, _ in rows]
        assert picture.categories == [category for _, category, _ in rows]
        assert picture.confidences.tolist() == [confidence for _, _, confidence in rows]


def test_boxes_that_show_nothing_are_not_usable_and_sides_may_run_backwards():
    detections = Detections()
    boxes = [[0.1, 0.1, 0.2, 0.2], [0.5, 0.5, 0, 0.1], [1.2, 0, 0.1, 0.1], [0.9, 0.9, 0.5, 0.5]]
    boxes += [[float("nan"), 0, 1, 1], [0.5, 0.5, -0.1, 0.1]]
    detections.add("a.jpg", [(box, "1", 0.5) for box in boxes])
    assert detections[0].usable.tolist() == [True, False, False, True, False, True]
    assert detections[0].corners[3].tolist() == [0.9, 0.9, 1.0, 1.0]
    assert detections[0].corners[5].tolist() == [0.5, 0.4, 0.6, 0.5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "has no detections of pictures"),
        ('{"images": [{"file_name": "a.jpg"}], "detection_categories": {}}', "image 0 is malformed"),
        ('{"images": [{"file": "a.jpg", "detections": []}]}', "has no detections of pictures"),
        (
            '{"images": [{"file": "a.jpg", "detections": [{"bbox": [10, 20, 30, 40], "conf": 1}]}], '
            '"detection_categories": {}}',
            "boxes in pixels or percent",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, text, words):
    path = tmp_path / "detections.json"
    with pytest.raises(InputError, match="no such file"):
        read_detections(path)
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_detections(path)


def test_a_bad_detection_keeps_its_number_and_has_no_box(tmp_path):
    """Label images refer to detections by number. People who add boxes give them no confidence."""
    boxes = [[0, 1, 0], None, [0.1, 0.1, "x", 0.2], [0.1, 0.1, 0.2, 0.2]]
    found = [None, *({"bbox": box, "category": 1} for box in boxes)]
    path = tmp_path / "detections.json"
    document = {"images": [{"file": "a.jpg", "detections": found}], "detection_categories": {"1": "animal"}}
    path.write_text(json.dumps(document))
    detections = read_detections(path)[0]
    assert detections.usable.tolist() == [False] * 4 + [True]
    assert detections.confidences.tolist() == [1] * 5


@pytest.mark.parametrize(
    ("classes", "species"),
    [
        ([["3", 0.8], ["1", 0.9]], "fox"),
        ([["3", None], ["1", 0.2]], "fox"),
        ([["3", "0.8"], ["1", 0.2]], "lynx"),
        ([["7", 0.8]], "7"),
        *(
            (other, "")
            for other in ([{"category": "3", "conf": 0.8}], [["3"]], ["3", 0.8], "lynx", {"3": 0.8})
        ),
        *((other, "") for other in ("0.8", 5, None, [])),
    ],
)
def test_a_classification_of_another_form_costs_no_box(tmp_path, classes, species):
    found = [{"category": "1", "conf": 0.9, "bbox": [0.1, 0.1, 0.2, 0.2], "classifications": classes}]
    document = {"images": [{"file": "a.jpg", "detections": found}], "detection_categories": {"1": "animal"}}
    path = tmp_path / "detections.json"
    path.write_text(json.dumps(document | {"classification_categories": {"1": "fox", "3": "lynx"}}))
    detections = read_detections(path)
    assert detections[0].usable.tolist() == [True] and detections[0].species == [species]
    path.write_text(json.dumps(document | {"classification_categories": ["fox"]}))
    assert read_detections(path)[0].usable.tolist() == [True]


def test_a_bad_picture_of_a_file_costs_that_picture(tmp_path):
    found = [{"category": "1", "conf": 0.9, "bbox": [0.1, 0.1, 0.2, 0.2]}]
    good = {"file": "a.jpg", "detections": found}
    bad = [{}, 7, {"file": "", "detections": found}, {"file": None, "detections": found}]
    failed = [{"id": "b.jpg"}, {"file": "c.jpg", "detections": 5}, {"file": "d.jpg", "detections": None}]
    failed += [{"file": "e.jpg", "failures": 5}]
    images = [good, *bad, None, *failed, good, good | {"detections": []}]
    path = tmp_path / "detections.json"
    for document in (
        {"images": images, "detection_categories": {"1": "animal"}},
        {"predictions": [{key.replace("file", "filepath"): value for key, value in image.items()}
                         if isinstance(image, dict) else image for image in images]},
    ):  # fmt: skip
        path.write_text(json.dumps(document))
        detections = read_detections(path)
        assert sorted(detections.names) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]
        assert detections.named_by == "file"
        assert len(detections[detections.names.index("a.jpg")]) == 1
        assert detections.lost == {
            "pictures that are listed again left out": ["a.jpg", "a.jpg"],
            "entries of pictures without a name left out": ["image 1", "image 2", "image 3", "image 4"],
        }
        problems = {detections.names[row]: fact["failure"] for row, fact in detections.facts.items()}
        assert problems.pop("e.jpg") == "5"
        assert problems == dict.fromkeys(["b.jpg", "c.jpg", "d.jpg"], "it has no list of detections")


def test_speciesnet(tmp_path):
    found = [{"category": "1", "label": "animal", "conf": 0.5, "bbox": [0.1, 0.1, 0.2, 0.2]}]
    predictions = [
        {"filepath": "x/a.jpg", "detections": found, "prediction": "u;mammalia;;;felis;catus;domestic cat"},
        {"filepath": "x/b.jpg", "failures": ["DETECTOR"]},
    ]
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps({"predictions": predictions[:1]}))
    detections = read_detections(path)
    assert (detections.names, len(detections[0])) == (["x/a.jpg"], 1)
    assert detections.facts == {0: {"species": "domestic cat"}}
    path.write_text(json.dumps({"predictions": predictions}))
    assert read_detections(path).names == ["x/a.jpg", "x/b.jpg"]
