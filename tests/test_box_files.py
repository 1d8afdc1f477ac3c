import json
from pathlib import Path

import pytest
from PIL import Image

from deepmac.core.errors import InputError
from deepmac.jobs.box_files import boxes_from_texts, read_boxes
from deepmac.jobs.pictures import Picture

COCO_ANNOTATIONS = {
    "images": [{"id": 5, "file_name": "a.jpg"}, {"id": 6, "file_name": "sub/b.jpg"}],
    "annotations": [
        {"image_id": 5, "bbox": [1, 2, 3, 4], "category_id": 18},
        {"image_id": 5, "bbox": [5, 6, 7, 8], "category_id": 1, "iscrowd": 1},
        {"image_id": 6, "bbox": [9, 10, 11, 12], "category_id": 2, "iscrowd": 0},
    ],
    "categories": [],
}
BOX = [0.1, 0.2, 0.3, 0.4]
MEGADETECTOR = {
    "images": [
        {
            "file": "station1\\IMG_1.JPG",
            "detections": [
                {"category": "1", "conf": 0.9, "bbox": [0.1, 0.2, 0.3, 0.4]},
                {"category": "2", "conf": 0.05, "bbox": [0, 0, 1, 1]},
            ],
        },
        {"file": "station2/IMG_1.JPG", "detections": []},
        {"file": "broken.jpg", "failure": "image access failure", "detections": None},
    ],
    "detection_categories": {"1": "animal", "2": "person"},
    "info": {"format_version": "1.3"},
}


