"""The command that completes a data set, on small pictures with the small random model."""

import copy
import errno
import json
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import command_line
import numpy as np
import pytest
import synthetic
import tiny_model
import yaml
from PIL import ExifTags, Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from deepmac.core.errors import InputError
from deepmac.core.files import exclusive
from deepmac.data.flaws import summary
from deepmac.inference.prediction import Prediction
from deepmac.jobs import annotate as job
from deepmac.jobs import stream

BOLT, NUT = 0, 7


@pytest.fixture
def data_set(tmp_path, loads):
    """Four pictures with two objects each, masks of bolts only; keys that nobody knows."""
    scenes = [synthetic.draw_scene(60, 90, 2, seed) for seed in range(4)]
    content = synthetic.write_coco(tmp_path, "images", scenes, [BOLT, NUT])
    content["categories"] = [{"id": BOLT, "name": "bolt"}, {"id": NUT, "name": "nut", "keypoints": ["a"]}]
    content["info"] = {"année": 2026}
    for annotation in content["annotations"]:
        annotation["attributes"] = {"occluded": True}
        if annotation["category_id"] == NUT:
            del annotation["segmentation"]
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    return content


def _arguments(tmp_path, out="out.json"):
    return "annotate", tmp_path / "boxes.json", "--images", tmp_path / "images", "--out", tmp_path / out


def _annotate(tmp_path, *options, out="out.json", status=0):
    return command_line.run(*_arguments(tmp_path, out), *options, status=status)


def _without_masks(content):
    content = copy.deepcopy(content)
    for annotation in content["annotations"]:
        annotation.pop("segmentation", None), annotation.pop("quality", None)
    return content


def _drawn(coco, annotation):
    return coco.annToMask(annotation).astype(bool)


def test_what_had_no_mask_gets_one_and_nothing_else_changes(data_set, tmp_path):
    result = _annotate(tmp_path)
    assert result.stdout.startswith("4 of 4 masks made; Pictures: 4 segmented (masks: ")
    assert result.stdout.endswith(f"\nWrote {tmp_path / 'out.json'}\n")
    completed = json.loads((tmp_path / "out.json").read_text())
    assert list(completed) == list(data_set) and _without_masks(completed) == _without_masks(data_set)
    predictor, coco = tiny_model.predictor(), COCO(tmp_path / "out.json")
    names = {image["id"]: image["file_name"] for image in data_set["images"]}
    for before, after in zip(data_set["annotations"], completed["annotations"], strict=True):
        if before["category_id"] == BOLT:
            assert after == before
            continue
        encoded = predictor.encode(tmp_path / "images" / names[before["image_id"]])
        expected = predictor.predict([before["bbox"]], "xywh", encoded=encoded)
        assert after["quality"] == pytest.approx(float(expected.quality[0]), abs=0.02)
        edge = np.abs(np.diff(expected.masks[0].astype(int), axis=0)).sum()
        edge += np.abs(np.diff(expected.masks[0].astype(int), axis=1)).sum()
        assert (_drawn(coco, after) ^ expected.masks[0]).sum() <= 0.75 * edge + 4
    assert not list(tmp_path.glob(".*"))


def test_a_folder_as_a_tool_exports_it_is_completed(data_set, tmp_path):
    export = tmp_path / "export"
    shutil.copytree(tmp_path / "images", export / "images")
    shutil.copy(tmp_path / "boxes.json", export)
    command_line.run("annotate", export, "--out", tmp_path / "out.json")
    _annotate(tmp_path, out="same.json")
    assert (tmp_path / "out.json").read_text() == (tmp_path / "same.json").read_text()
    for split in ("train", "valid"):
        shutil.copytree(tmp_path / "images", export / split)
        shutil.copy(tmp_path / "boxes.json", export / split / "_annotations.coco.json")
    refused = command_line.refused("annotate", export, "--out", tmp_path / "new.json")
    assert "has train, valid: name one's annotations, and give --images" in refused


