import numpy as np
import pytest
import tensorflow as tf
from official.projects.centernet.ops import target_assigner

from deepmac import configs
from deepmac.modeling import detection_losses

SIZE, CELLS, CLASSES, BOXES = 128, 32, 7, 6


def _losses(maps, boxes, classes, width):
    """Losses of a picture of this width, as high as the network's input."""
    config = configs.DeepMACTaskConfig()
    config.override({"model": {"input_size": [SIZE, SIZE, 3]}, "losses": {"gaussian_iou": 0.7}})
    size = tf.constant([[float(SIZE), float(width)]])
    labels = {"boxes": boxes, "classes": classes, "unpad_image_shapes": size}
    return detection_losses.detection_losses(maps, labels, config)


def _random_objects(seed, num_boxes):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 90, (num_boxes, 2))
    boxes = np.concatenate([low, low + rng.uniform(4, 38, (num_boxes, 2))], axis=1)
    padding = BOXES - num_boxes
    boxes = np.pad(boxes, [(0, padding), (0, 0)], constant_values=-1).astype(np.float32)
    classes = np.pad(rng.integers(1, CLASSES + 1, num_boxes), (0, padding), constant_values=-1)
    return boxes, classes.astype(np.int32)


@pytest.mark.parametrize("num_boxes", [0, 1, 6])
def test_heatmap_equals_model_gardens_targets(num_boxes):
    objects = [_random_objects(seed, num_boxes) for seed in (1, 2)]
    boxes, classes = (np.stack(values) for values in zip(*objects, strict=True))
    weights = (classes > 0).astype(np.float32)

    heatmap = detection_losses.center_heatmap(
        boxes * weights[..., None] * CELLS / SIZE, classes - 1, weights, CELLS, CELLS, CLASSES, 0.7
    )

    for i in range(2):
        expected = target_assigner.assign_centernet_targets(
            labels={
                "boxes": tf.constant(boxes[i]),
                "classes": tf.constant(classes[i]),
                "groundtruths": {"num_detections": tf.constant(num_boxes)},
            },
            output_size=[CELLS, CELLS],
            input_size=[SIZE, SIZE],
            num_classes=CLASSES,
            max_num_instances=BOXES,
            class_offset=1,
        )
        np.testing.assert_allclose(heatmap[i], expected["ct_heatmaps"], atol=1e-6)


def test_whole_loss_compiles_for_accelerators():
    boxes, classes = _random_objects(3, 4)
    maps = {
        name: [tf.random.normal([1, CELLS, CELLS, channels])]
        for name, channels in (("ct_heatmaps", CLASSES), ("ct_size", 2), ("ct_offset", 2))
    }

    def compute():
        return _losses(maps, boxes[None], classes[None], width=96)

    compiled = tf.function(compute, jit_compile=True)()
    for name, value in compute().items():
        np.testing.assert_allclose(compiled[name], value, rtol=1e-4, err_msg=name)


def test_cells_outside_the_unpadded_image_do_not_count():
    boxes = np.full([1, BOXES, 4], -1, np.float32)
    classes = np.full([1, BOXES], -1, np.int32)
    logits = np.zeros([1, CELLS, CELLS, CLASSES], np.float32)
    logits[:, :, 16:] = 9.0
    maps = {
        "ct_heatmaps": [tf.constant(logits)],
        "ct_size": [tf.zeros([1, CELLS, CELLS, 2])],
        "ct_offset": [tf.zeros([1, CELLS, CELLS, 2])],
    }

    def center_loss(width):
        return _losses(maps, boxes, classes, width)["ct_loss"]

    np.testing.assert_allclose(center_loss(64), CELLS * 16 * CLASSES * 0.25 * np.log(2), rtol=1e-5)
    assert center_loss(128) > 10 * center_loss(64)
