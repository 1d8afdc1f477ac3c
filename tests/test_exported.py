import shutil

import numpy as np
import pytest
import tensorflow as tf

import deepmac
from deepmac.core.errors import InputError


def test_gives_the_masks_of_the_checkpoint_it_was_made_of_and_can_do_nothing_else(reference_dir):
    folder = reference_dir / "hourglass20"
    predictor, reference = deepmac.load(folder / "saved_model"), np.load(folder / "predict_io.npz")
    assert (predictor.precision, predictor.input_size) == ("float32", None), "the graph resizes"
    names = ("exact", "padded", "resized")
    images, boxes = ([reference[f"{name}/{what}"] for name in names] for what in ("image", "boxes"))
    for name, image, given in zip(names, images, boxes, strict=True):
        prediction = predictor.predict(given, encoded=predictor.encode(image))
        np.testing.assert_allclose(prediction.mask_probs, reference[f"{name}/mask_probs"], atol=1e-4)
        assert prediction.masks.shape[1:] == reference[f"{name}/image"].shape[:2]
    with pytest.raises(InputError, match="finds no objects: give boxes"):
        predictor.detect(np.zeros((32, 32, 3), np.uint8))
    for options in ({"precision": "bfloat16"}, {"precision": "half"}, {"input_size": 256}):
        with pytest.raises(InputError, match=r"exported graph, whose precision .* cannot be chosen"):
            deepmac.load(folder / "saved_model", **options)


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
