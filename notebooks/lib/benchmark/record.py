"""Rows and claims of the benchmark."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from deepmac.suite import results
from lib.benchmark.scope import Benchmark

NOT_MEASURED = "measured in the profiles mini, subset and paper only"


class Section(NamedTuple):
    """What one part of the benchmark found."""

    rows: Sequence[results.ResultRow]
    claims: Sequence[results.Claim] = ()


def row(name: str, metric: str, value: float) -> results.ResultRow:
    """A line of the results."""
    return results.ResultRow(name, metric, results.Measurement.exact(float(value)))


def at_most(text: str, value: float | None, limit: float, unit: str = "") -> results.Claim:
    """Claims that a value does not exceed a limit; undecided without a value."""
    if value is None:
        return results.Claim(text, None, NOT_MEASURED)
    return results.Claim(text, bool(value <= limit), f"{value:.3g}{unit}, at most {limit:g}{unit}")


def at_least(text: str, value: float | None, limit: float, unit: str = "") -> results.Claim:
    """Claims that a value reaches a limit; undecided without a value."""
    if value is None:
        return results.Claim(text, None, NOT_MEASURED)
    return results.Claim(text, bool(value >= limit), f"{value:.3g}{unit}, at least {limit:g}{unit}")


def rows_table(section: Section):
    """Shows a section's rows as a pandas Styler: a line for each name, a column for each metric."""
    frame = pd.DataFrame([(r.name, r.metric, r.measurement.value) for r in section.rows])
    frame.columns = ["", "metric", "value"]
    order = list(dict.fromkeys(frame["metric"]))
    table = frame.pivot_table("value", "", "metric", sort=False)[order]
    return table.style.format("{:.3g}", na_rep="")


def write(
    path: str | Path | None, benchmark: Benchmark, parameters: dict, sections: Sequence[Section], start: float
):
    """Writes the results JSON.

    Args:
        path: the file; None writes nothing (interactive use).
        benchmark: what was measured.
        parameters: the notebook's parameters.
        sections: what was found.
        start: `time.monotonic()` at the beginning.
    """
    if path is None:
        return
    results.write_results(
        path,
        notebook="benchmark",
        parameters=parameters,
        config_sha256=benchmark.sha256,
        rows=[line for section in sections for line in section.rows],
        claims=[claim for section in sections for claim in section.claims],
        seconds=time.monotonic() - start,
    )
