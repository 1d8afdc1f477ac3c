import json
import os
import re
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import camera_traps
import command_line
import numpy as np
import pytest
import tiny_model
from hypothesis import given
from hypothesis import strategies as st
from notebook_cells import run_cell
from PIL import Image

from deepmac.core import executors
from deepmac.core.errors import InputError
from deepmac.core.label_images import write_label_image
from deepmac.data.megadetector import Detections
from deepmac.inference.prediction import Prediction
from deepmac.iwildcam import make_masks as masks
from deepmac.iwildcam.checks import check_collection
from deepmac.iwildcam.collection import open_collection
from deepmac.iwildcam.layout import find_layout
from deepmac.iwildcam.make_masks import CollectionJobs, MaskOptions, make_masks, parse_shard
from deepmac.jobs import stream
from deepmac.jobs.box_files import read_boxes
from deepmac.jobs.pictures import Picture


@pytest.fixture
def release(tmp_path, loads):
    return camera_traps.write_release(tmp_path / "release")


def _make(root, out, **options):
    return make_masks(root, root / "metadata/iwildcam2022_mdv4_detections.json", out, **options)


def _document(folder, images):
    """Writes what a detector found in pictures, of which there is one, a.jpg."""
    camera_traps.write_picture(folder / "a.jpg")
    path = folder / "detections.json"
    path.write_text(json.dumps({"images": images, "detection_categories": {"1": "animal"}}))
    return path


def _found(box, confidence=0.9):
    return {"category": "1", "bbox": box, "conf": confidence}


def _many(folder, count, boxes=2):
    """A collection of pictures of two sizes."""
    for number in range(count):
        size = (48, 80) if number % 3 else (80, 48)
        camera_traps.write_picture(folder / f"{number:03d}.jpg", number, size)
    names = {f"{number:03d}.jpg": boxes for number in range(count)}
    return camera_traps.write_detections(folder / "detections.json", names)


def _files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


@pytest.mark.parametrize("year", [2021, 2022])
def test_masks_are_the_predictors_and_the_more_confident_detection_is_seen(tmp_path, loads, year):
    root = camera_traps.write_release(tmp_path / "release", year)
    summary = make_masks(root, find_layout(root).detections, root / "instance_masks")
    assert (summary.written, summary.without_boxes, summary.failed) == (3, 1, [])
    assert sorted(_files(root / "instance_masks")) == ["a-1.png", "b-2.png", "d-4.png"]
    predictor = tiny_model.predictor()
    corners = [[y, x, y + h, x + w] for x, y, w, h in camera_traps.BOXES]
    prediction = predictor.predict(corners, encoded=predictor.encode(root / "train/b-2.jpg"))
    expected = np.zeros(camera_traps.SIZE, np.uint8)
    for number in (3, 1, 2):  # confidences 0.22, 0.61, 0.93
        expected[prediction.masks[number - 1]] = number
    labels = np.asarray(Image.open(root / "instance_masks/b-2.png"))
    np.testing.assert_array_equal(labels, expected)
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    collection = open_collection(root)
    assert check_collection(collection) == []
    quality = collection.animals["quality"][collection.animals["picture"] == "train/b-2.jpg"]
    np.testing.assert_allclose(quality, prediction.quality, atol=1e-4)


@pytest.mark.parametrize("shards", [2, 7])
def test_files_are_the_same_for_any_number_of_shards_and_threads(tmp_path, loads, shards, monkeypatch):
    detections = _many(tmp_path / "pictures", 11)
    make_masks(tmp_path / "pictures", detections, tmp_path / "whole")
    for index in range(shards):
        part = (index, shards)
        monkeypatch.setattr(executors, "usable_cores", lambda count=1 + index: count)
        make_masks(tmp_path / "pictures", detections, tmp_path / "parts", shard=part)
    assert len(_files(tmp_path / "whole")) == 11
    assert _files(tmp_path / "whole") == _files(tmp_path / "parts")


