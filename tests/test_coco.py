"""Annotations: what is repaired, what is refused, in training and in evaluation."""

import functools
import gzip
import itertools
import json
import re
import shutil

import command_line
import evaluation_data
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from synthetic import save_annotations, write_three_pictures

from deepmac.core.categories import NAME_BY_ID
from deepmac.core.errors import InputError
from deepmac.data.coco import read_coco
from deepmac.data.data_sets import read_coco_folder, read_image_ids
from deepmac.data.flaws import EVALUATION, TRAINING
from deepmac.data.picture_files import measure

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
    second_box, third_box = second["bbox"], third["bbox"]
    first["bbox"] = [-2.5, 3, 40, 20]  # the picture is 30 wide
    second["bbox"] = [4, 4, 0, 7]
    third["bbox"] = [31, 4, 5, float("nan")]
    fourth["segmentation"] = []
    lost = fifth | {"id": 1, "image_id": 999}
    content["annotations"].append(lost)
    save_annotations(coco_dir, SPLIT, content)
    data = read(coco_dir)
    counts = {kind: len(cases) for kind, cases in data.repairs.items()}
    assert counts == {
        "masks that fit badly to their boxes kept": 1,
        "boxes beyond the image clipped": 1,
        "boxes without area in the image replaced by those of the masks": 1,
        "boxes that are not finite replaced by those of the masks": 1,
        "annotations without a mask kept as boxes": 1,
        "annotations of unknown images left out": 1,
    }
    assert f"of the masks: 1 (annotation {second['id']}: 'bbox' is [4, 4, 0, 7])" in str(data)
    assert [annotation["id"] for annotation in data.annotations] == [
        entry["id"] for entry in (first, second, third, fourth, fifth)
    ]
    boxes = [annotation["bbox"] for annotation in data.annotations]
    assert boxes == [[0, 3, 30, 20], second_box, third_box, fourth["bbox"], fifth["bbox"]]


@pytest.mark.parametrize(
    "box", [[30, 4, 5, 5], [-5, 4, 5, 5], [4, 40, 5, 5], [-1, -1, -1, -1], [0.1, 0.2, 0.5, 1]]
)
def test_boxes_outside_the_image_are_left_out_unless_there_is_a_mask(folder, box):
    coco_dir, content = folder
    whole = content["annotations"][0]
    content["annotations"][0] = whole | {"bbox": box}
    save_annotations(coco_dir, SPLIT, content)
    data = read(coco_dir)
    assert list(data.repairs) == ["boxes without area in the image replaced by those of the masks"]
    assert data.annotations[0] == whole
    content["annotations"][0] = whole | {"bbox": box, "segmentation": []}
    save_annotations(coco_dir, SPLIT, content)
    data = read(coco_dir)
    assert "boxes without area in the image left out" in data.repairs and len(data.annotations) == 4


def test_unusable_masks_are_left_out_and_their_boxes_kept(folder):
    coco_dir, content = folder
    content["annotations"][0]["segmentation"] = "polygon"
    save_annotations(coco_dir, SPLIT, content)
    data = read(coco_dir)
    assert list(data.repairs) == ["unusable masks left out, their boxes kept"]
    assert data.annotations == [content["annotations"][0] | {"segmentation": []}, *content["annotations"][1:]]


@pytest.mark.parametrize("policy", [TRAINING, EVALUATION])
@pytest.mark.parametrize("segmentation", ["missing", []])
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
    assert list(data.repairs) == [
        "no list 'categories' made from the annotations",
        "annotations without 'area' given that of the mask or box",
        "annotations without 'iscrowd', 0 or 1 given it",
    ]
    repaired = data.annotations[0]
    assert repaired["iscrowd"] == 0 and repaired["area"] == first["bbox"][2] * first["bbox"][3]
    assert data.categories == known


