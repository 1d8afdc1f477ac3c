from pathlib import Path

import numpy as np
import pytest
import synthetic
import tensorflow as tf
import tf_keras
from synthetic import APPLE, PERSON

from deepmac import configs
from deepmac.core.errors import InputError
from deepmac.data.data_sets import read_coco_folder
from deepmac.data.tfrecords import write_tfrecords
from deepmac.modeling.model import build_deepmac
from deepmac.training.task import DeepMACTask
from deepmac.training.validation import SHOWN_MASKS

SIZE = 64


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    synthetic.write_splits(folder, (SIZE, SIZE), num_images=4, shape="ellipse")
    write_tfrecords(read_coco_folder(folder), folder / "records")
    return folder / "records"


@pytest.fixture
def config(records):
    config = configs.deepmac_mini().task
    config.override(
        {
            "model": {
                "input_size": [SIZE, SIZE, 3],
                "max_num_instances": 4,
                "backbone": {"hourglass": {"input_channel_dims": 8}},
                "head": {"num_filters": 8},
                "mask_head": {"network_type": "hourglass10", "num_init_channels": 4, "mask_size": 16},
                "norm_activation": {"norm_momentum": 0.9},
            },
            "mask_num_subsamples": 2,
            "allowed_masked_classes_ids": [PERSON],
            "seed": 0,
            "annotation_file": str(records / "instances_val2017.json"),
            "train_data": {"input_path": f"{records}/train2017-*", "global_batch_size": 4, "seed": 0},
            "validation_data": {"input_path": f"{records}/val2017-*", "global_batch_size": 3},
        }
    )
    tf_keras.utils.set_random_seed(0)
    return config


def _trained(config, steps):
    task = DeepMACTask(config)
    model = task.build_model()
    optimizer = tf_keras.optimizers.Adam(3e-3)
    batch = next(iter(task.build_inputs(config.train_data)))
    metrics = task.build_metrics(training=True)
    step = tf.function(lambda: task.train_step(batch, model, optimizer, metrics))
    logs = []
    for _ in range(steps):
        for metric in metrics:
            metric.reset_state()
        logs.append({name: float(value) for name, value in step().items()})
    return task, model, logs


def test_every_loss_falls_and_the_total_is_their_weighted_sum(config):
    _, _, logs = _trained(config, 40)
    for name in ("total_loss", "ct_loss", "scale_loss", "deep_mask_estimation"):
        assert np.mean([log[name] for log in logs[-5:]]) < 0.8 * logs[0][name], name
    first = logs[0]
    total = first["ct_loss"] + 0.1 * first["scale_loss"] + first["ct_offset_loss"]
    assert first["total_loss"] == pytest.approx(total + first["deep_mask_estimation"], rel=1e-4)


def test_a_loss_of_weight_0_costs_no_gradients(config):
    config.losses.detection.override({"object_center_weight": 0.0, "scale_weight": 0.0, "offset_weight": 0.0})
    task = DeepMACTask(config)
    features, labels = next(iter(task.build_inputs(config.train_data)))
    model = task.build_model()
    heads = model.head.heads
    with tf.GradientTape() as tape:
        outputs = model(features, training=True)["raw_output"]
        batch = task.mask_batch(outputs, features, labels, 0, model)
        losses = task.build_losses(outputs, labels, batch)
    kernels = {name: head[-1].conv2.kernel for name, head in heads.items()}
    gradients = tape.gradient(losses["total_loss"], kernels)
    assert {name for name, gradient in gradients.items() if gradient is not None} == {
        "instance_embedding",
        "pixel_embedding",
    }
    assert losses["total_loss"] == losses["deep_mask_estimation"]


def test_moved_boxes_crop_their_targets(config):
    config.max_box_jitter_ratio = 0.3
    task = DeepMACTask(config)
    features, labels = next(iter(task.build_inputs(config.train_data)))
    seen, targets = task._jitter_boxes(features, labels, 0)
    np.testing.assert_array_equal(seen["boxes"], targets["mask_boxes"])
    given, moved = features["boxes"].numpy(), seen["boxes"].numpy()
    sides = np.tile(given[..., 2:] - given[..., :2], 2)
    assert np.all(np.abs(moved - given) <= 0.15 * sides + 1e-5)
    assert np.max(np.abs(moved - given)) > 0.05
    np.testing.assert_array_equal(labels["boxes"], targets["boxes"])


def _losses(config):
    task = DeepMACTask(config)
    batches = task.build_inputs(config.train_data)
    assert not batches.options().autotune.enabled, "its thread holds up whoever deletes an iterator"
    features, labels = next(iter(batches))
    model = task.build_model()
    outputs = tf.function(model)(features, training=True)["raw_output"]
    return task.build_losses(outputs, labels, task.mask_batch(outputs, features, labels, 0, model))


