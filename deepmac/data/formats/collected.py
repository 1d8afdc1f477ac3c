"""What readers of other formats share: they collect an image and its annotations at a time."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from deepmac.data.picture_files import PictureName

# What the readers of single pictures raise for what they do not expect; XML that is none is a SyntaxError.
UNREADABLE = (SyntaxError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError)
COLLECTED = "collected"  # key of what was no COCO file
_OWN_NAMES = "own_names"  # of an image, until all are read: those by which its file is called itself


def collected(sources: Iterable, read: Callable, names: dict[int, str] | None = None) -> dict[str, list]:
    """The content of a COCO file, from what reads an image and its annotations; who fails is named."""
    content: dict[str, list] = {"images": [], "annotations": [], COLLECTED: []}
    for key, source in enumerate(sources, start=1):
        try:
            image, found = read(source)
        except UNREADABLE as error:
            named = source.name if isinstance(source, Path) else f"task {source.get('id')}"
            content["images"].append(f"{named}: {_reason(error)}")
            continue
        content["images"].append(image | {"id": key})
        content["annotations"] += [one if isinstance(one, str) else one | {"image_id": key} for one in found]
    pictures = [image for image in content["images"] if isinstance(image, dict)]
    counts = Counter(image["file_name"] for image in pictures)
    for image in pictures:
        own = image.pop(_OWN_NAMES, [])
        image["file_name"] = own[0] if own and counts[image["file_name"]] > 1 else image["file_name"]
    found = [one.get("category_id") for one in content["annotations"] if isinstance(one, dict)]
    used = dict.fromkeys(name for name in found if name is not None)
    if names is None:  # categories are names
        return content | {"categories": [{"id": name, "name": str(name)} for name in used]}
    labels = names or {number: str(number) for number in used}
    return content | {"categories": [{"id": number, "name": labels[number]} for number in sorted(labels)]}


def each(read: Callable[[Any], dict | None], entries: Iterable, where: str) -> list[dict | str]:
    """Annotations, called by where they are; instead of one that cannot be read a text that says why."""
    found: list[dict | str] = []
    for index, entry in enumerate(entries, start=1):
        try:
            one = read(entry)
            found += [one | {"id": f"{where} {index}"}] if one else []
        except UNREADABLE as error:
            found.append(f"{where} {index}: {_reason(error)}")
    return found


def _reason(error: Exception) -> str:
    unexpected = "it is of an unknown form" if isinstance(error, TypeError | AttributeError) else str(error)
    return f"it has no {error}" if isinstance(error, KeyError) else getattr(error, "strerror", unexpected)


def annotation(name: Any, points: list[float], box: Any = None) -> dict:
    """An annotation: a polygon, of x and y in turn, if there are points enough, else a box."""
    named = {} if name in (None, "") else {"category_id": str(name).strip()}
    if len(points) < 6:
        return named | {"bbox": box}
    return named | {"segmentation": [points], "bbox": around(points)}


def around(points: list[float]) -> list[float]:
    x, y = points[::2], points[1::2]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def names_in(given: Any, file: Path, stems: Collection[str]) -> dict:
    """What a file says its picture is called; what it is called itself, if only that is a picture.

    That counts, too, if several say the same: they are copies, of turned pictures.
    """
    names = [str(name) for name in (given, file.stem) if name]
    known = [name for name in names if PictureName.of(name).stem in stems]
    own = [file.stem] if file.stem in known else []
    return {"file_name": (known or names)[0], _OWN_NAMES: own}
