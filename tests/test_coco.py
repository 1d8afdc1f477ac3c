"""COCO folders: what is repaired, what is refused, and what the records hold."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from PIL import Image
from pycocotools.coco import COCO
from synthetic import draw_scene, run_lengths, save_annotations, write_coco

from deepmac.cli import main
from deepmac.core.errors import InputError
from deepmac.data.coco import check_coco, read_image_ids, write_tfrecords
from deepmac.data.tfrecords import MaskExampleDecoder

SPLIT = "val2017"


@pytest.fixture
def folder(tmp_path):
    """A COCO folder of three pictures with 3, 2 and 0 objects, and its annotations."""
    scenes = [draw_scene(40, 30, 3, 0), draw_scene(30, 50, 2, 1), draw_scene(20, 20, 0, 2)]
    content = write_coco(tmp_path / "coco", SPLIT, scenes, [1, 18, 90])
    return tmp_path / "coco", content


def check(coco_dir, **options):
    return check_coco(coco_dir / "annotations" / f"instances_{SPLIT}.json", coco_dir / SPLIT, **options)


def decoded_records(out_dir, split):
    """Returns {image id: decoded example}."""
    files = sorted(str(path) for path in out_dir.glob(f"{split}-*.tfrecord"))
    decoder = MaskExampleDecoder()
    return {
        int(example["source_id"]): example for example in map(decoder.decode, tf.data.TFRecordDataset(files))
    }


def assert_records_hold(out_dir, split, annotation_file, image_dir):
    """Compares records with pycocotools' reading of the annotations, instance by instance."""
    coco = COCO(annotation_file)
    examples = decoded_records(out_dir, split)
    assert sorted(examples) == sorted(coco.imgs)
    for image_id, example in examples.items():
        info = coco.imgs[image_id]
        assert (example["height"], example["width"]) == (info["height"], info["width"])
        stored = tf.io.decode_image((image_dir / info["file_name"]).read_bytes(), channels=3)
        np.testing.assert_array_equal(example["image"], stored)
        annotations = coco.imgToAnns[image_id]
        assert len(annotations) == len(example["groundtruth_classes"])
        for index, annotation in enumerate(annotations):
            assert example["groundtruth_classes"][index] == annotation["category_id"]
            assert example["groundtruth_is_crowd"][index] == bool(annotation["iscrowd"])
            np.testing.assert_allclose(example["groundtruth_area"][index], annotation["area"], rtol=1e-6)
            box = example["groundtruth_boxes"][index] * np.tile([info["height"], info["width"]], 2)
            x, y, width, height = annotation["bbox"]
            np.testing.assert_allclose(box, [y, x, y + height, x + width], atol=1e-3)
            mask = tf.io.decode_png(example["groundtruth_instance_masks_png"][index])[..., 0]
            np.testing.assert_array_equal(mask, coco.annToMask(annotation))


def test_records_hold_the_annotations(folder, tmp_path):
    coco_dir, content = folder
    reports = write_tfrecords(coco_dir, tmp_path / "out", [SPLIT], num_shards=2)
    assert not reports[SPLIT].repairs and not reports[SPLIT].errors
    names = {path.name for path in (tmp_path / "out").iterdir()}
    shards = {f"{SPLIT}-00000-of-00002.tfrecord", f"{SPLIT}-00001-of-00002.tfrecord"}
    assert names == {f"instances_{SPLIT}.json"} | shards
    source = coco_dir / "annotations" / f"instances_{SPLIT}.json"
    assert_records_hold(tmp_path / "out", SPLIT, source, coco_dir / SPLIT)
    assert json.loads((tmp_path / "out" / f"instances_{SPLIT}.json").read_text()) == content


