import command_line
import numpy as np
import pytest
import tensorflow as tf
from synthetic import draw_scene, save_annotations, write_coco

from deepmac.data.coco import read_coco_folder
from deepmac.data.points import most_points, read_points
from deepmac.data.tfrecords import MaskExampleDecoder, write_tfrecords

SPLIT = "val2017"


def test_coco_keypoints_are_background_where_they_are_hidden_and_point_labels_go_before_them():
    keypoints = [10, 20, 2, 30, 40, 1, 0, 0, 0]
    expected = [[10, 20, 2, 1], [30, 40, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(read_points({"keypoints": keypoints, "num_keypoints": 2}), expected)
    annotation = {"point_coords": [[1.5, 2.5], [3, 4]], "point_labels": [1, 0], "keypoints": [0, 0, 2]}
    np.testing.assert_array_equal(read_points(annotation), [[1.5, 2.5, 2, 1], [3, 4, 2, 0]])
    assert most_points([{}, {"keypoints": []}, {"keypoints": [float("inf"), 1e300, 0]}]) == 1
    assert most_points([{}, {"keypoints": []}]) == 0
    assert most_points([{"keypoints": [0] * 51}, {"point_coords": [[1, 2]], "point_labels": [1]}]) == 17


@pytest.mark.parametrize(
    "annotation",
    [
        {"keypoints": [1, 2]},
        {"keypoints": [1, 2, 3]},
        {"keypoints": ["a", 2, 1]},
        {"point_coords": [[1, 2]], "point_labels": [1, 0]},
        {"point_coords": [[1, 2]]},
        {"point_coords": [[1, 2]], "point_labels": [3]},
    ],
)
def test_malformed_points_are_refused(annotation):
    with pytest.raises(ValueError):
        read_points(annotation)


@pytest.fixture
def coco(tmp_path):
    """A picture with three objects, the first with keypoints, the second with points, the third with none."""
    content = write_coco(tmp_path, SPLIT, [draw_scene(40, 30, 3, 0), draw_scene(20, 20, 0, 1)], [1, 18, 90])
    content["annotations"][0]["keypoints"] = [3, 10, 2, 6, 20, 1, 0, 0, 0]
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
    assert "3 points for each (task.train_data.num_keypoints)" in run.output
    example = decode_first(tmp_path / "out", 3)
    nan = [np.nan, np.nan]
    points = [[[10 / 40, 3 / 30], [20 / 40, 6 / 30], nan], [[8 / 40, 15 / 30], nan, nan], [nan] * 3]
    np.testing.assert_allclose(example["groundtruth_keypoints"], points, rtol=1e-6)
    np.testing.assert_array_equal(example["groundtruth_keypoint_depths"], [[1, 0, 0], [1, 0, 0], [0, 0, 0]])
    with pytest.raises(tf.errors.InvalidArgumentError, match="do not hold 17 points"):
        decode_first(tmp_path / "out", 17)


def test_records_of_other_tools_may_lack_visibility_and_depth(coco, tmp_path):
    """Then, as in the TF Object Detection API, coordinates that are numbers count and all depths are 0."""
    folder, _ = coco
    write_tfrecords(read_coco_folder(folder, [SPLIT]), tmp_path / "out", num_shards=1)
    (path,) = (tmp_path / "out").glob("*.tfrecord")
    record = next(iter(tf.data.TFRecordDataset(str(path)))).numpy()
    example = tf.train.Example.FromString(record)
    for name in ("visibility", "z"):
        del example.features.feature[f"image/object/keypoint/{name}"]
    decoded = MaskExampleDecoder(num_keypoints=3).decode(example.SerializeToString())
    assert np.isnan(decoded["groundtruth_keypoints"][2]).all()
    assert not np.isnan(decoded["groundtruth_keypoints"][0, :2]).any()
    assert not np.any(decoded["groundtruth_keypoint_depths"])
