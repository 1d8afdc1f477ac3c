"""The decoder leaves masks encoded and everything else as Model Garden's."""

import numpy as np
import pytest
import tensorflow as tf
from official.vision.dataloaders.tf_example_decoder import TfExampleDecoder
from synthetic import draw_scene, write_coco

from deepmac.data.coco import write_tfrecords
from deepmac.data.tfrecords import MaskExampleDecoder


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    scenes = [draw_scene(40, 30, 3, 0), draw_scene(20, 50, 0, 1)]
    write_coco(folder, "val2017", scenes, [1, 2, 90])
    write_tfrecords(folder, folder / "records", ["val2017"], num_shards=1)
    (path,) = (folder / "records").glob("*.tfrecord")
    return list(tf.data.TFRecordDataset(str(path)))


def test_decodes_as_model_garden_but_for_the_masks(records):
    for record in records:
        decoded = MaskExampleDecoder().decode(record)
        expected = TfExampleDecoder(include_mask=True).decode(record)
        masks = expected.pop("groundtruth_instance_masks")
        assert decoded.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(decoded[name], value)
        for png, mask in zip(decoded["groundtruth_instance_masks_png"], masks, strict=True):
            np.testing.assert_array_equal(tf.io.decode_png(png)[..., 0], mask)


def test_source_id_can_be_regenerated(records):
    kept, regenerated = (MaskExampleDecoder(flag).decode(records[0])["source_id"] for flag in (False, True))
    assert kept == b"100" and regenerated != kept
