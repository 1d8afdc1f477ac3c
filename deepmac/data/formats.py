"""Annotation files of other formats and folders of annotation tools, as the content of one COCO file."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deepmac.core.errors import InputError

_GZIP = b"\x1f\x8b"


def load_json(path: str | os.PathLike, object_hook: Callable[[dict], Any] | None = None) -> Any:
    """Reads a JSON file, in UTF-8, 16 or 32, with or without a byte order mark, or compressed by gzip.

    Args:
        path: of the file.
        object_hook: as for `json.loads`.

    Raises:
        InputError: no such file, or not JSON.
    """
    try:
        data = Path(path).read_bytes()
        data = gzip.decompress(data) if data.startswith(_GZIP) else data
        return json.loads(data, object_hook=object_hook)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{path}: {reason}; it must hold annotations, such as COCO's JSON") from error
    except (ValueError, EOFError, RecursionError) as error:
        what = f"is not valid JSON ({error})" if data else "is empty"
        raise InputError(f"{path} {what}; it must hold annotations, such as COCO's JSON") from error
