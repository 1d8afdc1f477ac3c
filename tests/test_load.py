import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny_model
from official.modeling import optimization

import deepmac
from deepmac import configs
from deepmac.core.errors import InputError
from deepmac.data.preprocessing import network_input
from deepmac.inference import load
from deepmac.inference.load import InferenceNetwork, read_task_config
from deepmac.inference.predictor import Predictor
from deepmac.modeling.keras_fixes import compute_dtype
from deepmac.modeling.model import build_deepmac


@pytest.fixture(scope="module")
def model():
    """The model of the folder as training sees it, not compiled."""
    model = build_deepmac(read_task_config(tiny_model.model_dir() / "params.yaml").model)
    checkpoint = tf.train.Checkpoint(model=model)
    checkpoint.restore(tf.train.latest_checkpoint(tiny_model.model_dir())).expect_partial()
    return model


def test_detections_are_those_of_the_whole_model_by_the_names_of_its_classes():
    """Class k of the network has the id 10 * k in the annotation file; classes without a name are dropped."""
    config = read_task_config(tiny_model.model_dir() / "params.yaml")
    model = tiny_model.build_model(config.model)
    model.head.heads["ct_size"][-1].conv2.bias.assign([5.0, 4.0])  # random sizes are mostly negative
    classes = [{"id": k, "file_id": 10 * k, "name": f"kind {k}"} for k in range(1, 61)]

    def restore(other):
        for variable, value in zip(other.variables, model.variables, strict=True):
            variable.assign(value)

    image = tiny_model.picture()
    pixels, part = network_input(image, tiny_model.SIZE)
    whole = {
        name: values[0] for name, values in model(pixels, training=False).items() if name != "raw_output"
    }
    whole = {name: values.numpy() for name, values in whole.items()}
    boxes = np.clip(whole["boxes"] / tiny_model.SIZE / np.tile(part, 2), 0, 1)
    threshold = np.median(whole["confidence"])
    kept = (whole["classes"] <= 60) & (whole["confidence"] >= threshold)
    kept = np.flatnonzero(kept & (boxes[:, 2:] > boxes[:, :2]).all(axis=1))
    kept = kept[np.argsort(-whole["confidence"][kept], kind="stable")]
    assert 0 < len(kept) < len(boxes)

    predictor = Predictor(InferenceNetwork(config, restore, "float32", classes=classes))
    found = predictor.detect(image, min_score=threshold)
    np.testing.assert_allclose(found.boxes, boxes[kept], atol=1e-5)
    np.testing.assert_allclose(found.scores, whole["confidence"][kept], atol=1e-5)
    np.testing.assert_array_equal(found.category_ids, 10 * whole["classes"][kept])
    assert found.names == [f"kind {k:.0f}" for k in whole["classes"][kept]]
    masks = predictor.predict(found.boxes, encoded=predictor.encode(image)).mask_probs
    np.testing.assert_allclose(found.mask_probs, masks, atol=1e-5)
    [first, *_] = found.to_coco(7)
    assert (first["category_id"], first["score"]) == (found.category_ids[0], round(float(found.scores[0]), 4))


def test_nothing_found_is_a_prediction_of_nothing_and_a_model_of_masks_alone_finds_no_objects():
    found = tiny_model.predictor().detect(tiny_model.picture(), min_score=1)
    assert len(found) == 0 and found.masks.shape == (0, 48, 80) and found.names == []
    assert found.to_coco(1) == [] and not found.to_label_image().any()
    config = read_task_config(tiny_model.model_dir() / "params.yaml")
    config.losses.detection.object_center_weight = 0.0
    predictor = Predictor(InferenceNetwork(config, lambda model: None, "float32"))
    with pytest.raises(InputError, match="finds no objects: give boxes, or load one of `deepmac finetune`"):
        predictor.detect(tiny_model.picture())


@pytest.mark.parametrize("count", [1, 3, 7])
def test_masks_are_those_of_the_whole_model(model, count, monkeypatch):
    # Without squares around small boxes.
    monkeypatch.setattr("deepmac.inference.predictor.plan_crops", lambda *_: {})
    image, boxes = tiny_model.picture(), tiny_model.random_boxes(count).astype(np.float32)
    pixels, part = network_input(image, tiny_model.SIZE)
    boxes_in_square = boxes * np.tile(part, 2)
    raw = model({"image": pixels, "boxes": boxes_in_square[None]}, training=False)["raw_output"]
    expected = tf.sigmoid(raw["mask_logits"][-1][0])
    assert np.ptp(expected) > 0.1

    prediction = tiny_model.predictor().predict(boxes, encoded=tiny_model.predictor().encode(image))
    np.testing.assert_allclose(prediction.mask_probs, expected, atol=1e-5)


def test_bfloat16_agrees_with_float32():
    image, boxes = tiny_model.picture(), tiny_model.random_boxes(20)
    masks, precisions = [], ("float32", "bfloat16")
    for precision in precisions:
        predictor = tiny_model.predictor(precision)
        assert predictor.precision == precision
        predictor.set_image(image)
        masks.append(predictor.predict(boxes).mask_probs)
    assert not np.array_equal(*masks)
    np.testing.assert_allclose(*masks, atol=0.05)
    assert predictor.encode(image).embeddings[0].dtype == tf.bfloat16


