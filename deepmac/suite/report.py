"""One page on a profile: headline, claims, figures and tables, as Markdown and as self-contained HTML."""

import base64
import html
import importlib.metadata
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from string import Template

import nbformat
import pandas as pd

from deepmac.core.files import write_text
from deepmac.suite.plots import forest_plot
from deepmac.suite.results import KINDS, NO_DIFFERENCE, VERDICTS, number
from deepmac.suite.suite import Suite
from deepmac.suite.tables import MINUS, claims_frame, markdown, results_frame

# In the metadata of an executed notebook: what went wrong, empty if nothing did.
ERROR_KEY = "deepmac_error"
# What follows this heading of a notebook is for those who look closer.
APPENDIX = "## Appendix"
FIGURES = "figures"  # folder beside the report
# In the claims that compare masks with what a box alone gives.
ELLIPSE = "masks of unseen non-VOC classes beat the inscribed ellipse"
CENTRAL = "by more on unseen classes than with masks of all"  # in those of the paper's main finding
_CAPTION = (
    "What decides each claim of the paper: a difference of mask AP, with its 95 % interval over pictures and "
    "training runs (n: seeds). The gray band is where the paper expects it: above zero, or within "
    f"{NO_DIFFERENCE:g} AP of it. The number in a mask head's name is its depth in layers."
)
_RUNS = (
    "Runs that were trained again, or start from another detector, and what that moved: "
    "[reference runs](../README.md)."
)
_PACKAGES = ("deepmac", "tensorflow", "tf-models-official", "tf-keras", "numpy", "pycocotools")


def write_report(folder: Path, suite: Suite, errors: Mapping[str, str]):
    """Writes `report.md`, its `figures/`, and `report.html` from the executed notebooks and their results.

    Args:
        folder: holds the executed notebooks, which say whether they failed, and their results JSON.
        errors: row or notebook -> what went wrong, for those that failed this time.
    """
    from nbconvert.filters import markdown2html  # slow to import

    shutil.rmtree(folder / FIGURES, ignore_errors=True)  # notebooks may have had others
    (folder / FIGURES).mkdir()
    failures, documents, sections = dict(errors), [], []
    for name in suite.notebooks:
        executed, results = folder / f"{name}.ipynb", folder / f"{name}.json"
        cells = nbformat.read(executed, as_version=4) if executed.exists() else nbformat.v4.new_notebook()
        error = errors.get(name) or cells.metadata.get(ERROR_KEY)
        if error:
            failures[name] = error
        elif results.exists():
            # Notebooks of others may write no more than the contract asks for.
            documents.append({"pictures": "", "not_run": []} | json.loads(results.read_text()))
            sections.append(_section(suite, documents[-1], cells, folder))
    parts = [_head(suite, documents, failures, folder), *sections]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    parts.append(", ".join([f"Python {sys.version.split()[0]}", *versions]))
    text = "\n\n".join(parts) + "\n"
    write_text(folder / "report.md", text)
    body = re.sub(
        rf'(?<=src="){FIGURES}/[^"]+',
        lambda link: _embedded(folder / link[0]),
        markdown2html(text),
    )
    page = _template("report.html").substitute(profile=suite.profile, body=body)
    write_text(folder / "report.html", page)


def _embedded(picture: Path) -> str:
    """A picture as an address of itself, for a page in one file."""
    return f"data:image/{picture.suffix[1:]};base64,{base64.b64encode(picture.read_bytes()).decode()}"


def _template(name: str) -> Template:
    return Template(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def _head(suite: Suite, documents: Sequence[dict], failures: Mapping[str, str], folder: Path) -> str:
    """Headline, its figure, contents, and the claims, each once."""
    claims = unique_claims(documents)
    parts = [f"# What DeepMAC claims, checked: profile {suite.profile}"]
    parts += [f"**{name} failed**: {html.escape(error, quote=False)}" for name, error in failures.items()]
    if documents:
        said = sentences(suite.profile, documents, suite.quoted, suite.settings.models)
        parts.append("\n".join(f"- {sentence}" for sentence in said))
    of_paper = [claim for claim in claims if claim["kind"] == "paper" and claim["ci95"]]
    if of_paper:
        path = folder / FIGURES / "headline.png"
        forest_plot(of_paper).savefig(path, format="png", metadata={"Software": None})
        parts.append(_figure(path.name, _CAPTION))
    names = [document["notebook"] for document in documents]
    links = [f"[{suite.notebooks[name].title or name}](#{name})" for name in names]
    parts.append("**Contents**: " + " · ".join(["[Claims](#claims)", *links]))
    said_of_claims = {"counts": counts(claims).capitalize(), "no_difference": f"{NO_DIFFERENCE:g}"}
    parts.append(_template("claims.md").substitute(said_of_claims).strip())
    if (folder.parent / "README.md").exists():
        parts.append(_RUNS)
    for kind, name in KINDS.items():
        of_kind = [claim for claim in claims if claim["kind"] == kind]
        if of_kind:
            linked = [{**claim, "text": f"[{claim['text']}](#{claim['notebook']})"} for claim in of_kind]
            table = markdown(claims_frame(linked))
            title = f"{name.capitalize()} ({len(of_kind)})"
            parts.append(f"**{title}**\n\n{table}" if kind == "paper" else _folded(title, table))
    return "\n\n".join(parts)


def unique_claims(documents: Sequence[dict]) -> list[dict]:
    """The claims of several results files, with the `notebook` of each; each difference once.

    Notebooks may check the same difference in other words: the first ones stay.
    """
    unique: dict[tuple, dict] = {}
    for document in documents:
        for claim in document["claims"]:
            numbers = (claim["difference"], *claim["ci95"]) if claim["ci95"] else ()
            key = numbers or (claim["text"], claim["evidence"])
            unique.setdefault(key, {**claim, "notebook": document["notebook"]})
    return list(unique.values())


def counts(claims: Sequence[dict]) -> str:
    """How many claims of each kind there are, with their verdicts, in words."""
    texts = []
    for kind, title in KINDS.items():
        verdicts = Counter(claim["verdict"] for claim in claims if claim["kind"] == kind)
        if verdicts:
            parts = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in VERDICTS if verdicts[verdict])
            texts.append(f"{title} ({verdicts.total()}): {parts}")
    return "; ".join(texts)


