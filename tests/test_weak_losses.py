import unittest.mock

import cv2
import numpy as np
import pytest
import skimage.color
import tensorflow as tf
from official.projects.centernet.dataloaders import centernet_input

from deepmac import configs
from deepmac.modeling import weak_losses
from deepmac.modeling.mask_losses import MaskBatch

RNG = np.random.default_rng(0)
LOGITS = (RNG.normal(size=(2, 3, 8, 12)) * 2).astype(np.float32)
BOXES = np.array(
    [
        [[0.1, 0.2, 0.6, 0.9], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]],
        [[0.5, 0.1, 0.9, 0.4], [0.3, 0.3, 0.7, 0.7], [0.0, 0.5, 0.5, 1.0]],
    ],
    np.float32,
)
SIGMOID = configs.MaskClassificationLossConfig()
DICE = configs.MaskClassificationLossConfig(type="dice")
FULL_RESOLUTION = configs.MaskHeadConfig(predict_full_resolution_masks=True)


def batch(logits, **values):
    """Of one stage."""
    unused = dict.fromkeys(("masks", "classes", "images"))
    return MaskBatch([logits], BOXES, weights=np.ones(BOXES.shape[:2], np.float32), **unused | values)


def box_consistency(logits, crop_boxes=None, kind="weighted_sigmoid", **options):
    comparison = configs.MaskClassificationLossConfig(type=kind)
    options = {f"box_consistency_{name}": value for name, value in options.items()}
    config = configs.MaskLossConfig(classification_loss=comparison, **options)
    head = FULL_RESOLUTION if crop_boxes is None else configs.MaskHeadConfig()
    return weak_losses.box_consistency_loss(batch(logits, crop_boxes=crop_boxes), 0, config, head)


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


def cross_entropy(logits, targets):
    return -targets * np.log(sigmoid(logits)) - (1 - targets) * np.log(1 - sigmoid(logits))


def dice(logits, targets):
    return 1 - 2 * (sigmoid(logits) * targets).sum() / max(sigmoid(logits).sum() + targets.sum(), 1)


def filled_box(box, height, width):
    ys, xs = np.mgrid[:height, :width]
    ymin, xmin, ymax, xmax = box * np.array([height, width, height, width], np.float32)
    return ((ys >= ymin) & (ys <= ymax) & (xs >= xmin) & (xs <= xmax)).astype(np.float32)


def compared(logits, targets, kind, normalization):
    losses = np.array([dice(logits, targets)]) if kind == "dice" else cross_entropy(logits, targets)
    if normalization == "normalize_auto":
        return losses.mean()
    if normalization == "normalize_groundtruth_count":
        return losses.sum() / targets.sum()
    own_class = targets * targets.sum() + (1 - targets) * (1 - targets).sum()
    return (losses / own_class).sum()


def projection_loss(logits, filled, kind, normalization, tightness):
    total = 0
    for axis in (0, 1):
        predicted, target = logits.max(axis=axis), filled.max(axis=axis)
        if tightness:
            predicted = target * (logits * filled).max(axis=axis) + (1 - target) * predicted
        total += compared(predicted, target, kind, normalization)
    return total


@pytest.mark.parametrize("tightness", [False, True])
@pytest.mark.parametrize(
    ("kind", "normalization"),
    [
        ("weighted_sigmoid", "normalize_auto"),
        ("weighted_sigmoid", "normalize_groundtruth_count"),
        ("weighted_sigmoid", "normalize_balanced"),
        ("dice", "normalize_auto"),
        ("dice", "normalize_groundtruth_count"),
    ],
)
def test_box_consistency_compares_projections(kind, normalization, tightness):
    losses = box_consistency(LOGITS, kind=kind, loss_normalize=normalization, tightness=tightness)
    for image, box in np.ndindex(2, 3):
        filled = filled_box(BOXES[image, box], 8, 12)
        expected = projection_loss(LOGITS[image, box], filled, kind, normalization, tightness)
        np.testing.assert_allclose(losses[image, box], expected, rtol=1e-4)


@pytest.mark.parametrize("tightness", [False, True])
def test_box_consistency_crops_both_maps_first(tightness):
    crop_boxes = np.clip(BOXES + RNG.uniform(-0.1, 0.1, BOXES.shape), 0, 1).astype(np.float32)
    losses = box_consistency(LOGITS, crop_boxes, tightness=tightness)
    for image, box in np.ndindex(2, 3):
        maps = np.stack([LOGITS[image, box], filled_box(BOXES[image, box], 8, 12)], axis=-1)
        crop = tf.image.crop_and_resize(maps[np.newaxis], crop_boxes[image, box][np.newaxis], [0], [8, 12])[0]
        logits, filled = crop[..., 0].numpy(), crop[..., 1].numpy()
        expected = projection_loss(logits, filled, "weighted_sigmoid", "normalize_auto", tightness)
        np.testing.assert_allclose(losses[image, box], expected, rtol=1e-4)


