import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from deepmac.core.errors import InputError
from deepmac.core.images import fit_square, read_image

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def _saved(picture, path, **options):
    picture.save(path, **options)
    return path


def test_rgb_comes_as_it_is_from_path_content_picture_and_array_as_a_copy(tmp_path):
    path, array = _saved(Image.fromarray(RGB), tmp_path / "a.png"), RGB.copy()
    for source in (path, str(path), path.read_bytes(), Image.open(path), array):
        image = read_image(source)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        np.testing.assert_array_equal(image, RGB)
    array[:] = 0
    np.testing.assert_array_equal(image, RGB)


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_is_repeated(tmp_path, mode):
    picture = Image.fromarray(RGB[..., 0]).convert(mode)
    grey = np.asarray(picture.convert("L"))
    for source in (_saved(picture, tmp_path / "a.png"), grey, grey[..., None]):
        np.testing.assert_array_equal(read_image(source), np.repeat(grey[..., None], 3, axis=2))


def test_transparency_is_laid_over_white(tmp_path):
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    rgba[0, 0] = 10, 20, 30, 0
    rgba[0, 1] = 0, 100, 200, 51  # a fifth
    for source in (_saved(Image.fromarray(rgba), tmp_path / "a.png"), rgba):
        image = read_image(source)
        assert image[0, 0].tolist() == [255, 255, 255]
        assert image[0, 1].tolist() == [204, 224, 244]
        np.testing.assert_array_equal(image[1:], RGB[1:])


def test_palette_pictures_show_their_colours_and_transparent_entry(tmp_path):
    picture = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode="P")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image = read_image(_saved(picture, tmp_path / "opaque.png"))
    np.testing.assert_array_equal(image, [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 255, 0]]])
    image = read_image(_saved(picture, tmp_path / "transparent.png", transparency=2))
    np.testing.assert_array_equal(image, [[[255, 0, 0], [0, 255, 0]], [[255, 255, 255], [0, 255, 0]]])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, suffix):
    samples = np.array([[0, 257, 65535], [128, 129, 32896]], np.uint16)
    path = _saved(Image.fromarray(samples), tmp_path / f"a{suffix}")
    expected = np.array([[0, 1, 255], [0, 1, 128]])
    np.testing.assert_array_equal(read_image(path)[..., 1], expected)
    np.testing.assert_array_equal(read_image(samples)[..., 2], expected)


@pytest.mark.parametrize(("brightest", "white"), [(2600, 4095), (900, 1023), (200, 255), (0, 255)])
def test_samples_of_fewer_bits_come_as_bright_as_those_of_sixteen(brightest, white):
    """Cameras of 10 or 12 bits store their values in files of 16."""
    samples = np.array([[0, brightest // 2, brightest]], np.uint16)
    expected = np.rint(samples / white * 255)
    np.testing.assert_array_equal(read_image(samples)[..., 0], expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(tmp_path, orientation):
    upright = np.zeros((20, 30, 3), np.uint8)
    upright[:10, :10] = 255  # at the top left
    stored = {  # how a camera held that way stores it
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _saved(Image.fromarray(np.ascontiguousarray(stored)), tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(path), upright)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LA", "HSV"])
def test_other_modes_are_converted(mode):
    picture = Image.fromarray(RGB).convert(mode)
    np.testing.assert_array_equal(read_image(picture), np.asarray(picture.convert("RGB")))


@pytest.mark.filterwarnings("ignore:(Corrupt EXIF|Truncated File)")
@pytest.mark.parametrize("image_format", ["png", "jpeg", "gif", "tiff", "bmp", "webp"])
def test_a_truncated_file_is_an_input_error_at_every_length(tmp_path, image_format):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(buffer, image_format)
    data = buffer.getvalue()
    path = tmp_path / f"cut.{image_format}"
    for length in (0, 1, 10, 60, len(data) // 4, len(data) // 2):
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match=f"cannot read .*cut.{image_format}"):
            read_image(path)


@pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without AVIF")
def test_a_damaged_avif_file_is_an_input_error():
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "avif")
    rng, refused = np.random.default_rng(1), 0
    for _ in range(200):
        data = bytearray(buffer.getvalue())
        for place in rng.integers(len(data), size=4):
            data[place] = rng.integers(256)
        try:
            read_image(bytes(data))
        except InputError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (RGB / 255, "float64.*0..255"),
        (RGB > 100, "bool"),
        (RGB.astype(np.int64), "int64"),
        (np.zeros((4, 4, 2), np.uint8), r"\[4, 4, 2\]"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"\[1, 4, 4, 3\]"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (None, "uint8"),
        ([["a"]], "uint8"),
        (Image.fromarray(np.zeros((2, 2), np.float32)), "floating-point"),
        (Image.fromarray(np.full((2, 2), 70000, np.int32)), "beyond 16 bits"),
        (b"no picture", "^cannot read the picture: "),
        (b"", "^cannot read the picture: "),
    ],
)
def test_arrays_and_contents_of_other_kinds_are_refused(array, words):
    with pytest.raises(InputError, match=words):
        read_image(array)


def test_what_is_no_picture_missing_or_too_large_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_text("no picture")
    path = _saved(Image.fromarray(RGB), tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for source, words in {
        tmp_path / "a.jpg": r"a\.jpg: not a picture",
        tmp_path / "b.jpg": "no such picture",
        tmp_path: r"^cannot read .*: Is a directory$",
        path: r"a\.png: too large",
    }.items():
        with pytest.raises(InputError, match=words):
            read_image(source)


def test_pillow_does_not_warn_of_large_pictures(tmp_path):
    path = _saved(Image.fromarray(RGB), tmp_path / "a.png")
    code = (
        "from PIL import Image\n"
        "from deepmac.core.images import read_image\n"
        "Image.MAX_IMAGE_PIXELS = 40\n"
        f"read_image({str(path)!r})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr == ""


@given(st.tuples(st.integers(1, 70), st.integers(1, 70)), st.sampled_from([32, 48]))
def test_fits_pictures_into_the_square_as_the_network_was_trained(shape, size):
    from deepmac.data.preprocessing import pad_to_square, resize_image, resized_shape  # TensorFlow

    image = np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), np.uint8)
    resized = resized_shape(shape, size)
    square, part = fit_square(image, size)
    np.testing.assert_allclose(square, pad_to_square(resize_image(image, resized), size), atol=1e-3)
    np.testing.assert_array_equal(part, resized.numpy().astype(np.float32) / size)
