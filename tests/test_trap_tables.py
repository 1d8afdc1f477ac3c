import json

import pytest
from PIL import Image

from deepmac.core.errors import InputError
from deepmac.data.megadetector import read_detections

_CAMTRAP = {
    "deployments": "deploymentID,locationName\nd1,Site A\nd2,\n",
    "media": "mediaID,deploymentID,timestamp,filePath,fileName,fileMediatype\n"
    "m1,d1,2020-05-30T04:57:37Z,a\\b.jpg,b.jpg,image/jpeg\n"
    "m2,d1,2020-05-30T04:57:40Z,https://example.org/x,c.jpg,image/jpeg\n"
    "m3,d2,2020-05-30T04:57:43Z,d.jpg,d.jpg,image/jpeg\n"
    "m4,d2,2020-05-30T04:57:43Z,e.mp4,e.mp4,video/mp4\n",
    "observations": "deploymentID,mediaID,eventID,eventStart,eventEnd,observationType,scientificName,"
    "bboxX,bboxY,bboxWidth,bboxHeight,classificationProbability\n"
    "d1,m1,e1,,,animal,Felis catus,0.1,0.2,0.3,0.4,0.8\n"
    "d1,m1,e1,,,human,,0.5,0.5,0.1,0.1,\n"
    "d1,,e9,2020-05-30T04:57:38Z,2020-05-30T04:57:45Z,animal,Vulpes vulpes,,,,,\n"
    "d2,m3,e3,,,blank,,,,,,\n",
}


@pytest.fixture
def package(tmp_path):
    resources = [{"name": name, "path": f"{name}.csv"} for name in _CAMTRAP]
    (tmp_path / "datapackage.json").write_text(json.dumps({"resources": resources}))
    for name, text in _CAMTRAP.items():
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8-sig")
    return tmp_path / "datapackage.json"


def test_camtrap_dp(package):
    found = read_detections(package)
    assert found.names == ["a/b.jpg", "c.jpg", "d.jpg"]
    cat, event, blank = found
    assert cat.boxes.tolist() == [[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.1, 0.1]]
    assert (cat.confidences.tolist(), cat.species) == ([0.8, 1.0], ["Felis catus", ""])
    assert [found.categories[key] for key in cat.categories] == ["animal", "human"]
    assert (len(event), len(blank)) == (0, 0)
    first, second, third = (found.facts[row] for row in range(3))
    assert first == {
        "time": "2020-05-30T04:57:37Z", "camera": "Site A", "sequence": "e1", "species": "Felis catus"
    }  # fmt: skip
    assert (second["sequence"], second["species"]) == ("e9", "Vulpes vulpes"), "seen in an event"
    assert (third["camera"], third["sequence"]) == ("d2", "e3")


def test_what_is_missing_of_camtrap_dp_is_said(package):
    media = package.with_name("media.csv")
    media.write_text(media.read_text(encoding="utf-8-sig").replace("timestamp", "time"))
    with pytest.raises(InputError, match="have no timestamp"):
        read_detections(package)
    media.unlink()
    with pytest.raises(InputError, match=r"cannot read the table .*media\.csv: No such file"):
        read_detections(package)
    package.write_text('{"resources": [{"name": "media", "path": "m"}]}')
    with pytest.raises(InputError, match="have no deployments"):
        read_detections(package)


def test_media_without_a_type_are_told_by_their_names(package):
    media = package.with_name("media.csv")
    text = media.read_text(encoding="utf-8-sig").replace("image/jpeg", "").replace("video/mp4", "")
    media.write_text(text)
    assert read_detections(package).names == ["a/b.jpg", "c.jpg", "d.jpg"]
    media.write_text(text.replace("d.jpg,d.jpg", "https://example.org/y,c.jpg"))
    with pytest.raises(InputError, match=r"several media are called c\.jpg"):
        read_detections(package)