def test_masks_of_classes_not_allowed_do_not_count_and_a_detector_trains_without_any(config):
    assert _losses(config)["deep_mask_estimation"] > 0
    config.allowed_masked_classes_ids = [90]
    assert _losses(config)["deep_mask_estimation"] == 0
    config.losses.mask.task_loss_weight = 0.0
    losses = _losses(config)
    assert "deep_mask_estimation" not in losses
    assert losses["total_loss"] > 0


def test_masks_that_are_missing_are_learnt_from_the_starting_model(config, tmp_path):
    config.allowed_masked_classes_ids = [90]  # that no object is of
    config.override({"keep_masks": True, "init_checkpoint_modules": "all"})
    with pytest.raises(InputError, match=r"keep_masks needs task\.init_checkpoint"):
        DeepMACTask(config).build_model()
    start = build_deepmac(config.model)
    config.init_checkpoint = tf.train.Checkpoint(**start.checkpoint_items).save(str(tmp_path / "start"))
    task = DeepMACTask(config)
    features, labels = next(iter(task.build_inputs(config.train_data)))
    model = task.build_model()

    def kept(labels):
        with tf.GradientTape() as tape:
            outputs = model(features, training=False)["raw_output"]
            loss = task._kept_masks_loss(
                features, labels, task.mask_batch(outputs, features, labels, 0, model)
            )
        return float(loss), tf.linalg.global_norm(tape.gradient(loss, model.mask_head.trainable_variables))

    assert kept(labels | {"has_masks": tf.ones_like(labels["has_masks"])}) == (0, 0)
    other, uphill = kept(labels)
    task.initialize(model)
    same, level = kept(labels)
    assert same < other and level < 1e-5 < uphill, "cross-entropy is least where both agree"


def test_self_supervision_compares_with_a_second_pass_over_moved_images(config):
    config.losses.mask.override(
        {
            "augmented_self_supervision_loss_weight": 1.0,
            "augmented_self_supervision_loss": "loss_mse",
            "augmented_self_supervision_max_translation": 0.0,
        }
    )
    name = "deep_mask_augmented_self_supervision"
    assert float(_losses(config)[name]) == pytest.approx(0, abs=1e-6), "nothing has moved"
    config.losses.mask.augmented_self_supervision_max_translation = 0.3
    assert _losses(config)[name] > 1e-4


def _evaluate(task, model, config):
    metrics = task.build_metrics(training=False)
    state = None
    for batch in task.build_inputs(config.validation_data):
        logs = task.validation_step(batch, model, metrics)
        state = task.aggregate_logs(state, tf.nest.map_structure(lambda value: (value,), logs))
    return task.reduce_aggregated_logs(state)


def test_validation_measures_every_picture_and_shows_masks_inside_their_boxes(config):
    config.allow_image_summary = True
    task = DeepMACTask(config)
    results = _evaluate(task, task.build_model(), config)
    for source in ("detections", "gt_boxes"):
        for subset in ("", "seen/", "unseen/"):
            assert 0 <= results[f"{source}/mask/{subset}AP"] <= 100
    # Four pictures, the last batch incomplete; boxes are given, so box AP is perfect.
    assert results["gt_boxes/box/AP"] == pytest.approx(100)
    assert 0 < results["gt_boxes/mask/mIoU"] <= 100
    assert not [name for name in results if "/class/" in name]

    # Pictures: outside the annotated boxes the network's input, inside there is colour.
    shown = results[SHOWN_MASKS]
    features, labels = next(iter(task.build_inputs(config.validation_data)))
    parser = config.validation_data.parser
    inputs = np.asarray(features["image"]) * parser.channel_stds + parser.channel_means
    inputs = inputs[..., ::-1].round()  # BGR
    assert shown.dtype == np.uint8 and shown.shape == inputs.shape
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for picture, image, boxes in zip(shown, inputs, labels["boxes"].numpy(), strict=True):
        changed = np.abs(picture - image).max(axis=-1) > 1
        outside = np.ones((SIZE, SIZE), bool)
        for ymin, xmin, ymax, xmax in boxes:
            outside &= (rows < ymin - 2) | (rows > ymax + 2) | (columns < xmin - 2) | (columns > xmax + 2)
        assert changed.any() and outside.any()
        assert not changed[outside].any()


def test_validation_refuses_annotations_of_other_records(config, tmp_path):
    annotations = Path(config.annotation_file).read_text()
    other = tmp_path / "other.json"
    other.write_text(annotations.replace(f'"category_id": {PERSON}', '"category_id": 2'))
    config.annotation_file = str(other)
    task = DeepMACTask(config)
    with pytest.raises(InputError, match=r"records of image \d+ disagree"):
        _evaluate(task, task.build_model(), config)