def sentences(
    profile: str, documents: Sequence[dict], quoted: Collection[str] = (), models: str = ""
) -> list[str]:
    """The result of a profile, from its notebooks' results files, in five sentences of Markdown.

    They say what the paper claims, on which pictures it was checked, what shows, what does not, and what has
    not been run. Others give the central claim, if it was checked, and say where masks of unseen classes are
    not better than an ellipse in the box.
    `quoted` are names of lines of other papers' methods, not to be reproduced; `models` what is trained.
    """
    all_claims = unique_claims(documents)
    claims = [claim for claim in all_claims if claim["kind"] == "paper"]
    of = {verdict: [claim for claim in claims if claim["verdict"] == verdict] for verdict in VERDICTS}
    central = [claim for claim in claims if CENTRAL in claim["text"]]  # in a line of their own
    others = {verdict: [claim for claim in of[verdict] if claim not in central] for verdict in of}
    shows, does_not_show, is_open = "Shows", "Does not show", "Open"
    if central:
        shows, does_not_show, is_open = "Also shows", "Also does not show", "Also open"
    checked = [one for one in documents if any(claim["notebook"] == one["notebook"] for claim in claims)]
    used = [document["pictures"] for document in checked or documents if document["pictures"]]
    pictures = ", and on ".join(dict.fromkeys(used))
    published = {
        (row["name"], row["metric"]): row["measured"]
        for document in documents
        for row in document["rows"]
        if row["published"] is not None and row["name"] not in quoted
    }
    missing = sum(measured is None for measured in published.values())
    size, comparable = "the published models", ""
    if profile != "paper":
        size = "models far smaller than the published ones" + (f" ({models})" if models else "")
        pictures += ". Boxes are given, since so small a detector finds few objects"
        comparable = ", and those run are not comparable with them: only differences are"
    of_others = f" {len(quoted)} more are other papers' and only quoted." if quoted else ""
    not_shown = len(of["contradicted"]) + len(of["no difference"])
    said = [
        "**[The paper](https://arxiv.org/abs/2104.00613) claims** that the architecture of the mask head "
        "decides how well masks come out for unseen classes (boxes in training, but no masks), although "
        "heads do about equally well when masks of all classes are given.",
        f"**{len(claims)} of its claims were checked here, {len(of['holds'])} shown, {not_shown} not, "
        f"{len(of['undecided'])} left open**: with {size}, on {pictures}.",
        f"**{shows}**: {_listed(others['holds'])}.",
        f"**{does_not_show}**: contradicted: {_listed(others['contradicted'])}; no difference larger "
        f"than {NO_DIFFERENCE:g} AP: {_listed(others['no difference'])}.",
        f"**{is_open}**: {_listed(others['undecided'])}. "
        f"{missing} of {len(published)} published values were not run{comparable}.{of_others}",
    ]
    if central:
        verdicts = [claim | {"text": f"{claim['verdict']}: {claim['text']}"} for claim in central]
        said.insert(2, f"**The central claim** {_listed(verdicts)}.")
    below = [claim for claim in all_claims if ELLIPSE in claim["text"] and claim["verdict"] != "holds"]
    if below:
        said.append(
            f"**Mind**: it is not shown that {_listed(below)}. Differences between heads that are no better "
            "than that say little."
        )
    return said


