import ast
import json
from importlib import metadata
from pathlib import Path

from deepmac.core import categories

# PASCAL VOC's 20 classes as its devkit spells them, with COCO's name where it differs.
# fmt: off
VOC_CLASSES = [
    "aeroplane=airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable=dining table", "dog", "horse", "motorbike=motorcycle", "person",
    "pottedplant=potted plant", "sheep", "sofa=couch", "train", "tvmonitor=tv",
]
# fmt: on


def test_counts_and_ids():
    ids = categories.ALL_IDS
    assert len(ids) == len(set(ids)) == 80
    assert list(ids) == sorted(ids)
    gaps = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert set(range(1, categories.MAX_CATEGORY_ID + 1)) - set(ids) == gaps
    assert len(categories.ID_BY_NAME) == 80
    assert all(categories.ID_BY_NAME[name] == i for i, name in categories.NAME_BY_ID.items())
    by_id = {category.id: category.supercategory for category in categories.COCO_CATEGORIES}
    assert len(set(by_id.values())) == 12
    assert (by_id[1], by_id[10], by_id[61], by_id[90]) == ("person", "outdoor", "food", "indoor")


def test_voc_split_is_pascal_voc():
    names = {entry.split("=")[-1] for entry in VOC_CLASSES}
    assert {categories.NAME_BY_ID[i] for i in categories.VOC_IDS} == names
    assert len(categories.VOC_IDS) == 20
    assert len(categories.NON_VOC_IDS) == 60
    assert sorted(categories.VOC_IDS + categories.NON_VOC_IDS) == list(categories.ALL_IDS)
    sets = {"all": categories.ALL_IDS, "voc": categories.VOC_IDS, "non_voc": categories.NON_VOC_IDS}
    assert sets == categories.CLASS_SETS


def test_names_are_those_of_model_garden():
    """Read from its source: importing that module starts TensorFlow and defines flags."""
    distribution = metadata.distribution("tf-models-official")
    source = Path(distribution.locate_file("official/vision/data/process_coco_few_shot_json_files.py"))
    [names] = [
        ast.literal_eval(node.value)
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.Assign) and node.targets[0].id == "CATEGORIES"
    ]
    assert sorted(categories.ID_BY_NAME) == sorted(names)


def test_same_as_in_the_annotation_files(coco_dir):
    document = json.loads((coco_dir / "annotations" / "instances_val2017.json").read_text())
    expected = [(entry["id"], entry["name"], entry["supercategory"]) for entry in document["categories"]]
    assert sorted(expected) == [tuple(category) for category in categories.COCO_CATEGORIES]
