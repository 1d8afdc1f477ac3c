import numpy as np
import pytest
import tensorflow as tf

from deepmac import configs
from deepmac.core.errors import InputError
from deepmac.modeling import mask_losses, weak_losses

RNG = np.random.default_rng(0)
ALL_LOSSES = {
    "dice_loss_weight": 2.0,
    "box_consistency_loss_weight": 1.5,
    "color_consistency_loss_weight": 0.8,
    "augmented_self_supervision_loss_weight": 0.5,
    "pointly_supervised_keypoint_loss_weight": 0.25,
}
FULL_RESOLUTION = configs.MaskHeadConfig(predict_full_resolution_masks=True)
CLASSES = np.array([[1, 5, 51, 0], [22, 22, 0, 0]], np.int32)


def batch(size=16, stages=2):
    """Boxes, masks, classes, weights and images of two pictures, and mask logits of every stage."""
    corners = RNG.uniform(0, 1, (2, 4, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corners.min(axis=2), corners.max(axis=2)], axis=-1)
    boxes[CLASSES == 0] = 0
    return [RNG.normal(size=(2, 4, 8, 8)).astype(np.float32) for _ in range(stages)], {
        "boxes": boxes,
        "masks": RNG.integers(0, 2, (2, 4, size, size)).astype(np.uint8),
        "classes": CLASSES,
        "weights": (CLASSES > 0).astype(np.float32),
        "images": 0.02 * RNG.normal(size=(2, size, size, 3)).astype(np.float32),  # similar colours
    }


def compute(logits, inputs, mask_head=FULL_RESOLUTION, tensors=(), allowed_ids=(), **options):
    losses = mask_losses.mask_losses(
        mask_losses.MaskBatch(logits, **inputs, **dict(tensors)),
        configs.MaskLossConfig(**options),
        mask_head,
        allowed_ids,
    )
    return {name: float(loss) for name, loss in losses.items()}


def names(options):
    return [loss.name for loss in mask_losses.active_losses(configs.MaskLossConfig(**options))]


def cross_entropy(logits, targets):
    """Mean over the pixels of every instance, [B, N]."""
    return np.mean(np.logaddexp(0, logits) - logits * targets, axis=(2, 3))


def resized(logits, size):
    return tf.image.resize(np.moveaxis(logits, 1, -1), [size, size]).numpy().transpose(0, 3, 1, 2)


def test_masks_of_allowed_classes_count_and_the_sum_is_over_their_number():
    logits, inputs = batch(stages=1)
    values = cross_entropy(resized(logits[0], 16), inputs["masks"])
    weights = inputs["weights"]
    losses = compute(logits, inputs)
    np.testing.assert_allclose(losses[mask_losses.ESTIMATION.name], (values * weights).sum() / 5, rtol=1e-5)
    allowed = np.isin(CLASSES, [5, 22])
    losses = compute(
        logits, inputs, allowed_ids=[5, 22], task_loss_weight=3.0, box_consistency_loss_weight=1.0
    )
    np.testing.assert_allclose(losses[mask_losses.ESTIMATION.name], 3 * values[allowed].sum() / 3, rtol=1e-5)
    assert compute(logits, inputs, allowed_ids=[90]) == {mask_losses.ESTIMATION.name: 0.0}
    # Boxes of all classes teach the weak losses.
    all_classes = compute(logits, inputs, box_consistency_loss_weight=1.0)
    name = mask_losses.BOX_CONSISTENCY.name
    assert losses[name] == all_classes[name] > 0


def test_boxes_without_a_mask_teach_the_weak_losses_only():
    logits, inputs = batch(stages=1)
    options = {"allowed_ids": [5, 22], "box_consistency_loss_weight": 1.0}
    values = cross_entropy(resized(logits[0], 16), inputs["masks"])
    has_masks = np.array([[1, 0, 1, 0], [0, 1, 0, 0]], np.float32)  # of the second to fifth, one is left
    losses = compute(logits, inputs | {"has_masks": has_masks}, **options)
    expected = compute(logits, inputs, **options)
    assert losses[mask_losses.BOX_CONSISTENCY.name] == expected[mask_losses.BOX_CONSISTENCY.name] > 0
    np.testing.assert_allclose(losses[mask_losses.ESTIMATION.name], values[1, 1], rtol=1e-5)


