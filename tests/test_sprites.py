import cv2
import numpy as np
import pytest
from PIL import Image

from deepmac.core.categories import ID_BY_NAME, NAME_BY_ID, VOC_IDS
from deepmac.core.errors import InputError
from deepmac.scenes.artwork import ARTWORK, Picture, artworks, svg_path
from deepmac.scenes.sprites import read_cutout, render, sprite_pools


@pytest.fixture(scope="module")
def pools():
    return sprite_pools()


def _save_cutout(path, size=(20, 30), mode="RGBA"):
    """A green ellipse on transparent ground."""
    ys, xs = np.mgrid[: size[0], : size[1]]
    inside = ((ys / size[0] - 0.5) ** 2 + (xs / size[1] - 0.5) ** 2 < 0.2).astype(np.uint8)
    pixels = np.stack([0 * inside, 200 * inside, 0 * inside, 255 * inside], axis=-1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)


def test_no_artwork_is_in_both_splits(pools):
    pictures = {
        split: {variant for listed in pools[split].values() for one in listed for variant in one.variants}
        for split in pools
    }
    assert not pictures["train"] & pictures["val"]
    in_table = {v for name in ARTWORK for one in artworks(ARTWORK[name]) for v in one.variants}
    assert pictures["train"] | pictures["val"] == in_table


def test_every_class_with_two_artworks_is_in_both_splits(pools):
    assert {NAME_BY_ID[i] for i in pools["train"]} == set(ARTWORK)
    only_in_training = {NAME_BY_ID[i] for i in set(pools["train"]) - set(pools["val"])}
    assert only_in_training == {name for name in ARTWORK if len(artworks(ARTWORK[name])) == 1}


def test_styles_keep_sets_of_classes_to_one_vendor_each():
    styled = sprite_pools(styles={"voc": "twemoji", "non_voc": "openmoji"})
    for split, pool in styled.items():
        for category_id, listed in pool.items():
            expected = "twemoji" if category_id in VOC_IDS else "openmoji"
            assert {artwork.vendor for artwork in listed} == {expected}
        assert len(set(pool) & set(VOC_IDS)) > 12, split
        assert len(set(pool) - set(VOC_IDS)) > 15, split


