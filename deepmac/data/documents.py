"""Documents as programs write them: JSON in any encoding, tables with any separator."""

import csv
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deepmac.core.errors import InputError

_EXPECTED = "it must hold annotations or detections, such as COCO's or MegaDetector's JSON"
_GZIP = b"\x1f\x8b"
# What other files begin with -> what to do instead.
_OTHER_FILES = {
    b"PK\x03\x04": "is a ZIP file: unpack it, and name the annotations in it",
    b"<": "is XML: of CVAT export COCO 1.0; of Pascal VOC name the folder of all XML files",
}
# Cells between semicolons that are numbers.
_DECIMAL_COMMA = re.compile(r'(?<![^;\n])("? *[-+]?\d*),(\d+(?:[eE][-+]?\d+)? *"?)(?=;|$)', re.MULTILINE)


def load_json(path: str | os.PathLike, object_hook: Callable[[dict], Any] | None = None) -> Any:
    """Reads a JSON file, in UTF-8, 16 or 32, with or without a byte order mark, or compressed by gzip.

    Raises:
        InputError: no such file, or not JSON.
    """
    try:
        data = Path(path).read_bytes()
        data = gzip.decompress(data) if data.startswith(_GZIP) else data
        text = data.decode(json.detect_encoding(data))
        if "\\ud" in text or "\\uD" in text:  # perhaps half a character, with which no file can be named
            text = json.dumps(json.loads(text), ensure_ascii=False)
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return json.loads(text, object_hook=object_hook)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{path}: {reason}; {_EXPECTED}") from error
    except (ValueError, EOFError, RecursionError, zlib.error) as error:
        what = f"is not valid JSON ({error})" if data else "is empty"
        what = "is NDJSON, a document in each line" if "Extra data: line 2 " in what else what
        start = data[:99].lstrip(b"\xef\xbb\xbf\r\n\t ")
        what = next((named for begins, named in _OTHER_FILES.items() if start.startswith(begins)), what)
        what = "is a table" if Path(path).suffix.lower() in (".csv", ".tsv") else what
        raise InputError(f"{path} {what}; {_EXPECTED}") from error


def read_table(path: Path) -> list[dict[Any, Any]]:
    """Reads a CSV file as spreadsheets write it: commas, semicolons or tabs, numbers with point or comma.

    Returns its lines by their columns, in small letters; "" for what is missing, under None what is too much.

    Raises:
        InputError: no such file, or no table.
    """
    try:
        text = path.read_text("utf-8-sig")
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        text = _DECIMAL_COMMA.sub(r"\1.\2", text) if delimiter == ";" else text
        lines = list(csv.DictReader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True))
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read the table {path}: {reason}") from error
    return [{key and key.strip().lower(): value or "" for key, value in line.items()} for line in lines]
