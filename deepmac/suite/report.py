"""One page on a profile: all tables, claims and figures, as Markdown and as self-contained HTML."""

import html
import importlib.metadata
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat

from deepmac.core.files import atomic_file
from deepmac.suite.results import VERDICTS
from deepmac.suite.suite import Suite
from deepmac.suite.tables import claims_frame, markdown, results_frame

# In the metadata of an executed notebook: what went wrong, empty if nothing did.
ERROR_KEY = "deepmac_error"
_PACKAGES = ("deepmac", "tensorflow", "tf-models-official", "tf-keras", "numpy", "pycocotools")
_PAGE = """<!doctype html><html lang=en><meta charset=utf-8><title>deepmac: {profile}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; color: #222 }}
table {{ border-collapse: collapse; margin: 1rem 0; font-size: .9rem }}
th, td {{ border-bottom: 1px solid #ddd; padding: .3rem .7rem; text-align: left }}
img {{ max-width: 100%; margin: .5rem 0 }}
.anchor-link {{ display: none }}
</style>
{body}
</html>
"""


def write_report(folder: Path, suite: Suite, errors: Mapping[str, str]):
    """Writes `report.md` and `report.html` from the executed notebooks and results beside them.

    Args:
        folder: holds the executed notebooks, which say whether they failed, and their results JSON.
        suite: whose notebooks they are.
        errors: row or notebook -> what went wrong, for those that failed this time.
    """
    from nbconvert.filters import markdown2html  # slow to import

    failures = dict(errors)
    documents, sections = [], []
    for name, notebook in suite.notebooks.items():
        executed, results = folder / f"{name}.ipynb", folder / f"{name}.json"
        cells = nbformat.read(executed, as_version=4) if executed.exists() else nbformat.v4.new_notebook()
        error = errors.get(name) or cells.metadata.get(ERROR_KEY)
        if error:
            failures[name] = error
        elif results.exists():
            document = json.loads(results.read_text())
            documents.append(document)
            claims = markdown(claims_frame(document["claims"]))
            rows = markdown(results_frame(document["rows"]))
            sections.append((f"## {notebook.title or name}\n\n{claims}", _figures(cells)))
            sections.append((f"{rows}\n\n{_notes(document)}", []))
    # Text in Markdown, each with the figures that follow it.
    parts = [(_head(suite.profile, documents, failures), []), *sections, (_versions(), [])]
    body = ""
    for text, figures in parts:
        body += markdown2html(text)
        for figure in figures:
            body += f'<img alt="figure" src="data:image/png;base64,{figure}">\n'
    with atomic_file(folder / "report.md") as path:
        path.write_text("\n\n".join(text for text, _ in parts) + "\n", encoding="utf-8")
    with atomic_file(folder / "report.html") as path:
        path.write_text(_PAGE.format(profile=suite.profile, body=body), encoding="utf-8")


def _head(profile: str, documents: Sequence[dict], failures: Mapping[str, str]) -> str:
    """Title, what the numbers can be compared with, how many claims hold, and what failed."""
    if profile == "paper":
        note = "Measured on COCO 2017 with the published schedules: comparable with the published values."
    else:
        note = (
            f"Profile {profile}: another data set and a much smaller model than the published ones. "
            "Published values stand beside the measured ones for orientation; only orderings and gaps can be "
            "compared."
        )
    # A claim that two notebooks check, on the same evidence, counts once.
    claims = {(c["text"], c["evidence"]): c["holds"] for document in documents for c in document["claims"]}
    counts = [f"{verdict}: {list(claims.values()).count(holds)}" for holds, verdict in VERDICTS.items()]
    return "\n\n".join(
        [
            f"# Reproduction report: profile {profile}",
            note,
            f"{len(claims)} claims; {', '.join(counts)}.",
            *(f"**{name} failed**: {html.escape(error, quote=False)}" for name, error in failures.items()),
        ]
    )


def _notes(document: dict) -> str:
    """What stands below a table: lines that were not run, and where the numbers come from."""
    source = (
        f"{document['hardware']}; {document['seconds'] / 60:.1f} minutes of training and evaluation, summed "
        f"over runs, which may have run side by side; notebook {document['notebook']}, configuration "
        f"{document['config_sha256'][:12]}, deepmac {document['code_version']}."
    )
    left_out = document.get("not_run")
    return f"Not run in this profile: {'; '.join(left_out)}.\n\n{source}" if left_out else source


def _versions() -> str:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    return ", ".join([f"Python {sys.version.split()[0]}", *versions])


def _figures(notebook: nbformat.NotebookNode) -> list[str]:
    """PNG pictures (base64) that an executed notebook shows, in order."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output.get("data", {}).get("image/png") for output in outputs]
    return [picture.replace("\n", "") for picture in pictures if picture]
