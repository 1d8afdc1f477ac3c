"""Numbers and ids as annotation files hold them: 7, 7.0, "7", "7.0"."""

import math
import re
from collections.abc import Iterable


def number(value) -> float | int:
    """The number that a value of a JSON file stands for, as it is if it is one; NaN for anything else."""
    if isinstance(value, bool):
        return math.nan
    try:
        exact = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return exact if isinstance(value, str) else value


def numbers_in(text: str) -> list[float]:
    """The numbers of a text such as "[1, 2.5]" or "1 2.5"; [] if there is anything else in it."""
    found = [number(word) for word in re.split(r"[\s,]+", text.strip(" \t\r\n[]()"))]
    return [] if any(map(math.isnan, found)) else found


def whole(value) -> int | None:
    """The whole number that a value of a JSON file stands for, None if it does for none."""
    found = number(value)
    return int(found) if isinstance(found, int) or found.is_integer() else None


def key_of(value) -> int | str:
    """An id as it compares: 7, 7.0 and "7" are the same, "007" is a text."""
    found = whole(value)
    is_padded = isinstance(value, str) and value.strip() != "0" and value.strip().startswith("0")
    return str(value) if found is None or is_padded else found


def key_in(entry: dict, fields: Iterable[str]) -> int | str | None:
    """The id or name in the first of these fields that holds one, as it compares; None if none does."""
    for field in fields:
        value = entry.get(field)
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        if isinstance(value, str | int | float) and value == value and value != "":
            return key_of(value)
    return None
