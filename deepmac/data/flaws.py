"""What can be wrong with annotations, and what each use of them does about it.

Real annotations have flaws: boxes a hundredth of a pixel outside the picture, ids that are texts, polygons
of two points. One rule finds each kind of flaw and says what mends it; a `Policy` says for each use whether
it is mended, does not matter, or is an error. What cannot be mended costs the smallest thing that it spoils:
a part of a mask, a mask, an annotation, a picture. Errors are raised before anything is written, with
counts, examples and what to do.
"""

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

EXAMPLES = 3  # of each flaw that a message tells
LOST = "left out"  # what was done with an entry that cannot be mended


class Flaw(NamedTuple):
    """A kind of flaw: its name, what mending does, and what to do where it is an error."""

    name: str
    mended: str
    remedy: str


class Finding(NamedTuple):
    """A flaw of an entry, what exactly is wrong, and the values that mend it; None: the entry is lost."""

    flaw: Flaw
    case: str
    mended: dict | None = None


# Of lists and their entries.
NOT_AN_ENTRY = Flaw("entries that cannot be read", "", "remove them")
TWICE = Flaw("images that are listed twice", "taken as one", "list them once")
ODD_ID = Flaw("ids that are missing, shared, or no whole numbers", "replaced by numbers", "number them")
NO_CATEGORIES = Flaw("no list 'categories'", "made from the annotations", "give each an 'id' and a 'name'")
ODD_CATEGORIES = Flaw("categories in an unusual form", "read", "give each an 'id' and a 'name'")
GROUPING = Flaw("categories that only group the others", LOST, "remove them")
EMPTY = Flaw("splits without annotations", LOST, "annotate them")
UNUSED = Flaw("splits neither to train nor to validate with", LOST, "")
# Of pictures.
NO_NAME = Flaw("images without a file name of their own", "named by another entry", "give each a 'file_name'")
MISSING_PICTURE = Flaw("missing images", "", "complete the folder, or name another one")
CORRUPT_PICTURE = Flaw("corrupt images", "", "copy them again")
BAD_NAME = Flaw("images whose names are not UTF-8", "", "rename them")
NO_SIZE = Flaw("images without whole height and width", "measured, or read", "give both in pixels")
OTHER_SIZE = Flaw("images of another size than annotated", "", "use the annotations made for these pictures")
SWAPPED = Flaw("images with height as width", "swapped", "correct them")
OTHER_NAME = Flaw("images under another name or path", "found", "")
TURNED = Flaw("images annotated as their camera turns them", "turned", "")
PERHAPS_TURNED = Flaw("images turned by their camera, and annotated either way", "taken as upright", "")
# Of annotations.
REPEATED = Flaw("annotations that are listed twice", "taken as one", "list them once")
UNKNOWN_IMAGE = Flaw("annotations of unknown images", "", "list the images too")
NO_CATEGORY = Flaw("annotations without a category", "given one", "give each a 'category_id'")
NOT_LISTED = Flaw("annotations of categories that the file does not list", "", "list them with their names")
ODD_CATEGORY = Flaw("categories given by name or as text", "looked up", "give the number of the category")
NO_BOX = Flaw("annotations without a box", "given that of the mask", "give 'bbox' as four numbers")
ODD_BOX = Flaw("boxes in an unusual form", "read", "give x, y, width, height in pixels")
NEGATIVE = Flaw("boxes of negative width or height", "read from the other corner", "give the upper left one")
NOT_FINITE = Flaw("boxes that are not finite", "replaced by those of the masks", "correct or remove them")
NO_AREA_INSIDE = Flaw("boxes without area in the image", "replaced by those of the masks", "correct them")
REACHES_BEYOND = Flaw("boxes beyond the image", "clipped", "clip them")
WITHOUT_MASK = Flaw("annotations without a mask", "kept as boxes", "")
ODD_MASK = Flaw("masks in an unusual form", "read", "give polygons, or RLE of the image's size")
BAD_PART = Flaw("unusable parts of masks", "left out, the others kept", "correct or remove them")
BAD_MASK = Flaw("unusable masks", "left out, their boxes kept", "give polygons, or RLE of the image's size")
ALONG_ROWS = Flaw("masks whose run lengths follow the rows", "read", "let them run down the columns")
RECTANGLES = Flaw("classes whose masks are all rectangles", "kept; if they are boxes only, remove them", "")
DISAGREES = Flaw("masks that fit badly to their boxes", "kept", "see which of both is right")
BAD_POINTS = Flaw("malformed points", "left out, their boxes kept", "give point_coords and point_labels")
NO_AREA = Flaw("annotations without 'area'", "given that of the mask or box", "give that of the mask")
ODD_AREA = Flaw("areas of 0 or more than the image", "replaced by that of the mask or box", "correct them")
NO_CROWD = Flaw("annotations without 'iscrowd', 0 or 1", "given it", "give 0 or 1")
ALL_CROWDS = Flaw("crowd regions, of which there is nothing else", "taken as objects", "set 'iscrowd' to 0")


