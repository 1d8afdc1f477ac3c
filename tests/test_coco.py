"""Annotations: what is repaired, what is refused, in training and in evaluation."""

import re
import subprocess
import sys

import evaluation_data
import pytest
from click.testing import CliRunner
from PIL import Image
from synthetic import draw_scene, save_annotations, write_coco

from deepmac.cli import main
from deepmac.core.errors import InputError
from deepmac.data.coco import EVALUATION, read_coco, read_coco_folder, read_image_ids

SPLIT = "val2017"


@pytest.fixture
def folder(tmp_path):
    """A COCO folder of three pictures with 3, 2 and 0 objects, and its annotations."""
    scenes = [draw_scene(40, 30, 3, 0), draw_scene(30, 50, 2, 1), draw_scene(20, 20, 0, 2)]
    content = write_coco(tmp_path / "coco", SPLIT, scenes, [1, 18, 90])
    return tmp_path / "coco", content


def read(coco_dir):
    return read_coco_folder(coco_dir, [SPLIT])[SPLIT]


def test_good_annotations_stay_as_they_are(folder):
    coco_dir, content = folder
    data = read(coco_dir)
    assert [*data.images.values()] == content["images"] and not data.repairs
    assert (data.annotations, data.categories) == (content["annotations"], content["categories"])
    by_image = data.annotations_of_images()
    assert [len(by_image[image["id"]]) for image in content["images"]] == [3, 2, 0]


def test_flaws_of_coco_are_repaired_and_reported(folder):
    coco_dir, content = folder
    first, second, third, fourth, fifth = content["annotations"]
    first["bbox"] = [-2.5, 3, 40, 10]  # the picture is 30 wide
    second["bbox"] = [4, 4, 0, 7]
    third["bbox"] = [31, 4, 5, float("nan")]
    fourth["segmentation"] = []
    lost = fifth | {"id": 1, "image_id": 999}
    content["annotations"].append(lost)
    content["categories"] = [{"id": 1, "name": "person"}, {"id": 18, "name": "cat"}]
    save_annotations(coco_dir, SPLIT, content)
    data = read(coco_dir)
    counts = {kind: len(cases) for kind, cases in data.repairs.items()}
    assert counts == {
        "boxes beyond the image clipped": 1,
        "boxes without area in the image left out": 1,
        "boxes that are not finite left out": 1,
        "annotations without a usable mask left out": 1,
        "annotations of unknown images left out": 1,
        "categories named differently from COCO": 1,
    }
    assert "18 is 'cat', taken as 'dog'" in str(data)
    assert f"left out: 1 (annotation {second['id']}: 'bbox' is [4, 4, 0, 7])" in str(data)
    assert [annotation["id"] for annotation in data.annotations] == [first["id"], fifth["id"]]
    assert data.annotations[0]["bbox"] == [0, 3, 30, 10]


@pytest.mark.parametrize("box", [[30, 4, 5, 5], [-5, 4, 5, 5], [4, 40, 5, 5], [4, 4, 5, -5]])
def test_boxes_outside_the_image_are_left_out(folder, box):
    coco_dir, content = folder
    content["annotations"][0]["bbox"] = box
    save_annotations(coco_dir, SPLIT, content)
    assert list(read(coco_dir).repairs) == ["boxes without area in the image left out"]


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
    assert list(read(coco_dir).repairs) == ["annotations without a usable mask left out"]


