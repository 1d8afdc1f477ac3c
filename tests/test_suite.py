import shutil
from pathlib import Path

import pytest

from deepmac.core.categories import NON_VOC_IDS
from deepmac.core.errors import InputError
from deepmac.suite.suite import Suite

PROFILES = ("smoke", "quick", "mini", "styles", "subset", "photographs", "paper")
ROOT = Path(__file__).resolve().parents[1]
HEADS = ("resnet4", "hourglass100", "cond_inst3")


@pytest.fixture
def checkout(tmp_path):
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    return tmp_path


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_train_what_their_tables_show_and_nothing_twice(profile):
    suite = Suite.load(profile, ROOT)
    lines = []
    for notebook, settings in suite.notebooks.items():
        rows = suite.table_rows(notebook)
        assert {line.base for line in rows} - {None} <= {line.key for line in rows}
        assert all((row.published is None) == (row.source is None) for row in settings.rows)
        lines += rows
    for line in lines:
        assert all(run.config_file.is_file() for run in line.runs)
        assert len({run.sha256 for run in line.runs}) == len(line.runs)
    keys = [*suite.settings.rows, *suite.settings.single_seed_rows]
    assert len({suite.row(key, 0).sha256 for key in keys}) == len(keys)
    assert {*keys} == {run.key for line in lines for run in line.runs}


@pytest.mark.parametrize(
    ("written", "misspelt", "message"),
    [
        ("    single_seed_rows:", "    single_seed_row:", r"profiles\.mini\.single_seed_row: Extra inputs"),
        ("    title: Full", "    titel: Full", r"notebooks\.table_fully_supervised\.titel: Extra inputs"),
        ("seen_10, name:", "seen_10, nam:", r"notebooks\.table_ablations\.rows\.8\.nam: Extra inputs"),
        ("    init: detector", "    inti: detector", r"recipes\.voc_only_resnet4\.inti: Extra"),
        ("    steps: 400", "    steps: many", r"profiles\.quick\.steps: Input should be a valid integer"),
    ],
)
def test_misspelt_keys_are_input_errors(checkout, written, misspelt, message):
    path = checkout / "configs" / "reproduction.yaml"
    assert written in path.read_text()
    path.write_text(path.read_text().replace(written, misspelt))
    with pytest.raises(InputError, match=message):
        Suite.load("mini", checkout)


def test_the_full_size_has_every_head_with_every_kind_of_supervision():
    suite = Suite.load("paper", ROOT)
    assert suite.not_run("table_mask_heads") == []
    assert len(suite.table_rows("table_mask_heads")) == 15 * 3
    ids = suite.row("non_voc_only_cond_inst3", 0).config["task"]["allowed_masked_classes_ids"]
    assert ids == list(NON_VOC_IDS)
    assert suite.row("all_classes_hourglass52", 0).config["task"]["allowed_masked_classes_ids"] == []


@pytest.mark.parametrize("profile", ["mini", "styles", "subset", "photographs"])
def test_committed_results_are_those_of_the_committed_configuration(profile):
    suite = Suite.load(profile, ROOT)
    lines = [line for notebook in suite.notebooks for line in suite.table_rows(notebook)]
    runs = [part for line in lines for run in line.runs for part in run.with_predecessors()]
    committed = {
        path.stem for path in (ROOT / "papermill_runs" / profile / "rows").iterdir() if path.is_file()
    }
    assert committed <= {run.folder_name for run in runs}
    assert committed


def test_hash_follows_what_decides_the_result_and_nothing_else(checkout):
    row = Suite.load("quick", checkout).row("voc_only", seed=0)
    assert row.sha256 == Suite.load("quick", ROOT).row("voc_only", seed=0).sha256
    assert row.sha256 != Suite.load("quick", checkout).row("voc_only", seed=1).sha256
    assert row.sha256 != Suite.load("quick", checkout).row("non_voc_only", seed=0).sha256
    assert row.sha256 != Suite.load("smoke", checkout).row("voc_only", seed=0).sha256

    detector = checkout / "configs" / "mini" / "detector.yaml"
    detector.write_text(detector.read_text() + "trainer:\n  max_to_keep: 3\n")
    changed = Suite.load("quick", checkout).row("voc_only", seed=0)
    assert changed.sha256 != row.sha256, "its detector changed"
    (checkout / "configs" / "mini" / "seen_5.yaml").unlink()
    with pytest.raises(InputError, match=r"'seen_5' needs .*seen_5\.yaml"):
        Suite.load("mini", checkout).row("seen_5", 0)