def test_fractional_weights_count_as_whole_instances_for_masks_only():
    logits, inputs = batch(stages=1)
    inputs["weights"] = inputs["weights"] * 0.5
    values = cross_entropy(resized(logits[0], 16), inputs["masks"]) * inputs["weights"]
    losses = compute(logits, inputs, box_consistency_loss_weight=1.0)
    np.testing.assert_allclose(losses[mask_losses.ESTIMATION.name], values.sum() / 5, rtol=1e-5)
    batched = mask_losses.MaskBatch(logits, **inputs)
    boxes = weak_losses.box_consistency_loss(batched, 0, configs.MaskLossConfig(), FULL_RESOLUTION).numpy()
    expected = (boxes * inputs["weights"]).sum() / 2.5
    np.testing.assert_allclose(losses[mask_losses.BOX_CONSISTENCY.name], expected, rtol=1e-5)


def test_roi_logits_are_compared_with_soft_crops():
    logits, inputs = batch(stages=1)
    crop_boxes = np.clip(inputs["boxes"] + RNG.uniform(-0.1, 0.1, (2, 4, 4)), 0, 1).astype(np.float32)
    masks = inputs["masks"].astype(np.float32).reshape(8, 16, 16, 1)
    for tensors, boxes in (({}, inputs["boxes"]), ({"crop_boxes": crop_boxes}, crop_boxes)):
        targets = tf.image.crop_and_resize(masks, boxes.reshape(8, 4), np.arange(8), [8, 8])
        values = cross_entropy(logits[0], targets.numpy().reshape(2, 4, 8, 8)) * inputs["weights"]
        losses = compute(logits, inputs, configs.MaskHeadConfig(mask_size=8), tensors)
        np.testing.assert_allclose(losses[mask_losses.ESTIMATION.name], values.sum() / 5, rtol=1e-4)


def test_targets_have_no_gradient():
    logits, inputs = batch()
    masks = tf.Variable(RNG.integers(0, 2, (2, 4, 20, 24)).astype(np.float32))
    for head in (configs.MaskHeadConfig(mask_size=8), FULL_RESOLUTION):
        with tf.GradientTape() as tape:
            batched = mask_losses.MaskBatch(logits, **inputs | {"masks": masks})
            losses = mask_losses.estimation_loss(batched, 0, configs.MaskLossConfig(), head)
        assert tape.gradient(losses, masks) is None


def test_losses_are_averaged_over_the_stages():
    logits, inputs = batch(stages=3)
    each = [compute([stage], inputs, **ALL_LOSSES) for stage in logits]
    together = compute(logits, inputs, **ALL_LOSSES)
    for name in names(ALL_LOSSES):
        np.testing.assert_allclose(together[name], np.mean([losses[name] for losses in each]), rtol=1e-5)
    assert len({losses[mask_losses.COLOR_CONSISTENCY.name] for losses in each}) == 3


def test_every_loss_is_named_weighted_and_zero_without_its_tensors():
    logits, inputs = batch(stages=1)
    assert list(compute(logits, inputs, task_loss_weight=0.0)) == []
    losses = compute(logits, inputs, **ALL_LOSSES)
    assert list(losses) == names(ALL_LOSSES)
    assert len(losses) == 6
    assert losses[mask_losses.SELF_SUPERVISION.name] == losses[mask_losses.POINT_SUPERVISION.name] == 0
    tensors = {
        "restored_logits": [RNG.normal(size=(2, 4, 8, 8)).astype(np.float32)],
        "keypoints": RNG.uniform(size=(2, 4, 3, 2)).astype(np.float32),
        "keypoint_depths": RNG.choice([-1, 1], (2, 4, 3)).astype(np.float32),
    }
    losses = compute(logits, inputs, tensors=tensors, **ALL_LOSSES)
    twice = {name: 2 * weight for name, weight in ALL_LOSSES.items()}
    doubled = compute(logits, inputs, tensors=tensors, **twice)
    for name in losses.keys() - {mask_losses.ESTIMATION.name}:
        assert losses[name] > 0
        np.testing.assert_allclose(doubled[name], 2 * losses[name], rtol=1e-6)