def test_crowd_area_and_categories_have_defaults(folder):
    coco_dir, content = folder
    first = content["annotations"][0]
    known = content.pop("categories")
    del first["iscrowd"], first["area"]
    save_annotations(coco_dir, SPLIT, content)
    data = read(coco_dir)
    assert list(data.repairs) == ["annotations without 'area' given that of the box"]
    repaired = data.annotations[0]
    assert repaired["iscrowd"] == 0 and repaired["area"] == first["bbox"][2] * first["bbox"][3]
    assert data.categories == known


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
    "no object": (_annotation_text("[1, 2]"), "holds no JSON object"),
    "no annotation list": (_edit(lambda content: content.pop("annotations")), "has no list 'annotations'"),
    "no images": (_edit(lambda content: content.update(images=[])), "has no images"),
    "no annotations": (_edit(lambda content: content.update(annotations=[])), "has no annotations"),
    "unknown category": (
        _edit(lambda content: content["annotations"][0].update(category_id=12)),
        "annotations of categories that COCO does not have: 1 (annotation 100000: category id 12 is",
    ),
    "no box": (
        _edit(lambda content: content["annotations"][0].pop("bbox")),
        "entry 0 of 'annotations' needs 'bbox', four numbers",
    ),
    "half a box": (
        _edit(lambda content: content["annotations"][1].update(bbox=[1, 2])),
        "entry 1 of 'annotations'",
    ),
    "no height": (
        _edit(lambda content: content["images"][0].pop("height")),
        "entry 0 of 'images' needs 'height'",
    ),
    "nameless category": (
        _edit(lambda content: content.update(categories=[{"id": 1}])),
        "entry 0 of 'categories' needs 'name'",
    ),
    "id twice": (
        _edit(lambda content: content["images"][0].update(id=101)),
        "2 of the images have the same id 101",
    ),
    "no file name": (
        _edit(lambda content: content["images"][0].pop("file_name")),
        "image id 100 needs 'file_name'",
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


# Of these, training leaves the annotation out, or mends it.
EVALUATION_ONLY = {
    "area": (lambda content: content["annotations"][2].pop("area"), "annotation 1002: it needs 'area'"),
    "finite box": (
        lambda content: content["annotations"][2].update(bbox=[1, 2, float("nan"), 4]),
        "boxes that are not finite: 1 (annotation 1002",
    ),
    "no mask": (
        lambda content: content["annotations"][2].update(segmentation="mask"),
        "neither polygons nor RLE",
    ),
    "empty mask": (
        lambda content: content["annotations"][2].update(segmentation=[]),
        "neither polygons nor RLE",
    ),
    "mask of other size": (
        lambda content: content["annotations"][2]["segmentation"].update(size=[9, 9]),
        "'segmentation' is [9, 9], but its image is [200, 260]",
    ),
    "category": (
        lambda content: content["annotations"][2].update(category_id=2),
        "annotation 1002: category id 2 is not in the list",
    ),
    "image": (
        lambda content: content["annotations"][2].update(image_id=99),
        "annotation 1002: image id 99 is not in the list",
    ),
    "no categories": (lambda content: content.pop("categories"), "has no list 'categories'"),
    "category id twice": (
        lambda content: content["categories"][1].update(id=1),
        "2 of the categories have the same id 1",
    ),
    "annotation id twice": (
        lambda content: content["annotations"][2].update(id=1001),
        "2 of the annotations have the same id 1001",
    ),
    "no entry": (
        lambda content: content["annotations"].append(None),
        "'annotations' needs 'id', an integer: None",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), EVALUATION_ONLY.values(), ids=EVALUATION_ONLY.keys())
def test_evaluation_takes_annotations_exactly_or_not_at_all(spoil, message):
    content, _ = evaluation_data.scenes()
    read_coco(content, EVALUATION)
    spoil(content)
    with pytest.raises(InputError, match=re.escape(message)):
        read_coco(content, EVALUATION)


def test_evaluation_takes_categories_and_boxes_as_they_are():
    content, _ = evaluation_data.scenes(images=2)
    content["categories"].append({"id": 500, "name": "bolt"})
    content["annotations"][0] |= {"category_id": 500, "bbox": [-20, 4, 900, 7], "keypoints": [1, 2]}
    content["annotations"][1]["bbox"] = [4, 4, 0, 0]
    data = read_coco(content, EVALUATION)
    assert data.annotations == content["annotations"] and not data.repairs


def test_missing_folders_are_refused(folder, tmp_path):
    coco_dir, _ = folder
    assert_refused(tmp_path, "no such folder", "--coco-dir", tmp_path / "nowhere")
    assert_refused(tmp_path, "no such file", "--coco-dir", coco_dir, "--split", "train2017")
    (coco_dir / "annotations" / "instances_val2018.json").mkdir()
    assert_refused(tmp_path, "is a directory", "--coco-dir", coco_dir, "--split", "val2018")
    (coco_dir / SPLIT).rename(coco_dir / "elsewhere")
    assert_refused(tmp_path, "no such folder", "--coco-dir", coco_dir)


def test_output_is_never_overwritten(folder, tmp_path):
    coco_dir, _ = folder
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert_refused(tmp_path, "not an empty folder", "--coco-dir", coco_dir)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


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
from deepmac.data.coco import read_coco_folder
read_coco_folder(sys.argv[1], [sys.argv[2]])
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, coco_dir, SPLIT], check=True)