def test_a_mask_that_fills_its_box_is_consistent():
    logits = np.stack([[filled_box(box, 8, 12) for box in boxes] for boxes in BOXES]) * 100 - 50
    for tightness in (False, True):
        np.testing.assert_allclose(box_consistency(logits, tightness=tightness), 0, atol=1e-6)


def color_consistency(logits, lab, threshold, dilation):
    config = configs.MaskLossConfig(
        color_consistency_threshold=threshold, color_consistency_dilation=dilation
    )
    with unittest.mock.patch.object(weak_losses, "network_input_to_lab", lambda *_: lab):
        return weak_losses.color_consistency_loss(batch(logits), 0, config, FULL_RESOLUTION)


def neighbors(pixels, y, x, dilation):
    for down in (-dilation, 0, dilation):
        for right in (-dilation, 0, dilation):
            if (down, right) != (0, 0):
                inside = 0 <= y + down < pixels.shape[0] and 0 <= x + right < pixels.shape[1]
                yield pixels[y + down, x + right] if inside else np.zeros_like(pixels[0, 0])


@pytest.mark.parametrize(("dilation", "threshold"), [(1, 0.3), (2, 0.05), (9, 0.0)])
def test_color_consistency_of_similar_neighbours(dilation, threshold):
    lab = RNG.uniform(0, 8, (2, 8, 12, 3)).astype(np.float32)
    lab[0, :4] = lab[0, 0, 0]  # a patch of one colour
    losses = color_consistency(LOGITS, lab, threshold, dilation)
    for image, box in np.ndindex(2, 3):
        filled, probabilities = filled_box(BOXES[image, box], 8, 12), sigmoid(LOGITS[image, box])
        total = 0
        for y, x in np.argwhere(filled):
            colours, masks = (neighbors(maps, y, x, dilation) for maps in (lab[image], probabilities))
            for colour, mask in zip(colours, masks, strict=True):
                if np.exp(-np.linalg.norm(lab[image, y, x] - colour) / 2) > threshold:
                    same = probabilities[y, x] * mask + (1 - probabilities[y, x]) * (1 - mask)
                    total -= np.log(np.clip(same, 1e-3, 1))
        np.testing.assert_allclose(losses[image, box], total / max(filled.sum(), 1), rtol=1e-4, atol=1e-6)


def test_color_consistency_has_finite_gradients_where_colours_are_equal():
    logits = tf.constant(LOGITS * 100)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = tf.reduce_sum(color_consistency(logits, tf.zeros([2, 8, 12, 3]), 0.3, 2))
    assert loss > 0
    assert np.all(np.isfinite(tape.gradient(loss, logits)))


@pytest.mark.parametrize("config", [SIGMOID, DICE])
def test_points_read_the_pixel_they_lie_in(config):
    keypoints = RNG.uniform(0, 1, (2, 3, 5, 2)).astype(np.float32)
    keypoints[0, 0, 0] = [1.0, 1.0]  # the last pixel
    keypoints[0, 1, 2, 0] = np.nan
    keypoints[1, 2] = np.nan
    depths = RNG.choice([-1.0, 0.0, 1.0], (2, 3, 5)).astype(np.float32)
    points = batch(LOGITS, keypoints=keypoints, keypoint_depths=depths)
    losses = weak_losses.point_supervision_loss(
        points, 0, configs.MaskLossConfig(classification_loss=config), FULL_RESOLUTION
    ).numpy()
    for image, box in np.ndindex(2, 3):
        values, labels, weights = np.zeros(5), (depths[image, box] > 0).astype(float), np.zeros(5)
        for index, (y, x) in enumerate(keypoints[image, box]):
            if not (np.isnan(y) or np.isnan(x)):
                values[index] = LOGITS[image, box, min(int(y * 8), 7), min(int(x * 12), 11)]
                weights[index] = 1
        if config is SIGMOID:
            expected = (cross_entropy(values, labels) * weights).mean()
        else:
            known = weights > 0
            expected = dice(values[known], labels[known])
        np.testing.assert_allclose(losses[image, box], expected, rtol=1e-4)


def test_lab_is_that_of_scikit_image():
    steps = np.linspace(0, 1, 12)
    rgb = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    rgb = np.concatenate([rgb, [[0.04045, 0.04, 0.041], [0.002, 0.003, 0.001]]])
    lab = weak_losses.rgb_to_lab(rgb.astype(np.float32))
    np.testing.assert_allclose(lab, skimage.color.rgb2lab(rgb), atol=2e-3)


def test_network_inputs_are_resized_and_denormalised_first():
    rgb = RNG.uniform(0, 255, (8, 12, 3)).astype(np.float32)
    network_input = (rgb[..., ::-1] - centernet_input.CHANNEL_MEANS) / centernet_input.CHANNEL_STDS
    lab = weak_losses.network_input_to_lab(network_input[np.newaxis], (4, 6))
    small = cv2.resize(rgb, (6, 4), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(lab[0], skimage.color.rgb2lab(small / 255), atol=5e-3)
