import camera_traps
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepmac.core.label_images import write_label_image
from deepmac.iwildcam.collection import open_collection
from deepmac.iwildcam.selection import ORDERS, PAGE, filters, pages, select


@pytest.fixture(scope="module")
def animals(tmp_path_factory):
    """The table of a collection in which b-2 and d-4 have masks."""
    root = camera_traps.write_release(tmp_path_factory.mktemp("selection"))
    labels = np.zeros(camera_traps.SIZE, np.uint8)
    labels[:12], labels[24:] = 1, 2
    texts = {"Quality": '{"1": 0.9, "2": 0.5, "3": 0.0}'}
    write_label_image(root / "instance_masks/b-2.png", labels, texts)
    write_label_image(root / "instance_masks/d-4.png", np.full(camera_traps.SIZE, 1, np.uint8))
    return open_collection(root).animals


def _ids(selected):
    return selected["picture"].str.slice(-7, -4).unique().tolist()


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ({}, ["a-1", "b-2", "c-3", "d-4"]),
        ({"split": "test"}, ["d-4"]),
        ({"camera": "7", "species": "panthera pardus"}, ["a-1", "b-2"]),
        ({"find": " S2"}, ["c-3"]),
        ({"find": "b-2."}, ["b-2"]),
        ({"kind": ""}, ["c-3"]),
        ({"kind": "person"}, []),
        ({"confidence": [0.9, 1]}, ["a-1", "b-2"]),
        ({"confidence": [None, 0.3]}, ["b-2"]),
        ({"animals": [0, 0]}, ["c-3"]),
        ({"animals": [2, 2]}, ["a-1"]),
        ({"animals": [1, None], "confidence": [0.9, None]}, ["a-1", "b-2"]),
        ({"share": [30, None]}, ["b-2", "d-4"]),
        ({"rating": "doubtful"}, ["b-2"]),
        ({"rating": "", "kind": "animal"}, ["a-1", "d-4"]),
    ],
)
def test_selections(animals, where, ids):
    assert _ids(select(animals, where)) == ids


@given(
    st.sampled_from([None, "train", "test"]),
    st.tuples(st.none() | st.floats(0, 1), st.none() | st.floats(0, 1)),
    st.none() | st.tuples(st.floats(0, 100), st.floats(0, 100)),
    st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
def test_a_selection_is_what_looking_one_by_one_finds(animals, split, confidence, share, count):
    where = {"split": split, "confidence": list(confidence), "share": share, "animals": list(count)}
    where = {column: value for column, value in where.items() if value is not None}
    fitting: dict[str, list[int]] = {}
    for item in animals.itertuples():
        low, high = (default if end is None else end for end, default in zip(confidence, (0, 1), strict=True))
        fits = low <= item.confidence <= high and split in (None, item.split)
        fits = fits and (share is None or share[0] <= item.share <= share[1])
        fitting.setdefault(item.picture, []).extend([item.Index] * fits)
    expected = [line for lines in fitting.values() if count[0] <= len(lines) <= count[1] for line in lines]
    assert select(animals, where).index.tolist() == expected


def test_filters_are_offered_where_there_is_a_choice(animals):
    found = {entry["column"]: entry for entry in filters(animals)}
    assert set(found) == {
        "species", "camera", "kind", "split", "rating", "review", "confidence", "share", "fill"
    }  # fmt: skip
    species = [[name, name] for name in ("empty", "panthera pardus")]
    assert found["species"]["options"] == [*species, ["", "not known"]]
    assert found["confidence"]["range"] == [0.22, 0.93]
    assert {entry["column"] for entry in filters(animals[animals["picture"] == "train/c-3.jpg"])} == {
        "review"
    }


@pytest.mark.parametrize("order", ORDERS)
def test_orders_go_by_the_animal_that_comes_first(animals, order):
    column, smallest_first = ORDERS[order]
    shown = [page[0] for page in pages(animals, order, "picture")]
    assert sorted(shown) == sorted(animals["picture"].unique())
    if column:
        values = animals.groupby("picture")[column].agg("min" if smallest_first else "max")[shown].to_numpy()
        known = values[~np.isnan(values)]
        assert np.isnan(values[len(known) :]).all(), "those of which it is not known come last"
        assert (np.diff(known) * (1 if smallest_first else -1) >= 0).all()


def test_pages_of_sequences_are_in_the_order_of_time(animals):
    [first, *others] = pages(animals, "camera and time", "sequence")
    assert first == ["train/a-1.jpg", "train/b-2.jpg"]
    assert others == [["train/c-3.jpg"], ["test/d-4.jpg"]]
    assert pages(select(animals, {"camera": "9"}), "camera and time", "grid") == []
    assert pages(animals, "camera and time", "grid") == [
        ["train/a-1.jpg", "train/b-2.jpg", "train/c-3.jpg", "test/d-4.jpg"]
    ]
    assert PAGE == 12
    assert pages(animals, "doubtful first", "grid")[0][0] == "train/b-2.jpg"
