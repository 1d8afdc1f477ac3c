import camera_traps
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepmac.core.errors import InputError
from deepmac.core.label_images import write_label_image
from deepmac.data.megadetector import Detections
from deepmac.iwildcam.jobs import Plan, Shard

WHOLE = Shard(0, 1)


def _detections(names):
    detections = Detections()
    for name in names:
        detections.add(name, zip(camera_traps.BOXES, "111", (0.6, 0.9, 0.2), strict=True))
    return detections


def _plan(folder, names=("a.jpg",), min_conf=0.0, shard=WHOLE, **settings):
    return Plan(folder, _detections(names), folder / "masks", min_conf, shard, settings)


@given(st.integers(0, 30), st.integers(1, 7), st.booleans())
def test_shards_share_out_all_pictures_counted_from_0_or_from_1(tmp_path_factory, count, shards, from_one):
    folder = tmp_path_factory.getbasetemp()
    names = [f"{number}.jpg" for number in range(count)]
    numbers = range(from_one, shards + from_one)
    parts = [_plan(folder, names, shard=Shard.parse(f"{i}/{shards}")).indices for i in numbers]
    assert sorted(index for part in parts for index in part) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["", "1", "4/3", "1/0", "-1/3", "a/b", "1/2/3", "1.5/3"])
def test_other_shards_are_refused(text):
    with pytest.raises(InputError, match="--shard"):
        Shard.parse(text)


def test_weak_detections_keep_their_numbers(tmp_path):
    [job] = _plan(tmp_path, min_conf=0.5)
    assert job.numbers.tolist() == [1, 2]
    [job] = _plan(tmp_path, min_conf=0.7)
    assert job.numbers.tolist() == [2]
    np.testing.assert_allclose(job.boxes, [[0.1, 0.3, 0.6, 0.9]])
    plan = _plan(tmp_path, min_conf=0.95)
    assert (list(plan), plan.without_boxes) == ([], 1)


def test_masks_are_done_when_made_from_the_same_things(tmp_path):
    camera_traps.write_picture(tmp_path / "a.jpg")
    [job] = plan = _plan(tmp_path, version=1)
    assert not plan.is_done(job, overwrite=False)
    write_label_image(job.target, np.zeros((4, 4), np.uint8), {"Fingerprint": job.fingerprint})
    assert plan.is_done(job, overwrite=False)
    assert not plan.is_done(job, overwrite=True)
    for other in (_plan(tmp_path, version=2), _plan(tmp_path, min_conf=0.5, version=1)):
        assert not other.is_done(other.job(0), overwrite=False)
    camera_traps.write_picture(tmp_path / "a.jpg", seed=1)
    assert not plan.is_done(plan.job(0), overwrite=False), "another picture"


def test_damaged_masks_are_not_done_and_somebody_elses_stay(tmp_path):
    camera_traps.write_picture(tmp_path / "a.jpg")
    [job] = plan = _plan(tmp_path)
    write_label_image(job.target, np.zeros((40, 40), np.uint8), {"Fingerprint": job.fingerprint})
    whole = job.target.read_bytes()
    for damaged in (b"", whole[:-20], whole[:60], b"x" * 100):
        job.target.write_bytes(damaged)
        assert not plan.is_done(job, overwrite=False)
    write_label_image(job.target, np.zeros((40, 40), np.uint8))
    with pytest.raises(InputError, match="was not written by this command"):
        plan.is_done(job, overwrite=False)
    assert not plan.is_done(job, overwrite=True)


def test_a_picture_is_never_replaced_by_its_masks(tmp_path):
    camera_traps.write_picture(tmp_path / "a.png")
    plan = Plan(tmp_path, _detections(["a.png"]), tmp_path, 0.0, Shard(0, 1), {})
    for overwrite in (False, True):
        with pytest.raises(InputError, match="would replace it"):
            plan.is_done(plan.job(0), overwrite)


def test_two_pictures_with_the_same_masks_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"train/a\.jpg and test/a\.jpg would be the same file"):
        _plan(tmp_path, ["train/a.jpg", "test/a.jpg"])
    with pytest.raises(InputError, match="would be the same file"):
        _plan(tmp_path, ["a.jpg", "a.jpg"])


def test_leftovers_of_the_same_pictures_are_removed(tmp_path):
    plan = _plan(tmp_path, ["a-1.jpg", "b/a-1.jpg", "c.jpg"])
    left = [".a-1-x8_kd2ma.png", "b/.a-1-abcdefgh.png"]
    other = [".a-abcdefgh.png", ".c-abcdefgh.png", "a-1.png"]
    for name in left + other:
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "masks" / name).touch()
    plan.remove_leftovers([0, 1])
    found = sorted(p.relative_to(tmp_path / "masks").as_posix() for p in tmp_path.rglob("*.png"))
    assert found == sorted(other)