def test_rows_share_their_detector_and_seeds_a_checkpoint_where_the_profile_says_so(checkout):
    suite = Suite.load("quick", ROOT)
    inits = {suite.row(key, 0).init.sha256 for key in ("voc_only", "voc_only_shallow", "non_voc_only")}
    assert len(inits) == 1
    suite = Suite.load("mini", checkout)
    assert suite.settings.init_seed == 0
    assert {suite.row("voc_only", seed).init.folder_name for seed in suite.settings.seeds} == {
        suite.row("detector", 0).folder_name
    }
    path = checkout / "configs" / "reproduction.yaml"
    path.write_text(path.read_text().replace("    init_seed: 0\n", ""))
    suite = Suite.load("mini", checkout)
    assert [suite.row("voc_only", seed).init.seed for seed in (0, 1)] == [0, 1]


@pytest.mark.parametrize("steps", [1, 4, 30, 999, 1000, 2500])
def test_schedule_intervals_fit_together(steps, checkout):
    path = checkout / "configs" / "reproduction.yaml"
    path.write_text(path.read_text().replace("steps: 600", f"steps: {steps}"))
    trainer = Suite.load("quick", checkout).row("detector", 0).config["trainer"]
    assert trainer["train_steps"] == steps
    for interval in ("summary_interval", "checkpoint_interval", "validation_interval"):
        assert trainer[interval] % trainer["steps_per_loop"] == 0, interval
    decay = trainer["optimizer_config"]["learning_rate"]["cosine"]
    assert decay["offset"] + decay["decay_steps"] == steps


def test_unknown_profile_and_missing_checkout_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="unknown profile 'huge': choose from smoke, quick"):
        Suite.load("huge", ROOT)
    with pytest.raises(InputError, match="checkout of deepmac"):
        Suite.load("quick", tmp_path)


def test_recipes_are_made_for_every_combination_and_options_keep_their_type(checkout):
    suite = Suite.load("mini", checkout)
    row = suite.row("seen_5", 0)
    assert row.config_file.name == "seen_5.yaml"
    heads = {
        suite.row(f"voc_only_{head}", 0).config["task"]["model"]["mask_head"]["network_type"]
        for head in HEADS
    }
    assert heads == set(HEADS)
    two_stages = suite.row("two_stages_last_only", 0)
    assert two_stages.config["task"]["model"]["backbone"]["hourglass"]["num_hourglasses"] == 2
    assert two_stages.config["task"]["losses"]["mask"]["use_only_last_stage"] is True
    assert two_stages.init.key == "detector_two_stages"
    assert [part.key for part in two_stages.with_predecessors()] == [
        "detector_two_stages",
        "two_stages_last_only",
    ]


def test_a_row_named_after_another_is_that_row():
    suite = Suite.load("mini", ROOT)
    assert suite.row("voc_only", 1).folder_name == suite.row("voc_only_hourglass20", 1).folder_name
    assert suite.seeds("voc_only") == [0, 1, 2]
    assert suite.seeds("seen_5") == [0]
    assert Suite.load("smoke", ROOT).seeds("seen_5") == []
    with pytest.raises(InputError, match="no row 'voc_nobody'"):
        suite.row("voc_nobody", 0)


def test_rows_keep_the_names_that_committed_results_are_kept_under():
    """A row's name holds the hash of everything that decides its result: see `papermill_runs/*/rows`."""
    names = set()
    for profile in PROFILES:
        suite = Suite.load(profile, ROOT)
        keys = [*suite.settings.rows, *suite.settings.single_seed_rows]
        rows = (suite.row(key, seed) for key in keys for seed in suite.seeds(key))
        names |= {f"{profile} {part.folder_name}" for row in rows for part in row.with_predecessors()}
    assert names == set((ROOT / "tests" / "row_names.txt").read_text().splitlines())


def test_rows_stay_what_they_were_when_a_configuration_is_edited_meanwhile(checkout):
    suite = Suite.load("mini", checkout)
    row = suite.row("voc_only_resnet4", 0)
    config, name = row.config, row.folder_name
    path = checkout / "configs" / "mini" / "voc_only.yaml"
    path.write_text(path.read_text() + "\nruntime: {mixed_precision_dtype: float32}\n")
    assert (row.config, row.folder_name) == (config, name)
    assert suite.row("voc_only_resnet4", 0).folder_name == name
    assert Suite.load("mini", checkout).row("voc_only_resnet4", 0).folder_name != name
