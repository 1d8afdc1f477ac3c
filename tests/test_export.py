"""Exported SavedModels of images and boxes, against the model they were made of and the published graph."""

import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tiny_model
from click.testing import CliRunner

import deepmac
from deepmac.cli import main
from deepmac.core.errors import InputError
from deepmac.export import export_model, graphs


@pytest.fixture(scope="module")
def exported(tmp_path_factory, reference_dir):
    """The published model, exported through the command."""
    folder = tmp_path_factory.mktemp("export") / "graph"
    result = CliRunner().invoke(
        main, ["export", "--model", str(reference_dir / "hourglass20"), "--out", str(folder)]
    )
    assert result.exit_code == 0, result.output
    difference = float(re.search(r"Largest difference from the model: (\S+)", result.output)[1])
    assert difference < 1e-5
    return folder


def test_the_signature_is_the_published_one(exported, reference_dir):
    signature = tf.saved_model.load(exported / "saved_model").signatures["serving_default"]
    inputs = signature.structured_input_signature[1]
    assert inputs["input_tensor"] == tf.TensorSpec([None, None, None, 3], tf.uint8, "input_tensor")
    assert inputs["boxes"] == tf.TensorSpec([None, None, 4], tf.float32, "boxes")
    reference = np.load(reference_dir / "hourglass20" / "saved_model_io.npz")
    assert {f"out/{name}" for name in signature.structured_outputs} == {
        name for name in reference if name.startswith("out/")
    }
    assert all(output.dtype == tf.float32 for output in signature.structured_outputs.values())


def test_gives_what_the_published_graph_gives(exported, reference_dir):
    reference = np.load(reference_dir / "hourglass20" / "saved_model_io.npz")
    outputs = deepmac.load(exported)._network.outputs(reference["image"], reference["boxes"])
    for name, value in outputs.items():
        np.testing.assert_allclose(value, reference[f"out/{name}"], atol=1e-5, err_msg=name)


def test_loads_with_the_same_masks(exported, reference_dir):
    reference = np.load(reference_dir / "hourglass20" / "predict_io.npz")
    model, graph = deepmac.load(reference_dir / "hourglass20", precision="float32"), deepmac.load(exported)
    for name in ("exact", "padded", "resized"):
        masks = []
        for predictor in (model, graph):
            predictor.set_image(reference[f"{name}/image"])
            masks.append(predictor.predict(reference[f"{name}/boxes"]).mask_probs)
        np.testing.assert_allclose(masks[0], masks[1], atol=1e-5)
        np.testing.assert_allclose(masks[1], reference[f"{name}/mask_probs"], atol=1e-4)


def test_pictures_of_a_batch_and_boxes_of_a_picture_are_independent(exported, reference_dir):
    reference = np.load(reference_dir / "hourglass20" / "predict_io.npz")
    image, boxes = reference["resized/image"], reference["resized/boxes"]
    graph = deepmac.load(exported)._network
    batch = graph.outputs(np.stack([image, image[::-1], image]), np.stack([boxes, boxes, boxes[::-1]]))
    alone = graph.outputs(image[np.newaxis], boxes[np.newaxis, :2])
    np.testing.assert_allclose(batch["detection_masks"][0, :2], alone["detection_masks"][0], atol=1e-5)
    np.testing.assert_allclose(batch["detection_masks"][2, ::-1], batch["detection_masks"][0], atol=1e-5)
    assert np.abs(batch["detection_masks"][1] - batch["detection_masks"][0]).max() > 0.01
    for name in ("detection_boxes", "detection_scores", "detection_multiclass_scores"):
        np.testing.assert_allclose(batch[name][0], alone[name][0], atol=1e-5)


def test_trained_models_are_exported_at_the_size_asked_for(tmp_path):
    export_model(tiny_model.model_dir(), tmp_path / "graph", input_size=96)
    model = deepmac.load(tiny_model.model_dir(), "float32", input_size=96)
    graph = deepmac.load(tmp_path / "graph")
    masks = []
    for predictor in (model, graph):
        predictor.set_image(tiny_model.picture())
        masks.append(predictor.predict(tiny_model.random_boxes(5)).mask_probs)
    np.testing.assert_allclose(*masks, atol=1e-5)


def test_a_graph_that_differs_leaves_nothing_behind(tmp_path, monkeypatch):
    published_outputs = graphs.published_outputs

    def disturbed(*arguments):
        outputs = published_outputs(*arguments)
        return outputs | {"detection_masks": outputs["detection_masks"] + 2e-4}

    monkeypatch.setattr(graphs, "published_outputs", disturbed)
    with pytest.raises(
        InputError, match=r"differs from .* by 2\.0e-04, more than 1e-04: nothing was written"
    ):
        export_model(tiny_model.model_dir(), tmp_path / "graph")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_refused(exported, tmp_path):
    with pytest.raises(InputError, match="is an exported graph already"):
        export_model(exported, tmp_path / "graph")
    with pytest.raises(InputError, match="not an empty folder"):
        export_model(tiny_model.model_dir(), exported)
    model_dir = tmp_path / "model"
    shutil.copytree(tiny_model.model_dir(), model_dir)
    params = (model_dir / "params.yaml").read_text()
    (model_dir / "params.yaml").write_text(params.replace("use_nms: false", "use_nms: true"))
    with pytest.raises(InputError, match="use_nms cannot be exported"):
        export_model(model_dir, tmp_path / "graph")
    assert not (tmp_path / "graph").exists()