@pytest.mark.parametrize("crowd", [0, 1])
@pytest.mark.parametrize("form", ["polygons", "run lengths", "compressed"])
def test_every_form_of_mask_is_converted(folder, tmp_path, form, crowd):
    coco_dir, content = folder
    mask = np.zeros((40, 30), bool)
    mask[0:9, 0:7] = mask[20:33, 11:20] = True  # the first run has no zeros
    first = content["annotations"][0]
    polygons = [[0, 0, 7, 0, 7, 9, 0, 9], [11, 20, 20, 20, 20, 33, 11, 33]]
    forms = {
        "polygons": polygons,
        "run lengths": run_lengths(mask, False),
        "compressed": run_lengths(mask, True),
    }
    first |= {"segmentation": forms[form], "iscrowd": crowd}
    save_annotations(coco_dir, SPLIT, content)
    write_tfrecords(coco_dir, tmp_path / "out", [SPLIT])
    example = decoded_records(tmp_path / "out", SPLIT)[100]
    np.testing.assert_array_equal(
        tf.io.decode_png(example["groundtruth_instance_masks_png"][0])[..., 0], mask
    )
    assert example["groundtruth_is_crowd"].numpy().tolist() == [bool(crowd), False, False]


def test_real_coco_round_trip(coco_dir, tmp_path):
    source = coco_dir / "annotations" / f"instances_{SPLIT}.json"
    content = json.loads(source.read_text())
    crowded = {annotation["image_id"] for annotation in content["annotations"] if annotation["iscrowd"]}
    bare = {image["id"] for image in content["images"]}
    bare -= {annotation["image_id"] for annotation in content["annotations"]}
    ids = {*sorted(crowded)[:3], *sorted(bare)[:1], *(image["id"] for image in content["images"][:8])}
    reports = write_tfrecords(coco_dir, tmp_path / "out", [SPLIT], num_shards=3, ids=ids)
    assert not reports[SPLIT].repairs
    written = tmp_path / "out" / f"instances_{SPLIT}.json"
    assert_records_hold(tmp_path / "out", SPLIT, written, coco_dir / SPLIT)
    rewritten = json.loads(written.read_text())
    assert {image["id"] for image in rewritten["images"]} == ids
    kept = [annotation for annotation in content["annotations"] if annotation["image_id"] in ids]
    assert rewritten["annotations"] == kept and rewritten["categories"] == content["categories"]


def test_many_images_are_converted_by_several_processes(folder, tmp_path, monkeypatch):
    coco_dir, _ = folder
    monkeypatch.setattr("deepmac.data.coco._MIN_IMAGES_FOR_PROCESSES", 1)
    write_tfrecords(coco_dir, tmp_path / "out", [SPLIT])
    source = coco_dir / "annotations" / f"instances_{SPLIT}.json"
    assert_records_hold(tmp_path / "out", SPLIT, source, coco_dir / SPLIT)


def test_flaws_of_coco_are_repaired_and_reported(folder, tmp_path):
    coco_dir, content = folder
    first, second, third, fourth, fifth = content["annotations"]
    first["bbox"] = [-2.5, 3, 40, 10]  # the picture is 30 wide
    second["bbox"] = [4, 4, 0, 7]
    third["bbox"] = [31, 4, 5, 5]
    fourth["segmentation"] = []
    lost = fifth | {"id": 1, "image_id": 999}
    content["annotations"].append(lost)
    content["categories"] = [{"id": 1, "name": "person"}, {"id": 18, "name": "cat"}]
    save_annotations(coco_dir, SPLIT, content)
    report = check(coco_dir)
    assert not report.errors
    counts = {kind: len(cases) for kind, cases in report.repairs.items()}
    assert counts == {
        "boxes clipped to the image": 1,
        "boxes without area in the image left out": 2,
        "annotations without a usable mask left out": 1,
        "annotations of unknown images left out": 1,
        "categories named differently from COCO": 1,
    }
    assert "18 is 'cat', taken as 'dog'" in str(report)
    assert f"annotation {second['id']}, annotation {third['id']}" in str(report)
    assert [annotation["id"] for annotation in report.dataset["annotations"]] == [first["id"], fifth["id"]]
    assert report.dataset["annotations"][0]["bbox"] == [0, 3, 30, 10]
    write_tfrecords(coco_dir, tmp_path / "out", [SPLIT])
    annotation_file = tmp_path / "out" / f"instances_{SPLIT}.json"
    assert_records_hold(tmp_path / "out", SPLIT, annotation_file, coco_dir / SPLIT)


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        "polygon",
        [[1, 1, 5, 5]],
        [[1, 1, 5, 5, 9]],
        [7, 7, 8, 8, 9, 9],
        {"size": [40, 30], "counts": [1200]},
        {"size": [40, 30], "counts": [5, 5]},
        {"size": [30, 40], "counts": [600, 600]},
        {"counts": [600, 600]},
        {"size": [40, 30]},
    ],
)
def test_unusable_masks_are_left_out(folder, segmentation):
    coco_dir, content = folder
    content["annotations"][0]["segmentation"] = segmentation
    save_annotations(coco_dir, SPLIT, content)
    assert list(check(coco_dir).repairs) == ["annotations without a usable mask left out"]


