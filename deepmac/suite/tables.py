"""Tables of the notebooks and the report: pandas frames of text, shown as Stylers or as Markdown."""

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


def results_frame(rows: Sequence[dict], profile: str = "") -> pd.DataFrame:
    """Results as text: a line for each name, a column for each metric; without columns that are empty.

    With more metrics than a page is wide, a line for each value.

    Args:
        rows: the lines as they stand in the results JSON, see `ResultRow.as_dict`.
        profile: in `paper`, measured and published values are comparable: shows their difference.
    """
    is_wide = len({row["metric"] for row in rows}) <= _MOST_COLUMNS
    records: dict = {}
    for row in rows:
        published, measured, metric = row["published"], row["measured"], metric_title(row["metric"])
        if is_wide:
            record = records.setdefault(row["name"], {"": row["name"]})
            column, published_column = metric, f"published {metric}"
        else:
            record = records.setdefault((row["name"], row["metric"]), {"": row["name"], "metric": metric})
            column, published_column = "measured", "published"
        value = f"{number(measured, 1)} ({interval(row['ci95'])})" if row["ci95"] else number(measured)
        record[column] = "not run" if measured is None and published is not None else value
        if published is not None:
            record[published_column] = number(published)
            if profile == "paper" and measured is not None:
                record["difference"] = number(measured - published, 1, sign=True)
        if row["seeds"]:
            record["seeds"] = str(row["seeds"])
    frame = pd.DataFrame(list(records.values())).fillna("-")
    order = sorted(frame, key=lambda name: (name.startswith(("published", "difference")), name == "seeds"))
    return frame[[name for name in order if (frame[name] != "-").any()]]


def metric_title(metric: str) -> str:
    """A metric in words: "gt_boxes/mask/unseen/AP" is "mask AP, unseen classes, in annotated boxes"."""
    boxes, *parts, measure = metric.split("/") if "/" in metric else (metric, "")
    if boxes not in _BOXES or not parts:
        return metric
    kind, *classes = parts
    measure = "mean IoU" if measure == "mIoU" else measure
    return ", ".join([f"{kind} {measure}", *(_CLASSES.get(name, name) for name in classes), _BOXES[boxes]])


def results_table(result_rows: Sequence[ResultRow], profile: str = "") -> Styler:
    """Shows `results_frame` of some lines."""
    frame = results_frame([row.as_dict() for row in result_rows], profile)
    return frame.style.hide(axis="index").set_properties(**{"text-align": "left"})


def claims_frame(claims: Sequence[Claim] | Sequence[dict]) -> pd.DataFrame:
    """Claims, or what stands of them in the results JSON, with their verdict and evidence."""
    frame = pd.DataFrame(claims, columns=["text", "verdict", "evidence"])
    return frame.rename(columns={"text": "claim"})


def claims_table(claims: Sequence[Claim]) -> Styler:
    """Shows `claims_frame` of some claims."""
    return claims_frame(claims).style.hide(axis="index").set_properties(**{"text-align": "left"})


def markdown(frame: pd.DataFrame) -> str:
    """A frame of text as a Markdown table, without padding: what did not change stays the same line."""
    lines = [frame.columns, ["---"] * len(frame.columns), *frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
