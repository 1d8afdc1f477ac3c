import json

import camera_traps
import numpy as np
import pytest
from pycocotools.coco import COCO

from deepmac.core.errors import InputError
from deepmac.core.label_images import write_label_image
from deepmac.iwildcam.coco import write_coco
from deepmac.iwildcam.collection import open_collection


def test_masks_become_coco_annotations(tmp_path):
    root = camera_traps.write_release(tmp_path)
    labels = np.zeros(camera_traps.SIZE, np.uint8)
    labels[5:20, 10:30], labels[15:40, 25:70] = 1, 3  # nothing is seen of detection 2
    write_label_image(root / "instance_masks" / "b-2.png", labels)
    write_label_image(root / "instance_masks" / "d-4.png", np.full(camera_traps.SIZE, 1, np.uint8))
    collection = open_collection(root)
    assert write_coco(tmp_path / "coco.json", collection) == (2, 3)

    coco = COCO(str(tmp_path / "coco.json"))
    [image] = [image for image in coco.dataset["images"] if image["file_name"] == "train/b-2.jpg"]
    assert (image["height"], image["width"], image["seq_id"], image["location"]) == (48, 80, "s1", "7")
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
    assert [annotation["detection"] for annotation in annotations] == [1, 3]
    assert [annotation["score"] for annotation in annotations] == [0.61, 0.22]
    assert annotations[0]["bbox"] == pytest.approx([8, 9.6, 40, 28.8])
    for annotation in annotations:
        np.testing.assert_array_equal(coco.annToMask(annotation), labels == annotation["detection"])
        assert annotation["area"] == (labels == annotation["detection"]).sum()
    assert coco.loadCats([1])[0]["name"] == "animal"
    selected = [picture for picture in collection.pictures if picture.split == "test"]
    assert write_coco(tmp_path / "test.json", collection, selected) == (1, 1)


def test_no_file_is_left_when_masks_are_damaged(tmp_path):
    root = camera_traps.write_release(tmp_path)
    (root / "instance_masks").mkdir()
    (root / "instance_masks" / "b-2.png").write_bytes(b"damaged")
    with pytest.raises(InputError, match="damaged"):
        write_coco(tmp_path / "coco.json", open_collection(root))
    assert not list(tmp_path.glob("*coco*"))


def test_a_collection_without_masks_is_valid_json(tmp_path):
    root = camera_traps.write_release(tmp_path)
    assert write_coco(tmp_path / "coco.json", open_collection(root)) == (0, 0)
    assert json.loads((tmp_path / "coco.json").read_text())["annotations"] == []
