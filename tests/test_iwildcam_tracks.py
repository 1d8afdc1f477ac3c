import numpy as np
import pandas as pd

from deepmac.iwildcam.collection import tracks


def _table(*pictures, sequence="s"):
    """Lines of pictures, each a list of (xmin, ymin, width, height, confidence)."""
    lines = []
    for index, boxes in enumerate(pictures):
        for number, box in enumerate(boxes or [None], start=1):
            facts = (f"{sequence}{index}", sequence, number if box else 0)
            lines.append((*facts, *(box or [np.nan] * 5)))
    columns = ["picture", "sequence", "number", "xmin", "ymin", "width", "height", "confidence"]
    return pd.DataFrame(lines, columns=columns)


def test_an_animal_keeps_its_number_whatever_the_order_of_detections():
    deer, fox = (0.1, 0.5, 0.3, 0.3), (0.7, 0.8, 0.1, 0.08)
    moved = [(x + 0.06, y, w, h) for x, y, w, h in (deer, fox)]
    table = _table([(*deer, 0.9), (*fox, 0.8)], [], [(*moved[1], 0.95), (*moved[0], 0.7)])
    assert tracks(table).tolist() == [1, 2, 0, 2, 1]
    box = (0.1, 0.1, 0.2, 0.2, 0.9)
    both = pd.concat([_table([box, box], sequence="s"), _table([box], sequence="t")], ignore_index=True)
    assert tracks(both).tolist() == [1, 2, 1], "sequences have nothing to do with each other"


def test_another_animal_gets_another_number():
    deer, far, mouse = (0.0, 0.0, 0.1, 0.1), (0.9, 0.9, 0.1, 0.1), (0.04, 0.04, 0.01, 0.01)
    assert tracks(_table([(*deer, 0.9)], [(*far, 0.9)])).tolist() == [1, 2]
    assert tracks(_table([(*deer, 0.9)], [(*mouse, 0.9)])).tolist() == [1, 2]
    # It comes back to where it was.
    assert tracks(_table([(*deer, 0.9)], [(*far, 0.9)], [(*deer, 0.9)])).tolist() == [1, 2, 1]


def test_two_animals_of_a_picture_are_never_the_same_one():
    rng = np.random.default_rng(0)
    boxes = np.column_stack([rng.uniform(0, 0.5, (60, 2)), rng.uniform(0.1, 0.5, (60, 2)), rng.random(60)])
    table = _table(*(part.tolist() for part in np.split(boxes, 10)))
    table["track"] = tracks(table)
    assert not table.duplicated(["picture", "track"]).any()
    first = table[table["picture"] == "s0"].sort_values("confidence", ascending=False)
    assert first["track"].tolist() == [1, 2, 3, 4, 5, 6]
