import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny_model

from deepmac import configs
from deepmac.core.errors import InputError
from deepmac.modeling.keras_fixes import compute_dtype
from deepmac.modeling.model import PredictionHeads, build_deepmac

SIZE = 64


def _config(stages=2, **norm_activation):
    """A model of one or two hourglass stages."""
    config = configs.deepmac_mini().task.model
    config.override(
        {
            "input_size": [SIZE, SIZE, 3],
            "backbone": {"hourglass": {"input_channel_dims": 8, "num_hourglasses": stages}},
            "head": {"input_levels": ["2_0", "2"][-stages:], "num_filters": 8},
            "mask_head": {"num_init_channels": 8},
            "norm_activation": norm_activation,
        }
    )
    return config


@pytest.fixture(scope="module")
def model():
    return tiny_model.build_model(_config())


@pytest.fixture(scope="module")
def bfloat16_model():
    with compute_dtype("bfloat16"):
        return tiny_model.build_model(_config())


def _images(count=2, seed=0):
    return np.random.default_rng(seed).normal(size=(count, SIZE, SIZE, 3)).astype(np.float32)


def _boxes(images=2, count=3):
    boxes = [tiny_model.random_boxes(count, seed) for seed in range(images)]
    return np.array(boxes, np.float32)


def test_all_outputs_have_the_documented_shapes(model):
    features = {"image": _images(), "boxes": _boxes()}
    assert list(model(features, training=True)) == ["raw_output"], "in training nothing is detected"
    outputs = model(features, training=False)
    raw = {name: [tuple(stage.shape) for stage in stages] for name, stages in outputs["raw_output"].items()}
    channels = {"ct_heatmaps": 90, "ct_offset": 2, "ct_size": 2, "instance_embedding": 32}
    channels["pixel_embedding"] = 16
    maps = {name: [(2, 16, 16, depth)] * 2 for name, depth in channels.items()}
    assert raw == maps | {"mask_logits": [(2, 3, 32, 32)] * 2}
    detections = {name: tuple(outputs[name].shape) for name in outputs if name != "raw_output"}
    assert detections == {
        **{"boxes": (2, 32, 4), "classes": (2, 32), "confidence": (2, 32)},
        **{"num_detections": (2,), "masks": (2, 32, 32, 32)},
    }


def test_an_image_alone_gives_detections_but_no_masks_in_given_boxes(model):
    outputs = model(_images(), training=False)
    with_boxes = model({"image": _images(), "boxes": _boxes()}, training=False)
    assert "mask_logits" not in outputs["raw_output"]
    np.testing.assert_allclose(outputs["masks"], with_boxes["masks"], atol=1e-5)


def test_masks_of_detections_are_masks_in_their_boxes(model):
    outputs = model(_images(), training=False)
    boxes = outputs["boxes"] / SIZE
    logits = model({"image": _images(), "boxes": boxes}, training=False)["raw_output"]["mask_logits"][-1]
    np.testing.assert_allclose(outputs["masks"], tf.sigmoid(logits), atol=1e-5)


def test_encode_and_mask_logits_give_the_last_stages_masks(model):
    outputs = model({"image": _images(), "boxes": _boxes()}, training=False)["raw_output"]
    logits = model.mask_logits(*model.encode(_images()), _boxes())
    np.testing.assert_allclose(logits, outputs["mask_logits"][-1], rtol=1e-4, atol=1e-5)
    assert np.abs(outputs["mask_logits"][0] - logits).max() > 0.01  # the stages differ
    assert np.ptp(logits) > 0.1


def test_boxes_stay_float32_under_mixed_precision(model, bfloat16_model):
    # 0.501 and 0.5 are the same number in bfloat16.
    boxes = np.array([[[0.501, 0.2, 0.9, 0.8], [0.5, 0.2, 0.9, 0.8]]], np.float32)
    outputs = bfloat16_model({"image": _images(1), "boxes": boxes}, training=False)
    assert {outputs[name].dtype for name in ("boxes", "confidence", "masks")} == {tf.float32}
    outputs = outputs["raw_output"]
    assert outputs["ct_size"][-1].dtype == tf.float32, "regressed coordinates"
    assert outputs["pixel_embedding"][-1].dtype == tf.bfloat16
    assert outputs["mask_logits"][-1].dtype == tf.float32
    first, second = outputs["mask_logits"][-1][0]
    assert not np.array_equal(first, second)
    exact = model({"image": _images(1), "boxes": boxes}, training=False)["raw_output"]["mask_logits"][-1]
    np.testing.assert_allclose(outputs["mask_logits"][-1], exact, atol=0.1)


def test_padding_boxes_do_not_influence_other_masks(model):
    boxes = _boxes()
    padded = np.concatenate([boxes, np.zeros_like(boxes)], axis=1)
    others = np.concatenate([boxes, _boxes()[::-1]], axis=1)
    embeddings = model.encode(_images())
    plain, with_padding, with_others = (
        model.mask_logits(*embeddings, part).numpy() for part in (boxes, padded, others)
    )
    assert np.isfinite(with_padding).all()
    np.testing.assert_array_equal(with_padding[:, :3], with_others[:, :3])
    np.testing.assert_allclose(with_padding[:, :3], plain, atol=1e-5)


def test_inference_does_not_depend_on_the_rest_of_the_batch(model):
    features = {"image": _images(3), "boxes": _boxes(3)}
    together = model(features, training=False)["raw_output"]
    for index in range(3):
        alone = {name: value[index : index + 1] for name, value in features.items()}
        outputs = model(alone, training=False)["raw_output"]
        for name in ("mask_logits", "ct_heatmaps"):
            np.testing.assert_allclose(outputs[name][-1][0], together[name][-1][index], atol=1e-4)
    in_training = model(features, training=True)["raw_output"]["mask_logits"][-1]
    assert np.abs(in_training - together["mask_logits"][-1]).max() > 0.01


