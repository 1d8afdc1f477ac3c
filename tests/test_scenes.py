import filecmp
import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import command_line
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from deepmac.core.categories import ALL_IDS, ID_BY_NAME
from deepmac.data.rules import read_points
from deepmac.scenes.dataset import compose_scenes

ARGUMENTS = {"images": 40, "val_images": 12, "size": 64, "seed": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return compose_scenes(tmp_path_factory.mktemp("scenes") / "coco", jobs=1, **ARGUMENTS)


@pytest.fixture(params=["train", "val"])
def coco(folder, request):
    split = f"{request.param}2017"
    return COCO(folder / "annotations" / f"instances_{split}.json"), folder / split


def _files(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_bytes_do_not_depend_on_how_many_scenes_are_composed_at_once(folder, tmp_path):
    other = compose_scenes(tmp_path / "other", jobs=2, **ARGUMENTS)
    assert _files(folder) == _files(other)
    assert filecmp.cmpfiles(folder, other, _files(folder), shallow=False)[0] == _files(folder)


def test_another_seed_gives_other_scenes_and_more_images_the_same_ones(folder, tmp_path):
    more = compose_scenes(tmp_path / "more", **{**ARGUMENTS, "images": 43})
    seed = compose_scenes(tmp_path / "seed", **{**ARGUMENTS, "images": 3, "val_images": 1, "seed": 6})
    name = "train2017/000000000002.jpg"
    assert (more / name).read_bytes() == (folder / name).read_bytes()
    assert (seed / name).read_bytes() != (folder / name).read_bytes()
    assert len(list((more / "train2017").iterdir())) == 43


def test_layout_and_images(coco):
    api, images = coco
    names = [one["file_name"] for one in api.dataset["images"]]
    assert sorted(path.name for path in images.iterdir()) == names
    assert len(api.imgs) == {"train2017": 40, "val2017": 12}[images.name]
    for entry in api.dataset["images"]:
        with Image.open(images / entry["file_name"]) as image:
            assert image.format == "JPEG" and image.mode == "RGB"
            assert image.size == (entry["width"], entry["height"]) == (64, 64)
    assert tuple(api.cats) == ALL_IDS
    assert all(ID_BY_NAME[category["name"]] == category["id"] for category in api.cats.values())


def test_boxes_and_areas_are_those_of_the_masks_and_masks_are_disjoint(coco):
    api, _ = coco
    assert len(api.anns) > 3 * len(api.imgs)
    for image_id in api.imgs:
        annotations = api.loadAnns(api.getAnnIds(image_id))
        masks = [api.annToMask(annotation) for annotation in annotations]
        assert not masks or np.sum(masks, axis=0).max() == 1
        for annotation, mask in zip(annotations, masks, strict=True):
            ys, xs = np.nonzero(mask)
            left, top, width, height = annotation["bbox"]
            assert (left, top) == (xs.min(), ys.min())
            assert (left + width, top + height) == (xs.max() + 1, ys.max() + 1)
            assert annotation["area"] == mask.sum() >= 24
            assert annotation["iscrowd"] == 0


def test_points_lie_in_the_box_and_say_what_is_there(coco):
    api, _ = coco
    on_object = []
    for annotation in api.loadAnns(api.getAnnIds()):
        points = read_points(annotation)
        left, top, width, height = annotation["bbox"]
        assert len(points) == 10
        x, y = points[:, 0], points[:, 1]
        assert ((x > left) & (x < left + width) & (y > top) & (y < top + height)).all()
        mask = api.annToMask(annotation)
        np.testing.assert_array_equal(points[:, 2], mask[y.astype(int), x.astype(int)])
        on_object += points[:, 2].tolist()
    assert 0.3 < np.mean(on_object) < 0.9  # objects do not fill their boxes


def test_ids_differ_and_the_artists_are_credited(folder):
    train, val = (
        json.loads((folder / "annotations" / f"instances_{split}2017.json").read_text())
        for split in ("train", "val")
    )
    assert not {one["id"] for one in train["images"]} & {one["id"] for one in val["images"]}
    for part in (train, val):
        ids = [one["id"] for one in part["annotations"]]
        assert len(set(ids)) == len(ids)
        assert "OpenMoji" in part["info"]["contributor"] and "Twemoji" in part["info"]["contributor"]
        assert {one["license"] for one in part["images"]} == {one["id"] for one in part["licenses"]}
    text = (folder / "README.txt").read_text()
    assert "Twemoji" in text and "CC BY 4.0" in text and "OpenMoji" in text and "CC BY-SA 4.0" in text
    assert "train: 40 images" in text and "val: 12 images" in text


def test_contact_sheet_shows_the_images_with_outlines(folder):
    sheet = np.asarray(Image.open(folder / "contact_sheet.png")).astype(int)
    with Image.open(folder / "train2017" / "000000000001.jpg") as image:
        enlarged = np.asarray(image.resize((256, 256), Image.Resampling.BICUBIC)).astype(int)
    same = (np.abs(sheet[8 : 8 + 256, 8 : 8 + 256] - enlarged).max(axis=-1) == 0).mean()
    assert 0.3 < same < 0.99
    few = folder.parent / "few"
    compose_scenes(few, images=1, val_images=1, size=32)
    with Image.open(few / "contact_sheet.png") as image:
        assert image.size == (8 + 2 * 264, 8 + 264 + 20)


def test_own_sprites_appear_in_the_scenes(tmp_path):
    for number in range(4):
        pixels = np.zeros((30, 50, 4), np.uint8)
        pixels[3:-3, 3:-3] = (250, 0, 250, 255)
        (tmp_path / "own" / "fire hydrant").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "own" / "fire hydrant" / f"{number}.png")
    out = compose_scenes(tmp_path / "out", images=60, val_images=1, size=64, sprites=tmp_path / "own")
    train = json.loads((out / "annotations" / "instances_train2017.json").read_text())
    assert ID_BY_NAME["fire hydrant"] in {one["category_id"] for one in train["annotations"]}
    assert "--sprites" in (out / "README.txt").read_text()


def test_command(tmp_path):
    arguments = ["scenes", "--out", tmp_path / "out", "--images", 3, "--val-images", 1, "--size", 32]
    arguments += ["--seed", 1, "--jobs", 1]
    command_line.run(*arguments)
    assert (tmp_path / "out" / "contact_sheet.png").is_file()
    assert "not an empty folder" in command_line.refused(*arguments)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [(option, 0, f"'--{option}': 0 is not in the range") for option in ("images", "val-images", "jobs")]
    + [("size", 31, "'--size': 31 is not in"), ("seed", -1, "'--seed': -1 is not in")]
    + [("sprites", "nowhere", "nowhere is not a folder")],
)
def test_bad_arguments(tmp_path, option, value, message):
    arguments = ["--images", 1, "--size", 32, f"--{option}", value, "--out", tmp_path / "out"]
    assert message in command_line.refused("scenes", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_stopped_leaves_nothing(tmp_path):
    flags = ["scenes", "--images", "100000", "--size", "32", "--out", tmp_path / "out"]
    command = [sys.executable, "-c", "from deepmac.cli import main; main()", *map(str, flags)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out-*/train2017/*.jpg")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode > 0
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_scenes_are_those_that_committed_results_were_trained_on(tmp_path):
    """Results are kept under a hash of `compose_scenes`' arguments: these must go on to give the same scenes.

    Annotations to the byte; of pictures the mean colours of 4x4 fields, since OpenCV rounds some pixels
    otherwise with other instruction sets.
    """
    folder = compose_scenes(tmp_path / "scenes", 24, 8, size=128, seed=0)
    for line in (Path(__file__).parent / "composed_scenes.txt").read_text().splitlines():
        name, expected = line.split()
        if name.endswith(".json"):
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected, name
        else:
            fields = np.frombuffer(bytes.fromhex(expected), np.uint8)
            np.testing.assert_allclose(_mean_colours(folder / name), fields, atol=1, err_msg=name)


def _mean_colours(path):
    pixels = np.asarray(Image.open(path), float).reshape(4, 32, 4, 32, 3)
    return pixels.mean(axis=(1, 3)).round().ravel()
