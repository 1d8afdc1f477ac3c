import command_line
import numpy as np
import pytest
import tensorflow as tf
from synthetic import draw_scene, save_annotations, write_coco

from deepmac.data.rules import read_points
from deepmac.data.tfrecords import MaskExampleDecoder

SPLIT = "val2017"


def test_points_are_on_the_object_or_beside_it():
    annotation = {"point_coords": [[1.5, 2.5], [3, 4]], "point_labels": [1, 0], "keypoints": [0, 0, 2]}
    np.testing.assert_array_equal(read_points(annotation), [[1.5, 2.5, 1], [3, 4, 0]])
    assert read_points({"keypoints": [1e300, 0, 2]}).shape == (0, 3), "COCO's may lie anywhere"


@pytest.mark.parametrize(
    "annotation",
    [
        {"point_coords": [[1, 2]], "point_labels": [1, 0]},
        {"point_coords": [[1, 2]]},
        {"point_coords": [1, 2], "point_labels": [1, 0]},
        {"point_coords": [["a", 2]], "point_labels": [1]},
        {"point_coords": [[1, 2]], "point_labels": [3]},
    ],
)
def test_malformed_points_are_refused(annotation):
    with pytest.raises(ValueError):
        read_points(annotation)


@pytest.fixture
def coco(tmp_path):
    """A picture with three objects, the first with two points, the second with one, the third with none."""
    content = write_coco(tmp_path, SPLIT, [draw_scene(40, 30, 3, 0), draw_scene(20, 20, 0, 1)], [1, 18, 90])
    content["annotations"][0] |= {"point_coords": [[3, 10], [6, 20]], "point_labels": [1, 0]}
    content["annotations"][1] |= {"point_coords": [[15, 8]], "point_labels": [1]}
    save_annotations(tmp_path, SPLIT, content)
    return tmp_path, content


def decode_first(folder, count):
    files = sorted(str(path) for path in folder.glob(f"{SPLIT}-*.tfrecord"))
    decoder = MaskExampleDecoder(num_keypoints=count)
    examples = [decoder.decode(record) for record in tf.data.TFRecordDataset(files)]
    (example,) = (example for example in examples if example["source_id"] == b"100")
    (empty,) = (example for example in examples if example["source_id"] == b"101")
    assert empty["groundtruth_keypoints"].shape == (0, count, 2)
    return example


def test_records_hold_the_points(coco, tmp_path):
    folder, _ = coco
    run = command_line.run("tfrecord", "--coco-dir", folder, "--out", tmp_path / "out", "--split", SPLIT)
    assert "2 points for each (task.train_data.num_keypoints)" in run.output
    example = decode_first(tmp_path / "out", 2)
    nan = [np.nan, np.nan]
    points = [[[10 / 40, 3 / 30], [20 / 40, 6 / 30]], [[8 / 40, 15 / 30], nan], [nan] * 2]
    np.testing.assert_allclose(example["groundtruth_keypoints"], points, rtol=1e-6)
    np.testing.assert_array_equal(example["groundtruth_keypoint_depths"], [[1, 0], [1, 0], [0, 0]])
    with pytest.raises(tf.errors.InvalidArgumentError, match="do not hold 17 points"):
        decode_first(tmp_path / "out", 17)
