"""The demo without a browser: traits are set as the page would set them."""

import contextlib
import csv
import dataclasses
import datetime
import io
import json
import shutil
import zipfile

import cv2
import numpy as np
import pytest
import roifile
import tiny_model
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image, ImageDraw
from pycocotools import mask as rle
from pycocotools.coco import COCO

import deepmac
from deepmac.core.errors import InputError
from deepmac.demo import exports
from deepmac.demo.app import Demo
from deepmac.demo.controls import FOLDER, OWN
from deepmac.demo.samples import SAMPLES

BOX = {"box": [100, 50, 300, 200], "name": "thing"}
OTHER = {"box": [300, 50, 500, 200], "name": "other"}
EDGE = {"box": [0, 300, 640, 427], "name": "thing"}


@pytest.fixture
def loads(monkeypatch):
    """Models that are loaded, recorded; the small one, loaded once, takes the place of the shipped one."""
    loaded, load = [], deepmac.load

    def record(model, *arguments):
        loaded.append(str(model))
        small = str(model) in ("mini", str(tiny_model.model_dir()))
        return tiny_model.predictor() if small else load(model, *arguments)

    monkeypatch.setattr(deepmac, "load", record)
    return loaded


def _shown(*arguments, **options) -> Demo:
    """The demo, with `files` that the browser saves and `pending` boxes, unknown to a busy kernel."""
    demo = Demo(*arguments, **options)
    demo.files, demo.pending = {}, []

    def send(content, buffers=()):
        if "export" in content:
            demo.canvas.boxes = demo.pending.pop() if demo.pending else demo.canvas.boxes
            demo.canvas._handle_custom_msg(content, [])
        if "download" in content:
            demo.files[content["download"]] = bytes(buffers[0])

    demo.canvas.send = send
    demo.show()
    return demo


@pytest.fixture
def demo(loads, tmp_path):
    return _shown("rocket", export_dir=tmp_path / "exports")


def _names(demo) -> list[str]:
    return [item["name"] for item in demo.canvas.boxes]


def _upload(demo, name, content):
    modified = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    file = {"name": name, "type": "", "size": len(content), "last_modified": modified}
    demo.upload.value = [{**file, "content": memoryview(content)}]


def _file(image, suffix, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, suffix, **options)
    return file.getvalue()


def _filled(polygons, size) -> np.ndarray:
    """Pixels whose middle lies inside one polygon, not two, bool [H, W]; drawn at four times the size."""
    height, width = size
    inside = np.zeros((4 * height, 4 * width), bool)
    for polygon in polygons:
        image = Image.new("1", (4 * width, 4 * height))
        ImageDraw.Draw(image).polygon([4 * value - 0.5 for value in polygon], fill=1)
        inside ^= np.asarray(image)
    return inside[2::4, 2::4]


def test_a_sample_is_shown_with_the_masks_of_its_boxes(demo):
    sample = SAMPLES["rocket"]
    assert _names(demo) == ["rocket"] == sample.names
    expected = tiny_model.predictor().predict([sample.boxes[0][1]], "xyxy", encoded=demo._encoded)
    np.testing.assert_allclose(demo.prediction.mask_probs, expected.mask_probs, atol=1e-5)
    assert demo.canvas.picture[:2] == list(sample.image().shape[1::-1])
    preview = np.asarray(Image.open(io.BytesIO(demo.canvas.preview))).astype(int)
    assert np.abs(preview - sample.image()).mean() < 5  # JPEG
    assert demo.figure().size == demo.picture.image.shape[1::-1]
    assert demo.canvas.ready


