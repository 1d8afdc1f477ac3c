import json

import camera_traps
import numpy as np
import pandas as pd
import pytest
from pycocotools.coco import COCO

from deepmac.core.errors import InputError
from deepmac.core.label_images import write_label_image
from deepmac.iwildcam.collection import open_collection
from deepmac.iwildcam.exports import export, write_masks


@pytest.fixture
def labels():
    labels = np.zeros(camera_traps.SIZE, np.uint8)
    labels[5:20, 10:30], labels[15:40, 25:70] = 1, 3  # nothing is seen of detection 2
    return labels


@pytest.fixture
def collection(tmp_path, labels):
    root = camera_traps.write_release(tmp_path)
    write_label_image(root / "instance_masks" / "b-2.png", labels)
    write_label_image(root / "instance_masks" / "d-4.png", np.full(camera_traps.SIZE, 1, np.uint8))
    return open_collection(root)


def test_masks_become_coco_annotations_with_species(collection, labels, tmp_path):
    assert write_masks(tmp_path / "coco.json", collection, collection.animals) == (3, 2)
    coco = COCO(str(tmp_path / "coco.json"))
    [image] = [image for image in coco.dataset["images"] if image["file_name"] == "train/b-2.jpg"]
    assert (image["height"], image["width"], image["seq_id"], image["location"]) == (48, 80, "s1", "7")
    assert image["datetime"] == "2013-10-04 13:31:51"
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
    assert [annotation["detection"] for annotation in annotations] == [1, 3]
    assert [annotation["score"] for annotation in annotations] == [0.61, 0.22]
    assert annotations[0]["bbox"] == pytest.approx([8, 9.6, 40, 28.8])
    for annotation in annotations:
        np.testing.assert_array_equal(coco.annToMask(annotation), labels == annotation["detection"])
        assert annotation["area"] == (labels == annotation["detection"]).sum()
        assert coco.cats[annotation["category_id"]]["name"] == "panthera pardus"
    assert [category["name"] for category in coco.dataset["categories"]] == ["animal", "panthera pardus"]
    mixed = collection.animals.sort_values("number")
    assert write_masks(tmp_path / "mixed.json", collection, mixed) == (3, 2)
    assert (tmp_path / "mixed.json").read_text() == (tmp_path / "coco.json").read_text()
    test = collection.animals.query("split == 'test'")
    assert write_masks(tmp_path / "test.json", collection, test) == (1, 1)
    (tmp_path / "instance_masks" / "b-2.png").write_bytes(b"damaged")
    assert write_masks(tmp_path / "coco.json", collection, collection.animals) == (1, 1)
    (tmp_path / "instance_masks" / "d-4.png").unlink()
    collection = open_collection(tmp_path)
    assert write_masks(tmp_path / "coco.json", collection, collection.animals) == (0, 0)
    assert json.loads((tmp_path / "coco.json").read_text())["annotations"] == []


def test_what_is_rejected_is_not_exported(collection, tmp_path):
    animals = collection.animals
    line = animals.index[(animals["picture"] == "train/b-2.jpg") & (animals["number"] == 3)][0]
    collection.review([line], "reject")
    said = export(collection, animals, tmp_path / "out")
    assert "5 animals in animals.csv, 1 rejected left out; 2 masks of 2 pictures in animals_coco.json" in said
    table = pd.read_csv(tmp_path / "out/animals.csv")
    assert table.columns.tolist() == animals.columns.tolist()
    assert table["picture"].tolist() == ["train/a-1.jpg"] * 2 + ["train/b-2.jpg"] * 2 + ["test/d-4.jpg"]
    assert (tmp_path / table["masks"][4]).is_file()
    assert table["area"].tolist()[2:] == [300 - 5 * 5, 0, 48 * 80]
    lines = (tmp_path / "out/animals.csv").read_text("utf-8-sig").splitlines()
    assert ",0.1,0.2,0.5,0.6,275," in lines[3], "no 0.30000000000000004, and no half pixels"


def test_why_animals_have_no_masks_is_said(collection, tmp_path):
    """Of six, d-4 loses its file after the table was made, and a-1 never had one."""
    (tmp_path / "instance_masks" / "d-4.png").unlink()
    said = export(collection, collection.animals, tmp_path / "out")
    assert (
        "; 2 masks of 1 pictures in animals_coco.json, 3 animals left out whose mask files are missing"
        in said
    )
    assert ", 1 left out of which the mask files have no pixel: see" in said
    table = pd.read_csv(tmp_path / "out/animals.csv")
    assert table[["area", "quality", "rating", "masks"]].iloc[[0, 1, 5]].isna().all(axis=None)
    (tmp_path / "instance_masks" / "b-2.png").write_bytes(b"damaged")
    said = export(collection, collection.animals, tmp_path / "out")
    assert "0 masks of 0 pictures in animals_coco.json, 5 animals left out" in said


def test_an_export_without_animals_leaves_the_last_one_alone(collection, tmp_path):
    animals = collection.animals
    export(collection, animals, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(InputError, match="no animal fits"):
        export(collection, animals[animals["number"] == 0], tmp_path / "out")
    with pytest.raises(InputError, match="all animals that fit are rejected"):
        export(collection, animals.assign(review="reject"), tmp_path / "out")
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_numbers_have_the_digits_that_readers_need(collection, tmp_path):
    """Detectors compute in single precision, of which 0.61 is 0.6100000143051147."""
    path = collection.layout.detections
    path.write_text(path.read_text().replace("0.61", "0.6100000143051147"))
    texts = {"Quality": '{"1": 0.823456789}'}
    write_label_image(tmp_path / "instance_masks" / "d-4.png", np.full(camera_traps.SIZE, 1, np.uint8), texts)
    collection = open_collection(tmp_path)
    export(collection, collection.animals, tmp_path / "out")
    line = (tmp_path / "out/animals.csv").read_text("utf-8-sig").splitlines()[-1]
    assert ",0.61,0.1,0.2,0.5,0.6,3840,100.0,30,3.33333,0.82346,good," in line
    annotations = json.loads((tmp_path / "out/animals_coco.json").read_text())["annotations"]
    assert [annotation["score"] for annotation in annotations] == [0.61, 0.22, 0.61]
