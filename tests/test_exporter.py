"""Exports in every format, against the predictor, the published graph and reference tensors."""

import json
import re
import shutil
import sys

import command_line
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
import tiny_model
from PIL import Image

import deepmac
from deepmac.core.errors import InputError
from deepmac.export import FORMATS, export_model, exporter, graphs

HALVES = ("encoder", "mask_head")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Format -> folder of the small model, exported through the command."""
    folders = {}
    for file_format in FORMATS:
        folders[file_format] = tmp_path_factory.mktemp("export") / file_format
        arguments = ["--model", tiny_model.model_dir(), "--out", folders[file_format]]
        output = command_line.run("export", "--format", file_format, *arguments).output
        assert float(re.search(r"Largest difference from the model: (\S+)", output)[1]) < 1e-5
    return folders


def open_halves(folder, file_format):
    """Opens graphs with their runtimes, as somebody without this package does: name -> function of a dict."""
    if file_format == "saved_model":
        model = tf.saved_model.load(str(folder / "saved_model"))

        def run_signature(name, inputs):
            tensors = {key: tf.constant(value) for key, value in inputs.items()}
            return {key: value.numpy() for key, value in model.signatures[name](**tensors).items()}

        return {name: lambda inputs, name=name: run_signature(name, inputs) for name in HALVES}
    if file_format == "onnx":
        sessions = {name: onnxruntime.InferenceSession(str(folder / f"{name}.onnx")) for name in HALVES}

        def run_session(session, inputs):
            names = [output.name for output in session.get_outputs()]
            return dict(zip(names, session.run(None, inputs), strict=True))

        return {name: lambda inputs, s=session: run_session(s, inputs) for name, session in sessions.items()}
    return {name: lambda inputs, path=folder / f"{name}.tflite": run_tflite(path, inputs) for name in HALVES}


def run_tflite(path, inputs):
    """Without signatures, by the names of tensors, as C and JavaScript do."""
    interpreter = tf.lite.Interpreter(str(path))
    [signature] = interpreter.get_signature_list().values()
    details = {
        detail["name"].split("_", 2)[2].split(":")[0]: detail for detail in interpreter.get_input_details()
    }
    assert set(details) == set(signature["inputs"]) == set(inputs)
    for name, value in inputs.items():
        interpreter.resize_tensor_input(details[name]["index"], value.shape)
    interpreter.allocate_tensors()
    for name, value in inputs.items():
        interpreter.set_tensor(details[name]["index"], value)
    interpreter.invoke()
    runner = interpreter.get_signature_runner()
    outputs = runner.get_output_details()
    return {name: interpreter.get_tensor(detail["index"]) for name, detail in outputs.items()}


@pytest.mark.filterwarnings("ignore::UserWarning")  # on the TFLite interpreter's move to another package
@pytest.mark.parametrize("file_format", FORMATS)
def test_masks_are_the_predictors(exported, file_format):
    folder = exported[file_format]
    halves = open_halves(folder, file_format)
    size = json.loads((folder / "graphs.json").read_text())["input_size"]
    assert size == tiny_model.SIZE
    # A picture of the network's width needs no resizing: only padding.
    picture = tiny_model.picture(seed=3, height=48, width=size)
    square = np.zeros((1, size, size, 3), np.float32)
    square[0, :48] = picture
    encoded = halves["encoder"]({"image": square})
    predictor = tiny_model.predictor()
    predictor.set_image(picture)
    for count in (1, 3, 100):
        boxes = tiny_model.random_boxes(count, seed=count)
        pixels = (boxes * [48, size, 48, size]).astype(np.float32)
        masks = halves["mask_head"]({**encoded, "boxes": pixels[np.newaxis] / size})["mask_probs"]
        expected = predictor.predict(boxes).mask_probs
        assert np.ptp(expected) > 0.1
        np.testing.assert_allclose(masks[0], expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("file_format", ["tflite", "onnx"])
@pytest.mark.parametrize(
    "name",
    [
        "hourglass20",
        *(
            pytest.param(name, marks=pytest.mark.nightly)
            for name in ("embedding_projection", "resnet4_no_instance", "weak_losses")
        ),
    ],
)
def test_mask_heads_of_published_models(reference_dir, tmp_path, file_format, name):
    """The weights of the published implementation, and the masks it predicts with them."""
    export_model(reference_dir / name, tmp_path / "graphs", file_format)
    runners = open_halves(tmp_path / "graphs", file_format)
    reference = np.load(reference_dir / name / "predict_io.npz")
    image, boxes = reference["exact/image"], reference["exact/boxes"]
    encoded = runners["encoder"]({"image": image[np.newaxis].astype(np.float32)})
    masks = runners["mask_head"]({**encoded, "boxes": boxes[np.newaxis].astype(np.float32)})["mask_probs"]
    np.testing.assert_allclose(masks[0], reference["exact/mask_probs"], atol=1e-4)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("file_format", FORMATS)
def test_the_description_tells_the_truth(exported, file_format):
    folder = exported[file_format]
    document = json.loads((folder / "graphs.json").read_text())
    assert document["format"] == file_format
    assert 0 <= document["largest_difference_from_model"] < 1e-5
    interfaces = {"saved_model": saved_model_interfaces, "tflite": tflite_interfaces, "onnx": onnx_interfaces}
    found = interfaces[file_format](folder)
    assert set(found) == set(document["graphs"])
    readme = (folder / "README.md").read_text()
    for graph, (inputs, outputs) in found.items():
        told = document["graphs"][graph]
        assert inputs == {name: (spec["shape"], spec["dtype"]) for name, spec in told["inputs"].items()}
        assert set(outputs) == set(told["outputs"])
        for name in (*inputs, *outputs):
            assert f"`{name}`" in readme
    assert str(tiny_model.model_dir().parent) not in readme + json.dumps(document)


def saved_model_interfaces(folder):
    signatures = tf.saved_model.load(str(folder / "saved_model")).signatures
    return {
        name: (
            {
                key: (spec.shape.as_list(), spec.dtype.name)
                for key, spec in signature.structured_input_signature[1].items()
            },
            set(signature.structured_outputs),
        )
        for name, signature in signatures.items()
    }


def onnx_interfaces(folder):
    interfaces = {}
    for path in folder.glob("*.onnx"):
        onnx.checker.check_model(str(path), full_check=True)
        session = onnxruntime.InferenceSession(str(path))
        inputs = {
            tensor.name: (
                [None if isinstance(length, str) else length for length in tensor.shape],
                {"tensor(float)": "float32"}[tensor.type],
            )
            for tensor in session.get_inputs()
        }
        interfaces[path.stem] = inputs, {tensor.name for tensor in session.get_outputs()}
    return interfaces


def tflite_interfaces(folder):
    interfaces = {}
    for path in folder.glob("*.tflite"):
        runner = tf.lite.Interpreter(str(path)).get_signature_runner()
        inputs = {
            name: (
                [None if length == -1 else int(length) for length in detail["shape_signature"]],
                np.dtype(detail["dtype"]).name,
            )
            for name, detail in runner.get_input_details().items()
        }
        interfaces[path.stem] = inputs, set(runner.get_output_details())
    return interfaces


class Disturbed:
    """A model whose masks are a little off."""

    def __init__(self, model):
        self._model = model

    def __getattr__(self, name):
        return getattr(self._model, name)

    def mask_probs(self, *embeddings_and_boxes):
        return self._model.mask_probs(*embeddings_and_boxes) + 2e-4


@pytest.mark.parametrize(
    ("file_format", "graph"), [("saved_model", "whole_graph"), ("tflite", "half_graphs"), ("onnx", "encoder")]
)
def test_a_graph_that_differs_leaves_nothing_behind(tmp_path, monkeypatch, file_format, graph):
    difference = r"2\.0e-04"
    if graph == "encoder":
        normalize, difference = graphs.normalize, ".*"
        monkeypatch.setattr(graphs, "normalize", lambda image, **options: normalize(image + 1, **options))
    else:
        build = getattr(graphs, graph)
        monkeypatch.setattr(exporter, graph, lambda model, config: build(Disturbed(model), config))
    with pytest.raises(
        InputError, match=rf"graph differs from .* by {difference}, more than 1e-04: nothing was written"
    ):
        export_model(tiny_model.model_dir(), tmp_path / "graphs", file_format)
    assert not list(tmp_path.iterdir())


def test_the_extra_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)  # what Python sees of a package that is not installed
    arguments = ["export", "--model", tiny_model.model_dir(), "--out", tmp_path / "graphs"]
    line = "deepmac: this needs the package tf2onnx: run pip install 'deepmac[export]'\n"
    assert command_line.refused(*arguments, "--format", "onnx") == line
    assert not list(tmp_path.iterdir())


def test_models_with_nms_have_halves_but_no_saved_model(tmp_path):
    model_dir = tmp_path / "model"
    shutil.copytree(tiny_model.model_dir(), model_dir)
    params = (model_dir / "params.yaml").read_text()
    (model_dir / "params.yaml").write_text(params.replace("use_nms: false", "use_nms: true"))
    export_model(model_dir, tmp_path / "graphs", "onnx")
    with pytest.raises(InputError, match="use_nms cannot be exported as SavedModel"):
        export_model(model_dir, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_the_readmes_recipe_resizes_as_the_predictor_does(exported, tmp_path):
    """Follows README.md with another library for a picture that must be resized."""
    picture = tiny_model.picture(seed=5, height=96, width=2 * tiny_model.SIZE)
    square = np.zeros((1, tiny_model.SIZE, tiny_model.SIZE, 3), np.float32)
    square[0, :48] = picture[::2, ::2]  # every input position i * 2, what bilinear sampling reads there
    halves = open_halves(exported["onnx"], "onnx")
    boxes = tiny_model.random_boxes(4)
    in_square = (boxes * [96, 128, 96, 128] / 128).astype(np.float32)[np.newaxis]
    masks = halves["mask_head"]({**halves["encoder"]({"image": square}), "boxes": in_square})["mask_probs"]
    Image.fromarray(picture).save(tmp_path / "picture.png")
    predictor = tiny_model.predictor()
    expected = predictor.predict(boxes, encoded=predictor.encode(tmp_path / "picture.png")).mask_probs
    np.testing.assert_allclose(masks[0], expected, atol=1e-5)
    masks = deepmac.load(exported["saved_model"]).predict_batch([picture], [boxes])[0].mask_probs
    np.testing.assert_allclose(masks, expected, atol=1e-5)


def test_the_signature_is_the_published_one(exported, reference_dir):
    signature = tf.saved_model.load(exported["saved_model"] / "saved_model").signatures["serving_default"]
    inputs = signature.structured_input_signature[1]
    assert inputs["input_tensor"] == tf.TensorSpec([None, None, None, 3], tf.uint8, "input_tensor")
    assert inputs["boxes"] == tf.TensorSpec([None, None, 4], tf.float32, "boxes")
    reference = np.load(reference_dir / "hourglass20" / "saved_model_io.npz")
    assert {f"out/{name}" for name in signature.structured_outputs} == {
        name for name in reference if name.startswith("out/")
    }
    assert all(output.dtype == tf.float32 for output in signature.structured_outputs.values())


def test_pictures_of_a_batch_and_boxes_of_a_picture_are_independent(exported):
    image, boxes = tiny_model.picture(height=100, width=75), tiny_model.random_boxes(4).astype(np.float32)
    graph = deepmac.load(exported["saved_model"])._network
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


def test_what_is_exported_already_and_unknown_formats_are_refused(exported, tmp_path):
    with pytest.raises(InputError, match="is an exported graph"):
        export_model(exported["saved_model"], tmp_path / "graph")
    with pytest.raises(InputError, match="not an empty folder"):
        export_model(tiny_model.model_dir(), exported["saved_model"])
    with pytest.raises(InputError, match="unknown format 'coreml': choose from saved_model, tflite, onnx"):
        export_model(tiny_model.model_dir(), tmp_path / "graphs", "coreml")
    assert not list(tmp_path.iterdir())
