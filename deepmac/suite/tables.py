"""Tables of the notebooks, as pandas Stylers, and the lines they show."""

from collections.abc import Sequence

import pandas as pd

from deepmac.suite.results import VERDICTS, Claim, Measurement, ResultRow
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


def results_table(result_rows: Sequence[ResultRow], not_run: Sequence[str] = ()):
    """Shows results as a pandas Styler: published, measured, difference, 95 % interval, seeds, source.

    Args:
        result_rows: the lines.
        not_run: names of the lines that the profile leaves out.
    """
    frame = pd.DataFrame([row.as_dict() for row in result_rows])
    frame["difference"] = frame["measured"] - frame["published"].astype(float)
    left_out = pd.DataFrame({"name": list(not_run), "metric": "", "measured": "not run"})
    frame = pd.concat([frame.astype({"measured": object}), left_out]).set_index(["name", "metric"])
    columns = ["published", "measured", "difference", "ci95", "seeds", "source"]
    return frame[columns].style.format(_cell, na_rep="-").format(_seeds, subset=["seeds"])


def claims_table(claims: Sequence[Claim]):
    """Shows claims as a pandas Styler."""
    frame = pd.DataFrame(
        [
            {"claim": claim.text, "result": VERDICTS[claim.holds], "evidence": claim.evidence}
            for claim in claims
        ]
    )
    return frame.style.hide(axis="index").set_properties(**{"text-align": "left"})


def comparison_table(study: Study, metrics: Sequence[str] = METRICS):
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
        record = records[line.name] = {("", "seeds"): str(len(line.runs))}
        if line.base in names:
            record["", "compared with"] = names[line.base]
        for metric in metrics:
            value = study.measurement(line.key, metric)
            record[_short(metric), "value"] = with_interval(value)
            if line.base in names:
                difference = value - study.measurement(line.base, metric)
                record[_short(metric), "difference"] = with_interval(difference, "+.1f")
    columns = [("", "seeds"), ("", "compared with")]
    columns += [(_short(metric), part) for metric in metrics for part in ("value", "difference")]
    frame = pd.DataFrame.from_dict(records, orient="index", columns=pd.MultiIndex.from_tuples(columns))
    for name in study.not_run:
        frame.loc[name, columns[2]] = "not run"
    return frame.style.format(na_rep="-")


def with_interval(measurement: Measurement, number: str = ".1f") -> str:
    """A value with its 95 % interval, as text.

    Args:
        measurement: the value.
        number: format of it and of the interval's ends.
    """
    if measurement.value is None:
        return "-"
    ci95 = measurement.ci95
    interval = f" ({ci95[0]:{number}} to {ci95[1]:{number}})" if ci95 else ""
    return f"{measurement.value:{number}}{interval}"


def _short(metric: str) -> str:
    return metric.removeprefix("gt_boxes/mask/")


def _cell(value) -> str:
    if isinstance(value, list):
        return f"{value[0]:.1f} to {value[1]:.1f}"
    return value if isinstance(value, str) else f"{value:.1f}"


def _seeds(value) -> str:
    return f"{value:.0f}" if value else "-"
