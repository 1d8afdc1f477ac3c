import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest
import synthetic
import yaml
from notebook_cells import run_cell

from deepmac.core.categories import ALL_IDS, NAME_BY_ID
from deepmac.evaluation import MaskEvaluator
from deepmac.evaluation.baselines import BASELINES
from deepmac.evaluation.files import Evaluation
from deepmac.suite.results import Measurement
from deepmac.suite.rows import RowResult
from deepmac.suite.study import METRICS, Study, model_summary, study_rows
from deepmac.suite.suite import Suite
from deepmac.suite.tables import MINUS, claims_table, results_table
from lib import mask_heads

# Two of them have the same depth, one no trained parameter of its own.
HEADS = {
    "voc_only_resnet4": 40.0,
    "voc_only_hourglass20": 48.0,
    "voc_only_resnet20": 42.0,
    "voc_only_embedding_projection": 20.0,
}
FULL = {"all_classes_resnet4": 50.0, "all_classes_hourglass20": 51.0}
ROOT = Path(__file__).resolve().parents[1]
UNSEEN = "gt_boxes/mask/unseen/AP"


@pytest.fixture
def study(tmp_path):
    """A study of six rows and two seeds whose results are there; nothing is trained."""
    rows = {**HEADS, **FULL}
    recipes = {
        "{classes}_{head}": {
            "each": {
                "classes": ["voc_only", "all_classes"],
                "head": ["resnet4", "hourglass20", "resnet8", "resnet20"],
            },
            "config": "{classes}.yaml",
            "set": {"task.model.mask_head.network_type": "{head}"},
        }
    }
    projection = {"network_type": "embedding_projection", "dim": 16, "pixel_embedding_dim": 16}
    projection |= {"use_xy": False, "use_instance_embedding": False}
    recipes["voc_only_embedding_projection"] = {
        "config": "voc_only.yaml",
        "set": {f"task.model.mask_head.{name}": value for name, value in projection.items()},
    }
    profile = {
        **{"experiment": "deepmac_mini", "configs": "mini", "steps": 10, "seeds": [0, 1]},
        **{"dataset": {"coco": {"coco_dir": str(tmp_path / "coco")}}, "rows": list(rows)},
    }
    published = {"metric": "detections/mask/unseen/AP", "published": 35.5, "source": "a page"}
    lines = [{"row": key, "name": key} for key in [*rows, "voc_only_resnet8"]]
    lines[1] |= published
    lines[2] |= {"base": "voc_only_hourglass20"}
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


def _write_result(study, run, value, noise, last=0.8):
    parts = ("unseen/AP", "seen/AP", "voc/AP", "non_voc/AP", "unseen/mIoU")
    names = [*(f"gt_boxes/mask/{part}" for part in parts), "detections/mask/unseen/AP"]
    bootstrap = {name: [value, *(value + noise)] for name in names}
    metrics = dict.fromkeys(names, value) | {"gt_boxes/mask/class/apple/AP": value - 10}
    curves = {"total_loss": [[5, 3.0], [10, 2.0]], "deep_mask_estimation": [[6, 1.0], [8, 0.9], [10, last]]}
    result = RowResult(metrics, bootstrap, run.key, run.seed, run.sha256, curves, 60.0, "a machine", "1")
    path = study.store.results_dir / f"{run.folder_name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(result)))


def test_a_study_reads_results_over_seeds_and_says_what_its_lines_are(study, capsys):
    measurement = study.measurement("voc_only_hourglass20", UNSEEN)
    assert measurement.value == 48.5
    assert measurement.seeds == 2
    assert [line.key for line in study.not_run] == ["voc_only_resnet8"]
    assert study.has("voc_only_hourglass20", "voc_only_resnet4")
    assert not study.has("voc_only_resnet8")
    assert study.curve("voc_only_hourglass20", "total_loss").to_dict() == {5: 3.0, 10: 2.0}
    assert study.seen_classes("voc_only_hourglass20") == [1]
    with pytest.raises(KeyError, match="voc_only_resnet8"):
        study.runs("voc_only_resnet8")
    study.describe()
    text = capsys.readouterr().out
    assert "voc_only_resnet4: 128x128, mask head resnet4, seeds 0, 1" in text
    assert "not run in this profile: voc_only_resnet8" in text