def test_crowds_are_counted_and_objects_if_there_is_nothing_else(folder):
    _, content = folder
    count = len(content["annotations"])
    content["annotations"][0]["iscrowd"] = 1
    data = read_coco(content, TRAINING)
    assert data.repairs == {} and f"{count} annotations (1 of crowds, which are no objects)" in str(data)
    for entry in content["annotations"]:  # as tools mark what a brush drew
        entry["iscrowd"] = 1
    data = read_coco(content, TRAINING)
    assert [entry["iscrowd"] for entry in data.annotations] == [0] * count
    kind = "crowd regions, of which there is nothing else taken as objects"
    assert {kind: len(cases) for kind, cases in data.repairs.items()} == {kind: count}
    assert all(entry["iscrowd"] for entry in read_coco(content, EVALUATION).annotations), "as COCO has it"


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
            pictures_spoiled(lambda paths: [path.unlink() for path in paths]),
            "no usable image: missing images: 3 (000000000100.jpg, 000000000101.jpg, 000000000102.jpg)",
        ),
        (
            pictures_spoiled(lambda paths: [path.write_bytes(b"no picture") for path in paths]),
            "no usable image: corrupt images: 3 (cannot read",
        ),
        (
            pictures_spoiled(lambda paths: [Image.new("RGB", (33, 44)).save(path) for path in paths]),
            "no usable image: images of another size than annotated: 3 (000000000100.jpg is 33 x 44",
        ),
        (text_instead(""), "is empty"),
        (text_instead('{"images": ['), "is not valid JSON"),
        (text_instead('{"images": [1,]}'), "is not valid JSON"),
        (text_instead("[" * 100_000), "is not valid JSON"),
        (text_instead("{}"), "has no list 'images'"),
        (text_instead("7"), "holds no JSON object"),
        (text_instead("[7]"), "holds no JSON object"),
        (text_instead('{"images": [7], "annotations": [{}]}'), "entry 0 of 'images' is 7"),
        (whole(annotations=None), "has no list 'annotations'"),
        (whole(images=[]), "has no images"),
        (whole(annotations=[]), "has no annotations"),
        (whole(categories=[{"a": 1}]), "'categories' need 'id', a number, and 'name', a text: [{'a': 1}]"),
        (whole(categories=["a"] * 95), "'categories' are names only: give each an 'id'"),
        (
            whole(categories=[{"id": 1, "name": name} for name in "ab"]),
            "2 of the categories have the same id 1",
        ),
        (
            entry("annotations", 0, category_id=12),
            "annotations of categories that the file does not list: 1 (annotation 100000: category id 12 is",
        ),
        (entry("images", 0, id=101), "2 of the images have the same id 101"),
    ],
)
def test_bad_input_is_refused_in_one_line(folder, tmp_path, spoil, message):
    coco_dir, content = folder
    spoil(coco_dir, content)
    assert_refused(tmp_path, message, "--coco-dir", coco_dir)


def test_a_file_without_usable_annotations_is_refused(folder, tmp_path):
    coco_dir, content = folder
    for annotation in content["annotations"]:
        annotation |= {"bbox": [0, 0, 0, 0], "segmentation": []}
    save_annotations(coco_dir, SPLIT, content)
    assert_refused(tmp_path, "no usable annotation of the 3 images; boxes without", "--coco-dir", coco_dir)


@pytest.mark.parametrize(
    ("box", "first"),
    [
        ([0.1, 0.1, 0.5, 0.5], [0.1, 0.1, 0.5, 0.5]),
        ([0, 0, 1, 0.25], [0, 0, 1, 0.25]),
        ([0.1, 0.1, 0.5, 0.5], [0.5, 0.2, 0.6, 1.0001]),
        ([0.1, 0.1, 0.5, 0.5], [10, 10, 20, 20]),
    ],
    ids=["inside", "at the edge", "slightly beyond", "but for one"],
)
def test_boxes_in_parts_of_the_image_are_refused(folder, tmp_path, box, first):
    """Whose parts they are, of corners, centres or sides, is not known."""
    coco_dir, content = folder
    for annotation in content["annotations"]:
        annotation |= {"bbox": box, "segmentation": []}
    content["annotations"][0]["bbox"] = first
    save_annotations(coco_dir, SPLIT, content)
    assert_refused(tmp_path, "boxes are from 0 to 1: give x, y", "--coco-dir", coco_dir)


def each(section, **fields):
    """Case of the test below: fields of every entry are replaced by functions of it, or by values."""

    def spoil(content, _):
        for entry, (field, value) in itertools.product(content[section], fields.items()):
            entry[field] = value(entry) if callable(value) else value

    return spoil


change, images = (functools.partial(each, section) for section in ("annotations", "images"))


def drop(section, *fields):
    """Case of the test below: the entries of a section have no such fields."""

    def spoil(content, _):
        for entry, field in itertools.product(content[section], fields):
            del entry[field]

    return spoil


def both_ids(function):
    """Case of the test below: ids of images in both places."""

    def spoil(content, folder):
        images(id=lambda image: function(image["id"]))(content, folder)
        change(image_id=lambda annotation: function(annotation["image_id"]))(content, folder)

    return spoil


