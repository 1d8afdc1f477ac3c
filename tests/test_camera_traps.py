"""The composed camera-trap collection: its layout, and that masks, boxes and pictures tell the same."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepmac.core.errors import InputError
from deepmac.core.label_images import read_label_image
from deepmac.iwildcam.checks import check_collection
from deepmac.iwildcam.collection import open_collection
from deepmac.scenes.artwork import artworks
from deepmac.scenes.camera_traps import (
    HABITATS,
    HEIGHT,
    LABEL,
    SPECIES,
    TRUTH_FOLDER,
    WIDTH,
    Animal,
    Place,
    compose_sample,
)
from deepmac.scenes.pyramid import build_pyramid

NOON, MIDNIGHT = 12.0, 0.0
# Opaque, two thirds as wide as high; the left half is darker than the right one.
DRAWING = build_pyramid(np.full((90, 60, 4), 255, np.uint8))
DRAWING.levels[0][:, :30, :3] = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return compose_sample(tmp_path_factory.mktemp("sample") / "release", sequences=3, seed=1)


def _files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}


def test_the_same_seed_gives_the_same_collection(folder, tmp_path):
    again = _files(compose_sample(tmp_path / "again", sequences=3, seed=1))
    assert again == _files(folder)
    assert not set(_files(compose_sample(tmp_path / "other", sequences=1, seed=2))) >= set(again)
    with pytest.raises(InputError, match="not an empty folder"):
        compose_sample(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"again", "other"}


def test_it_is_laid_out_as_the_release_of_2022(folder):
    names = {path.relative_to(folder).as_posix() for path in folder.glob("*/*.*") if path.suffix != ".jpg"}
    assert {name for name in names if name.startswith("metadata")} == {
        "metadata/iwildcam2022_mdv4_detections.json",
        "metadata/iwildcam2022_train_annotations.json",
        "metadata/iwildcam2022_test_information.json",
        "metadata/train_sequence_counts.csv",
    }
    collection = open_collection(folder)
    names = {path.relative_to(folder).as_posix() for path in folder.glob("t*/*.jpg")}
    assert names == set(collection.animals["picture"])
    kinds = {problem.kind for problem in check_collection(collection)}
    assert kinds == {"missing masks"}, "they are made by the command"
    train = json.loads((folder / "metadata/iwildcam2022_train_annotations.json").read_text())
    test = json.loads((folder / "metadata/iwildcam2022_test_information.json").read_text())
    assert "annotations" not in test
    assert {entry["image_id"] for entry in train["annotations"]} == {entry["id"] for entry in train["images"]}
    locations = [{entry["location"] for entry in document["images"]} for document in (train, test)]
    assert locations == [{1, 2, 3, 4}, {5, 6}]


def test_sequences_are_complete_and_in_the_order_of_time(folder):
    pictures = open_collection(folder).animals.drop_duplicates("picture")
    assert pictures["sequence"].nunique() == 6 * 3
    for _, sequence in pictures.groupby("sequence"):
        assert sequence["frame"].tolist() == list(range(len(sequence)))
        assert (np.diff(sequence["time"]) == np.timedelta64(1, "s")).all()
        assert len(sequence.drop_duplicates(["camera", "species"])) == 1


def test_detections_are_sorted_and_boxes_fit_the_true_masks(folder):
    found = 0
    for name, animals in open_collection(folder).animals.query("number > 0").groupby("picture"):
        assert (np.diff(animals["confidence"]) <= 0).all()
        truth = read_label_image(folder / TRUTH_FOLDER / f"{Path(name).stem}.png")
        assert truth.shape == (HEIGHT, WIDTH)
        assert truth.max() <= len(animals)
        low, sides = animals[["ymin", "xmin"]].to_numpy(), animals[["height", "width"]].to_numpy()
        for number, box in enumerate(np.hstack([low, low + sides]), start=1):
            rows, columns = (truth == number).nonzero()
            if len(rows):
                found += 1
                tight = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
                size = np.tile([tight[2] - tight[0], tight[3] - tight[1]], 2)
                assert (np.abs(box * ([HEIGHT, WIDTH] * 2) - tight) < 0.1 * size + 1).all()
    assert found > 20


def test_pictures_say_that_they_are_composed_and_some_are_infrared(folder):
    night = 0
    for path in folder.glob("t*/*.jpg"):
        with Image.open(path) as picture:
            assert picture.info["comment"].decode() == LABEL
            pixels = np.asarray(picture, int)
        strip, above = pixels[HEIGHT - 18 :], pixels[: HEIGHT - 24]
        orange = (strip[..., 0] > 150) & (strip[..., 2] < strip[..., 0] - 60)
        assert orange.any(), "the words in the strip"
        night += np.abs(above[..., 0] - above[..., 2]).max() < 12
    assert 0 < night < len(list(folder.glob("t*/*.jpg")))


def _place(habitat="scrub", seed=0):
    return Place(np.random.default_rng(seed), HABITATS[habitat])


def _photograph(place, *animals, hour=NOON, second=0):
    return place.photograph(np.random.default_rng(1), animals, hour, second)


def _box(mask):
    rows, columns = mask.nonzero()
    return rows.min(), columns.min(), rows.max() + 1, columns.max() + 1


@pytest.mark.parametrize("hour", [NOON, MIDNIGHT])
def test_the_owned_pixels_are_those_an_animal_changes(hour):
    place = Place(np.random.default_rng(0), HABITATS["scrub"] | {"trees": 0, "bushes": 0, "blades": 0})
    animal = Animal(DRAWING, height=1.5, distance=4.0, column=300.0, speed=-0.2)
    (empty, _), (picture, owner) = _photograph(place, hour=hour), _photograph(place, animal, hour=hour)
    top, left, bottom, right = _box(owner == 1)
    assert abs((bottom - top) - 1.5 * 430 / 4) <= 2, "its height in perspective"
    assert abs((left + right) / 2 - 300) <= 1
    assert (owner[top:bottom, left:right] == 1).mean() > 0.97, "as the drawing, a rectangle"
    change = np.abs(picture.astype(int) - empty).max(axis=-1)
    far_above = np.s_[: max(top - 5, 0)]
    assert np.median(change[owner == 1]) > 5 * max(1, np.median(change[far_above]))


def test_farther_animals_are_smaller_and_stand_higher():
    place, boxes = _place(), []
    for distance in (3.0, 6.0):
        _, owner = _photograph(place, Animal(DRAWING, 0.8, distance, WIDTH / 2, 0.1))
        boxes.append(_box(owner == 1))
    (near_top, _, near_foot, _), (far_top, _, far_foot, _) = boxes
    assert (near_foot - near_top) == pytest.approx(2 * (far_foot - far_top), abs=3)
    assert far_foot < near_foot


def test_animals_move_and_look_where_they_go():
    for speed in (-0.5, 0.5):
        animal = Animal(DRAWING, 1.0, 4.0, WIDTH / 2, speed)
        picture, owner = _photograph(_place(), animal)
        _, later = _photograph(_place(), animal, second=2)
        _, left, _, right = _box(owner == 1)
        assert _box(later == 1)[1] - left == pytest.approx(2 * speed * 430 / 4, abs=2)
        middle = (left + right) // 2
        halves = [
            picture[:, part][owner[:, part] == 1].mean() for part in (slice(middle), slice(middle, None))
        ]
        assert (halves[0] < halves[1]) == (speed < 0), "the dark side of the drawing leads"


@pytest.mark.parametrize("column", [0.0, WIDTH, 5.0 * WIDTH])
def test_animals_are_cut_at_the_edges(column):
    _, owner = _photograph(_place(), Animal(DRAWING, 1.0, 3.0, column, 0.1))
    half = round(430 / 3 / 3)
    expected = 0 if column > WIDTH else half
    widths = (owner == 1).any(axis=0).sum()
    assert abs(widths - expected) <= 2


@pytest.mark.parametrize("habitat", HABITATS)
def test_nearer_things_hide_farther_ones_and_night_is_dark_far_away(habitat):
    for species in SPECIES:
        assert set(species["habitats"]) <= set(HABITATS) and artworks(species["drawings"])
    place = _place(habitat)
    near, far = Animal(DRAWING, 2.5, 4.0, WIDTH / 2, 0.1), Animal(DRAWING, 2.5, 7.0, WIDTH / 2 + 90, 0.1)
    day, owner = _photograph(place, far, near)
    night, _ = _photograph(place, far, near, hour=MIDNIGHT)
    _, alone = _photograph(place, far)
    assert 0 < (owner == 1).sum() < (alone == 1).sum()
    assert ((owner == 1) <= (alone == 1)).all()
    assert (owner[alone == 1] > 0).all(), "where the far one is hidden the near one is seen"
    assert night.dtype == day.dtype == np.uint8 and night.shape == day.shape == (HEIGHT, WIDTH, 3)
    assert night[:100].mean() < 0.5 * night[300:440].mean()
    assert (night[..., 0] == night[..., 2]).all()
    assert (day[..., 0] != day[..., 2]).any()
