"""`cc-tui doctor`: what works on this host, and why something does not."""

from __future__ import annotations

import dataclasses
import json
import platform

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


def _vcpu(kind: str) -> Finding:
    from chaoscontrol.config import MIB, VmConfig
    from chaoscontrol.machine import DeterministicVm, StopKind, kvm_unavailable

    reason = kvm_unavailable() if kind == "kvm" else None
    if reason is not None:
        return Finding(f"vcpu {kind}", False, reason, needed=False)
    try:
        with DeterministicVm(VmConfig(memory_bytes=4 * MIB, vcpu=kind)) as vm:
            vm.load_flat(_FLAT_GUEST)
            stop = vm.run()
            works = stop.kind is StopKind.HALTED and vm.registers().rax == 42
            detail = "runs a flat guest" if works else f"{stop}, RAX = {vm.registers().rax:#x}"
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
    from chaoscontrol.machine import native_version

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
