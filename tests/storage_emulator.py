"""An emulator of Google Cloud Storage that honours preconditions, as the real one does."""

import contextlib
import itertools
from collections.abc import Iterator
from http import HTTPStatus

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import buckets

_PRECONDITIONS = {"ifGenerationMatch": "generation", "ifMetagenerationMatch": "metageneration"}
_names = (f"bucket-{number}" for number in itertools.count())


class Emulator:
    """A running emulator, which handles one request at a time.

    Attributes:
        address: for STORAGE_EMULATOR_HOST.
        changes: (method, name) of every object that was written or deleted, in order.
        refuse: status to answer everything with, None to do what is asked.
    """

    def __init__(self):
        self._server = server.create_server("127.0.0.1", 0, in_memory=True)
        self._storage = self._server._storage
        self.changes: list[tuple[str, str]] = []
        self.refuse: int | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server._api._httpd.server_port}"

    def new_bucket(self) -> str:
        name = next(_names)
        buckets.create_bucket(name, self._storage)
        return f"gs://{name}"

    def names(self, url: str) -> list[str]:
        """Names of all objects of a bucket."""
        files, _ = self._storage.get_file_list(url.removeprefix("gs://"), None, None)
        return sorted(file["name"] for file in files)

    def read(self, url: str) -> bytes:
        return self._storage.get_file(*url.removeprefix("gs://").split("/", 1))

    def current(self, bucket: str, name: str) -> dict:
        """What the storage tells about an object; generation 0 if there is none."""
        try:
            return self._storage.get_file_obj(bucket, name)
        except NotFound:
            return {"generation": "0"}


@contextlib.contextmanager
def running() -> Iterator[Emulator]:
    """Runs an emulator in a thread."""
    emulator = Emulator()
    handlers = [(routes, method) for _, routes in server.HANDLERS for method in routes]
    for routes, method in handlers:
        routes[method] = _checked(routes[method], emulator)
    emulator._server.start()
    # gcsfs asks in two ways at once, and hangs up when it has one answer.
    emulator._server._api._httpd.handle_error = lambda *_: None
    try:
        yield emulator
    finally:
        emulator._server.stop()


def _checked(handler, emulator):
    """The handler of a request, which answers 412 if a precondition does not hold."""

    def handle(request, response, storage):
        if emulator.refuse:
            response.status = HTTPStatus(emulator.refuse)
            return
        bucket, name = request.params.get("bucket_name"), _object_name(request)
        current = emulator.current(bucket, name) if name else {}
        for parameter, key in _PRECONDITIONS.items():
            if parameter in request.query and current.get(key) != request.query[parameter][0]:
                response.status = HTTPStatus.PRECONDITION_FAILED
                return
        if name and request.method != "GET":
            emulator.changes.append((request.method, name))
        handler(request, response, storage)

    return handle


def _object_name(request) -> str | None:
    if "object_id" in request.params:
        return request.params["object_id"]
    if "name" in request.query:
        return request.query["name"][0]
    data = request.data
    return data.get("meta", data).get("name") if isinstance(data, dict) else None