def renamed(name, as_annotated=None):
    """Case of the test below: pictures are moved, or named by annotations in another way."""

    def spoil(content, folder):
        for image in content["images"]:
            path = folder / image["file_name"]
            target = folder / name(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
            if as_annotated:
                image["file_name"] = as_annotated(target.relative_to(folder))

    return spoil


@pytest.mark.parametrize("size", [(1, 1), (400, 3)])
def test_pictures_of_few_pixels_are_measured(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "a.jpg")
    assert measure(tmp_path / "a.jpg").stored == size


def corners(annotation):
    x, y, width, height = annotation["bbox"]
    return [x, y, x + width, y + height]


def centres(annotation):
    x, y, width, height = annotation["bbox"]
    return [x + width / 2, y + height / 2, width, height]


def in_units(units, box):
    """Case of the test below: boxes in parts of their image, which has so many."""

    def spoil(content, _):
        sizes = {image["id"]: (image["width"], image["height"]) * 2 for image in content["images"]}
        for entry in content["annotations"]:
            pairs = zip(box(entry), sizes[entry["image_id"]], strict=True)
            entry["bbox"] = [value / side * units for value, side in pairs]

    return spoil


IN_ORDER = ["x", "y", "width", "height"]
# How the kinds of repairs below begin.
NO_SIZE = "images without whole height and width measured, or read"
OTHER_NAME = "images under another name or path found"
NO_NAME = "images without a file name of their own named by another"
ODD = "boxes in an unusual form read"
ODD_ID = "ids that are missing, shared, or no whole numbers replaced by numbers"


def ids_are_names(content, _):
    """Images without a file name, and ids that are one."""
    for image in content["images"]:
        image["id"] = image.pop("file_name")
    for annotation in content["annotations"]:
        annotation["image_id"] = f"{annotation['image_id']:012}.jpg"


def twice(content, _):
    """Annotations that are listed twice."""
    copies = [entry | {"id": entry["id"] + 5000} for entry in content["annotations"]]
    content["annotations"] += copies


def in_folders_of_one_name(content, folder):
    """As COCO Annotator writes pictures of several folders."""
    for number, image in enumerate(content["images"]):
        target = folder / f"cam{number}" / "0001.jpg"
        target.parent.mkdir()
        (folder / image["file_name"]).rename(target)
        image |= {"file_name": "0001.jpg", "path": f"/datasets/s/cam{number}/0001.jpg"}


def both_ids_apart(listed, used):
    """Case of the test below: ids of images are written differently in both places."""

    def spoil(content, folder):
        images(id=lambda image: listed(image["id"]))(content, folder)
        change(image_id=lambda annotation: used(annotation["image_id"]))(content, folder)

    return spoil


def numbered_by_stem(content, _):
    """Ids in annotations are the numbers by which pictures are called."""
    for image in content["images"]:
        image |= {"id": f"image {image['id']}", "file_name": f"{image['id']:012}"}


def listed_again(content, _):
    """An entry of the image for each annotation, as simple converters write them."""
    for annotation in content["annotations"]:
        image = next(image for image in content["images"] if image["id"] == annotation["image_id"])
        annotation["image_id"] += 1000 * annotation["id"]
        content["images"].append(image | {"id": annotation["image_id"]})


@pytest.mark.parametrize(
    ("spoil", "repairs"),
    [
        (drop("images", "width", "height"), [NO_SIZE]),
        (images(width=lambda image: float(image["width"])), [NO_SIZE]),
        (images(width=0), [NO_SIZE]),
        (images(height=lambda image: str(image["height"])), [NO_SIZE]),
        (drop("annotations", "bbox"), ["annotations without a box given that of the mask"]),
        (change(bbox=None), ["annotations without a box given that of the mask"]),
        (change(bbox=[]), ["annotations without a box given that of the mask"]),
        (change(bbox=[float("nan")] * 4), ["boxes that are not finite replaced by those of the masks"]),
        (change(bbox=[0, 0, 10**400, 5]), ["boxes that are not finite replaced by those of the masks"]),
        (change(bbox=lambda a: list(map(str, a["bbox"]))), [ODD]),
        (change(bbox=lambda a: dict(zip(IN_ORDER, a["bbox"], strict=True))), ["boxes in an unusual form"]),
        (change(bbox=lambda a: json.dumps(a["bbox"])), [ODD]),
        (change(bbox=lambda a: " ".join(map(str, a["bbox"]))), [ODD]),
        (change(bbox=lambda a: [a["bbox"]]), [ODD]),
        (change(bbox=lambda a: [*a["bbox"], 30]), ["annotations without a box given that of the mask"]),
        (
            change(bbox=lambda a: dict(zip(("Xmin", "y_min", "Xmax", "y_max"), corners(a), strict=True))),
            [ODD],
        ),
        (change(bbox=lambda a: json.dumps(corners(a))), [ODD]),
        (change(bbox=corners), [ODD]),
        (change(bbox=corners, bbox_mode=0), [ODD]),
        (change(bbox=centres), [ODD]),
        (change(bbox=lambda a: [a["bbox"][place] for place in (1, 0, 3, 2)]), [ODD]),
        (in_units(100, lambda a: a["bbox"]), [ODD]),
        (in_units(1, lambda a: a["bbox"]), [ODD]),
        (
            change(bbox=lambda a: [*corners(a)[2:], -a["bbox"][2], -a["bbox"][3]]),
            ["boxes of negative width or height read from the other corner"],
        ),
        (drop("annotations", "id"), [ODD_ID]),
        (change(id=7), [ODD_ID]),
        (change(id=lambda a: f"a{a['id']}"), [ODD_ID]),
        (both_ids(str), [ODD_ID]),
        (both_ids(float), [ODD_ID]),
        (both_ids("picture {}".format), [ODD_ID]),
        (both_ids("00{}".format), [ODD_ID]),
        (both_ids(lambda number: -number), [ODD_ID]),
        (change(image_id="{[image_id]:012}.jpg".format), [ODD_ID]),
        (change(category_id=lambda a: float(a["category_id"])), ["categories given by name or as text"]),
        (change(category_id=lambda a: str(a["category_id"])), ["categories given by name or as text"]),
        (change(category_id=lambda a: NAME_BY_ID[a["category_id"]]), ["categories given by name or as tex"]),
        (
            change(label=lambda a: NAME_BY_ID[a["category_id"]], category_id=None),
            ["categories given by name"],
        ),
        (change(iscrowd=False), ["annotations without 'iscrowd', 0 or 1 given it"]),
        (change(iscrowd="0"), ["annotations without 'iscrowd', 0 or 1 given it"]),
        (drop("annotations", "iscrowd"), ["annotations without 'iscrowd', 0 or 1 given it"]),
        (change(area=None), ["annotations without 'area' given that of the mask or box"]),
        (change(area=float("nan")), ["annotations without 'area' given that of the mask or box"]),
        (change(area="12"), ["annotations without 'area' given that of the mask or box"]),
        (change(area=0), ["areas of 0 or more than the image replaced by that of the mask or box"]),
        (change(area=1e30), ["areas of 0 or more than the image replaced by that of the mask or box"]),
        (change(category_id=lambda a: [a["category_id"]]), ["categories given by name or as text"]),
        (twice, ["annotations that are listed twice taken as one"]),
        (renamed(lambda path: path.name, lambda p: p.with_suffix(".HEIC").name), [OTHER_NAME]),
        (renamed(lambda path: path.name, lambda p: p.with_suffix(".png").name), [OTHER_NAME]),
        (images(path=lambda image: image["file_name"], file_name=""), [NO_NAME]),
        (in_folders_of_one_name, [NO_NAME, OTHER_NAME]),
        (both_ids_apart("{:06}".format, int), [ODD_ID]),
        (both_ids_apart(int, "{:06}".format), [ODD_ID]),
        (numbered_by_stem, [ODD_ID, OTHER_NAME]),
        (change(point_coords=[1, 2]), ["malformed points left out, their boxes kept"]),
        (renamed(lambda path: path.with_suffix(".JPG").name), [OTHER_NAME]),
        (renamed(lambda path: f"sub/{path.name}"), [OTHER_NAME]),
        (renamed(lambda path: f"sub/{path.name}", str), []),
        (renamed(lambda path: f"sub/{path.name}", lambda p: rf"sub\{p.name}"), [OTHER_NAME]),
        (renamed(lambda path: path.name, lambda p: rf"C:\data\{p}"), [OTHER_NAME]),
        (renamed(lambda path: path.name, "val2017/{}".format), [OTHER_NAME]),
        (renamed(lambda path: path.name, "elsewhere/{}".format), [OTHER_NAME]),
        (renamed(lambda path: path.name, lambda p: p.stem), [OTHER_NAME]),
        (renamed(lambda path: path.name, "https://x.org/b/{}?alt=media&t=1".format), [OTHER_NAME]),
        (renamed(lambda path: path.name, "/data/local-files/?d=b%2F{}".format), [OTHER_NAME]),
        (renamed(lambda path: path.name, "/data/upload/1/3fa8c1d2-{}".format), [OTHER_NAME]),
        (renamed(lambda path: path.name, "https://x.org/get?token=1&file={}&v=2".format), [OTHER_NAME]),
        (
            renamed(lambda path: f"a {path.name}", lambda p: f"https://x.org/{p}".replace(" ", "+")),
            [OTHER_NAME],
        ),
        (renamed(lambda path: path.name, " {} ".format), [OTHER_NAME]),
        (renamed(lambda path: f"{int(path.stem)}.jpg", lambda p: int(p.stem)), [NO_NAME, OTHER_NAME]),
        (renamed(lambda path: f"pi\u0300 {path.name}", lambda p: f"p\u00ec {p.name[4:]}"), [OTHER_NAME]),
        (renamed(lambda path: f"a {path.name}", lambda p: str(p).replace(" ", "%20")), [OTHER_NAME]),
        (renamed(lambda path: f"{path.stem}.jpeg", lambda p: p.with_suffix(".jpg").name), [OTHER_NAME]),
        (images(path=lambda image: image.pop("file_name")), [NO_NAME]),
        (ids_are_names, [ODD_ID, NO_NAME]),
        (listed_again, ["images that are listed twice taken as one", ODD_ID]),
    ],
)
def test_what_follows_from_the_rest_is_derived_and_counted(folder, spoil, repairs):
    coco_dir, content = folder
    plain = read(coco_dir)
    spoil(content, coco_dir / SPLIT)
    save_annotations(coco_dir, SPLIT, content)
    data = read(coco_dir)
    assert len(data.repairs) == len(repairs)
    assert all(kind.startswith(start) for kind, start in zip(data.repairs, repairs, strict=True))
    assert all(len(cases) >= 3 for cases in data.repairs.values())
    for derived, known in zip(data.annotations, plain.annotations, strict=True):
        assert derived["bbox"] == pytest.approx(known["bbox"])
        assert [derived[key] for key in ("category_id", "segmentation", "iscrowd", "area")] == [
            known[key] for key in ("category_id", "segmentation", "iscrowd", "area")
        ]
    sizes = [(image["width"], image["height"]) for image in data.images.values()]
    assert sizes == [(30, 40), (50, 30), (20, 20)]
    assert all((coco_dir / SPLIT / image["file_name"]).is_file() for image in data.images.values())
    counts = [len(entries) for entries in data.annotations_of_images().values()]
    assert counts == [3, 2, 0]


CATEGORIES = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}, {"id": 90, "name": "toothbrush"}]


