"""Annotations: what is repaired, what is refused, in training and in evaluation."""

import re
import subprocess
import sys

import evaluation_data
import pytest
from click.testing import CliRunner
from PIL import Image
from synthetic import save_annotations, write_three_pictures

from deepmac.cli import main
from deepmac.core.errors import InputError
from deepmac.data.coco import read_coco, read_coco_folder, read_image_ids
from deepmac.data.flaws import EVALUATION, TRAINING

SPLIT = "val2017"


@pytest.fixture
def folder(tmp_path):
    """A COCO folder of three pictures with 3, 2 and 0 objects, and its annotations."""
    return tmp_path / "coco", write_three_pictures(tmp_path / "coco", SPLIT)


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
    save_annotations(coco_dir, SPLIT, content)
    data = read(coco_dir)
    counts = {kind: len(cases) for kind, cases in data.repairs.items()}
    assert counts == {
        "boxes beyond the image clipped": 1,
        "boxes without area in the image left out": 1,
        "boxes that are not finite left out": 1,
        "annotations without a mask kept as boxes": 1,
        "annotations of unknown images left out": 1,
    }
    assert f"left out: 1 (annotation {second['id']}: 'bbox' is [4, 4, 0, 7])" in str(data)
    kept = [first["id"], fourth["id"], fifth["id"]]
    assert [annotation["id"] for annotation in data.annotations] == kept
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
def test_unusable_masks_are_left_out_and_their_boxes_kept(folder, segmentation):
    coco_dir, content = folder
    content["annotations"][0]["segmentation"] = segmentation
    save_annotations(coco_dir, SPLIT, content)
    data = read(coco_dir)
    assert list(data.repairs) == ["unusable masks left out, their boxes kept"]
    assert data.annotations == [content["annotations"][0] | {"segmentation": []}, *content["annotations"][1:]]


@pytest.mark.parametrize("policy", [TRAINING, EVALUATION])
@pytest.mark.parametrize("segmentation", ["missing", None, [], "", {}])
def test_annotations_without_a_mask_are_boxes(folder, segmentation, policy):
    _, content = folder
    expected = [content["annotations"][0] | {"segmentation": []}, *content["annotations"][1:]]
    content["annotations"][0]["segmentation"] = segmentation
    if segmentation == "missing":
        del content["annotations"][0]["segmentation"]
    data = read_coco(content, policy)
    assert data.annotations == expected
    assert {kind: len(cases) for kind, cases in data.repairs.items()} == {
        "annotations without a mask kept as boxes": 1
    }


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


def test_categories_are_the_files_own(folder):
    coco_dir, content = folder
    own = [{"id": 0, "name": "bolt"}, {"id": 7, "name": "nut"}, {"id": 1, "name": "cat"}]
    content["categories"] = own
    for annotation, category_id in zip(content["annotations"], [0, 7, 1, 0, 7], strict=True):
        annotation["category_id"] = category_id
    save_annotations(coco_dir, SPLIT, content)
    data = read(coco_dir)
    assert (data.categories, data.annotations) == (own, content["annotations"]) and not data.repairs
    del content["categories"]
    save_annotations(coco_dir, SPLIT, content)
    assert read(coco_dir).categories == [{"id": number, "name": str(number)} for number in (0, 1, 7)]


def pictures_spoiled(change):
    """Case of the test below: `change` is called with the paths of the three pictures."""

    def spoil(coco_dir, content):
        change([coco_dir / SPLIT / image["file_name"] for image in content["images"]])

    return spoil


def text_instead(text):
    """Case of the test below: the annotation file holds `text`."""

    def spoil(coco_dir, content):
        (coco_dir / "annotations" / f"instances_{SPLIT}.json").write_text(text)

    return spoil


def entry(section, index, **values):
    """Case of the test below: values of an entry are changed, or removed by None."""

    def spoil(coco_dir, content):
        content[section][index] |= values
        for key in [key for key, value in values.items() if value is None]:
            del content[section][index][key]
        save_annotations(coco_dir, SPLIT, content)

    return spoil


