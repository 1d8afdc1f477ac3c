"""Tables of the notebooks and the report: pandas frames of text, shown as Stylers or as Markdown."""

import dataclasses
from collections.abc import Sequence

import pandas as pd
from pandas.io.formats.style import Styler

from deepmac.suite.results import Claim, ResultRow, interval, number

# In the name of a line of differences, between the two that are compared.
MINUS = ", minus "
_BOXES = {"gt_boxes": "in annotated boxes", "detections": "of detections"}
_CLASSES = {
    **{"unseen": "unseen classes", "seen": "seen classes"},
    **{"voc": "VOC classes", "non_voc": "non-VOC classes"},
}
_MOST_COLUMNS = 6


def results_frame(rows: Sequence[dict], with_difference: bool = False) -> pd.DataFrame:
    """Results as text: a line for each name, a column for each metric; without columns that are empty.

    With more metrics than a page is wide, a line for each value.

    Args:
        rows: the lines as they stand in the results JSON, see `ResultRow.as_dict`.
        with_difference: whether measured and published values are comparable: shows their difference.
    """
    is_wide = len({row["metric"] for row in rows}) <= _MOST_COLUMNS
    records: dict = {}
    for row in rows:
        key = row["name"] if is_wide else (row["name"], row["metric"])
        record = records.setdefault(key, {"": row["name"]})
        title = metric_title(row["metric"]) if is_wide else "measured"
        if not is_wide:
            record["metric"] = metric_title(row["metric"])
        published, measured = row["published"], row["measured"]
        is_missing = measured is None and published is not None
        record[title] = "not run" if is_missing else _value(measured, row["ci95"])
        if published is not None:
            record[f"published {metric_title(row['metric'])}" if is_wide else "published"] = number(published)
            if with_difference and measured is not None:
                record["difference"] = number(measured - published, 1, sign=True)
        if row["seeds"]:
            record["seeds"] = str(row["seeds"])
    columns = list(dict.fromkeys(column for record in records.values() for column in record))
    columns.sort(key=lambda column: (column.startswith(("published", "difference")), column == "seeds"))
    frame = pd.DataFrame(list(records.values()), columns=columns).fillna("-")
    return frame.loc[:, (frame != "-").any()] if len(frame) else frame


def metric_title(metric: str) -> str:
    """A metric in words: "gt_boxes/mask/unseen/AP" is "mask AP, unseen classes, in annotated boxes"."""
    boxes, *parts, measure = metric.split("/") if "/" in metric else (metric, "")
    if boxes not in _BOXES or not parts:
        return metric
    kind, *classes = parts
    measure = "mean IoU" if measure == "mIoU" else measure
    return ", ".join([f"{kind} {measure}", *(_CLASSES.get(name, name) for name in classes), _BOXES[boxes]])


def published_sources(rows: Sequence[dict]) -> str:
    """Where each published value comes from: "35.5: 1024x1024, hourglass100: …; …"."""
    sources = {f"{number(row['published'])}: {row['source']}" for row in rows if row["source"]}
    return "; ".join(sorted(sources))


def results_table(result_rows: Sequence[ResultRow], profile: str = "") -> Styler:
    """Shows `results_frame` of some lines; in the profile `paper` with differences from published values."""
    frame = results_frame([row.as_dict() for row in result_rows], with_difference=profile == "paper")
    return frame.style.hide(axis="index").set_properties(**{"text-align": "left"})


def claims_frame(claims: Sequence[dict]) -> pd.DataFrame:
    """Claims, as they stand in the results JSON, with their verdict and evidence."""
    frame = pd.DataFrame(claims, columns=["text", "verdict", "evidence"])
    return frame.rename(columns={"text": "claim"})


def claims_table(claims: Sequence[Claim]) -> Styler:
    """Shows `claims_frame` of some claims."""
    frame = claims_frame([dataclasses.asdict(claim) for claim in claims])
    return frame.style.hide(axis="index").set_properties(**{"text-align": "left"})


def _value(value: float | None, ends: Sequence[float] | None) -> str:
    return f"{number(value, 1)} ({interval(ends)})" if ends else number(value)


def markdown(frame: pd.DataFrame) -> str:
    """A frame of text as a Markdown table, without padding: what did not change stays the same line."""
    lines = [frame.columns, ["---"] * len(frame.columns), *frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
