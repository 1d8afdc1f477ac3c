import http.server
import sys
import threading

import cv2
import numpy as np
import pytest
import tifffile
import tiny_model
from PIL import Image

from deepmac.core.categories import ID_BY_NAME
from deepmac.core.errors import InputError
from deepmac.demo import sources
from deepmac.demo.samples import SAMPLES
from deepmac.demo.sources import open_picture, opened_upload

PICTURE = tiny_model.picture()


@pytest.fixture
def folder(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "a picture.png")
    (tmp_path / "page.html").write_text("<html>no picture</html>")
    return tmp_path


@pytest.fixture
def server(folder):
    """Address of a server of the folder."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=folder)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_samples_have_pictures_and_boxes_inside_them_of_classes_inside_and_outside_coco():
    for name, sample in SAMPLES.items():
        picture = open_picture(name)
        assert picture.sample == picture.stem == name
        assert picture.image.dtype == np.uint8 and picture.contrast is None
        boxes = sample.normalized_boxes()
        assert len(boxes) == len(sample.names)
        assert (boxes >= 0).all() and (boxes <= 1).all()
        assert (boxes[:, 2:] - boxes[:, :2] > 0.01).all()
    names = {name for sample in SAMPLES.values() for name in sample.names}
    assert names & set(ID_BY_NAME)
    assert len(names - set(ID_BY_NAME)) >= 4


def test_files(folder, monkeypatch):
    picture = open_picture(folder / "a picture.png")
    np.testing.assert_array_equal(picture.image, PICTURE)
    assert (picture.file_name, picture.stem, picture.sample) == ("a picture.png", "a_picture", None)
    for quote in "\"'":
        assert open_picture(f" {quote}{folder / 'a picture.png'}{quote} ").file_name == "a picture.png"
    Image.fromarray(PICTURE).save(folder / "coffee.png")
    monkeypatch.chdir(folder)
    assert open_picture("coffee.png").sample is None, "a file goes by its path"
    assert open_picture("coffee").sample == "coffee"


def test_addresses(server):
    picture = open_picture(f" {server}/a%20picture.png?size=large#top ")
    np.testing.assert_array_equal(picture.image, PICTURE)
    assert picture.stem == "a_picture"


def test_no_more_is_downloaded_than_a_picture_may_have(server, monkeypatch):
    monkeypatch.setattr(sources, "_LARGEST", 100)
    with pytest.raises(InputError, match="larger than"):
        open_picture(f"{server}/a%20picture.png")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        *(("{server}/missing.png", "the server answers 404"), ("{folder}", "is a folder")),
        ("ftp://x/y.png", "^ftp://x/y.png cannot be opened: addresses begin with http"),
        ("{server}/page.html", "page.html: cannot read the picture: not a"),
        *(
            (url, "cannot reach")
            for url in ("http://127.0.0.1:9/x.png", "https://", "http://[", "HTTP://x y/")
        ),
        *((path, ".") for path in ("", "  ", "missing.png", "\0", "~nobody-at-all/x.png")),
    ],
)
def test_places_without_a_picture_are_told(server, folder, source, words):
    with pytest.raises(InputError, match=words):
        open_picture(source.replace("{server}", server).replace("{folder}", str(folder)))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_samples_of_more_than_8_bits_are_stretched(tmp_path, dtype):
    samples = np.linspace(500, 4000, 100 * 100).reshape(100, 100).astype(dtype)
    samples[0, 0], samples[99, 99] = 0, 60000  # a dead and a hot pixel
    Image.fromarray(samples).save(tmp_path / "a.tif")
    picture = open_picture(tmp_path / "a.tif")
    low, high = picture.contrast
    assert 495 < low < 510 and 3990 < high < 4005
    expected = np.clip((samples.astype(float) - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(picture.image, np.repeat(expected[..., None], 3, axis=-1), atol=0.51)


def test_colours_of_16_bits_in_pages_or_planes_and_pictures_of_one_value(tmp_path):
    path = tmp_path / "a.tif"
    pages = [np.full((8, 9, 3), value, np.uint16) for value in (100, 900)]
    pages[1][0] = 0
    cv2.imwritemulti(str(path), pages)
    first = open_picture(path)
    assert (first.pages, first.contrast) == (2, (100, 100))
    assert first.turned_to(1).contrast == (0, 900)
    tifffile.imwrite(path, np.zeros((3, 40, 50), np.uint16), photometric="rgb", planarconfig="separate")
    with pytest.raises(InputError, match="interleaved"):
        open_picture(path)
    for value in (0, 700, np.nan):
        Image.fromarray(np.full((8, 9), value, np.float32)).save(path)
        assert not open_picture(path).image.any(), "black"


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_colours_of_16_bits_are_stretched_alike(tmp_path, suffix, monkeypatch):
    colors = np.random.default_rng(0).integers(0, 4096, (40, 50, 3), np.uint16)
    colors[..., 2] //= 8  # blue is weak
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), colors[..., ::-1])
    content = (tmp_path / f"a.{suffix}").read_bytes()
    for picture in (open_picture(tmp_path / f"a.{suffix}"), opened_upload("a", content)):
        low, high = picture.contrast
        expected = np.clip((colors.astype(float) - low) / (high - low), 0, 1) * 255
        np.testing.assert_allclose(picture.image, expected, atol=0.51)
    monkeypatch.setitem(sys.modules, "cv2", None)  # not installed
    with pytest.raises(InputError, match="pip install opencv-python-headless"):
        opened_upload("a", content)


def test_pages_of_a_stack(tmp_path):
    pages = [tiny_model.picture(seed) for seed in range(3)]
    first, *others = map(Image.fromarray, pages)
    first.save(tmp_path / "stack.tif", save_all=True, append_images=others)
    path = tmp_path / "stack.tif"
    for source in (open_picture(path), opened_upload("stack.tif", path.read_bytes())):
        assert (source.page, source.pages, source.stem) == (0, 3, "stack_page1")
        for number, page in enumerate(pages):
            np.testing.assert_array_equal(source.turned_to(number).image, page)
        with pytest.raises(InputError):
            source.turned_to(3)
    first.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=others)
    assert open_picture(tmp_path / "phone.jpg").pages == 1, "a photograph with a small copy is no stack"


def test_uploads(folder):
    picture = opened_upload("../é #1.png", (folder / "a picture.png").read_bytes())
    np.testing.assert_array_equal(picture.image, PICTURE)
    assert picture.stem == "é_1"
    with pytest.raises(InputError, match=r"page\.html: .*not a picture"):
        opened_upload("page.html", (folder / "page.html").read_bytes())
