"""`cc-tui doctor`: what works on this host, and why something does not."""

from __future__ import annotations

import dataclasses
import json
import platform
import threading
import time

from cc_tui.diagnostics import ExitCode
from chaoscontrol.errors import ChaosControlError


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    works: bool
    detail: str
    needed: bool
    """Whether cc-tui is of no use without it."""


# The smallest guest that shows a vCPU at work: mov eax, 6; imul eax, eax, 7; hlt
_FLAT_GUEST = bytes.fromhex("b806000000 6bc007 f4")


# mov ecx, 100000; 1: dec ecx; jnz 1b; hlt
_LOOP = bytes.fromhex("b9a0860100 ffc9 75fc f4")
_LOOP_INSNS = 200_002
_INSNS_PER_SECOND_MIN = 10e6
"""Emulators of ring 0 have been seen at 1.7 million, processors run a thousand times as many."""
_LOOP_SECONDS_MAX = 2.0

# lea rdi, [rip + 0x1000]; and rdi, -16; cmpxchg16b [rdi]; hlt
_CMPXCHG16B = bytes.fromhex("488d3d00100000 4883e7f0 480fc70f f4")


def ring0_fault(kind: str) -> str | None:
    """Why this vCPU kind does not boot Linux here though it runs guests, or None.

    A paravirtual KVM (kvm-pvm) runs user code on the processor and emulates ring 0: slowly, and not every instruction
    that a kernel uses. Bounded by _LOOP_SECONDS_MAX; CPU time, so that a busy host does not look like a slow one.
    """
    from chaoscontrol.config import MIB, VmConfig
    from chaoscontrol.errors import EngineError
    from chaoscontrol.machine import DeterministicVm

    def run_flat(code: bytes) -> float:
        with DeterministicVm(VmConfig(memory_bytes=4 * MIB, vcpu=kind)) as vm:
            vm.load_flat(code)
            watchdog = threading.Timer(_LOOP_SECONDS_MAX, vm.cancel)
            watchdog.start()
            begun = time.thread_time()
            try:
                vm.run()
            finally:
                watchdog.cancel()
                watchdog.join()
            return time.thread_time() - begun

    faults: list[str] = []
    rate = _LOOP_INSNS / max(run_flat(_LOOP), 1e-9)
    if rate < _INSNS_PER_SECOND_MIN:
        faults.append(f"runs kernel code by emulation, {rate / 1e6:.1f} million instructions a second")
    try:
        run_flat(_CMPXCHG16B)
    except EngineError:
        faults.append("cannot run CMPXCHG16B in kernel code")
    return " and ".join(faults) or None


def _vcpu(kind: str) -> Finding:
    from chaoscontrol.config import MIB, VmConfig
    from chaoscontrol.machine import DeterministicVm, StopKind
    from chaoscontrol.native_library import kvm_unavailable

    reason = kvm_unavailable() if kind == "kvm" else None
    if reason is not None:
        return Finding(f"vcpu {kind}", False, reason, needed=False)
    try:
        with DeterministicVm(VmConfig(memory_bytes=4 * MIB, vcpu=kind)) as vm:
            vm.load_flat(_FLAT_GUEST)
            stop = vm.run()
            works = stop.kind is StopKind.HALTED and vm.registers().rax == 42
            detail = "runs a flat guest" if works else f"{stop}, RAX = {vm.registers().rax:#x}"
        fault = ring0_fault(kind) if kind == "kvm" and works else None
        if fault is not None:
            works, detail = False, f"runs flat guests, but Linux does not boot: {fault}; use --vcpu soft"
    except ChaosControlError as e:
        works, detail = False, str(e)
    return Finding(f"vcpu {kind}", works, detail, needed=kind == "soft")


def _images() -> Finding:
    from chaoscontrol.images import image_names, images_dir

    try:
        return Finding("images", True, f"{', '.join(image_names())} in {images_dir()}", needed=False)
    except ChaosControlError as e:
        return Finding("images", False, str(e), needed=False)


def findings() -> list[Finding]:
    """Everything that doctor looks at, in order."""
    from chaoscontrol.native_library import native_version

    host = f"native library {native_version()}, Python {platform.python_version()}, {platform.machine()}"
    return [Finding("version", True, host, needed=True), _vcpu("soft"), _vcpu("kvm"), _images()]


def print_findings(*, as_json: bool) -> int:
    """Prints them; OK unless something is missing without which nothing works."""
    found = findings()
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in found], indent=2))
    else:
        for finding in found:
            print(f"{'ok' if finding.works else 'no':3} {finding.name:10} {finding.detail}")
    return ExitCode.OK if all(f.works for f in found if f.needed) else ExitCode.ENGINE
