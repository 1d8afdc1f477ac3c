import json

import command_line
import numpy as np
import pytest
import synthetic
import tiny_model
from pycocotools import mask as coco_mask
from synthetic import OWN_CLASSES as NAMES

from deepmac.evaluation import MaskEvaluator
from deepmac.inference.evaluate import measured_pictures
from deepmac.inference.prediction import Prediction


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    return folder, synthetic.write_own_classes(folder, num_images=4)


def _arguments(folder, *options):
    return "evaluate", "--model", tiny_model.model_dir(), "--annotations", folder / "boxes.json", *options


def test_masks_of_seen_and_unseen_classes_are_told_apart(data_set, tmp_path):
    folder, content = data_set
    options = ["--images", folder / "images", "--seen", "bolt", "--out", tmp_path]
    result = command_line.run(*_arguments(folder, *options))
    metrics = json.loads((tmp_path / "evaluation.json").read_text())["metrics"]
    assert metrics["gt_boxes/box/AP"] == pytest.approx(100), "boxes without masks count, too"

    ious = {name: [] for name in NAMES.values()}
    # As the command computes: in bfloat16 where the hardware does.
    predictor = tiny_model.predictor("auto")
    files = {one["id"]: one["file_name"] for one in content["images"]}
    for annotation in content["annotations"]:
        if annotation["segmentation"]:
            encoded = predictor.encode(folder / "images" / files[annotation["image_id"]])
            [mask] = predictor.predict([annotation["bbox"]], "xywh", encoded=encoded).masks
            true = coco_mask.decode(annotation["segmentation"]).astype(bool)
            ious[NAMES[annotation["category_id"]]].append(100 * (mask & true).sum() / (mask | true).sum())
    for part, name in (("seen", "bolt"), ("unseen", "nut")):  # washers have no masks to be measured by
        assert metrics[f"gt_boxes/mask/{part}/mIoU"] == pytest.approx(np.mean(ious[name]), abs=0.01)
        assert metrics[f"gt_boxes/mask/{part}/AP"] == metrics[f"gt_boxes/mask/class/{name}/AP"]
    assert "mask/unseen/mIoU" in result.stdout


def test_what_cannot_be_is_said_in_one_line(data_set):
    folder, _ = data_set
    wrong = _arguments(folder, "--images", folder / "images", "--seen", "screw")
    assert "its classes are bolt, nut, washer" in command_line.refused(*wrong)
    assert "--annotations FILE and --images DIR" in command_line.refused(*_arguments(folder))
    without = "evaluate", "--annotations", folder / "missing.json", "--images", folder / "images"
    assert "Missing option '--model'" in command_line.refused(*without)
    assert "mini finds no objects" in command_line.refused(*without, "--model", "mini"), "before it reads"


def test_objects_of_other_classes_are_not_taken_for_the_class_with_the_id_0(data_set, monkeypatch):
    folder, content = data_set
    predictor, box = tiny_model.predictor(), np.array([[0.1, 0.1, 0.5, 0.5]] * 2, np.float32)
    found = Prediction(
        np.zeros((9, 9, 3), np.uint8),
        box,
        np.ones((2, 4, 4), np.float32),
        scores=np.ones(2, np.float32),
        names=["person", "nut"],
    )
    monkeypatch.setattr(predictor, "detect", lambda **_: found)
    assert NAMES[0] == "bolt"
    evaluators = {source: MaskEvaluator(content, [0]) for source in ("detections", "gt_boxes")}
    assert len(list(measured_pictures(predictor, content, folder / "images", evaluators))) == 4
    nut = next(number for number, name in NAMES.items() if name == "nut")
    kept = evaluators["detections"]._detections
    images = [image["id"] for image in content["images"]]
    assert [(one["image_id"], one["category_id"]) for one in kept] == [(number, nut) for number in images]