def test_precision_and_keras_policy_leave_each_other_alone():
    image, boxes = tiny_model.picture(), tiny_model.random_boxes(3)
    expected = tiny_model.predictor("float32")
    with compute_dtype("bfloat16"):
        predictor = deepmac.load(tiny_model.model_dir(), "float32")
        assert tf_keras.mixed_precision.global_policy().name == "mixed_bfloat16"
    masks = [p.predict(boxes, encoded=p.encode(image)).mask_probs for p in (predictor, expected)]
    np.testing.assert_array_equal(*masks)


def test_the_memory_of_a_call_is_bounded_for_full_resolution_masks():
    config = configs.deepmac_mini().task
    config.model.input_size = [512, 512, 3]
    config.model.mask_head.predict_full_resolution_masks = True
    network = InferenceNetwork(config, lambda model: None, "float32")
    assert network.most_boxes == 16  # 128 x 128 positions each


def test_a_larger_input_size_uses_the_same_weights():
    larger = deepmac.load(tiny_model.model_dir(), "float32", input_size=2 * tiny_model.SIZE)
    assert larger.input_size == 2 * tiny_model.SIZE
    boxes = tiny_model.random_boxes(2)
    predictions = []
    for predictor in (tiny_model.predictor(), larger):
        predictor.set_image(np.full((64, 64, 3), 200, np.uint8))
        predictions.append(predictor.predict(boxes))
    assert predictions[1].mask_probs.shape == predictions[0].mask_probs.shape
    assert not np.array_equal(predictions[0].mask_probs, predictions[1].mask_probs)


def test_input_sizes_that_do_not_fit_are_refused():
    for size in (0, 4, 63, 100):
        with pytest.raises(InputError, match=f"multiple of 8 .* not {size}"):
            deepmac.load(tiny_model.model_dir(), "float32", input_size=size)
    config = configs.deepmac_mini().task
    config.model.input_size = [64, 128, 3]
    with pytest.raises(InputError, match="square"):
        InferenceNetwork(config, lambda model: None, "float32")


def test_the_configuration_is_read_as_training_wrote_it():
    config = read_task_config(tiny_model.model_dir() / "params.yaml")
    expected = configs.deepmac_mini().task
    expected.model.input_size = [tiny_model.SIZE, tiny_model.SIZE, 3]
    assert config.model.as_dict() == expected.model.as_dict()
    assert list(config.validation_data.parser.channel_means) == list(
        expected.validation_data.parser.channel_means
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "task: [",
        "runtime: {}",
        "task: 3",
        "task: {model: {mask_haed: {dim: 3}}}",
        "task: !!python/object/apply:os.system ['touch pwned']",
        "\xff",
    ],
)
def test_a_damaged_configuration_is_an_input_error(tmp_path, text, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "params.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"params\.yaml does not describe"):
        read_task_config(path)
    assert not (tmp_path / "pwned").exists()


def test_a_model_dir_without_a_checkpoint_or_with_another_or_half_of_it_is_an_input_error(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(tiny_model.model_dir(), folder, ignore=shutil.ignore_patterns("ckpt-*", "checkpoint"))
    with pytest.raises(InputError, match="no checkpoint in"):
        deepmac.load(folder)
    shutil.copytree(tiny_model.model_dir(), folder, dirs_exist_ok=True)
    params = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(params.replace("num_init_channels: 16", "num_init_channels: 8"))
    with pytest.raises(InputError, match=r"ckpt-12 does not fit .*params\.yaml"):
        deepmac.load(folder)
    (folder / "params.yaml").write_text(params)
    data = next(folder.glob("*.data-*"))
    data.write_bytes(data.read_bytes()[:10000])
    with pytest.raises(InputError, match="ckpt-12"):
        deepmac.load(folder)


def test_moving_averages_of_the_weights_go_before_the_weights(tmp_path):
    shutil.copy(tiny_model.model_dir() / "params.yaml", tmp_path)
    model = tiny_model.build_model(read_task_config(tmp_path / "params.yaml").model)
    optimizer = optimization.ExponentialMovingAverage(tf_keras.optimizers.legacy.Adam())
    optimizer.shadow_copy(model)
    for variable in model.trainable_variables:
        optimizer.get_slot(variable, "average").assign(variable + 1)
    items = {"model": model, **model.checkpoint_items, "optimizer": optimizer}
    tf.train.Checkpoint(**items).save(tmp_path / "ckpt")
    config, restore = load.trained_model(tmp_path)
    loaded = load.build_model(config, restore, "float32")
    averaged = {id(variable) for variable in model.trainable_variables}
    for variable, trained in zip(loaded.variables, model.variables, strict=True):
        np.testing.assert_array_equal(variable, trained + (id(trained) in averaged))