def whole(**sections):
    """Case of the test below: sections are replaced."""
    return lambda coco_dir, content: save_annotations(coco_dir, SPLIT, content | sections)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            pictures_spoiled(lambda paths: paths[2].unlink()),
            "missing images: 1 (000000000102.jpg): complete the folder",
        ),
        (
            pictures_spoiled(lambda paths: paths[1].write_bytes(paths[1].read_bytes()[:-200])),
            "corrupt images: 1 (000000000101.jpg)",
        ),
        (
            pictures_spoiled(lambda paths: paths[1].write_bytes(b"no picture at all")),
            "corrupt images: 1 (000000000101.jpg)",
        ),
        (
            pictures_spoiled(lambda paths: Image.new("RGB", (33, 44)).save(paths[0])),
            "images of another size than annotated: 1 (000000000100.jpg)",
        ),
        (text_instead(""), "is empty"),
        (text_instead('{"images": ['), "is not valid JSON"),
        (text_instead("[1, 2]"), "holds no JSON object"),
        (text_instead("{}"), "has no list 'images'"),
        (whole(annotations=None), "has no list 'annotations'"),
        (whole(images=[]), "has no images"),
        (whole(annotations=[]), "has no annotations"),
        (whole(categories=[{"id": 1}]), "entry 0 of 'categories' needs 'name'"),
        (
            entry("annotations", 0, category_id=12),
            "annotations of categories that the file does not list: 1 (annotation 100000: category id 12 is",
        ),
        (entry("annotations", 0, bbox=None), "entry 0 of 'annotations' needs 'bbox', four numbers"),
        (entry("annotations", 1, bbox=[1, 2]), "entry 1 of 'annotations' needs 'bbox'"),
        (entry("annotations", 1, id=100000), "2 of the annotations have the same id 100000"),
        (entry("images", 0, height=None), "entry 0 of 'images' needs 'height'"),
        (entry("images", 0, id=101), "2 of the images have the same id 101"),
        (entry("images", 0, file_name=None), "image id 100 needs 'file_name'"),
    ],
)
def test_bad_input_is_refused_in_one_line(folder, tmp_path, spoil, message):
    coco_dir, content = folder
    spoil(coco_dir, content)
    assert_refused(tmp_path, message, "--coco-dir", coco_dir)


def test_a_file_without_usable_annotations_is_refused(folder, tmp_path):
    coco_dir, content = folder
    for annotation in content["annotations"]:
        annotation["bbox"] = [0, 0, 0, 0]
    save_annotations(coco_dir, SPLIT, content)
    assert_refused(tmp_path, "no usable annotation of the 3 images", "--coco-dir", coco_dir)


def assert_refused(tmp_path, message, *arguments):
    """Exit status 2, one line with `message`, and no file or folder left behind."""
    before = set(tmp_path.iterdir())
    arguments = ["tfrecord", "--split", SPLIT, "--out", tmp_path / "out", *arguments]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1 and message in result.stderr
    assert not result.stdout
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("section", "index", "values", "message"),
    [
        ("annotations", 2, {"area": None}, "annotation 1002: it needs 'area'"),
        ("annotations", 2, {"bbox": [1, 2, float("nan"), 4]}, "not finite: 1 (annotation 1002"),
        ("annotations", 2, {"segmentation": "mask"}, "1002: 'segmentation' is neither polygons nor RLE"),
        (
            "annotations",
            2,
            {"segmentation": {"size": [9, 9], "counts": "51"}},
            "'segmentation' is [9, 9], but its image is [200, 260]",
        ),
        ("annotations", 2, {"category_id": 2}, "annotation 1002: category id 2 is not in the list"),
        ("annotations", 2, {"image_id": 99}, "annotation 1002: image id 99 is not in the list"),
        ("annotations", 2, {"id": None}, "entry 2 of 'annotations' needs 'id', an integer"),
        ("categories", 1, {"id": 1}, "2 of the categories have the same id 1"),
    ],
)
def test_evaluation_takes_annotations_exactly_or_not_at_all(section, index, values, message):
    """Of these, training mends some, or leaves the annotation out."""
    content, _ = evaluation_data.scenes()
    read_coco(content, EVALUATION)
    content[section][index] |= values
    with pytest.raises(InputError, match=re.escape(message)):
        read_coco(content, EVALUATION)


@pytest.mark.parametrize(
    ("section", "message"), [("categories", "no list 'categories'"), ("annotations", "needs 'id'")]
)
def test_evaluation_needs_lists_of_entries(section, message):
    content, _ = evaluation_data.scenes()
    content[section] = None if section == "categories" else [*content[section], None]
    with pytest.raises(InputError, match=message):
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