def test_all_get_run_lengths_and_poor_ones_are_left_out(data_set, tmp_path):
    _annotate(tmp_path, "--all", "--rle")
    completed = json.loads((tmp_path / "out.json").read_text())["annotations"]
    assert all(coco_mask.area(annotation["segmentation"]) > 0 for annotation in completed)
    middle = float(np.median([annotation["quality"] for annotation in completed]))
    _annotate(tmp_path, "--all", "--min-quality", middle, out="good.json")
    good = json.loads((tmp_path / "good.json").read_text())["annotations"]
    assert ["quality" in one for one in good] == [one["quality"] >= middle for one in completed]


def test_yolo_has_a_polygon_from_0_to_1_for_each_annotation(data_set, tmp_path):
    _annotate(tmp_path, "--format", "yolo", out="yolo")
    lines = (tmp_path / "yolo" / "labels" / "000000000100.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1"]
    x, y = np.array(lines[0].split()[1:], float).reshape(-1, 2).T * [[90], [60]]
    left, top, width, height = data_set["annotations"][0]["bbox"]
    corners = [left, top, left + width, top + height]
    np.testing.assert_allclose([x.min(), y.min(), x.max(), y.max()], corners, atol=1e-3)
    data = yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text())
    # Ultralytics demands both splits, and takes a `path` for one in its own folder.
    assert data == {"train": "images", "val": "images", "names": ["bolt", "nut"]}


def test_labels_lie_in_their_folder_whatever_pictures_are_called(data_set, tmp_path):
    first, second, third, fourth = data_set["images"]
    theirs = tmp_path / "images" / "000000000100.txt"
    theirs.write_text("somebody's")
    first["file_name"] = str(tmp_path / "images" / first["file_name"])  # from the root of the disk
    second["file_name"] = f"../images/{second['file_name']}"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "images" / third["file_name"]).rename(tmp_path / "elsewhere" / "c.jpg")
    third["file_name"] = "../elsewhere/c.jpg"
    (tmp_path / "boxes.json").write_text(json.dumps(data_set))
    _annotate(tmp_path, "--format", "yolo", out="yolo")
    names = {path.relative_to(tmp_path / "yolo").as_posix() for path in (tmp_path / "yolo").rglob("*.*")}
    stems = ["000000000100", "000000000101", "c", "000000000103"]
    assert names == {"data.yaml", *(f"labels/{stem}.txt" for stem in stems)}
    assert theirs.read_text() == "somebody's"
    assert not list((tmp_path / "elsewhere").glob("*.txt"))

    (tmp_path / "images" / "c.png").write_bytes((tmp_path / "images" / fourth["file_name"]).read_bytes())
    fourth["file_name"] = "c.png"
    (tmp_path / "boxes.json").write_text(json.dumps(data_set))
    refused = command_line.refused(*_arguments(tmp_path, "other"), "--format", "yolo")
    assert "../elsewhere/c.jpg and c.png would have the same labels: rename a picture" in refused


