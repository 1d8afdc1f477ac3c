"""Times things against each other on a machine that others use too."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Timing(NamedTuple):
    """Medians of some calls.

    Attributes:
        wall: seconds on the clock; grows with what else the machine does.
        cpu: seconds that the process computed, all threads together; hardly does.
    """

    wall: float
    cpu: float


def interleaved(
    calls: Mapping[str, Callable[[], object]], repeats: int, warm_ups: int = 2
) -> dict[str, Timing]:
    """Calls several things in turn, so that what disturbs the machine disturbs all of them alike.

    Args:
        calls: name -> what to call; it returns when everything is computed.
        repeats: timed calls of each.
        warm_ups: calls of each before: the first ones compile and prepare.

    Returns:
        Name -> medians.
    """
    samples = {name: [] for name in calls}
    for repeat in range(-warm_ups, repeats):
        for name, call in calls.items():
            cpu, wall = time.process_time(), time.perf_counter()
            call()
            sample = Timing(time.perf_counter() - wall, time.process_time() - cpu)
            if repeat >= 0:
                samples[name].append(sample)
    return {name: Timing(*map(statistics.median, zip(*s, strict=True))) for name, s in samples.items()}


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
