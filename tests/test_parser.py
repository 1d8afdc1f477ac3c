"""Training and evaluation inputs: image, boxes and masks must show the same objects everywhere."""

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage
from synthetic import COLORS, Scene, box_of, draw_scene

from deepmac import configs
from deepmac.core.categories import VOC_IDS
from deepmac.core.errors import InputError
from deepmac.data.parser import DeepMACParser
from deepmac.data.preprocessing import network_input

SIZE = 64
RAW = {"bgr_ordering": False, "channel_means": (0.0, 0.0, 0.0), "channel_stds": (1.0, 1.0, 1.0)}
JITTERS = {f"aug_rand_{name}": True for name in ("hue", "contrast", "saturation", "brightness")}
SQUARE_CROP = {"odapi_augmentation": True, "aug_scale_min": 0.6, "aug_scale_max": 1.3}
SCALE_CROP = {"odapi_augmentation": False, "aug_scale_min": 0.6, "aug_scale_max": 1.3}


def example(scene: Scene, classes, crowds=(), image_id=7) -> dict[str, tf.Tensor]:
    """A decoded example, as the decoder gives it."""
    height, width = scene.image.shape[:2]
    pngs = [tf.io.encode_png(mask[..., np.newaxis].astype(np.uint8)).numpy() for mask in scene.masks]
    boxes = scene.boxes / np.tile([height, width], 2)
    return {
        "source_id": tf.constant(str(image_id)),
        "image": tf.constant(scene.image),
        "height": tf.constant(height, tf.int64),
        "width": tf.constant(width, tf.int64),
        "groundtruth_classes": tf.constant(list(classes), tf.int64),
        "groundtruth_is_crowd": tf.constant([index in crowds for index in range(len(classes))], tf.bool),
        "groundtruth_area": tf.constant(scene.masks.sum(axis=(1, 2)), tf.float32),
        "groundtruth_boxes": tf.constant(boxes, tf.float32),
        "groundtruth_instance_masks_png": tf.constant(pngs, tf.string, shape=[len(pngs)]),
    }


def parser(max_num_instances=12, dtype="float32", supervise_all_classes=False, **options) -> DeepMACParser:
    task, data = configs.DeepMACTaskConfig(), configs.DataConfig(dtype=dtype)
    task.model.override({"input_size": [SIZE, SIZE, 3], "max_num_instances": max_num_instances})
    names = ("mask_num_subsamples", "mask_sampling_side", "allowed_masked_classes_ids")
    task.override({name: options.pop(name) for name in names if name in options})
    data.parser.override({"aug_rand_hflip": False} | RAW | options)
    return DeepMACParser(task, data, supervise_all_classes)


def parse(data, times, is_training=True, **options):
    """Parses one example many times, in a tf.data graph without AutoGraph, as training does.

    The same draws every time: of others, one in some dozens next to nothing comes out.
    """
    tf.random.set_seed(0)
    parse_fn = tf.autograph.experimental.do_not_convert(parser(**options).parse_fn(is_training))
    return list(tf.data.Dataset.from_tensors(data).repeat(times).map(parse_fn).as_numpy_iterator())


def instances(features, labels):
    """Yields mask, box in pixels, class of every instance drawn."""
    for index in range(int(labels["mask_weights"].sum())):
        yield labels["masks"][index], features["boxes"][index] * SIZE, labels["mask_classes"][index]


FLIP = {"aug_rand_hflip": True}
AUGMENTATIONS = pytest.mark.parametrize("options", [SQUARE_CROP | FLIP, SCALE_CROP | FLIP])


@AUGMENTATIONS
def test_boxes_recomputed_from_masks_agree(options):
    """The tight box of a rectangle's mask is its box, however it was flipped, cropped and resized."""
    data = example(draw_scene(90, 60, objects=6, seed=1), classes=range(1, 7))
    compared = 0
    for features, labels in parse(data, 30, **options):
        for mask, box, _ in instances(features, labels):
            if (box[2:] - box[:2]).min() < 2:
                continue  # a sliver at the edge of the crop may fall between two samples
            # One pixel for sampling, one more at the picture's end, whose last row the crop leaves out.
            assert np.abs(np.array(box_of(mask)) - box).max() <= 2.0
            assert np.median(np.abs(np.array(box_of(mask)) - box)) <= 1.0
            compared += 1
    assert compared > 50


