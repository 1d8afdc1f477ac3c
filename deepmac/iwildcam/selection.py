"""Which animals of a collection are looked at, in which order of their pictures, and on which page."""

from typing import Any

import pandas as pd

from deepmac.inference.prediction import QUALITY_WORDS
from deepmac.iwildcam.collection import in_order

PAGE = 12  # pictures
# Columns of the collection's table -> what filters by their values, and by ranges of them, are called.
CHOICES = {"species": "species", "camera": "camera", "kind": "detected as", "split": "split"}
CHOICES |= {"rating": "quality", "review": "review"}
RANGES = {"confidence": "confidence", "share": "mask, % of picture", "fill": "mask / box"}
_UNKNOWN = {"kind": "nothing", "rating": "not rated", "review": "not reviewed"}
_ORDER = {"rating": [*QUALITY_WORDS, ""], "review": ["keep", "reject", ""]}
# What orders of pictures are called -> the column of their animals that decides, whether the smallest first.
ORDERS: dict[str, tuple[str, bool]] = {
    "camera and time": ("", True),
    "doubtful first": ("quality", True),
    "best first": ("quality", False),
    "largest mask first": ("share", False),
    "smallest mask first": ("share", True),
    "fullest box first": ("fill", False),
    "emptiest box first": ("fill", True),
    "least confident first": ("confidence", True),
}


def filters(animals: pd.DataFrame) -> list[dict[str, Any]]:
    """The filters that make sense for a collection: of columns that differ from animal to animal.

    Returns:
        Of each "column" and "label", and "options", pairs of value and label, or "range", least and largest.
    """
    found: list[dict[str, Any]] = []
    for column, label in CHOICES.items():
        values = animals[column].unique().tolist()
        if len(values) > 1 or column == "review":
            values = _ORDER.get(column) or sorted(values, key=lambda text: (not text, in_order(text)))
            options = [[value, value or _UNKNOWN.get(column, "not known")] for value in values]
            found.append({"column": column, "label": label, "options": options})
    for column, label in RANGES.items():
        if animals[column].nunique() > 1:
            ends = [animals[column].min(), animals[column].max()]
            found.append({"column": column, "label": label, "range": [round(float(end), 2) for end in ends]})
    return found


def select(animals: pd.DataFrame, where: dict[str, Any]) -> pd.DataFrame:
    """The lines of a collection's table that fit.

    Args:
        animals: the table.
        where: column -> a value, or a range [least, most] with both ends in it, None for no end. Also "find",
            a part of a picture's or sequence's name, and "animals", a range of how many in a picture fit all
            the rest. Lines of pictures without animals fit no other range.
    """
    keep = pd.Series(True, animals.index)
    for column, wanted in where.items():
        if column == "find":
            names = animals["picture"] + "\n" + animals["sequence"]
            keep &= names.str.contains(wanted.strip(), case=False, regex=False)
        elif isinstance(wanted, str):
            keep &= animals[column] == wanted
        elif column != "animals":
            keep &= animals[column].between(*_ends(wanted))
    if "animals" in where:
        counts = (keep & (animals["number"] > 0)).groupby(animals["picture"]).transform("sum")
        keep &= counts.between(*_ends(where["animals"]))
    return animals[keep]


def _ends(wanted: list[float | None]) -> tuple[float, float]:
    low, high = wanted
    return float("-inf") if low is None else low, float("inf") if high is None else high


def pages(selected: pd.DataFrame, order: str, view: str) -> list[list[str]]:
    """The pictures of a selection, page by page.

    Args:
        selected: lines of the collection's table.
        order: of `ORDERS`; a picture has the place of that animal in it which comes first.
        view: "grid", "sequence" (whose pictures are in the order of time), or "picture" (one a page).
    """
    column, smallest_first = ORDERS[order]
    pictures = selected["picture"].unique().tolist()
    if column:
        of_picture = selected.groupby("picture", sort=False)[column].agg("min" if smallest_first else "max")
        pictures = of_picture.sort_values(ascending=smallest_first, kind="stable").index.tolist()
    groups = [pictures]
    if view == "sequence":
        sequences = selected.set_index("picture")["sequence"].to_dict()
        members = {}
        for picture, sequence in sequences.items():
            members.setdefault(sequence, []).append(picture)
        names = dict.fromkeys(sequences[picture] for picture in pictures)
        groups = [members[name] for name in names]
    size = 1 if view == "picture" else PAGE
    return [group[start : start + size] for group in groups for start in range(0, len(group), size)]