def test_masks_follow_the_boxes(demo):
    demo.canvas.boxes = [BOX, OTHER, {**BOX, "name": "twin"}]
    boxes = [item["box"] for item in demo.canvas.boxes]
    expected = tiny_model.predictor().predict(boxes, "xyxy", encoded=demo._encoded)
    np.testing.assert_array_equal(demo.prediction.masks, expected.masks)
    assert [mask["of"] for mask in demo.canvas.masks] == boxes[:2], "one mask for equal boxes"
    for shown, mask in zip(demo.canvas.masks, expected.masks, strict=False):
        assert shown["area"] == mask.sum() > 0
        parts = shown["path"].removeprefix("M").removesuffix("Z").split("ZM")
        drawn = _filled([[float(number) for number in part.split()] for part in parts], mask.shape)
        assert (drawn & mask).sum() / (drawn | mask).sum() > 0.95
        assert shown["quality"] in {"good", "check", "doubtful"}
    assert "2 new masks" in demo.canvas.status[0]

    demo.canvas.boxes = [BOX]  # taken back
    assert demo.canvas.status == ["Masks: 1, at a threshold of 0.50.", False]
    demo.threshold.value = 0.6
    assert demo.canvas.status == ["Masks: 1, at a threshold of 0.60.", False]

    demo.canvas.boxes = []
    assert demo.prediction is None
    assert demo.canvas.masks == []
    assert "Draw a box" in demo.canvas.status[0]


def test_clicks_add_to_their_mask_and_take_from_it(demo):
    demo.canvas.boxes = [BOX, OTHER]
    before = demo.prediction.masks
    for sign in (1, -1):
        demo.canvas.boxes = [{**BOX, "clicks": [[200.0, 125.0, sign]]}, OTHER]
        after = demo.prediction.masks
        near = after[0, 115:135, 190:210]
        assert near.all() if sign > 0 else not near.any()
        assert ((after[0] > before[0]) if sign < 0 else (after[0] < before[0])).sum() == 0
        np.testing.assert_array_equal(after[1], before[1])
        assert demo.canvas.masks[0]["of"] == [*BOX["box"], 200, 125, sign]
        assert demo.canvas.masks[0]["area"] == after[0].sum()
    demo.canvas.boxes = [BOX, OTHER]
    np.testing.assert_array_equal(demo.prediction.masks, before)


def test_the_mask_of_a_small_object_is_there_at_once_and_again_from_closer(demo):
    sent = []
    demo.canvas.send = lambda content, _=(): sent.append(content["masks"])
    large, small = [0, 0, 300, 300], [100, 100, 140, 130]
    demo.canvas.boxes = [{"box": box, "name": "thing"} for box in (large, small)]
    for masks, boxes, closer in zip(sent, ([large, small], [small]), (False, True), strict=True):
        expected = tiny_model.predictor().predict(boxes, "xyxy", encoded=demo._encoded, closer=closer)
        assert [mask["of"] for mask in masks] == boxes
        assert [mask["area"] for mask in masks] == expected.masks.sum(axis=(1, 2)).tolist()
    assert (sent[0][1]["area"], sent[0][1]["path"]) != (sent[1][0]["area"], sent[1][0]["path"])
    np.testing.assert_array_equal(demo.prediction.masks[1], expected.masks[0])


def test_nothing_is_predicted_twice(demo, monkeypatch):
    demo.canvas.boxes = [BOX]
    asked, predict = [], demo._predictor.predict

    def record(boxes, *arguments, **options):
        asked.extend(boxes)
        return predict(boxes, *arguments, **options)

    monkeypatch.setattr(demo._predictor, "predict", record)
    demo.canvas.boxes = [{**BOX, "name": "renamed"}, OTHER]
    demo.canvas.boxes = [BOX]
    demo.canvas.boxes = [BOX, OTHER]
    demo.threshold.value = 0.7
    assert asked == [tuple(OTHER["box"])]
    assert demo.prediction.threshold == 0.7
    assert [mask["area"] for mask in demo.canvas.masks] == demo.prediction.masks.sum(axis=(1, 2)).tolist()


def test_only_new_masks_are_sent_and_how_many_are_left_is_told(demo):
    sent, said = [], []
    demo.canvas.send = lambda content, _=(): sent.append(content)
    demo.canvas.observe(lambda change: said.append(change["new"][0]), names="status")
    boxes = [{"box": [10 * number, 50, 10 * number + 200, 200], "name": "thing"} for number in range(20)]
    demo.canvas.boxes = boxes
    assert [text for text in said if "done" in text] == [
        "Finding masks: 0 of 20 done ...",
        "Finding masks: 16 of 20 done ...",
    ]
    demo.canvas.boxes = [*boxes, EDGE]
    assert [[mask["of"] for mask in content["masks"]] for content in sent] == [
        [item["box"] for item in boxes],
        [EDGE["box"]],
    ]
    assert {content["picture"] for content in sent} == {demo.canvas.picture[2]}
    demo.canvas._handle_custom_msg({"ask": 7, "masks": True}, [])  # a page that was loaded again
    assert sent[-2]["masks"] == demo.canvas.masks and sent[-1] == {"answer": 7}