def _write(tmp_path, content, name="boxes.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def _of(file, path, name=None):
    [boxes] = file.of([Picture(Path(path), Path(name or Path(path).name))])
    return boxes


def test_coco_annotations_without_crowds(tmp_path):
    file = read_boxes(_write(tmp_path, COCO_ANNOTATIONS))
    boxes = _of(file, "/data/a.jpg")
    assert boxes.boxes == [[1, 2, 3, 4]]
    assert (boxes.box_format, boxes.image_id, boxes.category_ids, boxes.scores) == ("xywh", 5, [18], [None])
    assert _of(file, "/data/sub/b.jpg").boxes == [[9, 10, 11, 12]]
    assert _of(file, "/data/c.jpg") is None
    assert file.problems == ["crowd regions, which are no objects, left out: 1"]


def test_pictures_of_the_file_that_are_not_given_are_named_and_those_its_detector_failed_on(tmp_path):
    entries = [
        {"file": "a.jpg", "detections": [{"category": "1", "conf": 0.9, "bbox": [0.1, 0.1, 0.2, 0.2]}]},
        {"file": "b.jpg", "failure": "truncated"},
        {"file": "c.jpg", "detections": [{"category": "1", "conf": 0.9, "bbox": [0.1, 0.1, 0.2, 0.2]}]},
    ]
    document = {"images": entries, "detection_categories": {"1": "animal"}, "info": {}}
    file = read_boxes(_write(tmp_path, document))
    file.of([Picture(Path("a.jpg"), Path("a.jpg"))])
    assert not file.problems, "who names one picture wants that one"
    file.of([Picture(Path(name), Path(name)) for name in ("a.jpg", "b.jpg")])
    assert file.problems == [
        "pictures on which the detector failed: 1 (b.jpg)",
        f"pictures in {file.path.name} that are not among these: 1 (c.jpg)",
    ]


def test_coco_results_by_id(tmp_path):
    entries = [
        {"image_id": 42, "bbox": [1, 2, 3, 4], "category_id": 3, "score": 0.5},
        {"image_id": 42, "bbox": [5, 6, 7, 8], "category_id": 4, "score": 0.25},
        {"image_id": "8f3a-11", "bbox": [0, 0, 9, 9]},
    ]
    file = read_boxes(_write(tmp_path, entries), min_score=0.3)
    boxes = _of(file, "/val2017/000000000042.jpg")
    assert (boxes.boxes, boxes.scores, boxes.image_id) == ([[1, 2, 3, 4]], [0.5], 42)
    assert _of(file, "42.png") == boxes
    assert _of(file, "8f3a-11.jpg").boxes == [[0, 0, 9, 9]]
    assert _of(file, "421.jpg") is None


def test_coco_results_by_name(tmp_path):
    file = read_boxes(_write(tmp_path, [{"file_name": "x/a.jpg", "image_id": 7, "bbox": [1, 2, 3, 4]}]))
    assert _of(file, "/data/x/a.jpg").image_id == 7


def test_megadetector_boxes_become_yxyx(tmp_path):
    file = read_boxes(_write(tmp_path, MEGADETECTOR), min_score=0.1)
    boxes = _of(file, "/data/station1/IMG_1.JPG")
    assert boxes.box_format == "yxyx_norm"
    assert boxes.boxes == [pytest.approx([0.2, 0.1, 0.6, 0.4])]
    assert (boxes.category_ids, boxes.scores, boxes.image_id) == ([1], [0.9], None)
    assert _of(file, "/data/station2/IMG_1.JPG").boxes == []
    assert _of(file, "/data/broken.jpg").boxes == []
    with pytest.raises(InputError, match=r"station1/IMG_1\.JPG and station2/IMG_1\.JPG"):
        _of(file, "/data/IMG_1.JPG")
    assert _of(file, "/data/station3/IMG_1.JPG", "station3/IMG_1.JPG") is None


def test_megadetector_may_name_pictures_by_id(tmp_path):
    detection = {"category": "2", "bbox": [0.1, 0.2, 0.3, 0.4], "conf": 0.9}
    images = [{"id": "8f3e-11ea", "max_detection_conf": 0.9, "detections": [detection]}]
    file = read_boxes(_write(tmp_path, {"images": images, "detection_categories": {"2": "person"}}))
    boxes = _of(file, "/data/train/8f3e-11ea.jpg")
    assert (boxes.boxes, boxes.category_ids) == ([pytest.approx([0.2, 0.1, 0.6, 0.4])], [2])


@pytest.mark.parametrize(
    ("box_format", "header", "values"),
    [
        ("yxyx_norm", "image, ymin, xmin, ymax, xmax", [1.0, 2.0, 3.0, 4.0]),
        ("xyxy", "ymax,IMAGE,xmin,ymin,xmax", [3.0, 4.0, 5.0, 9.0]),
        ("xywh", "file_name,xmin,ymin,width,height", [1.0, 2.0, 3.0, 4.0]),
    ],
)
def test_csv_columns_are_found_by_name(tmp_path, box_format, header, values):
    row = "9,a.jpg,3,4,5" if header.startswith("ymax") else "a.jpg,1,2,3,4"
    file = read_boxes(_write(tmp_path, f"\ufeff{header}\n{row}\n{row}\n", "boxes.csv"), box_format)
    boxes = _of(file, "a.jpg")
    assert boxes.boxes == [values, values]
    assert boxes.box_format == box_format


def test_csv_with_categories_and_scores(tmp_path):
    text = 'image,ymin,xmin,ymax,xmax,category_id,score\n"a,b.jpg",0,0,1,1,7,0.9\n"a,b.jpg",0,0,1,1,8,0.1\n'
    boxes = _of(read_boxes(_write(tmp_path, text, "boxes.csv"), min_score=0.5), "a,b.jpg")
    assert (boxes.category_ids, boxes.scores) == ([7], [0.9])


def test_boxes_without_a_score_beside_others_are_told(tmp_path):
    header = "image,ymin,xmin,ymax,xmax,score\n"
    rows = ["a.jpg,0,0,1,1,0.9\n", "a.jpg,0,0,1,1,\n"]
    for text, told in ((header + rows[0], 0), (header + rows[1], 0), (header + rows[0] + rows[1], 1)):
        file = read_boxes(_write(tmp_path, text, "boxes.csv"))
        assert file.problems == ["1 boxes have no score, others do: theirs is their mask's quality"] * told
    assert _of(file, "a.jpg").scores == [0.9, None]


def test_a_picture_is_found_by_the_longest_part_of_its_path_that_fits(tmp_path):
    rows = "".join(f"{name},{index},0,9,1\n" for index, name in enumerate(["p.jpg", "a/p.jpg", "b/p.jpg"]))
    file = read_boxes(_write(tmp_path, "image,ymin,xmin,ymax,xmax\n" + rows, "boxes.csv"))
    assert _of(file, "/data/a/p.jpg").boxes[0][0] == 1
    assert _of(file, "/data/b/p.jpg").boxes[0][0] == 2
    assert _of(file, "/data/c/p.jpg").boxes[0][0] == 0


def test_paths_of_another_machine_fit_by_their_end(tmp_path):
    entries = [
        {"file_name": "/mnt/cameras/a/p.jpg", "bbox": [1, 1, 1, 1]},
        {"file_name": "/mnt/cameras/b/p.jpg", "bbox": [2, 2, 2, 2]},
    ]
    file = read_boxes(_write(tmp_path, entries))
    assert _of(file, "/home/me/a/p.jpg", "a/p.jpg").boxes == [[1, 1, 1, 1]]
    assert _of(file, "/home/me/c/p.jpg", "c/p.jpg") is None
    with pytest.raises(InputError, match=r"a/p\.jpg and .*b/p\.jpg"):
        _of(file, "/home/me/p.jpg", "p.jpg")


def test_pictures_of_a_folder_that_is_called_otherwise_are_found(tmp_path):
    file = read_boxes(_write(tmp_path, [{"file_name": "images/a.jpg", "bbox": [1, 2, 3, 4]}]))
    picture, copy = (Picture(Path(f"/data/pics/{name}"), Path(name)) for name in ("a.jpg", "b/a.jpg"))
    assert [found and found.boxes for found in file.of([copy, picture])] == [None, [[1, 2, 3, 4]]]
    exact = Picture(Path("/data/images/a.jpg"), Path("a.jpg"))
    assert [bool(found) for found in file.of([picture, exact])] == [False, True]
    with pytest.raises(InputError, match=r"images/a\.jpg could be /data/pics/a\.jpg or /data/x/a\.jpg"):
        file.of([picture, Picture(Path("/data/x/a.jpg"), Path("a.jpg"))])
    file = read_boxes(_write(tmp_path, [{"file_name": "a.jpg", "bbox": [1, 2, 3, 4]}]))
    assert [bool(found) for found in file.of([copy, picture])] == [False, True]
    with pytest.raises(InputError, match=r"a\.jpg could be /data/pics/b/a\.jpg or /data/pics/c/a\.jpg"):
        file.of([copy, Picture(Path("/data/pics/c/a.jpg"), Path("c/a.jpg"))])


def test_categories_that_are_names_get_numbers_of_their_own(tmp_path):
    rows = "".join(f"a.jpg,0,0,1,1,{label}\n" for label in ("A", "1", "B", "2", "A"))
    file = read_boxes(_write(tmp_path, f"image,ymin,xmin,ymax,xmax,label\n{rows}", "boxes.csv"))
    assert _of(file, "a.jpg").category_ids == [3, 1, 4, 2, 3]
    assert file.category_names == {"3": "A", "4": "B"}
    found = [{"conf": 1, "bbox": BOX, "category": kind} for kind in ("animal", "cat", "2", 1)]
    images = [{"file": "a.jpg", "detections": found}]
    file = read_boxes(_write(tmp_path, MEGADETECTOR | {"images": images}))
    assert _of(file, "a.jpg").category_ids == [1, 3, 2, 1]
    assert file.category_names == {"1": "animal", "2": "person", "3": "cat"}
    names = [{"id": 1, "name": "2"}, {"id": 2, "name": "1"}]
    file = read_boxes(
        _write(tmp_path, COCO_ANNOTATIONS | {"categories": [*names, {"id": 18, "name": "dog"}]})
    )
    assert _of(file, "sub/b.jpg").category_ids == [2]


@pytest.mark.parametrize(
    ("box_format", "columns", "row", "expected"),
    [
        ("xyxy", "xmin,ymin,xmax,ymax", "9,8,3,2", [3, 2, 9, 8]),
        ("yxyx_norm", "xmin,ymin,xmax,ymax", "0.5,0.5,0.25,0.75", [0.5, 0.25, 0.75, 0.5]),
        ("xywh", "xmin,ymin,width,height", "9,8,-6,2.5", [3, 8, 6, 2.5]),
    ],
)
def test_sides_may_run_backwards(tmp_path, box_format, columns, row, expected):
    file = read_boxes(_write(tmp_path, f"image,{columns}\na.jpg,{row}\n", "boxes.csv"), box_format)
    assert _of(file, "a.jpg").boxes == [expected]
    assert [problem[:30] for problem in file.problems] == ["corners sorted: box 0 of a.jpg"]
    found = [{"conf": 1, "bbox": [0.5, 0.5, -0.25, 0.25], "category": 1}]
    images = [{"file": "a.jpg", "detections": found}]
    assert _of(read_boxes(_write(tmp_path, MEGADETECTOR | {"images": images})), "a.jpg").boxes == [
        [0.5, 0.25, 0.75, 0.5]
    ]


@pytest.mark.parametrize(("image_id", "names"), [(0, ["000000.jpg", "0.jpg"]), ("42", ["042.jpg", "42.jpg"])])
def test_a_picture_is_found_by_its_number_whatever_its_zeros(tmp_path, image_id, names):
    file = read_boxes(_write(tmp_path, [{"image_id": image_id, "bbox": [1, 2, 3, 4]}]))
    assert [_of(file, name).image_id for name in names] == [image_id] * 2


@pytest.mark.parametrize("field", ["filename", "path", "name", "id"])
def test_pictures_may_be_named_elsewhere_than_in_file_name(tmp_path, field):
    images = [{"id": 1} | {field: "sub/a.jpg"}, {"id": 2, "file_name": "b.jpg"}]
    annotations = [{"image_id": one["id"], "bbox": [i, 2, 3, 4]} for i, one in enumerate(images, start=1)]
    file = read_boxes(_write(tmp_path, {"images": images, "annotations": annotations}))
    assert [_of(file, name).boxes[0][0] for name in ("sub/a.jpg", "b.jpg")] == [1, 2]
    if field == "id":
        file = read_boxes(_write(tmp_path, annotations))
        assert _of(file, "/data/sub/a.jpg").image_id == "sub/a.jpg"


def test_a_line_without_a_picture_is_told(tmp_path):
    text = "image\tymin\txmin\tymax\txmax\na.jpg\t0\t0\t1\t1\n\t0\t0\t1\t1\n"
    file = read_boxes(_write(tmp_path, text, "boxes.tsv"))
    assert file.problems == ["left out: line 3 is malformed: its image is empty"]


def test_detections_without_a_category_are_unknown(tmp_path):
    found = [{"conf": 1, "bbox": BOX}, {"conf": 1, "bbox": BOX, "category": None}]
    images = [{"file": "a.jpg", "detections": found}]
    file = read_boxes(_write(tmp_path, MEGADETECTOR | {"images": images}))
    assert _of(file, "a.jpg").category_ids == [0, 0]
    assert file.category_names == {"1": "animal", "2": "person", "0": "unknown"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([{"bbox": None}, {"bbox": [1, 2, 0, 4]}, {"bbox": [1, 2, float("nan"), 4]}, 7], 3),
        ([{"image_id": 77}], 1),
        ([{"bbox": None, "segmentation": [[2, 3, 7, 3, 7, 9]]}], 0),
        ([{"category_id": "cat"}, {"category_id": None}], 0),
    ],
)
def test_a_bad_box_costs_that_box(tmp_path, changes, expected):
    good = {"image_id": 5, "bbox": [1, 2, 3, 4], "score": 0.5}
    entries = [good, *(good | entry if isinstance(entry, dict) else entry for entry in changes)]
    document = {"images": [{"id": 5, "file_name": "a.jpg"}], "annotations": entries}
    for content in (document, entries):
        file = read_boxes(_write(tmp_path, content))
        boxes = _of(file, "5.jpg" if content is entries else "a.jpg")
        lost = 0 if boxes is None else len(entries) - len(boxes.boxes)
        assert lost == expected + (7 in changes)
        assert content is entries or bool(file.problems) == bool(lost)