@pytest.mark.parametrize(
    ("categories", "category_ids", "expected"),
    [
        ({"1": "nut", "2": "bolt"}, [1, 2, 1, 2, 1], ["nut", "bolt", "nut", "bolt", "nut"]),
        ({"nut": 1, "bolt": 2}, [1, 2, 1, 2, 1], ["nut", "bolt", "nut", "bolt", "nut"]),
        (["nut", "bolt"], [1, 2, 1, 2, 1], ["nut", "bolt", "nut", "bolt", "nut"]),
        (["nut", "bolt"], [0, 1, 0, 1, 0], ["nut", "bolt", "nut", "bolt", "nut"]),
        ([{"name": "nut"}, {"name": "bolt"}], [1, 2, 1, 2, 1], ["nut", "bolt", "nut", "bolt", "nut"]),
        (["nut", "bolt"], ["bolt", "nut", "nut", "nut", "nut"], ["bolt", "nut", "nut", "nut", "nut"]),
        (
            [{"id": "a", "name": "nut"}, {"id": "b", "name": "bolt"}],
            list("abaab"),
            ["nut", "bolt", "nut", "nut", "bolt"],
        ),
        ([{"id": 1.0, "name": "nut"}, {"id": "2", "name": 7}], [1, 2, 2, 2, 2], ["nut", "7", "7", "7", "7"]),
        ([{"id": 1, "name": "nut"}, {"id": 2, "name": "nut"}], [1, 2, 1, 2, 1], ["nut"] * 5),
        ([{"id": 1, "name": "nut"}, {"id": 1, "name": "nut"}], [1] * 5, ["nut"] * 5),
        ([None, {"id": 1, "name": "nut"}, {}], [1] * 5, ["nut"] * 5),
        ([{"id": 4, "name": "nut"}], [None] * 5, ["nut"] * 5),
        ([{"id": 4, "name": "nut"}, {"id": 5}], [4, 5, 5, 5, 5], ["nut", "5", "5", "5", "5"]),
        (
            [{"id": None, "name": "nut"}, {"id": 5, "name": "bolt"}],
            ["nut", 5, 5, 5, 5],
            ["nut"] + ["bolt"] * 4,
        ),
        ([{"id": 4, "name": "nut"}, {"id": 7, "name": "bolt"}], [None] * 4 + [7], ["object"] * 4 + ["bolt"]),
        (None, [None] * 5, ["object"] * 5),
        (None, [1, 2, 3, 4, 5], list("12345")),
        (None, ["nut", "bolt", "nut", "nut", "nut"], ["nut", "bolt", "nut", "nut", "nut"]),
        (None, [1, 18, 90, 1, 1], ["person", "dog", "toothbrush", "person", "person"]),
        (
            [
                {"id": 0, "name": "parts", "supercategory": "none"},
                {"id": 1, "name": "nut", "supercategory": "parts"},
            ],
            [1] * 5,
            ["nut"] * 5,
        ),
        (
            [
                {"id": 0, "name": "nut", "supercategory": "none"},
                {"id": 1, "name": "nut", "supercategory": "nut"},
            ],
            [1] * 5,
            ["nut"] * 5,
        ),
    ],
)
def test_categories_in_other_forms_are_read(folder, categories, category_ids, expected):
    _, content = folder
    content["categories"] = categories
    for annotation, category_id in zip(content["annotations"], category_ids, strict=True):
        annotation["category_id"] = category_id
    data = read_coco(content, TRAINING)
    names = {category["id"]: category["name"] for category in data.categories}
    assert all(type(number) is int for number in names)
    assert [names[annotation["category_id"]] for annotation in data.annotations] == expected
    assert data.repairs


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda path: path.unlink(), "missing images left out"),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "corrupt images left out"),
        (lambda path: path.write_bytes(b"no picture at all"), "corrupt images left out"),
        (
            lambda path: Image.new("RGB", (33, 44)).save(path),
            "images of another size than annotated left out",
        ),
    ],
)
def test_a_bad_picture_costs_that_picture(folder, change, kind):
    coco_dir, content = folder
    change(coco_dir / SPLIT / content["images"][1]["file_name"])
    data = read(coco_dir)
    [found] = data.repairs
    assert found.startswith(kind) and "000000000101.jpg" in str(data)
    assert (list(data.images), len(data.annotations)) == ([100, 102], 3)


