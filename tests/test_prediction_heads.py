import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from deepmac.modeling.model import PredictionHeads

OUTPUTS = {"ct_heatmaps": 7, "ct_offset": 2, "ct_size": 2, "instance_embedding": 5, "pixel_embedding": 3}


def _heads():
    heads = PredictionHeads(OUTPUTS, ["2_0", "2"], num_filters=11, heatmap_bias=-2.19)
    features = {level: tf.random.normal([2, 4, 6, 8]) for level in ("2_0", "2")}
    return heads, features


def test_a_set_of_heads_for_every_stage():
    heads, features = _heads()
    outputs = heads(features)
    assert {name: [tuple(x.shape) for x in stages] for name, stages in outputs.items()} == {
        name: [(2, 4, 6, channels)] * 2 for name, channels in OUTPUTS.items()
    }
    kernels = [v.shape for v in heads.trainable_variables if v.shape.rank == 4]
    assert kernels.count((3, 3, 8, 11)) == 2 * len(OUTPUTS), "hidden layers have a width of their own"
    assert not np.allclose(outputs["ct_size"][0], outputs["ct_size"][1])


def test_only_the_heatmap_starts_with_a_bias():
    heads, features = _heads()
    outputs = heads({level: tf.zeros_like(x) for level, x in features.items()})
    np.testing.assert_allclose(outputs["ct_heatmaps"][1], np.full([2, 4, 6, 7], -2.19), rtol=1e-6)
    np.testing.assert_array_equal(outputs["ct_offset"][1], 0)


def test_last_stage_equals_the_last_output():
    heads, features = _heads()
    names = ("instance_embedding", "pixel_embedding")
    alone = heads.last_stage(features, names)
    assert set(alone) == set(names)
    for name in names:
        np.testing.assert_array_equal(alone[name], heads(features)[name][-1])


@pytest.mark.parametrize(("name", "dtype"), [("ct_size", "float32"), ("pixel_embedding", "bfloat16")])
def test_regressed_coordinates_stay_in_float32(name, dtype):
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        heads, features = _heads()
        assert heads(features)[name][-1].dtype == dtype
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
