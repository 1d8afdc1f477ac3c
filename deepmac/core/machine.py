"""What to compute with, float32, or bfloat16 where the hardware has it, and how much there is to compute."""

import math
import os
import platform
import re
from pathlib import Path

from deepmac.core.errors import InputError

PRECISIONS = ("auto", "float32", "bfloat16")

RUNTIMES = ("auto", "onnx", "tensorflow")

_CPUINFO = Path("/proc/cpuinfo")  # Linux only
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a Linux container


def usable_cores() -> int:
    """Cores that this process may use, at most those its container is granted."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, period = _CPU_QUOTA.read_text().split() if _CPU_QUOTA.is_file() else ("max", "")
    return cores if quota == "max" else min(cores, math.ceil(int(quota) / int(period)))


def resolve_precision(precision: str) -> str:
    """Returns 'float32' or 'bfloat16'; 'auto' is bfloat16 where the hardware computes with it.

    Raises:
        InputError: unknown precision.
    """
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}: use one of {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    return "bfloat16" if computes_bfloat16() else "float32"


def computes_bfloat16() -> bool:
    """Whether the hardware computes with bfloat16; where it does not, gradients take some 20 times longer."""
    import tensorflow as tf  # not above: the command line needs only the names

    if tf.config.list_physical_devices("TPU"):
        return True
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability")
        return capability is not None and capability >= (8, 0)
    # TensorFlow's own kernels, used without oneDNN, convert every number.
    if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0" or not _CPUINFO.is_file():
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(_CPUINFO.read_text().split())


def flops(function) -> int:
    """Floating-point operations of a TensorFlow `ConcreteFunction` of known shapes; nothing is run."""
    import tensorflow as tf

    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    return tf.compat.v1.profiler.profile(function.graph, options=options).total_float_ops


def hardware() -> str:
    """One line on the machine: processor, cores, memory."""
    text = _CPUINFO.read_text() if _CPUINFO.is_file() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB"
