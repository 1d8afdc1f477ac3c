import numpy as np
import pytest
from evaluation_data import HEIGHT, WIDTH, scenes
from pycocotools import mask as coco_mask

from deepmac.core.errors import InputError
from deepmac.evaluation import MaskEvaluator, baseline_results
from deepmac.evaluation.annotations import load_annotations


def test_polygons_and_both_kinds_of_rle_give_the_same_mask():
    content, _ = scenes(images=1)
    polygon = [[20, 30, 120, 30, 120, 90, 20, 90]]
    bitmap = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    bitmap[30:90, 20:120] = 1
    rle = coco_mask.encode(bitmap)
    changes = np.flatnonzero(np.diff(bitmap.ravel("F"))) + 1
    counts = np.diff(changes, prepend=0, append=bitmap.size).tolist()
    for segmentation in (polygon, rle, {"size": [HEIGHT, WIDTH], "counts": counts}):
        content["annotations"][0]["segmentation"] = segmentation
        assert load_annotations(content).annotations[0]["segmentation"] == rle


def test_instances_are_normalised_boxes_without_crowds():
    content, _ = scenes(images=2)
    content["annotations"][0] |= {"bbox": [26, 50, 52, 100], "iscrowd": 0}
    del content["annotations"][1]["iscrowd"]  # many files leave it out
    content["annotations"][2]["iscrowd"] = 1
    rows = [row for row in content["annotations"] if row["image_id"] == 1 and not row.get("iscrowd")]
    truth = load_annotations(content).instances()[1]
    np.testing.assert_allclose(truth.boxes[0], [0.25, 0.1, 0.75, 0.3])
    assert truth.annotation_ids.tolist() == [row["id"] for row in rows]
    assert truth.classes.tolist() == [row["category_id"] for row in rows]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("annotations"), "no list 'annotations'"),
        (lambda c: c["annotations"].clear(), "has no annotations"),
        (lambda c: c["annotations"][2].pop("bbox"), r"annotation 2 \(id 1002\) needs a 'bbox'"),
        (lambda c: c["annotations"][2].update(bbox=[1, 2, float("nan"), 4]), "'bbox' of four numbers"),
        (lambda c: c["annotations"][2].pop("area"), "needs an 'area'"),
        (lambda c: c["annotations"][2].update(segmentation="mask"), "neither polygons nor RLE"),
        (lambda c: c["annotations"][2].update(segmentation=[]), "neither polygons nor RLE"),
        (lambda c: c["annotations"][2]["segmentation"].update(size=[9, 9]), "but its image is"),
        (lambda c: c["annotations"][2].update(category_id=2), "category id 2 is not"),
        (lambda c: c["annotations"][2].update(image_id=99), "image id 99 is not"),
        (lambda c: c["annotations"][2].update(id=1001), "same id"),
        (lambda c: c["annotations"].append(None), "needs an integer 'id'"),
        (lambda c: c["images"][1].pop("height"), "image 1 needs"),
        (lambda c: c["categories"][1].pop("name"), "category 1 needs"),
        (lambda c: c["categories"][1].update(id=1), "2 categories have the id 1"),
    ],
)
def test_malformed_annotations_are_named(change, message):
    content, _ = scenes()
    change(content)
    with pytest.raises(InputError, match=message):
        MaskEvaluator(content)


def test_bad_files_and_options(tmp_path):
    content, _ = scenes(images=3)
    with pytest.raises(InputError, match="not found"):
        MaskEvaluator(tmp_path / "missing.json")
    for name, text, message in [
        ("a", "{", "not JSON"),
        ("b", "[]", "no JSON object"),
        ("c", "\xff", "not JSON"),
    ]:
        path = tmp_path / name
        path.write_text(text, encoding="latin-1")
        with pytest.raises(InputError, match=message):
            MaskEvaluator(path)
    with pytest.raises(InputError, match="cannot be read"):
        MaskEvaluator(tmp_path)
    for options in (
        {"backend": "coco"},
        {"iou_types": ["keypoints"]},
        {"iou_types": ["boundary"], "backend": "pycocotools"},
        {"image_ids": [1, 500]},
        {"image_ids": []},
    ):
        with pytest.raises(InputError):
            MaskEvaluator(content, **options)
    with pytest.raises(InputError, match="unknown baseline"):
        baseline_results(content, "circle")
