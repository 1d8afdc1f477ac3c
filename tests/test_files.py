"""Files and folders appear whole or not at all."""

import os
import signal
import stat
import subprocess
import sys

import pytest

from deepmac.core.errors import InputError
from deepmac.core.files import atomic_file, atomic_folder


def test_file_appears_only_when_complete(tmp_path):
    path = tmp_path / "new" / "results.json"
    with atomic_file(path) as temporary:
        temporary.write_text("{}")
        assert not path.exists()
        assert temporary.suffix == ".json"
        assert temporary.parent == path.parent
    assert path.read_text() == "{}"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_is_replaced_in_one_step_or_not_at_all(tmp_path):
    """A reader that opened the old file goes on reading the old content."""
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    with path.open() as reader:
        with atomic_file(path) as temporary:
            temporary.write_text("new")
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("there_already", [False, True])
def test_folder_appears_only_when_complete(tmp_path, there_already):
    path = tmp_path / "deep" / "scenes"
    if there_already:  # empty
        path.mkdir(parents=True)
    with pytest.raises(RuntimeError), atomic_folder(path) as temporary:
        (temporary / "1.png").write_bytes(b"1")
        raise RuntimeError
    assert not list(tmp_path.rglob("*.png"))
    with atomic_folder(path) as temporary:
        (temporary / "images").mkdir()
        (temporary / "images" / "1.png").write_bytes(b"1")
        assert there_already == path.exists()
    assert (path / "images" / "1.png").read_bytes() == b"1"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("where", ["here", "link", "mount"])
def test_folders_that_stay_are_filled(tmp_path, monkeypatch, where):
    path = tmp_path / "folder"
    path.mkdir()
    (tmp_path / "link").symlink_to(path)
    monkeypatch.chdir(path if where == "here" else tmp_path)
    monkeypatch.setattr("os.path.ismount", lambda one: where == "mount" and one == path)
    number = path.stat().st_ino
    name = {"here": ".", "link": "link", "mount": "folder"}[where]
    with pytest.raises(RuntimeError), atomic_folder(name) as temporary:
        (temporary / "1.png").touch()
        raise RuntimeError
    assert not list(path.iterdir())
    if where == "mount":
        (path / ".deepmac-incomplete").mkdir()  # of a run that was killed
    with atomic_folder(name) as temporary:
        (temporary / "1.png").write_bytes(b"1")
        assert not (path / "1.png").exists()
    assert [file.read_bytes() for file in path.iterdir()] == [b"1"]
    assert (path.stat().st_ino == number) == (where != "link")
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / "link"]


@pytest.mark.parametrize("kind", ["file", "full folder"])
def test_what_exists_is_not_overwritten_by_a_folder(tmp_path, kind):
    path = tmp_path / "scenes"
    if kind == "file":
        path.write_text("mine")
    else:
        path.mkdir()
        (path / "mine").write_text("mine")
    with pytest.raises(InputError, match="scenes already exists"), atomic_folder(path):
        pytest.fail("the block must not run")
    assert (path if kind == "file" else path / "mine").read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_filled_by_somebody_else_meanwhile_is_kept(tmp_path):
    path = tmp_path / "scenes"
    with pytest.raises(OSError), atomic_folder(path) as temporary:
        (temporary / "1.png").write_bytes(b"1")
        path.mkdir()
        (path / "theirs").write_text("theirs")
    assert [file.name for file in path.iterdir()] == ["theirs"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("umask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)]
)
def test_permissions_are_those_of_ordinary_files(tmp_path, umask, file_mode, folder_mode, monkeypatch):
    before = os.umask(umask)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", lambda mask: pytest.fail("it is that of all threads"))
            with atomic_file(tmp_path / "file"), atomic_folder(tmp_path / "folder"):
                pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == file_mode
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == folder_mode


@pytest.mark.parametrize("what", ["atomic_file", "atomic_folder"])
def test_killed_process_leaves_nothing_under_the_name(tmp_path, what):
    path = tmp_path / "result"
    code = f"""
import os, signal, sys
from deepmac.core.files import {what}
with {what}(sys.argv[1]) as temporary:
    (temporary / "half" if temporary.is_dir() else temporary).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    run = subprocess.run([sys.executable, "-c", code, path], check=False)
    assert run.returncode == -signal.SIGKILL
    assert not path.exists()
    assert [file.name[0] for file in tmp_path.iterdir()] == ["."]  # hidden: nobody takes it for a result

    with atomic_folder(path) as temporary:  # the next run is not disturbed by the leftovers
        (temporary / "whole").write_text("whole")
    assert [file.name for file in path.iterdir()] == ["whole"]
