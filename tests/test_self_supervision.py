import numpy as np
import pytest
import tensorflow as tf

from deepmac import configs
from deepmac.core.errors import InputError
from deepmac.modeling import self_supervision
from deepmac.modeling.mask_losses import MaskBatch

RNG = np.random.default_rng(0)
SEED = (3, 4)


def augmentation(translation=0.0, scale=(1.0, 1.0), flip=0.0):
    return configs.MaskLossConfig(
        augmented_self_supervision_max_translation=translation,
        augmented_self_supervision_scale_min=scale[0],
        augmented_self_supervision_scale_max=scale[1],
        augmented_self_supervision_flip_probability=flip,
    )


def draw(num_images, *args, **options):
    return self_supervision.draw_windows(num_images, augmentation(*args, **options), SEED).numpy()


def test_windows_follow_translation_scale_and_flip():
    np.testing.assert_allclose(draw(3), [[0, 0, 1, 1]] * 3)
    np.testing.assert_allclose(draw(2, flip=1.0), [[0, 1, 1, 0]] * 2)
    np.testing.assert_allclose(draw(2, scale=(2.0, 2.0)), [[-0.5, -0.5, 1.5, 1.5]] * 2)
    windows = draw(500, 0.2, (0.5, 2.0), 0.3)
    sizes, centres = windows[:, 2:] - windows[:, :2], (windows[:, 2:] + windows[:, :2]) / 2
    flipped = sizes[:, 1] < 0
    assert 0.2 < flipped.mean() < 0.4
    assert np.all((np.abs(sizes) >= 0.5) & (np.abs(sizes) <= 2.0))
    # A translation t of the scaled image moves the window's centre by t times its size.
    translations = (0.5 - centres) / np.abs(sizes)
    assert np.abs(translations).max() <= 0.2 + 1e-6 and np.abs(translations).max() > 0.19
    assert len(np.unique(windows[:, 0].round(6))) > 400
    np.testing.assert_array_equal(windows, draw(500, 0.2, (0.5, 2.0), 0.3))
    options = augmentation(0.2, (0.5, 2.0), 0.3)
    assert not np.isin(self_supervision.draw_windows(500, options, (1, 2)).numpy(), windows).any()


def test_images_move_where_their_boxes_move():
    images = np.zeros((64, 65, 97, 3), np.float32)
    images[:, 20:33, 40:57] = 1.0
    box = np.array([20 / 64, 40 / 96, 32 / 64, 56 / 96], np.float32)  # edge to edge: y maps to y (H - 1)
    boxes = np.tile(box, (64, 1, 1))
    windows = draw(64, 0.1, (0.7, 1.4), 0.5)
    moved = self_supervision.augment_images(images, windows).numpy()[..., 0]
    moved_boxes = self_supervision.augment_boxes(boxes, windows).numpy()[:, 0]
    for image, moved_box in zip(moved, moved_boxes, strict=True):
        rows, columns = np.flatnonzero(image.max(axis=1) > 0.5), np.flatnonzero(image.max(axis=0) > 0.5)
        found = [rows[0] / 64, columns[0] / 96, rows[-1] / 64, columns[-1] / 96]
        np.testing.assert_allclose(found, moved_box, atol=1.5 / 64)
    images = RNG.normal(size=(2, 6, 9, 3)).astype(np.float32)
    windows = np.array([[0, 1, 1, 0], [0, 0, 1, 1]], np.float32)
    moved = self_supervision.augment_images(images, windows).numpy()
    np.testing.assert_allclose(moved, np.stack([images[0, :, ::-1], images[1]]), atol=1e-5)


def test_restored_masks_lie_where_they_were():
    ys, xs = np.mgrid[:33, :49]
    maps = np.stack([np.sin(ys / 9) + np.cos(xs / 7 + shift) for shift in range(3)], axis=-1)
    maps = np.tile(maps.astype(np.float32), (40, 1, 1, 1))
    windows = draw(40, 0.15, (0.8, 1.25), 0.5)
    moved = np.moveaxis(self_supervision.augment_images(maps, windows).numpy(), -1, 1)
    restored = self_supervision.restore_masks(moved, windows).numpy()
    original = np.moveaxis(maps, -1, 1)
    seen = np.moveaxis(self_supervision.augment_images(np.ones_like(maps), windows).numpy(), -1, 1)
    seen = self_supervision.restore_masks(seen, windows).numpy() > 0.999
    assert 0.5 < seen.mean() < 1
    np.testing.assert_allclose(restored[seen], original[seen], atol=0.02)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def comparison(loss, logits, restored, inside):
    prediction, truth = sigmoid(logits)[inside], sigmoid(restored)[inside]
    if loss == "loss_dice":
        truth = truth > 0.5
        return 1 - 2 * (prediction * truth).sum() / max(prediction.sum() + truth.sum(), 1)
    if loss == "loss_mse":
        return ((prediction - truth) ** 2).sum() / max(inside.sum(), 1)
    divergence = truth * np.log(truth / prediction) + (1 - truth) * np.log((1 - truth) / (1 - prediction))
    return divergence.sum() / max(inside.sum(), 1)


@pytest.mark.parametrize("loss", ["loss_dice", "loss_mse", "loss_kl_div"])
def test_masks_are_compared_inside_their_boxes(loss):
    logits, restored = RNG.normal(size=(2, 2, 3, 8, 12)).astype(np.float32) * 3
    boxes = np.array([[[0.1, 0.2, 0.6, 0.9], [0, 0, 1, 1], [0.26, 0.3, 0.3, 0.32]]] * 2, np.float32)

    def compared(logits, restored, loss):
        unused = dict.fromkeys(("masks", "classes", "images"))
        batch = MaskBatch([logits], boxes, weights=tf.ones([2, 3]), restored_logits=[restored], **unused)
        config = configs.MaskLossConfig(augmented_self_supervision_loss=loss)
        return self_supervision.self_supervision_loss(batch, 0, config, configs.MaskHeadConfig())

    with pytest.raises(InputError, match="loss_dice, loss_mse, loss_kl_div"):
        compared(logits, restored, "loss_unset")
    prediction, truth = tf.constant(logits), tf.constant(restored)
    with tf.GradientTape() as tape:
        tape.watch([prediction, truth])
        losses = compared(prediction, truth, loss)
    gradients = tape.gradient(losses, [prediction, truth])
    assert gradients[1] is None
    assert np.all(np.isfinite(gradients[0])) and np.any(gradients[0] != 0)
    for image, box in np.ndindex(2, 3):
        ys, xs = np.mgrid[:8, :12]
        ymin, xmin, ymax, xmax = boxes[image, box] * [8, 12, 8, 12]
        inside = (ys >= ymin) & (ys <= ymax) & (xs >= xmin) & (xs <= xmax)
        expected = comparison(loss, logits[image, box], restored[image, box], inside)
        np.testing.assert_allclose(losses[image, box], expected, rtol=1e-4, atol=1e-6)


def test_the_augmented_pass_compiles_under_xla():
    @tf.function(jit_compile=True)
    def augmented_pass(images, boxes):
        windows = self_supervision.draw_windows(2, augmentation(0.1, (0.8, 1.2), 0.5), SEED)
        moved = self_supervision.augment_images(images, windows)
        moved_boxes = self_supervision.augment_boxes(boxes, windows)
        return self_supervision.restore_masks(tf.transpose(moved, [0, 3, 1, 2]), windows), moved_boxes

    restored, boxes = augmented_pass(tf.ones([2, 8, 8, 3]), tf.zeros([2, 5, 4]))
    assert restored.shape == (2, 3, 8, 8) and boxes.shape == (2, 5, 4)
