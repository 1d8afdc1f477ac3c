import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import synthetic
import tensorflow as tf
import tf_keras
import yaml
from official.core import exp_factory
from official.projects.deepmac_maskrcnn.configs import deep_mask_head_rcnn  # noqa: F401  # registers
from synthetic import APPLE, PERSON

from deepmac import configs
from deepmac.core.categories import NON_VOC_IDS, VOC_IDS
from deepmac.core.errors import InputError
from deepmac.core.masks import paste_masks
from deepmac.data.data_sets import read_coco_folder
from deepmac.data.tfrecords import write_tfrecords
from deepmac.modeling.keras_fixes import RepeatUpsampling
from deepmac.training.mask_rcnn import MaskRCNNTask, _from_edge_to_edge, _masks_in_boxes

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
# Stem -> (published mask AP, experiment's ending, backbone, mask head, classes with masks).
PUBLISHED = {
    "deep_mask_head_rcnn_voc_r50": ("25.9", "resnetfpn_coco", 50, "default", VOC_IDS),
    "deep_mask_head_rcnn_voc_r50_hg52": ("33.1", "resnetfpn_coco", 50, "hourglass52", VOC_IDS),
    "deep_mask_head_rcnn_voc_r101_hg52": ("34.4", "resnetfpn_coco", 101, "hourglass52", VOC_IDS),
    "deep_mask_head_rcnn_voc_spinenet143_hg52": ("38.7", "spinenet_coco", "143", "hourglass52", VOC_IDS),
    "deep_mask_head_rcnn_nonvoc_spinenet143_hg52": (
        *("41.0", "spinenet_coco", "143", "hourglass52"),
        NON_VOC_IDS,
    ),
}
TINY_MODEL = {
    "input_size": [64, 64, 3],
    "max_level": 4,
    "backbone": {"resnet": {"depth_multiplier": 0.125}},
    "decoder": {"fpn": {"num_filters": 8}},
    "rpn_head": {"num_filters": 8},
    "detection_head": {"fc_dims": 16},
    "mask_head": {"num_filters": 4},
    "mask_roi_aligner": {"crop_size": 8},
}


@pytest.fixture(scope="module")
def overrides(tmp_path_factory):
    """A tiny model on drawn pictures."""
    folder = tmp_path_factory.mktemp("coco")
    synthetic.write_splits(folder, (64, 48), num_images=3, shape="ellipse")
    records = folder / "records"
    write_tfrecords(read_coco_folder(folder), records)
    return {
        "runtime": {"mixed_precision_dtype": "float32"},
        "task": {
            "seed": 0,
            "model": TINY_MODEL,
            "annotation_file": str(records / "instances_val2017.json"),
            "train_data": {"input_path": f"{records}/train2017-*", "global_batch_size": 2, "seed": 0},
            "validation_data": {"input_path": f"{records}/val2017-*", "global_batch_size": 2},
        },
    }


@pytest.fixture
def config(overrides):
    config = configs.mask_rcnn_mini().task
    config.override(overrides["task"])
    config.allowed_mask_class_ids = [PERSON]
    tf_keras.utils.set_random_seed(0)
    return config


def test_trains_and_evaluates_from_detections_and_from_boxes(overrides, tmp_path):
    schedule = {
        "train_steps": 2,
        **dict.fromkeys(("steps_per_loop", "summary_interval", "checkpoint_interval"), 2),
        "validation_interval": 2,
        "optimizer_config": {
            "learning_rate": {"cosine": {"decay_steps": 1, "offset": 1}},
            "warmup": {"linear": {"warmup_steps": 1}},
        },
    }
    row = tmp_path / "row.yaml"
    row.write_text(yaml.safe_dump({**overrides, "trainer": schedule}))
    command = [
        *(sys.executable, "-m", "deepmac.train", "--experiment=deepmac_mask_rcnn_mini"),
        f"--config_file={CONFIGS / 'mini' / 'mask_rcnn_voc_only.yaml'}",
        *(f"--config_file={row}", "--mode=train_and_post_eval", f"--model_dir={tmp_path}"),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "ckpt-2.index").is_file()
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    # Three pictures, the last batch incomplete; boxes are given, so box AP is perfect.
    assert evaluation["metrics"]["gt_boxes/box/AP"] == pytest.approx(100)
    assert 0 < evaluation["metrics"]["gt_boxes/mask/unseen/mIoU"] < 100
    assert list((tmp_path / "best_ckpt").glob("best_ckpt-*.index"))
    for source in ("detections", "gt_boxes"):
        for subset in ("seen", "unseen"):
            assert len(evaluation["bootstrap"][f"{source}/mask/{subset}/AP"]) == 201


@pytest.mark.parametrize("only_gt_boxes", [True, False])
def test_masks_of_classes_not_allowed_never_reach_the_loss(config, only_gt_boxes):
    config.model.use_gt_boxes_for_masks = only_gt_boxes
    task = MaskRCNNTask(config)
    model = task.build_model()
    images, labels = next(iter(task.build_inputs(config.train_data)))

    def mask_loss(changed_class):
        of_class = (labels["gt_classes"] == changed_class)[:, :, None, None]
        masks = tf.where(of_class, 1 - labels["gt_masks"], labels["gt_masks"])
        tf_keras.utils.set_random_seed(1)  # the proposals drawn
        outputs = model(
            images,
            image_shape=labels["image_info"][:, 1],
            anchor_boxes=labels["anchor_boxes"],
            gt_boxes=labels["gt_boxes"],
            gt_classes=labels["gt_classes"],
            gt_masks=masks,
            training=True,
        )
        return float(task._build_mask_loss(outputs))

    unchanged = mask_loss(changed_class=-2)
    assert unchanged > 0
    assert mask_loss(changed_class=APPLE) == unchanged
    assert mask_loss(changed_class=PERSON) != pytest.approx(unchanged)