def test_means_of_classes_are_of_those_with_truth(study):
    names = {"study": study, "np": np, "NAME_BY_ID": NAME_BY_ID, "Measurement": Measurement}
    class_mean = run_cell("table_ablations", "def class_mean", **names)["class_mean"]
    mean, classes = class_mean("voc_only_hourglass20", [53, 52])
    assert mean.value == pytest.approx(38.5)
    assert classes == 1, "those without truth do not count"


def test_baselines_use_the_code_path_of_every_model(study):
    names = {"study": study, "dataclasses": dataclasses, "functools": functools, "ALL_IDS": ALL_IDS}
    names |= {"MaskEvaluator": MaskEvaluator, "BASELINES": BASELINES, "Evaluation": Evaluation}
    names["Measurement"] = Measurement
    baseline = run_cell("table_partially_supervised", "def baseline", **names)["baseline"]
    full, ellipse = (baseline(kind, "voc_only_hourglass20", UNSEEN) for kind in ("full_box", "ellipse"))
    assert full.value == pytest.approx(100), "the drawn objects are rectangles"
    assert ellipse.value < full.value
    assert ellipse.seeds == 0, "nothing was trained"


def test_result_rows_name_published_values_with_their_source(study):
    rows = study_rows(study, (UNSEEN,))
    published = [row for row in rows if row.published is not None]
    [row] = published
    assert (row.name, row.published, row.source) == ("voc_only_hourglass20", 35.5, "a page")
    assert "+13.0" in results_table(rows, "paper").to_html(), "the difference"
    html = results_table(rows, "mini").to_html()
    assert "35.5" in html
    assert "13.0" not in html, "another data set"
    line = {"metric": "detections/mask/unseen/AP", "published": 31.0, "source": "another page"}
    study.not_run = [study.not_run[0].model_copy(update=line)]
    [row] = [row.as_dict() for row in study_rows(study, (UNSEEN,)) if row.name == "voc_only_resnet8"]
    assert (row["measured"], row["published"], row["source"]) == (None, 31.0, "another page")
    assert "not run" in results_table(study_rows(study, (UNSEEN,))).to_html()


def test_a_line_with_a_base_has_differences_from_it(study):
    measured = {row.name: row for row in study_rows(study, (UNSEEN,))}
    difference = measured["voc_only_resnet20, minus voc_only_hourglass20"]
    assert difference.measurement.value == -6
    assert difference.measurement.seeds == 2
    assert difference.published is None
    study.lines[2] = study.lines[2].model_copy(
        update={"metric": UNSEEN, "published": -0.26, "source": "a page"}
    )
    rows = [row for row in study_rows(study, (UNSEEN,)) if row.published == -0.26]
    assert [(row.name, row.measurement.value) for row in rows] == [(difference.name, -6)]


def test_the_central_claim_compares_gaps(study):
    beats, same, gap, same_depth = mask_heads.claims(mask_heads.head_results(study))
    assert same_depth.verdict == "holds"
    assert "hourglass20 beats resnet20, of the same depth" in same_depth.text
    assert (beats.verdict, beats.kind) == ("holds", "paper")
    assert "48.5 against 40.5, 2 seeds each" in beats.evidence
    assert same.verdict == "holds"
    assert gap.verdict == "holds"
    assert "8.0 against 1.0, 2 seeds each: difference +7.0" in gap.evidence
    assert "contradicted" not in claims_table([beats, gap]).to_html()


def test_depth_is_a_claim_of_its_own(study):
    results = mask_heads.head_results(study)
    deeper = [one._replace(head="hourglass52") for one in results if one.head == "resnet20"]
    claim = mask_heads.claims([*results, *deeper])[-1]
    assert claim.text == "hourglass52 beats hourglass20, which is shallower, on unseen classes"
    assert (claim.verdict, claim.difference) == ("contradicted", -6)