def test_boxes_that_are_brought_back_and_examples_have_their_masks(demo):
    examples = demo.canvas.boxes
    demo.canvas.boxes = []
    demo.canvas.boxes = examples
    assert demo.canvas.status == ["The boxes are back, and their masks.", False]
    demo.canvas.boxes = []
    demo.examples.click()
    assert _names(demo) == ["rocket"]
    assert len(demo.prediction) == 1


def test_exports(demo, tmp_path):
    demo.pending = [[BOX, {**OTHER, "name": "cup"}, EDGE]]
    for button in demo.exports.values():
        assert not button.disabled
        button.click()
        assert str(tmp_path / "exports") in demo.canvas.status[0]
        assert "overlap" not in demo.canvas.status[0]
    files = {path.name.removeprefix("rocket_"): path for path in (tmp_path / "exports").glob("rocket_*")}
    assert {path.name: path.read_bytes() for path in files.values()} == demo.files
    masks = demo.prediction.masks
    areas = masks.sum(axis=(1, 2)).tolist()

    coco = COCO(str(files["masks.json"]))
    annotations = coco.loadAnns(coco.getAnnIds())
    assert [coco.loadCats(a["category_id"])[0]["name"] for a in annotations] == ["thing", "cup", "thing"]
    assert (coco.getCatIds(catNms="cup"), coco.getCatIds(catNms="thing")) == ([47], [91])
    for annotation, mask in zip(annotations, masks, strict=True):
        np.testing.assert_array_equal(coco.annToMask(annotation), mask)
        assert annotation["area"] == mask.sum() == rle.area(annotation["segmentation"])

    labels = Image.open(files["labels.png"])
    np.testing.assert_array_equal(np.asarray(labels), demo.prediction.to_label_image())
    seen = np.asarray(labels.convert("RGB"))
    colors = [tuple(color) for color in np.unique(seen.reshape(-1, 3), axis=0).tolist()]
    assert {"#{:02x}{:02x}{:02x}".format(*color) for color in colors} == {"#000000", *demo.canvas.colors[:3]}

    lines = list(csv.DictReader(io.StringIO(files["masks.csv"].read_text("utf-8-sig"))))
    assert all(len(line["quality"]) <= len("0.123") for line in lines)
    numbered = [(line["number"], line["name"]) for line in lines]
    assert numbered == [("1", "thing"), ("2", "cup"), ("3", "thing")]
    assert [int(line["area"]) for line in lines] == areas
    box = [float(lines[0][key]) for key in ("xmin", "ymin", "width", "height")]
    np.testing.assert_allclose(box, [100, 50, 200, 150], atol=0.01)

    with zipfile.ZipFile(files["rois.zip"]) as archive:
        rois = [roifile.ImagejRoi.frombytes(archive.read(name)) for name in archive.namelist()]
    for number, mask in enumerate(masks, 1):
        polygons = [roi.coordinates().ravel() for roi in rois if roi.name.startswith(f"{number:03d} ")]
        drawn = _filled(polygons, mask.shape)
        assert (drawn & mask).sum() / (drawn | mask).sum() > 0.93

    features = json.loads(files["outlines.geojson"].read_text())["features"]
    assert [feature["properties"]["classification"]["name"] for feature in features] == _names(demo)
    for feature, mask in zip(features, masks, strict=True):
        rings = [ring for polygon in feature["geometry"]["coordinates"] for ring in polygon]
        assert all(ring[0] == ring[-1] for ring in rings)
        drawn = _filled([np.ravel(ring) for ring in rings], mask.shape)
        assert (drawn & mask).sum() / (drawn | mask).sum() > 0.95

    picture = np.asarray(Image.open(files["overlay.png"]))
    assert picture.shape == demo.picture.image.shape
    assert (picture != demo.picture.image).any(axis=2)[masks.any(axis=0)].mean() > 0.9

    demo.pending = [[]]
    demo.exports["Table"].click()
    assert demo.canvas.status == ["There are no masks to save: draw a box first.", True]
    assert all(button.disabled for button in demo.exports.values())


