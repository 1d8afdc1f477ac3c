"""CIELAB against scikit-image."""

import cv2
import numpy as np
import skimage.color
from official.projects.centernet.dataloaders import centernet_input

from deepmac.modeling import weak_losses


def test_lab_is_that_of_scikit_image():
    steps = np.linspace(0, 1, 12)
    rgb = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    rgb = np.concatenate([rgb, [[0.04045, 0.04, 0.041], [0.002, 0.003, 0.001]]])
    lab = weak_losses.rgb_to_lab(rgb.astype(np.float32))
    np.testing.assert_allclose(lab, skimage.color.rgb2lab(rgb), atol=2e-3)


def test_network_inputs_are_resized_and_denormalised_first():
    rgb = np.random.default_rng(0).uniform(0, 255, (8, 12, 3)).astype(np.float32)
    network_input = (rgb[..., ::-1] - centernet_input.CHANNEL_MEANS) / centernet_input.CHANNEL_STDS
    lab = weak_losses.network_input_to_lab(network_input[np.newaxis], (4, 6))
    small = cv2.resize(rgb, (6, 4), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(lab[0], skimage.color.rgb2lab(small / 255), atol=5e-3)
