"""Tables of the notebooks, as pandas Stylers, and the lines they show."""

from collections.abc import Sequence

import pandas as pd

from deepmac.reproduction.results import ResultRow
from deepmac.reproduction.study import Study

# The columns of a table of rows: all measured from ground-truth boxes, so that only the mask can be wrong.
METRICS = ("gt_boxes/mask/unseen/AP", "gt_boxes/mask/seen/AP", "gt_boxes/mask/unseen/mIoU")


def study_rows(study: Study, metrics: Sequence[str] = METRICS) -> list[ResultRow]:
    """The lines of a study's table: for each the published metric, if there is one, and others.

    Args:
        study: a trained study.
        metrics: the others.
    """
    lines = []
    for line in study.lines:
        if line.metric:
            measured = study.measurement(line.key, line.metric)
            lines.append(ResultRow(line.name, line.metric, measured, line.published, line.source))
        others = [metric for metric in metrics if metric != line.metric]
        lines += [ResultRow(line.name, metric, study.measurement(line.key, metric)) for metric in others]
    return lines


def results_table(result_rows: Sequence[ResultRow]):
    """Shows results as a pandas Styler: published, measured, difference, 95 % interval, seeds, source."""
    frame = pd.DataFrame([row.as_dict() for row in result_rows])
    frame["difference"] = frame["measured"] - frame["published"].astype(float)
    frame = frame.set_index(["name", "metric"])
    columns = ["published", "measured", "difference", "ci95", "seeds", "source"]
    return frame[columns].style.format(precision=1, na_rep="-").format(_interval, subset=["ci95"])


def claims_table(claims):
    """Shows claims as a pandas Styler."""
    words = {True: "holds", False: "does not hold", None: "not enough evidence"}
    frame = pd.DataFrame(
        [{"claim": claim.text, "result": words[claim.holds], "evidence": claim.evidence} for claim in claims]
    )
    return frame.style.hide(axis="index").set_properties(**{"text-align": "left"})


def comparison_table(study: Study, base: str, keys: Sequence[str] | None = None):
    """Shows rows beside the one they change: every one of `METRICS`, and its difference from the base.

    Args:
        study: a trained study.
        base: name of the row the others are compared with.
        keys: the rows to show; all unless given.
    """
    records = {}
    for line in (line for line in study.lines if keys is None or line.key in keys):
        for metric in METRICS:
            value, reference = study.measurement(line.key, metric), study.measurement(base, metric)
            short = metric.removeprefix("gt_boxes/mask/")
            records.setdefault(line.name, {})[short] = value.value
            difference = value - reference
            if line.key != base and difference.value is not None:
                interval = f" ({_interval(difference.ci95)})" if difference.ci95 else ""
                records[line.name][f"{short} - base"] = f"{difference.value:+.1f}{interval}"
    frame = pd.DataFrame.from_dict(records, orient="index")
    return frame.style.format(lambda cell: cell if isinstance(cell, str) else f"{cell:.1f}", na_rep="-")


def _interval(ci95) -> str:
    return "-" if ci95 is None else f"{ci95[0]:.1f} to {ci95[1]:.1f}"
