"""Annotations as tools write them, and folders as they export them, become the same as COCO's file."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from deepmac.core.errors import InputError
from deepmac.data.coco import read_annotation_files, read_coco_folder
from deepmac.data.formats import find_splits

NAMES = ["nut", "bolt"]
# (picture, class, polygon) of each object; pictures are 40 wide and 20 high.
OBJECTS = [
    ("a", 0, [2, 2, 12, 2, 12, 10, 2, 10]),
    ("a", 1, [20, 5, 30, 5, 25, 15]),
    ("b", 1, [0, 0, 40, 0, 40, 20]),
]


@pytest.fixture
def pictures(tmp_path):
    """A folder of three pictures, the last without objects."""
    folder = tmp_path / "data" / "images"
    folder.mkdir(parents=True)
    for name in "abc":
        Image.new("RGB", (40, 20)).save(folder / f"{name}.png")
    return folder


def objects_of(picture):
    """Class and polygon of each object of a picture."""
    return [(kind, polygon) for name, kind, polygon in OBJECTS if name == picture]


def box(polygon):
    x, y = polygon[::2], polygon[1::2]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def assert_read(data, with_masks, images=("a", "b", "c")):
    """The objects, as `OBJECTS` has them."""
    names = {category["id"]: category["name"] for category in data.categories}
    stems = {image["id"]: image["file_name"].rpartition("/")[2][:-4] for image in data.images.values()}
    assert sorted(stems.values()) == sorted(images)
    found = [
        (stems[entry["image_id"]], names[entry["category_id"]], entry["segmentation"])
        for entry in data.annotations
    ]
    expected = [(picture, NAMES[kind], [polygon] if with_masks else []) for picture, kind, polygon in OBJECTS]
    assert [(one[:2], bool(one[2])) for one in found] == [(one[:2], bool(one[2])) for one in expected]
    for (_, _, polygons), (_, _, known), entry in zip(found, expected, data.annotations, strict=True):
        np.testing.assert_allclose(polygons, known, atol=1e-4)
        np.testing.assert_allclose(entry["bbox"], box(OBJECTS[data.annotations.index(entry)][2]), atol=1e-4)


def coco(rename=str):
    sizes = {"width": 40, "height": 20}
    images = [{"id": i, "file_name": rename(f"{name}.png")} | sizes for i, name in enumerate("abc")]
    annotations = [
        {
            **{"id": number, "image_id": "abc".index(picture), "category_id": kind, "bbox": box(polygon)},
            **{"segmentation": [polygon], "area": 50, "iscrowd": 0},
        }
        for number, (picture, kind, polygon) in enumerate(OBJECTS)
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(NAMES)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def yolo(folder, with_masks, spread=""):
    """Writes labels, of boxes or polygons; `spread` is added to their folder."""
    for picture in "ab":
        lines = []
        for kind, polygon in objects_of(picture):
            x, y, width, height = box(polygon)
            center = [(x + width / 2) / 40, (y + height / 2) / 20, width / 40, height / 20]
            points = (np.reshape(polygon, (-1, 2)) / [40, 20]).ravel()
            lines.append(" ".join(map(str, [kind, *(points if with_masks else center)])))
        (folder / spread).mkdir(parents=True, exist_ok=True)
        (folder / spread / f"{picture}.txt").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("with_masks", [False, True])
@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("data.yaml", "names: [nut, bolt]\nnc: 2\n"),
        ("data.yaml", "names:\n  1: bolt\n  0: nut\n"),
        ("classes.txt", "nut\nbolt\n"),
    ],
)
def test_yolo(pictures, with_masks, file, text):
    labels = yolo(pictures.with_name("labels"), with_masks)
    (pictures.parent / file).write_text(text)
    for data in (read_annotation_files(labels, pictures), read_coco_folder(pictures.parent)):
        assert_read(data["train"], with_masks)
        repairs = {kind: len(cases) for kind, cases in data["train"].repairs.items()}
        assert repairs.pop("annotations without a mask kept as boxes", 0) == (0 if with_masks else 3)
        assert set(repairs.values()) == {3}  # ids, areas, crowds


def test_a_bad_line_of_yolo_costs_that_line(pictures):
    labels = yolo(pictures.with_name("labels"), True)
    (labels / "classes.txt").write_text("nut\nbolt")
    bad = ["0 0.5 0.5 x 0.1", "1 0.1", "0 0.1 0.2 0.3", ""]
    bad += ["what is this", "0 0.5 0.5 nan 0.5"]
    with (labels / "b.txt").open("a") as file:
        file.write("\n" + "\n".join(bad))
    (labels / "elsewhere.txt").write_text("0 0.5 0.5 0.1 0.1")
    data = read_annotation_files(labels, pictures)["train"]
    lost = {kind: len(cases) for kind, cases in data.repairs.items() if kind.endswith("left out")}
    assert len(data.annotations) == 3 and sum(lost.values()) == 6
    assert "missing images left out" in lost
    (labels / "classes.txt").unlink()
    data = read_annotation_files(labels, pictures)["train"]
    assert [category["name"] for category in data.categories] == ["0", "1"], "numbers, without names"


def labelled(pictures, yaml, **labels):
    """Writes a data.yaml, and lines of labels by the names of their files."""
    pictures.with_name("data.yaml").write_text(yaml)
    folder = pictures.with_name("labels")
    folder.mkdir()
    for name, line in labels.items():
        (folder / f"{name}.txt").write_text(line)
    return folder


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("{1: nut, 3: bolt}", {1: "nut", 3: "bolt"}),
        ("{'10': c, '1': nut, '3': bolt, 2: d}", {1: "nut", 2: "d", 3: "bolt", 10: "c"}),
        ("'a, nut, c, bolt'", {0: "a", 1: "nut", 2: "c", 3: "bolt"}),
    ],
)
def test_the_keys_of_names_are_the_numbers_of_classes(pictures, names, expected):
    folder = labelled(pictures, f"names: {names}", a="1 0.5 0.5 0.1 0.1\n3 0.5 0.5 0.1 0.1")
    data = read_annotation_files(folder, pictures)["train"]
    labels = {category["id"]: category["name"] for category in data.categories}
    assert list(labels.values()) == list(expected.values())
    assert [labels[entry["category_id"]] for entry in data.annotations] == ["nut", "bolt"]
    (folder / "b.txt").write_text("\n77 0.5 0.5 0.1 0.1")
    with pytest.raises(
        InputError, match=r"does not list: 1 \(annotation b.txt line 2: category id 77 .*names"
    ):
        read_annotation_files(folder, pictures)


@pytest.mark.parametrize("text", ["", "names: {1: a, b: c}", "names: 7", "- a", "names: [\n", "nc: 2"])
def test_names_that_are_none_are_refused_in_one_line(pictures, text):
    folder = labelled(pictures, text, a="1 0.5 0.5 0.1 0.1")
    with pytest.raises(InputError, match=r"data.yaml has no 'names': a list, or [^\n]*$"):
        read_annotation_files(folder, pictures)


def test_lines_with_points_or_a_confidence_are_read(pictures):
    pose = "0 0.5 0.5 0.5 0.5 0.1 0.2 2 0.3 0.4 1"
    folder = labelled(pictures, "names: [nut]\nkpt_shape: [2, 3]", a=pose, b=f"{pose} 0.9")
    data = read_annotation_files(folder, pictures)["train"]
    assert [entry["bbox"] for entry in data.annotations] == [[10, 5, 20, 10]] * 2
    (folder / "b.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5 0.9")
    pictures.with_name("data.yaml").write_text("names: [nut]")
    data = read_annotation_files(folder, pictures)["train"]
    np.testing.assert_allclose(data.annotations[1]["segmentation"], [[4, 2, 20, 2, 20, 10]], atol=1e-5)


def test_two_pictures_of_one_label_are_refused_by_name(pictures):
    folder = labelled(pictures, "names: [nut]", a="0 0.5 0.5 0.1 0.1")
    Image.new("RGB", (40, 20)).save(pictures / "a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg and .*a\.png are both called a: rename"):
        read_annotation_files(folder, pictures)


def test_labels_in_another_case_belong_to_their_pictures(pictures):
    folder = labelled(pictures, "names: [nut]", a="0 0.5 0.5 0.1 0.1", B="0 0.5 0.5 0.1 0.1")
    (folder / "a.txt").rename(folder / "a.TXT")
    (pictures / "a.png").rename(pictures / "A.PNG")
    data = read_annotation_files(folder, pictures)["train"]
    names = [data.images[entry["image_id"]]["file_name"] for entry in data.annotations]
    assert names == ["A.PNG", "b.png"] and len(data.images) == 3 and not data.lost


def test_labels_without_a_readable_line_are_refused_with_the_reason(pictures):
    folder = labelled(pictures, "names: []", a="what is this")
    with pytest.raises(
        InputError, match=r"no usable annotation .*: 1 .*a.txt line 1: 'what is this' is no class"
    ):
        read_annotation_files(folder, pictures)


def test_label_files_that_cannot_be_read_are_named(pictures):
    folder = labelled(pictures, "names: [nut]", c="0 0.5 0.5 0.1 0.1")
    (folder / "a.txt").mkdir()
    (folder / "b.txt").symlink_to(folder / "nowhere")
    [line] = read_annotation_files(folder, pictures)["train"].lost
    assert "a: Is a directory" in line and "b: No such file" in line


def test_pascal_voc(pictures):
    folder = pictures.parent / "Annotations"
    folder.mkdir()
    pictures.rename(pictures.with_name("JPEGImages"))
    for picture in "abc":
        objects = ""
        for kind, polygon in objects_of(picture):
            x, y, width, height = box(polygon)
            sides = {"xmin": x + 1, "ymin": y + 1, "xmax": x + width, "ymax": y + height}
            corners = "".join(f"<{side}>{value}</{side}>" for side, value in sides.items())
            objects += f"<object><name>{NAMES[kind]}</name><bndbox>{corners}</bndbox></object>"
        size = "<size><width>40</width><height>20</height></size>"
        text = f"<annotation><filename>{picture}.png</filename>{size}{objects}</annotation>"
        (folder / f"{picture}.xml").write_text(text)
    (folder / "d.xml").write_text("<annotation><file")
    a = folder / "a.xml"
    a.write_text(a.read_text().replace("a.png", "before it was renamed.png"))
    a.write_text(a.read_text().replace("xmin", "?").replace("xmax", "xmin").replace("?", "xmax"))
    data = read_coco_folder(pictures.parent)["train"]
    assert_read(data, with_masks=False)
    assert any("d.xml" in case for case in data.repairs["entries that cannot be read left out"])


def test_labelme(pictures):
    folder = pictures.with_name("labelme")
    folder.mkdir()
    for picture in "abc":
        shapes = [
            {"label": NAMES[kind], "points": np.reshape(polygon, (-1, 2)).tolist(), "shape_type": "polygon"}
            for kind, polygon in objects_of(picture)
        ]
        content = {"shapes": shapes, "imagePath": f"..\\images\\{picture}.png"}
        content |= {"imageWidth": 40, "imageHeight": 20}
        (folder / f"{picture}.json").write_text(json.dumps(content))
    assert_read(read_annotation_files(folder, pictures)["train"], with_masks=True)
    (folder / "c.json").write_text("{}")
    shapes = [
        {"label": "nut", "points": [[5, 5], [1, 2]], "shape_type": "rectangle"},
        {"label": "nut", "points": [[5, 5], [1, 2]], "shape_type": "circle"},
    ]
    (folder / "b.json").write_text(json.dumps({"shapes": shapes, "imagePath": "b.png"}))
    data = read_annotation_files(folder, pictures)["train"]
    assert [entry["bbox"] for entry in data.annotations][2:] == [[1, 2, 4, 3]]
    assert len(data.repairs["annotations without a box left out"]) == 1
    assert "annotation b.json shape 2: 'bbox' is circle" in data.repairs["annotations without a box left out"]
    square = [[1, 2], [5, 2], [5, 5], [1, 5]]
    shapes = [
        {"label": "nut", "points": square, "shape_type": "rectangle"},
        {"label": "nut", "points": [[1, 2], [5, 5]], "shape_type": "mask", "mask": "iVBORw0KGgo="},
        {"label": "nut", "points": square, "shape_type": None},
        7,
    ]
    (folder / "b.json").write_text(json.dumps({"shapes": shapes, "imagePath": "before.png"}))
    data = read_annotation_files(folder, pictures)["train"]
    assert [entry["bbox"] for entry in data.annotations][2:] == [[1, 2, 4, 3]] * 3
    assert [bool(entry["segmentation"]) for entry in data.annotations][2:] == [False, False, True]
    assert any("b.json shape 4: it is of an unknown form" in line for line in data.lost)


def test_label_studio(pictures):
    tasks = []
    for picture in "abc":
        results = []
        for kind, polygon in objects_of(picture):
            points = (np.reshape(polygon, (-1, 2)) / [0.4, 0.2]).tolist()
            value = {"points": points, "polygonlabels": [NAMES[kind]]}
            size = {"original_width": 40, "original_height": 20}
            results.append({"type": "polygonlabels", "value": value} | size)
        image = f"/data/local-files/?d=images/{picture}.png"
        tasks.append({"id": 1, "data": {"image": image}, "annotations": [{"result": results}]})
    file = pictures.with_name("export.json")
    file.write_text(json.dumps(tasks))
    assert_read(read_annotation_files(file, pictures)["train"], with_masks=True)
    value = {"x": 5, "y": 10, "width": 25, "height": 40, "rectanglelabels": ["nut"]}
    tasks[0]["annotations"][0]["result"][0] |= {"type": "rectanglelabels", "value": value}
    tasks[1]["annotations"][0]["result"][0]["value"] = {}
    file.write_text(json.dumps([*tasks, {"data": {}}]))
    data = read_annotation_files(file, pictures)["train"]
    assert data.annotations[0]["bbox"] == [2, 2, 10, 8]
    assert len(data.repairs["entries that cannot be read left out"]) == 2


def test_label_studio_is_read_but_for_what_is_cancelled_or_incomplete(pictures):
    value = {"x": 5, "y": 10, "width": 25, "height": 40, "rectanglelabels": ["nut"]}
    good = {"type": "rectanglelabels", "value": value, "original_width": 400, "original_height": 7}
    bad = [{"value": value}, {"type": "rectanglelabels"}, {"type": "choices"}]
    bad += [good | {"type": "rectangle"}, good | {"value": value | {"rectanglelabels": []}}]
    done = [{"was_cancelled": True, "result": [good] * 3}, {"result": [good, *bad]}, {"result": [good]}]
    file = pictures.with_name("export.json")
    file.write_text(json.dumps([{"id": 5, "data": {"image": "/data/a.png"}, "annotations": done}]))
    data = read_annotation_files(file, pictures)["train"]
    assert [entry["bbox"] for entry in data.annotations] == [[2, 2, 10, 8]]
    cases = data.repairs["entries that cannot be read left out"]
    for part in (
        "task 5: an annotation, cancelled",
        "task 5 result 2: it has no 'type'",
        "3: it has no 'value'",
        "5: its rectangle is without a label",
        "6: its rectanglelabels is without a label",
    ):
        assert any(part in case for case in cases)
    assert len(cases) == 6


ROBOFLOW, DATUMARO, YEARS = ["train", "valid"], ["train", "val"], ["train2017", "val2017"]


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        ({"annotations/instances_default.json": "images"}, ["default"]),
        ({"labels.json": "data"}, ["train"]),
        ({"result.json": "images"}, ["train"]),
        ({"via_coco.json": "images"}, ["train"]),
        ({f"{split}/_annotations.coco.json": split for split in ROBOFLOW}, ROBOFLOW),
        ({f"annotations/instances_{split}.json": f"images/{split}" for split in DATUMARO}, DATUMARO),
        ({f"annotations/instances_{split}.json": split for split in (*YEARS, "test")}, YEARS),
        ({f"annotations/{split}.json": f"images/{split}" for split in DATUMARO}, DATUMARO),
        ({f"{split}.json": split for split in (*DATUMARO, "test")}, ["test", *DATUMARO]),
    ],
    ids=["CVAT", "FiftyOne", "Label Studio", "VIA", "Roboflow", "datumaro", "COCO", "plain", "root"],
)
def test_layouts_of_tools_are_found(pictures, tmp_path, files, splits):
    folder = tmp_path / "export"
    for file, place in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(pictures, folder / place, dirs_exist_ok=True)
        (folder / file).write_text(coco())
    read = read_coco_folder(folder)
    assert list(read) == splits
    for split, data in read.items():
        assert_read(data, with_masks=True)
        assert not data.repairs
        assert str(data.image_dir).endswith(files[data.name.removeprefix(f"{folder}/")])
        assert read_coco_folder(folder, [split])[split].annotations == data.annotations


def test_yolo_folders_by_split(pictures, tmp_path):
    for split in ("train", "val"):
        shutil.copytree(pictures, tmp_path / "yolo" / "images" / split)
        yolo(tmp_path / "yolo" / "labels", True, split)
    (tmp_path / "yolo" / "data.yaml").write_text("names: [nut, bolt]")
    read = read_coco_folder(tmp_path / "yolo")
    assert list(read) == ["train", "val"]
    for data in read.values():
        assert_read(data, with_masks=True)


def test_yolo_folders_in_those_of_splits(pictures, tmp_path):
    for split in ROBOFLOW:
        shutil.copytree(pictures, tmp_path / "yolo" / split / "images")
        yolo(tmp_path / "yolo" / split / "labels", True)
    (tmp_path / "yolo" / "data.yaml").write_text("names: [nut, bolt]")
    read = read_coco_folder(tmp_path / "yolo")
    assert list(read) == ROBOFLOW
    for data in read.values():
        assert_read(data, with_masks=True)


@pytest.mark.parametrize(
    ("labels", "images", "given"),
    [("labels", "images", "images"), ("labels", "images", "."), ("train/labels", "train/images", ".")],
    ids=["Ultralytics", "one folder for both", "Roboflow"],
)
def test_the_root_of_a_yolo_data_set_is_read(pictures, tmp_path, labels, images, given):
    root = tmp_path / "yolo"
    shutil.copytree(pictures, root / images)
    yolo(root, True, labels)
    (root / "data.yaml").write_text("names: [nut, bolt]")
    (root / "README.dataset.txt").write_text("https://universe.roboflow.com")
    data = read_annotation_files(root, root / given)["train"]
    assert_read(data, with_masks=True)
    assert not data.lost
    for path in (root / images).iterdir():
        path.rename(path.with_stem(f"{path.stem}-copy"))
    with pytest.raises(InputError, match=r"no label is named like a picture of .*, the first is .*a: give"):
        read_annotation_files(root, root / given)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '{"_via_img_metadata": {}}',
            "VGG Image Annotator's own JSON: export the annotations as COCO format",
        ),
        (
            '{"a.jpg123": {"filename": "a.jpg", "regions": []}}',
            "VGG Image Annotator's own JSON: export the annotations as COCO format",
        ),
        ('[{"image": "a.jpg", "annotations": []}]', "is CreateML's JSON: export the annotations as COCO"),
        ('\n<?xml version="1.0"?><annotations/>', "is XML: of CVAT export COCO 1.0; of Pascal VOC"),
        ("PK\x03\x04...", "is a ZIP file: unpack it"),
        ('{"type": "dataset"}\n{"type": "image"}\n', "is NDJSON, .*; it must hold .* COCO's JSON"),
    ],
)
def test_formats_that_are_not_read_are_named(pictures, tmp_path, text, words):
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(InputError, match=words):
        read_annotation_files(tmp_path / "export.json", pictures)


def test_a_folder_that_is_not_recognised_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no annotations of train: .*name them by --annotations"):
        find_splits(tmp_path)
    for name in ("one.json", "two.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=r"one\.json or .*two\.json\? Name one"):
        find_splits(tmp_path)
