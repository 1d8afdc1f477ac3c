"""What this machine is."""

import os
import platform
from pathlib import Path


def hardware() -> str:
    """One line on the machine: processor, cores, memory."""
    cpu = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in _lines(cpu) if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB"


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []
