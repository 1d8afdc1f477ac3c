"""Annotations as tools write them, and folders as they export them, become the same as COCO's file."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from deepmac.core.errors import InputError
from deepmac.data.annotation_folders import find_splits
from deepmac.data.classes import classes_of
from deepmac.data.data_sets import read_annotation_files, read_coco_folder
from deepmac.data.formats import load_annotations

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
        assert not repairs, "ids, areas and crowds are not of this format"


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


def test_poses_without_their_shape_are_boxes(pictures):
    folder = labelled(pictures, "names: [nut]", a="0 0.5 0.5 0.5 0.5 0.1 0.2 2 0.3 0.4 1")
    [entry] = read_annotation_files(folder, pictures)["train"].annotations
    assert (entry["bbox"], entry["segmentation"]) == ([10, 5, 20, 10], [])


def test_names_in_another_file_and_words_of_yaml_are_names(pictures):
    folder = labelled(pictures, "names: [yes, no]", a="0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5")
    pictures.with_name("data.yaml").rename(pictures.with_name("coco128.yaml"))
    (folder / "train.txt").write_text("images/a.png\nimages/b.png")
    data = read_annotation_files(folder, pictures)["train"]
    assert [category["name"] for category in data.categories] == ["yes", "no"] and not data.lost


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


def test_xml_in_encodings_of_other_machines_is_read(pictures):
    size = "<size><width>40</width><height>20</height></size>"
    box = "<bndbox><xmin>3</xmin><ymin>3</ymin><xmax>12</xmax><ymax>10</ymax></bndbox>"
    text = f"<annotation>{size}<object><name>\u87ba\u6bcd</name>{box}</object></annotation>"
    folder = pictures.with_name("Annotations")
    folder.mkdir()
    for name, encoding in zip("abc", ("GBK", "utf-8", "utf-16"), strict=True):
        document = f'<?xml version="1.0" encoding="{encoding}"?>\n{text}'
        (folder / f"{name}.xml").write_bytes(document.encode(encoding))
    data = read_annotation_files(folder, pictures)["train"]
    assert [entry["name"] for entry in data.categories] == ["\u87ba\u6bcd"]
    assert [entry["bbox"] for entry in data.annotations] == [[2, 2, 10, 8]] * 3


def test_xml_of_cvat_says_what_to_export(pictures):
    folder = pictures.with_name("Annotations")
    folder.mkdir()
    (folder / "annotations.xml").write_text("<annotations><version>1.1</version></annotations>")
    with pytest.raises(InputError, match=r"annotations\.xml: it is CVAT's own XML: export COCO 1.0"):
        read_annotation_files(folder, pictures)


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
        {"label": "nut", "points": [[5, 5], [1, 2]], "shape_type": "line"},
    ]
    (folder / "b.json").write_text(json.dumps({"shapes": shapes, "imagePath": "b.png"}))
    data = read_annotation_files(folder, pictures)["train"]
    assert [entry["bbox"] for entry in data.annotations][2:] == [[1, 2, 4, 3]]
    assert len(data.repairs["annotations without a box left out"]) == 1
    assert "annotation b.json shape 2: 'bbox' is line" in data.repairs["annotations without a box left out"]
    square = [[1, 2], [5, 2], [5, 5], [1, 5]]
    shapes = [
        {"label": "nut", "points": square, "shape_type": "rectangle"},
        {"label": "bolt", "points": [[1, 2], [5, 5]], "shape_type": "mask", "mask": "iVBORw0KGgo="},
        {"label": "nut", "points": square, "shape_type": None},
        7,
    ]
    (folder / "b.json").write_text(json.dumps({"shapes": shapes, "imagePath": "before.png"}))
    data = read_annotation_files(folder, pictures)["train"]
    assert [entry["bbox"] for entry in data.annotations][2:] == [[1, 2, 4, 3]] * 3
    assert [bool(entry["segmentation"]) for entry in data.annotations][2:] == [False, False, True]
    assert any("b.json shape 4: it is of an unknown form" in line for line in data.lost)
    assert len(data.repairs["unusable masks left out, their boxes kept"]) == 1


def labelme(pictures, picture, shapes, path=None):
    """Writes a file of LabelMe for a picture."""
    folder = pictures.with_name("labelme")
    folder.mkdir(exist_ok=True)
    content = {"shapes": shapes, "imagePath": path or f"{picture}.png", "imageWidth": 40, "imageHeight": 20}
    (folder / f"{picture}.json").write_text(json.dumps(content))
    return folder


def test_a_circle_of_labelme_is_a_box(pictures):
    shape = {"label": "nut", "points": [[10, 9], [13, 13]], "shape_type": "circle"}
    data = read_annotation_files(labelme(pictures, "a", [shape]), pictures)["train"]
    assert [entry["bbox"] for entry in data.annotations] == [[5, 4, 10, 10]]
    assert len(data.repairs["boxes in an unusual form read"]) == 1


def test_a_mask_of_labelme_is_read(pictures):
    png = io.BytesIO()
    Image.fromarray(np.tri(3, 4, dtype=bool)).save(png, "PNG")
    mask = base64.b64encode(png.getvalue()).decode()
    shape = {"label": 0, "points": [[38, 2], [41, 4]], "shape_type": "mask", "mask": mask}
    folder = labelme(pictures, "a", [shape])
    [entry] = (data := read_annotation_files(folder, pictures)["train"]).annotations
    expected = np.zeros([20, 40], np.uint8)
    expected[2:5, 38:] = [[1, 0], [1, 1], [1, 1]]
    np.testing.assert_array_equal(coco_mask.decode(entry["segmentation"]), expected)
    assert data.categories[0]["name"] == "0"
    shape["points"] = [[-2, -1], [1, 1]]  # beyond the corner of the picture
    [entry] = read_annotation_files(labelme(pictures, "a", [shape]), pictures)["train"].annotations
    expected = np.zeros([20, 40], np.uint8)
    expected[:2, :2] = [[0, 0], [1, 0]]
    np.testing.assert_array_equal(coco_mask.decode(entry["segmentation"]), expected)


def test_polygons_of_a_group_and_label_are_one_object(pictures):
    def polygon(label, x, group):
        return {"label": label, "points": [[x, 2], [x + 5, 2], [x, 8]], "group_id": group}

    shapes = [polygon("nut", 1, 3), polygon("nut", 20, 3), polygon("bolt", 5, 3), polygon("nut", 9, None)]
    data = read_annotation_files(labelme(pictures, "a", shapes), pictures)["train"]
    assert [entry["bbox"] for entry in data.annotations] == [[1, 2, 24, 6], [5, 2, 5, 6], [9, 2, 5, 6]]
    assert [len(entry["segmentation"]) for entry in data.annotations] == [2, 1, 1]


def test_a_copy_belongs_to_the_picture_that_it_is_called_like(pictures):
    """Tools that turn pictures around leave the old name in the files of the copies."""
    for picture in "ab":
        x = 5 if picture == "a" else 25
        shape = {"label": "nut", "points": [[x, 1], [x + 9, 7]], "shape_type": "rectangle"}
        folder = labelme(pictures, picture, [shape], path="a.png")
    data = read_annotation_files(folder, pictures)["train"]
    names = [data.images[entry["image_id"]]["file_name"] for entry in data.annotations]
    assert names == ["a.png", "b.png"] and [entry["bbox"][0] for entry in data.annotations] == [5, 25]


def voc(pictures, picture, objects, folder="Annotations"):
    """Writes a file of Pascal VOC, with XML of objects: a name and what else there is."""
    target = pictures.with_name(folder)
    target.mkdir(exist_ok=True)
    text = "".join(f"<object><name>{name}</name>{rest}</object>" for name, rest in objects)
    (target / f"{picture}.xml").write_text(
        f"<annotation><filename>{picture}.jpg</filename>{text}</annotation>"
    )
    return target


def bndbox(*corners):
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    return "<bndbox>" + "".join(f"<{side}>{value}</{side}>" for side, value in sides) + "</bndbox>"


def test_polygons_in_xml_are_read_and_what_is_none_leaves_the_box(pictures):
    points = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((2, 2), (12, 2), (12, 10)))
    good = f"<deleted>0</deleted><polygon><username>me</username>{points}</polygon>"
    named = points.replace("pt>", "point>")
    bad = f"<polygon><x1>?</x1><y1>2</y1><x2>3</x2></polygon>{bndbox(3, 3, 12, 10)}"
    objects = [("nut", good), ("gear", f"<polygon>{named}</polygon>{bndbox(3, 3, 12, 10)}"), ("bolt", bad)]
    objects += [("gear", f"<polygon>{points}</polygon>{bndbox(21, 11, 30, 20)}")]
    objects += [("bolt", "<deleted>1</deleted>" + good)]
    data = read_annotation_files(voc(pictures, "a", objects), pictures)["train"]
    assert [entry["bbox"] for entry in data.annotations] == [[2, 2, 10, 8]] * 3 + [[20, 10, 10, 10]]
    polygon = [[2, 2, 12, 2, 12, 10]]
    assert [entry["segmentation"] for entry in data.annotations] == [polygon, polygon, [], polygon]
    assert len(data.repairs["masks that fit badly to their boxes kept"]) == 1
    assert "images under another name or path found" in data.repairs, "its suffix is another one"


def test_corners_of_voc_from_0_to_1_are_refused(pictures):
    folder = voc(pictures, "a", [("nut", bndbox(0.1, 0.2, 0.5, 0.9))])
    with pytest.raises(InputError, match="boxes are from 0 to 1"):
        read_annotation_files(folder, pictures)


def test_the_kind_that_most_files_of_pictures_have_is_read_and_the_others_are_named(pictures):
    folder = voc(pictures, "a", [("nut", bndbox(3, 3, 12, 10))])
    voc(pictures, "b", [("nut", bndbox(3, 3, 12, 10))])
    (folder / "readme.txt").write_text("exported by me")
    assert not read_annotation_files(folder, pictures)["train"].lost
    (folder / "a.txt").write_text("0 0.5 0.5 0.1 0.1")
    data = read_annotation_files(folder, pictures)["train"]
    assert len(data.annotations) == 2 and "is a.txt: it is beside files of *.xml" in data.lost[0]
    for file in folder.glob("*.xml"):
        file.write_text("<annotation>")
    (folder / "a.txt").unlink()
    with pytest.raises(InputError, match=r"entries that cannot be read: 2 .*a.xml: no element found"):
        read_annotation_files(folder, pictures)


def test_objects_without_a_label_are_told(pictures):
    folder = voc(pictures, "a", [("nut", bndbox(3, 3, 12, 10)), ("", bndbox(4, 3, 13, 10))])
    data = read_annotation_files(folder, pictures)["train"]
    told = [f"{kind}: {len(cases)}" for kind, cases in data.repairs.items() if "without a category" in kind]
    assert told == ["annotations without a category given one: 1"]


@pytest.mark.parametrize("tool", ["voc", "studio"])
def test_files_to_validate_with_may_name_categories_in_another_order(pictures, tool):
    def annotations(folder, names):
        if tool == "voc":
            return voc(pictures, "a", [(name, bndbox(3, 3, 12, 10)) for name in names], folder)
        value = {"x": 5, "y": 10, "width": 25, "height": 40}
        results = [{"type": "rectanglelabels", "value": value | {"rectanglelabels": name}} for name in names]
        task = {"data": {"source": "batch 1", "image": "a.png"}, "annotations": [{"result": results}]}
        pictures.with_name(folder).write_text(json.dumps([task]))
        return pictures.with_name(folder)

    files = annotations("train", ["nut", "bolt"]), annotations("val", ["bolt", "gear"])
    splits = read_annotation_files(files[0], pictures, files[1])
    assert [entry["name"] for entry in classes_of(splits)] == ["nut", "bolt", "gear"]
    assert [entry["category_id"] for entry in splits["val"].annotations] == [2, 3]


@pytest.mark.parametrize(
    "image",
    ["/data/upload/1/0a1b2c3d-a.png", "A.PNG", "https://x.org/a.png?X-Signature=1%2F2", "s3://bucket/a.png"],
)
def test_label_studio_is_measured_by_its_picture_however_that_is_named(pictures, image):
    value = {"x": 5, "y": 10, "width": 25, "height": 40, "rectanglelabels": ["nut"]}
    result = {"type": "rectanglelabels", "value": value, "original_width": 400, "original_height": 7}
    file = pictures.with_name("export.json")
    file.write_text(json.dumps([{"data": {"image": image}, "annotations": [{"result": [result]}]}]))
    data = read_annotation_files(file, pictures)["train"]
    assert data.annotations[0]["bbox"] == [2, 2, 10, 8]


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


@pytest.mark.parametrize("angle", [0, 30, 90, 200])
def test_turned_shapes_of_label_studio_are_the_boxes_around_them(pictures, angle):
    around = np.exp(2j * np.pi * np.arange(7200) / 7200)
    turn = np.exp(1j * np.deg2rad(angle))  # as the clock goes, since y runs down
    outlines = {
        "rectanglelabels": 20 + 8j + turn * np.array([0, 6, 6 + 4j, 4j]),  # about its corner
        "ellipselabels": 20 + 8j + turn * (6 * around.real + 4j * around.imag),  # about its centre
    }
    sides = {"width": 15, "height": 20, "radiusX": 15, "radiusY": 20}  # percent of 40 and 20 pixels
    value = {"x": 50, "y": 40, "rotation": angle, **sides}
    results = [{"type": kind, "value": value | {kind: ["nut"]}} for kind in outlines]
    file = pictures.with_name("export.json")
    file.write_text(json.dumps([{"data": {"image": "a.png"}, "annotations": [{"result": results}]}]))
    data = read_annotation_files(file, pictures)["train"]
    for entry, outline in zip(data.annotations, outlines.values(), strict=True):
        low, high = (kind(outline.real) + 1j * kind(outline.imag) for kind in (np.min, np.max))
        expected = [low.real, low.imag, (high - low).real, (high - low).imag]
        np.testing.assert_allclose(entry["bbox"], expected, atol=1e-4)


def test_a_second_label_of_label_studio_is_told(pictures):
    value = {"x": 5, "y": 10, "width": 25, "height": 40, "rectanglelabels": ["nut", "bolt"]}
    results = [{"type": "rectanglelabels", "value": value}, 7, {"type": [], "value": value}]
    results.append({"type": "choices", "value": {"choices": ["night", "rain"]}})  # of the whole picture
    file = pictures.with_name("export.json")
    file.write_text(json.dumps([{"id": 5, "data": {"image": "a.png"}, "annotations": [{"result": results}]}]))
    data = read_annotation_files(file, pictures)["train"]
    assert [entry["bbox"] for entry in data.annotations] == [[2, 2, 10, 8]]
    assert any("task 5 result 1: 'bolt', a label beside the first" in case for case in data.lost)
    assert not any("rain" in case for case in data.lost)


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
        ({"annotations/person_keypoints_default.json": "images"}, ["default"]),
        ({f"{split}/labels.json": split for split in ROBOFLOW}, ROBOFLOW),
        ({f"{split}/annotations.json": split for split in DATUMARO}, DATUMARO),
        ({"annotations/annotations.json": "images"}, ["train"]),
        ({"annotations/instances.json": "images"}, ["train"]),
    ],
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


def test_a_folder_of_splits_is_trained_and_validated_with(pictures, tmp_path):
    folder = tmp_path / "export"
    for split in (*ROBOFLOW, "test"):
        shutil.copytree(pictures, folder / split)
        (folder / split / "_annotations.coco.json").write_text(coco())
    data = read_annotation_files(folder, val_fraction=0.5)
    assert list(data) == ["train", "val"]
    assert data["train"].lost == ["splits neither to train nor to validate with left out: 1 (test: 3 images)"]
    for split, place in {"train": "train", "val": "valid"}.items():
        assert_read(data[split], with_masks=True)
        assert data[split].image_dir == folder
        names = [image["file_name"] for image in data[split].images.values()]
        assert names == [f"{place}/{name}.png" for name in "abc"]
    with pytest.raises(InputError, match=r"test.*json or .*train.*json\? Name one of the files"):
        read_annotation_files(folder, folder)
    shutil.rmtree(folder / "train")
    with pytest.raises(InputError, match="has test, valid: name the annotations to train with"):
        read_annotation_files(folder)
    for split in ("train1", "train2"):
        shutil.copytree(folder / "valid", folder / split)
    with pytest.raises(
        InputError, match="has test, train1, train2, valid: name the annotations to train with"
    ):
        read_annotation_files(folder)


def test_a_second_file_of_a_split_is_never_lost(pictures, tmp_path):
    for split in ROBOFLOW:
        shutil.copytree(pictures, tmp_path / split)
        (tmp_path / split / "_annotations.coco.json").write_text(coco())
    (tmp_path / "train" / "more.json").write_text(coco())
    for first in ("_annotations.coco.json", "first.json"):
        with pytest.raises(InputError, match=rf"{re.escape(first)} or .*more\.json\? Name one of the files"):
            read_coco_folder(tmp_path)
        (tmp_path / "train" / first).rename(tmp_path / "train" / "first.json")


def test_labels_of_another_kind_do_not_replace_the_file_of_a_split(pictures, tmp_path):
    for split in ROBOFLOW:
        shutil.copytree(pictures, tmp_path / split)
        (tmp_path / split / "_annotations.coco.json").write_text(coco())
        (tmp_path / split / "a.txt").write_text("0 0.5 0.5 0.1 0.1")
    assert_read(read_annotation_files(tmp_path)["train"], with_masks=True)


def test_categories_of_the_same_names_are_the_same_whatever_their_ids(pictures, tmp_path):
    for split in ROBOFLOW:
        shutil.copytree(pictures, tmp_path / split)
        content = json.loads(coco())
        if split == "valid":
            for entry in content["categories"]:
                entry["id"] = 1 - entry["id"]
            for entry in content["annotations"]:
                entry["category_id"] = 1 - entry["category_id"]
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(content))
    data = read_annotation_files(tmp_path)
    names = [[entry["name"] for entry in classes_of({split: data[split]})] for split in data]
    assert names[0] == names[1] == [entry["name"] for entry in classes_of(data)]
    for split in data:
        assert_read(data[split], with_masks=True)


@pytest.mark.parametrize("empty", [None, "valid"])
def test_a_folder_of_one_split_is_drawn_from(pictures, tmp_path, empty):
    folder = tmp_path / "export"
    (folder / "annotations").mkdir(parents=True)
    shutil.copytree(pictures, folder / "images")
    (folder / "annotations" / "instances_default.json").write_text(coco())
    if empty:
        nothing = json.loads(coco()) | {"annotations": []}
        (folder / "annotations" / f"instances_{empty}.json").write_text(json.dumps(nothing))
    drawn = read_annotation_files(folder, val_fraction=0.5)
    names = [image["file_name"] for data in drawn.values() for image in data.images.values()]
    assert sorted(names) == ["images/a.png", "images/b.png", "images/c.png"]
    assert list(drawn) == ["train", "val"]
    assert any("splits without annotations" in line for line in drawn["train"].lost) is bool(empty)


def test_splits_without_annotations_are_left_out_and_named(pictures, tmp_path):
    folder = tmp_path / "export"
    for split in (*ROBOFLOW, "test"):
        shutil.copytree(pictures, folder / split)
        (folder / split / "_annotations.coco.json").write_text(coco())
    empty = json.loads(coco()) | {"annotations": []}
    (folder / "test" / "_annotations.coco.json").write_text(json.dumps(empty))
    read = read_coco_folder(folder)
    assert list(read) == ROBOFLOW
    assert "splits without annotations left out: 1 (test: " in read["train"].lost[0]
    with pytest.raises(InputError, match="has no annotations: the list is empty"):
        read_coco_folder(folder, ["test"])
    (folder / "train" / "_annotations.coco.json").write_text(json.dumps(empty))
    with pytest.raises(InputError, match=r"train.* has no annotations: the list is empty"):
        read_coco_folder(folder)


@pytest.mark.parametrize(
    ("places", "splits"),
    [(["obj_train_data"], ["train"]), (ROBOFLOW, ROBOFLOW), (["."], ["train"])],
    ids=["CVAT's YOLO", "Roboflow's VOC", "LabelMe"],
)
@pytest.mark.parametrize("suffix", ["txt", "xml", "json"])
def test_files_beside_their_pictures_are_found(pictures, tmp_path, places, splits, suffix):
    folder = tmp_path / "export"
    for place in places:
        shutil.copytree(pictures, folder / place)
        files = {
            "txt": yolo(pictures.with_name("txt"), False),
            "xml": voc(pictures, "a", [("nut", bndbox(3, 3, 12, 10))]),
            "json": labelme(pictures, "a", [{"label": "0", "points": [[1, 2], [9, 2], [9, 9]]}]),
        }
        shutil.copytree(files[suffix], folder / place, dirs_exist_ok=True)
    (folder / "train.txt").write_text("obj_train_data/a.png")
    read = read_coco_folder(folder)
    assert list(read) == splits and all(data.annotations and not data.lost for data in read.values())


def test_notes_beside_labels_are_not_the_annotations(pictures):
    yolo(pictures.with_name("labels"), True)
    pictures.with_name("classes.txt").write_text("nut\nbolt")
    pictures.with_name("notes.json").write_text('{"categories": []}')
    (pictures / "metadata.json").write_text("{}")
    assert_read(read_coco_folder(pictures.parent)["train"], with_masks=True)


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
        ('{"shapes": [], "imagePath": "a.png"}', "is LabelMe's JSON of one picture: name the folder of all"),
        ('[{"image": "a.png", "annotator": 1, "label": []}]', "is Label Studio's JSON-MIN: export the annot"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}]', "is a list of results, without images"),
        ('{"annotations": [{"segments_info": []}]}', "is of COCO's panoptic segmentation, not of its instan"),
        (
            '{"type": "dataset"}\n{"type": "image"}\n',
            "is NDJSON, .*; it must hold .* COCO's or MegaDetector's JSON",
        ),
    ],
)
def test_formats_that_are_not_read_are_named(pictures, tmp_path, text, words):
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(InputError, match=words):
        read_annotation_files(tmp_path / "export.json", pictures)


def test_a_table_is_named(pictures, tmp_path):
    (tmp_path / "boxes.csv").write_text("image,xmin\na.png,1")
    with pytest.raises(
        InputError, match=r"is a table; it must hold annotations or detections, such as COCO's or"
    ):
        read_annotation_files(tmp_path / "boxes.csv", pictures)


def test_the_only_file_of_a_folder_has_the_annotations_of_all_pictures(pictures, tmp_path):
    image = {"id": 1, "file_name": "a.png", "width": 40, "height": 20}
    entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    content = {"images": [image], "annotations": [entry], "categories": [{"id": 1, "name": "bolt"}]}
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "annotations.json").write_text(json.dumps(content))
    assert len(read_annotation_files(tmp_path / "set", pictures)["train"].annotations) == 1
    assert load_annotations(tmp_path / "set", None) == content


def test_a_folder_that_is_not_recognised_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no annotations of train: .*name them by --annotations"):
        find_splits(tmp_path)
    for name in ("one.json", "two.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=r"one\.json or .*two\.json\? Name one"):
        find_splits(tmp_path)
