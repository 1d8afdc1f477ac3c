"""Ids and categories of annotation files, whatever their form: numbers for ids, entries for categories."""

from collections import Counter
from collections.abc import Iterable

from deepmac.core.categories import COCO_CATEGORIES, NAME_BY_ID
from deepmac.core.errors import InputError
from deepmac.data import flaws
from deepmac.data.flaws import Finding, Findings
from deepmac.data.numbers import key_in, key_of, whole

_LARGEST_ID = 2**63 - 1
# How annotations name their category: by id or by name.
CATEGORY_FIELDS = ("category_id", "category", "category_name", "label", "class")
_UNNAMED = "object"  # the category of annotations without one


def numbered(entries: list[dict], section: str, findings: Findings) -> list[dict]:
    """Gives each entry an id of its own, a whole number; others become its `given_id`."""
    ids = [key_of(entry.get("id")) for entry in entries]
    taken = {i for i in ids if isinstance(i, int) and 0 <= i <= _LARGEST_ID}
    free, unused = max(taken, default=0), set(taken)
    result = []
    for index, (entry, entry_id) in enumerate(zip(entries, ids, strict=True)):
        if entry_id in unused:
            unused.remove(entry_id)
        else:
            entry_id = free = free + 1
        if type(entry.get("id")) is not int or entry["id"] != entry_id:
            given = repr(entry["id"])[:40] if "id" in entry else "missing"
            findings.add(Finding(flaws.ODD_ID, f"'id' is {given}", {}), f"entry {index} of '{section}'")
            entry = entry | {"id": entry_id} | ({"given_id": entry["id"]} if "id" in entry else {})
        result.append(entry)
    return result


def read_categories(
    name: str, given, annotations: Iterable[dict], findings: Findings
) -> tuple[list[dict], dict[int | str, int]]:
    """Reads a file's `categories`, whatever their form, or makes them from the annotations that use them.

    Returns:
        The categories, with `id` and `name`; id or name as annotations give it -> id.

    Raises:
        InputError: it is not known which id is which category.
    """
    used: list = list(dict.fromkeys(key_in(entry, CATEGORY_FIELDS) for entry in annotations))
    lacking = any(all(entry.get(field) in (None, "") for field in CATEGORY_FIELDS) for entry in annotations)
    used = [key for key in used if key is not None]
    entries = _category_entries(name, given, used, findings) if given else _categories_made(used)
    if not given:
        findings.add(Finding(flaws.NO_CATEGORIES, ", ".join(entry["name"] for entry in entries[:5]), {}))
    elif entries is not given:
        findings.add(Finding(flaws.ODD_CATEGORIES, f"{str(given)[:60]}", {}))
    keys = [key_of(entry.get("id")) for entry in entries]
    lookup: dict[int | str, str] = {}  # id -> name
    kept: dict[str, dict] = {}  # name -> entry
    for key, entry in zip(keys, entries, strict=True):
        label = entry["name"]
        if entry.get("id") is not None and lookup.setdefault(key, label) != label:
            raise InputError(f"{name}: 2 of the categories have the same id {key}: make it unique")
        if label in kept:
            findings.add(Finding(flaws.ODD_CATEGORIES, f"{label!r} is listed twice", {}))
        kept.setdefault(label, entry)
    root = _grouping(list(kept.values()), used)
    if root is not None and findings.add(Finding(flaws.GROUPING, repr(root["name"]), {})):
        del kept[root["name"]]
    if not kept or (lacking and len(kept) != 1):
        largest = max((key for key in keys if isinstance(key, int)), default=0)
        kept.setdefault(_UNNAMED, {"id": largest + 1, "name": _UNNAMED})
    result = numbered(list(kept.values()), "categories", findings)
    ids = {entry["name"]: entry["id"] for entry in result}
    ids |= {key: ids[label] for key, label in lookup.items() if label in ids}
    return result, ids | {"": ids.get(_UNNAMED, result[0]["id"])}


def _categories_made(used: list[int | str]) -> list[dict]:
    """Categories for a file that lists none: COCO's if it can only be these, else as they are used."""
    ids = {key for key in used if isinstance(key, int)}
    if ids and len(ids) == len(used) and ids <= NAME_BY_ID.keys() and max(ids) > len(ids):
        return [category._asdict() for category in COCO_CATEGORIES]
    free, made = max(ids, default=0), [{"id": key, "name": str(key)} for key in sorted(ids)]
    texts = [key for key in used if isinstance(key, str)]
    return made + [{"id": free + n, "name": text} for n, text in enumerate(texts, start=1)]


def _category_entries(name: str, given, used: list[int | str], findings: Findings) -> list[dict]:
    """Categories as entries with `id` and `name`; the list itself if it is one."""
    if isinstance(given, dict):
        pairs = (pair if whole(pair[0]) is not None else pair[::-1] for pair in given.items())
        given = [{"id": key, "name": value} for key, value in pairs]
    given = given if isinstance(given, list) else [given]
    entries = [{"name": entry} if isinstance(entry, str) else entry for entry in given]
    if all(isinstance(entry, dict) and entry.get("id") is None and "name" in entry for entry in entries):
        first = _first_id(name, used, len(entries))
        entries = [entry | {"id": number} for number, entry in enumerate(entries, start=first)]
    usable = []
    for index, entry in enumerate(entries):
        fields = entry if isinstance(entry, dict) else {}
        labels = [fields[key] for key in ("name", "id") if isinstance(fields.get(key), str | int | float)]
        labels = [label for label in labels if str(label).strip()]
        if labels:
            usable.append(fields | {"name": str(labels[0])})
        else:
            findings.add(Finding(flaws.NOT_AN_ENTRY, f"entry {index} of 'categories' is {str(entry)[:60]}"))
    if not usable:
        raise InputError(f"{name}: 'categories' need 'id', a number, and 'name', a text: {str(given)[:100]}")
    return given if usable == given else usable


def _first_id(name: str, used: list[int | str], count: int) -> int:
    """Whether annotations number a list of names from 0 or from 1."""
    ids = {key for key in used if isinstance(key, int)}
    fitting = [first for first in (0, 1) if ids <= set(range(first, first + count))]
    if ids and len(fitting) != 1:
        raise InputError(f"{name}: 'categories' are names only: give each an 'id', to know which is which")
    return fitting[0] if ids else 1


def _grouping(categories: list[dict], used: list[int | str]) -> dict | None:
    """The category, unused, whose name is the super-category of all others: Roboflow adds one."""
    groups = [entry.get("supercategory") for entry in categories]
    sizes = Counter(group for group in groups if isinstance(group, str))
    for entry, own in zip(categories, groups, strict=True):
        name = entry["name"]
        groups_all = sizes[name] - (own == name) == len(categories) - 1 > 0
        if groups_all and own in (None, "", "none", name):
            return None if key_of(entry.get("id")) in used or name in used else entry
    return None