def test_the_last_change_of_a_loss_is_the_mean_over_seeds(study):
    first, second = study.runs("voc_only_resnet4")
    _write_result(study, first, 40.0, np.zeros(200), last=0.7)
    _write_result(study, second, 41.0, np.zeros(200), last=0.8)
    study.store = type(study.store)(study.store.work_dir, study.store.results_dir)
    [result] = [
        one for one in mask_heads.head_results(study) if (one.head, one.classes) == ("resnet4", "voc_only")
    ]
    assert result.late_change == pytest.approx(-25)


def test_mask_heads_are_shown_with_their_costs(study):
    results = mask_heads.head_results(study)
    costs = {result.head: mask_heads.head_cost(result.row) for result in results}
    assert set(costs) == {"resnet4", "hourglass20", "resnet20", "embedding_projection"}
    rows = mask_heads.result_rows(results, costs)
    assert "48.5 (47." in results_table(rows).to_html()
    rows = {(row.name, row.metric): row.measurement.value for row in rows}
    change = rows["hourglass20, masks of VOC", "change of the mask loss, last quarter (%)"]
    assert change == pytest.approx(-20), "from 1.0, the last value of the first three quarters, to 0.8"
    assert rows["resnet20, masks of VOC", "parameters"] == costs["resnet20"].parameters > 0
    assert ("hourglass20, masks of all", "parameters") not in rows, "a head costs the same with all masks"
    gains = {name: value for (name, _), value in rows.items() if MINUS in name}
    assert gains == {
        "hourglass20, masks of VOC, minus resnet4": 8.0,
        "resnet20, masks of VOC, minus resnet4": 2.0,
        "embedding projection, masks of VOC, minus resnet4": -20.0,
        "hourglass20, masks of all, minus resnet4": 1.0,
    }


def test_every_family_of_heads_has_a_curve(study):
    results = mask_heads.head_results(study)
    for against in ("depth", "parameters"):
        absolute, gains, gap = mask_heads.plot(results, against).axes
        curves = {curve.get_label(): curve.lines[0].get_ydata().tolist() for curve in absolute.containers}
        assert curves["resnet, masks of VOC"] == [40.5, 42.5]
        assert curves["hourglass, masks of VOC"] == [48.5]
        drawn = [list(line.get_ydata()) for line in gains.lines]
        assert [8.0] in drawn and [1.0] in drawn, "with and without masks"
        assert [7.0] in [list(line.get_ydata()) for line in gap.lines]


def test_results_are_written_with_the_time_of_their_rows(study):
    study.write({"profile": "smoke"}, study_rows(study), [])
    document = json.loads((study.store.results_dir.parent / "table.json").read_text())
    assert document["seconds"] == 12 * 60
    assert document["hardware"] == "a machine"
    assert document["not_run"] == ["voc_only_resnet8"]
    assert document["parameters"] == {"profile": "smoke"}
    assert document["pictures"].endswith(" to measure on. Those have objects of 0 VOC and 1 other classes")
    assert len(document["rows"]) == 7 * len(METRICS) + 1, "the published one, and a line of differences"


@pytest.mark.parametrize(
    ("profile", "key", "summary"),
    [
        ("mini", "voc_only", "128x128, mask head hourglass20"),
        ("paper", "two_stages", "512x512, mask head hourglass52"),
        ("paper", "mask_rcnn_spinenet", "1280x1280, mask head hourglass52"),
    ],
)
def test_the_model_is_that_of_the_complete_configuration(profile, key, summary):
    assert model_summary(Suite.load(profile, ROOT).row(key, 0)) == summary


@pytest.mark.parametrize("notebook", ["table_ablations", "table_weak_supervision"])
def test_the_mask_head_of_every_change_at_full_size_can_be_built(notebook):
    for line in Suite.load("paper", ROOT).table_rows(notebook):
        assert mask_heads.trained_parameters(line.runs[0]) > 1_000_000, line.name