@AUGMENTATIONS
def test_image_shows_each_object_under_its_mask(options):
    """The pixels of an object's colour are its mask, up to interpolation at the outline."""
    data = example(draw_scene(60, 110, objects=6, seed=2, shape="ellipse"), classes=range(1, 7))
    seen, pixels = Counter(), Counter()
    for features, labels in parse(data, 20, **options):
        palette = np.concatenate([[[0, 0, 0]], COLORS[:6]]).astype(float)
        distances = np.linalg.norm(features["image"][..., np.newaxis, :] - palette, axis=-1)
        for mask, _, class_id in instances(features, labels):
            shown = distances[..., class_id] < 1  # not mixed with a neighbour
            assert shown[ndimage.binary_erosion(mask, np.ones((5, 5)))].all()
            assert ndimage.binary_dilation(mask, np.ones((5, 5)))[shown].all()
            pure = distances.min(axis=-1) < 1
            outline = mask - ndimage.binary_erosion(mask, np.ones((3, 3)))
            pixels.update(outline=outline.sum(), wrong=(shown != mask.astype(bool))[pure].sum())
            seen[class_id] += shown.any()
    assert pixels["wrong"] < 0.05 * pixels["outline"]  # a shift by a pixel would make it about a half
    assert len(seen) == 6 and min(seen.values()) > 5


def test_flip_mirrors_everything():
    scene = draw_scene(SIZE, SIZE, objects=4, seed=3, shape="ellipse")
    outcomes = set()
    for features, labels in parse(example(scene, [1, 2, 3, 4]), 20, aug_rand_hflip=True):
        flipped = not np.array_equal(features["image"], scene.image)
        image, masks = (
            (scene.image[:, ::-1], scene.masks[:, :, ::-1]) if flipped else (scene.image, scene.masks)
        )
        np.testing.assert_array_equal(features["image"], image)
        for mask, box, class_id in instances(features, labels):
            np.testing.assert_array_equal(mask, masks[class_id - 1])
            np.testing.assert_allclose(box, box_of(mask), atol=1e-4)
        outcomes.add(flipped)
    assert outcomes == {True, False}


def test_color_jitters_change_the_image_alone():
    scene = draw_scene(SIZE, SIZE, objects=4, seed=3)
    images = []
    for features, labels in parse(example(scene, [1, 2, 3, 4]), 4, **JITTERS):
        images.append(features["image"])
        for mask, box, class_id in instances(features, labels):
            np.testing.assert_array_equal(mask, scene.masks[class_id - 1])
            np.testing.assert_allclose(box, scene.boxes[class_id - 1], atol=1e-4)
    assert all(np.abs(image - scene.image).max() > 1 for image in images)


def test_labels_follow_the_boxes_that_survive_the_crop():
    scene = draw_scene(100, 60, objects=9, seed=4)
    fewer = 0
    for features, labels in parse(example(scene, range(1, 10)), 30, **SQUARE_CROP):
        count = labels["groundtruths"]["num_detections"]
        fewer += count < 9
        for name, pad in (("boxes", -1), ("classes", -1)):
            assert (labels[name][count:] == pad).all() and (labels[name][:count] >= 0).all()
        assert labels["mask_weights"].sum() == count
        assert not features["boxes"][count:].any() and not labels["mask_classes"][count:].any()
        np.testing.assert_array_equal(labels["mask_boxes"], features["boxes"])
        classes = labels["classes"][:count]
        np.testing.assert_array_equal(labels["groundtruths"]["classes"][:count], classes)
        np.testing.assert_allclose(
            labels["groundtruths"]["boxes"][:count], scene.boxes[classes - 1], rtol=1e-5, atol=1e-3
        )
        drawn = dict(zip(labels["mask_classes"], features["boxes"] * SIZE, strict=True))
        for class_id, box in zip(classes, labels["boxes"], strict=False):
            np.testing.assert_allclose(drawn[class_id], box, atol=1e-4)
        np.testing.assert_array_equal(labels["unpad_image_shapes"], [SIZE, SIZE, 3])
    assert fewer


def test_unpadded_shape_is_the_part_that_is_no_padding():
    scene = draw_scene(60, 90, objects=1, seed=0)
    scene.image[:] = 255
    for features, labels in parse(example(scene, [1]), 10, **SCALE_CROP):
        filled = features["image"][..., 0] > 0
        height, width, _ = labels["unpad_image_shapes"].astype(int)
        assert filled[:height, :width].all() and not filled[height:].any() and not filled[:, width:].any()


@pytest.mark.parametrize("crop", [SQUARE_CROP, SCALE_CROP])
@pytest.mark.parametrize("is_training", [True, False])
def test_picture_without_objects(crop, is_training):
    ((features, labels),) = parse(example(draw_scene(50, 70, 0, 0), []), 1, is_training, **crop, **JITTERS)
    assert not features["boxes"].any()
    assert labels["groundtruths"]["num_detections"] == 0
    assert (labels["boxes"] == -1).all() and (labels["classes"] == -1).all()
    if is_training:
        assert not labels["masks"].any() and not labels["mask_weights"].any()