@pytest.mark.parametrize(
    ("annotated", "name", "path"),
    [
        ("sub\\a.JPG", "a.jpg", "/data/sub/a.jpg"),
        ("https://x.org/b/a.jpg?alt=media", "a.jpg", "/data/a.jpg"),
        ("a", "a.jpg", "/data/a.jpg"),
        ("pi\u00e8ce.jpg", "pie\u0300ce.jpg", "/data/pie\u0300ce.jpg"),
        ("D:\\x\\cam\\a.jpg", "cam/a.jpg", "/data/cam/a.jpg"),
        ("..\\pics\\a.jpg", "a.jpg", "/data/pics/a.jpg"),
        ("night%201/a.jpg", "night 1/a.jpg", "/data/night 1/a.jpg"),
        ("night%201/a.jpg", "a.jpg", "/data/elsewhere/a.jpg"),
        ("/data/local-files/?d=proj%2Fa.jpg", "a.jpg", "/data/proj/a.jpg"),
        ("/data/upload/1/3fa8c1d2-a.jpg", "a.jpg", "/data/a.jpg"),
        ("/data/upload/1/3fa8c1d2-a.jpg", "sub/a.jpg", "/data/sub/a.jpg"),
        ("https://x.org/data/upload/12/a.jpg", "sub/a.jpg", "/data/sub/a.jpg"),
    ],
)
def test_names_of_other_machines_are_found(tmp_path, annotated, name, path):
    file = read_boxes(_write(tmp_path, [{"file_name": annotated, "bbox": [1, 2, 3, 4]}]))
    assert _of(file, path, name).boxes == [[1, 2, 3, 4]]


