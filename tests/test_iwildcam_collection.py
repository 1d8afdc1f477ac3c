import json
import re

import camera_traps
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deepmac.core.errors import InputError
from deepmac.core.label_images import write_label_image
from deepmac.iwildcam.collection import REVIEW_FILE, in_order, open_collection


def _pictures(collection):
    return collection.animals.drop_duplicates("picture").set_index("picture")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("year", [2021, 2022])
def test_releases_are_read(tmp_path, year, nested):
    collection = open_collection(camera_traps.write_release(tmp_path, year, nested))
    animals, pictures = collection.animals, _pictures(collection)
    assert pictures.index.tolist() == ["train/a-1.jpg", "train/b-2.jpg", "train/c-3.jpg", "test/d-4.jpg"]
    assert pictures["split"].tolist() == ["train", "train", "train", "test"]
    assert pictures["camera"].tolist() == ["7", "7", "7", "8"]
    assert pictures["sequence"].tolist() == ["s1", "s1", "s2", "s3"]
    assert pictures["frame"].tolist() == [0, 1, 0, 1]
    assert pictures["time"].tolist() == [pd.Timestamp(f"2013-10-04 13:31:5{second}") for second in range(4)]
    assert pictures["species"].tolist() == ["panthera pardus", "panthera pardus", "empty", ""]
    counted = [2, 2, np.nan, np.nan] if year == 2022 else [np.nan] * 4
    np.testing.assert_array_equal(pictures["counted"], counted)
    assert animals["number"].tolist() == [1, 2, 1, 2, 3, 0, 1]
    assert animals["confidence"].tolist()[:5] == [0.61, 0.93, 0.61, 0.93, 0.22], "as in the file"
    assert all(collection.picture_path(name).is_file() for name in pictures.index)
    assert collection.mask_path("test/d-4.jpg") == tmp_path / "instance_masks" / "d-4.png"


def test_masks_are_measured(tmp_path):
    root = camera_traps.write_release(tmp_path)
    labels = np.zeros(camera_traps.SIZE, np.uint8)
    labels[:12], labels[24:] = 1, 2
    write_label_image(root / "instance_masks/b-2.png", labels, {"Quality": '{"1": 0.9, "2": 0.5}'})
    animals = open_collection(root).animals
    found = animals[animals["picture"] == "train/b-2.jpg"]
    assert found["area"].tolist() == [12 * 80, 24 * 80, 0]
    np.testing.assert_allclose(found["share"], [25, 50, 0])
    np.testing.assert_allclose(found["box_share"], [30, 30, 16])
    np.testing.assert_allclose(found["fill"], [25 / 30, 50 / 30, 0])
    np.testing.assert_array_equal(found["quality"], [0.9, 0.5, np.nan])
    assert found["rating"].tolist() == ["good", "doubtful", ""]
    assert found["masks"].tolist() == ["instance_masks/b-2.png"] * 3
    others = animals.drop(found.index)
    assert others["area"].isna().all() and (others["masks"] == "").all()


def test_pictures_that_only_the_metadata_name_have_no_detections(tmp_path):
    root = camera_traps.write_release(tmp_path)
    camera_traps.write_detections(
        root / "metadata/iwildcam2022_mdv4_detections.json", {"train/b-2.jpg": 1, "train/new.jpg": 2}
    )
    animals = open_collection(root).animals
    numbers = animals.groupby("picture")["number"].agg(list).to_dict()
    without = {name: [0] for name in ("train/a-1.jpg", "train/c-3.jpg", "test/d-4.jpg")}
    assert numbers == without | {"train/b-2.jpg": [1], "train/new.jpg": [1, 2]}


def test_of_ones_own_pictures_the_folder_is_the_camera_and_exif_has_the_time(tmp_path):
    for number, seconds in enumerate([0, 50, 100, 200, 210]):
        exif = Image.Exif()
        exif[0x0132] = f"2021:05:06 07:{seconds // 60:02d}:{seconds % 60:02d}"
        path = tmp_path / f"camera {number // 4}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 6)).save(path, exif=exif)
    camera_traps.write_picture(tmp_path / "camera 1/undated.jpg")
    names = [f"camera {number // 4}/{number}.jpg" for number in range(5)] + ["camera 1/undated.jpg"]
    names += ["camera 2/missing.jpg"]
    camera_traps.write_detections(tmp_path / "results.json", {f"{tmp_path}/{name}": 1 for name in names})
    pictures = _pictures(open_collection(tmp_path))
    assert pictures.index.tolist() == names
    assert pictures["camera"].tolist() == ["camera 0"] * 4 + ["camera 1"] * 2 + ["camera 2"]
    assert pictures["time"][names[1]] == pd.Timestamp(2021, 5, 6, 7, 0, 50)
    assert pictures["time"].isna().tolist() == [False] * 5 + [True] * 2
    assert pictures["sequence"].tolist() == [names[0]] * 3 + names[3:], "named after their first pictures"
    longer = _pictures(open_collection(tmp_path, sequence_gap=150))
    assert longer["sequence"].tolist() == [names[0]] * 4 + names[4:]


def test_species_come_from_classifications(tmp_path):
    camera_traps.write_detections(tmp_path / "results.json", {})
    assert len(open_collection(tmp_path).animals) == 0
    found = camera_traps.detections_of(2)
    found[0]["classifications"] = [["1", 0.2], ["0", 0.7]]
    document = {"images": [{"file": "a.jpg", "detections": found}], "detection_categories": {"1": "animal"}}
    document["classification_categories"] = {"0": "fox", "1": "elk"}
    (tmp_path / "results.json").write_text(json.dumps(document))
    assert open_collection(tmp_path).animals["species"].tolist() == ["fox", ""]
    assert sorted(["c10", "c2", "b"], key=in_order) == ["b", "c2", "c10"], "numbers in names count"