def test_unreadable_pictures_are_listed_and_do_not_stop_the_others(release, tmp_path):
    (release / "train/a-1.jpg").write_bytes((release / "train/a-1.jpg").read_bytes()[:300])
    (release / "test/d-4.jpg").unlink()
    summary = _make(release, tmp_path / "out")
    assert (summary.written, len(summary.failed)) == (1, 2)
    report = json.loads((tmp_path / "out/iwildcam_masks_report.json").read_text())
    assert (report["pictures"], report["written"], report["without_boxes"]) == (4, 1, 1)
    problems = {failure["name"]: failure["problem"] for failure in report["failed"]}
    assert problems["test/d-4.jpg"] == "no such picture"
    assert "damaged" in problems["train/a-1.jpg"]
    camera_traps.write_picture(release / "test/d-4.jpg", 3)
    summary = _make(release, tmp_path / "out", shard=(1, 2))
    assert (summary.written, summary.present) == (1, 1)
    assert (tmp_path / "out/iwildcam_masks_report_1-of-2.json").is_file()


@pytest.mark.parametrize("name", [r"C:\\data\\train\\b-2.jpg", "/mnt/elsewhere/b-2.jpg"])
def test_a_picture_named_after_another_machine_is_found_or_named(release, tmp_path, name):
    path = release / "metadata/iwildcam2022_mdv4_detections.json"
    path.write_text(path.read_text().replace("train/b-2.jpg", name))
    summary = _make(release, release / "instance_masks")
    problems = [] if "train" in name else ["skipped: mnt/elsewhere/b-2.jpg: no such picture"]
    assert (summary.problems(), summary.written) == (problems, 3 - len(problems))
    collection = open_collection(release)
    assert [problem.kind for problem in check_collection(collection)] == ["missing picture"] * len(problems)
    assert (collection.animals["area"] > 0).sum() == (3 if problems else 6)


def test_unusable_boxes_and_failures_of_the_detector_are_named(tmp_path, loads):
    """They are no pictures without an animal."""
    images = [
        {"file": "a.jpg", "detections": [_found([0.1] * 4), _found([1.2, 0.4, 0.3, 0.3])]},
        {"file": "b.jpg", "detections": [_found([0.5, 0.5, 0, 0.1])]},
        {"file": "c.jpg", "detections": None, "failure": "image access failure"},
        {"file": "d.jpg", "failures": ["DETECTOR"]},
        {"file": "e.jpg", "detections": []},
    ]
    arguments = ["--images", tmp_path, "--detections", _document(tmp_path, images), "--out", tmp_path / "out"]
    result = command_line.run("iwildcam-masks", *arguments)
    assert "), 1 without boxes, 3 skipped" in result.stdout
    assert result.stderr.splitlines() == [
        "boxes without area in their picture left out: 2 (detection 2 of a.jpg, detection 1 of b.jpg)",
        "skipped: b.jpg: no usable box",
        "skipped: c.jpg: the detector failed: image access failure",
        "skipped: d.jpg: the detector failed: DETECTOR",
    ]
    report = json.loads((tmp_path / "out/iwildcam_masks_report.json").read_text())
    assert [failure["name"] for failure in report["failed"]] == ["b.jpg", "c.jpg", "d.jpg"]
    assert [len(cases) for cases in report["repairs"].values()] == [2, 0, 0]
    _document(tmp_path, images[1:])
    assert "1 without boxes, 3 skipped" in command_line.run("iwildcam-masks", *arguments).stdout
    _document(tmp_path, images[1:-1])
    assert "all 3 pictures were skipped" in command_line.refused("iwildcam-masks", *arguments)


def test_a_picture_that_is_listed_twice_is_told_and_its_first_entry_counts(tmp_path, loads):
    good = {"file": "a.jpg", "detections": [_found([0.1, 0.1, 0.3, 0.3])]}
    images = [good, good, good | {"detections": []}, {"file": "b.jpg"}, {}]
    summary = make_masks(tmp_path, _document(tmp_path, images), tmp_path / "out")
    assert (summary.pictures, summary.written) == (2, 1)
    assert summary.problems() == [
        "pictures that are listed again left out: 2 (a.jpg, a.jpg)",
        "entries of pictures without a name left out: 1 (image 4)",
        "skipped: b.jpg: the detector failed: it has no list of detections",
    ]
    file = read_boxes(tmp_path / "detections.json")
    assert len(file.problems) == 2
    [boxes] = file.of([Picture(tmp_path / "a.jpg", Path("a.jpg"))])
    assert len(boxes.boxes) == 1


