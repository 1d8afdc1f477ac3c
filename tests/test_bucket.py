import contextlib
import os
import pickle
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from deepmac.core.errors import InputError
from deepmac.suite import bucket as bucket_module
from deepmac.suite.bucket import Bucket, LostLeaseError, open_file, open_folder
from deepmac.suite.folders import Folder, Timing

QUICK = Timing(beat=0.1, expiry=1, push=0.1, poll=0)
ROW = "rows/a"
TETHER = (sys.executable, "-m", "deepmac.suite.tether")


@pytest.fixture
def bucket(bucket_url):
    return Bucket(f"{bucket_url}/runs", QUICK)


@pytest.fixture
def use_machine(monkeypatch, tmp_path):
    """Goes to another machine: one with another cache."""
    return lambda name: monkeypatch.setenv("DEEPMAC_CACHE", str(tmp_path / name))


def write_checkpoints(folder: Path, *steps: int, named: tuple[int, ...] | None = None):
    """Leaves what TensorFlow does: checkpoints, and the file that names them."""
    folder.mkdir(parents=True, exist_ok=True)
    for step in steps:
        (folder / f"ckpt-{step}.data-00000-of-00001").write_bytes(bytes([step]) * 1000)
        (folder / f"ckpt-{step}.index").write_bytes(bytes([step]))
    names = [f"ckpt-{step}" for step in (steps if named is None else named)]
    lines = [f'model_checkpoint_path: "{names[-1]}"', *(f'all_model_checkpoint_paths: "{n}"' for n in names)]
    (folder / "checkpoint").write_text("\n".join(lines) + "\n")


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_another_machine_gets_what_was_pushed(bucket, use_machine):
    folder = bucket.path / ROW
    write_checkpoints(folder, 2, 4)
    (folder / "train").mkdir()
    (folder / "train" / "events").write_bytes(b"")
    bucket.push(ROW)
    pushed = files_of(folder)

    use_machine("other")
    assert bucket.path / ROW != folder
    write_checkpoints(bucket.path / ROW, 3)  # of an attempt that nobody got to know of
    bucket.pull(ROW)
    assert files_of(bucket.path / ROW) == pushed

    times = {path: path.stat().st_mtime_ns for path in bucket.path.rglob("*")}
    bucket.pull(ROW)
    assert times == {path: path.stat().st_mtime_ns for path in bucket.path.rglob("*")}


def test_only_what_changed_is_uploaded(bucket, object_storage):
    write_checkpoints(bucket.path / ROW, 2)
    (bucket.path / ROW / "train.log").write_text("step 2/4")
    bucket.push(ROW)
    del object_storage.changes[:]
    (bucket.path / ROW / "train.log").write_text("step 3/4")
    bucket.push(ROW)
    assert object_storage.changes == [("POST", f"runs/{ROW}/train.log")]


def test_a_checkpoint_is_named_after_it_is_there_and_deleted_after_it_is_not_named(bucket, object_storage):
    write_checkpoints(bucket.path / ROW, 2, 4)
    bucket.push(ROW)
    for path in (bucket.path / ROW).glob("ckpt-2.*"):
        path.unlink()
    write_checkpoints(bucket.path / ROW, 4, 6)
    del object_storage.changes[:]
    bucket.push(ROW)
    methods, names = zip(*object_storage.changes, strict=True)
    assert [name.rpartition("/")[2] for name in names[:3]] == [
        "ckpt-6.data-00000-of-00001",
        "ckpt-6.index",
        "checkpoint",
    ]
    assert sorted(names[3:]) == [f"runs/{ROW}/ckpt-2.data-00000-of-00001", f"runs/{ROW}/ckpt-2.index"]
    assert methods == ("POST",) * 3 + ("DELETE",) * 2


def test_a_checkpoint_that_is_written_meanwhile_waits_for_the_next_time(bucket, object_storage, monkeypatch):
    """The file that names checkpoints goes up as it was before they did."""
    folder = bucket.path / ROW
    write_checkpoints(folder, 2)
    upload, before = Bucket._upload, (folder / "checkpoint").read_bytes()

    def write_meanwhile(self, part, content):
        write_checkpoints(folder, 2, 4)
        upload(self, part, content)

    monkeypatch.setattr(Bucket, "_upload", write_meanwhile)
    bucket.push(ROW)
    assert object_storage.read(f"{bucket.url}/{ROW}/checkpoint") == before
    assert not bucket.has_file(f"{ROW}/ckpt-4.index")