@pytest.mark.parametrize("code", ["1f697", "1f415", "1f34c", "1f382", "1f6b2", "1f9cd-1f3fd"])
def test_rendering_agrees_with_the_vendors_png(code):
    svg = svg_path("twemoji", code)
    png = np.asarray(Image.open(svg.parents[1] / "72x72" / f"{code}.png").convert("RGBA")).astype(float)
    png[..., :3] *= png[..., 3:] / 255
    ys, xs = np.nonzero(png[..., 3] >= 8)
    expected = png[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    rendered = render(Picture(svg), 144).astype(float)
    resized = cv2.resize(rendered, expected.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(resized - expected).mean() < 10  # of 255; edges differ by a part of a pixel


@pytest.mark.parametrize("side", [48, 256])
@pytest.mark.parametrize("code", ["1f697", "1f52a"])
@pytest.mark.parametrize("vendor", ["twemoji", "openmoji"])
def test_longer_side_and_premultiplied_alpha(vendor, code, side):
    cutout = render(Picture(svg_path(vendor, code)), side)
    assert cutout.dtype == np.uint8
    assert abs(max(cutout.shape[:2]) - side) <= 0.07 * side
    assert (cutout[..., :3] <= cutout[..., 3:]).all()
    for edge in (cutout[0], cutout[-1], cutout[:, 0], cutout[:, -1]):
        assert edge[..., 3].any()  # cropped


def test_dropped_elements_are_not_drawn():
    svg = svg_path("twemoji", "26f5")
    water = (render(Picture(svg), 128)[-1] == (85, 172, 238, 255)).all(axis=-1)  # "#55ACEE", along the bottom
    assert water.mean() > 0.9
    assert not (render(Picture(svg, drop=(2,)), 128)[..., :3] == (85, 172, 238)).all(axis=-1).any()


def test_kept_and_dropped_elements_complement_each_other():
    svg = svg_path("twemoji", "1f454")
    whole = render(Picture(svg), 100)
    assert (render(Picture(svg, keep=tuple(range(20))), 100) == whole).all()
    tie = render(Picture(svg, keep=(1, 2, 3)), 100)
    assert tie.shape[1] < 0.7 * tie.shape[0] < 0.7 * 1.1 * whole.shape[1]


def test_parts_are_counted_from_the_left():
    svg = svg_path("twemoji", "1f374")
    fork, knife = (render(Picture(svg, part=part), 200)[..., 3] > 127 for part in (0, 1))

    def pieces_near_the_top(mask):
        row = mask[len(mask) // 10].astype(int)
        return np.count_nonzero(np.diff(np.pad(row, 1)) == 1)

    assert pieces_near_the_top(fork) == 3  # its prongs
    assert pieces_near_the_top(knife) == 1


def test_own_sprites_are_added_and_split_by_name(tmp_path, pools):
    for number in range(60):
        _save_cutout(tmp_path / "toaster" / f"{number}.png")
    _save_cutout(tmp_path / "oven" / "only.webp")
    _save_cutout(tmp_path / "dog" / "rex.png")
    with_own = sprite_pools(tmp_path)
    toaster = ID_BY_NAME["toaster"]
    names = {split: {one.name for one in with_own[split][toaster]} for split in with_own}
    assert names["train"] | names["val"] == {f"{number}.png" for number in range(60)}
    assert not names["train"] & names["val"]
    assert 4 <= len(names["val"]) <= 20
    assert ID_BY_NAME["oven"] in with_own["train"] and ID_BY_NAME["oven"] not in with_own["val"]
    dogs = [one.vendor for split in with_own for one in with_own[split][ID_BY_NAME["dog"]]]
    assert dogs.count("own") == 1 and len(dogs) == 1 + len(artworks(ARTWORK["dog"]))
    assert with_own["val"][ID_BY_NAME["cat"]] == pools["val"][ID_BY_NAME["cat"]]


def test_an_own_sprite_keeps_its_split_when_others_are_added(tmp_path):
    for number in range(8):
        _save_cutout(tmp_path / "few" / "bench" / f"{number}.png")
    for number in range(16):
        _save_cutout(tmp_path / "many" / "bench" / f"{number}.png")
    few, many = (sprite_pools(tmp_path / folder) for folder in ("few", "many"))
    bench = ID_BY_NAME["bench"]
    for split in few:
        names = {one.name for one in few[split].get(bench, ())}
        assert names <= {one.name for one in many[split].get(bench, ())}


def test_own_sprite_is_cropped_and_shrunk(tmp_path):
    _save_cutout(tmp_path / "a.png", size=(400, 600))
    cutout = render(Picture(tmp_path / "a.png"), 90)
    assert max(cutout.shape[:2]) == 90
    assert (cutout[30, 45] == (0, 200, 0, 255)).all()
    _save_cutout(tmp_path / "b.png", size=(20, 30))
    assert max(render(Picture(tmp_path / "b.png"), 90).shape[:2]) <= 30  # never enlarged


def test_own_sprites_that_cannot_be_used(tmp_path):
    for name, message in (
        ("bycicle", "'bycicle' is not the name of a COCO class; did you mean 'bicycle'"),
        ("Person", "did you mean 'person'"),
        ("xyzzy", "'xyzzy' is not the name of a COCO class$"),
    ):
        _save_cutout(tmp_path / name / name / "a.png")
        with pytest.raises(InputError, match=message):
            sprite_pools(tmp_path / name)
    folder, picture = tmp_path / "own", tmp_path / "own" / "dog" / "rex.png"
    _save_cutout(picture, mode="RGB")
    with pytest.raises(InputError, match=r"rex\.png has no alpha channel"):
        sprite_pools(folder)
    _save_cutout(picture)
    for content in (picture.read_bytes()[:60], b"not a picture"):
        picture.write_bytes(content)
        with pytest.raises(InputError, match=r"cannot read .*rex\.png"):
            sprite_pools(folder)
    Image.new("RGBA", (8, 8)).save(picture)
    with pytest.raises(InputError, match=r"rex\.png is transparent everywhere"):
        read_cutout(picture)
    picture.unlink()
    with pytest.raises(InputError, match="holds no pictures"):
        sprite_pools(folder)
    with pytest.raises(InputError, match="is not a folder"):
        sprite_pools(tmp_path / "nowhere")
