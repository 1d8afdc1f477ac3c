"""The lines a person reads, and the watch over losses."""

import pytest
import tensorflow as tf

from deepmac.core.errors import InputError
from deepmac.training.monitor import LossMonitor
from deepmac.training.progress import evaluation_line, training_line


def test_a_line_tells_step_losses_rate_and_time_left():
    output = {"total_loss": 4.5, "ct_loss": 1.25, "deep_mask_estimation": 3.25, "learning_rate": 1e-3}
    assert training_line(500, 1500, output, 2.0) == (
        "step 500/1500 | loss 4.5: centre 1.25, mask 3.25 | rate 0.001 | 2 steps/s | 8 min left"
    )


def test_a_line_tells_the_figures_of_both_sources_of_boxes():
    output = {"total_loss": 2.0, "detections/mask/AP": 1.04, "gt_boxes/mask/unseen/AP": 51.5}
    assert evaluation_line(3, output) == (
        "evaluated step 3 | loss 2 | AP detected: mask 1.0 | AP in given boxes: mask/unseen 51.5"
    )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_first_bad_step_is_remembered(jit_compile):
    monitor = LossMonitor(["a", "b", "c"], batch_size=2)
    update = tf.function(monitor.update, jit_compile=jit_compile)
    steps = [(1.0, 1.0), (float("nan"), float("inf")), (float("nan"), 2.0)]
    for step, (a, c) in enumerate(steps):
        monitor.check("ckpt-0") if step < 2 else None
        losses = {"a": tf.constant(a), "b": tf.constant(1.0), "c": tf.constant(c)}
        update(losses, tf.constant(step), tf.constant([10 + step, 20 + step]))
    with pytest.raises(InputError, match=r"a, c not finite in step 2 \(pictures 11, 21\).* is ckpt-0"):
        monitor.check("ckpt-0")
