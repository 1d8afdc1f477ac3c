import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deepmac.core.errors import InputError
from deepmac.core.label_images import read_label_image, read_texts, write_label_image


@given(st.integers(0, 65535), st.integers(1, 20), st.integers(1, 20))
def test_what_was_written_is_read_again(tmp_path_factory, largest, height, width):
    dtype = np.uint8 if largest <= 255 else np.uint16
    labels = np.random.default_rng(largest).integers(0, largest + 1, (height, width)).astype(dtype)
    path = tmp_path_factory.mktemp("masks") / "a.png"
    write_label_image(path, labels, {"Fingerprint": "abc"})
    read = read_label_image(path)
    np.testing.assert_array_equal(read, labels)
    assert read.dtype == dtype
    assert read_texts(path)["Fingerprint"] == "abc"
    with Image.open(path) as picture:
        assert picture.mode == ("L" if dtype == np.uint8 else "I;16"), "one channel"
        np.testing.assert_array_equal(np.asarray(picture), labels)


def test_palettes_and_bitmaps_are_label_images_and_other_pictures_are_not(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "rgb.png")
    with pytest.raises(InputError, match="channels RGB"):
        read_label_image(tmp_path / "rgb.png")
    with pytest.raises(InputError, match="no such picture"):
        read_label_image(tmp_path / "missing.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(InputError, match="cannot read"):
        read_label_image(tmp_path / "broken.png")
    Image.fromarray(np.full((2, 2), 70000, np.int32)).save(tmp_path / "large.tif")
    with pytest.raises(InputError, match="numbers from 70000 to 70000"):
        read_label_image(tmp_path / "large.tif")
    assert read_texts(tmp_path / "broken.png") is None
    assert read_texts(tmp_path / "missing.png") is None
    assert read_texts(tmp_path / "rgb.png") == {}
    labels = np.array([[0, 1], [2, 1]], np.uint8)
    picture = Image.fromarray(labels).convert("P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_label_image(tmp_path / "palette.png"), labels)
    Image.fromarray(labels > 0).save(tmp_path / "bitmap.png")
    np.testing.assert_array_equal(read_label_image(tmp_path / "bitmap.png"), labels > 0)
