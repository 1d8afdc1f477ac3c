"""Times things against each other on a machine that others use too."""

import dataclasses
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class Timing:
    """Some calls of one thing.

    Attributes:
        walls: seconds on the clock; they grow with what else the machine does.
        cpus: seconds that the process computed, all threads together; they hardly do.
    """

    walls: tuple[float, ...]
    cpus: tuple[float, ...]

    @property
    def wall(self) -> float:
        """Median seconds on the clock."""
        return statistics.median(self.walls)

    @property
    def cpu(self) -> float:
        """Median seconds computed."""
        return statistics.median(self.cpus)

    def __sub__(self, other: "Timing") -> "Timing":
        """What calls take longer than those of another thing in the same round."""
        return Timing(
            tuple(a - b for a, b in zip(self.walls, other.walls, strict=True)),
            tuple(a - b for a, b in zip(self.cpus, other.cpus, strict=True)),
        )


def interleaved(
    calls: Mapping[str, Callable[[], object]], repeats: int, warm_ups: int = 2
) -> dict[str, Timing]:
    """Calls several things in turn, so that what disturbs the machine disturbs all of them alike.

    Args:
        calls: name -> what to call; it returns when everything is computed.
        repeats: timed calls of each.
        warm_ups: calls of each before: the first ones compile and prepare.

    Returns:
        Name -> timing, whose calls are in the order of the rounds.
    """
    samples = {name: [] for name in calls}
    for repeat in range(-warm_ups, repeats):
        for name, call in calls.items():
            cpu, wall = time.process_time(), time.perf_counter()
            call()
            if repeat >= 0:
                samples[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: Timing(*zip(*rounds, strict=True)) for name, rounds in samples.items()}


def start_up_seconds(repeats: int) -> dict[str, float]:
    """Times fresh processes: Python alone, `import deepmac`, `deepmac --help`; name -> median seconds."""
    commands = {
        "python": [sys.executable, "-c", "pass"],
        "import deepmac": [sys.executable, "-c", "import deepmac"],
        "deepmac --help": [sys.executable, "-m", "deepmac", "--help"],
    }
    timings = interleaved({name: _runner(command) for name, command in commands.items()}, repeats, warm_ups=1)
    return {name: timing.wall for name, timing in timings.items()}


def _runner(command: Sequence[str]):
    return lambda: subprocess.run(command, check=True, capture_output=True)
