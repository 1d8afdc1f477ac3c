import numpy as np
import pytest
import tensorflow as tf
from official.projects.deepmac_maskrcnn.modeling.heads import hourglass_network

from deepmac import configs
from deepmac.core.errors import InputError
from deepmac.modeling import mask_heads
from deepmac.modeling.keras_fixes import compute_dtype

RNG = np.random.default_rng(0)
PARAMETER_FREE = {"use_instance_embedding": False}
HEADS = {name: {} for name in mask_heads.MASK_HEADS if "<N>" not in name} | {
    "embedding_projection": {"dim": 3, "use_xy": False, **PARAMETER_FREE},
    "cond_inst1": {"dim": 6, "num_init_channels": 5, **PARAMETER_FREE},
    "cond_inst2": {"dim": 29, **PARAMETER_FREE},
    "cond_inst3": {"dim": 49, **PARAMETER_FREE},
}


def head_config(network_type, **options):
    options = {"num_init_channels": 4, "dim": 7, "pixel_embedding_dim": 3, "mask_size": 32, **options}
    return configs.MaskHeadConfig(network_type=network_type, **options)


def embeddings(config, num_boxes=2):
    channels = config.pixel_embedding_dim + (2 if config.use_xy else 0)
    instances = RNG.normal(size=(num_boxes, config.dim)).astype(np.float32)
    pixels = RNG.normal(size=(num_boxes, config.mask_size, config.mask_size, channels)).astype(np.float32)
    return instances, pixels


@pytest.mark.parametrize("name", HEADS)
def test_every_head_gives_float32_logits_under_mixed_precision(name):
    size = 32 if name in ("hourglass52", "hourglass100") else 8
    config = head_config(name, mask_size=size, **HEADS[name])
    with compute_dtype("bfloat16"):
        head = mask_heads.build_mask_head(config)
    logits = head(*embeddings(config), training=False)
    assert logits.shape == (2, config.mask_size, config.mask_size) and logits.dtype == tf.float32
    assert np.all(np.isfinite(logits)) and np.std(logits) > 0
    assert all(weight.dtype == tf.float32 for weight in head.weights)
    norms = [module for module in head.submodules if hasattr(module, "moving_mean")]
    assert len(norms) == sum("moving_mean" in weight.name for weight in head.weights)


@pytest.mark.parametrize(
    "name", ["hourglass10", "resnet4", "fully_connected", "embedding_projection", "cond_inst3"]
)
def test_heads_and_their_gradients_compile_under_xla(name):
    config = head_config(name, mask_size=8, **HEADS[name])
    head = mask_heads.build_mask_head(config)
    inputs = [tf.constant(values) for values in embeddings(config)]

    def logits_and_gradient(instances, pixels):
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            logits = head(instances, pixels, training=False)
            loss = tf.reduce_sum(tf.square(logits))
        return logits, tape.gradient(loss, pixels)

    compiled = tf.function(logits_and_gradient, jit_compile=True)(*inputs)
    for ours, expected in zip(compiled, logits_and_gradient(*inputs), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-3)


def test_heads_are_as_deep_as_their_name():
    for depth in (10, 20, 32, 52, 100):
        head = mask_heads.build_mask_head(head_config(f"hourglass{depth}"))
        assert hourglass_network.hourglass_depth(head._net) == depth
    for depth in (4, 8, 12, 16, 20):
        config = head_config(f"resnet{depth}", mask_size=4)
        head = mask_heads.build_mask_head(config)
        head(*embeddings(config))
        kernels = [weight.shape for weight in head._net.weights if "kernel" in weight.name]
        kernels = [shape for shape in kernels if shape[0] == 3]
        assert len(kernels) == depth
        assert kernels[-1][-1] == (12 if depth == 20 else 8)
    config = head_config("resnet4", num_init_channels=8, pixel_embedding_dim=14, dim=16, mask_size=4)
    head = mask_heads.build_mask_head(config)
    head(*embeddings(config))
    assert sum(np.prod(weight.shape) for weight in head.trainable_weights) == 8665, "as published"