def test_a_bad_entry_costs_that_entry(folder):
    coco_dir, content = folder
    content["images"] += [7, {"id": 900}, content["images"][0]]
    content["annotations"] += [None, {"image_id": 100, "category_id": 1}]
    save_annotations(coco_dir, SPLIT, content)
    data = read(coco_dir)
    assert (len(data.images), len(data.annotations)) == (3, 5)
    assert {kind: len(cases) for kind, cases in data.repairs.items()} == {
        "entries that cannot be read left out": 2,
        "images that are listed twice taken as one": 1,
        "ids that are missing, shared, or no whole numbers replaced by numbers": 1,
        "images without a file name of their own left out": 1,
        "annotations without a box left out": 1,
    }


def test_what_a_lost_entry_lacked_is_told_with_its_loss_and_counted_nowhere_else(folder):
    coco_dir, content = folder
    content["annotations"][0] |= {"bbox": [1, 2, 3], "segmentation": [[1, 2]], "category_id": "1"}
    save_annotations(coco_dir, SPLIT, content)
    [(kind, [case])] = read(coco_dir).repairs.items()
    assert kind == "annotations without a box left out"
    assert "'bbox' is [1, 2, 3]; 'segmentation' has a polygon of other than three points" in case


@pytest.mark.parametrize("given", ["all", "each", "beside a mask"])
def test_corners_are_read_once(folder, given):
    """What was read can be read again, exactly, as evaluation does."""
    coco_dir, content = folder
    for annotation in content["annotations"]:
        box = corners(annotation)
        annotation["bbox"] = [-1, box[1], -1, box[3]] if given == "beside a mask" else box
        annotation |= {} if given == "all" else {"bbox_mode": 0}
    save_annotations(coco_dir, SPLIT, content)
    data = read(coco_dir)
    again = {"images": [*data.images.values()], "annotations": data.annotations}
    assert read_coco(again | {"categories": data.categories}, EVALUATION).annotations == data.annotations