@pytest.mark.parametrize("name", ["animl.csv", "animl.tsv"])
def test_todays_animl(tmp_path, name):
    """Of a picture without a detection pandas writes a line of empty cells, and other categories as 1.0."""
    path = tmp_path / name
    text = (
        "filepath,filename,extension,datetime,frame,max_detection_conf,category,conf,bbox_x,bbox_y,bbox_w,bbox_h\n"
        "/mnt/cam/1.jpg,1.jpg,.jpg,2023-01-01 00:00:00,0,0.9,1.0,0.9,0.1,0.1,0.3,0.3\n"
        "/mnt/cam/1.jpg,1.jpg,.jpg,2023-01-01 00:00:00,0,0.9,2.0,0.8,0.5,0.5,0.3,0.3\n"
        "/mnt/cam/2.jpg,2.jpg,.jpg,2023-01-01 00:01:00,0,,,,,,,\n"
        "/mnt/cam/3.jpg,3.jpg,.jpg,2023-01-01 00:02:00,0,0,NA,NA,NA,NA,NA,NA\n"
    )
    path.write_text(text if name.endswith("csv") else text.replace(",", "\t"))
    found = read_detections(path)
    assert found.names == ["/mnt/cam/1.jpg", "/mnt/cam/2.jpg", "/mnt/cam/3.jpg"]
    assert [len(picture) for picture in found] == [2, 0, 0]
    assert [found.categories[key] for key in found[0].categories] == ["animal", "person"]
    assert found[0].boxes.tolist() == [[0.1, 0.1, 0.3, 0.3], [0.5, 0.5, 0.3, 0.3]]


def test_animl(tmp_path):
    path = tmp_path / "animl.csv"
    path.write_text(
        "FilePath,file,DateTime,Station,category,conf,bbox1,bbox2,bbox3,bbox4,prediction\n"
        "x,a\\1.jpg,2021-07-01 05:20:42,S1,1,0.97,0.5,0.3,0.2,0.2,puma\n"
        "x,a\\1.jpg,2021-07-01 05:20:42,S1,2,0.4,0.1,0.1,0.2,0.2,\n"
        "x,a\\2.jpg,2021-07-01 05:21:42,S1,0,0.0,,,,,\n"
    )
    found = read_detections(path)
    assert (found.names, [len(picture) for picture in found]) == (["a/1.jpg", "a/2.jpg"], [2, 0])
    assert [found.categories[key] for key in found[0].categories] == ["animal", "person"]
    assert found[0].species == ["puma", ""]
    assert found.facts[0] == {"time": "2021-07-01 05:20:42", "camera": "S1"}
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no table of animl"):
        read_detections(path)


@pytest.mark.parametrize(
    ("name", "pictures", "detections", "species"),
    [
        ("animl_detections.csv", 22, 22, {""}),
        ("animl_format_3.0.json", 1, 2, {"test"}),
        ("datapackage.json", 4, 4, {"Felis catus", "Canis aureus", "Pan", "Equus"}),
        ("megadetector_v5_format_1.1.json", 31, 79, {""}),
        ("megadetector_with_classes.json", 5, 3, {"bear", ""}),
    ],
)
def test_real_files_are_read(camera_traps_dir, name, pictures, detections, species):
    found = read_detections(camera_traps_dir / "json" / name)
    assert (len(found), sum(map(len, found))) == (pictures, detections)
    assert {name for picture in found for name in picture.species} >= species


@pytest.mark.parametrize("name", ["instances.json", "megadb_sequences.json", "media.csv"])
def test_real_files_without_detections_are_refused_in_one_line(camera_traps_dir, name):
    with pytest.raises(InputError, match=name) as caught:
        read_detections(camera_traps_dir / "json" / name)
    assert "\n" not in str(caught.value)


def test_pixels_of_pytorch_wildlife_become_parts_of_the_picture(tmp_path):
    pictures = tmp_path / "pictures"
    (pictures / "cam").mkdir(parents=True)
    Image.new("RGB", (200, 100)).save(pictures / "cam" / "a.jpg")
    entry = {"img_id": "pictures/cam/a.jpg", "bbox": [[20, 10, 120, 60]], "category": [1]}
    entry["confidence"] = [0.4]
    kinds = [{"id": 0, "name": "animal"}, {"id": 1, "name": "person"}]
    entries = [entry, entry | {"img_id": "pictures/cam/missing.jpg"}, entry | {"bbox": [[1, 2], None]}, None]
    entries[2]["img_id"] = "pictures/cam/b.jpg"
    (tmp_path / "found.json").write_text(json.dumps({"annotations": entries, "categories": kinds}))
    found = read_detections(tmp_path / "found.json", pictures)
    assert found[0].boxes.tolist() == [[0.1, 0.1, 0.5, 0.5]] and found[0].confidences.tolist() == [0.4]
    assert [found.categories[key] for key in found[0].categories] == ["person"]
    (tmp_path / "found.json").write_text(json.dumps({"annotations": entries, "categories": 3}))
    assert len(read_detections(tmp_path / "found.json", pictures)) == 3
    # Those of a missing picture stay, so that it is named when masks are made; bad ones keep their numbers.
    assert found[1].usable.tolist() == [True] and found[2].usable.tolist() == [False, False]
