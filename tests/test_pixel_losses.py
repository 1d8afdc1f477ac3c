import numpy as np
import pytest

from deepmac import configs
from deepmac.core.errors import InputError
from deepmac.modeling.pixel_losses import dice_loss, pixel_loss

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(5, 12)).astype(np.float32) * 3
TARGETS = RNG.uniform(size=(5, 12)).astype(np.float32).round(1)
WEIGHTS = RNG.integers(0, 2, (5, 12)).astype(np.float32)


def loss_config(**options):
    return configs.MaskClassificationLossConfig(**options)


def cross_entropy(logits, targets):
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return -targets * np.log(probabilities) - (1 - targets) * np.log(1 - probabilities)


def dice(logits, targets, weights, power):
    probabilities = (1 / (1 + np.exp(-logits.astype(np.float64)))) ** power * weights
    targets = targets**power * weights
    area = np.maximum(probabilities.sum(axis=1) + targets.sum(axis=1), 1)
    return 1 - 2 * (probabilities * targets).sum(axis=1) / area


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_weighted_sigmoid_is_the_mean_cross_entropy(weights):
    expected = (cross_entropy(LOGITS, TARGETS) * (1 if weights is None else weights)).mean(axis=1)
    np.testing.assert_allclose(pixel_loss(LOGITS, TARGETS, loss_config(), weights), expected, rtol=1e-5)


@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_focal_loss_weighs_hard_positions(gamma, alpha):
    config = loss_config(type="focal", focal=configs.FocalLossConfig(gamma=gamma, alpha=alpha))
    targets = TARGETS.round()
    probabilities = 1 / (1 + np.exp(-LOGITS))
    right = np.where(targets == 1, probabilities, 1 - probabilities)
    balance = 1 if alpha is None else np.where(targets == 1, alpha, 1 - alpha)
    expected = ((1 - right) ** gamma * balance * -np.log(right)).mean(axis=1)
    np.testing.assert_allclose(pixel_loss(LOGITS, targets, config), expected, rtol=1e-4)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_dice_loss_is_one_minus_the_overlap(squared, weights):
    config = loss_config(type="dice", dice=configs.DiceLossConfig(squared_normalization=squared))
    expected = dice(LOGITS, TARGETS, 1 if weights is None else weights, 2 if squared else 1)
    np.testing.assert_allclose(pixel_loss(LOGITS, TARGETS, config, weights), expected, rtol=1e-5)


def test_dice_loss_of_nothing_is_one_and_of_equal_masks_zero():
    large = np.where(TARGETS > 0.5, 50, -50).astype(np.float32)
    np.testing.assert_allclose(dice_loss(large, (TARGETS > 0.5).astype(np.float32)), 0, atol=1e-6)
    np.testing.assert_allclose(dice_loss(np.full_like(large, -50), np.zeros_like(large)), 1)


def test_dice_loss_counts_areas_below_one_as_one():
    zero, target = np.zeros((1, 1), np.float32), np.full((1, 1), 0.2, np.float32)
    np.testing.assert_allclose(dice_loss(zero, target), 1 - 2 * 0.1 / 1)
    np.testing.assert_allclose(dice_loss(np.tile(zero, 3), np.tile(target, 3)), 1 - 2 * 0.3 / 2.1, rtol=1e-6)


def test_normalization_by_the_object_s_positions():
    losses, counts = cross_entropy(LOGITS, TARGETS).sum(axis=1), TARGETS.sum(axis=1)
    by_count = pixel_loss(LOGITS, TARGETS, loss_config(), normalization="normalize_groundtruth_count")
    np.testing.assert_allclose(by_count, losses / counts, rtol=1e-5)
    by_count = pixel_loss(
        LOGITS, TARGETS, loss_config(type="dice"), normalization="normalize_groundtruth_count"
    )
    np.testing.assert_allclose(by_count, dice(LOGITS, TARGETS, 1, 1) / counts, rtol=1e-5)
    nothing = pixel_loss(LOGITS, 0 * TARGETS, loss_config(), normalization="normalize_groundtruth_count")
    np.testing.assert_array_equal(nothing, 0)


def test_balanced_normalization_gives_object_and_background_the_same_weight():
    targets = TARGETS.round()
    targets[0], targets[1] = 1, 0
    values = cross_entropy(LOGITS, targets)
    expected = [
        sum(row[labels == label].mean() for label in (0, 1) if np.any(labels == label))
        for row, labels in zip(values, targets, strict=True)
    ]
    balanced = pixel_loss(LOGITS, targets, loss_config(), normalization="normalize_balanced")
    np.testing.assert_allclose(balanced, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "normalization", "message"),
    [
        (loss_config(type="hinge"), "normalize_auto", "weighted_sigmoid, dice, focal"),
        (loss_config(), "normalize", "normalize_groundtruth_count"),
        (loss_config(type="dice"), "normalize_balanced", "dice"),
    ],
)
def test_unknown_options_are_named(config, normalization, message):
    with pytest.raises(InputError, match=message):
        pixel_loss(LOGITS, TARGETS, config, normalization=normalization)
