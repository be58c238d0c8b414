"""`cc-tui doctor`: the measure that tells a KVM that emulates kernels; here on the soft vCPU, which passes it."""

from __future__ import annotations

import pytest

from cc_tui import doctor


def test_a_vcpu_that_runs_kernel_code() -> None:
    assert doctor.ring0_fault("soft") is None


def test_a_slow_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_INSNS_PER_SECOND_MIN", 1e15)
    assert "runs kernel code by emulation" in (doctor.ring0_fault("soft") or "")


def test_one_that_never_comes_back_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_LOOP_SECONDS_MAX", 0.2)
    monkeypatch.setattr(doctor, "_LOOP", bytes.fromhex("ebfe"))
    doctor.ring0_fault("soft")
