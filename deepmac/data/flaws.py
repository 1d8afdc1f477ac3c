"""What can be wrong with annotations, and what each use of them does about it.

Real annotations have flaws: boxes a hundredth of a pixel outside the picture, boxes without area. One rule
finds each kind of flaw; a `Policy` says for each use whether it is mended, does not matter, or is an error.
Errors are raised before anything is written, with counts, examples and what to do.
"""

from collections.abc import Collection
from typing import NamedTuple


class Flaw(NamedTuple):
    """A kind of flaw: its name, what mending does, and what to do where it is an error."""

    name: str
    mended: str
    remedy: str


MISSING_PICTURE = Flaw("missing images", "", "complete the folder")
CORRUPT_PICTURE = Flaw("corrupt images", "", "download them again")
OTHER_SIZE = Flaw("images of another size than annotated", "", "use the annotations made for these pictures")
UNKNOWN_IMAGE = Flaw("annotations of unknown images", "left out", "list the images too")
NOT_LISTED = Flaw("annotations of categories that the file does not list", "", "list them in 'categories'")
NOT_FINITE = Flaw("boxes that are not finite", "left out", "correct or remove them")
NO_AREA_INSIDE = Flaw("boxes without area in the image", "left out", "correct or remove them")
REACHES_BEYOND = Flaw("boxes beyond the image", "clipped", "clip them")
WITHOUT_MASK = Flaw("annotations without a mask", "kept as boxes", "")
BAD_MASK = Flaw(
    "unusable masks",
    "left out, their boxes kept",
    "give polygons, or RLE of the image's size",
)
BAD_POINTS = Flaw(
    "annotations with malformed points", "", "give keypoints as COCO, or point_coords and point_labels"
)
NO_AREA = Flaw("annotations without 'area'", "given that of the box", "give that of the mask in pixels")


class Policy(NamedTuple):
    """What a use of annotations does about their flaws; those of neither set are errors.

    Attributes:
        mends: flaws that are repaired, or cost the annotation, and are counted.
        ignores: flaws that do not matter.
        needs_categories: whether the file must list them; else ids stand for themselves, or for COCO's.
    """

    mends: Collection[Flaw]
    ignores: Collection[Flaw]
    needs_categories: bool


TRAINING = Policy(
    mends=(
        UNKNOWN_IMAGE,
        NOT_FINITE,
        NO_AREA_INSIDE,
        REACHES_BEYOND,
        WITHOUT_MASK,
        BAD_MASK,
        NO_AREA,
    ),
    ignores=(),
    needs_categories=False,
)
# COCO compares boxes as they are.
EVALUATION = Policy(
    mends=(WITHOUT_MASK,), ignores=(NO_AREA_INSIDE, REACHES_BEYOND, BAD_POINTS), needs_categories=True
)
