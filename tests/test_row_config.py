from pathlib import Path

import pytest

from deepmac.suite.row_config import model_summary
from deepmac.suite.suite import Suite
from lib.head_costs import trained_parameters

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("profile", "key", "summary"),
    [
        ("mini", "voc_only", "128x128, mask head hourglass20"),
        ("mini", "mask_rcnn_default_head", "128x128, mask head default"),
        ("paper", "voc_only_shallow", "512x512, mask head hourglass52"),
        ("paper", "voc_only", "1024x1024, mask head hourglass100"),
        ("paper", "two_stages", "512x512, mask head hourglass52"),
        ("paper", "mask_rcnn_default_head", "1024x1024, mask head default"),
        ("paper", "mask_rcnn_resnet101", "1024x1024, mask head hourglass52"),
        ("paper", "mask_rcnn_spinenet", "1280x1280, mask head hourglass52"),
    ],
)
def test_the_model_is_that_of_the_complete_configuration(profile, key, summary):
    assert model_summary(Suite.load(profile, ROOT).row(key, 0)) == summary


@pytest.mark.parametrize("notebook", ["table_ablations", "table_weak_supervision"])
def test_the_mask_head_of_every_change_at_full_size_can_be_built(notebook):
    for line in Suite.load("paper", ROOT).table_rows(notebook):
        assert trained_parameters(line.runs[0]) > 1_000_000, line.name
