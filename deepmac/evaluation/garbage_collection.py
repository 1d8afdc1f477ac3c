"""Keeps Python from searching all its objects for garbage while many small ones are made."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Pauses the search for reference cycles while the block (or the decorated function) runs.

    COCO's results are some dictionaries for each detection. Making a hundred thousand of them sets off
    searches through everything the process holds, TensorFlow's graphs too, which can take longer than
    the evaluation itself.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