def test_more_objects_than_slots():
    data = example(draw_scene(80, 80, objects=16, seed=5), range(1, 17))
    ((features, labels),) = parse(data, 1, max_num_instances=5)
    assert labels["boxes"].shape == (5, 4) and (labels["boxes"] >= 0).all()
    assert labels["groundtruths"]["num_detections"] == 5
    assert features["boxes"].shape == (5, 4) and labels["mask_weights"].sum() == 5
    assert set(labels["mask_classes"]) == set(labels["classes"])
    ((features, labels),) = parse(data, 1, is_training=False, max_num_instances=5)
    assert features["boxes"].all(axis=1).sum() <= 5 and labels["groundtruths"]["num_detections"] == 5


def test_crowd_regions_are_not_trained_on_and_stay_in_the_ground_truth_of_evaluation():
    scene = draw_scene(80, 80, objects=4, seed=6)
    data = example(scene, [1, 2, 3, 4], crowds=(0, 2))
    for features, labels in parse(data, 5):
        assert labels["groundtruths"]["num_detections"] == 2
        assert set(labels["classes"]) == {2, 4, -1} and set(labels["mask_classes"]) == {2, 4, 0}
        for mask, box, _ in instances(features, labels):
            assert np.abs(np.array(box_of(mask)) - box).max() <= 1
    ((features, labels),) = parse(data, 1, is_training=False)
    truth = labels["groundtruths"]
    assert truth["num_detections"] == 4
    assert truth["classes"][:4].tolist() == [2, 4, 1, 3] and truth["is_crowds"][:4].tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(truth["boxes"][:4], scene.boxes[[1, 3, 0, 2]], atol=1e-3)
    assert labels["classes"][:3].tolist() == [2, 4, -1]
    assert features["boxes"].any(axis=1).tolist()[:4] == [True, True, False, False]


def drawn_classes(times, classes, **options):
    """Counts how often each class was drawn, with objects of one class each."""
    data = example(draw_scene(32, 32, objects=len(classes), seed=7), classes)
    counts, masked = Counter(), Counter()
    for _, labels in parse(data, times, **options):
        drawn = labels["mask_classes"][labels["mask_weights"] > 0]
        assert len(set(drawn)) == len(drawn)
        counts.update(drawn.tolist())
        masked.update(drawn[labels["masks"][: len(drawn)].any(axis=(1, 2))].tolist())
    return counts, masked


@pytest.mark.parametrize("supervise_all_classes", [False, True])
def test_subsampling_is_unbiased(supervise_all_classes):
    """Also where classes without masks may be drawn as often as those with masks."""
    options = {"allowed_masked_classes_ids": [2, 4, 6]} if supervise_all_classes else {}
    options |= {"mask_num_subsamples": 2, "supervise_all_classes": supervise_all_classes}
    counts, masked = drawn_classes(600, range(1, 7), **options)
    assert sum(counts.values()) == 1200
    assert all(abs(counts[class_id] - 200) < 60 for class_id in range(1, 7))  # 5 standard deviations
    assert masked == {key: counts[key] for key in ((2, 4, 6) if supervise_all_classes else counts)}


def test_larger_instances_are_drawn_in_proportion_to_their_squared_side_up_to_a_limit():
    scene = draw_scene(32, 32, objects=6, seed=7)
    sides = (scene.boxes[:, 2:] - scene.boxes[:, :2]).max(axis=1) * SIZE / 32
    limit = np.sort(sides)[-2]  # the two largest alike
    weights = np.clip(sides / limit, 0.1, 1) ** 2
    assert weights.min() < 0.5, "sizes differ"
    counts, _ = drawn_classes(900, range(1, 7), mask_num_subsamples=1, mask_sampling_side=float(limit))
    expected = 900 * weights / weights.sum()
    for class_id, mean in enumerate(expected, start=1):
        assert abs(counts[class_id] - mean) < 5 * mean**0.5


def test_instances_with_masks_come_first():
    allowed = {"allowed_masked_classes_ids": [2, 4, 6]}
    counts, masked = drawn_classes(300, range(1, 7), mask_num_subsamples=2, **allowed)
    assert set(counts) == {2, 4, 6} and masked == counts
    assert all(abs(count - 200) < 45 for count in counts.values())
    counts, masked = drawn_classes(300, range(1, 7), mask_num_subsamples=4, **allowed)
    assert all(counts[class_id] == 300 for class_id in (2, 4, 6))
    assert all(abs(counts[class_id] - 100) < 45 for class_id in (1, 3, 5))
    assert set(masked) == {2, 4, 6}


