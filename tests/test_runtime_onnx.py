"""The ONNX runtime against the TensorFlow runtime, and which of them `load` chooses."""

import json
import shutil

import numpy as np
import pytest
import tiny_model

import deepmac
from deepmac.core.errors import InputError
from deepmac.export import export_model
from deepmac.inference.find import find_model, read_graphs
from deepmac.inference.load import InferenceNetwork
from deepmac.inference.runtime_onnx import OnnxNetwork


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model directory with an ONNX export of it beside the checkpoint."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    shutil.copytree(tiny_model.model_dir(), folder)
    export_model(folder, folder / "onnx", "onnx")
    return folder


def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.mark.parametrize("count", [1, 150])
def test_masks_are_those_of_tensorflow_which_finds_objects(folder, count):
    predictors = [deepmac.load(folder, "float32", runtime=runtime) for runtime in ("onnx", "tensorflow")]
    image, boxes = tiny_model.picture(height=100, width=37), tiny_model.random_boxes(count)
    first, second = (p.predict(boxes, encoded=p.encode(image)).mask_probs for p in predictors)
    assert np.ptp(second) > 0.1
    np.testing.assert_allclose(first, second, atol=1e-5)
    with pytest.raises(InputError, match="this model finds no objects"):
        predictors[0].detect(image)


def test_a_call_holds_no_more_boxes_than_memory_allows(folder, tmp_path):
    folder = copied(folder / "onnx", tmp_path)
    graphs = read_graphs(folder)
    assert graphs["most_boxes"] == 64
    boxes = tiny_model.random_boxes(10).astype(np.float32)
    masks, calls = [], {}
    for most in (4, None):
        (folder / "graphs.json").write_text(json.dumps(graphs | {"most_boxes": most}))
        network = OnnxNetwork(folder)
        run, sizes = network._mask_head.run, calls.setdefault(most, [])

        def counted(names, inputs, run=run, sizes=sizes):
            sizes.append(inputs["boxes"].shape[1])
            return run(names, inputs)

        network._mask_head.run = counted
        embeddings, _ = network.encode(tiny_model.picture())
        masks.append(network.mask_probs(embeddings, boxes))
    assert calls == {4: [4, 4, 2], None: [10]}
    np.testing.assert_allclose(*masks, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "network"),
    [
        ({}, OnnxNetwork),
        ({"precision": "float32"}, OnnxNetwork),
        ({"runtime": "onnx"}, OnnxNetwork),
        ({"runtime": "tensorflow"}, InferenceNetwork),
        ({"precision": "bfloat16"}, InferenceNetwork),
        ({"input_size": tiny_model.SIZE}, OnnxNetwork),
        ({"input_size": 128}, InferenceNetwork),
    ],
)
def test_auto_takes_onnx_unless_something_else_is_asked_for(folder, options, network):
    assert isinstance(deepmac.load(folder, **options)._network, network)


def test_a_model_trained_further_does_not_use_its_old_export(folder, tmp_path):
    exported = find_model(folder / "onnx").weights_sha256
    assert exported != find_model(folder).weights_sha256
    folder = copied(folder, tmp_path)
    assert find_model(folder / "onnx").weights_sha256 == exported
    (folder / "onnx" / "mask_head.onnx").write_bytes(b"other")
    assert find_model(folder / "onnx").weights_sha256 != exported
    with (folder / "params.yaml").open("a") as params:
        params.write("\n# changed\n")
    assert find_model(folder).onnx is None
    with pytest.raises(InputError, match=r"no ONNX files of its weights: write them with deepmac export"):
        deepmac.load(folder, runtime="onnx")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtime": "torch"}, "unknown runtime 'torch': use one of auto, onnx, tensorflow"),
        ({"runtime": "tensorflow"}, "TensorFlow does not run the ONNX files"),
        ({"precision": "bfloat16"}, "cannot be chosen"),
        ({"input_size": 128}, "cannot be chosen"),
    ],
)
def test_what_an_export_cannot_do_is_refused(folder, options, message):
    with pytest.raises(InputError, match=message):
        deepmac.load(folder / "onnx", **options)


@pytest.mark.parametrize("name", ["encoder.onnx", "mask_head.onnx", "graphs.json"])
@pytest.mark.parametrize("damage", [b"{", None])
def test_damaged_and_missing_files_are_named(folder, tmp_path, name, damage):
    folder = copied(folder / "onnx", tmp_path)
    (folder / name).unlink()
    if damage:
        (folder / name).write_bytes(damage)
    with pytest.raises(InputError, match=rf"{name}.* export the model again|no model"):
        deepmac.load(folder)