def test_inference_uses_the_moving_statistics_of_every_layer():
    model = tiny_model.build_model(_config())
    image, boxes = tf.constant(_images(1)), tf.constant(_boxes(1))
    infer = tf.function(lambda: model.mask_logits(*model.encode(image), boxes), autograph=False)
    before = infer().numpy()
    for mean in _moving_means(model):
        value = mean.numpy()
        mean.assign(value + 0.5)
        assert np.abs(infer() - before).max() > 1e-4, mean.name
        mean.assign(value)
    np.testing.assert_allclose(infer(), before, atol=1e-6)


@pytest.mark.parametrize("synchronized", [False, True])
def test_training_updates_every_layer_with_the_configured_momentum(synchronized):
    changes = {}  # with one stage every layer is used once
    for momentum in (0.9, 0.5):
        tf_keras.utils.set_random_seed(1)
        model = build_deepmac(_config(1, norm_momentum=momentum, use_sync_bn=synchronized))
        means = _moving_means(model)
        before = [mean.numpy() for mean in means]
        model({"image": _images() + 1.0, "boxes": _boxes()}, training=True)
        changes[momentum] = [mean.numpy() - start for mean, start in zip(means, before, strict=True)]
    assert len(means) == 14 + 30  # of the backbone and of the mask head
    # Both change by (1 - momentum) times the same difference.
    for mean, slow, fast in zip(means, changes[0.9], changes[0.5], strict=True):
        assert np.abs(fast).max() > 1e-4, mean.name
        np.testing.assert_allclose(slow, 0.2 * fast, rtol=1e-2, atol=1e-5, err_msg=mean.name)


def test_a_stage_without_losses_does_not_reach_the_mask_head():
    """Its embeddings would be part of the averages that batch norm uses in inference."""
    features = {"image": _images(), "boxes": _boxes()}

    def trained(predict):
        tf_keras.utils.set_random_seed(1)
        model = build_deepmac(_config(2), use_only_last_stage=True)
        logits = predict(model)
        return logits, [mean.numpy() for mean in _moving_means(model.mask_head)]

    def last_stage_by_hand(model):
        features_of_stages = model.head(model.backbone(features["image"], training=True))
        embeddings = (features_of_stages[name][-1] for name in ("instance_embedding", "pixel_embedding"))
        return [model.mask_logits(*embeddings, features["boxes"], training=True)]

    logits, means = trained(lambda model: model(features, training=True)["raw_output"]["mask_logits"])
    expected_logits, expected_means = trained(last_stage_by_hand)
    assert len(logits) == 1
    np.testing.assert_allclose(logits[0], expected_logits[0], atol=1e-5)
    assert any(np.abs(mean).max() > 1e-3 for mean in means)
    for mean, expected in zip(means, expected_means, strict=True):
        np.testing.assert_allclose(mean, expected, atol=1e-6)


def _moving_means(model):
    return [variable for variable in model.variables if "moving_mean" in variable.name]


def test_inference_compiles_under_xla():
    model = tiny_model.build_model(_config(stages=1))
    features = {"image": _images(), "boxes": _boxes()}

    def infer(features):
        outputs = model(features, training=False)
        return outputs["raw_output"]["mask_logits"][-1], outputs["boxes"], outputs["masks"]

    compiled = tf.function(infer, jit_compile=True)(features)
    for value, expected in zip(compiled, infer(features), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"input_size": [64, 64]}, r"\[height, width, 3\], not"),
        ({"input_size": [64, 64, 4]}, r"\[height, width, 3\], not"),
        ({"head": {"input_levels": ["2", "3"]}}, r"names \['3'\], but the backbone has"),
        ({"mask_head": {"network_type": "hourglass7"}}, "hourglass7"),
    ],
)
def test_configurations_that_cannot_be_built_are_input_errors(override, words):
    config = _config()
    config.override(override)
    with pytest.raises(InputError, match=words):
        build_deepmac(config)


HEADS = {"ct_heatmaps": 7, "ct_offset": 2, "ct_size": 2, "instance_embedding": 5, "pixel_embedding": 3}


def _prediction_heads():
    config = configs.DeepMACModelConfig(num_classes=7)
    config.head.override({"input_levels": ["2_0", "2"], "num_filters": 11, "heatmap_bias": -2.19})
    config.mask_head.override({"dim": 5, "pixel_embedding_dim": 3})
    heads = PredictionHeads(config)
    features = {level: tf.random.normal([2, 4, 6, 8]) for level in ("2_0", "2")}
    return heads, features


def test_a_set_of_heads_for_every_stage_of_which_only_the_heatmap_starts_with_a_bias():
    heads, features = _prediction_heads()
    outputs = heads(features)
    assert {name: [tuple(x.shape) for x in stages] for name, stages in outputs.items()} == {
        name: [(2, 4, 6, channels)] * 2 for name, channels in HEADS.items()
    }
    kernels = [v.shape for v in heads.trainable_variables if v.shape.rank == 4]
    assert kernels.count((3, 3, 8, 11)) == 2 * len(HEADS), "hidden layers have a width of their own"
    assert not np.allclose(outputs["ct_size"][0], outputs["ct_size"][1])
    outputs = heads({level: tf.zeros_like(x) for level, x in features.items()})
    np.testing.assert_allclose(outputs["ct_heatmaps"][1], np.full([2, 4, 6, 7], -2.19), rtol=1e-6)
    np.testing.assert_array_equal(outputs["ct_offset"][1], 0)
