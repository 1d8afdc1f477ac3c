"""One page on a profile: headline, claims, figures and tables, as Markdown and as self-contained HTML."""

import base64
import html
import importlib.metadata
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat
import pandas as pd

from deepmac.core.files import atomic_file
from deepmac.suite.headline import KIND_TITLES, counts, sentences, unique_claims
from deepmac.suite.plots import forest_plot
from deepmac.suite.results import KINDS
from deepmac.suite.suite import Suite
from deepmac.suite.tables import claims_frame, markdown, published_sources, results_frame

# In the metadata of an executed notebook: what went wrong, empty if nothing did.
ERROR_KEY = "deepmac_error"
# What follows this heading of a notebook is for those who look closer.
APPENDIX = "## Appendix"
FIGURES = "figures"  # folder beside the report
_PACKAGES = ("deepmac", "tensorflow", "tf-models-official", "tf-keras", "numpy", "pycocotools")
_PAGE = """<!doctype html><html lang=en><meta charset=utf-8>
<meta name=viewport content="width=device-width, initial-scale=1"><title>deepmac: {profile}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: auto; padding: 1rem; color: #222 }}
table {{ display: block; overflow-x: auto; border-collapse: collapse; font-size: .85rem }}
th, td {{ border-bottom: 1px solid #ddd; padding: .25rem .6rem; text-align: left; vertical-align: top }}
img {{ max-width: 100%; max-height: 44rem; margin: .5rem 0 }}
summary {{ cursor: pointer; color: #0058a3 }}
.anchor-link {{ display: none }}
@media print {{ body {{ max-width: none; font-size: 11px }} h2 {{ break-after: avoid }} }}
</style>
{body}
</html>
"""


def write_report(folder: Path, suite: Suite, errors: Mapping[str, str]):
    """Writes `report.md`, its `figures/`, and `report.html` from the executed notebooks and their results.

    Args:
        folder: holds the executed notebooks, which say whether they failed, and their results JSON.
        suite: whose notebooks they are.
        errors: row or notebook -> what went wrong, for those that failed this time.
    """
    from nbconvert.filters import markdown2html  # slow to import

    failures, documents, notebooks = dict(errors), [], {}
    for name in suite.notebooks:
        executed, results = folder / f"{name}.ipynb", folder / f"{name}.json"
        cells = nbformat.read(executed, as_version=4) if executed.exists() else nbformat.v4.new_notebook()
        error = errors.get(name) or cells.metadata.get(ERROR_KEY)
        if error:
            failures[name] = error
        elif results.exists():
            document = json.loads(results.read_text())
            if "pictures" in document:
                documents.append(document)
                notebooks[name] = cells
            else:
                failures[name] = "its results are of an earlier version: run it again"
    parts = [_head(suite, documents, failures, folder)]
    listed: set[tuple[str, str]] = set()  # name and metric of values that a table has shown
    for document, cells in zip(documents, notebooks.values(), strict=True):
        values = {(row["name"], row["metric"]) for row in document["rows"]}
        parts.append(_section(suite, document, cells, folder, with_table=not values <= listed))
        listed |= values
    parts.append(_versions())
    text = "\n\n".join(parts) + "\n"
    with atomic_file(folder / "report.md") as path:
        path.write_text(text, encoding="utf-8")
    body = re.sub(
        rf'(?<=src="){FIGURES}/[^"]+', lambda link: _data_uri(folder / link[0]), markdown2html(text)
    )
    with atomic_file(folder / "report.html") as path:
        path.write_text(_PAGE.format(profile=suite.profile, body=body), encoding="utf-8")