def test_a_part_has_whole_sequences(tmp_path):
    root = camera_traps.write_release(tmp_path)
    whole = open_collection(root, most=4)
    assert whole.animals["picture"].nunique() == 4
    part = open_collection(root, most=3)
    names = set(part.animals["picture"])
    assert 2 <= len(names) <= 3
    assert ("train/a-1.jpg" in names) == ("train/b-2.jpg" in names)
    assert set(open_collection(root, most=3).animals["picture"]) == names
    for path in (root / "metadata").glob("*.json"):
        path.write_text(re.sub('"seq_id": "s[23]"', '"seq_id": "s1"', path.read_text()))
    assert open_collection(root, most=1).animals["picture"].nunique() == 4, "a sequence at least"


def test_verdicts_are_kept_beside_the_pictures_for_the_same_boxes(tmp_path):
    root = camera_traps.write_release(tmp_path)
    first = open_collection(root)
    first.review([0, 4], "reject")
    first.review([1], "keep")
    first.review([0], "")
    part = open_collection(root, most=1)  # of what is not open verdicts stay
    part.review([0], "keep")
    again = open_collection(root).animals
    assert again["review"].tolist()[1:5] == ["keep", "", "", "reject"]
    assert len(pd.read_csv(root / REVIEW_FILE)) == 3
    path = root / "metadata/iwildcam2022_mdv4_detections.json"
    path.write_text(path.read_text().replace("[0.3, 0.1, 0.6, 0.5]", "[0.3, 0.1, 0.6, 0.4]"))
    assert open_collection(root).animals["review"].tolist()[1:5] == ["", "", "", "reject"]
    (root / REVIEW_FILE).write_text("nothing\n1\n")
    with pytest.raises(
        InputError, match=rf"{REVIEW_FILE} is damaged: mend its columns picture, number"
    ) as told:
        open_collection(root)
    assert "Index(" not in str(told.value), "no words of pandas"


def test_verdicts_of_another_notebook_are_taken_over(tmp_path):
    root = camera_traps.write_release(tmp_path)
    first, second = open_collection(root), open_collection(root)
    second.review([0, 1], "reject")
    first.review([2], "keep")
    assert first.animals["review"].tolist()[:3] == ["reject", "reject", "keep"]
    second.review([0], "")
    assert second.animals["review"].tolist()[:3] == ["", "reject", "keep"]
    first.take_over_verdicts()
    assert first.animals["review"].tolist()[:3] == ["", "reject", "keep"]


def test_verdicts_on_animals_without_a_box_and_on_pictures_called_by_numbers_are_read_again(tmp_path):
    images = [{"id": str(number), "detections": [{"category": "1", "conf": 0.9}]} for number in (1001, 1002)]
    for image in images:
        camera_traps.write_picture(tmp_path / f"{image['id']}.jpg")
    document = {"images": images, "detection_categories": {"1": "animal"}}
    (tmp_path / "detections.json").write_text(json.dumps(document))
    for verdict in ("reject", "keep"):
        collection = open_collection(tmp_path)
        collection.review([0], verdict)
        assert open_collection(tmp_path).animals["review"].tolist() == [verdict, ""]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1601-01-01 00:00:00", "1601-01-01 00:00"),  # earlier than nanoseconds reach
        ("05/03/2021 6:07 PM", "2021-05-03 18:07"),
    ],
)
def test_times_are_read_as_they_are_meant(tmp_path, written, meant):
    camera_traps.write_picture(tmp_path / "a.jpg")
    image = {"file": "a.jpg", "detections": [], "datetime": written}
    document = {"images": [image], "detection_categories": {"1": "animal"}}
    (tmp_path / "detections.json").write_text(json.dumps(document))
    assert open_collection(tmp_path).animals["time"].dt.strftime("%Y-%m-%d %H:%M").tolist() == [meant]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("iwildcam2022_train_annotations.json", '{"annotations": []}', "'images' is missing"),
        ("iwildcam2022_train_annotations.json", json.dumps({"images": [3]}), "Camera Traps format"),
        ("iwildcam2022_test_information.json", '{"images": broken', "Camera Traps format"),
        ("train_sequence_counts.csv", "seq,count\ns1,3\n", "not a table of seq_id and count"),
        ("train_sequence_counts.csv", "seq_id,count\ns1,many\n", "not a table of seq_id and count"),
    ],
)
def test_malformed_metadata_are_refused(tmp_path, name, text, words):
    root = camera_traps.write_release(tmp_path)
    (root / "metadata" / name).write_text(text)
    with pytest.raises(InputError, match=words):
        open_collection(root)


@pytest.mark.parametrize("folder", ["ena24", "southwest"])
def test_real_pictures(camera_traps_dir, tmp_path, folder):
    """Of MegaDetector's file with classifications, or none; times come from EXIF where cameras wrote it."""
    for path in (camera_traps_dir / folder).iterdir():
        (tmp_path / path.name).symlink_to(path)
    if folder == "southwest":
        pictures = {path.name: 1 for path in tmp_path.iterdir()}
        camera_traps.write_detections(tmp_path / "md.json", pictures)
    collection = open_collection(tmp_path)
    pictures = _pictures(collection)
    assert len(pictures) == {"ena24": 21, "southwest": 12}[folder]
    assert all(collection.picture_path(name) for name in pictures.index)
    if folder == "ena24":
        assert pictures["species"]["2480.jpg"] == "virginia_opossum"
    else:
        assert pictures["time"]["IMAG0031_wolf.JPG"] == pd.Timestamp(2013, 3, 31, 16, 27, 36)
        assert pictures["time"].isna().sum() == 1
