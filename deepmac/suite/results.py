"""Results of a notebook: measured values beside published ones, claims with their evidence, JSON."""

import dataclasses
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepmac.core.files import write_text
from deepmac.core.machine import hardware
from deepmac.evaluation.bootstrap import confidence_interval
from deepmac.evaluation.files import Evaluation

# Of claims, as reports list and title them: the paper's, what was seen here, what software must do.
KINDS = {"paper": "claims of the paper", "own": "own observations", "software": "checks of the software"}
VERDICTS = ("holds", "contradicted", "no difference", "undecided")
# In percent: a difference whose whole interval is smaller is none that matters.
NO_DIFFERENCE = 1.0


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A metric over seeds.

    Attributes:
        value: mean over the seeds, AP and IoU in percent; None where there is no ground truth.
        samples: float [resamples], bootstrap over images and seeds; empty if there is none.
        seeds: number of training runs, of a difference the smaller one; 0 if nothing was trained for it.
        of_seeds: the value of each run; of a difference only if both have as many.
    """

    value: float | None
    samples: np.ndarray
    seeds: int
    of_seeds: Sequence[float] = ()

    @classmethod
    def from_evaluations(cls, evaluations: Sequence[Evaluation], metric: str) -> "Measurement":
        """Takes a metric from the evaluations of the seeds.

        Each sample draws images, the same for all seeds, and then seeds, both with replacement; the same
        seeds for all rows of as many seeds, since a seed decides their input order too.
        """
        values = [evaluation.metrics.get(metric) for evaluation in evaluations]
        value = None if None in values else float(np.mean(values))
        samples = [evaluation.bootstrap.get(metric, []) for evaluation in evaluations]
        by_seed = np.array(samples, np.float64)[:, 1:]  # (seeds, resamples); element 0 is the value itself
        draws = np.random.default_rng(0).integers(len(by_seed), size=by_seed.shape)
        resampled = np.take_along_axis(by_seed, draws, axis=0).mean(axis=0)
        of_seeds = () if value is None else tuple(values)
        return cls(value, resampled[np.isfinite(resampled)], len(evaluations), of_seeds)

    @classmethod
    def exact(cls, value: float | None) -> "Measurement":
        """A value without samples, for which nothing was trained."""
        return cls(value, np.empty(0), 0)

    def __sub__(self, other: "Measurement") -> "Measurement":
        """The difference, whose samples draw the same images for both; one without samples is exact."""
        value = None if self.value is None or other.value is None else self.value - other.value
        count = min([m.samples.size for m in (self, other) if m.samples.size], default=0)
        one, two = (m.samples[:count] if m.samples.size else m.value for m in (self, other))
        samples = one - two if count and value is not None else []
        seeds = min([m.seeds for m in (self, other) if m.seeds], default=0)
        of_seeds = ()
        if len(self.of_seeds) == len(other.of_seeds):
            of_seeds = tuple(np.subtract(self.of_seeds, other.of_seeds).tolist())
        return Measurement(value, np.asarray(samples, np.float64), seeds, of_seeds)

    @property
    def ci95(self) -> tuple[float, float] | None:
        """95 % interval: what another draw of as many images, and of seeds, would give."""
        if self.value is None or not self.samples.size:
            return None
        return confidence_interval(self.value, self.samples)


@dataclasses.dataclass(frozen=True)
class ResultRow:
    """A line of the results: a metric of a configuration, or None, beside its published value."""

    name: str
    metric: str
    measurement: Measurement
    published: float | None = None
    source: str | None = None

    @classmethod
    def exact(cls, name: str, metric: str, value: float | None) -> "ResultRow":
        """A line without interval or published value, for which nothing was trained; infinity is None."""
        is_number = value is not None and np.isfinite(value)
        return cls(name, metric, Measurement.exact(float(value) if is_number else None))

    def as_dict(self) -> dict:
        """The line as it stands in the results JSON."""
        ci95 = self.measurement.ci95
        return {
            "name": self.name,
            "metric": self.metric,
            "published": self.published,
            "measured": _rounded(self.measurement.value),
            "ci95": None if ci95 is None else [_rounded(value) for value in ci95],
            "seeds": self.measurement.seeds,
            "source": self.source,
        }


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement checked by code.

    Attributes:
        text: the statement.
        kind: whose it is: one of `KINDS`.
        verdict: one of `VERDICTS`.
        evidence: the numbers, or why it is undecided.
        difference: what decides it, in percent; None where it is no difference.
        ci95: its 95 % interval.
        seeds: training runs behind it, of the row that has fewer.
        alike: whether it claims that there is no difference.
    """

    text: str
    kind: str
    verdict: str
    evidence: str
    difference: float | None = None
    ci95: Sequence[float] | None = None
    seeds: int = 0
    alike: bool = False

    @classmethod
    def checked(cls, text: str, holds: bool | None, evidence: str) -> "Claim":
        """A claim about the software that holds or not; `holds` is None when it could not be checked."""
        verdict = {True: "holds", False: "contradicted", None: "undecided"}[holds]
        return cls(text, "software", verdict, evidence)