def test_corners_in_the_place_of_sides_are_told(tmp_path, loads):
    corners = [[0.1, 0.2, 0.6, 0.7], [0.5, 0.4, 0.9, 0.8], [0.6, 0.1, 0.9, 0.3]]
    detections = _document(tmp_path, [{"file": "a.jpg", "detections": [_found(box) for box in corners]}])
    summary = make_masks(tmp_path, detections, tmp_path / "out")
    assert summary.problems() == [
        "boxes clipped to their picture, [xmin, ymin, width, height] from 0 to 1 is expected: 2 "
        "(detection 2 of a.jpg, detection 3 of a.jpg)"
    ]


def test_more_than_255_detections(tmp_path, loads):
    boxes = [_found([0.001 * k, 0.1, 0.5, 0.8], k / 300) for k in range(300)]
    detections = _document(tmp_path, [{"file": "a.jpg", "detections": boxes}])
    out = tmp_path / "out"
    arguments = ["iwildcam-masks", "--images", tmp_path, "--detections", detections, "--out", out]
    command_line.run(*arguments, "--overlays")
    labels = np.asarray(Image.open(tmp_path / "out/a.png"))
    assert labels.dtype == np.uint16
    assert labels.max() == 300
    picture, seen = (np.asarray(Image.open(tmp_path / name), int) for name in ("a.jpg", "out/overlays/a.jpg"))
    assert (np.abs(picture - seen).max(axis=2) > 20)[labels > 255].mean() > 0.9


def test_overlays_a_contact_sheet_and_coloured_masks_of_the_same_values(release, tmp_path):
    _make(release, tmp_path / "grey")
    out = tmp_path / "out"
    _make(release, out, options=MaskOptions(overlays=True, palette=True))
    assert sorted(path.name for path in (out / "overlays").iterdir()) == ["a-1.jpg", "b-2.jpg", "d-4.jpg"]
    assert Image.open(out / "contact_sheet.jpg").size == (8 + 3 * 328, 8 + 268)
    for path in (tmp_path / "grey").glob("*.png"):
        coloured = Image.open(out / path.name)
        assert (Image.open(path).mode, coloured.mode) == ("L", "P")
        np.testing.assert_array_equal(np.asarray(coloured), np.asarray(Image.open(path)))
    drawn, plain = (
        np.asarray(Image.open(path)).astype(int)
        for path in (out / "overlays/b-2.jpg", release / "train/b-2.jpg")
    )
    changed = np.abs(drawn - plain).max(axis=2) > 60
    assert changed[np.asarray(Image.open(out / "b-2.png")) > 0].mean() > 0.5
    (out / "overlays/b-2.jpg").unlink()
    summary = _make(release, out, options=MaskOptions(overlays=True, palette=True))
    assert (summary.written, summary.present) == (1, 2), "what is missing is made again"
    assert check_collection(open_collection(release, masks=out)) == []