def test_ids_that_are_texts_stay_in_results(tmp_path):
    images = [{"id": "first", "file_name": "a.jpg"}, {"id": "00", "file_name": "b.jpg"}]
    annotations = [{"image_id": image["id"], "bbox": [1, 2, 3, 4]} for image in images]
    file = read_boxes(_write(tmp_path, {"images": images, "annotations": annotations}))
    assert [_of(file, name).image_id for name in ("a.jpg", "b.jpg")] == ["first", "00"]


def test_pytorch_wildlife_has_corners_in_pixels(tmp_path):
    entry = {"img_id": "cam\\a.jpg", "bbox": [[1, 2, 30, 40]], "category": [0], "confidence": [0.4]}
    boxes = _of(read_boxes(_write(tmp_path, {"annotations": [entry], "categories": []})), "/data/cam/a.jpg")
    assert (boxes.box_format, boxes.boxes, boxes.scores) == ("xyxy", [[1, 2, 30, 40]], [0.4])
    bad = entry | {"bbox": [[1, 2, 3], [1, 2, 30, 40]], "confidence": None}
    file = read_boxes(
        _write(tmp_path, {"annotations": [7, bad], "categories": [{"id": 0, "name": "animal"}]})
    )
    assert _of(file, "/data/cam/a.jpg").boxes == [[1, 2, 30, 40]] and len(file.problems) == 1