def test_masks_that_cannot_be_used_are_told_as_they_are_replaced(data_set, tmp_path):
    data_set["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    (tmp_path / "boxes.json").write_text(json.dumps(data_set))
    assert "unusable masks left out, their boxes kept: 1 (annotation" in _annotate(tmp_path).stdout


def test_other_formats_become_a_coco_file(data_set, tmp_path):
    labels = tmp_path / "labels"
    labels.mkdir()
    for image in data_set["images"]:
        (labels / f"{image['file_name'][:-4]}.txt").write_text("0 .5 .5 .4 .4\n1 .2 .2 .2 .2\n")
    arguments = ["annotate", labels, "--images", tmp_path / "images", "--out", tmp_path / "out.json"]
    assert "8 of 8 masks made" in command_line.run(*arguments).stdout
    coco = COCO(tmp_path / "out.json")
    assert sorted(coco.anns) == [*range(1, 9)] and len(coco.imgs) == 4
    assert all(_drawn(coco, annotation).any() for annotation in coco.anns.values())
    assert {(tmp_path / "images" / image["file_name"]).is_file() for image in coco.imgs.values()} == {True}


def _fail_at_the_third(monkeypatch, error):
    """Lets two pictures be written, then fails in the middle of a file."""
    write, written, one_at_a_time = job._AnnotateJob.write, [], threading.Lock()

    def failing(self, prediction):
        with one_at_a_time:
            if len(written) == 2:
                (self.target.parent / f".{self.target.stem}-abcdefgh.json").write_text("{")
                raise error
            write(self, prediction)
            written.append(self.name)

    monkeypatch.setattr(job._AnnotateJob, "write", failing)


def test_a_killed_run_goes_on_where_it_was(data_set, tmp_path, monkeypatch):
    """Killed in the middle of a picture; what was whole is kept, the half one is made again."""
    _annotate(tmp_path, out="whole.json")
    with monkeypatch.context() as patched:
        _fail_at_the_third(patched, KeyboardInterrupt)
        _annotate(tmp_path, status=130)
    assert list(tmp_path.glob(".out*-masks")) and not (tmp_path / "out.json").exists()
    assert ": 2 segmented" in (result := _annotate(tmp_path).stdout) and "), 2 there already" in result
    assert (tmp_path / "out.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert not list(tmp_path.glob(".*")), "nothing is left beside it"


def test_a_full_disk_is_named_in_one_line_and_what_was_made_is_kept(data_set, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        _fail_at_the_third(patched, OSError(errno.ENOSPC, "No space left on device"))
        error = _annotate(tmp_path, status=2).stderr
    assert error.count("\n") == 1 and ".json: No space left on device; free some" in error
    assert not (tmp_path / "out.json").exists()
    again = _annotate(tmp_path).stdout
    assert "4 of 4 masks made" in again and "there already" in again


def test_only_masks_of_the_same_options_and_boxes_are_kept(data_set, tmp_path, monkeypatch):
    for option in ("--rle", "--rle", "--all"):
        with monkeypatch.context() as patched:
            _fail_at_the_third(patched, KeyboardInterrupt)
            _annotate(tmp_path, option, status=130)
        data_set["annotations"][1]["bbox"][0] += 1  # of the first picture
        (tmp_path / "boxes.json").write_text(json.dumps(data_set))
    assert ": 4 segmented" in _annotate(tmp_path).stdout


def test_one_broken_picture_is_named_and_the_rest_goes_on(data_set, tmp_path, monkeypatch):
    normalized = stream.normalized_boxes

    def normalize_or_fail(boxes, *options):
        if boxes == [data_set["annotations"][1]["bbox"]]:
            raise InputError("no good")
        return normalized(boxes, *options)

    monkeypatch.setattr(stream, "normalized_boxes", normalize_or_fail)
    result = _annotate(tmp_path)
    assert "3 of 4 masks made; Pictures: 3 segmented (" in result.stdout
    assert "000000000100.jpg: no good" in result.stdout


def test_a_picture_annotated_as_it_is_stored_is_seen_so(data_set, tmp_path):
    for turn in (1, 6):
        for path in (tmp_path / "images").iterdir():
            with Image.open(path) as picture:
                picture.load()
            exif = Image.Exif()
            exif[ExifTags.Base.Orientation] = turn
            picture.save(path, "PNG", exif=exif)
        _annotate(tmp_path, out=f"{turn}.json")
    assert (tmp_path / "1.json").read_text() == (tmp_path / "6.json").read_text()


def test_what_gets_no_mask_is_counted_with_the_reason(data_set, tmp_path):
    nuts = [entry for entry in data_set["annotations"] if entry["category_id"] == NUT]
    nuts[0]["bbox"] = [float("nan"), 1, 9, 9]
    nuts[1]["bbox"] = [900, 900, 9, 9]
    data_set["images"][2]["width"] += 1
    data_set["annotations"].append(nuts[3] | {"id": 99, "image_id": 12345})
    (tmp_path / "boxes.json").write_text(json.dumps(data_set))
    *reasons, made, _ = _annotate(tmp_path).stdout.splitlines()
    assert made.startswith("1 of 5 masks made; ")
    for reason in (
        f"boxes that are not finite left out: 1 (annotation {nuts[0]['id']}: 'bbox' is [nan",
        f"boxes without area in the image left out: 1 (annotation {nuts[1]['id']}: 'bbox' is [900, 900",
        f"images of another size than annotated left out: 1 ({data_set['images'][2]['file_name']}",
        "annotations of unknown images left out: 1 (annotation 99: image id 12345",
    ):
        assert any(line.startswith(reason) for line in reasons), (reason, reasons)
    completed = json.loads((tmp_path / "out.json").read_text(), parse_constant=pytest.fail)  # JSON has no NaN
    written = {entry["id"]: entry for entry in completed["annotations"]}
    assert written[nuts[0]["id"]]["bbox"] == [None, 1, 9, 9]
    (quality,) = [entry["quality"] for entry in written.values() if "quality" in entry]
    assert quality == round(quality, 3)


def test_boxes_in_which_nothing_is_found_and_crowds_are_named(data_set, tmp_path, monkeypatch):
    bolts, nuts = (
        [entry for entry in data_set["annotations"] if entry["category_id"] == kind] for kind in (BOLT, NUT)
    )
    for entry in bolts:
        entry["iscrowd"] = 1
    data_set["annotations"].append(nuts[1] | {"id": 99})  # says what another one does
    (tmp_path / "boxes.json").write_text(json.dumps(data_set))
    polygons = Prediction.to_polygons
    monkeypatch.setattr(Prediction, "to_polygons", lambda self: [[], *polygons(self)[1:]])
    *reasons, made, _ = _annotate(tmp_path).stdout.splitlines()
    assert made.startswith("0 of 5 masks made; ")
    named = [f"annotation {entry['id']}" for entry in nuts]
    for kind, cases in (
        ("boxes without a mask, since the model sees nothing in them, or it is below --min-quality", named),
        ("crowd regions, which are no objects", [f"annotation {entry['id']}" for entry in bolts]),
        ("annotations that are listed twice taken as one", ["annotation 99"]),
    ):
        assert summary(kind, cases) in reasons


def test_boxes_that_are_meant_otherwise_are_told(data_set, tmp_path):
    for entry in data_set["annotations"]:
        x, y, width, height = entry["bbox"]
        entry["bbox"] = [x, y, x + width, y + height]
    (tmp_path / "boxes.json").write_text(json.dumps(data_set))
    assert "boxes in an unusual form read: 8" in _annotate(tmp_path).stdout


@pytest.mark.parametrize("content", ["[]", "5", '{"images": [], "annotations": []}'])
def test_what_is_no_data_set_is_named_in_one_line(data_set, tmp_path, content):
    (tmp_path / "boxes.json").write_text(content)
    assert command_line.refused(*_arguments(tmp_path)).startswith(f"deepmac: {tmp_path / 'boxes.json'} h")


def test_a_folder_that_takes_no_masks_is_named_in_one_line(data_set, tmp_path):
    (tmp_path / ".out.json-masks").touch()
    assert ".out.json-masks" in command_line.refused(*_arguments(tmp_path))


def test_nothing_is_overwritten(data_set, tmp_path):
    (tmp_path / "out.json").write_text("mine")
    assert "already exists" in command_line.refused(*_arguments(tmp_path))
    assert (tmp_path / "out.json").read_text() == "mine"
    (tmp_path / "folder").mkdir()
    assert "already exists" in command_line.refused(*_arguments(tmp_path, "folder"))


def test_a_second_run_for_the_same_file_waits_and_finds_it(data_set, tmp_path, monkeypatch):
    held = threading.Event()
    monkeypatch.setattr(job, "exclusive", lambda path: held.set() or exclusive(path))
    with ThreadPoolExecutor() as pool:
        with exclusive(tmp_path / ".out.json-masks" / "lock"):
            second = pool.submit(_annotate, tmp_path, status=2)
            assert held.wait(60) and not second.done()
            (tmp_path / "out.json").write_text("{}")
        assert "already exists" in second.result(60).stderr
    assert (tmp_path / "out.json").read_text() == "{}"


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_nothing(tmp_path):
    """With `mini`: killed three times while it writes; beside a run that is not killed."""
    scenes = [synthetic.draw_scene(300, 400, 4, seed) for seed in range(24)]
    content = synthetic.write_coco(tmp_path, "images", scenes, [BOLT, NUT])
    content["categories"] = [{"id": BOLT, "name": "bolt"}, {"id": NUT, "name": "nut"}]
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    (tmp_path / "boxes.json").write_text(json.dumps(content))

    def start(out):
        arguments = [tmp_path / "boxes.json", "--images", tmp_path / "images", "--out", out]
        command = [sys.executable, "-m", "deepmac", "annotate", *arguments]
        return subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True)

    output, _ = start(tmp_path / "whole.json").communicate()
    assert output.startswith("96 of 96 masks made; Pictures: 24 segmented")

    def written():
        return len(list(tmp_path.glob(".out*-masks/*.json")))

    for _ in range(3):  # when it has written some pictures more
        before, process = written(), start(tmp_path / "out.json")
        while process.poll() is None and written() < before + 4:
            time.sleep(0.005)
        process.kill()
        process.communicate()
        assert process.returncode == -9 and not (tmp_path / "out.json").exists()
    output, _ = start(tmp_path / "out.json").communicate()
    assert " there already" in output
    assert (tmp_path / "out.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert not list(tmp_path.glob(".*")), "nothing is left beside it"


# Peak memory of the check, and of all of `annotate` with a network that needs none.
_MEASURED = """
import resource, sys
import numpy as np
from deepmac.data.data_sets import read_annotation_files
from deepmac.jobs import annotate, stream

class Network:
    calibration, input_size, precision = (0.0, 1.0), None, "float32"
    def encode(self, image): return image, np.ones(2, np.float32)
    def mask_probs(self, embeddings, boxes): return np.full((len(boxes), 8, 8), 0.9, np.float32)

stream.load = lambda *arguments: stream.Predictor(Network())
source, images, out = sys.argv[1:]
if out == "check":
    read_annotation_files(source, images)
else:
    annotate.annotate(source, images, out, stream.ModelChoice())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.nightly
def test_memory_holds_the_annotations_and_no_masks(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "images" / "0.png")
    peaks = {}  # MiB
    for count in (10_000, 100_000):
        images = [{"id": k, "file_name": f"{k}.png", "width": 64, "height": 48} for k in range(count // 10)]
        for image in images[1:]:
            path = tmp_path / "images" / image["file_name"]
            if not path.exists():
                path.hardlink_to(tmp_path / "images" / "0.png")
        boxes = [
            {"id": k, "image_id": k // 10, "category_id": 1, "bbox": [k % 10, 5, 30, 20]}
            for k in range(count)
        ]
        content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "bolt"}]}
        source, out = tmp_path / f"{count}.json", tmp_path / f"{count}-completed.json"
        source.write_text(json.dumps(content))
        for work in ("check", out):
            command = [sys.executable, "-c", _MEASURED, source, tmp_path / "images", work]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            peaks[count, "check" if work == "check" else "annotate"] = float(run.stdout.split()[-1])
        completed = json.loads(out.read_text())["annotations"]
        assert len(completed) == count and all(entry["segmentation"] for entry in completed)
    print(f"peaks in MiB: {peaks}")
    for work in ("check", "annotate"):
        each = 1024 * (peaks[100_000, work] - peaks[10_000, work]) / 90_000  # KiB
        assert each < 4, f"{work} takes {each:.1f} KiB for each annotation"
