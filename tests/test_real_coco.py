import json
import random

import numpy as np
import pytest
from official.core import exp_factory
from pycocotools.coco import COCO

import deepmac
from deepmac.core.categories import ALL_IDS, VOC_IDS
from deepmac.core.images import read_image
from deepmac.data.data_sets import read_annotation_files, read_coco_folder
from deepmac.data.tfrecords import write_tfrecords
from deepmac.evaluation.files import read_evaluation
from deepmac.training.runner import train


@pytest.mark.slow
def test_photographs_as_somebody_elses_give_the_figures_of_the_coco_path(coco_dir, tmp_path):
    """Other ids and names of the categories; masks of 20 of them to train on, of all to measure with."""
    contents = {
        split: json.loads((coco_dir / "annotations" / f"instances_{split}.json").read_text())
        for split in ("train2017", "val2017")
    }
    contents["val2017"]["images"] = contents["val2017"]["images"][:12]
    ids = {split: {image["id"] for image in content["images"]} for split, content in contents.items()}
    new_ids = list(range(200, 280))
    random.Random(0).shuffle(new_ids)
    new_id = dict(zip(ALL_IDS, new_ids, strict=True))
    for split, content in contents.items():
        for image in content["images"]:
            image["file_name"] = f"{split}/{image['file_name']}"
        content["categories"] = [{"id": number, "name": f"thing {number}"} for number in new_ids]
        content["annotations"] = [one for one in content["annotations"] if one["image_id"] in ids[split]]
        for annotation in content["annotations"]:
            if split == "train2017" and annotation["category_id"] not in VOC_IDS:
                del annotation["segmentation"]
            annotation["category_id"] = new_id[annotation["category_id"]]
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    train_file, val_file = (tmp_path / f"{split}.json" for split in contents)
    write_tfrecords(read_coco_folder(coco_dir, list(contents), ids), tmp_path / "coco")
    write_tfrecords(read_annotation_files(train_file, coco_dir, val_file), tmp_path / "own")

    metrics = {}
    for name, (train_split, val_split) in {"coco": contents, "own": ("train", "val")}.items():
        params = exp_factory.get_exp_config("deepmac_mini")
        task, records = params.task, tmp_path / name
        task.train_data.input_path, task.train_data.deterministic = f"{records}/{train_split}-*", True
        task.train_data.global_batch_size = task.validation_data.global_batch_size = 4
        task.validation_data.input_path = f"{records}/{val_split}-*"
        task.annotation_file, task.seed = f"{records}/instances_{val_split}.json", 0
        if name == "coco":
            task.allowed_masked_classes_ids = list(VOC_IDS)
        # What tells classes apart has another channel for each id: left out, all else is the same.
        task.losses.detection.object_center_weight = 0.0
        steps = {"train_steps": 3, "steps_per_loop": 3, "summary_interval": 3, "checkpoint_interval": 3}
        params.trainer.override(steps | {"validation_interval": 3})
        train(params, "train_and_eval", str(tmp_path / f"model of {name}"))
        metrics[name] = read_evaluation(tmp_path / f"model of {name}").metrics
    for part in ("mask", "mask/seen", "mask/unseen"):
        for name in (f"gt_boxes/{part}/AP", f"gt_boxes/{part}/mIoU"):
            assert metrics["own"][name] == pytest.approx(metrics["coco"][name], abs=1e-9)
    assert 0 < metrics["own"]["gt_boxes/mask/unseen/mIoU"] < 90


@pytest.mark.nightly
def test_small_objects_of_large_pictures_are_masked_better_from_squares(coco_dir, monkeypatch):
    """Twelve photographs side by side, 2560 x 1920: objects of 16 pixels to a tenth of the longer side."""
    coco = COCO(coco_dir / "annotations" / "instances_val2017.json")
    image_ids = sorted(coco.imgs)
    random.Random(0).shuffle(image_ids)
    predictor, draw = deepmac.load(), random.Random(0)
    ious = {"whole": [], "squares": []}
    for mosaic in range(4):
        canvas, boxes, truths = np.zeros((1920, 2560, 3), np.uint8), [], []
        for place in range(12):
            entry = coco.imgs[image_ids[(12 * mosaic + place) % len(image_ids)]]
            y, x = 640 * (place // 4), 640 * (place % 4)
            canvas[y : y + entry["height"], x : x + entry["width"]] = read_image(
                coco_dir / "val2017" / entry["file_name"]
            )
            for annotation in coco.imgToAnns[entry["id"]]:
                left, top, width, height = annotation["bbox"]
                if not annotation["iscrowd"] and 16 <= max(width, height) < 256:
                    boxes.append([left + x, top + y, width, height])
                    truths.append((y, x, coco.annToMask(annotation).astype(bool)))
        chosen = draw.sample(range(len(boxes)), 40)
        encoded = predictor.encode(canvas)
        for how in ious:
            with monkeypatch.context() as patched:
                if how == "whole":
                    patched.setattr("deepmac.inference.predictor.plan_crops", lambda *arguments: {})
                masks = predictor.predict([boxes[i] for i in chosen], "xywh", encoded=encoded).masks
            for mask, i in zip(masks, chosen, strict=True):
                y, x, truth = truths[i]
                part = mask[y : y + truth.shape[0], x : x + truth.shape[1]]
                ious[how].append((part & truth).sum() / (mask.sum() + truth.sum() - (part & truth).sum()))
    means = {how: float(np.mean(values)) for how, values in ious.items()}
    print(f"mean IoU of {len(ious['whole'])} objects: {means}")
    assert means["squares"] > means["whole"] + 0.08
