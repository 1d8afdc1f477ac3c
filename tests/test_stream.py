"""The streaming job on its own, with pictures whose masks are label images and nothing else."""

import dataclasses

import camera_traps
import numpy as np
import pytest
import tiny_model

from deepmac.core import executors
from deepmac.core.errors import InputError
from deepmac.core.label_images import read_label_image, write_label_image
from deepmac.iwildcam.make_masks import make_masks
from deepmac.jobs import stream
from deepmac.jobs.stream import ModelChoice, PictureJob, Summary, is_done, segment_part, segment_pictures

BOX = [[0.1, 0.2, 0.7, 0.8]]
MODEL = ModelChoice("mini", "float32")


class LabelJob(PictureJob):
    """Writes the label image; refuses to if a box is the whole picture."""

    def write(self, prediction):
        if (prediction.boxes == [0, 0, 1, 1]).all():
            raise InputError("the whole picture")
        write_label_image(self.target, prediction.to_label_image(), {"Fingerprint": self.fingerprint})


@pytest.fixture
def make_job(tmp_path):
    """Makes a picture and its job."""

    def make(name="a.jpg", boxes=BOX, seed=0, target=None, state=()):
        path = tmp_path / name
        camera_traps.write_picture(path, seed)
        target = target or tmp_path / "masks" / f"{path.stem}.png"
        made_from = stream.fingerprint(path, boxes, [*map(str, state)])
        return LabelJob(name, path, stream.ImageBoxes("yxyx_norm", boxes), target, made_from)

    return make


@pytest.fixture
def network(monkeypatch):
    """The small model takes the place of any other; counts the pictures it encodes."""
    network, sizes = tiny_model.predictor()._network, []

    class Counting:
        mask_probs, input_size = network.mask_probs, network.input_size
        calibration = network.calibration

        def encode(self, image):
            sizes.append(1)
            return network.encode(image)

    monkeypatch.setattr(stream, "load", lambda *arguments: stream.Predictor(Counting()))
    return sizes


def _states(outcomes):
    return {outcome.name: outcome.state for outcome in outcomes}


def test_masks_are_the_predictors(make_job, network):
    jobs = [make_job(f"{seed}.png", seed=seed) for seed in range(5)]
    assert _states(segment_pictures(jobs, MODEL)) == {job.name: "written" for job in jobs}
    assert network == [1] * 5
    predictor = tiny_model.predictor()
    for job in jobs:
        expected = predictor.predict(BOX, encoded=predictor.encode(job.path)).to_label_image()
        np.testing.assert_array_equal(read_label_image(job.target), expected)
    assert _states(segment_pictures(jobs, MODEL)) == {job.name: "present" for job in jobs}
    assert network == [1] * 5


def test_a_picture_is_not_encoded_whole_if_all_its_objects_are_looked_at_from_closer(make_job, network):
    small, both = [[0.4, 0.4, 0.5, 0.45]], [[0.4, 0.4, 0.5, 0.45], [0.1, 0.1, 0.9, 0.9]]
    predictor = tiny_model.predictor()
    for boxes, encoded in ((small, 1), (both, 2)):
        job = make_job(f"{encoded}.png", boxes)
        camera_traps.write_picture(job.path, size=(300, 400))
        network.clear()
        assert _states(segment_pictures([job], MODEL)) == {job.name: "written"}
        assert network == [1] * encoded
        expected = predictor.predict(boxes, encoded=predictor.encode(job.path)).to_label_image()
        np.testing.assert_array_equal(read_label_image(job.target), expected)


def test_what_goes_wrong_with_a_picture_is_its_outcome(make_job, network):
    missing = dataclasses.replace(make_job("missing.jpg"), path=None)
    damaged = make_job("damaged.jpg")
    damaged.path.write_bytes(b"damaged")
    inverted, whole = make_job("inverted.jpg", [[0.5, 0, 0.1, 1]]), make_job("whole.jpg", [[0, 0, 1, 1]])
    summary = Summary(pictures=5)
    summary.count(segment_pictures([missing, damaged, inverted, whole, make_job("good.jpg")], MODEL))
    problems = {failure["name"]: failure["problem"] for failure in summary.failed}
    assert problems.pop("missing.jpg") == "no such picture"
    assert "not a picture" in problems.pop("damaged.jpg")
    assert "inverted" in problems.pop("inverted.jpg")
    assert problems == {"whole.jpg": "the whole picture"}
    (word,) = (word for word, count in summary.masks.items() if count)
    assert str(summary) == f"Pictures: 1 segmented (masks: 1 {word}), 4 skipped"
    assert "skipped: missing.jpg: no such picture" in summary.problems()
    summary.require_success()
    summary.written = 0
    with pytest.raises(InputError, match="all 4 pictures were skipped, 1 of them like this one: missing"):
        summary.require_success()