def test_masks_of_other_classes_are_never_decoded():
    """Their bytes may be anything."""
    data = example(draw_scene(40, 40, objects=3, seed=8), [1, 8, 2])
    pngs = data["groundtruth_instance_masks_png"]
    data["groundtruth_instance_masks_png"] = tf.stack([pngs[0], tf.constant("no picture"), pngs[2]])
    ((_, labels),) = parse(data, 1, allowed_masked_classes_ids=VOC_IDS)
    masks = dict(zip(labels["mask_classes"], labels["masks"], strict=True))
    assert masks[1].any() and masks[2].any() and not masks[8].any()
    assert labels["mask_weights"].sum() == 3


@pytest.mark.parametrize(("supervise_all_classes", "share"), [(False, 1.0), (True, 2 / 3)])
def test_instances_without_a_mask_come_last_and_are_marked(supervise_all_classes, share):
    """Their boxes teach the detector, and losses that need boxes only."""
    data = example(draw_scene(40, 40, objects=3, seed=8), [1, 2, 3])
    pngs = data["groundtruth_instance_masks_png"]
    data["groundtruth_instance_masks_png"] = tf.stack([pngs[0], tf.constant(""), pngs[2]])
    options = {"mask_num_subsamples": 2, "allowed_masked_classes_ids": [1, 2]}
    drawn = Counter()
    for _, labels in parse(data, 300, **options, supervise_all_classes=supervise_all_classes):
        drawn.update(labels["mask_classes"].tolist())
        usable = labels["mask_classes"] == 1
        np.testing.assert_array_equal(labels["has_masks"], usable)
        np.testing.assert_array_equal(labels["masks"].any(axis=(1, 2)), usable)
        assert labels["mask_weights"].tolist() == [1, 1] and set(labels["classes"]) == {1, 2, 3, -1}
    assert abs(drawn[1] / 300 - share) < (0.15 if supervise_all_classes else 1e-9)
    assert drawn[2] + drawn[3] == 600 - drawn[1]


def corner_points(scene: Scene) -> dict[str, tf.Tensor]:
    """Of each object: its centre, a point beside it, and one that is not annotated."""
    height, width = scene.image.shape[:2]
    centers = (scene.boxes[:, :2] + scene.boxes[:, 2:]) / 2
    beside = scene.boxes[:, :2] - 1.5
    nowhere = np.full_like(centers, np.nan)
    points = np.stack([centers, beside, nowhere], axis=1) / [height, width]
    depths = np.tile([1.0, 0.0, 0.0], (len(points), 1))
    return {
        "groundtruth_keypoints": tf.constant(points, tf.float32),
        "groundtruth_keypoint_depths": tf.constant(depths, tf.float32),
    }


@AUGMENTATIONS
def test_points_stay_on_their_objects(options):
    """Points on an object lie in its mask, points beside it do not, however image and mask were moved."""
    scene = draw_scene(90, 70, objects=6, seed=1)
    data = example(scene, classes=range(1, 7)) | corner_points(scene)
    on, beside = Counter(), Counter()
    for _, labels in parse(data, 20, **options):
        count = int(labels["mask_weights"].sum())
        assert np.isnan(labels["keypoints"][count:]).all() and not labels["keypoint_depths"][count:].any()
        assert np.isnan(labels["keypoints"][:, 2]).all()
        for index in range(count):
            mask = labels["masks"][index]
            for point, depth in zip(
                labels["keypoints"][index], labels["keypoint_depths"][index], strict=True
            ):
                if np.isnan(point).any():
                    continue
                row, column = np.minimum(point * SIZE, SIZE - 1).astype(int)
                (on if depth > 0 else beside)[bool(mask[row, column])] += 1
    assert on[True] > 40 and on[False] <= 0.02 * on[True]  # the picture's last row is left out by the crop
    assert beside[False] > 40 and beside[True] <= 0.02 * beside[False]


def test_points_follow_the_instances_drawn():
    scene = draw_scene(SIZE, SIZE, objects=6, seed=3)
    data = example(scene, classes=range(1, 7), crowds=(2,)) | corner_points(scene)
    for _, labels in parse(data, 10, mask_num_subsamples=3):
        for index, class_id in enumerate(labels["mask_classes"]):
            expected = data["groundtruth_keypoints"][class_id - 1]
            np.testing.assert_allclose(labels["keypoints"][index], expected, atol=1e-6)
    ((_, labels),) = parse(data, 1, is_training=False)
    assert "keypoints" not in labels


