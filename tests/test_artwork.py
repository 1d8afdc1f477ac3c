"""The table class -> artwork against COCO's classes and the files of the installed packages."""

import collections

from deepmac.core.categories import COCO_CATEGORIES
from deepmac.scenes.artwork import ARTWORK, CREDITS, artworks
from deepmac.scenes.sprites import render


def test_every_drawing_can_be_rendered_and_is_listed_once():
    assert set(ARTWORK) <= {category.name for category in COCO_CATEGORIES}
    assert len(ARTWORK) == 67
    uses = collections.Counter()
    for entry in ARTWORK.values():
        listed = artworks(entry)
        assert listed
        for one in listed:
            uses.update(one.variants)
            for picture in one.variants[:2]:
                assert picture.path.is_file()
                assert max(render(picture, 32).shape[:2]) >= 28, one
    assert set(uses.values()) == {1}
    assert "Twemoji" in CREDITS[0] and "CC BY 4.0" in CREDITS[0]
    assert "OpenMoji" in CREDITS[1] and "CC BY-SA 4.0" in CREDITS[1]


def test_skin_tones_are_variants_of_one_artwork():
    standing = next(
        one for one in artworks(ARTWORK["person"]) if one.vendor == "twemoji" and one.name == "1f9cd*"
    )
    assert [picture.path.stem for picture in standing.variants] == [
        "1f9cd", *(f"1f9cd-1f3f{tone}" for tone in "bcdef")
    ]  # fmt: skip
    cook = next(
        one for one in artworks(ARTWORK["person"]) if one.vendor == "openmoji" and "1f373" in one.name
    )
    assert cook.variants[1].path.stem == "1F9D1-1F3FB-200D-1F373"


def test_elements_and_parts_are_read():
    listed = artworks(ARTWORK["boat"]) + artworks(ARTWORK["fork"])
    entries = {(one.vendor, one.name): one.variants for one in listed}
    assert entries["openmoji", "1f6a2!8,21"][0].drop == (8, 21)
    fork, other_fork = entries["twemoji", "1f374#0/1f37d=3-13"]
    assert (fork.part, fork.keep) == (0, None)
    assert (other_fork.part, other_fork.keep) == (None, tuple(range(3, 14)))
    # A code stands for both vendors, a prefix for one.
    assert {one.vendor for one in artworks(ARTWORK["bicycle"])} == {"twemoji", "openmoji"}
    assert [one.vendor for one in artworks(ARTWORK["surfboard"])] == ["twemoji"]
    assert [one.vendor for one in artworks(ARTWORK["dining table"])] == ["openmoji"]