@pytest.mark.parametrize(
    "text",
    [
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,9,9,bolt,1.5,2,3,4\na.jpg,9,9,nut,1.5,2,3,4\n",
        "image;xmin;ymin;xmax;ymax;label\na.jpg;1,5;2;3;4;bolt\na.jpg;1,5;2;3;4;nut\n",
        "relative_path\tlabel\tbbox_left\tbbox_top\tbbox_right\tbbox_bottom\n"
        + "a.jpg\tx\t1.5\t2\t3\t4\n" * 2,
    ],
    ids=["TF Object Detection", "spreadsheet", "AddaxAI"],
)
def test_tables_of_other_programs_are_read(tmp_path, text):
    file = read_boxes(_write(tmp_path, text, "boxes.csv"), "xyxy")
    boxes = _of(file, "a.jpg")
    assert boxes.boxes == [[1.5, 2, 3, 4]] * 2
    assert boxes.category_ids == ([1, 1] if "relative" in text else [1, 2])
    assert file.category_names == ({"1": "x"} if "relative" in text else {"1": "bolt", "2": "nut"})


def test_only_numbers_lose_their_comma_and_empty_cells_beyond_the_header_are_nothing(tmp_path):
    text = "image;xmin;ymin;xmax;ymax;label\na,1;1,5;2;3;4;size 1,5;;\n"
    file = read_boxes(_write(tmp_path, text, "boxes.csv"), "xyxy")
    assert _of(file, "a,1").boxes == [[1.5, 2, 3, 4]] and file.category_names == {"1": "size 1,5"}


