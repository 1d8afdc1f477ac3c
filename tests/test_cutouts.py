import json

import numpy as np
import pytest
import synthetic
from PIL import Image
from PIL.ExifTags import Base

from deepmac.core.errors import InputError
from deepmac.scenes.cutouts import write_cutouts
from deepmac.scenes.sprites import read_cutout, sprite_pools


@pytest.fixture
def coco_dir(tmp_path):
    """A large object that stands free, one cut off by the left edge, a small one, and a crowd."""
    image = np.full((200, 300, 3), 90, np.uint8)
    masks = np.zeros((4, 200, 300), bool)
    for mask, (top, left, bottom, right) in zip(
        masks, [(20, 40, 100, 120), (110, 0, 180, 90), (120, 150, 150, 250), (10, 150, 100, 280)], strict=True
    ):
        mask[top:bottom, left:right] = True
    masks[0, 20:60, 80:120] = False  # an L: its box is not its mask
    image[masks[0]] = (200, 30, 40)
    scene = synthetic.Scene(image, masks, np.array([synthetic.box_of(mask) for mask in masks]))
    content = synthetic.write_coco(tmp_path / "coco", "train2017", [scene], [17])
    content["annotations"][3]["iscrowd"] = 1
    synthetic.save_annotations(tmp_path / "coco", "train2017", json.loads(json.dumps(content)))
    return tmp_path / "coco"


def test_free_large_objects_are_cut_out_and_serve_as_sprites(coco_dir, tmp_path):
    out = tmp_path / "cutouts"
    assert write_cutouts(coco_dir, out) == 1
    [path] = out.rglob("*.png")
    assert path.relative_to(out).parts == ("cat", "100000.png")
    pixels = read_cutout(path)
    assert pixels.shape == (78, 78, 4), "the outline loses a pixel"
    visible = pixels[..., 3] > 0
    assert set(np.unique(pixels[..., 3])) == {0, 255}
    assert visible.sum() == 78 * 78 - 40 * 40
    assert np.abs(pixels[visible][:, :3].astype(int) - (200, 30, 40)).max() < 25, "the object's colour"
    assert any(artwork.vendor == "own" for artwork in sprite_pools(out)["train"][17])


def test_pictures_that_a_camera_turned_are_cut_as_they_are_annotated(coco_dir, tmp_path):
    [path] = (coco_dir / "train2017").iterdir()
    with Image.open(path) as picture:
        exif = picture.getexif()
        exif[Base.Orientation] = 6
        picture.save(path, exif=exif, quality=95)
    assert write_cutouts(coco_dir, tmp_path / "cutouts") == 1
    [path] = (tmp_path / "cutouts").rglob("*.png")
    pixels = read_cutout(path)
    assert np.abs(pixels[pixels[..., 3] > 0][:, :3].astype(int) - (200, 30, 40)).max() < 25


def test_pictures_can_be_chosen_and_a_full_folder_is_refused(coco_dir, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    with pytest.raises(InputError, match="not an empty folder"):
        write_cutouts(coco_dir, tmp_path / "full", ids={100})
    with pytest.raises(ValueError, match="none of the listed image ids"):
        write_cutouts(coco_dir, tmp_path / "out", ids={5})

    # A mask too thin to lose a pixel is left out.
    path = coco_dir / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    mask = np.zeros((200, 300), bool)
    mask[20:22, 40:120] = mask[20:100, 40:42] = True
    content["annotations"][0]["segmentation"] = synthetic.run_lengths(mask, compressed=True)
    path.write_text(json.dumps(content))
    assert write_cutouts(coco_dir, tmp_path / "out") == 0