def test_iscrowd_and_area_have_defaults(folder):
    coco_dir, content = folder
    first = content["annotations"][0]
    del first["iscrowd"], first["area"]
    save_annotations(coco_dir, SPLIT, content)
    repaired = check(coco_dir).dataset["annotations"][0]
    assert repaired["iscrowd"] == 0 and repaired["area"] == first["bbox"][2] * first["bbox"][3]


def _truncate(coco_dir, content):
    path = coco_dir / SPLIT / content["images"][1]["file_name"]
    path.write_bytes(path.read_bytes()[:-200])


def _garbage(coco_dir, content):
    (coco_dir / SPLIT / content["images"][1]["file_name"]).write_bytes(b"no picture at all")


def _remove_image(coco_dir, content):
    (coco_dir / SPLIT / content["images"][2]["file_name"]).unlink()


def _other_size(coco_dir, content):
    Image.new("RGB", (33, 44)).save(coco_dir / SPLIT / content["images"][0]["file_name"])


def _annotation_text(text):
    def write(coco_dir, content):
        (coco_dir / "annotations" / f"instances_{SPLIT}.json").write_text(text)

    return write


def _edit(change):
    def write(coco_dir, content):
        change(content)
        save_annotations(coco_dir, SPLIT, content)

    return write


BAD_INPUTS = {
    "missing picture": (_remove_image, "missing images: 1 (000000000102.jpg): complete the folder"),
    "truncated JPEG": (_truncate, "corrupt images: 1 (000000000101.jpg)"),
    "no JPEG": (_garbage, "corrupt images: 1 (000000000101.jpg)"),
    "other picture": (_other_size, "images of another size than annotated: 1 (000000000100.jpg)"),
    "empty file": (_annotation_text(""), "is empty"),
    "no JSON": (_annotation_text('{"images": ['), "is not valid JSON"),
    "no object": (_annotation_text("[1, 2]"), "has no list 'images'"),
    "no annotation list": (_edit(lambda content: content.pop("annotations")), "has no list 'annotations'"),
    "no images": (_edit(lambda content: content.update(images=[])), "'images' is empty"),
    "no annotations": (_edit(lambda content: content.update(annotations=[])), "'annotations' is empty"),
    "unknown category": (
        _edit(lambda content: content["annotations"][0].update(category_id=12)),
        "annotations of categories that COCO does not have: 1 (annotation 100000: 12)",
    ),
    "no box": (_edit(lambda content: content["annotations"][0].pop("bbox")), "entry 0 of 'annotations'"),
    "half a box": (
        _edit(lambda content: content["annotations"][1].update(bbox=[1, 2])),
        "entry 1 of 'annotations'",
    ),
    "no height": (_edit(lambda content: content["images"][0].pop("height")), "entry 0 of 'images'"),
    "nameless category": (
        _edit(lambda content: content.update(categories=[{"id": 1}])),
        "'categories' is not",
    ),
    "id twice": (
        _edit(lambda content: content["images"][0].update(id=101)),
        "an id is used twice in 'images'",
    ),
    "no usable annotation": (
        _edit(lambda content: [entry.update(bbox=[0, 0, 0, 0]) for entry in content["annotations"]]),
        "no usable annotation",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), BAD_INPUTS.values(), ids=BAD_INPUTS.keys())
def test_bad_input_is_refused_in_one_line(folder, tmp_path, spoil, message):
    coco_dir, content = folder
    spoil(coco_dir, content)
    assert_refused(tmp_path, message, "--coco-dir", coco_dir)


def assert_refused(tmp_path, message, *arguments):
    """Exit status 2, one line with `message`, and no file or folder left behind."""
    before = set(tmp_path.iterdir())
    arguments = ["tfrecord", "--split", SPLIT, "--out", tmp_path / "out", *arguments]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1 and message in result.stderr
    assert not result.stdout
    assert set(tmp_path.iterdir()) == before


