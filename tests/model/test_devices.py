"""Device and number format by what is there, and by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.errors import OptionError
from harness.model.devices import DTYPES, _cpu_flags, choose_device, choose_devices, choose_dtype, cpu_multiplies_bfloat16

CPU = torch.device("cpu")


def test_names_are_taken_as_given() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device(CPU) == CPU
    for name, dtype in DTYPES.items():
        assert choose_dtype(name, CPU) is dtype
        assert choose_dtype(dtype, CPU) is dtype
    assert choose_dtype("bf16", CPU) is torch.bfloat16


def test_the_choice_fits_the_machine() -> None:
    device = choose_device("auto")
    assert device == choose_device(None)
    assert torch.ones(2, device=device).sum().item() == 2
    assert choose_dtype(None, CPU) is (torch.bfloat16 if cpu_multiplies_bfloat16() else torch.float32)


def test_a_model_over_several_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with three GPUs, of which torch is told alone."""
    assert choose_devices("cpu") == [torch.device("cpu")]
    for wrong in ("cpu+cpu:1", "cpu+mps"):
        with pytest.raises(OptionError):
            choose_devices(wrong)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert choose_devices("cuda:0+cuda:2+cuda:0") == [torch.device("cuda", 0), torch.device("cuda", 2)]
    assert choose_devices("cuda:all") == [torch.device("cuda", place) for place in range(3)]
    assert choose_device("cuda:1+cuda:2") == torch.device("cuda", 1)
    with pytest.raises(OptionError):
        choose_devices("cuda:0+cpu")
    with pytest.raises(OptionError):
        choose_devices("cuda:0+cuda:3")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "meta", ""])
def test_unknown_devices(name: str) -> None:
    with pytest.raises(OptionError) as error:
        choose_device(name)
    assert error.value.given == name
    assert error.value.allowed[:5] == ("auto", "cpu", "cuda", "cuda:<number>", "mps")  # type: ignore[index]


def test_devices_that_are_not_there() -> None:
    absent = "cuda" if not torch.cuda.is_available() else f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(OptionError) as error:
        choose_device(absent)
    assert error.value.given == absent
    assert error.value.hint or error.value.allowed


@pytest.mark.parametrize("dtype", ["int8", "bfloat", "", torch.int8])
def test_unknown_dtypes(dtype: str | torch.dtype) -> None:
    with pytest.raises(OptionError) as error:
        choose_dtype(dtype, CPU)
    assert error.value.given == dtype
    assert error.value.allowed == ("auto", "bfloat16", "float16", "float32")


def test_instruction_sets_as_the_kernel_lists_them(tmp_path: Path) -> None:
    x86, arm = tmp_path / "x86", tmp_path / "arm"
    x86.write_text("processor\t: 0\nmodel name\t: some CPU\nflags\t\t: fpu avx2 avx512_bf16\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    arm.write_text("processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\n")
    assert _cpu_flags(x86) == {"fpu", "avx2", "avx512_bf16"}
    assert "bf16" in _cpu_flags(arm)
    assert _cpu_flags(tmp_path / "none") == set()


def test_torch_and_the_kernel_agree() -> None:
    if {"avx512_bf16", "amx_bf16", "bf16"} & _cpu_flags():
        assert cpu_multiplies_bfloat16()
