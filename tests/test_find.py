"""Finding models, and downloads from a local server: once, in one piece, and unpacked without harm."""

import hashlib
import http.server
import io
import tarfile
import threading

import pytest

import deepmac
from deepmac.core.errors import InputError
from deepmac.inference import find
from deepmac.inference.find import ModelFolder, find_model

NAME = "deepmac_1024x1024_coco17"
ARCHIVE = f"{NAME}.tar.gz"
# Long enough not to be sent at once, and not compressible.
CONTENT = hashlib.shake_256(b"weights").digest(3_000_000)


def archive(*members, model=True) -> bytes:
    """A tar.gz of (name or TarInfo, bytes), with a model in it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        if model:
            members = (
                (f"{NAME}/pipeline.config", b"model {}"),
                (f"{NAME}/checkpoint/ckpt-0.data", CONTENT),
                *members,
            )
        for info, data in members:
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` at every path; `cut` ends a transfer after so many bytes."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cut, self.requests = archive(), None, 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content[: self.server.cut])

    def log_message(self, *_):
        """Keeps the test output clean."""


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("DEEPMAC_CACHE", str(tmp_path))
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/models/{ARCHIVE}"
        monkeypatch.setitem(find.PUBLISHED_MODELS, NAME, url)
        yield server
        server.shutdown()
        thread.join()


def test_downloads_once(server, tmp_path, capsys):
    folder = find.published_model(NAME)
    assert (folder / "pipeline.config").read_text() == "model {}"
    assert (folder / "checkpoint" / "ckpt-0.data").read_bytes() == CONTENT
    assert "100%" in capsys.readouterr().err  # a progress bar
    assert find.published_model(NAME) == folder
    assert server.requests == 1
    assert {path.name for path in tmp_path.iterdir()} == {NAME, ARCHIVE}


def test_an_interrupted_download_leaves_nothing_and_can_be_repeated(server, tmp_path):
    server.cut = 1_200_000
    with pytest.raises(InputError, match=r"cannot download .* run again"):
        find.published_model(NAME)
    assert not list(tmp_path.iterdir())
    server.cut = None
    folder = find.published_model(NAME)
    assert (folder / "checkpoint" / "ckpt-0.data").read_bytes() == CONTENT


def test_a_server_error_is_told_and_offline_where_to_put_the_file(server, tmp_path, monkeypatch):
    content = server.content
    with monkeypatch.context() as patched, pytest.raises(InputError, match="404"):
        patched.setattr(Handler, "do_GET", lambda handler: handler.send_error(404))
        find.published_model(NAME)
    monkeypatch.setitem(find.PUBLISHED_MODELS, NAME, f"http://127.0.0.1:9/{ARCHIVE}")
    with pytest.raises(InputError) as caught:
        find.published_model(NAME)
    assert str(tmp_path / ARCHIVE) in str(caught.value)
    assert f"{ARCHIVE}: no connection (Connection refused); run again" in str(caught.value)
    assert "Pool" not in str(caught.value)
    (tmp_path / ARCHIVE).write_bytes(content)
    assert (find.published_model(NAME) / "pipeline.config").is_file()
    assert server.requests == 0


def link(name, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info, b""


def device(name):
    info = tarfile.TarInfo(name)
    info.type = tarfile.CHRTYPE
    return info, b""


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", b"x")],
        [(f"{NAME}/../../evil", b"x")],
        [link(f"{NAME}/out", "../../.."), (f"{NAME}/out/evil", b"x")],
        [link(f"{NAME}/out", "/")],
        [device(f"{NAME}/null")],
    ],
)
def test_nothing_is_written_outside(server, tmp_path, members, monkeypatch):
    server.content = archive(*members)
    cache = tmp_path / "cache"
    monkeypatch.setenv("DEEPMAC_CACHE", str(cache))
    with pytest.raises(InputError, match="refused: it would write outside"):
        find.published_model(NAME)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    assert [path.name for path in cache.iterdir()] == [ARCHIVE]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"no archive", "cannot be unpacked"),
        (archive()[:-500_000], "cannot be unpacked"),
        (archive(("readme", b"x"), model=False), "holds no pipeline.config"),
    ],
    ids=["no archive", "truncated", "no model"],  # the bytes hold the time, and name no test
)
def test_a_damaged_archive_leaves_no_folder(server, tmp_path, content, expected):
    server.content = content
    with pytest.raises(InputError, match=expected):
        find.published_model(NAME)
    assert not (tmp_path / NAME).exists()
    server.content = archive()
    (tmp_path / ARCHIVE).unlink()
    assert (find.published_model(NAME) / "pipeline.config").is_file()


def files(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["params.yaml"], ModelFolder("")),
        (["params.yaml", "saved_model/saved_model.pb"], ModelFolder("")),
        (["pipeline.config", "checkpoint/ckpt-0.index"], ModelFolder("")),
        (["pipeline.config", "checkpoint/ckpt-0.index", "saved_model/saved_model.pb"], ModelFolder("")),
        (["pipeline.config"], ModelFolder("")),  # loading says that the checkpoint is missing
        (["pipeline.config", "saved_model/saved_model.pb"], ModelFolder("saved_model", "saved_model")),
        (["saved_model/saved_model.pb"], ModelFolder("saved_model", "saved_model")),
        (["saved_model.pb"], ModelFolder("", "saved_model")),
    ],
)
def test_finds_what_a_folder_holds(names, found, tmp_path):
    folder = files(tmp_path, *names)
    expected = ModelFolder(tmp_path / found.folder, found.kind)
    assert find_model(folder) == find_model(str(folder)) == expected


def test_a_published_name_is_downloaded_unless_it_is_a_folder(tmp_path, monkeypatch):
    downloaded = files(tmp_path / "cache", "pipeline.config", "checkpoint/ckpt-0.index")
    monkeypatch.setattr(find, "published_model", {NAME: downloaded}.__getitem__)
    monkeypatch.chdir(tmp_path)
    assert find_model(NAME) == ModelFolder(downloaded)
    files(tmp_path / NAME, "params.yaml")
    assert find_model(NAME).folder.absolute() == tmp_path / NAME


def test_what_is_no_model_lists_everything_accepted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("nothing", "deepmac_9000", "/nowhere/at/all", "", "."):
        with pytest.raises(InputError) as error:
            deepmac.load(name)
        for accepted in ("'mini'", NAME, "params.yaml", "pipeline.config", "checkpoint/", "saved_model/"):
            assert accepted in str(error.value)
    for name in (None, 5, ["mini"]):
        with pytest.raises(InputError, match="a name or a folder, not "):
            find_model(name)


def test_the_calibration_of_quality_is_the_models_own(tmp_path):
    model = ModelFolder(tmp_path)
    assert model.calibration == (0, 1)
    (tmp_path / "quality.json").write_text('{"intercept": 0.25, "slope": 0.5}')
    assert model.calibration == (0.25, 0.5)
    for damaged in ('{"intercept": 0.25}', "[1]", "", '{"intercept": "a", "slope": 1}'):
        (tmp_path / "quality.json").write_text(damaged)
        with pytest.raises(InputError, match="must hold the numbers intercept and slope"):
            assert model.calibration