# What annotations of other formats than COCO's never have.
NOT_OF_OTHERS = (ODD_ID, ODD_CATEGORY, NO_SIZE, NO_AREA, NO_CROWD)


class Policy(NamedTuple):
    """What a use of annotations does about their flaws."""

    mends: Collection[Flaw] | None  # they are repaired, or cost the entry, and are counted; None: all others
    refuses: Collection[Flaw] = ()  # they are errors
    ignores: Collection[Flaw] = ()  # they do not matter

    def allows(self, flaw: Flaw) -> bool:
        """Whether a flaw is no error."""
        return flaw not in self.refuses if self.mends is None else flaw in self.mends


# Ids of categories that are not listed are often off by one: then every name would be wrong.
TRAINING = Policy(mends=None, refuses=(NOT_LISTED,))
# Boxes to segment are clipped where their pictures are read.
BOXES = Policy(mends=None, ignores=(REACHES_BEYOND, REPEATED, RECTANGLES))
# COCO compares boxes as they are.
EVALUATION = Policy(
    mends=(WITHOUT_MASK, NO_CROWD),
    ignores=(
        *(REPEATED, NO_NAME, PERHAPS_TURNED, RECTANGLES, DISAGREES, BAD_POINTS, ODD_AREA, ALL_CROWDS),
        *(NEGATIVE, NO_AREA_INSIDE, REACHES_BEYOND),
    ),
)


class Findings:
    """Flaws that were found in a file, and what was done about them."""

    def __init__(self, policy: Policy, untold: Collection[Flaw] = ()):
        self._policy = policy
        self._untold = untold  # mended, but not counted: nothing is wrong with the file
        self._cases: dict[tuple[Flaw, str], list[str]] = {}  # flaw, what was done -> a text for each case

    def add(self, finding: Finding, where: str = "") -> bool:
        """Counts a finding; returns whether the entry goes on, with what is mended."""
        flaw, case, mended = finding
        allowed = self._policy.allows(flaw)
        done = (LOST if mended is None else flaw.mended) if allowed else ""
        text = f"{where}: {case}" if where else case
        if allowed and mended is not None and flaw in self._untold:
            return True
        printable = text.encode("utf-8", "backslashreplace").decode()  # names of files may be no text
        self._cases.setdefault((flaw, done), []).append(printable)
        return allowed and mended is not None

    def settle(self, entry: dict, where: str, rules: Iterable[Callable], *context) -> dict | None:
        """Applies rules, functions of (entry, *context) that yield findings, each to what others have mended.

        `where` is what messages call the entry, before its id; "": cases say all. Returns the entry, mended;
        None if it is lost.
        """
        where = where and f"{where} {entry.get('given_id', entry['id'])}"
        repairs = []
        for rule in rules:
            for finding in (one for one in rule(entry, *context) if one.flaw not in self._policy.ignores):
                if finding.mended is None or not self._policy.allows(finding.flaw):
                    spoiled = [one.case for one in repairs if one.flaw.mended.startswith(LOST)]
                    self.add(finding._replace(case="; ".join([finding.case, *spoiled])), where)
                    return None  # what was repaired before does not matter
                repairs.append(finding)
                entry = entry | finding.mended
        for finding in repairs:
            self.add(finding, where)
        return entry

    def repairs(self) -> dict[str, list[str]]:
        """Flaw and what was done about it -> a text for each case."""
        return {f"{flaw.name} {done}": cases for (flaw, done), cases in self._cases.items() if done}

    def remedies(self, done: str = "") -> str:
        """What to do about the flaws that are errors, or of which that was done, such as `LOST`."""
        return "; ".join(
            f"{summary(flaw.name, cases)}: {flaw.remedy}"
            for (flaw, what), cases in self._cases.items()
            if what == done
        )


def summary(kind: str, cases: list[str]) -> str:
    """A line about a kind of flaw: how many there are, and the first of them."""
    more = ", …" if len(cases) > EXAMPLES else ""
    return f"{kind}: {len(cases)} ({', '.join(cases[:EXAMPLES])}{more})"