def test_masks_in_given_boxes_are_those_of_detections_there(config):
    task = MaskRCNNTask(config)
    model = task.build_model()
    images, labels = next(iter(task.build_inputs(config.validation_data)))
    outputs = model(
        images, image_shape=labels["image_info"][:, 1], anchor_boxes=labels["anchor_boxes"], training=False
    )
    boxes, classes = outputs["detection_boxes"], outputs["detection_classes"]
    masks = _masks_in_boxes(model, outputs["decoder_features"], boxes, classes)
    np.testing.assert_allclose(masks, outputs["detection_masks"], atol=1e-5)
    np.testing.assert_allclose(
        masks, model.call_images_and_boxes(images, boxes)["detection_masks"], atol=1e-5
    )


def test_training_moves_the_statistics_of_the_hourglass_at_the_configured_momentum(config):
    task = MaskRCNNTask(config)
    model = task.build_model()
    layers = [layer for layer in model.mask_head.submodules if hasattr(layer, "moving_mean")]
    assert len(layers) > 10
    assert {layer.momentum for layer in layers} == {0.99}
    batches = task.build_inputs(config.train_data)
    assert not batches.options().autotune.enabled, "its thread holds up whoever deletes an iterator"
    task.train_step(next(iter(batches)), model, tf_keras.optimizers.SGD(0.0), None)
    assert all(np.any(layer.moving_variance != 1) for layer in layers)
    # XLA does not know the gradient of Keras' upsampling.
    kinds = {type(layer) for layer in model.mask_head.submodules}
    assert RepeatUpsampling in kinds and tf_keras.layers.UpSampling2D not in kinds


def test_resampled_masks_cover_the_pixels_whose_centres_lie_in_their_cells():
    """One cell of four by four, pasted over a picture of 41 by 41, is the quarter it stands for."""
    mask = np.zeros((1, 1, 4, 4), np.float32)
    mask[0, 0, 1:3, 1:3] = 1
    samples = _from_edge_to_edge(mask)
    assert samples.shape == (1, 1, 9, 9)
    np.testing.assert_array_equal(samples[0, 0, 1::2, 1::2], mask[0, 0])
    pasted = paste_masks(samples[0].numpy(), np.array([[0, 0, 1, 1]]), 41, 41)[0]
    rows, columns = pasted.any(1).nonzero()[0], pasted.any(0).nonzero()[0]
    # Cells 1 and 2 reach from 1/4 to 3/4 of the box, pixels 10 to 30; on the boundary probability is 1/2.
    assert (rows[0], rows[-1]) == (columns[0], columns[-1]) == (11, 29)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"mask_roi_aligner": {"crop_size": 14}}, "power of two"),
        ({"mask_head": {"class_agnostic": False}}, "needs task.model.mask_head.class_agnostic"),
        ({"outer_boxes_scale": 1.2}, "outer_boxes_scale"),
        ({"include_mask": False}, "include_mask"),
    ],
    ids=["crop size", "class-specific", "outer boxes", "no masks"],
)
def test_options_that_do_not_go_together_are_input_errors(config, model, message):
    config.model.override(model)
    with pytest.raises(InputError, match=message):
        MaskRCNNTask(config).build_model()


def _published_config(stem, prefix):
    config = exp_factory.get_exp_config(f"{prefix}_{PUBLISHED[stem][1]}")
    config.override(yaml.safe_load((CONFIGS / "mask_rcnn" / f"{stem}.yaml").read_text()), is_strict=True)
    config.validate()
    return config


@pytest.mark.parametrize("stem", PUBLISHED)
@pytest.mark.parametrize("prefix", ["deepmac_mask_rcnn", "deep_mask_head_rcnn"])
def test_published_configs_are_accepted_here_and_by_model_garden(stem, prefix):
    assert {path.stem for path in (CONFIGS / "mask_rcnn").glob("*.yaml")} == set(PUBLISHED)
    published_ap, ending, model_id, variant, allowed_ids = PUBLISHED[stem]
    text = (CONFIGS / "mask_rcnn" / f"{stem}.yaml").read_text()
    header = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert f"Published: {published_ap} mask AP" in header
    assert f"--experiment=deepmac_mask_rcnn_{ending}" in header
    config = _published_config(stem, prefix)
    model = config.task.model
    assert model.backbone.get().model_id == model_id
    assert model.mask_head.convnet_variant == variant
    assert (model.mask_head.class_agnostic, model.use_gt_boxes_for_masks) == (True, True)
    assert model.mask_roi_aligner.crop_size == (14 if variant == "default" else 32)
    assert tuple(config.task.allowed_mask_class_ids) == allowed_ids
    assert config.trainer.train_steps == (70_000 if ending == "resnetfpn_coco" else 231_000)


@pytest.mark.parametrize("ending", ["resnetfpn_coco", "spinenet_coco"])
def test_experiments_are_those_of_model_garden_but_for_evaluation(ending):
    ours = exp_factory.get_exp_config(f"deepmac_mask_rcnn_{ending}").as_dict()
    theirs = exp_factory.get_exp_config(f"deep_mask_head_rcnn_{ending}").as_dict()
    del ours["task"]["seed"], ours["task"]["model"]["mask_head"]["hourglass_norm_momentum"]
    theirs["trainer"]["validation_steps"] = -1
    theirs["task"]["validation_data"]["drop_remainder"] = False
    assert ours == theirs
