"""The demo without a browser: traits are set as the page would set them."""

import dataclasses
import datetime
import io

import numpy as np
import pytest
import tiny_model
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

import deepmac
from deepmac.core.errors import InputError
from deepmac.demo.app import Demo
from deepmac.demo.controls import FOLDER
from deepmac.demo.samples import SAMPLES

BOX = {"x": 100, "y": 50, "width": 200, "height": 150, "label": "thing"}


@pytest.fixture
def loads(monkeypatch):
    """Models that are loaded, recorded; the small one takes the place of the shipped one."""
    loaded, load = [], deepmac.load

    def record(model, *arguments):
        loaded.append(str(model))
        return tiny_model.predictor() if model == "mini" else load(model, *arguments)

    monkeypatch.setattr(deepmac, "load", record)
    return loaded


@pytest.fixture
def demo(loads, tmp_path):
    return Demo("rocket", export_dir=tmp_path / "exports")


def _shown(demo) -> np.ndarray:
    """What the page shows in place of the picture."""
    return np.asarray(Image.open(io.BytesIO(demo.canvas.image_bytes))).astype(int)


def _difference(demo) -> np.ndarray:
    """How far the page's picture is from the plain one, [h, w]."""
    return np.abs(_shown(demo) - demo.canvas.picture).max(axis=2)


def _labels(demo) -> np.ndarray:
    """The label image as large as the page shows the picture."""
    return dataclasses.replace(demo.prediction, image=demo.canvas.picture).to_label_image()


def _upload(demo, name, content):
    now = datetime.datetime.now(tz=datetime.UTC)
    file = {"name": name, "type": "", "size": len(content), "last_modified": now}
    demo.upload.value = [{**file, "content": memoryview(content)}]


def _file(image, suffix, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, suffix, **options)
    return file.getvalue()


def test_a_sample_is_shown_with_the_masks_of_its_boxes(demo):
    sample = SAMPLES["rocket"]
    assert demo.drawn.names == ["rocket"] == sample.names
    expected = tiny_model.predictor().predict([sample.boxes[0][1]], "xyxy", encoded=demo._encoded)
    np.testing.assert_allclose(demo.prediction.mask_probs, expected.mask_probs, atol=1e-5)
    assert demo.prediction.image.shape == sample.image().shape
    assert _shown(demo).shape == (*demo.canvas.size, 3)


def test_masks_follow_the_boxes(demo):
    demo.canvas.bboxes = [BOX]
    height, width = demo.canvas.size
    box = [50 / height, 100 / width, 200 / height, 300 / width]
    expected = tiny_model.predictor().predict([box], encoded=demo._encoded)
    np.testing.assert_array_equal(demo.prediction.masks, expected.masks)
    mask = _labels(demo) == 1
    assert mask[50:200, 100:300].sum() == mask.sum() > 0
    assert _difference(demo)[mask].mean() > 40
    assert _difference(demo)[~mask].mean() < 5  # JPEG

    demo.canvas.bboxes = [{**BOX, "x": 300}]
    assert (_labels(demo) == 1)[50:200, 300:500].any()
    assert _difference(demo)[mask].mean() < 5

    demo.canvas.bboxes = [BOX, {**BOX, "x": 300, "label": "other"}]
    assert demo.drawn.names == ["thing", "other"]
    assert demo.message.value.count("2 masks") == 1

    demo.canvas.bboxes = []
    assert demo.prediction is None
    assert _difference(demo).mean() < 5
    assert "Draw a box" in demo.message.value
    assert demo.masks.value == ""


@pytest.mark.parametrize(
    "change",
    [
        {"width": 0, "height": 0},  # as every box begins
        {"width": 200, "height": 1},
        {"x": -300},
        {"y": 5000},
    ],
)
def test_boxes_that_hold_nothing_have_no_masks(demo, change):
    demo.canvas.bboxes = [BOX, {**BOX, **change, "label": "nothing"}]
    assert demo.drawn.names == ["thing"]
    demo.canvas.bboxes = [{**BOX, **change}]
    assert demo.prediction is None


def test_boxes_are_cut_off_at_the_edge(demo, recwarn):
    height, width = demo.canvas.size
    demo.canvas.bboxes = [{**BOX, "x": -50, "y": -20, "height": height + 100}]
    np.testing.assert_allclose(demo.prediction.boxes, [[0, 0, 1, 150 / width]], atol=1e-6)
    assert not [warning for warning in recwarn if "clipped" in str(warning.message)]


def test_boxes_are_named_by_selecting_them(demo):
    demo.canvas.bboxes = [BOX, {**BOX, "x": 300, "label": "other"}]
    assert demo.name.disabled
    demo.canvas.selected_index = 1
    assert not demo.name.disabled
    assert demo.name.value == "other"
    demo.name.value = "tower <b>"
    assert [box["label"] for box in demo.canvas.bboxes] == ["thing", "tower <b>"]
    assert demo.drawn.names == ["thing", "tower <b>"]
    assert "tower &lt;b&gt;" in demo.masks.value
    demo.canvas.selected_index = 0
    assert demo.name.value == "thing"
    assert demo.drawn.names == ["thing", "tower <b>"]


