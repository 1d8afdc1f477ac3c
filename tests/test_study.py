import dataclasses
import json
import re

import numpy as np
import pytest
import synthetic
import yaml

from deepmac.reproduction.mask_heads import MaskHeadComparison
from deepmac.reproduction.rows import RowResult
from deepmac.reproduction.study import Study
from deepmac.reproduction.tables import claims_table, comparison_table, results_table, study_rows

HEADS = {"voc_only_resnet4": 40.0, "voc_only_hourglass20": 48.0}
FULL = {"all_classes_resnet4": 50.0, "all_classes_hourglass20": 51.0}
UNSEEN = "gt_boxes/mask/unseen/AP"


@pytest.fixture
def study(tmp_path):
    """A study of four rows and two seeds whose results are there; nothing is trained."""
    rows = {**HEADS, **FULL}
    recipes = {
        "{classes}_{head}": {
            "each": {"classes": ["voc_only", "all_classes"], "head": ["resnet4", "hourglass20", "resnet8"]},
            "config": "{classes}.yaml",
            "set": {"task.model.mask_head.network_type": "{head}"},
        },
    }
    profile = {
        **{"experiment": "deepmac_mini", "configs": "mini", "steps": 10, "seeds": [0, 1]},
        **{"dataset": {"coco": {"coco_dir": str(tmp_path / "coco")}}, "rows": list(rows)},
    }
    published = {"metric": "detections/mask/unseen/AP", "published": 35.5, "source": "a page"}
    lines = [{"row": key, "name": key} for key in [*rows, "voc_only_resnet8"]]
    lines[1] |= published
    document = {"recipes": recipes, "profiles": {"smoke": profile}, "notebooks": {"table": {"rows": lines}}}
    (tmp_path / "configs" / "mini").mkdir(parents=True)
    (tmp_path / "configs" / "reproduction.yaml").write_text(yaml.safe_dump(document))
    for classes, ids in (("voc_only", [1]), ("all_classes", [])):
        task = {"task": {"allowed_masked_classes_ids": ids}}
        (tmp_path / "configs" / "mini" / f"{classes}.yaml").write_text(yaml.safe_dump(task))
    for split in ("train2017", "val2017"):
        synthetic.write_coco(tmp_path / "coco", split, [synthetic.draw_scene(48, 48, 2, 0)], [1, 53])

    study = Study("table", "smoke", tmp_path / "runs", tmp_path / "out" / "table.json", root=tmp_path)
    noise = np.random.default_rng(0).normal(0, 0.5, 200)
    for line in study.lines:
        for run in line.runs:
            _write_result(study, run, rows[run.key] + run.seed, noise)
    study.train()
    return study


def _write_result(study, run, value, noise):
    names = [
        f"gt_boxes/mask/{part}" for part in ("unseen/AP", "seen/AP", "voc/AP", "non_voc/AP", "unseen/mIoU")
    ]
    names.append("detections/mask/unseen/AP")
    bootstrap = {name: [value, *(value + noise)] for name in names}
    metrics = dict.fromkeys(names, value) | {"gt_boxes/mask/class/apple/AP": value - 10}
    curves = {"total_loss": [[5, 3.0], [10, 2.0]]}
    result = RowResult(run.key, run.seed, run.sha256, metrics, bootstrap, curves, 60.0, "a machine", "1")
    path = study.store.results_dir / f"{run.folder_name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(result)))


def test_a_study_reads_results_over_seeds(study):
    measurement = study.measurement("voc_only_hourglass20", UNSEEN)
    assert measurement.value == 48.5
    assert measurement.seeds == 2
    assert study.not_run == ["voc_only_resnet8"]
    assert study.has("voc_only_hourglass20", "voc_only_resnet4")
    assert not study.has("voc_only_resnet8")
    assert study.curve("voc_only_hourglass20", "total_loss").to_dict() == {5: 3.0, 10: 2.0}
    assert study.seen_classes("voc_only_hourglass20") == [1]
    assert study.class_mean("voc_only_hourglass20", [53, 52]).value == pytest.approx(38.5), (
        "classes without truth are left out"
    )


def test_baselines_use_the_code_path_of_every_model(study):
    full = study.baseline("full_box", "voc_only_hourglass20", UNSEEN)
    ellipse = study.baseline("ellipse", "voc_only_hourglass20", UNSEEN)
    assert full.value == pytest.approx(100), "the drawn objects are rectangles"
    assert ellipse.value < full.value


def test_result_rows_name_published_values_with_their_source(study):
    rows = study_rows(study, (UNSEEN,))
    published = [row for row in rows if row.published is not None]
    assert [(row.name, row.published, row.source) for row in published] == [
        ("voc_only_hourglass20", 35.5, "a page")
    ]
    html = results_table(rows).to_html()
    assert "35.5" in html
    assert "13.0" in html, "the difference"


def test_comparisons_show_differences_from_the_base(study):
    html = comparison_table(
        study, "voc_only_hourglass20", ["voc_only_hourglass20", "voc_only_resnet4"]
    ).to_html()
    assert "-8.0 (-" in html
    assert "all_classes" not in html


def test_the_central_claim_compares_gaps(study):
    comparison = MaskHeadComparison(study)
    beats, gap = comparison.claims()
    assert beats.holds is True
    assert "48.5 against 40.5" in beats.evidence
    assert gap.holds is True
    assert "8.0 against 1.0: difference +7.0" in gap.evidence
    assert "does not hold" not in claims_table([beats, gap]).to_html()
    html = comparison.table().to_html()
    assert re.search(r"48\.5 \(47\.\d to 49\.\d\), 2 seeds", html)
    assert set(comparison.costs) == {"resnet4", "hourglass20"}
    names = {row.name for row in comparison.rows()}
    assert "hourglass20, voc_only" in names
    assert comparison.plot("depth").axes[0].get_lines()


def test_results_are_written_with_the_time_of_their_rows(study):
    study.write({"profile": "smoke"}, study_rows(study), [])
    document = json.loads((study.store.results_dir.parent / "table.json").read_text())
    assert document["seconds"] == 8 * 60
    assert document["parameters"] == {"profile": "smoke"}
    assert len(document["rows"]) == 4 * 3 + 1
