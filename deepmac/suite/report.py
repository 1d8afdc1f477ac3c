"""One page on a profile: all tables, claims and figures, as Markdown and as self-contained HTML."""

import html
import importlib.metadata
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import nbformat

from deepmac.core.files import atomic_file
from deepmac.suite.results import VERDICTS
from deepmac.suite.suite import Suite

# In the metadata of an executed notebook: what went wrong, empty if nothing did.
ERROR_KEY = "deepmac_error"
FILES = ("report.md", "report.html")
_PACKAGES = ("deepmac", "tensorflow", "tf-models-official", "tf-keras", "numpy", "pycocotools")
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; font-size: .9rem }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .7rem; text-align: left }
img { max-width: 100%; margin: .5rem 0 }
.failed { color: #a00 } .note { color: #555 }
"""


class Section(NamedTuple):
    """A notebook's part of the report.

    Attributes:
        title: of the notebook.
        document: its results JSON.
        figures: what it shows, PNG in base64.
    """

    title: str
    document: dict
    figures: list[str]


def write_report(folder: Path, suite: Suite, errors: Mapping[str, str]):
    """Writes `report.md` and `report.html` from the executed notebooks and results beside them.

    Args:
        folder: holds the executed notebooks, which say whether they failed, and their results JSON.
        suite: whose notebooks they are.
        errors: row or notebook -> what went wrong, for those that failed this time.
    """
    failures = dict(errors)
    sections = []
    for name, notebook in suite.notebooks.items():
        executed, results = folder / f"{name}.ipynb", folder / f"{name}.json"
        cells = nbformat.read(executed, as_version=4) if executed.exists() else nbformat.v4.new_notebook()
        error = errors.get(name) or cells.metadata.get(ERROR_KEY)
        if error:
            failures[name] = error
        elif results.exists():
            document = json.loads(results.read_text())
            sections.append(Section(notebook.get("title", name), document, _figures(cells)))
    for name, text in zip(FILES, (_markdown, _html), strict=True):
        with atomic_file(folder / name) as path:
            path.write_text(text(sections, suite.profile, failures), encoding="utf-8")


def _note(profile: str) -> str:
    if profile == "paper":
        return "Measured on COCO 2017 with the published schedules: comparable with the published values."
    return (
        f"Profile {profile}: another data set and a much smaller model than the published ones. Published "
        "values stand beside the measured ones for orientation; only orderings and gaps can be compared."
    )


def _summary(sections: Sequence[Section]) -> str:
    """How many claims hold; one that two notebooks check, on the same evidence, counts once."""
    claims = {
        (claim["text"], claim["evidence"]): claim["holds"]
        for section in sections
        for claim in section.document["claims"]
    }
    counts = [f"{verdict}: {list(claims.values()).count(holds)}" for holds, verdict in VERDICTS.items()]
    return f"{len(claims)} claims; {', '.join(counts)}."


def _versions() -> str:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    return ", ".join([f"Python {sys.version.split()[0]}", *versions])


_HEADER = [
    "row",
    "metric",
    "published",
    "measured",
    "difference",
    "95 % interval",
    "seeds",
    "source of the published value",
]


def _cells(row: dict) -> list[str]:
    ci95, published, measured = row["ci95"], row["published"], row["measured"]
    compared = published is not None and measured is not None
    return [
        row["name"],
        row["metric"],
        _number(published),
        _number(measured),
        f"{measured - published:+.1f}" if compared else "-",
        "-" if ci95 is None else f"{ci95[0]:.1f} to {ci95[1]:.1f}",
        str(row["seeds"] or "-"),
        row["source"] or "-",
    ]


def _number(value) -> str:
    """A percentage with one decimal, a ratio with two, a large count with separators."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 10 or value == 0:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.001 else f"{value:.1e}"


def _claim_cells(claim: dict) -> list[str]:
    return [claim["text"], VERDICTS[claim["holds"]], claim["evidence"]]


_CLAIM_HEADER = ["claim", "result", "evidence"]


def _markdown(sections: Sequence[Section], profile: str, failures: Mapping[str, str]) -> str:
    lines = [f"# Reproduction report: profile {profile}", "", _note(profile), "", _summary(sections), ""]
    for name, error in failures.items():
        lines += [f"**{name} failed**: {error}", ""]
    for title, document, _ in sections:
        lines += [f"## {title}", ""]
        if document["claims"]:
            lines += [*_markdown_table(_CLAIM_HEADER, map(_claim_cells, document["claims"])), ""]
        lines += [*_markdown_table(_HEADER, map(_cells, document["rows"])), ""]
        lines += [f"{note}\n" for note in _notes(document)]
    return "\n".join([*lines, _versions(), ""])


def _markdown_table(header, rows) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _notes(document: dict) -> list[str]:
    """What stands below a table: lines that were not run, and where the numbers come from."""
    left_out = document.get("not_run")
    return [
        *([f"Not run in this profile: {'; '.join(left_out)}."] if left_out else []),
        f"{document['hardware']}; {document['seconds'] / 60:.1f} minutes of training and evaluation, summed "
        f"over runs, which may have run side by side; notebook {document['notebook']}, configuration "
        f"{document['config_sha256'][:12]}, deepmac {document['code_version']}.",
    ]


def _html(sections: Sequence[Section], profile: str, failures: Mapping[str, str]) -> str:
    body = [
        f"<h1>Reproduction report: profile {profile}</h1>",
        f"<p class=note>{html.escape(_note(profile))}</p>",
        f"<p>{html.escape(_summary(sections))}</p>",
    ]
    for name, error in failures.items():
        body.append(f"<p class=failed><b>{html.escape(name)} failed</b>: {html.escape(error)}</p>")
    for title, document, figures in sections:
        body.append(f"<h2>{html.escape(title)}</h2>")
        if document["claims"]:
            body.append(_html_table(_CLAIM_HEADER, map(_claim_cells, document["claims"])))
        body += [f'<img alt="figure" src="data:image/png;base64,{figure}">' for figure in figures]
        body.append(_html_table(_HEADER, map(_cells, document["rows"])))
        body += [f"<p class=note>{html.escape(note)}</p>" for note in _notes(document)]
    body.append(f"<p class=note>{html.escape(_versions())}</p>")
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>deepmac: {profile}</title>"
        f"<style>{_STYLE}</style>\n" + "\n".join(body) + "\n</html>\n"
    )


def _html_table(header, rows) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    lines = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _figures(notebook: nbformat.NotebookNode) -> list[str]:
    """PNG pictures (base64) an executed notebook shows, in order."""
    outputs = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type in ("display_data", "execute_result")
    ]
    pictures = [output["data"].get("image/png") for output in outputs]
    return ["".join(picture).replace("\n", "") for picture in pictures if picture]