def test_a_picture_whose_name_is_not_utf8_is_left_out(folder):
    coco_dir, content = folder
    picture = coco_dir / SPLIT / content["images"][1]["file_name"]
    (picture.parent / "caf\udce9").mkdir()
    picture.rename(picture.parent / "caf\udce9" / picture.name)
    data = read(coco_dir)
    [(kind, [case])] = data.repairs.items()
    assert kind == "images whose names are not UTF-8 left out" and case.startswith("caf\\udce9/")
    assert len(data.images) == 2 and str(data).encode()


def test_a_folder_whose_name_is_not_utf8_is_refused_in_one_line(folder, tmp_path):
    coco_dir, _ = folder
    images = (coco_dir / SPLIT).rename(coco_dir / "caf\udce9")
    file = coco_dir / "annotations" / f"instances_{SPLIT}.json"
    assert_refused(tmp_path, "is not UTF-8, and Tensor", "--annotations", file, "--images", images)


def test_half_a_character_in_a_name_is_no_name_that_can_be_written(folder, tmp_path):
    coco_dir, content = folder
    content["images"][0]["file_name"] = "pi\ud800ce.jpg"
    content["categories"][1]["name"] = "\udc00 \U0001f419 \\ud800"
    save_annotations(coco_dir, SPLIT, content)
    data = read(coco_dir)
    assert data.repairs == {"missing images left out": ["pi\ufffdce.jpg"]}
    assert data.categories[1]["name"] == "\ufffd \U0001f419 \\ud800"
    assert str(data).encode()


def test_one_bad_box_does_not_hide_that_the_others_are_corners(folder):
    coco_dir, content = folder
    expected = [annotation["bbox"] for annotation in content["annotations"]] * 3
    content["annotations"] = [
        entry | {"segmentation": [], "bbox": corners(entry), "category_id": kind}
        for kind in (1, 2, 3)
        for entry in content["annotations"]
    ]
    content["annotations"] += [
        content["annotations"][0] | {"bbox": [0, 0, 0, 0]},
        content["annotations"][0] | {"bbox": [10, 20, 33, 40]},  # the picture is 30 wide
    ]
    save_annotations(coco_dir, SPLIT, content)
    boxes = [entry["bbox"] for entry in read(coco_dir).annotations]
    assert boxes == [*expected, [10, 20, 20, 20]]


def test_images_of_one_name_but_other_sizes_are_not_taken_as_one(folder):
    coco_dir, content = folder
    name = content["images"][1]["file_name"]
    content["images"][0]["file_name"] = name
    save_annotations(coco_dir, SPLIT, content)
    data = read(coco_dir)
    assert list(data.images) == [101, 102] and len(data.annotations) == 2
    assert any(f"{name} is 50 x 30, not 30 x 40" in line for line in data.lost)


def test_swapped_sizes_are_swapped_again_where_all_boxes_fit(folder):
    coco_dir, content = folder
    for image in content["images"]:
        image |= {"width": image["height"], "height": image["width"]}
    save_annotations(coco_dir, SPLIT, content)
    data = read(coco_dir)
    assert {kind: len(cases) for kind, cases in data.repairs.items()} == {
        "images with height as width swapped": 2
    }
    assert [(image["width"], image["height"]) for image in data.images.values()][:2] == [(30, 40), (50, 30)]
    assert data.annotations == content["annotations"]
    content["annotations"][0]["bbox"] = [5, 5, 30, 20]  # beyond the picture, but not beyond its turned size
    save_annotations(coco_dir, SPLIT, content)
    with pytest.raises(InputError, match="no usable annotation"):
        read(coco_dir)


def test_a_stem_that_could_be_two_images_is_refused(folder, tmp_path):
    coco_dir, content = folder
    picture = coco_dir / SPLIT / content["images"][0]["file_name"]
    shutil.copy(picture, picture.with_suffix(".png"))
    content["images"].append(content["images"][0] | {"id": 7, "file_name": picture.with_suffix(".png").name})
    content["annotations"][0]["image_id"] = picture.stem
    save_annotations(coco_dir, SPLIT, content)
    assert_refused(tmp_path, f"image {picture.stem} of annotations could be any of 2", "--coco-dir", coco_dir)