def test_dice_adds_to_the_loss_that_is_configured():
    logits, inputs = batch(stages=2)
    dice = configs.MaskClassificationLossConfig(type="dice")
    alone = compute(logits, inputs, classification_loss=dice, task_loss_weight=3.0)
    both = compute(logits, inputs, task_loss_weight=2.0, dice_loss_weight=3.0)
    assert list(both) == [mask_losses.ESTIMATION.name, mask_losses.DICE.name]
    assert both[mask_losses.DICE.name] == alone[mask_losses.ESTIMATION.name]
    assert both[mask_losses.ESTIMATION.name] == compute(logits, inputs, task_loss_weight=2.0).popitem()[1]


def test_color_consistency_needs_full_resolution_and_point_supervision_insists():
    logits, inputs = batch(stages=1)
    roi_head = configs.MaskHeadConfig(mask_size=8)
    losses = compute(logits, inputs, roi_head, color_consistency_loss_weight=1.0)
    assert losses[mask_losses.COLOR_CONSISTENCY.name] == 0
    points = {
        "keypoints": np.zeros((2, 4, 3, 2), np.float32),
        "keypoint_depths": np.ones((2, 4, 3), np.float32),
    }
    with pytest.raises(InputError, match="predict_full_resolution_masks"):
        compute(logits, inputs, roi_head, points, pointly_supervised_keypoint_loss_weight=1.0)


def test_warm_ups_follow_the_step_in_training_only():
    logits, inputs = batch(stages=1)
    restored = [RNG.normal(size=(2, 4, 8, 8)).astype(np.float32)]
    options = {
        **ALL_LOSSES,
        "color_consistency_warmup_start": 10,
        "color_consistency_warmup_steps": 20,
        "augmented_self_supervision_warmup_start": 4,
        "augmented_self_supervision_warmup_steps": 8,
    }

    def at(step):
        return compute(logits, inputs, tensors={"restored_logits": restored, "step": step}, **options)

    full = at(None)
    for step, color_factor, self_factor in ((0, 0, 0), (10, 0, 0.75), (15, 0.25, 1), (100, 1, 1)):
        losses = at(tf.constant(step, tf.int64))
        factors = {mask_losses.COLOR_CONSISTENCY.name: color_factor, mask_losses.ESTIMATION.name: 1}
        factors[mask_losses.SELF_SUPERVISION.name] = self_factor
        for name, factor in factors.items():
            np.testing.assert_allclose(losses[name], factor * full[name], rtol=1e-5)
    without = configs.MaskLossConfig(color_consistency_loss_weight=0.8)
    assert mask_losses.COLOR_CONSISTENCY.weight(without, step=0) == 0.8


def test_logits_of_bfloat16_are_compared_in_float32_also_under_xla():
    logits, inputs = batch(stages=1)
    coarse = tf.cast(logits[0], tf.bfloat16)
    losses = compute([coarse], inputs, **ALL_LOSSES)
    assert losses == compute([tf.cast(coarse, tf.float32)], inputs, **ALL_LOSSES)
    compiled = tf.function(
        lambda logits, **labels: mask_losses.mask_losses(
            mask_losses.MaskBatch([logits], **labels),
            configs.MaskLossConfig(**ALL_LOSSES),
            FULL_RESOLUTION,
            (),
        ),
        jit_compile=True,
    )(coarse, **{name: tf.constant(value) for name, value in inputs.items()})
    for name, loss in compiled.items():
        np.testing.assert_allclose(loss, losses[name], rtol=1e-4)
