import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import command_line
import numpy as np
import pytest
import tiny_model
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

BOX = "0.1,0.2,0.7,0.8"


@pytest.fixture
def photos(tmp_path, loads):
    """A folder of three pictures, two with the same name."""
    for seed, name in enumerate(["a.png", "b.jpg", "night/a.png"]):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tiny_model.picture(seed)).save(path)
    return tmp_path / "photos"


def _segment(*arguments):
    return command_line.run("segment", *arguments)


def _files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}


def _three(name):
    return [f"{name}_labels.png", f"{name}_masks.json", f"{name}_overlay.png"]


def test_objects_are_found_where_no_boxes_are_given(photos, tmp_path, loads):
    out = tmp_path / "out"
    folder = tiny_model.model_dir()
    detect = ("--detect", "--model", folder)
    _segment(photos, *detect, "--min-score", 0.01, "--out", out)
    assert loads == [(str(folder), "auto", None, "tensorflow", 1)]
    assert _files(out) == _three("a") + _three("b") + _three("night/a")
    expected = tiny_model.predictor().detect(photos / "b.jpg", min_score=0.01)
    results = json.loads((out / "b_masks.json").read_text())
    assert [entry["category_name"] for entry in results] == expected.names
    assert [entry["category_id"] for entry in results] == expected.category_ids.tolist()
    assert "3 there already" in _segment(photos, *detect, "--min-score", 0.01, "--out", out).stdout
    nothing = _segment(photos, *detect, "--min-score", 2, "--out", tmp_path / "nothing").stderr
    assert "no object has a score of 2.0 or more: try a lower --min-score" in nothing
    _segment(photos, *detect, "--min-score", 2, "--out", tmp_path / "nothing", "--together", "coco")
    together = json.loads((tmp_path / "nothing" / "annotations.json").read_text())
    classes = {entry["id"]: entry["name"] for entry in together["categories"]}
    assert classes.keys() >= set(expected.category_ids.tolist()), "whether or not they were found"
    assert "--detect" in command_line.refused("segment", photos, "--detect", "--box", BOX, "--out", out)
    loads.clear()
    assert "mini finds no objects" in command_line.refused("segment", photos, "--detect", "--out", out)
    assert not loads, "no runtime is loaded to say so"