def test_masks_of_pictures_that_get_none_any_more_are_removed(release, tmp_path):
    detections, out = release / "metadata/iwildcam2022_mdv4_detections.json", tmp_path / "out"
    arguments = ["iwildcam-masks", "--images", release, "--detections", detections, "--out", out]
    command_line.run(*arguments, "--overlays")
    Image.new("L", (80, 48)).save(out / "c-3.png")  # not ours, of a picture without boxes
    before = sorted(_files(out))
    ours = (out / "a-1.png").read_bytes()
    Image.new("L", (80, 48)).save(out / "a-1.png")
    command_line.refused(*arguments, "--min-conf", "0.9")
    assert sorted(_files(out)) == before, "nothing is removed where nothing can be written"
    (out / "a-1.png").write_bytes(ours)
    assert "removed" not in command_line.run(*arguments, "--min-conf", "0.9", "--shard", "1/4").stdout
    assert sorted(_files(out)) == before, "that of another shard"
    said = command_line.run(*arguments, "--min-conf", "0.9").stdout
    assert "2 without boxes, 1 whose old masks were removed" in said
    assert sorted(_files(out)) == ["a-1.png", "b-2.png", "c-3.png"]
    assert sorted(path.name for path in (out / "overlays").iterdir()) == ["a-1.jpg", "b-2.jpg"]
    assert json.loads((out / "iwildcam_masks_report.json").read_text())["outdated"] == 1
    assert "2 whose old masks were removed" in command_line.run(*arguments, "--min-conf", "1").stdout
    assert sorted(_files(out)) == ["c-3.png"]


def test_masks_of_pictures_that_the_detections_do_not_list_are_named_and_not_used(release, tmp_path):
    """They may belong to another file of detections; `out` keeps them."""
    _make(release, out := release / "instance_masks")
    Image.new("L", (80, 48)).save(out / "foreign.png")  # nobody knows what it is
    detections = release / "metadata/iwildcam2022_mdv4_detections.json"
    camera_traps.write_detections(detections, {"train/a-1.jpg": 2, "train/c-3.jpg": 0})
    summary = _make(release, out)
    assert (summary.pictures, summary.written, summary.present, summary.outdated) == (2, 0, 1, 0)
    assert summary.problems() == [
        "masks of pictures that the detections do not list, which nothing shows: 2 (b-2.png, d-4.png)"
    ]
    animals = open_collection(release).animals
    assert animals["masks"][animals["masks"] != ""].unique().tolist() == ["instance_masks/a-1.png"]


def test_the_last_line_says_how_to_look_at_the_masks(release, tmp_path):
    detections = release / "metadata/iwildcam2022_mdv4_detections.json"
    arguments = ["--images", release, "--detections", detections, "--out", tmp_path / "elsewhere"]
    result = command_line.run("iwildcam-masks", *arguments)
    given = dict(re.findall(r'(\w+) = "(.*?)"', result.stdout.splitlines()[-1]))
    layout = find_layout(given.pop("iwildcam_dir"), **given)
    assert (layout.images, layout.detections, layout.masks) == (release, detections, tmp_path / "elsewhere")


