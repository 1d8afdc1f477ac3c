"""Any oddities of a valid file: a correct result, or one line, whatever the command; nothing half-written."""

import json
import math

import numpy as np
import pytest
import tensorflow as tf
import tiny_model
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from synthetic import save_annotations, write_three_pictures
from tiny_training import decoded_records

from deepmac.cli import main
from deepmac.jobs import stream

SPLIT = "val2017"
NOTHING = object()  # the field is left out
# fmt: off
ODD_VALUES = [
    NOTHING, None, True, "", "x", "1", "1.5", [], {}, [[]], 0, -1, 1.0, 1.5, 1e308, 10**400, 2**63,
    float("nan"), float("inf"), [1, 2, 3, 4], ["1", "2", "3", "4"], [0, 0, 0, 0], [1e9] * 4, [[1e12] * 6],
    {"x": 1, "y": 2, "width": 3, "height": 4}, [[1, 1, 9, 1, 9, 9]], [1, 1, 9, 1, 9, 9],
    [[1, 1], [9, 1], [9, 9]], "[[1, 1, 9, 1, 9, 9]]", [[1, 1, 9, 1, 9, 9], [1, 2]],
    {"size": [40, 30], "counts": "51"},
    {"size": [30, 40], "counts": [600, 600]}, {"counts": None},
]
# fmt: on
SCALARS = st.integers() | st.floats() | st.text(max_size=4)
ANY_LISTS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=6)
FIELDS = ["id", "image_id", "category_id", "file_name", "width", "height"]
FIELDS += ["bbox", "area", "iscrowd", "segmentation", "name"]
ODDITIES = st.lists(
    st.tuples(
        st.sampled_from(["images", "annotations", "annotations", "categories"]),
        st.integers(0, 4),
        st.sampled_from(FIELDS),
        st.sampled_from(ODD_VALUES) | ANY_LISTS,
    ),
    max_size=6,
)


any_oddities = given(ODDITIES, st.sampled_from([(), ("categories",), ("images",), ("annotations",)]))


def few(examples):
    return settings(
        max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )


def write_odd(folder, oddities, without):
    """Writes three pictures and their annotations with oddities; returns these."""
    content = write_three_pictures(folder / "coco", SPLIT)
    for section, index, field, value in oddities:
        entry = content[section][index % len(content[section])]
        if value is NOTHING:
            entry.pop(field, None)
        else:
            entry[field] = value
    content = {key: content[key] for key in content if key not in without}
    save_annotations(folder / "coco", SPLIT, content)
    return content


def run(folder, *arguments):
    """Whether a command did its work; else it has said why in one line, and written nothing."""
    before = {*folder.rglob("*")}
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exit_code:
        assert result.exit_code == 2, result.exception
        assert len(result.stderr.splitlines()) == 1 and not result.stdout
        assert {*folder.rglob("*")} == before
    return result.exit_code == 0


@pytest.mark.slow
@few(30)
@any_oddities
def test_records_have_a_correct_count(tmp_path_factory, oddities, without):
    folder = tmp_path_factory.mktemp("odd")
    write_odd(folder, oddities, without)
    options = ["--out", folder / "out", "--shards", 1, "--report", folder / "report.json"]
    if not run(folder, "tfrecord", "--coco-dir", folder / "coco", *options):
        return
    report = json.loads((folder / "report.json").read_text())[SPLIT]
    examples = decoded_records(folder / "out", SPLIT)
    boxes = np.concatenate([example["groundtruth_boxes"] for example in examples.values()])
    assert (len(examples), len(boxes)) == (report["images"], report["annotations"])
    assert ((boxes >= 0) & (boxes <= 1)).all() and (boxes[:, :2] < boxes[:, 2:]).all()
    pngs = [png for example in examples.values() for png in example["groundtruth_instance_masks_png"].numpy()]
    masks = [tf.io.decode_png(png).numpy() for png in pngs if png]
    assert len(masks) == report["masks"] and all(mask.any() for mask in masks)
    assert sum(kind["boxes"] for kind in report["categories"].values()) == len(boxes)
    lost = [kind["count"] for kind in report["repairs"] if kind["what"].endswith("left out")]
    assert len(boxes) == 5 or sum(lost) > 0


@pytest.fixture
def tiny(monkeypatch):
    """The small random model makes the masks, at once."""
    predictor = tiny_model.predictor()
    monkeypatch.setattr(stream, "load", lambda *_: predictor)


@pytest.mark.slow
@few(30)
@any_oddities
def test_a_completed_file_is_the_same_but_for_masks(tmp_path_factory, tiny, oddities, without):
    folder = tmp_path_factory.mktemp("odd")
    content = write_odd(folder, oddities, without)
    annotations = folder / "coco" / "annotations" / f"instances_{SPLIT}.json"
    images, out = folder / "coco" / SPLIT, folder / "out.json"
    if not run(folder, "annotate", annotations, "--images", images, "--out", out, "--all"):
        return
    completed = json.loads(out.read_text())
    assert not list(folder.glob(".*"))
    assert completed.keys() == content.keys()
    for before, after in zip(content["annotations"], completed["annotations"], strict=True):
        if "quality" in after:
            assert after["segmentation"] and 0 <= after["quality"] <= 1
            before = before | {key: after[key] for key in ("segmentation", "quality")}
        assert after == finite(before)


@pytest.mark.slow
@few(30)
@any_oddities
def test_every_picture_that_is_read_gets_its_files(tmp_path_factory, tiny, oddities, without):
    folder = tmp_path_factory.mktemp("odd")
    write_odd(folder, oddities, without)
    annotations = folder / "coco" / "annotations" / f"instances_{SPLIT}.json"
    images, out = folder / "coco" / SPLIT, folder / "out"
    if not run(folder, "segment", images, "--boxes", annotations, "--out", out):
        return
    files = [*out.glob("*_masks.json")]
    assert files
    for file in files:
        with Image.open(file.with_name(file.name.replace("_masks.json", "_labels.png"))) as labels:
            size = [labels.height, labels.width]
        assert all(entry["segmentation"]["size"] == size for entry in json.loads(file.read_text()))


def finite(value):
    """As JSON knows it: other numbers are null."""
    if isinstance(value, dict):
        return {str(key): finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
