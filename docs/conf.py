"""Sphinx configuration of the pages that `make site` builds: documentation, executed notebooks, reports."""

project = "deepmac"
author = "The deepmac authors"
root_doc = "docs/index"
extensions = ["myst_nb"]
include_patterns = [
    *("*.md", "docs/*.md", "configs/cluster/*.md", "deepmac/weights/*/*.md", "notebooks/*.ipynb"),
    *("papermill_runs/*.md", "papermill_runs/mini/[!.]*", "papermill_runs/subset/[!.]*"),
    *("papermill_runs/styles/[!.]*", "papermill_runs/photographs/[!.]*"),
]
nb_execution_mode = "off"  # notebooks are shown as `deepmac reproduce` executed them
nb_merge_streams = True
myst_heading_anchors = 3
suppress_warnings = [
    "misc.highlighting_failure",  # lines for the notebook, not for Python
    "mystnb.unknown_mime_type",  # widgets
    "toc.not_included",  # sources of notebooks, model cards: pages that others link to
]
html_theme = "sphinx_book_theme"
html_title = "deepmac"
html_theme_options = {"show_toc_level": 2}
