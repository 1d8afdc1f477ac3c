"""What a report says first: five sentences, computed from the results."""

from collections import Counter
from collections.abc import Collection, Sequence

from deepmac.suite.results import KINDS, NO_DIFFERENCE, VERDICTS, number

# In the claims that compare masks with what a box alone gives.
ELLIPSE = "masks of unseen non-VOC classes beat the inscribed ellipse"


def unique_claims(documents: Sequence[dict]) -> list[dict]:
    """The claims of several results files, with the `notebook` of each; each difference once.

    Notebooks may check the same difference in other words: the first ones stay.
    """
    unique: dict[tuple, dict] = {}
    for document in documents:
        for claim in document["claims"]:
            key = ("" if claim["ci95"] else claim["text"], claim["evidence"])
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
    not been run; a sixth, where masks of unseen classes are not better than an ellipse in the box, says so.
    `quoted` are names of lines of other papers' methods, not to be reproduced; `models` what is trained.
    """
    all_claims = unique_claims(documents)
    claims = [claim for claim in all_claims if claim["kind"] == "paper"]
    of = {verdict: [claim for claim in claims if claim["verdict"] == verdict] for verdict in VERDICTS}
    checked = [one for one in documents if any(claim["kind"] == "paper" for claim in one["claims"])]
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
    others = f" {len(quoted)} more are other papers' and only quoted." if quoted else ""
    not_shown = len(of["contradicted"]) + len(of["no difference"])
    said = [
        "**[The paper](https://arxiv.org/abs/2104.00613) claims** that the architecture of the mask head "
        "decides how well masks come out for unseen classes (boxes in training, but no masks), although "
        "heads do about equally well when masks of all classes are given.",
        f"**{len(claims)} of its claims were checked here, {len(of['holds'])} shown, {not_shown} not, "
        f"{len(of['undecided'])} left open**: with {size}, on {pictures}.",
        f"**Shows**: {_listed(of['holds'])}.",
        f"**Does not show**: contradicted: {_listed(of['contradicted'])}; no difference larger "
        f"than {NO_DIFFERENCE:g} AP: {_listed(of['no difference'])}.",
        f"**Open**: {_listed(of['undecided'])}. "
        f"{missing} of {len(published)} published values were not run{comparable}.{others}",
    ]
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
