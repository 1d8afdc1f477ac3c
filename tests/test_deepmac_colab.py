import json

import numpy as np
import tiny_model

from deepmac.demo.samples import SAMPLES
from deepmac.suite.results import Claim
from lib.deepmac_colab import segment_samples


def test_the_gallery_shows_and_measures_every_sample(tmp_path):
    predictor = tiny_model.predictor()
    gallery = segment_samples(predictor, "tiny")
    assert [exhibit.name for exhibit in gallery.exhibits] == list(SAMPLES)
    for exhibit in gallery.exhibits:
        predictor.set_image(exhibit.sample.image())
        expected = predictor.predict(exhibit.sample.normalized_boxes())
        np.testing.assert_allclose(exhibit.prediction.mask_probs, expected.mask_probs, atol=1e-5)
        percent = [100 * (probs > 0.5).sum() / probs.size for probs in expected.mask_probs]
        np.testing.assert_allclose(exhibit.fills, percent)
        assert min(exhibit.first_ms, exhibit.next_ms) > 0
    titles = [ax.get_title() for ax in gallery.figure().axes]
    assert titles[:4] == ["cup, spoon, saucer*", "coin*", "rocket*", "person, helmet*"]

    gallery.write(None, {})
    gallery.write(tmp_path / "results.json", {"profile": "smoke"})
    results = json.loads((tmp_path / "results.json").read_text())
    names = [row["name"] for row in results["rows"]]
    assert len(names) == len(set(names)) == sum(len(sample.boxes) for sample in SAMPLES.values()) + 2
    assert all(row["measured"] > 0 for row in results["rows"][-2:])
    assert len(results["claims"]) == 2
    assert all(isinstance(claim, Claim) for claim in gallery.claims())