def test_the_masks_of_all_pictures_become_one_data_set(photos, tmp_path):
    """By their names in the file of boxes; polygons cover what run lengths do, but for halves of pixels."""
    boxes = [(name, name, [5, 10, 30, 25], kind) for name, kind in (("a.png", 7), ("night/a.png", 3))]
    content = {
        "images": [{"id": key, "file_name": name, "width": 80, "height": 48} for key, name, *_ in boxes],
        "annotations": [{"image_id": key, "bbox": box, "category_id": kind} for key, _, box, kind in boxes],
        "categories": [{"id": 7, "name": "nut"}, {"id": 3, "name": "bolt"}, {"id": 5, "name": "gear"}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    masks = {}
    for how in ("coco", "polygons", "yolo"):
        out = tmp_path / how
        options = ("--boxes", tmp_path / "boxes.json", "--out", out, "--together", how)
        _segment(photos, *options)
        if how != "yolo":
            assert "2 there already" in _segment(photos, *options).stdout
            coco = COCO(str(out / "annotations.json"))
            assert sorted((one["id"], one["name"]) for one in coco.cats.values()) == [
                (3, "bolt"),
                (5, "gear"),
                (7, "nut"),
            ]
            named = {coco.imgs[one["image_id"]]["file_name"]: one for one in coco.anns.values()}
            assert {name: one["category_id"] for name, one in named.items()} == {"a.png": 7, "night/a.png": 3}
            masks[how] = np.array([coco.annToMask(one) for one in named.values()], bool)
    predictor = tiny_model.predictor()
    expected = predictor.predict([[5, 10, 30, 25]], "xywh", encoded=predictor.encode(photos / "a.png"))
    np.testing.assert_array_equal(masks["coco"][0], expected.masks[0])
    edge = sum((np.diff(masks["coco"].astype(int), axis=axis) != 0).sum() for axis in (1, 2))
    assert 0 < (masks["polygons"] ^ masks["coco"]).sum() <= edge
    lines = (tmp_path / "yolo" / "yolo" / "labels" / "night" / "a.txt").read_text().split()
    assert lines[0] == "0" and len(lines) >= 7 and all(0 <= float(value) <= 1 for value in lines[1:])
    names = json.loads((tmp_path / "yolo" / "yolo" / "data.yaml").read_text())["names"]
    assert names == ["bolt", "gear", "nut"], "classes keep their numbers, whether or not they were found"
    again = ("segment", photos, "--box", BOX, "--out", tmp_path / "yolo", "--together", "yolo")
    assert "already exists" in command_line.refused(*again)


def test_each_picture_gets_masks_labels_and_overlay(photos, tmp_path):
    out = tmp_path / "out"
    result = _segment(photos, "--box", BOX, "--box", "0,0,0.5,0.5", "--out", out)
    assert result.stdout.startswith("Pictures: 3 segmented (masks: ")
    assert result.stderr == ""
    assert _files(out) == _three("a") + _three("b") + _three("night/a")

    predictor = tiny_model.predictor()
    boxes = [[0.1, 0.2, 0.7, 0.8], [0, 0, 0.5, 0.5]]
    expected = predictor.predict(boxes, encoded=predictor.encode(photos / "night/a.png"))
    results = json.loads((out / "night/a_masks.json").read_text())
    masks = rle.decode([entry["segmentation"] for entry in results]).transpose(2, 0, 1)
    np.testing.assert_array_equal(masks.astype(bool), expected.masks)
    assert [entry["image_id"] for entry in results] == ["night/a.png"] * 2
    assert results[0]["bbox"] == pytest.approx([16, 4.8, 48, 28.8])
    assert [entry["score"] for entry in results] == pytest.approx(expected.quality, abs=1e-4)
    labels = np.asarray(Image.open(out / "night/a_labels.png"))
    np.testing.assert_array_equal(labels, expected.to_label_image())
    overlay = np.asarray(Image.open(out / "night/a_overlay.png"))
    assert overlay.shape == expected.image.shape
    assert (overlay != expected.image).any()


def test_it_goes_on_where_it_stopped(photos, tmp_path, loads):
    out = tmp_path / "out"
    _segment(photos / "a.png", "--box", BOX, "--out", out)
    before = _times(out)
    result = _segment(photos, "--box", BOX, "--out", out)
    assert result.stdout.startswith("Pictures: 2 segmented (masks: ")
    assert {path: time for path, time in _times(out).items() if path in before} == before
    loads.clear()
    assert _segment(photos, "--box", BOX, "--out", out).stdout == f"Pictures: 3 there already; see {out}\n"
    assert loads == []
    result = _segment(photos, "--box", BOX, "--out", out, "--overwrite")
    assert result.stdout.startswith("Pictures: 3 segmented (masks: ")
    assert all(time > before.get(path, 0) for path, time in _times(out).items())


@pytest.mark.parametrize("ending", ["_masks.json", "_labels.png", "_overlay.png"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "garbage"])
def test_damaged_results_are_made_again(photos, tmp_path, ending, damage):
    out = tmp_path / "out"
    _segment(photos / "b.jpg", "--box", BOX, "--out", out)
    path = out / f"b{ending}"
    good = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(good[: len(good) // 2] if damage == "truncated" else b"garbage")
    assert "1 segmented (masks: " in _segment(photos / "b.jpg", "--box", BOX, "--out", out).stdout
    assert _files(out) == _three("b")
    assert path.read_bytes() == good


def test_other_boxes_pictures_and_models_are_not_what_is_there(photos, tmp_path):
    out, picture = tmp_path / "out", photos / "a.png"
    model = tiny_model.model_dir()
    for arguments in (
        ["--box", BOX],
        ["--box", "0.1,0.2,0.7,0.9"],
        ["--box", "8,5,60,40", "--box-format", "xyxy"],
        ["--box", "8,5,60,40", "--box-format", "xywh"],
        ["--box", BOX, "--model", model],
        ["--box", BOX, "--precision", "float32"],
    ):
        for outcome in ("segmented", "there already"):
            result = _segment(picture, *arguments, "--out", out)
            assert result.stdout.startswith(f"Pictures: 1 {outcome}")
    Image.fromarray(tiny_model.picture(9)).save(picture)
    result = _segment(picture, "--box", BOX, "--precision", "float32", "--out", out)
    assert result.stdout.startswith("Pictures: 1 segmented (masks: ")
    assert _files(out) == _three("a")


def test_pictures_of_the_same_name_do_not_collide(photos, tmp_path):
    out = tmp_path / "out"
    both = [photos / "a.png", photos / "night/a.png"]
    result = _segment(*both, "--box", BOX, "--out", out)
    assert result.stdout.startswith("Pictures: 2 segmented (masks: ")
    files = _files(out)
    assert len(files) == 6
    before = _times(out)
    # In whatever order they come, or alone, each is recognised.
    for again in (both[::-1], both[:1], both[1:]):
        assert f"{len(again)} there already" in _segment(*again, "--box", BOX, "--out", out).stdout
    assert _times(out) == before
    _segment(*both, "--box", BOX, "--out", out, "--together", "coco")
    images = json.loads((out / "annotations.json").read_text())["images"]
    assert {Path(image["file_name"]) for image in images} == set(both)
    # One after the other into the same folder.
    one_by_one = tmp_path / "one by one"
    for picture in both:
        _segment(picture, "--box", BOX, "--out", one_by_one)
    assert _files(one_by_one) == files
    # Also names that differ in their ending only.
    Image.fromarray(tiny_model.picture(7)).save(photos / "a.bmp")
    _segment(f"{photos}/a.*", "--box", BOX, "--out", tmp_path / "endings")
    assert len(_files(tmp_path / "endings")) == 6


def test_somebody_elses_file_is_not_overwritten(photos, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    Image.new("L", (3, 3)).save(out / "b_labels.png")
    foreign = (out / "b_labels.png").read_bytes()
    _segment(photos / "b.jpg", "--box", BOX, "--out", out)
    assert (out / "b_labels.png").read_bytes() == foreign
    assert len(_files(out)) == 4


def test_results_among_the_pictures_are_no_pictures(photos, tmp_path):
    for _ in range(2):
        result = _segment(photos, "--box", BOX, "--out", photos)
    assert result.stdout == f"Pictures: 3 there already; see {photos}\n"
    again = _segment(photos, "--box", BOX, "--out", tmp_path / "out")
    assert again.stderr == "skipped: 6 label images and overlays of earlier results\n"
    assert again.stdout.startswith("Pictures: 3 segmented (")


def test_unreadable_pictures_are_skipped_and_reported_at_the_end(photos, tmp_path):
    (photos / "broken.jpg").write_bytes((photos / "b.jpg").read_bytes()[:300])
    out = tmp_path / "out"
    result = _segment(photos, "--box", BOX, "--out", out)
    assert result.stdout.startswith("Pictures: 3 segmented (masks: ")
    assert result.stderr.count("\n") == 1
    assert "skipped: cannot read" in result.stderr
    assert "broken.jpg" in result.stderr
    assert len(_files(out)) == 9

    alone = command_line.refused("segment", photos / "broken.jpg", "--box", BOX, "--out", tmp_path / "other")
    assert alone.startswith("deepmac: cannot read")
    assert not (tmp_path / "other").exists()

    (photos / "worse.jpg").write_text("no picture")
    both = [photos / "broken.jpg", photos / "worse.jpg"]
    result = command_line.run("segment", *both, "--box", BOX, "--out", tmp_path / "other", status=2)
    assert "all 2 pictures were skipped" in result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are texts elsewhere")
def test_names_that_are_no_text_are_segmented_and_named(photos, tmp_path):
    """As archives that were packed with another code page leave them."""
    for name, source in ((b"pi\xe8ce.png", photos / "a.png"), (b"b\xe8d.png", __file__)):
        shutil.copy(source, os.fsencode(photos) + b"/" + name)
    result = _segment(photos, "--box", BOX, "--out", tmp_path / "out", "--together", "polygons")
    assert "4 segmented" in result.stdout and "1 skipped" in result.stdout
    assert r"b\udce8d.png: not a picture" in result.stderr
    images = json.loads((tmp_path / "out" / "annotations.json").read_text())["images"]
    assert os.fsdecode(b"pi\xe8ce.png") in [image["file_name"] for image in images]


def test_boxes_in_a_picture_of_another_size_are_not_used(photos, tmp_path):
    sizes = {"a.png": (80, 60), "b.jpg": None}
    with Image.open(photos / "b.jpg") as picture:
        sizes["b.jpg"] = picture.size
    content = {
        "images": [
            {"id": number, "file_name": name, "width": size[0], "height": size[1]}
            for number, (name, size) in enumerate(sizes.items())
        ],
        "annotations": [{"image_id": number, "bbox": [1, 1, 9, 9], "category_id": 1} for number in range(2)],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    result = _segment(photos, "--boxes", tmp_path / "boxes.json", "--out", tmp_path / "out")
    assert "1 segmented" in result.stdout and "1 without boxes, 1 skipped" in result.stdout
    assert "but annotated as 80 x 60" in result.stderr


def test_boxes_from_a_file(photos, tmp_path):
    names = ("a.png", "night/a.png", "b.jpg")
    boxes = [(31, [10, 10, 20, 20], 5, {}), (32, [30, 5, 40, 30], 6, {"score": 0.5})]
    boxes.append((32, [0, 0, 40, 30], 7, {"score": 0.1}))
    content = {
        "images": [{"id": 31 + index, "file_name": name} for index, name in enumerate(names)],
        "annotations": [
            {"image_id": key, "bbox": box, "category_id": kind, **score} for key, box, kind, score in boxes
        ],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    out = tmp_path / "out"
    result = _segment(photos, "--boxes", tmp_path / "boxes.json", "--min-score", 0.3, "--out", out)
    assert result.stdout.startswith("Pictures: 2 segmented (masks: ")
    (day,) = json.loads((out / "a_masks.json").read_text())
    (night,) = json.loads((out / "night/a_masks.json").read_text())
    assert (day["image_id"], day["category_id"], day["bbox"]) == (31, 5, [10, 10, 20, 20])
    assert (night["image_id"], night["category_id"], night["score"]) == (32, 6, 0.5)


def test_an_unusable_box_costs_no_more_than_itself(photos, tmp_path):
    table = "image,xmin,ymin,xmax,ymax\na.png,50,30,120,90\nb.jpg,5,5,20,20\nb.jpg,30,1,30,20\n"
    (tmp_path / "boxes.csv").write_text(table)
    out = tmp_path / "out"
    arguments = ["--boxes", tmp_path / "boxes.csv", "--box-format", "xyxy", "--out", out]
    result = _segment(photos / "a.png", photos / "b.jpg", *arguments)
    assert result.stdout.startswith("Pictures: 2 segmented (masks: ")
    assert "left out: box 1 of b.jpg" in result.stderr and "[30.0, 1.0, 30.0, 20.0]" in result.stderr
    assert f"{photos / 'a.png'}: clipped to the image: box 0" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "either --box or --boxes"),
        (["--box", BOX, "--boxes", "x.json"], "either --box or --boxes"),
        (["--box", BOX, "--input-size", "0"], "--input-size"),
        (["--box", "0,0,1"], "box 0 is not four numbers"),
        (["--box", BOX, "--box", "0.5,0,0.5,1"], "box 1 [0.5, 0, 0.5, 1] has no area"),
        (["--box", "0,0,nan,1"], "not a finite number"),
        (["--box", "10,10,50,50"], "pixels need the box format xyxy or xywh, percent is to be divided"),
        (["--box", BOX, "--box-format", "xywh"], "numbers from 0 to 1 need yxyx_norm"),
        (["--boxes", "missing.json"], "missing.json"),
        (["--box", BOX, "--box-format", "polar"], "--box-format"),
        (["--box", "90,1,99,2", "--box-format", "xyxy"], "outside the image"),
        (["--box", BOX, "--out", __file__], "'--out': Directory"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(photos, tmp_path, arguments, words):
    assert words in command_line.refused("segment", photos / "a.png", "--out", tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("elsewhere/z.jpg,0,0,1,1", "elsewhere/z.jpg"),
        (
            "a.png,0.5,0,0.5,1",
            "box 0 of a.png, which shows nothing: [0.5, 0.0, 0.5, 1.0] as [ymin, xmin, ymax",
        ),
    ],
)
def test_a_file_without_a_box_of_use_says_what_it_holds(photos, tmp_path, row, words):
    (tmp_path / "boxes.csv").write_text(f"image,ymin,xmin,ymax,xmax\n{row}\n")
    options = ["--boxes", tmp_path / "boxes.csv", "--out", tmp_path / "out"]
    line = command_line.refused("segment", photos, *options)
    assert "no usable boxes for a.png" in line and words in line


def test_pages_that_are_not_segmented_are_told(tmp_path, loads, monkeypatch):
    opened, open_ = [], Image.open
    monkeypatch.setattr(Image, "open", lambda file, *more: opened.append(file) or open_(file, *more))
    pages = [Image.fromarray(tiny_model.picture(seed)) for seed in range(2)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    result = _segment(tmp_path / "stack.tif", "--box", BOX, "--out", tmp_path / "out")
    assert result.stderr == f"{tmp_path / 'stack.tif'}: only the first of its 2 pages is segmented\n"
    assert opened.count(tmp_path / "stack.tif") == 1, "pictures on slow disks are not opened for their pages"
    truncated = tmp_path / "truncated.tif"
    truncated.write_bytes((tmp_path / "stack.tif").read_bytes()[:3000])
    result = _segment(tmp_path / "*.tif", "--box", BOX, "--out", tmp_path / "out")
    assert result.stdout.startswith("Pictures: 1 there already, 1 skipped")
    assert f"skipped: cannot read {truncated}: " in result.stderr


def test_the_command_itself(tmp_path):
    Image.fromarray(tiny_model.picture()).save(tmp_path / "a.png")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}

    def run(*arguments):
        start = "from deepmac.cli import main; main()"
        program = [sys.executable, "-c", start, "segment", *map(str, arguments)]
        return subprocess.run(
            program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    done = run("a.png", "--box", BOX, "--model", tiny_model.model_dir(), "--out", "out")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"Pictures: 1 segmented \(masks: 1 (good|check|doubtful)\); see out\n", done.stdout)
    assert done.stderr == ""
    assert _files(tmp_path / "out") == _three("a")
    wrong = run("a.png", "--box", BOX, "--model", "no such model", "--out", "other")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("deepmac: no model 'no such model'")
    assert wrong.stderr.count("\n") == 1
