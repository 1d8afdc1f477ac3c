import shutil

import numpy as np
import pytest
import tensorflow as tf

import deepmac
from deepmac.core.errors import InputError


@pytest.fixture(scope="module")
def predictor(reference_dir):
    return deepmac.load(reference_dir / "hourglass20" / "saved_model")


def test_gives_the_masks_of_the_checkpoint_it_was_made_of(predictor, reference_dir):
    reference = np.load(reference_dir / "hourglass20" / "predict_io.npz")
    names = ("exact", "padded", "resized")
    predictions = predictor.predict_batch(
        [reference[f"{name}/image"] for name in names], [reference[f"{name}/boxes"] for name in names]
    )
    for name, prediction in zip(names, predictions, strict=True):
        np.testing.assert_allclose(prediction.mask_probs, reference[f"{name}/mask_probs"], atol=1e-4)
        assert prediction.masks.shape[1:] == reference[f"{name}/image"].shape[:2]


def test_a_graph_that_takes_boxes_finds_no_objects(predictor):
    with pytest.raises(InputError, match="finds no objects: give boxes"):
        predictor.detect(np.zeros((32, 32, 3), np.uint8))


def test_says_that_the_graph_resizes(predictor):
    assert (predictor.precision, predictor.input_size) == ("float32", None)


@pytest.mark.parametrize("options", [{"precision": "bfloat16"}, {"precision": "half"}, {"input_size": 256}])
def test_what_a_graph_cannot_change_is_refused(options, reference_dir):
    with pytest.raises(InputError, match=r"exported graph, whose precision .* cannot be chosen"):
        deepmac.load(reference_dir / "hourglass20" / "saved_model", **options)


def test_a_damaged_graph_is_an_input_error(tmp_path):
    module = tf.Module()
    module.variable = tf.Variable(1.0)
    tf.saved_model.save(module, str(tmp_path))
    shutil.rmtree(tmp_path / "variables")
    with pytest.raises(InputError, match="cannot read the SavedModel"):
        deepmac.load(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot read the SavedModel"):
        deepmac.load(tmp_path)


def test_a_graph_without_boxes_is_an_input_error(tmp_path):
    module = tf.Module()
    module.run = tf.function(
        lambda input_tensor: {"detection_boxes": input_tensor},
        input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8, "input_tensor")],
    )
    tf.saved_model.save(module, str(tmp_path / "images"), signatures=module.run)
    with pytest.raises(InputError, match="takes input_tensor: graphs of DeepMAC take input_tensor and boxes"):
        deepmac.load(tmp_path / "images")
    tf.saved_model.save(tf.Module(), str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="takes nothing"):
        deepmac.load(tmp_path / "nothing")