def test_the_next_box_gets_a_new_name_and_names_keep_their_colours(demo):
    demo.canvas.bboxes = [BOX]
    assert demo.canvas.classes == ["object 1", "thing"]
    color = demo.canvas.colors[1]
    demo.canvas.bboxes = [BOX, {**BOX, "x": 200, "label": "object 1"}]
    assert demo.canvas.classes == ["object 2", "thing", "object 1"]
    assert demo.canvas.colors[1] == color
    assert len(set(demo.canvas.colors)) == 3
    demo.canvas.selected_index = 1
    second = demo.canvas.colors[2]
    for text in ("t", "to", "tower"):  # as it is written
        demo.name.value = text
    assert demo.canvas.classes == ["object 1", "thing", "tower"]
    assert demo.canvas.colors[1:] == [color, second]


def test_masks_have_the_colours_of_their_names(demo):
    demo.opacity.value = 1.0
    demo.canvas.bboxes = [
        {**BOX, "width": 400, "height": 300},
        {**BOX, "x": 10, "width": 80, "label": "other"},
    ]
    shown = demo._masked(demo.canvas.picture)
    labels = _labels(demo)
    for index, name in enumerate(demo.drawn.names):
        written = demo.canvas.colors[demo.canvas.classes.index(name)]
        np.testing.assert_array_equal(
            np.unique(shown[labels == index + 1], axis=0), [list(bytes.fromhex(written[1:]))]
        )


def test_opacity_outline_and_threshold(demo):
    demo.canvas.bboxes = [BOX]
    demo.opacity.value, demo.outline.value = 0.0, False
    assert _difference(demo).mean() < 5
    demo.outline.value = True
    assert _difference(demo)[_labels(demo) == 1].max() > 100
    probabilities = demo.prediction.mask_probs
    demo.threshold.value = 0.7
    assert demo.prediction.threshold == 0.7
    assert demo.prediction.mask_probs is probabilities  # nothing is predicted again
    demo.canvas.bboxes = [{**BOX, "x": 300}]
    assert demo.prediction.threshold == 0.7


def test_buttons_draw_and_remove_boxes(demo):
    demo.canvas.bboxes = [BOX, {**BOX, "x": 300, "label": "other"}]
    assert demo.remove.disabled
    demo.canvas.selected_index = 0
    demo.remove.click()
    assert demo.drawn.names == ["other"]
    assert demo.canvas.selected_index == -1
    demo.clear.click()
    assert demo.prediction is None
    demo.examples.click()
    assert demo.drawn.names == ["rocket"]


def test_exports(demo, tmp_path):
    demo.canvas.bboxes = [BOX, {**BOX, "x": 300, "label": "cup"}, {**BOX, "x": 30, "label": "thing"}]
    for button in (demo.coco, demo.labels, demo.overlay):
        assert not button.disabled
        button.click()
        assert "Written to" in demo.message.value
        assert 'download="rocket_' in demo.message.value
    coco = COCO(str(tmp_path / "exports/rocket_masks.json"))
    names = [coco.loadCats(a["category_id"])[0]["name"] for a in coco.loadAnns(coco.getAnnIds())]
    assert names == ["thing", "cup", "thing"]
    assert coco.getCatIds(catNms="cup") == [47]
    assert coco.getCatIds(catNms="thing") == [91]
    for annotation, mask in zip(coco.loadAnns(coco.getAnnIds()), demo.prediction.masks, strict=True):
        np.testing.assert_array_equal(coco.annToMask(annotation), mask)
        assert annotation["area"] == mask.sum() == rle.area(annotation["segmentation"])
    [image] = coco.loadImgs(coco.getImgIds())
    assert (image["height"], image["width"]) == demo.picture.image.shape[:2]
    labels = np.asarray(Image.open(tmp_path / "exports/rocket_labels.png"))
    np.testing.assert_array_equal(labels, demo.prediction.to_label_image())
    picture = np.asarray(Image.open(tmp_path / "exports/rocket_overlay.png"))
    assert picture.shape == demo.picture.image.shape

    demo.clear.click()
    assert demo.coco.disabled
    assert demo.labels.disabled
    assert demo.overlay.disabled


def test_an_export_folder_that_cannot_be_made_is_told(loads, tmp_path):
    (tmp_path / "file").write_text("")
    demo = Demo("rocket", export_dir=tmp_path / "file" / "exports")
    demo.labels.click()
    assert "#b00020" in demo.message.value