@pytest.mark.parametrize("category_id", [[1, 2], float("nan"), {}])
def test_a_category_that_cannot_be_read_costs_the_annotation_and_makes_no_class(folder, category_id):
    coco_dir, content = folder
    content["annotations"][0]["category_id"] = category_id
    save_annotations(coco_dir, SPLIT, content)
    data = read(coco_dir)
    assert data.categories == content["categories"] and len(data.annotations) == 4
    assert f"its category is {category_id}" in data.lost[0]


def test_categories_without_a_name_stay_apart(folder):
    _, content = folder
    content["categories"] = [{"id": number, "name": ""} for number in (1, 2)]
    for number, annotation in enumerate(content["annotations"]):
        annotation["category_id"] = 1 + number % 2
    data = read_coco(content, TRAINING)
    assert [category["name"] for category in data.categories] == ["1", "2"]
    assert [entry["category_id"] for entry in data.annotations] == [1, 2, 1, 2, 1]


def test_names_that_fit_to_two_pictures_are_refused(folder, tmp_path):
    coco_dir, content = folder
    name = content["images"][0]["file_name"]
    for camera in ("cam1", "cam2"):
        (coco_dir / SPLIT / camera).mkdir()
        shutil.copy(coco_dir / SPLIT / name, coco_dir / SPLIT / camera)
    (coco_dir / SPLIT / name).unlink()
    assert_refused(tmp_path, "100.jpg could be", "--coco-dir", coco_dir)
    content["images"][0]["file_name"] = f"cam1/{name}"
    save_annotations(coco_dir, SPLIT, content)
    assert not read(coco_dir).repairs


def test_a_picture_belongs_to_the_name_that_says_more_of_its_path(folder):
    coco_dir, content = folder
    first = content["images"][0]["file_name"]
    content["images"][0]["file_name"] = f"{SPLIT}/{first}"
    content["images"].append(content["images"][0] | {"id": 200, "file_name": f"train2017/{first}"})
    save_annotations(coco_dir, SPLIT, content)
    data = read(coco_dir)
    assert list(data.images) == [100, 101, 102]
    assert data.repairs["missing images left out"] == [f"train2017/{first}"]


@pytest.mark.parametrize("annotated", ["stored", "upright"])
def test_sizes_say_which_way_up_a_turned_picture_is_annotated(folder, annotated):
    coco_dir, content = folder
    path = coco_dir / SPLIT / content["images"][0]["file_name"]
    with Image.open(path) as picture:
        exif = picture.getexif()
        exif[0x0112] = 6  # turned by a quarter to be upright
        turned = picture.transpose(Image.Transpose.ROTATE_90) if annotated == "upright" else picture.copy()
    turned.save(path, exif=exif)
    data = read(coco_dir)
    assert len(data.annotations) == 5
    assert len(data.repairs) == (annotated == "upright")


@pytest.mark.parametrize(("turn", "sizes"), [(3, True), (6, False), (1, False)])
def test_turned_pictures_are_named_where_nothing_says_how_they_are_annotated(folder, turn, sizes):
    coco_dir, content = folder
    path = coco_dir / SPLIT / content["images"][0]["file_name"]
    with Image.open(path) as picture:
        exif = picture.getexif()
        exif[0x0112] = turn
        upright = picture.transpose(Image.Transpose.ROTATE_90) if turn == 6 else picture.copy()
    upright.save(path, exif=exif)
    if not sizes:
        del content["images"][0]["width"], content["images"][0]["height"]
        save_annotations(coco_dir, SPLIT, content)
    data = read(coco_dir)
    assert len(data.annotations) == 5
    told = data.repairs.get("images turned by their camera, and annotated either way taken as upright", [])
    assert told == ([content["images"][0]["file_name"]] if turn > 1 else [])


@pytest.mark.parametrize(("count", "outlined"), [(9, 0), (10, 0), (10, 1)])
@pytest.mark.parametrize("rle", [False, True])
def test_classes_whose_masks_are_all_rectangles_are_named(count, outlined, rle):
    rows, columns = np.mgrid[:40, :60]
    entries = []
    for number in range(count):
        x, y, width, height = number, 2, 10, 5 + number
        mask = (columns >= x) & (columns < x + width) & (rows >= y) & (rows < y + height)
        corners = [x, y, x + width, y, x + width, y + height, x, y + height]
        if number < outlined:
            mask[y, x], corners = False, corners[2:]
        encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        lengths = {"size": [40, 60], "counts": encoded["counts"].decode()}
        box = {"bbox": [x, y, width, height], "area": 50, "iscrowd": 0}
        segmentation = lengths if rle else [corners]
        entries.append({"id": number, "image_id": 1, "category_id": 1, "segmentation": segmentation} | box)
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 60, "height": 40}],
        "annotations": entries,
        "categories": [{"id": 1, "name": "bolt"}],
    }
    expected = {} if count < 10 or outlined else {"bolt, 10 masks"}
    assert {case for cases in read_coco(content, TRAINING).repairs.values() for case in cases} == set(
        expected
    )
    assert read_coco(content, EVALUATION).repairs == {}


