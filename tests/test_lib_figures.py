import json
import types

import numpy as np
import pytest
import synthetic
import tiny_model
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from lib import figures

CATEGORIES = [1, 53, 1, 52]  # of the four objects of a picture


@pytest.fixture
def coco_dir(tmp_path):
    scenes = [synthetic.draw_scene(128, 160, 4, seed) for seed in range(2)]
    synthetic.write_coco(tmp_path / "coco", "val2017", scenes, CATEGORIES)
    return tmp_path / "coco"


def test_of_each_picture_the_largest_object_of_a_new_unseen_class_is_shown(coco_dir):
    coco = COCO(str(coco_dir / "annotations" / "instances_val2017.json"))
    areas = {key: value["area"] for key, value in coco.anns.items()}
    first = max((100001, 100003), key=areas.get)
    second = 101003 if first == 100001 else 101001
    chosen = [annotation["id"] for annotation in figures.unseen_examples(coco, [1], 8)]
    assert chosen == [first, second]
    assert len(figures.unseen_examples(coco, [1], 1)) == 1
    assert not figures.unseen_examples(coco, CATEGORIES, 8), "nothing is unseen"


def test_objects_cut_off_by_the_border_are_no_examples(coco_dir):
    coco = COCO(str(coco_dir / "annotations" / "instances_val2017.json"))
    whole = figures.unseen_examples(coco, [1], 8)
    x, y, width, _ = whole[0]["bbox"]
    coco.anns[whole[0]["id"]]["bbox"] = [x, y, width, 128 - y]
    assert whole[0]["id"] not in [annotation["id"] for annotation in figures.unseen_examples(coco, [1], 8)]


@pytest.fixture
def study(coco_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(figures.deepmac, "load", lambda folder: tiny_model.predictor())
    return types.SimpleNamespace(
        shown=types.SimpleNamespace(coco_dir=coco_dir),
        store=types.SimpleNamespace(results_dir=tmp_path / "rows"),
        seen_classes=lambda key: [1],
        runs=lambda key: [types.SimpleNamespace(folder_name=key)],
        model_folder=lambda key: None,
    )


def test_masks_that_are_kept_are_not_predicted_again(study, tmp_path, monkeypatch):
    figure = figures.unseen_class_masks(study, {"predicted": "a"}, count=8)
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["picture", "annotated", "predicted"]
    assert len(figure.axes) == 2 * 3
    assert len(json.loads((tmp_path / "rows/shown/a.json").read_text())) == 2
    monkeypatch.setattr(figures.deepmac, "load", None)
    figures.unseen_class_masks(study, {"predicted": "a"}, count=8)


def test_largest_differences_come_from_both_ends(study, coco_dir, tmp_path):
    coco = COCO(str(coco_dir / "annotations" / "instances_val2017.json"))
    examples = figures.unseen_examples(coco, [1], 8)
    right = {str(key): coco.annToRLE(one) for key, one in coco.anns.items()}
    nothing = coco_mask.encode(np.zeros((128, 160), np.uint8, order="F"))
    nothing["counts"] = nothing["counts"].decode()
    ahead, behind = (str(example["id"]) for example in examples)
    folder = tmp_path / "rows/shown"
    folder.mkdir(parents=True)
    (folder / "shallow.json").write_text(json.dumps({**right, ahead: nothing}))
    (folder / "deep.json").write_text(json.dumps({**right, behind: nothing}))
    figure = figures.largest_differences(study, {"shallow": "shallow", "deep": "deep"}, count=2)
    shallow, deep = ([axes.get_xlabel() for axes in figure.axes[row : row + 2]] for row in (4, 6))
    assert shallow == ["IoU 0.00", "IoU 1.00"]
    assert deep == ["IoU 1.00", "IoU 0.00"]
