from deepmac.training.progress import evaluation_line, training_line


def test_a_line_tells_step_losses_rate_and_time_left():
    output = {"total_loss": 4.5, "ct_loss": 1.25, "deep_mask_estimation": 3.25, "learning_rate": 1e-3}
    assert training_line(500, 1500, output, 2.0) == (
        "step 500/1500 | loss 4.5: centre 1.25, mask 3.25 | rate 0.001 | 2 steps/s | 08:20 left"
    )


def test_a_line_tells_the_figures_of_both_sources_of_boxes():
    output = {"total_loss": 2.0, "detections/mask/AP": 1.04, "gt_boxes/mask/unseen/AP": 51.5}
    assert evaluation_line(3, output) == (
        "evaluated step 3 | loss 2 | AP detected: mask 1.0 | AP in given boxes: mask/unseen 51.5"
    )