def test_pictures_are_chosen_given_and_uploaded(demo, tmp_path):
    demo.sample.value = "astronaut"
    assert demo.picture.sample == "astronaut"
    assert demo.drawn.names == SAMPLES["astronaut"].names
    Image.fromarray(tiny_model.picture()).save(tmp_path / "my photo.png")
    demo.address.value = str(tmp_path / "my photo.png")
    np.testing.assert_array_equal(demo.picture.image, tiny_model.picture())
    assert demo.sample.value is None
    assert demo.prediction is None
    assert demo.examples.disabled
    assert demo.address.value == ""
    _upload(demo, "other.png", _file(tiny_model.picture(1), "PNG"))
    np.testing.assert_array_equal(demo.picture.image, tiny_model.picture(1))
    demo.canvas.bboxes = [BOX]
    demo.labels.click()
    assert "other_labels.png" in demo.message.value
    demo.sample.value = "rocket"
    assert demo.drawn.names == ["rocket"]


@pytest.mark.parametrize(
    "source", ["", "nowhere.jpg", ".", "http://127.0.0.1:9/x.jpg", "https://", "http://[", "\0"]
)
def test_a_picture_that_cannot_be_opened_is_told_and_changes_nothing(demo, source):
    before = demo.canvas.image_bytes
    demo.address.value = source
    if source:
        assert "#b00020" in demo.message.value
    assert demo.sample.value == demo.picture.sample == "rocket"
    assert demo.canvas.image_bytes == before
    assert demo.drawn.names == ["rocket"]


def test_an_upload_that_is_no_picture_is_told(demo):
    _upload(demo, "letter.docx", b"no picture")
    assert "letter.docx" in demo.message.value
    assert "not a picture" in demo.message.value
    _upload(demo, "photo.jpg", _file(tiny_model.picture(), "JPEG")[:400])
    assert "damaged" in demo.message.value
    assert demo.picture.sample == "rocket"


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((40, 60), np.uint8),
        np.zeros((40, 60), np.uint16),
        np.full((40, 60, 4), 128, np.uint8),
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((1500, 12000, 3), np.uint8),
        np.zeros((3, 4000, 3), np.uint8),
        np.zeros((4000, 3, 3), np.uint8),
    ],
    ids=["grey", "16 bits", "transparent", "one pixel", "panorama", "line", "column"],
)
def test_pictures_of_every_kind_and_size(demo, image):
    _upload(demo, "picture.png", _file(image, "PNG"))
    assert demo.picture.image.shape == (*image.shape[:2], 3)
    height, width = demo.canvas.size
    assert 1 <= height <= 560
    assert 1 <= width <= 680
    demo.canvas.bboxes = [{"x": 0, "y": 0, "width": width, "height": height, "label": "all"}]
    assert demo.prediction.masks.shape == (1, *image.shape[:2])
    assert demo.figure().axes


def test_other_models(demo, loads):
    before = demo.prediction.mask_probs
    demo.model.value = FOLDER
    assert demo.folder.layout.display is None
    assert demo.message.value.count("1 mask ") == 1  # nothing happens before the folder is written
    demo.folder.value = str(tiny_model.model_dir())
    assert loads[-1] == str(tiny_model.model_dir())
    assert demo.model.value == FOLDER
    assert "#b00020" not in demo.message.value
    assert demo.prediction.mask_probs.shape == before.shape
    demo.folder.value = "no such folder"
    assert "no model" in demo.message.value
    assert demo.folder.value == str(tiny_model.model_dir())
    demo.model.value = "mini"
    assert loads[-1] == "mini"
    assert demo.folder.layout.display == "none"
    np.testing.assert_allclose(demo.prediction.mask_probs, before, atol=1e-5)


def test_a_published_model_that_cannot_be_downloaded_is_told(demo, monkeypatch):
    def fail(*_):
        raise InputError("no connection")

    monkeypatch.setattr(deepmac, "load", fail)
    demo.model.value = "deepmac_1024x1024_coco17"
    assert "no connection" in demo.message.value
    assert demo.model.value == "mini"
    demo.canvas.bboxes = [BOX]
    assert len(demo.prediction) == 1


def test_parameters(loads, tmp_path):
    demo = Demo("rocket", boxes=[[0.1, 0.2, 0.5, 0.6], [0.3, 0.3, 0.9, 0.9]])
    np.testing.assert_allclose(demo.prediction.boxes, [[0.1, 0.2, 0.5, 0.6], [0.3, 0.3, 0.9, 0.9]], atol=1e-6)
    assert demo.drawn.names == ["object 1", "object 2"]
    assert Demo("rocket", boxes=[]).prediction is None
    folder = Demo("rocket", model=tiny_model.model_dir())
    assert (folder.model.value, folder.folder.value) == (FOLDER, str(tiny_model.model_dir()))
    for arguments in ({"picture": "nowhere.jpg"}, {"boxes": [[0, 0, 0, 1]]}, {"boxes": 3}, {"model": "none"}):
        with pytest.raises(InputError):
            Demo(**{"picture": "rocket", **arguments})


def test_notebooks_show_input_errors_without_a_traceback(capsys):
    shell = InteractiveShell.instance()
    shell.run_cell("from deepmac.core.errors import InputError\nraise InputError('no such picture: x.jpg')")
    text = "".join(capsys.readouterr())
    assert "no such picture: x.jpg" in text
    assert "Traceback" not in text
    assert text.strip().count("\n") == 0
