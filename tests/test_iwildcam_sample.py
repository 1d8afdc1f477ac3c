import json

import numpy as np
import pytest
from PIL import Image

from deepmac.core.label_images import read_label_image
from deepmac.iwildcam.checks import check_collection
from deepmac.iwildcam.collection import open_collection
from deepmac.scenes.camera_traps import compose
from deepmac.scenes.camera_traps.animals import SPECIES, animal_layer
from deepmac.scenes.camera_traps.compose import LABEL, compose_sample
from deepmac.scenes.camera_traps.scenery import HABITATS, Scenery
from deepmac.scenes.camera_traps.view import (
    HEIGHT,
    WIDTH,
    Canvas,
    Layer,
    daylight,
    ground_distances,
    ground_row,
    infrared,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return compose_sample(tmp_path_factory.mktemp("sample") / "release", sequences=3, seed=1)


def _files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}


def test_the_same_seed_gives_the_same_collection(folder, tmp_path):
    again = _files(compose_sample(tmp_path / "again", sequences=3, seed=1))
    assert again == _files(folder)
    assert not set(_files(compose_sample(tmp_path / "other", sequences=1, seed=2))) >= set(again)


def test_it_is_laid_out_as_the_release_of_2022(folder):
    names = {path.relative_to(folder).as_posix() for path in folder.glob("*/*.*") if path.suffix != ".jpg"}
    assert {name for name in names if name.startswith("metadata")} == {
        "metadata/iwildcam2022_mdv4_detections.json",
        "metadata/iwildcam2022_train_annotations.json",
        "metadata/iwildcam2022_test_information.json",
        "metadata/train_sequence_counts.csv",
    }
    collection = open_collection(folder)
    assert {path.stem for path in folder.glob("t*/*.jpg")} == {picture.id for picture in collection.pictures}
    kinds = {problem.kind for problem in check_collection(collection)}
    assert kinds == {"missing masks"}, "they are made by the command"
    train = json.loads((folder / "metadata/iwildcam2022_train_annotations.json").read_text())
    test = json.loads((folder / "metadata/iwildcam2022_test_information.json").read_text())
    assert "annotations" not in test
    assert {entry["image_id"] for entry in train["annotations"]} == {entry["id"] for entry in train["images"]}
    locations = [{entry["location"] for entry in document["images"]} for document in (train, test)]
    assert locations == [{1, 2, 3, 4}, {5, 6}]


def test_sequences_are_complete_and_in_the_order_of_time(folder):
    sequences = {}
    for picture in open_collection(folder).pictures:
        sequences.setdefault(picture.sequence, []).append(picture)
    assert len(sequences) == 6 * 3
    for pictures in sequences.values():
        assert [picture.frame for picture in pictures] == list(range(len(pictures)))
        seconds = np.diff([picture.time.timestamp() for picture in pictures])
        assert (seconds == 1).all()
        assert len({(picture.location, picture.categories) for picture in pictures}) == 1


def test_detections_are_sorted_and_boxes_fit_the_true_masks(folder):
    found = 0
    for picture in (collection := open_collection(folder)).pictures:
        detections = collection.detections(picture)
        assert detections.usable.all()
        assert (np.diff(detections.confidences) <= 0).all()
        truth = read_label_image(folder / compose.TRUTH_FOLDER / f"{picture.id}.png")
        assert truth.shape == (HEIGHT, WIDTH)
        assert truth.max() <= len(detections)
        for number, box in enumerate(detections.corners, start=1):
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


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(FileExistsError):
        compose_sample(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_perspective():
    distances = ground_distances(horizon=180.0)
    for distance in (2.0, 5.0, 20.0):
        row = round(ground_row(180.0, distance))
        assert distances[row] == pytest.approx(distance, rel=0.1)
    assert (np.diff(distances) <= 0).all()


@pytest.mark.parametrize("offset", [(-30, -30), (HEIGHT - 10, WIDTH - 10), (100, 200), (HEIGHT + 5, 0)])
def test_layers_are_cut_at_the_edges(offset):
    canvas = Canvas(np.zeros((HEIGHT, WIDTH, 3), np.float32), np.full((HEIGHT, WIDTH), 9, np.float32))
    layer = Layer(np.ones((40, 50, 3), np.float32), np.ones((40, 50, 1), np.float32), *offset, 2.0)
    canvas.lay(layer, 3)
    expected = np.zeros((HEIGHT, WIDTH), bool)
    top, left = offset
    expected[max(top, 0) : max(top + 40, 0), max(left, 0) : max(left + 50, 0)] = True
    np.testing.assert_array_equal(canvas.owner == 3, expected)
    np.testing.assert_array_equal(canvas.distance == 2, expected)
    np.testing.assert_array_equal(canvas.picture[..., 0] == 1, expected)


@pytest.mark.parametrize("habitat", HABITATS)
def test_nearer_things_hide_farther_ones_and_night_is_dark_far_away(habitat):
    rng = np.random.default_rng(0)
    place = Scenery(rng, HABITATS[habitat])
    near, far = (
        animal_layer(rng, ("openmoji", "1f418"), 2.5, distance, WIDTH / 2, 0.0, place.horizon)
        for distance in (4.0, 7.0)
    )
    canvas = place.with_animals([far, near], shadow=0.3)
    alone = place.with_animals([far], shadow=0.3)
    assert 0 < (canvas.owner == 1).sum() < (alone.owner == 1).sum()
    assert ((canvas.owner == 1) <= (alone.owner == 1)).all()
    assert (canvas.distance[canvas.owner == 2] == 4).all()
    night, day = infrared(rng, canvas), daylight(rng, canvas, 1.0)
    assert night.dtype == day.dtype == np.uint8
    assert night[canvas.distance > 30].mean() < 0.5 * night[canvas.distance < 4].mean()
    assert (night[..., 0] == night[..., 2]).all()
    assert (day[..., 0] != day[..., 2]).any()


def test_every_drawing_exists_and_is_mirrored_when_it_goes_to_the_right():
    for species in SPECIES:
        assert set(species.habitats) <= set(HABITATS)
        for drawing in species.drawings:
            left, right = (
                animal_layer(np.random.default_rng(0), drawing, 1.0, 3.0, 100, speed, 180.0)
                for speed in (-0.001, 0.001)
            )
            assert (left.alpha > 0.5).mean() > 0.2
            difference = np.abs(left.alpha - right.alpha[:, ::-1])
            assert difference.mean() < 0.1, "mirrored, but for the animal's gait"