def test_pixels_lost_by_a_label_image_and_folders_that_cannot_be_made_are_told(demo, tmp_path):
    demo.canvas.boxes = [BOX, {**BOX, "box": [120, 60, 280, 190]}]
    demo.exports["Labels"].click()
    shared = demo.prediction.masks.all(axis=0).sum()
    assert shared > 0 and f"lose {shared:,} pixels" in demo.canvas.status[0]
    demo.exports["COCO"].click()
    assert demo.canvas.status[1] is False and "lose" not in demo.canvas.status[0]
    shutil.rmtree(tmp_path / "exports")
    (tmp_path / "exports").write_text("")
    demo.files.clear()
    demo.exports["Labels"].click()
    text, error = demo.canvas.status
    assert error and "browser downloads rocket_labels.png; the copy beside the kernel" in text
    assert "Errno" not in text and list(demo.files) == ["rocket_labels.png"]


def test_exports_of_pictures_with_one_name_do_not_replace_each_other(demo, loads, tmp_path):
    paths = [tmp_path / folder / "IMG_1.jpg" for folder in ("left", "right")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(_file(tiny_model.picture(), "JPEG"))

    def export(demo, path):
        demo.files.clear()
        demo.address.value = str(path)
        demo.canvas.boxes = [{"box": [1, 1, 30, 30], "name": "thing"}]
        demo.exports["Table"].click()
        return list(demo.files)

    assert export(demo, paths[0]) == ["IMG_1_masks.csv"]
    assert export(demo, paths[1]) == ["IMG_1_2_masks.csv"]
    assert export(demo, paths[0]) == ["IMG_1_masks.csv"], "its own file"
    later = _shown("rocket", export_dir=tmp_path / "exports")
    assert export(later, paths[1]) == ["IMG_1_2_masks.csv"]
    assert len(list((tmp_path / "exports").glob("IMG_1*"))) == 2


def test_pictures_are_chosen_given_and_uploaded(demo, tmp_path):
    demo.sample.value = "astronaut"
    assert demo.picture.sample == "astronaut"
    assert _names(demo) == SAMPLES["astronaut"].names
    Image.fromarray(tiny_model.picture()).save(tmp_path / "my photo.png")
    demo.address.value = str(tmp_path / "my photo.png")
    np.testing.assert_array_equal(demo.picture.image, tiny_model.picture())
    assert demo.sample.label == "my photo.png"
    assert demo.prediction is None
    assert demo.examples.disabled
    assert demo.address.value == ""
    _upload(demo, "other.png", _file(tiny_model.picture(1), "PNG"))
    np.testing.assert_array_equal(demo.picture.image, tiny_model.picture(1))
    demo.sample.value = "rocket"
    assert _names(demo) == ["rocket"]
    demo.sample.value = OWN  # the last one
    assert (demo.sample.label, demo.picture.file_name) == ("other.png", "other.png")


def test_the_same_file_given_again_is_read_again(demo, loads, tmp_path):
    content = _file(tiny_model.picture(), "PNG")
    for _ in range(2):
        demo.sample.value = "rocket"
        _upload(demo, "same.png", content)
        assert demo.picture.file_name == "same.png"
    path = tmp_path / "same.png"
    for seed in range(3):
        Image.fromarray(tiny_model.picture(seed)).save(path)
        if seed < 2:
            demo.address.value = str(path)
        else:  # in the menu, after another one was seen
            demo.sample.value = "rocket"
            demo.sample.value = OWN
        np.testing.assert_array_equal(demo.picture.image, tiny_model.picture(seed))
    demo.address.value = str(tmp_path / "later.png")
    assert demo.canvas.status[1]
    path.rename(tmp_path / "later.png")
    demo.address.value += " "  # what Enter makes of an unchanged line
    assert demo.picture.file_name == "later.png"
    demo.model.value = FOLDER
    for ending in ("", " ", " "):
        demo.folder.value = f"{tiny_model.model_dir()}{ending}"
    assert loads[1:] == [str(tiny_model.model_dir())] * 3
    assert demo.folder.value == str(tiny_model.model_dir())


def test_a_stack_of_16_bits_is_stretched_and_turned_page_by_page(demo, tmp_path):
    rng = np.random.default_rng(0)
    pages = rng.integers(100, 4000, (3, 60, 80)).astype(np.uint16)
    first, *others = map(Image.fromarray, pages)
    first.save(tmp_path / "stack.tif", save_all=True, append_images=others)
    demo.address.value = str(tmp_path / "stack.tif")
    assert demo.page.layout.display is None
    assert (demo.page.value, demo.page.max) == (1, 3)
    assert "Contrast stretched" in demo.note.value
    assert demo.picture.image.min() == 0 and demo.picture.image.max() == 255
    corrected = {"box": [10, 10, 50, 50], "name": "nucleus", "clicks": [[20, 20, 1]]}
    demo.canvas.boxes = [corrected]
    before = demo.picture.image
    demo.page.value = 3
    assert (demo.picture.image != before).any()
    assert demo.canvas.boxes == [{"box": [10, 10, 50, 50], "name": "nucleus"}], "corrections do not stay"
    expected = tiny_model.predictor().predict([[10, 10, 50, 50]], "xyxy", encoded=demo._encoded)
    np.testing.assert_allclose(demo.prediction.mask_probs, expected.mask_probs, atol=1e-5)
    assert demo.picture.stem == "stack_page3"
    sure = dataclasses.replace(demo.prediction, mask_probs=np.ones_like(demo.prediction.mask_probs))
    drawing = demo._drawing()._replace(prediction=sure)
    assert json.loads(exports.coco(drawing))["images"][0]["page"] == 3
    assert "\nstack.tif page 3,1,nucleus," in exports.table(drawing).decode()
    assert json.loads(exports.geojson(drawing))["features"][0]["properties"]["page"] == 3
    assert b"page" not in exports.geojson(drawing._replace(page=0))
    with zipfile.ZipFile(io.BytesIO(exports.imagej_rois(drawing))) as archive:
        [roi] = [roifile.ImagejRoi.frombytes(archive.read(name)) for name in archive.namelist()]
    assert roi.position == 3
    named = exports.imagej_rois(drawing._replace(names=['a<"\\b/c']))
    assert zipfile.ZipFile(io.BytesIO(named)).namelist() == ["001 a___b_c.roi"], "Windows allows no other"
    demo.page.value = 1
    assert demo.canvas.boxes == [corrected], "as it was left"
    demo.sample.value = "rocket"
    assert demo.page.layout.display == "none"
    assert demo.note.value == ""


def test_boxes_of_each_picture_and_page_wait_for_it(demo, tmp_path):
    sizes = [(60, 80), (30, 40), (60, 80)]
    first, *others = (Image.fromarray(np.full(size, 90 + k, np.uint8)) for k, size in enumerate(sizes))
    first.save(tmp_path / "pages.tif", save_all=True, append_images=others)
    rocket = [{**BOX, "clicks": [[200, 125, 1]]}, OTHER]
    demo.canvas.boxes = rocket
    demo.address.value = str(tmp_path / "pages.tif")
    number = demo.canvas.picture[2]
    drawn = [{"box": box, "name": "cell"} for box in ([10, 10, 50, 50], [45, 5, 70, 25], [1, 1, 9, 9])]
    demo.canvas.boxes = drawn
    demo.page.value = 2  # smaller
    assert [item["box"] for item in demo.canvas.boxes] == [[10, 10, 40, 30], [1, 1, 9, 9]]
    assert "2 new masks" in demo.canvas.status[0] and "outside this page: 1." in demo.canvas.status[0]
    assert demo.prediction.masks.shape == (2, 30, 40)
    demo.canvas.set_state({"boxes": drawn[:2], "edit": [number, 9]})  # drawn on page 1, while it was turned
    assert len(demo.canvas.boxes) == 2 and demo.canvas.boxes != drawn[:2]
    demo.canvas.boxes = []
    demo.page.value = 3
    assert demo.canvas.boxes == []
    demo.page.value = 1
    assert demo.canvas.boxes == drawn[:2]
    assert "outside" not in demo.canvas.status[0]
    demo.sample.value = "rocket"
    assert demo.canvas.boxes == rocket
    demo.examples.click()
    assert _names(demo) == ["rocket"]


def test_masks_that_cannot_be_found_are_not_exported_as_those_before(demo, monkeypatch):
    def fail(*_, **__):
        raise InputError("too large")

    monkeypatch.setattr(demo._predictor, "predict", fail)
    demo.canvas.boxes = [OTHER]
    assert demo.canvas.status == ["too large", True]
    demo.exports["COCO"].click()
    assert demo.canvas.status[1] and not demo.files


def test_what_cannot_be_opened_is_told_and_changes_nothing(demo):
    before = demo.canvas.preview
    demo.address.value = ""
    for address in ("nowhere.jpg", ".", "http://[", "\0"):
        demo.address.value = address
        assert demo.canvas.status[1]
    for address in ("a\0b.jpg", "~\0/b.jpg"):
        demo.address.value = address
        assert demo.canvas.status[1] and "no such picture" in demo.canvas.status[0]
    demo.address.value = " "  # Enter alone
    assert demo.canvas.status == ["", False] and demo.address.value == ""
    _upload(demo, "letter.docx", b"no picture")
    assert "letter.docx" in demo.canvas.status[0] and "not a picture" in demo.canvas.status[0]
    _upload(demo, "photo.jpg", _file(tiny_model.picture(), "JPEG")[:400])
    assert "damaged" in demo.canvas.status[0]
    assert demo.sample.value == demo.picture.sample == "rocket"
    assert demo.canvas.preview == before
    assert _names(demo) == ["rocket"]


@pytest.mark.parametrize("size", [(1, 1, 3), (1500, 12000, 3), (3, 4000, 3), (4000, 3, 4), (40, 60)])
def test_pictures_of_every_size(demo, size):
    _upload(demo, "picture.png", _file(np.full(size, 128, np.uint8), "PNG"))
    height, width = size[:2]
    assert demo.picture.image.shape == (height, width, 3)
    assert demo.canvas.picture[:2] == [width, height]
    demo.canvas.boxes = [{"box": [0, 0, width, height], "name": "all"}]
    assert demo.prediction.masks.shape == (1, height, width)
    assert max(demo.figure().size) == min(800, max(height, width))


def test_other_models(demo, loads):
    before = demo.prediction.mask_probs
    demo.model.value = FOLDER
    assert demo.folder.layout.display is None
    assert len(loads) == 1, "nothing happens before the folder is written"
    demo.folder.value = str(tiny_model.model_dir())
    assert loads[-1] == str(tiny_model.model_dir())
    assert demo.model.value == FOLDER
    assert not demo.canvas.status[1]
    assert demo.prediction.mask_probs.shape == before.shape
    demo.folder.value = "no such folder"
    assert "no model" in demo.canvas.status[0]
    assert demo.folder.value == str(tiny_model.model_dir())
    demo.model.value = "mini"
    assert loads[-1] == "mini"
    assert demo.folder.layout.display == "none"
    np.testing.assert_allclose(demo.prediction.mask_probs, before, atol=1e-5)


@pytest.mark.parametrize("error", [InputError("no connection"), RuntimeError("out of memory")])
def test_a_model_that_cannot_be_loaded_is_told_and_the_one_before_stays(demo, monkeypatch, error):
    """What nobody expected is raised as well, and so logged."""

    def fail(*_):
        raise error

    monkeypatch.setattr(deepmac, "load", fail)
    unexpected = isinstance(error, RuntimeError)
    with pytest.raises(RuntimeError) if unexpected else contextlib.nullcontext():
        demo.model.value = "deepmac_1024x1024_coco17"
    assert str(error) in demo.canvas.status[0]
    assert demo.model.value == "mini"
    demo.canvas.boxes = [BOX]
    assert len(demo.prediction) == 1


def test_parameters(loads):
    demo = _shown("rocket", boxes=[[0.1, 0.2, 0.5, 0.6], [0.3, 0.3, 0.9, 0.9]])
    np.testing.assert_allclose(demo.prediction.boxes, [[0.1, 0.2, 0.5, 0.6], [0.3, 0.3, 0.9, 0.9]], atol=1e-6)
    assert _names(demo) == ["object", "object"]
    assert _shown("rocket", boxes=[]).prediction is None
    folder = _shown("rocket", model=tiny_model.model_dir())
    assert (folder.model.value, folder.folder.value) == (FOLDER, str(tiny_model.model_dir()))
    for arguments in ({"picture": "nowhere.jpg"}, {"boxes": [[0, 0, 0, 1]]}, {"boxes": 3}, {"model": "none"}):
        demo = Demo(**{"picture": "rocket", **arguments})
        assert "Loading" in demo.canvas.status[0] and not demo.canvas.ready
        with pytest.raises(InputError):
            demo.show()
        assert demo.canvas.status[1] and "so this is a sample" in demo.canvas.status[0]
        assert demo.canvas.ready and demo.picture.sample == "coffee"
        demo.address.value = "astronaut"
        assert demo.picture.sample == "astronaut" and len(demo.canvas.masks) == 2, "all works on"


def test_notebooks_show_input_errors_without_a_traceback(capsys):
    shell = InteractiveShell.instance()
    shell.run_cell("from deepmac.core.errors import InputError\nraise InputError('no such picture: x.jpg')")
    text = "".join(capsys.readouterr())
    assert "no such picture: x.jpg" in text
    assert "Traceback" not in text
    assert text.strip().count("\n") == 0


def _middle_of_largest(region: np.ndarray) -> tuple[int, int]:
    """Where, (x, y), the largest connected part of a region, bool [H, W], is the widest."""
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8), connectivity=4)
    largest = parts == 1 + statistics[1:, cv2.CC_STAT_AREA].argmax()
    depth = cv2.distanceTransform(np.pad(largest, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return int(x), int(y)


@pytest.mark.nightly
def test_a_click_where_a_mask_is_wrong_corrects_it(coco_dir):
    coco = COCO(str(coco_dir / "annotations/instances_val2017.json"))
    demo, ious = _shown("rocket"), []
    for image_id in sorted(coco.getImgIds())[::4]:
        objects = coco.loadAnns(coco.getAnnIds(image_id, iscrowd=0))
        objects = [entry for entry in objects if entry["area"] > 32**2]
        true = [coco.annToMask(entry).astype(bool) for entry in objects]
        demo.address.value = str(coco_dir / "val2017" / coco.imgs[image_id]["file_name"])
        corners = [(x, y, x + width, y + height) for x, y, width, height in (one["bbox"] for one in objects)]
        items = [{"box": list(box), "name": "object", "clicks": []} for box in corners]
        of_picture = []
        for _ in range(4 if items else 0):
            demo.canvas.boxes = items
            pairs = list(zip(demo.prediction.masks, true, strict=True))
            of_picture.append([(mask & right).sum() / (mask | right).sum() for mask, right in pairs])
            clicks = [_middle_of_largest(mask ^ right) for mask, right in pairs]
            signs = [1 if right[y, x] else -1 for (x, y), right in zip(clicks, true, strict=True)]
            items = [
                {**item, "clicks": [*item["clicks"], [x + 0.5, y + 0.5, sign]]}
                for item, (x, y), sign in zip(items, clicks, signs, strict=True)
            ]
        ious += np.transpose(of_picture).tolist()
    wanting = 100 * np.array([of_object for of_object in ious if of_object[0] < 0.8])
    print(f"\nmean IoU of {len(wanting)} objects after 0, 1, 2, 3 clicks:", wanting.mean(axis=0).round(1))
    assert np.diff(wanting.mean(axis=0))[0] > 3