def test_initial_checkpoint_restores_the_modules_asked_for(config, tmp_path):
    task = DeepMACTask(config)
    model = task.build_model()
    tf.train.Checkpoint(model=model, **model.checkpoint_items).save(f"{tmp_path}/ckpt")
    config.init_checkpoint = str(tmp_path)
    expected = {
        "all": {"backbone", "head", "mask_head"},
        "detection": {"backbone", "head"},
        "backbone": {"backbone"},
    }
    fresh = task.build_model()
    random_weights = fresh.get_weights()
    for modules, restored in expected.items():
        config.init_checkpoint_modules = modules
        fresh.set_weights(random_weights)
        task.initialize(fresh)
        for name, item in fresh.checkpoint_items.items():
            pairs = zip(item.weights, model.checkpoint_items[name].weights, strict=True)
            same = [np.array_equal(ours, theirs) for ours, theirs in pairs if ours.shape.rank == 4]
            assert all(same) if name in restored else not any(same), name
    config.init_checkpoint_modules = "mask"
    with pytest.raises(InputError, match="must be all, backbone or detection"):
        task.initialize(fresh)
    config.init_checkpoint, config.init_checkpoint_modules = "nowhere", "detection"
    with pytest.raises(InputError, match="no checkpoint at nowhere"):
        task.initialize(fresh)


@pytest.fixture(scope="module")
def point_records(tmp_path_factory):
    """Records of the ellipses with two points each: their centre, and the corner of their box."""
    folder = tmp_path_factory.mktemp("points")
    scenes = [synthetic.draw_scene(SIZE, SIZE, 2, seed, "ellipse") for seed in range(4)]
    content = synthetic.write_coco(folder, "train2017", scenes, [PERSON, APPLE])
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["point_coords"] = [[x + width / 2, y + height / 2], [x + 0.5, y + 0.5]]
        annotation["point_labels"] = [1, 0]
    synthetic.save_annotations(folder, "train2017", content)
    write_tfrecords(read_coco_folder(folder, ["train2017"]), folder / "records")
    return folder / "records"


@pytest.fixture
def point_config(config, point_records):
    """Full-resolution masks of all classes, learned from points alone."""
    config.override(
        {
            "losses": {"mask": {"task_loss_weight": 0.0, "pointly_supervised_keypoint_loss_weight": 1.0}},
            "model": {"mask_head": {"predict_full_resolution_masks": True}},
            "train_data": {"input_path": f"{point_records}/train2017-*", "num_keypoints": 2},
        }
    )
    return config


def test_masks_are_learned_from_points(point_config):
    task, model, logs = _trained(point_config, 60)
    name = "deep_mask_pointly_supervised"
    assert logs[0][name] > 0.5 and np.mean([log[name] for log in logs[-5:]]) < 0.5 * logs[0][name]
    features, labels = next(iter(task.build_inputs(point_config.train_data)))
    (logits,) = model(features, training=True)["raw_output"]["mask_logits"]
    rows, columns = np.moveaxis((labels["keypoints"].numpy() * logits.shape[2]).astype(int), -1, 0)
    found = [
        [logits[image, box, rows[image, box, point], columns[image, box, point]] > 0 for point in range(2)]
        for image in range(len(rows))
        for box in range(2)
        if labels["mask_weights"][image, box] > 0 and not np.isnan(labels["keypoints"][image, box]).any()
    ]
    assert len(found) > 4 and np.mean(np.array(found) == [True, False]) > 0.8


def test_point_supervision_without_points_is_refused(point_config):
    point_config.train_data.num_keypoints = 0
    with pytest.raises(InputError, match=r"task\.train_data\.num_keypoints"):
        DeepMACTask(point_config).build_inputs(point_config.train_data)


def test_the_training_step_compiles_with_xla(config):
    """What a TPU needs, gradients included: one compiled program with static shapes."""
    features, labels = next(iter(DeepMACTask(config).build_inputs(config.train_data)))
    # Drawn pictures have areas of one colour, whose tiny variance batch norm divides by: rounding shows.
    noise = np.random.default_rng(0).normal(size=features["image"].shape)
    features["image"] = tf.constant(noise, tf.float32)
    losses, weights = [], None
    for jit_compile in (False, True):
        task = DeepMACTask(config)
        model = task.build_model()
        weights = weights or model.get_weights()
        model.set_weights(weights)
        optimizer = tf_keras.optimizers.Adam(1e-3)
        optimizer.build(model.trainable_variables)

        def take(features, labels, task=task, model=model, optimizer=optimizer):
            return task.train_step((features, labels), model, optimizer)["loss"]

        step = tf.function(take, jit_compile=jit_compile)
        losses.append([float(step(features, labels)) for _ in range(3)])
        assert step.experimental_get_tracing_count() == 1
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
    assert losses[0][2] < losses[0][0]
