import pytest
import tensorflow as tf

from deepmac.core import machine
from deepmac.core.errors import InputError
from deepmac.core.machine import resolve_precision


@pytest.mark.parametrize(
    ("flags", "onednn", "precision"),
    [
        ("flags : sse avx2 avx512_bf16", None, "bfloat16"),
        ("flags : sse amx_bf16 amx_tile", "1", "bfloat16"),
        ("flags : sse avx512_bf16", "0", "float32"),
        ("flags : sse avx2 avx512f", None, "float32"),
        (None, None, "float32"),  # not Linux
    ],
)
def test_auto_chooses_bfloat16_where_the_processor_has_it(tmp_path, monkeypatch, flags, onednn, precision):
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(f"processor : 0\n{flags}\n")
    monkeypatch.setattr(machine, "_CPUINFO", cpuinfo)
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if onednn is not None:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", onednn)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    assert resolve_precision("auto") == precision


@pytest.mark.parametrize(
    ("device", "capability", "precision"),
    [
        ("TPU", None, "bfloat16"),
        ("GPU", (8, 0), "bfloat16"),
        ("GPU", (7, 5), "float32"),
        ("GPU", None, "float32"),
    ],
)
def test_auto_asks_accelerators_first(monkeypatch, device, capability, precision):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind] if kind == device else [])
    details = {} if capability is None else {"compute_capability": capability}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    assert resolve_precision("auto") == precision


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match="auto, float32, bfloat16"):
        resolve_precision("float16")
    assert resolve_precision("bfloat16") == "bfloat16"