def _listed(claims: Sequence[dict]) -> str:
    """ "a (+1.0 [+0.2, +1.8], 3 seeds); b (…)" of claims; "none" without any."""
    texts = []
    for claim in claims:
        evidence = claim["evidence"]
        if claim["ci95"]:
            value, low, high = (number(part, 1, sign=True) for part in (claim["difference"], *claim["ci95"]))
            seeds = "but one seed only" if claim["seeds"] == 1 else f"{claim['seeds']} seeds"
            evidence = f"{value} [{low}, {high}], {seeds}"
        texts.append(f"{claim['text']} ({evidence})")
    return "; ".join(texts) or "none"


def _section(suite: Suite, document: dict, cells: nbformat.NotebookNode, folder: Path) -> str:
    """A notebook: its figures and a compact table; everything else, and checks of the software, folded."""
    name = document["notebook"]
    shown, appendix = _figures(cells, name, folder)
    frame = results_frame(document["rows"], suite.profile)
    # The values of figures are those of tables.
    compact = _compact(frame) if document["pictures"] and not name.startswith("figure_") else frame.iloc[:0]
    details = [markdown(frame)] if compact.shape != frame.shape else []
    sources = {f"{number(row['published'])}: {row['source']}" for row in document["rows"] if row["source"]}
    details += appendix
    if left_out := [line for line in document["not_run"] if line not in suite.quoted]:
        details.append(f"Not run in this profile: {'; '.join(left_out)}.")
    of_rows = "of training and evaluation, summed over runs, which may have run side by side"
    details.append(
        f"[Executed notebook]({name}.ipynb); {document['hardware']}; {document['seconds'] / 60:.1f} minutes "
        f"{of_rows if suite.notebooks[name].rows else 'of its last execution'}; "
        f"configuration {document['config_sha256'][:12]}, deepmac {document['code_version']}."
    )
    anchor, title = f'<a id="{name}"></a>', suite.notebooks[name].title or name
    if not document["pictures"]:
        return f"{anchor}\n\n{_folded(title, *shown, *details)}"
    table = [markdown(compact)] if len(compact) else []
    if sources:
        table.append(f"Published values, and the models they belong to: {'; '.join(sorted(sources))}.")
    pictures = f"Pictures: {document['pictures']}."
    if suite.settings.shown:
        pictures += f" Masks in figures are of {str(suite.shown_dataset).partition(':')[0]}."
    return "\n\n".join([anchor, f"## {title}", *shown, *table, pictures, _folded("Details", *details)])


def _compact(frame: pd.DataFrame) -> pd.DataFrame:
    """Measures of masks that some trained lines have, and published values.

    Differences without a published value are drawn in the figure and decide claims.
    """
    filled = frame != "-"
    trained = filled[filled["seeds"]] if "seeds" in frame else filled
    published = [column for column in frame if column.startswith("published")]
    measured = [
        column
        for column in frame
        if column.startswith(("mask ", "measured")) and filled[column].mean() >= 0.3 and trained[column].any()
    ]
    is_drawn = frame[""].str.contains(MINUS) & ~filled[published].any(axis=1)
    is_filled = filled[measured + published].any(axis=1)
    columns = [column for column in frame if column in ("", "metric", "seeds", *measured, *published)]
    return frame.loc[is_filled & ~is_drawn, columns]


def _folded(title: str, *parts: str) -> str:
    return "\n\n".join([f"<details><summary>{title}</summary>", *parts, "</details>"])


def _figures(notebook: nbformat.NotebookNode, name: str, folder: Path) -> tuple[list[str], list[str]]:
    """Saves the pictures that an executed notebook shows; returns Markdown of each, the appendix apart.

    A figure's caption is the cell after it that is tagged so, or else the text before it. Figures of cells
    tagged "details" are part of the appendix, too.
    """
    shown: list[str] = []
    appendix: list[str] = []
    caption, place, path = "", shown, folder
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            place = appendix if cell.source.startswith(APPENDIX) else place
            text = [line for line in cell.source.splitlines() if not line.startswith("#")]
            caption = " ".join(" ".join(text).split())
            if "caption" in cell.metadata.get("tags", []):
                place[-1], caption = _figure(path.name, caption), ""
        figures = appendix if "details" in cell.metadata.get("tags", []) else place
        for output in cell.get("outputs", []):
            kinds = [kind for kind in ("png", "jpeg") if f"image/{kind}" in output.get("data", {})]
            for kind in kinds[:1]:
                path = folder / FIGURES / f"{name}-{len(shown) + len(appendix) + 1}.{kind}"
                path.write_bytes(base64.b64decode(output.data[f"image/{kind}"]))
                figures.append(_figure(path.name, caption))
                caption = ""
    return shown, appendix


def _figure(name: str, caption: str) -> str:
    """Markdown of a picture: its description, the caption as text, and with its links below it."""
    plain = re.sub(r"[\[\]*`]|\]\([^)]*\)", "", caption)
    return f"![{plain}]({FIGURES}/{name})\n\n*{caption.replace('*', '')}*".removesuffix("\n\n**")