def test_a_checkpoint_that_replaces_another_meanwhile_leaves_that_in_the_bucket(bucket, monkeypatch):
    folder = bucket.path / ROW
    write_checkpoints(folder, 2)
    bucket.push(ROW)
    list_files = Bucket._local_files

    def replace_first(self, name):
        for path in folder.glob("ckpt-2.*"):
            path.unlink()
        write_checkpoints(folder, 4)
        return list_files(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "_local_files", replace_first)
        with pytest.raises(FileNotFoundError):
            bucket.push(ROW)
    assert bucket.has_file(f"{ROW}/ckpt-2.index")
    assert not bucket.has_file(f"{ROW}/ckpt-4.index")
    bucket.push(ROW)
    assert not bucket.has_file(f"{ROW}/ckpt-2.index")
    assert bucket.has_file(f"{ROW}/ckpt-4.index")


def test_half_written_files_stay_here(bucket, object_storage, bucket_url):
    folder = bucket.path / ROW
    write_checkpoints(folder, 2, 4, named=(2,))  # ckpt-4 is being written
    for name in (
        "ckpt-4_temp/part-00000-of-00001.index",
        "ckpt-6.data-00000-of-00001.tempstate123",
        "checkpoint.tmp456",
        ".row-abc.yaml",
        "lock",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("half")
    bucket.push(ROW)
    expected = ["checkpoint", "ckpt-2.data-00000-of-00001", "ckpt-2.index"]
    assert object_storage.names(bucket_url) == [f"runs/{ROW}/{name}" for name in expected]
    bucket.pull(ROW)
    assert (folder / "lock").exists(), "what only this machine knows stays when others' files come"


def test_a_file_that_vanishes_keeps_the_state_back(bucket, monkeypatch):
    folder = bucket.path / ROW
    write_checkpoints(folder, 2)
    monkeypatch.setattr(bucket_module, "file_checksum", lambda path: path.unlink())
    with pytest.raises(FileNotFoundError):
        bucket.push(ROW)
    assert not bucket.has_file(f"{ROW}/checkpoint")


def test_files_are_read_written_and_removed_in_the_bucket_itself(bucket, object_storage):
    assert (bucket.read("a.json"), bucket.has_file("a.json"), bucket.has_folder("a")) == (None, False, False)
    with bucket.write("a.json") as path:
        path.write_text("{}")
    with pytest.raises(RuntimeError), bucket.write("b.json") as path:
        path.write_text("half")
        raise RuntimeError
    with bucket.write("a/b/weights") as path:
        path.write_text("1")
    assert (bucket.read("a.json"), bucket.has_file("a.json"), bucket.has_folder("a")) == (b"{}", True, True)
    assert bucket.read("b.json") is None
    assert bucket.subfolder("a").read("b/weights") == b"1"
    assert not bucket.path.exists()
    bucket.remove("a.json")
    bucket.remove("a.json")
    assert bucket.read("a.json") is None


def test_a_lease_excludes_and_is_handed_on(bucket, object_storage, bucket_url):
    order = []

    def hold_twice(name):
        for _ in range(2):
            with bucket.lease(ROW):
                order.append(name)
                time.sleep(2 * QUICK.expiry)  # longer than a lease of the dead
                order.append(name)

    threads = [threading.Thread(target=hold_twice, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(order) == 8
    assert order[::2] == order[1::2], "one at a time"
    assert object_storage.names(bucket_url) == []


def test_a_lease_whose_holder_is_gone_is_taken_over_by_one(bucket, object_storage):
    holder = (
        "import sys, time\nfrom deepmac.suite.bucket import Bucket\n"
        "from deepmac.suite.folders import Timing\n"
        "with Bucket(sys.argv[1], Timing(beat=0.1)).lease(sys.argv[2]):\n"
        "    print('held', flush=True)\n    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", holder, bucket.url, ROW], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    held, entered = [], []

    def wait():
        with bucket.lease(ROW):
            held.append(threading.get_ident())
            entered.append(len(held))
            time.sleep(0.3)
            held.remove(threading.get_ident())

    waiting = [threading.Thread(target=wait) for _ in range(3)]
    for thread in waiting:
        thread.start()
    time.sleep(1.5 * QUICK.expiry)
    assert not entered, "its holder is alive"
    process.kill()
    process.wait()
    process.stdout.close()
    for thread in waiting:
        thread.join()
    assert entered == [1, 1, 1]


def test_whoever_has_lost_a_lease_lets_its_process_go_and_uploads_nothing(bucket, monkeypatch):
    write_checkpoints(bucket.path / ROW, 2)
    command = [*TETHER, "sleep", "600"]
    with (
        pytest.raises(
            LostLeaseError, match=re.escape(f"{bucket.url}/{ROW}.lease: another machine has taken")
        ),
        bucket.lease(ROW) as lease,
    ):
        other = bucket_module.Lease(bucket, f"{ROW}.lease")
        with bucket.pushing(ROW, lease, last="evaluation.json"), lease.leash() as leash:
            bucket.remove(f"{ROW}.lease")
            other.acquire()
            write_checkpoints(bucket.path / ROW, 4)
            assert subprocess.run(command, stdin=leash, check=False).returncode == 128 + 9
    assert not bucket.has_file(f"{ROW}/ckpt-4.index")
    other.renew()
    other.release()


def test_the_last_file_says_that_all_are_there(bucket, object_storage):
    write_checkpoints(bucket.path / ROW, 2)
    del object_storage.changes[:]
    with bucket.lease(ROW) as lease, bucket.pushing(ROW, lease, last="evaluation.json"):
        (bucket.path / ROW / "evaluation.json").write_text("{}")
        while not bucket.has_file(f"{ROW}/checkpoint"):
            time.sleep(0.05)
        assert not bucket.has_file(f"{ROW}/evaluation.json")
        (bucket.path / ROW / "train.log").write_text("step 4/4")
    uploads = [name for method, name in object_storage.changes if method == "POST"]
    assert uploads[-2:] == [f"runs/{ROW}/train.log", f"runs/{ROW}/evaluation.json"]


def test_a_tethered_command_ends_with_whoever_started_it(tmp_path):
    pids = tmp_path / "pids"
    command = [*TETHER, "sh", "-c", f"echo $$ > {pids}; sleep 600"]
    starter = f"import os, subprocess\nend, _ = os.pipe()\nsubprocess.run({command!r}, stdin=end)"
    process = subprocess.Popen([sys.executable, "-c", starter])
    while not pids.exists() or not pids.read_text():
        time.sleep(0.05)
    process.kill()
    process.wait()
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(pids.read_text())).wait(10)


@pytest.mark.parametrize("status", [0, 3])
def test_a_tethered_command_hands_its_status_on(status):
    end, hold = os.pipe()
    command = [*TETHER, "sh", "-c", f"exit {status}"]
    assert subprocess.run(command, stdin=end, check=False).returncode == status
    os.close(end)
    os.close(hold)


def test_places():
    assert isinstance(open_folder("gs://bucket"), Bucket)
    assert open_folder("gs://bucket//a/b/").url == "gs://bucket/a/b"
    assert open_folder("gs://bucket").place("a.json") == "gs://bucket/a.json"
    folder, name = open_file("gs://bucket/a/b.json")
    assert (folder.url, name) == ("gs://bucket/a", "b.json")
    assert open_folder(folder) is folder
    folder, name = open_file("a/b.json")
    assert (type(folder), folder.path, name) == (Folder, Path("a").absolute(), "b.json")
    for place in ("s3://bucket/a", "gs://", "gs:///a", "file://a"):
        with pytest.raises(InputError, match="only gs://bucket/folder can be used"):
            open_folder(place)


def test_a_bucket_can_be_sent_to_another_machine(bucket, use_machine, tmp_path):
    bucket.check()
    sent = pickle.dumps(bucket)
    use_machine("other")
    received = pickle.loads(sent)
    assert (received.url, received.timing) == (bucket.url, QUICK)
    assert received.path.is_relative_to(tmp_path / "other")


def test_what_is_wrong_with_a_bucket_is_said_in_one_line(bucket_url, monkeypatch):
    with pytest.raises(InputError, match=r"^gs://nowhere/a: no such bucket$"):
        Bucket("gs://nowhere/a").check()
    monkeypatch.setattr("gcsfs.retry.asyncio.sleep", _no_time)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"^gs://nowhere/a: Cannot connect to host 127\.0\.0\.1:9"):
        Bucket("gs://nowhere/a").check()
    monkeypatch.setitem(sys.modules, "gcsfs.core", None)
    with pytest.raises(InputError, match=r"^gs://nowhere/a needs gcsfs: pip install 'deepmac\[cluster\]'$"):
        Bucket("gs://nowhere/a").check()


async def _no_time(seconds):
    pass


@pytest.mark.parametrize(("status", "problem"), [(403, "Forbidden"), (401, "401")])
def test_a_bucket_that_may_not_be_read_is_an_input_error(bucket, object_storage, status, problem):
    object_storage.refuse = status
    try:
        with pytest.raises(InputError, match=f"^{re.escape(bucket.url)}: [^\n]*{problem}[^\n]*$"):
            bucket.check()
    finally:
        object_storage.refuse = None
