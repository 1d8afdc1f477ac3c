from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny_model
import tiny_training
import yaml
from official.core import exp_factory
from official.vision.modeling.backbones import factory
from official.vision.modeling.layers import nn_blocks

import deepmac
from deepmac import configs, train
from deepmac.core.errors import InputError
from deepmac.data.preprocessing import network_input, normalize
from deepmac.modeling import backbones

# What PyTorch computes for a picture, written by `configs/weights/imagenet.py`.
REFERENCE = Path(__file__).parent / "efficientnet_lite0.npz"


def _config(**efficientnet_lite):
    return configs.BackboneConfig(
        type="efficientnet_lite", efficientnet_lite=configs.EfficientNetLiteConfig(**efficientnet_lite)
    )


def _build(config, size=64):
    input_specs = tf_keras.layers.InputSpec(shape=[None, size, size, 3])
    return factory.build_backbone(input_specs, config, configs.deepmac_mini().task.model.norm_activation)


@pytest.fixture(scope="module")
def lite0():
    return _build(_config(num_filters=8), size=96)


def test_features_of_every_block_are_those_of_the_source(lite0):
    reference = np.load(REFERENCE)
    backbones.initialize(lite0, _config())
    encoder = lite0.get_layer("encoder")
    blocks = [layer for layer in encoder.layers if isinstance(layer, nn_blocks.InvertedBottleneckBlock)]
    # From what the parser gives, whose normalisation differs from the one the weights were trained with.
    pixels = normalize(tf.constant(reference["picture"], tf.float32))[tf.newaxis]
    inputs = tf_keras.Model(lite0.input, encoder.inbound_nodes[-1].keras_inputs)(pixels)
    features = tf_keras.Model(encoder.input, [blocks[0].input, *(block.output for block in blocks)])(inputs)
    assert len(blocks) == 16
    for name, values in zip(["stem", *(f"block_{i}" for i in range(16))], features, strict=True):
        corners = values.numpy()[0, [0, 0, -1, -1], [0, -1, 0, -1]]
        means = tf.reduce_mean(values, axis=[0, 1, 2])
        np.testing.assert_allclose([*corners, means], reference[name], rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    # As in `efficientnet-lite-pytorch`.
    ("model_id", "channels", "blocks"),
    [("lite0", [24, 40, 112, 320], 16), ("lite1", [24, 40, 112, 320], 21), ("lite2", [24, 48, 120, 352], 21)],
)
def test_heads_read_stride_4_of_every_size(model_id, channels, blocks):
    backbone = _build(_config(model_id=model_id, num_filters=8))
    assert {level: tuple(shape) for level, shape in backbone.output_specs.items()} == {"2": (None, 16, 16, 8)}
    encoder = backbone.get_layer("encoder")
    assert [tuple(encoder.output_shape[level]) for level in "2345"] == [
        (None, 64 // stride, 64 // stride, depth)
        for stride, depth in zip([4, 8, 16, 32], channels, strict=True)
    ]
    assert sum(isinstance(layer, nn_blocks.InvertedBottleneckBlock) for layer in encoder.layers) == blocks


def test_every_weight_learns(lite0):
    images = np.random.default_rng(0).normal(size=(1, 96, 96, 3)).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(lite0(images, training=True)["2"] ** 2)
    gradients = tape.gradient(loss, lite0.trainable_variables)
    assert len(gradients) == 3 + 6 + 15 * 9 + 12  # stem, first block, the others, FPN
    assert not any(gradient is None for gradient in gradients)


def test_frozen_blocks_keep_their_weights_and_statistics():
    backbone = _build(_config(num_filters=8, num_frozen_blocks=3))
    assert len(backbone.trainable_variables) == 13 * 9 + 12  # the other blocks, FPN
    layers = dict(backbones.encoder_layers(backbone))
    before = {name: layer.get_weights() for name, layer in layers.items() if name.endswith("norm")}
    images = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
    backbone(images, training=True)
    moved = [name for name in before if not np.array_equal(before[name], layers[name].get_weights())]
    assert moved == [name for name in before if name.startswith("block") and int(name[6:].split("/")[0]) >= 3]


@pytest.mark.slow
def test_trains_from_imagenet_and_loads(tmp_path):
    params = exp_factory.get_exp_config("deepmac_mini")
    config_file = tiny_training.write_config(tmp_path, num_images=2, batch_size=2)
    params.override(yaml.safe_load(config_file.read_text()))
    params.override({"task": {"model": {"backbone": {"type": "efficientnet_lite"}}}})
    params.override({"trainer": {"train_steps": 1, "steps_per_loop": 1}})
    model, _ = train.train(params, "train", str(tmp_path / "model"))
    with np.load(backbones.IMAGENET) as arrays:
        changes = [
            np.abs(layer.get_weights()[0] - arrays[name]).max()
            for name, layer in backbones.encoder_layers(model.backbone)
            if name.endswith("conv")
        ]
    assert 0 < max(changes) < 1e-3  # one step of Adam

    predictor = deepmac.load(tmp_path / "model", "float32")
    picture = tiny_model.picture()
    loaded = predictor.encode(picture).embeddings
    for folded, plain in zip(loaded, model.encode(network_input(picture, 64)[0]), strict=True):
        np.testing.assert_allclose(folded, plain, rtol=1e-3, atol=1e-3)
    predictor.set_image(picture)
    assert predictor.predict(tiny_model.random_boxes(3)).mask_probs.shape == (3, 16, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init_weights": "no/such.npz"}, "init_weights: no/such.npz holds no weights of lite0"),
        ({"init_weights": __file__}, "holds no weights of lite0"),
        ({"init_weights": str(REFERENCE)}, "holds no weights of lite0.*stem/conv"),
        ({"init_weights": "other.npz"}, "holds no weights of lite0.*shape"),
    ],
)
def test_weights_that_are_missing_or_do_not_fit_are_refused(lite0, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("other.npz", **{"stem/conv": np.zeros([3, 3, 3, 8])})
    with pytest.raises(InputError, match=message):
        backbones.initialize(lite0, _config(**options))


def test_without_initial_weights_they_stay_random_and_networks_that_do_not_fit_are_refused(lite0):
    before = lite0.get_weights()
    backbones.initialize(lite0, _config(init_weights=""))
    for value, other in zip(lite0.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, other)
    with pytest.raises(InputError, match="model_id must be one of lite0, lite1, lite2, not 'b0'"):
        _build(_config(model_id="b0"))
    with pytest.raises(InputError, match="multiple of 32 for this network, not 80 x 80"):
        _build(_config(), size=80)