@pytest.mark.parametrize("encode", ["utf-8-sig", "utf-16", "utf-32", "gzip"])
def test_other_encodings_of_json_are_read(folder, encode):
    coco_dir, content = folder
    path = coco_dir / "annotations" / f"instances_{SPLIT}.json"
    text = json.dumps(content)
    path.write_bytes(gzip.compress(text.encode()) if encode == "gzip" else text.encode(encode))
    assert read(coco_dir).annotations == content["annotations"]
    if encode == "gzip":
        whole = path.read_bytes()
        for place in (12, len(whole) // 2, len(whole) - 6):  # blocks, their content, their sum
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
            with pytest.raises(InputError, match="it must hold annotations"):
                read(coco_dir)


def assert_refused(tmp_path, message, *arguments):
    """Exit status 2, one line with `message`, and no file or folder left behind."""
    before = set(tmp_path.iterdir())
    split = ["--split", SPLIT] if "--coco-dir" in arguments and "--split" not in arguments else []
    assert message in command_line.refused("tfrecord", "--out", tmp_path / "out", *split, *arguments)
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
        ("annotations", 2, {"id": None}, "no whole numbers: 1 (entry 2 of 'annotations': 'id' is None)"),
        ("categories", 1, {"id": 1}, "2 of the categories have the same id"),
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
    ("section", "message"), [("categories", "no list 'categories'"), ("annotations", "is None.*: remove")]
)
def test_evaluation_needs_lists_of_entries(section, message):
    content, _ = evaluation_data.scenes()
    content[section] = None if section == "categories" else [*content[section], None]
    with pytest.raises(InputError, match=message):
        read_coco(content, EVALUATION)


def test_evaluation_takes_categories_and_boxes_as_they_are():
    content, _ = evaluation_data.scenes(images=2)
    content["categories"].append({"id": 500, "name": "bolt"})
    content["annotations"][0] |= {"category_id": 500, "bbox": [-20, 4, 900, 7], "point_coords": [1, 2]}
    content["annotations"][1]["bbox"] = [4, 4, 0, 0]
    data = read_coco(content, EVALUATION)
    assert data.annotations == content["annotations"] and not data.repairs


def test_missing_folders_are_refused(folder, tmp_path):
    coco_dir, _ = folder
    assert_refused(tmp_path, "no such folder", "--coco-dir", tmp_path / "nowhere")
    assert_refused(
        tmp_path, "has no annotations of train2017", "--coco-dir", coco_dir, "--split", "train2017"
    )
    (coco_dir / "annotations" / "instances_val2018.json").mkdir()
    assert_refused(tmp_path, "has no files of YOLO", "--coco-dir", coco_dir, "--split", "val2018")
    file = coco_dir / "annotations" / f"instances_{SPLIT}.json"
    assert_refused(tmp_path, "no such folder", "--annotations", file, "--images", tmp_path / "nowhere")
    assert_refused(tmp_path, "no such file", "--annotations", tmp_path / "nothing", "--images", coco_dir)


def test_a_report_replaces_no_file_and_is_written_before_the_records_or_not_at_all(folder, tmp_path):
    coco_dir, _ = folder
    file = coco_dir / "annotations" / f"instances_{SPLIT}.json"
    picture = next((coco_dir / SPLIT).iterdir())
    for report in (file, f"{file.parent}/../annotations/{file.name}", picture):
        before = [file.read_bytes(), picture.read_bytes()]
        assert_refused(tmp_path, "no report of this", "--coco-dir", coco_dir, "--report", report)
        assert before == [file.read_bytes(), picture.read_bytes()]
    (tmp_path / "file").touch()
    assert_refused(tmp_path, "file", "--coco-dir", coco_dir, "--report", tmp_path / "file" / "report.json")
    out = tmp_path / "out"
    arguments = ("tfrecord", "--coco-dir", coco_dir, "--split", SPLIT, "--out", out, "--shards", 1)
    command_line.run(*arguments, "--report", out / "report.json")
    earlier = tmp_path / "earlier.json"
    earlier.write_text((out / "report.json").read_text().replace("images", "pictures"))
    shutil.rmtree(out)
    command_line.run(*arguments, "--report", earlier)  # which it may replace
    report = json.loads(earlier.read_text())[SPLIT]
    assert (report["images"], report["repairs"]) == (len(list((coco_dir / SPLIT).iterdir())), [])


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
    ],
)
def test_reads_lists_of_ids(tmp_path, text, expected):
    (tmp_path / "ids").write_text(text)
    assert read_image_ids(tmp_path / "ids") == expected


@pytest.mark.parametrize("text", ["seven", '{"val2017": 3}', "[1.5]"])
def test_refuses_what_is_no_list_of_ids(tmp_path, text):
    (tmp_path / "ids").write_text(text)
    with pytest.raises(InputError, match="not a list of image ids"):
        read_image_ids(tmp_path / "ids")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("100 555", "listed image ids: 1 (555) not in"),
        ("555", "none of the listed image ids"),
        ("x", "not a list of image ids"),
    ],
)
def test_unknown_ids_are_refused(folder, tmp_path, text, message):
    (tmp_path / "ids").write_text(text)
    assert_refused(tmp_path, message, "--coco-dir", folder[0], "--ids", tmp_path / "ids")
