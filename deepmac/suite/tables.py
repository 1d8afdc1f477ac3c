"""Tables of the notebooks and the report: pandas frames of text, shown as Stylers or as Markdown."""

import dataclasses
from collections.abc import Sequence

import pandas as pd
from pandas.io.formats.style import Styler

from deepmac.suite.results import VERDICTS, Claim, Measurement, ResultRow, interval, number
from deepmac.suite.study import Study

# The columns of a table of rows: all measured from ground-truth boxes, so that only the mask can be wrong.
METRICS = ("gt_boxes/mask/unseen/AP", "gt_boxes/mask/seen/AP", "gt_boxes/mask/unseen/mIoU")


def study_rows(study: Study, metrics: Sequence[str] = METRICS) -> list[ResultRow]:
    """The lines of a study's table: of each the published metric, if there is one, and others.

    A line that is compared with another one has a line of differences for each metric, too.

    Args:
        study: a trained study.
        metrics: the others.
    """
    names = {line.key: line.name for line in study.lines}
    lines = []
    for line in study.lines:
        published = {line.metric: (line.published, line.source)} if line.metric else {}
        for metric in [*published, *(metric for metric in metrics if metric != line.metric)]:
            measured = study.measurement(line.key, metric)
            of_line = published.get(metric, ()) if not line.base else ()
            lines.append(ResultRow(line.name, metric, measured, *of_line))
            if line.base in names:
                difference = measured - study.measurement(line.base, metric)
                name = f"{line.name}, minus {names[line.base]}"
                lines.append(ResultRow(name, metric, difference, *published.get(metric, ())))
    return lines


def results_frame(rows: Sequence[dict], not_run: Sequence[str] = ()) -> pd.DataFrame:
    """Results as text: published and measured values, difference, 95 % interval, seeds, source.

    Args:
        rows: the lines as they stand in the results JSON, see `ResultRow.as_dict`.
        not_run: names of the lines that the profile leaves out.
    """
    records = []
    for row in rows:
        published, measured = row["published"], row["measured"]
        difference = None if published is None or measured is None else measured - published
        records.append(
            {
                "row": row["name"],
                "metric": row["metric"],
                "published": number(published),
                "measured": number(measured),
                "difference": number(difference, 1, sign=True),
                "95 % interval": interval(row["ci95"]),
                "seeds": str(row["seeds"] or "-"),
                "source of the published value": row["source"] or "-",
            }
        )
    records += [{"row": name, "metric": "", "measured": "not run"} for name in not_run]
    return pd.DataFrame(records).fillna("-")


def results_table(result_rows: Sequence[ResultRow], not_run: Sequence[str] = ()) -> Styler:
    """Shows `results_frame` of some lines."""
    frame = results_frame([row.as_dict() for row in result_rows], not_run)
    return frame.set_index(["row", "metric"]).style


def claims_frame(claims: Sequence[dict]) -> pd.DataFrame:
    """Claims, as they stand in the results JSON, with their verdict and evidence."""
    return pd.DataFrame(
        [
            {"claim": claim["text"], "result": VERDICTS[claim["holds"]], "evidence": claim["evidence"]}
            for claim in claims
        ]
    )


def claims_table(claims: Sequence[Claim]) -> Styler:
    """Shows `claims_frame` of some claims."""
    frame = claims_frame([dataclasses.asdict(claim) for claim in claims])
    return frame.style.hide(axis="index").set_properties(**{"text-align": "left"})


def comparison_table(study: Study, metrics: Sequence[str] = METRICS) -> Styler:
    """Shows lines beside the line each is compared with: values and differences, with 95 % intervals.

    Lines that are compared with none, and none with them, are left out: their values are of other classes.

    Args:
        study: a trained study.
        metrics: the columns.
    """
    names = {line.key: line.name for line in study.lines}
    bases = {line.base for line in study.lines}
    records = {}
    for line in study.lines:
        if line.base not in names and line.key not in bases:
            continue
        record = {("", "seeds"): str(len(line.runs)), ("", "compared with"): names.get(line.base)}
        for metric in metrics:
            title, value = metric.removeprefix("gt_boxes/mask/"), study.measurement(line.key, metric)
            record[title, "value"] = with_interval(value)
            record[title, "difference"] = None
            if line.base in names:
                difference = value - study.measurement(line.base, metric)
                record[title, "difference"] = with_interval(difference, sign=True)
        records[line.name] = record
    frame = pd.DataFrame.from_dict(records, orient="index")
    frame.columns = pd.MultiIndex.from_tuples(frame.columns)
    for name in study.not_run:
        frame.loc[name, frame.columns[2]] = "not run"
    return frame.style.format(na_rep="-")


def with_interval(measurement: Measurement, sign: bool = False) -> str:
    """A value in percent with its 95 % interval: "31.2 (30.0 to 32.4)"; with `sign`, of a difference."""
    ends = measurement.ci95
    return number(measurement.value, 1, sign) + (f" ({interval(ends, sign)})" if ends else "")


def markdown(frame: pd.DataFrame) -> str:
    """A frame of text as a Markdown table, without padding: what did not change stays the same line."""
    lines = [frame.columns, ["---"] * len(frame.columns), *frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
