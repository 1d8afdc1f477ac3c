"""Downloads from a local server: once, resumed, verified, and unpacked without harm."""

import hashlib
import http.server
import io
import tarfile
import threading

import pytest

from deepmac.core.errors import InputError
from deepmac.inference import find

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
    """Serves `content` at every path, with ranges; `cut` ends a transfer after so many bytes."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.cut, self.requests = archive(), '"1"', None, []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        start, status = 0, 200
        wanted = self.headers.get("Range")
        server.requests.append(wanted)
        if wanted and self.headers.get("If-Range") == server.etag:
            start, status = int(wanted.removeprefix("bytes=").removesuffix("-")), 206
        if start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", server.etag)
        self.end_headers()
        self.wfile.write(body[: server.cut])

    def log_message(self, *_):
        """Keeps the test output clean."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/models/{ARCHIVE}"
        monkeypatch.setitem(find.PUBLISHED_MODELS, NAME, url)
        yield server
        server.shutdown()
        thread.join()


def test_downloads_once_and_keeps_the_checksum(server, tmp_path, capsys):
    folder = find.published_model(NAME, tmp_path)
    assert (folder / "pipeline.config").read_text() == "model {}"
    assert (folder / "checkpoint" / "ckpt-0.data").read_bytes() == CONTENT
    digest = hashlib.sha256(server.content).hexdigest()
    assert (tmp_path / f"{ARCHIVE}.sha256").read_text() == f"{digest}  {ARCHIVE}\n"
    assert "100%" in capsys.readouterr().err  # a progress bar
    assert find.published_model(NAME, tmp_path) == folder
    assert server.requests == [None]
    assert {path.name for path in tmp_path.iterdir()} == {NAME, ARCHIVE, f"{ARCHIVE}.sha256"}


def test_the_cache_folder_comes_from_the_environment(server, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPMAC_CACHE", str(tmp_path / "models"))
    assert tmp_path / "models" in find.published_model(NAME).parents


def test_an_interrupted_download_is_continued(server, tmp_path):
    server.cut = 1_200_000
    with pytest.raises(InputError, match="run again to continue"):
        find.published_model(NAME, tmp_path)
    arrived = (tmp_path / f"{ARCHIVE}.part").stat().st_size
    assert 0 < arrived <= server.cut and not (tmp_path / ARCHIVE).exists()
    server.cut = None
    folder = find.published_model(NAME, tmp_path)
    assert server.requests == [None, f"bytes={arrived}-"]
    assert (folder / "checkpoint" / "ckpt-0.data").read_bytes() == CONTENT
    assert (tmp_path / ARCHIVE).read_bytes() == server.content
    assert not list(tmp_path.glob("*.part*"))


def test_a_changed_file_is_downloaded_from_the_start(server, tmp_path):
    server.cut = 1_200_000
    with pytest.raises(InputError):
        find.published_model(NAME, tmp_path)
    server.cut, server.etag, server.content = None, '"2"', archive(("more", b"x"))
    find.published_model(NAME, tmp_path)
    assert (tmp_path / ARCHIVE).read_bytes() == server.content


def test_a_part_that_is_no_part_is_thrown_away(server, tmp_path):
    (tmp_path / f"{ARCHIVE}.part").write_bytes(server.content + b"more")
    (tmp_path / f"{ARCHIVE}.part.etag").write_text(server.etag)
    find.published_model(NAME, tmp_path)
    assert (tmp_path / ARCHIVE).read_bytes() == server.content


def test_without_a_version_nothing_is_continued(server, tmp_path):
    server.cut, server.etag = 1_200_000, 'W/"weak"'
    with pytest.raises(InputError):
        find.published_model(NAME, tmp_path)
    server.cut = None
    find.published_model(NAME, tmp_path)
    assert server.requests == [None, None]


def test_another_file_than_the_first_is_refused(server, tmp_path):
    (tmp_path / f"{ARCHIVE}.sha256").write_text(f"{'0' * 64}  {ARCHIVE}\n")
    with pytest.raises(InputError, match="not the file that was downloaded first"):
        find.published_model(NAME, tmp_path)
    assert not (tmp_path / NAME).exists() and not (tmp_path / ARCHIVE).exists()


def test_a_damaged_copy_is_fetched_again(server, tmp_path):
    digest = hashlib.sha256(server.content).hexdigest()
    (tmp_path / f"{ARCHIVE}.sha256").write_text(f"{digest}  {ARCHIVE}\n")
    (tmp_path / ARCHIVE).write_bytes(server.content[:-10])
    find.published_model(NAME, tmp_path)
    assert (tmp_path / ARCHIVE).read_bytes() == server.content


def test_offline_says_where_to_put_the_file(server, tmp_path, monkeypatch):
    content = server.content
    monkeypatch.setitem(find.PUBLISHED_MODELS, NAME, f"http://127.0.0.1:9/{ARCHIVE}")
    with pytest.raises(InputError) as caught:
        find.published_model(NAME, tmp_path)
    assert str(tmp_path / ARCHIVE) in str(caught.value)
    (tmp_path / ARCHIVE).write_bytes(content)
    assert (find.published_model(NAME, tmp_path) / "pipeline.config").is_file()
    assert (tmp_path / f"{ARCHIVE}.sha256").is_file()


def test_a_server_error_is_an_input_error(server, tmp_path, monkeypatch):
    monkeypatch.setattr(Handler, "do_GET", lambda handler: handler.send_error(404))
    with pytest.raises(InputError, match="404"):
        find.published_model(NAME, tmp_path)


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
def test_nothing_is_written_outside(server, tmp_path, members):
    server.content = archive(*members)
    cache = tmp_path / "cache"
    with pytest.raises(InputError, match="refused: it would write outside"):
        find.published_model(NAME, cache)
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
        find.published_model(NAME, tmp_path)
    assert not (tmp_path / NAME).exists()
    server.content = archive()
    (tmp_path / ARCHIVE).unlink()
    assert (find.published_model(NAME, tmp_path) / "pipeline.config").is_file()


def test_unknown_names_list_the_known_ones():
    with pytest.raises(InputError, match=NAME):
        find.published_model("deepmac_2048")