def test_of_pictures_that_are_all_skipped_the_most_frequent_problem_is_told():
    problems = {"a.jpg": "the detector failed: DETECTOR"}
    problems |= {name: f"cannot read /data/{name}: damaged" for name in ("b.jpg", "c.jpg")}
    summary = Summary(failed=[{"name": name, "problem": problem} for name, problem in problems.items()])
    with pytest.raises(
        InputError, match=r"all 3 pictures were skipped, 2 of them .*: cannot read /data/b.jpg: "
    ):
        summary.require_success()
    summary.failed = summary.failed[:1]
    with pytest.raises(InputError, match=r"^a.jpg: the detector failed: DETECTOR$"):
        summary.require_success()


def test_masks_are_done_when_made_from_the_same_things(make_job):
    job = make_job(state=[1])
    assert not is_done(job)
    write_label_image(job.target, np.zeros((4, 4), np.uint8), {"Fingerprint": job.fingerprint})
    assert is_done(job)
    assert not is_done(job, overwrite=True)
    for other in (make_job(state=[2]), make_job(boxes=[[0.1, 0.2, 0.7, 0.9]], state=[1])):
        assert not is_done(other)
    assert not is_done(make_job(seed=1, state=[1])), "another picture"


def test_damaged_masks_are_not_done_and_what_somebody_else_made_stays(make_job, tmp_path):
    job = make_job()
    write_label_image(job.target, np.zeros((40, 40), np.uint8), {"Fingerprint": job.fingerprint})
    whole = job.target.read_bytes()
    for damaged in (b"", whole[:-20], whole[:60], b"x" * 100):
        job.target.write_bytes(damaged)
        assert not is_done(job)
    write_label_image(job.target, np.zeros((40, 40), np.uint8))
    with pytest.raises(InputError, match="was not written by this command"):
        is_done(job)
    assert not is_done(job, overwrite=True)
    job = make_job("a.png", target=tmp_path / "a.png")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="would replace it"):
            is_done(job, overwrite)


def test_leftovers_of_the_same_pictures_are_removed(make_job, tmp_path, network):
    jobs = [make_job("a-1.jpg"), make_job("b.jpg", target=tmp_path / "masks/b/a-1.png")]
    left = [".a-1-x8_kd2ma.png", "b/.a-1-abcdefgh.png"]
    other = [".a-abcdefgh.png", ".c-abcdefgh.png"]
    for name in left + other:
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "masks" / name).touch()
    list(segment_pictures(jobs, MODEL))
    found = sorted(p.relative_to(tmp_path / "masks").as_posix() for p in tmp_path.rglob("*.png"))
    assert found == sorted([*other, "a-1.png", "b/a-1.png"])


def test_a_part_that_is_begun_again_finds_what_was_written(make_job, network):
    stream._loaded.cache_clear()
    jobs = [make_job(f"{seed}.jpg", seed=seed) for seed in range(4)]
    jobs[1].path.unlink()
    options = {"model": MODEL, "overwrite": False}
    states = _states(segment_part(jobs[:3], **options))
    assert states == {"0.jpg": "written", "1.jpg": "failed", "2.jpg": "written"}
    before = {job.target: job.target.stat().st_mtime_ns for job in (jobs[0], jobs[2])}
    states = _states(segment_part(jobs, **options))
    assert states == {"0.jpg": "written", "1.jpg": "failed", "2.jpg": "written", "3.jpg": "written"}
    assert {target: target.stat().st_mtime_ns for target in before} == before


def test_no_scheduler_is_an_input_error(make_job, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(executors, "_CONNECT_SECONDS", 0.5)
    job = make_job()
    with pytest.raises(InputError, match="no Dask scheduler at tcp"):
        list(segment_pictures([job], MODEL, scheduler="tcp://127.0.0.1:1"))
    assert not job.target.parent.exists()


@pytest.mark.slow
def test_a_cluster_writes_the_same_files(tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(stream, "_PART", 8)
    count, folder = 30, tmp_path / "pictures"
    for number in range(count):
        camera_traps.write_picture(folder / f"{number:02d}.jpg", number)
    names = {f"{number:02d}.jpg": 2 for number in range(count)}
    (folder / "03.jpg").write_bytes(b"damaged")
    options = {"model": ModelChoice(str(tiny_model.model_dir()), "float32")}
    arguments = (folder, camera_traps.write_detections(folder / "detections.json", names))
    make_masks(*arguments, tmp_path / "here", **options)
    make_masks(*arguments, tmp_path / "there", shard=(0, 3), **options)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as running:
        summary = make_masks(*arguments, tmp_path / "there", scheduler=running.scheduler_address, **options)
    assert (summary.written, summary.present) == (count - 10, 10 - 1)
    assert [failure["name"] for failure in summary.failed] == ["03.jpg"]
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("*.png")}
        for name in ("here", "there")
    ]
    assert len(files[0]) == count - 1
    assert files[0] == files[1]