def _head(suite: Suite, documents: Sequence[dict], failures: Mapping[str, str], folder: Path) -> str:
    """Headline, its figure, contents, and the claims, each once."""
    claims = unique_claims(documents)
    parts = [f"# Reproduction report: profile {suite.profile}"]
    parts += [f"**{name} failed**: {html.escape(error, quote=False)}" for name, error in failures.items()]
    if documents:
        parts.append("\n".join(f"- {sentence}" for sentence in sentences(suite.profile, documents)))
    of_paper = [claim for claim in claims if claim["kind"] == "paper" and claim["ci95"]]
    if of_paper:
        path = folder / FIGURES / "headline.png"
        path.parent.mkdir(exist_ok=True)
        with atomic_file(path) as temporary:
            forest_plot(of_paper).savefig(temporary, format="png", metadata={"Software": None})
        caption = "What decides each claim of the paper: gray is a difference of at most 1 AP."
        parts.append(f"![{caption}]({FIGURES}/{path.name})\n\n*{caption}*")
    names = [document["notebook"] for document in documents]
    links = [f"[{suite.notebooks[name].title or name}](#{name})" for name in names]
    parts.append("**Contents**: " + " · ".join(["[Claims](#claims)", *links]))
    parts.append(
        f"## Claims\n\n{counts(claims).capitalize()}. Each is counted once, however many notebooks check it."
    )
    for kind in KINDS:
        of_kind = [claim for claim in claims if claim["kind"] == kind]
        if of_kind:
            table = markdown(claims_frame(of_kind))
            title = f"{KIND_TITLES[kind].capitalize()} ({len(of_kind)})"
            parts.append(f"**{title}**\n\n{table}" if kind == "paper" else _folded(title, table))
    return "\n\n".join(parts)


def _section(
    suite: Suite, document: dict, cells: nbformat.NotebookNode, folder: Path, with_table: bool
) -> str:
    """A notebook: its figures and a compact table; everything else, and checks of the software, folded."""
    name = document["notebook"]
    shown, appendix = _figures(cells, name, folder)
    frame = results_frame(document["rows"], with_difference=suite.profile == "paper")
    compact = _compact(frame) if document["pictures"] and with_table else frame.iloc[:0]
    if not document["pictures"]:
        shown, appendix = [], shown + appendix
    details = [*appendix, _provenance(document)]
    if compact.shape != frame.shape:
        details.insert(0, markdown(frame))
    parts = [f'<a id="{name}"></a>\n\n## {suite.notebooks[name].title or name}', *shown]
    if len(compact):
        parts.append(markdown(compact))
        if sources := published_sources(document["rows"]):
            parts.append(f"Published values: {sources}.")
    if document["pictures"]:
        parts.append(f"Pictures: {document['pictures']}.")
    parts.append(_folded("Details", "\n\n".join(details)))
    return "\n\n".join(parts)


def _compact(frame: pd.DataFrame) -> pd.DataFrame:
    """A table without columns that few lines fill, or none of those trained; and without empty lines."""
    filled = frame != "-"
    trained = filled[filled["seeds"]] if "seeds" in frame else filled
    kept = [
        column
        for column in frame
        if column.startswith("published") or (filled[column].mean() >= 0.3 and trained[column].any())
    ]
    values = [column for column in kept[1:] if column != "seeds"]
    return frame.loc[filled[values].any(axis=1), kept]


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def _provenance(document: dict) -> str:
    """Lines that were not run, and where the numbers come from."""
    source = (
        f"[Executed notebook]({document['notebook']}.ipynb); {document['hardware']}; "
        f"{document['seconds'] / 60:.1f} minutes of training and evaluation, summed over runs, which may "
        f"have run side by side; configuration {document['config_sha256'][:12]}, "
        f"deepmac {document['code_version']}."
    )
    left_out = document.get("not_run")
    return f"Not run in this profile: {'; '.join(left_out)}.\n\n{source}" if left_out else source


def _versions() -> str:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    return ", ".join([f"Python {sys.version.split()[0]}", *versions])


def _figures(notebook: nbformat.NotebookNode, name: str, folder: Path) -> tuple[list[str], list[str]]:
    """Saves the pictures that an executed notebook shows; returns Markdown of each, the appendix apart.

    A figure's caption is the text before it.
    """
    shown: list[str] = []
    appendix: list[str] = []
    caption, place = "", shown
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            place = appendix if cell.source.startswith(APPENDIX) else place
            text = [line for line in cell.source.splitlines() if not line.startswith("#")]
            caption = " ".join(" ".join(text).split())
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                path = folder / FIGURES / f"{name}-{len(shown) + len(appendix) + 1}.png"
                path.parent.mkdir(exist_ok=True)
                with atomic_file(path) as temporary:
                    temporary.write_bytes(base64.b64decode(output.data["image/png"]))
                place.append(
                    f"![{_plain(caption)}]({FIGURES}/{path.name})\n\n*{caption}*".removesuffix("\n\n**")
                )
                caption = ""
    return shown, appendix


def _plain(text: str) -> str:
    """Text for the description of a picture, without Markdown."""
    return re.sub(r"[\[\]*`]|\]\([^)]*\)", "", text)


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
