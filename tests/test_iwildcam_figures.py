import camera_traps
import numpy as np
import pytest

from deepmac.core.label_images import write_label_image
from deepmac.iwildcam.collection import open_collection
from deepmac.iwildcam.tables import objects_table, pictures_table
from lib import iwildcam_figures as figures


@pytest.fixture(params=["with masks", "without masks", "empty"])
def tables(request, tmp_path):
    root = camera_traps.write_release(tmp_path)
    if request.param == "with masks":
        write_label_image(root / "instance_masks/b-2.png", np.full(camera_traps.SIZE, 2, np.uint8))
    if request.param == "empty":
        for path in root.glob("metadata/*"):
            path.unlink()
        camera_traps.write_detections(root / "metadata/detections.json", {})
    collection = open_collection(root)
    return pictures_table(collection), objects_table(collection)


def _draws(figure):
    figure.canvas.draw()
    return figure.axes


def test_every_figure_can_be_drawn(tables):
    pictures, objects = tables
    areas, _ = _draws(figures.mask_against_box(objects))
    shown = sum(len(points.get_offsets()) for points in areas.collections)
    assert shown == (objects["mask_area"] > 0).sum()
    histogram, _ = _draws(figures.confidences(objects))
    assert sum(patch.get_height() for patch in histogram.patches) == len(objects)
    for column in ("category", "location"):
        counts, _ = _draws(figures.by_group(pictures, objects, column))
        widths = [patch.get_width() for patch in counts.patches]
        named = pictures[pictures[column] != ""].index
        assert sum(widths) == len(named) + objects["picture"].isin(named).sum()