def number(value: float | None, decimals: int | None = None, sign: bool = False) -> str:
    """A number as all tables show it; "-" for None.

    Args:
        value: the number.
        decimals: how many; unless given about three digits, thousands separated, powers of ten below 0.01.
        sign: whether to write the + of positive ones.
    """
    if value is None:
        return "-"
    plus, size = "+" if sign else "", abs(value)
    if decimals is not None:
        return f"{value:{plus}.{decimals}f}"
    if size >= 1000 or size == 0:
        return f"{value:{plus},.0f}"
    if size >= 10:
        return f"{value:{plus}.1f}"
    return f"{value:{plus}.2f}" if size >= 0.01 else f"{value:{plus}.1e}"


def interval(ends: Sequence[float], sign: bool = False) -> str:
    """An interval in percent: "30.0 to 32.0"."""
    return " to ".join(number(end, 1, sign) for end in ends)


def higher(text: str, better: Measurement, worse: Measurement, kind: str = "own") -> Claim:
    """Claims that one measurement is higher than another.

    Decided by the 95 % interval of the difference, whose samples draw the same images for both. One training
    run of a row does not tell how much another would differ, which may well be more than what is claimed: two
    trained rows are compared only if both have several seeds.

    Args:
        text: the claim.
        better: what should be higher.
        worse: what should be lower; one without samples counts as exact.
        kind: whose claim it is.

    Returns:
        Holds when the interval lies above zero, contradicted when it lies below; no difference when all of it
        is within `NO_DIFFERENCE` of zero, undecided otherwise.
    """
    difference = better - worse
    if difference.ci95 is None:
        return Claim(text, kind, "undecided", "no value for one of the two")
    low, high = difference.ci95
    evidence = (
        f"{number(better.value, 1)} against {number(worse.value, 1)}, {_seeds_text(better, worse)}: "
        f"difference {number(difference.value, 1, sign=True)}, "
        f"95 % interval {interval(difference.ci95, sign=True)}"
    )
    if len(difference.of_seeds) > 1:
        evidence += f", by seed {', '.join(number(value, 1, sign=True) for value in difference.of_seeds)}"
    if min(better.seeds, worse.seeds) == 1:
        verdict, reason = "undecided", ", which leaves out the spread between training runs"
    elif low > 0 or high < 0:
        verdict, reason = "holds" if low > 0 else "contradicted", ""
    elif max(-low, high) <= NO_DIFFERENCE:
        verdict, reason = "no difference", f", all of it within {NO_DIFFERENCE:g} of zero"
    else:
        verdict, reason = "undecided", ", too wide to tell"
    low, high, value = (round(part, 4) for part in (low, high, difference.value))
    return Claim(text, kind, verdict, evidence + reason, value, (low, high), difference.seeds)


def alike(text: str, one: Measurement, other: Measurement, kind: str = "own") -> Claim:
    """Claims that two measurements differ by less than `NO_DIFFERENCE`; see `higher`.

    Returns:
        Holds when all of the interval is within `NO_DIFFERENCE` of zero, contradicted when none of it is,
        undecided otherwise.
    """
    claim = dataclasses.replace(higher(text, one, other, kind), alike=True)
    if claim.ci95 is None or min(one.seeds, other.seeds) == 1:
        return claim
    low, high = claim.ci95
    within = max(-low, high) <= NO_DIFFERENCE
    apart = low > NO_DIFFERENCE or high < -NO_DIFFERENCE
    verdict = "holds" if within else "contradicted" if apart else "undecided"
    return dataclasses.replace(claim, verdict=verdict)


def _seeds_text(*measurements: Measurement) -> str:
    """ "3 seeds", "3 seeds each" or "1 and 3 seeds"; untrained ones do not count."""
    seeds = [measurement.seeds for measurement in measurements if measurement.seeds]
    if not seeds:
        return "nothing trained"
    counted = " and ".join(map(str, dict.fromkeys(seeds)))
    each = " each" if len(set(seeds)) < len(seeds) else ""
    return f"{counted} seed{'s' * (counted != '1')}{each}"


def write_results(
    path: str | Path | None,
    notebook: str,
    parameters: dict,
    config_sha256: str,
    rows: Sequence[ResultRow],
    claims: Sequence[Claim],
    seconds: float,
    not_run: Sequence[str] = (),
    trained_on: Sequence[str] = (),
    pictures: str = "",
):
    """Writes a notebook's results as JSON.

    Args:
        path: the file; replaced in one step. None writes nothing (interactive use).
        notebook: its name.
        parameters: what papermill gave it.
        config_sha256: hash of everything that decides the numbers.
        rows: the lines.
        claims: the checked statements.
        seconds: time of the training and evaluation behind the numbers, summed over training runs, also
            those that ran side by side or before.
        not_run: names of the table's lines that the profile leaves out.
        trained_on: the machines of the training runs; this one unless given.
        pictures: what the rows learned from and were measured on.
    """
    if path is None:
        return
    document = {
        "notebook": notebook,
        "parameters": parameters,
        "config_sha256": config_sha256,
        "code_version": importlib.metadata.version("deepmac"),
        "seconds": round(seconds, 1),
        "hardware": "; ".join(trained_on or [hardware()]),
        "pictures": pictures,
        "not_run": list(not_run),
        "rows": [row.as_dict() for row in rows],
        "claims": [dataclasses.asdict(claim) for claim in claims],
    }
    write_text(path, json.dumps(document, indent=1) + "\n")


def _rounded(value):
    """Four decimals, so that tables round to one as claims do; of what is below 0.01, two digits."""
    if value is None:
        return None
    return round(value, 4) if abs(value) >= 0.01 else float(f"{value:.1e}")
