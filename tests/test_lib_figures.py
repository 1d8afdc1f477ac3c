import json
import types

import pytest
import synthetic
import tiny_model
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


def test_masks_that_are_kept_are_not_predicted_again(coco_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(figures.deepmac, "load", lambda folder: tiny_model.predictor())
    study = types.SimpleNamespace(
        shown=types.SimpleNamespace(coco_dir=coco_dir),
        store=types.SimpleNamespace(results_dir=tmp_path / "rows"),
        seen_classes=lambda key: [1],
        runs=lambda key: [types.SimpleNamespace(folder_name="a-row")],
        model_folder=lambda key: None,
    )
    figure = figures.unseen_class_masks(study, {"predicted": "a"}, count=8)
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["picture", "annotated", "predicted"]
    assert len(figure.axes) == 2 * 3
    assert len(json.loads((tmp_path / "rows/shown/a-row.json").read_text())) == 2
    monkeypatch.setattr(figures.deepmac, "load", None)
    figures.unseen_class_masks(study, {"predicted": "a"}, count=8)
