import numpy as np
import tiny_model

from deepmac.demo.samples import SAMPLES
from lib import deepmac_colab


def test_every_sample_is_segmented_and_timed():
    predictor = tiny_model.predictor()
    exhibits = deepmac_colab.segment_samples(predictor)
    assert [exhibit.name for exhibit in exhibits] == list(SAMPLES)
    for exhibit in exhibits:
        predictor.set_image(exhibit.sample.image())
        expected = predictor.predict(exhibit.sample.normalized_boxes())
        np.testing.assert_allclose(exhibit.prediction.mask_probs, expected.mask_probs, atol=1e-5)
        percent = [100 * (probs > 0.5).sum() / probs.size for probs in expected.mask_probs]
        np.testing.assert_allclose(exhibit.fills, percent)
        assert min(exhibit.first_ms, exhibit.next_ms) > 0
