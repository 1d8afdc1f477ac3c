import json
import runpy
from pathlib import Path

import numpy as np
from skimage import data

import deepmac
from deepmac.demo.samples import SAMPLES
from deepmac.evaluation import MaskEvaluator
from deepmac.inference.find import SHIPPED, find_model
from deepmac.inference.load import InferenceNetwork
from deepmac.inference.runtime_onnx import OnnxNetwork

FOLDER = SHIPPED["mini"]


def _iou(mask, other):
    return (mask & other).sum() / (mask | other).sum()


def test_the_package_carries_little_and_nothing_of_the_machine():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 20 * 2**20
    params = (FOLDER / "params.yaml").read_text()
    assert "/" not in params.replace("tag:yaml.org,2002:python/tuple", "").replace("!!python/tuple", "")


def test_the_onnx_files_are_of_the_checkpoint_and_give_its_masks():
    """Else write them anew: docs/published_models.md says how."""
    assert find_model("mini").onnx == FOLDER / "onnx"
    predictors = [deepmac.load("mini", "float32", runtime=runtime) for runtime in ("onnx", "tensorflow")]
    assert [type(predictor._network) for predictor in predictors] == [OnnxNetwork, InferenceNetwork]
    ious = []
    for sample in SAMPLES.values():
        image, boxes = sample.image(), sample.normalized_boxes()
        first, second = (p.predict(boxes, encoded=p.encode(image)) for p in predictors)
        np.testing.assert_allclose(first.mask_probs, second.mask_probs, atol=1e-4)
        ious += [_iou(*pair) for pair in zip(first.masks, second.masks, strict=True)]
    assert np.mean(ious) >= 0.999


def test_masks_an_object_of_no_coco_class():
    """A rocket that stands in the middle of its box, sky on both sides."""
    predictor = deepmac.load(precision="float32")
    predictor.set_image(data.rocket())
    mask = predictor.predict([(295, 122, 350, 400)], box_format="xyxy").masks[0]
    body, sky = mask[150:320, 318:328], mask[150:320, [297, 299, 346, 348]]
    assert body.mean() > 0.9
    assert sky.mean() < 0.1


def test_good_on_photographs_never_trained_on(coco_dir):
    document = json.loads((coco_dir / "annotations" / "instances_val2017.json").read_text())
    listed = (Path(__file__).parents[1] / "configs" / "subset" / "val2017.txt").read_text().splitlines()[1:]
    image_ids = [int(number) for line in listed for number in line.split()][:40]
    document["images"] = [image for image in document["images"] if image["id"] in image_ids]
    # The IoU of smaller masks is that of their edges.
    document["annotations"] = [
        entry
        for entry in document["annotations"]
        if entry["image_id"] in image_ids and entry["area"] >= 32**2
    ]
    evaluator = MaskEvaluator(document)
    predictor = deepmac.load()

    def predict(image_id, boxes):
        predictor.set_image(coco_dir / "val2017" / f"{image_id:012d}.jpg")
        return predictor.predict(boxes).mask_probs

    evaluator.add_from_boxes(predict)
    assert evaluator.result()["mask/mIoU"] > 75


def test_writing_keeps_the_weights_and_forgets_the_training(tmp_path):
    ship = runpy.run_path(str(Path(__file__).parents[1] / "configs" / "weights" / "ship.py"))
    ship["write_shipped_weights"]([FOLDER, FOLDER], tmp_path / "copy", input_size=256, threshold=0.4)
    copy = deepmac.load(tmp_path / "copy", precision="float32", runtime="tensorflow")
    assert copy.input_size == 256
    original = deepmac.load("mini", precision="float32", input_size=256)
    probabilities = []
    for predictor in (copy, original):
        predictor.set_image(data.coffee())
        probabilities.append(predictor.predict([[0.05, 0.25, 0.65, 0.7]]).mask_probs)
    moved, as_it_was = probabilities
    np.testing.assert_allclose(moved / (1 - moved), as_it_was / (1 - as_it_was) * 0.6 / 0.4, rtol=1e-3)


def test_bfloat16_gives_the_same_masks():
    """The mean IoU of the masks of both precisions is at least 0.98."""
    predictors = [deepmac.load(precision=precision) for precision in ("float32", "bfloat16")]
    ious = []
    for image, box in (
        (data.coffee(), (160, 18, 420, 262)),
        (data.rocket(), (305, 122, 340, 400)),
        (data.astronaut(), (0, 2, 420, 512)),
    ):
        masks = []
        for predictor in predictors:
            predictor.set_image(image)
            masks.append(predictor.predict([box], box_format="xyxy").masks[0])
        ious.append(_iou(*masks))
    assert np.mean(ious) >= 0.98