def test_a_malformed_line_of_a_table_costs_that_line(tmp_path):
    text = "image,xmin,ymin,xmax,ymax,score\na,1,2,3,4,90%\na,1,two,3,4,1\na,1,2,3,4,high\na,1,2,3,4,\n"
    file = read_boxes(_write(tmp_path, text, "boxes.csv"), "xyxy")
    assert _of(file, "a").boxes == [[1, 2, 3, 4]] * 2 and _of(file, "a").scores == [0.9, None]
    assert [problem[:33] for problem in file.problems[:2]] == [
        "left out: line 3 is malformed: co",
        "left out: line 4 is malformed: co",
    ]


def test_a_folder_of_yolo_labels_is_read(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 20)).save(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.2")
    file = read_boxes(tmp_path / "labels", image_dir=tmp_path / "images")
    assert _of(file, tmp_path / "images" / "a.jpg").boxes == [pytest.approx([18, 8, 4, 4])]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not valid JSON"),
        ("3", "holds no JSON object"),
        ([{"image": "a.jpg", "annotations": []}], "is CreateML's JSON: export .* COCO"),
        ({"_via_img_metadata": {}}, "VGG Image Annotator's own JSON: export"),
        ({"images": []}, "no known format"),
        ([], "has no images"),
        ([{"bbox": [1, 2, 3, 4]}], "no usable annotation.*unknown images"),
        ([{"image_id": 1, "bbox": None}], "no usable annotation.*without a box"),
        ([7], "has no images"),
        (COCO_ANNOTATIONS | {"annotations": [{"image_id": 9, "bbox": [1, 2, 3, 4]}]}, "unknown images: 1"),
        ({"images": ["a.jpg"], "annotations": [{}]}, "no usable image: entries that cannot be read: 1"),
    ],
)
def test_malformed_json_is_an_input_error(tmp_path, content, words):
    with pytest.raises(InputError, match=words):
        read_boxes(_write(tmp_path, content))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "needs a header"),
        ("a.jpg,0,0,1,1\n", "needs a header"),
        ("image,xmin,ymin,width,height\n", "ymin, xmin, ymax, xmax for yxyx_norm"),
        ("image,ymin,xmin,ymax,xmax\na.jpg,0,,1,1\na.jpg,0,zero,1,1\n", "line 3"),
        ("image,ymin,xmin,ymax,xmax\na.jpg,0,0\n", "line 2"),
        ("image,ymin,xmin,ymax,xmax\na.jpg,0,1,0,2,0,5,0,6\n", "line 2 .*: more values than columns"),
    ],
)
def test_malformed_tables_are_an_input_error(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        read_boxes(_write(tmp_path, text, "boxes.csv"))


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_boxes(tmp_path / "none.json")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not valid JSON"):
        read_boxes(tmp_path / "a.json")
    with pytest.raises(InputError, match="unknown box format"):
        read_boxes(tmp_path / "none.csv", "yxyx")


def test_a_file_can_say_what_it_holds(tmp_path):
    assert "first picture is station1/IMG_1.JPG" in read_boxes(_write(tmp_path, MEGADETECTOR)).describe()
    assert (
        "first picture is 42"
        in read_boxes(_write(tmp_path, [{"image_id": 42, "bbox": [1, 2, 3, 4]}])).describe()
    )
    assert "no picture" in read_boxes(_write(tmp_path, MEGADETECTOR | {"images": []})).describe()


def test_boxes_on_the_command_line():
    boxes = boxes_from_texts(["0.1,0.2,0.3,0.4", " 0, 0, 1, 1 "], "yxyx_norm")
    assert boxes.boxes == [[0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]]
    assert boxes_from_texts(["10,20,30,40"], "xywh").box_format == "xywh"


@pytest.mark.parametrize("text", ["0,0,1", "0,0,1,1,1", "a,b,c,d", "", "0 0 1 1"])
def test_a_text_that_is_no_box_is_named(text):
    with pytest.raises(InputError, match="box 1 is not four numbers"):
        boxes_from_texts(["0,0,1,1", text], "yxyx_norm")


def test_a_box_no_picture_can_have_is_refused_at_once():
    with pytest.raises(InputError, match=r"box 1 .* inverted"):
        boxes_from_texts(["0,0,1,1", "1,0,0,1"], "yxyx_norm")