def test_the_seed_of_an_example_decides_all_its_draws():
    scene = draw_scene(90, 60, objects=8, seed=1)
    options = SQUARE_CROP | JITTERS | {"aug_rand_hflip": True, "mask_num_subsamples": 3}

    def parsed(seed):
        data = example(scene, classes=range(1, 9)) | {"seed": tf.constant(seed)}
        ((features, labels),) = parse(data, 1, **options)
        return features["image"], labels["mask_classes"], labels["masks"]

    for ours, again in zip(parsed([3, 4]), parsed([3, 4]), strict=True):
        np.testing.assert_array_equal(ours, again)
    assert not np.array_equal(parsed([3, 4])[0], parsed([3, 5])[0])


def test_training_records_without_masks_are_refused():
    data = example(draw_scene(40, 40, objects=2, seed=8), [1, 2])
    data["groundtruth_instance_masks_png"] = data["groundtruth_instance_masks_png"][:0]
    with pytest.raises(tf.errors.InvalidArgumentError, match="deepmac tfrecord"):
        parse(data, 1)
    parse(data, 1, is_training=False)


@pytest.mark.parametrize(("is_training", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_shapes_are_static(is_training, dtype):
    """TPUs need them; parsed from an example whose own shapes are unknown."""
    data = example(draw_scene(40, 30, objects=2, seed=8), [1, 2])
    unknown = {
        name: tf.TensorSpec([None] * value.shape.rank if name != "image" else [None, None, 3], value.dtype)
        for name, value in data.items()
    }
    unknown["groundtruth_boxes"] = tf.TensorSpec([None, 4], tf.float32)
    dataset = tf.data.Dataset.from_generator(lambda: [data], output_signature=unknown)
    options = SQUARE_CROP | JITTERS | {"mask_num_subsamples": 3, "dtype": dtype}
    features, labels = dataset.map(parser(**options).parse_fn(is_training)).element_spec
    for spec in tf.nest.flatten((features, labels)):
        assert spec.shape.is_fully_defined(), (features, labels)
    assert features["image"].dtype == dtype and features["image"].shape == [SIZE, SIZE, 3]
    assert features["boxes"].shape == ([3, 4] if is_training else [12, 4])
    if is_training:
        assert labels["masks"].dtype == tf.uint8 and labels["masks"].shape == [3, SIZE, SIZE]


@pytest.mark.parametrize("shape", [(64, 64), (50, 37), (30, 100), (200, 130)])
def test_evaluation_sees_the_whole_picture(shape):
    scene = draw_scene(*shape, objects=5, seed=9)
    normalization = {"bgr_ordering": True, "channel_means": (1.0, 2.0, 3.0), "channel_stds": (4.0, 5.0, 6.0)}
    ((features, labels),) = parse(
        example(scene, range(1, 6)), 1, is_training=False, **SQUARE_CROP | JITTERS | normalization
    )
    image, part = network_input(scene.image, SIZE, **normalization)
    np.testing.assert_array_equal(features["image"], image[0])
    np.testing.assert_allclose(
        features["boxes"][:5], scene.boxes / np.tile(shape, 2) * np.tile(part, 2), atol=1e-5
    )
    np.testing.assert_allclose(labels["boxes"][:5], features["boxes"][:5] * SIZE, atol=1e-4)
    picture, output, scale, offset = labels["image_info"]
    np.testing.assert_allclose(labels["boxes"][:5] / np.tile(scale, 2), scene.boxes, rtol=1e-4)
    assert picture.tolist() == list(shape) and output.tolist() == [SIZE, SIZE] and not offset.any()
    np.testing.assert_allclose(
        labels["unpad_image_shapes"], [*np.round(np.array(shape) * SIZE / max(shape)), 3]
    )
    truth = labels["groundtruths"]
    assert (truth["source_id"], truth["height"], truth["width"]) == (7, *shape)
    np.testing.assert_allclose(truth["boxes"][:5], scene.boxes, rtol=1e-4)
    assert "masks" not in labels


def test_training_without_augmentation_sees_what_evaluation_sees():
    data = example(draw_scene(50, 80, objects=3, seed=10), [1, 2, 3])
    ((training, _),) = parse(data, 1)
    ((evaluation, _),) = parse(data, 1, is_training=False)
    np.testing.assert_array_equal(training["image"], evaluation["image"])


def test_input_must_be_square():
    task = configs.DeepMACTaskConfig()
    task.model.input_size = [64, 32, 3]
    with pytest.raises(InputError, match="64x32"):
        DeepMACParser(task, task.train_data, False)