def test_at_full_resolution_every_box_sees_the_whole_map_from_its_centre():
    config = head_config("hourglass10", predict_full_resolution_masks=True)
    features = RNG.normal(size=(1, 6, 8, 3)).astype(np.float32)
    boxes = np.array([[[0.1, 0.2, 0.5, 0.8], [0.0, 0.0, 1.0, 0.5]]], np.float32)
    spec = [tf.TensorSpec([1, 6, 8, 3]), tf.TensorSpec([1, None, 4])]
    pixels = tf.function(
        lambda features, boxes: mask_heads.mask_head_pixels(features, boxes, config), input_signature=spec
    )(features, boxes).numpy()
    assert pixels.shape == (1, 2, 6, 8, 5)
    for box, (y, x) in enumerate([(0.3, 0.5), (0.5, 0.25)]):
        np.testing.assert_array_equal(pixels[0, box, ..., 2:], features[0])
        np.testing.assert_allclose(pixels[0, box, :, 5, 0], np.linspace(0, 1, 6) - y, atol=1e-6)
        np.testing.assert_allclose(pixels[0, box, 2, :, 1], np.linspace(0, 1, 8) - x, atol=1e-6)


def test_full_resolution_logits_do_not_depend_on_the_number_of_boxes():
    config = head_config("hourglass10", predict_full_resolution_masks=True, postprocess_crop_size=20)
    logits = RNG.normal(size=(1, 3, 8, 12)).astype(np.float32)
    boxes = np.array([[[0.1, 0.2, 0.5, 0.9], [0.0, 0.0, 1.0, 1.0], [0.3, 0.3, 0.6, 0.7]]], np.float32)
    crops = mask_heads.crop_logits(logits, boxes, config).numpy()
    assert crops.shape == (1, 3, 20, 20)
    large = tf.image.resize(logits[0][..., np.newaxis], [32, 48])
    expected = tf.image.crop_and_resize(large, boxes[0], [0, 1, 2], [20, 20])[..., 0]
    np.testing.assert_allclose(crops[0], expected, atol=1e-5)
    one = mask_heads.crop_logits(logits[:, 1:2], boxes[:, 1:2], config).numpy()
    np.testing.assert_allclose(one[0, 0], crops[0, 1], atol=1e-6)
    logits = tf.constant(logits)
    assert mask_heads.crop_logits(logits, boxes, head_config("hourglass10")) is logits, "inside already"


@pytest.mark.parametrize(
    ("network_type", "options", "message"),
    [
        ("hourglass42", {}, "_no_shortcut.*resnet20.*fully_conn.*embedding_projection.*cond_inst<N>"),
        ("cond_inst0", PARAMETER_FREE, "unknown"),
        ("cond_inst", PARAMETER_FREE, "unknown"),
        ("hourglass52", {"mask_size": 48}, "multiple of 32"),
        ("hourglass20", {"predict_full_resolution_masks": True, "max_roi_jitter_ratio": 0.1}, "jitter"),
        ("fully_connected", {"predict_full_resolution_masks": True}, "_masks must be False"),
        ("embedding_projection", {"dim": 3, "use_xy": False}, "use_instance_embedding"),
        ("embedding_projection", {"dim": 3, **PARAMETER_FREE}, "use_xy"),
        ("embedding_projection", {"dim": 4, "use_xy": False, **PARAMETER_FREE}, "dim must be 3.* not 4"),
        ("cond_inst3", {"dim": 49}, "use_instance_embedding"),
        ("cond_inst3", {"dim": 48, **PARAMETER_FREE}, "dim must be 49.* not 48"),
        ("cond_inst3", {"dim": 49, "use_xy": False, **PARAMETER_FREE}, "dim must be 41.* not 49"),
        ("cond_inst2", {"dim": 28, **PARAMETER_FREE}, "dim must be 29"),
        ("cond_inst1", {"dim": 6, **PARAMETER_FREE}, "num_init_channels must be 5"),
    ],
)
def test_options_that_do_not_fit_say_what_to_do(network_type, options, message):
    with pytest.raises(InputError, match=message):
        mask_heads.build_mask_head(head_config(network_type, **options))