class _Alive:
    """Counts the arrays that a function has returned and nobody has dropped yet."""

    def __init__(self, function):
        self._function, self._lock, self._count, self.most = function, threading.RLock(), 0, 0

    def __call__(self, *args):
        array = self._function(*args)
        weakref.finalize(array, self._change, -1)
        self._change(1)
        return array

    def _change(self, by):
        with self._lock:
            self._count += by
            self.most = max(self.most, self._count)


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path, monkeypatch):
    class Network:
        """Masks that fill their boxes."""

        input_size = None
        calibration = (0.0, 1.0)

        def encode(self, image):
            return image, np.ones(2, np.float32)

        def mask_probs(self, pixels, boxes):
            return np.ones((len(boxes), 4, 4), np.float32)

    monkeypatch.setattr(stream, "load", lambda *arguments: stream.Predictor(Network()))
    pictures, labels = _Alive(stream.read_annotated), _Alive(Prediction.to_label_image)
    monkeypatch.setattr(stream, "read_annotated", pictures)
    monkeypatch.setattr(Prediction, "to_label_image", lambda *arguments: labels(*arguments))
    camera_traps.write_picture(tmp_path / "a.png", 0, (200, 300))
    for number in range(150):
        (tmp_path / f"{number}.png").hardlink_to(tmp_path / "a.png")
    camera_traps.write_detections(tmp_path / "detections.json", {f"{number}.png": 2 for number in range(150)})
    assert make_masks(tmp_path, tmp_path / "detections.json", tmp_path / "masks").written == 150
    for arrays in (pictures, labels):  # of the picture that a core works on
        assert 1 <= arrays.most <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--images": "missing"}, "no such folder of pictures: missing"),
        ({"--detections": "missing.json"}, "missing.json"),
        ({"--shard": "9/3"}, "--shard 9/3 is not i/n"),
        ({"--min-conf": "1.5"}, "'--min-conf': 1.5 is not in the range"),
        ({"--model": "no such model"}, "no model 'no such model'"),
        ({"--out": "file"}, "file"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(release, tmp_path, monkeypatch, change, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    detections = release / "metadata/iwildcam2022_mdv4_detections.json"
    options = {"--images": release, "--detections": detections, "--out": "out"} | change
    arguments = [part for pair in options.items() for part in pair]
    assert words in command_line.refused("iwildcam-masks", *arguments)
    assert not (tmp_path / "out").exists()


def test_masks_somebody_else_made_are_kept(release, tmp_path):
    masks = release / "instance_masks"
    masks.mkdir()
    Image.new("L", (80, 48)).save(masks / "d-4.png")
    foreign = (masks / "d-4.png").read_bytes()
    detections = release / "metadata/iwildcam2022_mdv4_detections.json"
    arguments = ["iwildcam-masks", "--images", release, "--detections", detections, "--out", masks]
    assert "was not written by this command" in command_line.refused(*arguments)
    assert [path.name for path in masks.iterdir()] == ["d-4.png"]
    assert (masks / "d-4.png").read_bytes() == foreign
    result = command_line.run(*arguments, "--overwrite")
    assert result.stdout.startswith("Pictures: 3 segmented (masks: ")
    assert "), 1 without boxes, " in result.stdout


_MEASURED_RUN = """
import resource, sys
from deepmac.iwildcam.make_masks import make_masks
from deepmac.jobs.stream import ModelChoice
folder, count = sys.argv[1:]
summary = make_masks(folder, f"{folder}/{count}.json", f"{folder}/masks{count}", ModelChoice(input_size=256))
assert summary.written == int(count) and not summary.failed
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.nightly
def test_ten_thousand_pictures_take_the_memory_of_a_thousand_at_a_constant_rate(tmp_path):
    for seed in range(20):
        camera_traps.write_picture(tmp_path / f"drawn/{seed}.jpg", seed, (240, 320))
    for number in range(10_000):
        (tmp_path / f"{number:05d}.jpg").hardlink_to(tmp_path / f"drawn/{number % 20}.jpg")
    peaks = []
    for count in (1_000, 10_000):
        names = {f"{number:05d}.jpg": 2 for number in range(count)}
        camera_traps.write_detections(tmp_path / f"{count}.json", names)
        program = [sys.executable, "-c", _MEASURED_RUN, str(tmp_path), str(count)]
        run = subprocess.run(program, capture_output=True, text=True, check=True)
        peaks.append(int(run.stdout.split()[-1]))
    assert peaks[1] < 1.05 * peaks[0]
    times = sorted(path.stat().st_mtime for path in (tmp_path / "masks10000").glob("*.png"))
    rates = 1_000 / np.diff(times[::1_000])  # pictures a second
    assert rates.min() > 15
    assert rates.min() > 0.5 * np.median(rates), "other work may slow some down"
    print(f"peaks {peaks} KiB; pictures a second {rates.round(1).tolist()}")


def _detections(names):
    detections = Detections()
    for name in names:
        detections.add(name, zip(camera_traps.BOXES, "111", (0.6, 0.9, 0.2), strict=True))
    return detections


def _jobs(folder, names=("a.jpg",), shard=(0, 1), **options):
    return CollectionJobs(folder, _detections(names), folder / "masks", shard, MaskOptions(**options))


@given(st.integers(0, 30), st.integers(1, 7), st.booleans())
def test_shards_share_out_all_pictures_counted_from_0_or_from_1(tmp_path_factory, count, shards, from_one):
    folder = tmp_path_factory.getbasetemp()
    names = [f"{number}.jpg" for number in range(count)]
    numbers = range(from_one, shards + from_one)
    jobs = [_jobs(folder, names, parse_shard(f"{i}/{shards}")) for i in numbers]
    parts = [[job.name for job in part] for part in jobs]
    assert sorted(name for part in parts for name in part) == sorted(names)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_weak_detections_keep_their_numbers(tmp_path):
    [job] = _jobs(tmp_path, min_conf=0.5)
    assert job.numbers.tolist() == [1, 2]
    [job] = _jobs(tmp_path, min_conf=0.7)
    assert job.numbers.tolist() == [2]
    np.testing.assert_allclose(job.given.boxes, [[0.1, 0.3, 0.6, 0.9]])
    jobs = _jobs(tmp_path, min_conf=0.95)
    assert (list(jobs), jobs.summary.without_boxes) == ([], 1)


def test_pictures_with_the_same_masks_and_odd_shards_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"train/a\.jpg and test/a\.jpg would be the same file"):
        _jobs(tmp_path, ["train/a.jpg", "test/a.jpg"])
    with pytest.raises(InputError, match="would be the same file"):
        _jobs(tmp_path, ["a.jpg", "a.png"])
    for text in ("", "1", "4/3", "1/0", "-1/3", "a/b", "1/2/3", "1.5/3"):
        with pytest.raises(InputError, match="--shard"):
            parse_shard(text)


def test_the_command_names_for_the_notebook_what_it_does_not_find_by_itself(release, tmp_path):
    found = find_layout(release).detections
    (tmp_path / "elsewhere.json").write_bytes(found.read_bytes())
    folder = f'iwildcam_dir = "{release}"'
    for detections, out, named in (
        (found, release / "instance_masks", False),
        (tmp_path / "elsewhere.json", tmp_path / "out", True),
    ):
        arguments = ["--images", release, "--detections", detections, "--out", out]
        [*_, said] = command_line.run("iwildcam-masks", *arguments).stdout.splitlines()
        others = f', detections = "{detections}", masks = "{out}"' if named else ""
        assert (
            said == "Next: browse them in notebooks/iwildcam.ipynb, which `make browse` opens; "
            f"set {folder}{others} in its first cell"
        )


def _cell_of_masks(root, **settings):
    """Runs the notebook's cell that makes masks; returns what is read then."""
    names = {"is_composed": False, "min_conf": 0.0, "folder": root, "layout": find_layout(root)}
    names |= {"sequence_gap": 60, "most_pictures": None, "make_masks": make_masks, "MaskOptions": MaskOptions}
    names |= {"can_resume": masks.can_resume, "open_collection": open_collection} | settings
    return run_cell("iwildcam", "can_resume(", **names)["animals"]


@pytest.mark.parametrize("left", ["nothing", "a report", "a mask", "all"])
def test_the_notebook_makes_what_an_earlier_run_did_not(release, left):
    out = release / "instance_masks"
    if left == "a report":
        out.mkdir()
        (out / "iwildcam_masks_report.json").write_text("{}")
    elif left != "nothing":
        _make(release, out)
        kept = _files(out)
        times = {
            path: path.stat().st_mtime_ns for path in out.glob("b-2.png" if left == "a mask" else "*.png")
        }
        for path in {*out.iterdir()} - {*times}:
            path.unlink()
    animals = _cell_of_masks(release)
    assert (animals["area"].notna() == (animals["number"] > 0)).all()
    if left in ("a mask", "all"):
        assert _files(out) == kept and all(path.stat().st_mtime_ns == time for path, time in times.items())


@pytest.mark.parametrize("made", ["elsewhere", "of other pictures", "with other options"])
def test_the_notebook_leaves_masks_alone_that_were_made_otherwise(release, capsys, made):
    out = release / "instance_masks"
    if made != "with other options":
        name = "b-2.png" if made == "elsewhere" else "other.png"
        write_label_image(out / name, np.ones(camera_traps.SIZE, np.uint8))
    else:
        _make(release, out, options=MaskOptions(min_conf=0.7))
    before = _files(out)
    _cell_of_masks(release)
    assert _files(out) == before
    assert "they stay as they are" in capsys.readouterr().out
