"""The pages people read first: short, with links that lead somewhere and commands that exist."""

import json
import re
from pathlib import Path

import pytest
from click import Context

from deepmac.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_commands_and_make_targets_exist_and_tables_are_whole(page):
    text = page.read_text(encoding="utf-8")
    targets = {target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target}
    assert {target for target in targets if not (page.parent / target).exists()} == set()
    commands = set(re.findall(r"(?:^|`)deepmac ([a-z][a-z-]*)", text, re.MULTILINE))
    assert commands <= set(main.list_commands(Context(main)))
    targets = set(re.findall(r"`make ([a-z]+)", text))
    assert targets <= set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        header, *rows = table.splitlines()
        columns = len(re.findall(r"(?<!\\)\|", header))
        assert [row for row in rows if len(re.findall(r"(?<!\\)\|", row)) != columns] == []


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert len(re.findall(r"[A-Za-z]{2,}", re.sub(r"\([^)]*\)|```.*?```", "", text, flags=re.DOTALL))) <= 900


def test_the_readme_states_differences_as_they_were_measured():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    evidence = ""
    for profile in ("mini", "styles", "subset", "photographs"):
        for name in ("figure_depth_curve", "table_partially_supervised"):
            path = ROOT / "papermill_runs" / profile / f"{name}.json"
            evidence += str([claim["evidence"] for claim in json.loads(path.read_text())["claims"]])
    stated = re.findall(r"([+-]\d+\.\d) \[([+-]\d+\.\d), ([+-]\d+\.\d)\]", text)
    assert len(stated) == 22
    for value, low, high in stated:
        assert f"difference {value}, 95 % interval {low} to {high}" in evidence