def test_missing_folders_are_refused(folder, tmp_path):
    coco_dir, _ = folder
    assert_refused(tmp_path, "no such folder", "--coco-dir", tmp_path / "nowhere")
    assert_refused(tmp_path, "no such file", "--coco-dir", coco_dir, "--split", "train2017")
    (coco_dir / SPLIT).rename(coco_dir / "elsewhere")
    assert_refused(tmp_path, "no such folder", "--coco-dir", coco_dir)


def test_output_is_never_overwritten(folder, tmp_path):
    coco_dir, _ = folder
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert_refused(tmp_path, "not an empty folder", "--coco-dir", coco_dir)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_nothing_appears_when_writing_fails(folder, tmp_path, monkeypatch):
    coco_dir, _ = folder
    monkeypatch.setattr("deepmac.data.coco.json.dump", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    before = set(tmp_path.iterdir())
    with pytest.raises(OSError, match="disk full"):
        write_tfrecords(coco_dir, tmp_path / "out", [SPLIT])
    assert set(tmp_path.iterdir()) == before


def test_command_writes_both_splits_and_reports(folder, tmp_path):
    coco_dir, _ = folder
    write_coco(tmp_path / "train", "train2017", [draw_scene(20, 20, 2, 3)], [1])
    (tmp_path / "train" / "train2017").rename(coco_dir / "train2017")
    annotations = "annotations/instances_train2017.json"
    (tmp_path / "train" / annotations).rename(coco_dir / annotations)
    arguments = ["tfrecord", "--coco-dir", coco_dir, "--out", tmp_path / "out", "--shards", 2]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert "3 images, 5 annotations" in result.stdout and "1 images, 2 annotations" in result.stdout
    assert len(list((tmp_path / "out").glob("*-of-00002.tfrecord"))) == 4
    assert len(decoded_records(tmp_path / "out", "train2017")) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7 8\n9, 10 # eleven\n# 12\n", {7, 8, 9, 10}),
        ("[7, 8]", {7, 8}),
        ('{"train2017": [1], "val2017": [2, 3]}', {"train2017": {1}, "val2017": {2, 3}}),
    ],
)
def test_reads_lists_of_ids(tmp_path, text, expected):
    (tmp_path / "ids").write_text(text)
    assert read_image_ids(tmp_path / "ids") == expected


@pytest.mark.parametrize("text", ["seven", "[1, [2]]", '{"val2017": 3}', "[1"])
def test_refuses_what_is_no_list_of_ids(tmp_path, text):
    (tmp_path / "ids").write_text(text)
    with pytest.raises(InputError, match="not a list of image ids"):
        read_image_ids(tmp_path / "ids")


@pytest.mark.parametrize("text", ["100", '{"val2017": [100]}'])
def test_ids_restrict_images_and_annotations(folder, tmp_path, text):
    coco_dir, content = folder
    _garbage(coco_dir, content)  # another picture: of no concern
    (tmp_path / "ids").write_text(text)
    ids = read_image_ids(tmp_path / "ids")
    write_tfrecords(coco_dir, tmp_path / "out", [SPLIT], ids=ids)
    assert list(decoded_records(tmp_path / "out", SPLIT)) == [100]
    rewritten = json.loads((tmp_path / "out" / f"instances_{SPLIT}.json").read_text())
    assert rewritten["images"] == content["images"][:1]
    assert rewritten["annotations"] == content["annotations"][:3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("100 555", "listed image ids: 1 (555) not in"),
        ('{"val2017": [100, 555]}', "listed image ids: 1 (555) not in"),
        ("555", "none of the listed image ids"),
        ('{"train2017": [100]}', "none of the listed image ids"),
        ("x", "not a list of image ids"),
    ],
)
def test_unknown_ids_are_refused(folder, tmp_path, text, message):
    (tmp_path / "ids").write_text(text)
    assert_refused(tmp_path, message, "--coco-dir", folder[0], "--ids", tmp_path / "ids")


def test_checking_needs_no_tensorflow(folder):
    """Bad input is answered at once, without TensorFlow's start and its messages."""
    coco_dir, _ = folder
    code = """
import sys
from deepmac.data.coco import check_coco
check_coco(*sys.argv[1:])
assert "tensorflow" not in sys.modules
"""
    arguments = [coco_dir / "annotations" / f"instances_{SPLIT}.json", coco_dir / SPLIT]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
