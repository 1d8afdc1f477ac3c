"""One page on a profile: all tables, claims and figures, as Markdown and as self-contained HTML."""

import html
import importlib.metadata
import json
import sys
from pathlib import Path

import nbformat

from deepmac.atomic import atomic_file

_VERDICTS = {True: "holds", False: "does not hold", None: "not enough evidence"}
_PACKAGES = ("deepmac", "tensorflow", "tf-models-official", "tf-keras", "numpy", "pycocotools")
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; font-size: .9rem }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .7rem; text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums }
img { max-width: 100%; margin: .5rem 0 }
.failed { color: #a00 } .note { color: #555 }
"""


def write_report(folder: Path, profile: str, failures: dict[str, str]):
    """Writes `report.md` and `report.html` from the results beside them.

    Args:
        folder: holds the executed notebooks and their results JSON.
        profile: the profile's name.
        failures: notebook -> what went wrong, for those that failed this time.
    """
    documents = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    documents = [document for document in documents if document["notebook"] not in failures]
    with atomic_file(folder / "report.md") as path:
        path.write_text(_markdown(documents, profile, failures), encoding="utf-8")
    with atomic_file(folder / "report.html") as path:
        path.write_text(_html(documents, profile, failures, folder), encoding="utf-8")


def _note(profile: str) -> str:
    if profile == "paper":
        return "Measured on COCO 2017 with the published schedules: comparable with the published values."
    return (
        f"Profile {profile}: another data set and a much smaller model than the published ones. Published "
        "values stand beside the measured ones for orientation; only orderings and gaps can be compared."
    )


def _versions() -> str:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    return ", ".join([f"Python {sys.version.split()[0]}", *versions])


def _cells(row: dict) -> list[str]:
    ci95 = row["ci95"]
    return [
        row["name"],
        row["metric"],
        _number(row["published"]),
        _number(row["measured"]),
        "-" if ci95 is None else f"{ci95[0]:.1f} to {ci95[1]:.1f}",
        str(row["seeds"] or "-"),
        row["source"] or "-",
    ]


_HEADER = [
    "row",
    "metric",
    "published",
    "measured",
    "95 % interval",
    "seeds",
    "source of the published value",
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
    return [claim["text"], _VERDICTS[claim["holds"]], claim["evidence"]]


_CLAIM_HEADER = ["claim", "result", "evidence"]


def _markdown(documents, profile, failures) -> str:
    lines = [f"# Reproduction report: profile {profile}", "", _note(profile), ""]
    for name, error in failures.items():
        lines += [f"**{name} failed**: {error}", ""]
    for document in documents:
        lines += [f"## {document['notebook']}", "", *_markdown_table(_HEADER, map(_cells, document["rows"]))]
        if document["claims"]:
            lines += ["", *_markdown_table(_CLAIM_HEADER, map(_claim_cells, document["claims"]))]
        lines += ["", _provenance(document), ""]
    return "\n".join([*lines, _versions(), ""])


def _markdown_table(header, rows) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _provenance(document) -> str:
    return (
        f"{document['hardware']}; training and evaluation took {document['seconds'] / 60:.1f} minutes; "
        f"configuration {document['config_sha256'][:12]}, deepmac {document['code_version']}."
    )


def _html(documents, profile, failures, folder: Path) -> str:
    body = [
        f"<h1>Reproduction report: profile {profile}</h1>",
        f"<p class=note>{html.escape(_note(profile))}</p>",
    ]
    for name, error in failures.items():
        body.append(f"<p class=failed><b>{html.escape(name)} failed</b>: {html.escape(error)}</p>")
    for document in documents:
        body.append(f"<h2>{html.escape(document['notebook'])}</h2>")
        body.append(_html_table(_HEADER, map(_cells, document["rows"])))
        if document["claims"]:
            body.append(_html_table(_CLAIM_HEADER, map(_claim_cells, document["claims"])))
        body += [
            f'<img alt="figure" src="data:image/png;base64,{figure}">'
            for figure in _figures(folder / f"{document['notebook']}.ipynb")
        ]
        body.append(f"<p class=note>{html.escape(_provenance(document))}</p>")
    body.append(f"<p class=note>{html.escape(_versions())}</p>")
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>deepmac: {profile}</title>"
        f"<style>{_STYLE}</style>\n" + "\n".join(body) + "\n</html>\n"
    )


def _html_table(header, rows) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    lines = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _figures(notebook: Path) -> list[str]:
    """PNG pictures (base64) an executed notebook shows, in order."""
    if not notebook.exists():
        return []
    outputs = [
        output
        for cell in nbformat.read(notebook, as_version=4).cells
        for output in cell.get("outputs", [])
        if output.output_type in ("display_data", "execute_result")
    ]
    pictures = [output["data"].get("image/png") for output in outputs]
    return ["".join(picture).replace("\n", "") for picture in pictures if picture]
