"""What a report says first: five sentences, computed from the results."""

from collections import Counter
from collections.abc import Sequence

from deepmac.suite.results import KINDS, VERDICTS, interval, number

KIND_TITLES = {
    "paper": "claims of the paper",
    "own": "own observations",
    "software": "checks of the software",
}


def unique_claims(documents: Sequence[dict]) -> list[dict]:
    """The claims of several results files, each difference once: notebooks may check it in other words."""
    claims = [claim for document in documents for claim in document["claims"]]
    unique: dict[tuple, dict] = {}
    for claim in claims:
        unique.setdefault(("" if claim["ci95"] else claim["text"], claim["evidence"]), claim)
    return list(unique.values())


def counts(claims: Sequence[dict]) -> str:
    """How many claims of each kind there are, with their verdicts, in words."""
    texts = []
    for kind in KINDS:
        verdicts = Counter(claim["verdict"] for claim in claims if claim["kind"] == kind)
        if verdicts:
            parts = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in VERDICTS if verdicts[verdict])
            texts.append(f"{KIND_TITLES[kind]} ({verdicts.total()}): {parts}")
    return "; ".join(texts)


def sentences(profile: str, documents: Sequence[dict]) -> list[str]:
    """The result of a profile in five sentences.

    Args:
        profile: its name.
        documents: results files of its notebooks.

    Returns:
        Markdown: what the paper claims, on which pictures it was checked, what shows, what does not, and
        what has not been run.
    """
    claims = [claim for claim in unique_claims(documents) if claim["kind"] == "paper"]
    of = {verdict: [claim for claim in claims if claim["verdict"] == verdict] for verdict in VERDICTS}
    checked = [one for one in documents if any(claim["kind"] == "paper" for claim in one["claims"])]
    used = [document["pictures"] for document in checked or documents if document["pictures"]]
    pictures = ", and on ".join(dict.fromkeys(used))
    size = "the published models" if profile == "paper" else "models far smaller than the published ones"
    published = {
        (row["name"], row["metric"]): row["measured"]
        for document in documents
        for row in document["rows"]
        if row["published"] is not None
    }
    missing = sum(measured is None for measured in published.values())
    comparable = "" if profile == "paper" else "; those that were cannot be compared, only differences can"
    not_shown = [*of["contradicted"], *of["no difference"]]
    return [
        "**The paper claims** that the architecture of the mask head decides how well masks come out for "
        "classes without masks, although heads do about equally well when masks of all classes are given.",
        f"**Checked here** with {size}, on {pictures}.",
        f"**Shows**: {len(of['holds'])} of its {len(claims)} claims checked{_listed(of['holds'])}.",
        f"**Does not show**: {len(not_shown)}{_listed(not_shown)}; "
        f"undecided: {len(of['undecided'])}{_listed(of['undecided'])}.",
        f"**Not run**: {missing} of {len(published)} published values{comparable}.",
    ]


def _listed(claims: Sequence[dict]) -> str:
    """ ": a (+1.0 [+0.2, +1.8], 3 seeds); b (…)" of claims; empty without any."""
    texts = []
    for claim in claims:
        if claim["ci95"]:
            seeds = f"{claim['seeds']} seed{'s' * (claim['seeds'] != 1)}"
            ends = interval(claim["ci95"], sign=True)
            texts.append(f"{claim['text']} ({number(claim['difference'], 1, sign=True)}, {ends}; {seeds})")
        else:
            texts.append(f"{claim['text']} ({claim['evidence']})")
    return ": " + "; ".join(texts) if texts else ""
