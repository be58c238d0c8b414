"""Verify: is a cluster what it was? Compares it with what is known of a position, and names what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chaoscontrol.registers import unpack
from chaoscontrol.timetravel.errors import DivergenceError
from chaoscontrol.timetravel.keyframes import Keyframe, Parts
from chaoscontrol.timetravel.moment import MachineMark, Moment, format_seconds
from chaoscontrol.timetravel.sketch import Differing, differing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaoscontrol.timetravel.cluster_api import Cluster, Machine

NAMED_MAX = 8
"""Registers and pages that a message names."""


def parts_of(vms: Sequence[Machine]) -> tuple[Parts, ...]:
    """What is kept of machines to compare them with later."""
    return tuple(
        Parts(str(vm.digest()), str(vm.cpu_digest()), str(vm.device_digest()), vm.registers_bytes(), vm.page_sketch())
        for vm in vms
    )


class MachineDifference(NamedTuple):
    """What of a machine is not as it was."""

    registers: tuple[tuple[str, int, int], ...]
    """Name, value now, value before."""
    devices: bool
    pages: tuple[str, ...]
    """Those that could be named, as `page 0x3000` of the memory, or `disk page 0x12`."""
    pages_about: int
    """About how many there are; exactly, if all are named."""
    other: str
    """What differs if it is none of these."""

    @property
    def part(self) -> str:
        """The first of what differs, in one word or two."""
        if self.registers:
            return "registers"
        if self.devices:
            return "devices"
        return self.pages[0] if self.pages else "memory" if self.pages_about else "state"

    def describe(self, before: str = "before") -> str:
        """All of it on one line. `before`: what the other state is called."""
        found = [f"{name} {now:#x}, {was:#x} {before}" for name, now, was in self.registers[:NAMED_MAX]]
        found += _more(len(self.registers), "registers")
        found += ["devices"] * self.devices
        found += self.pages[:NAMED_MAX]
        if self.pages_about > len(self.pages):
            found.append(f"about {self.pages_about} pages" + (" in all" if self.pages else ""))
        else:
            found += _more(len(self.pages), "pages")
        return "; ".join([*found, *([self.other] if self.other else [])])


def _more(count: int, what: str) -> list[str]:
    return [f"{count - NAMED_MAX} more {what}"] if count > NAMED_MAX else []


def difference(vm: Machine, expected: Parts) -> MachineDifference | None:
    """What of a machine is not as it was; None: it is."""
    if str(vm.digest()) == expected.whole:
        return None
    registers: tuple[tuple[str, int, int], ...] = ()
    if str(vm.cpu_digest()) != expected.cpu:
        before, now = unpack(expected.registers), unpack(vm.registers_bytes())
        registers = tuple((name, now[name], before[name]) for name in now if now[name] != before[name])
    devices = str(vm.device_digest()) != expected.devices
    pages = differing(expected.sketch, vm.page_sketch(), vm.page_count)
    other = "" if registers or devices or pages.about else "no page, register or device: counters, or the time"
    return MachineDifference(registers, devices, _page_names(vm, pages), pages.about, other)


def _page_names(vm: Machine, pages: Differing) -> tuple[str, ...]:
    named = [vm.page_area(page) for page in pages.pages]
    return tuple(f"{'' if area == 'memory' else f'{area} '}page {page:#x}" for area, page in named)


def compare_with_keyframe(cluster: Cluster, keyframe: Keyframe, branch: str) -> None:
    """Raise DivergenceError unless the cluster is as at the keyframe."""
    where = f"{branch}@{format_seconds(keyframe.position.vns)}"
    for machine, (vm, expected) in enumerate(zip(cluster.vms, keyframe.parts, strict=True)):
        if vm.instret != keyframe.instrets[machine]:
            what = f"{vm.instret} retired, {keyframe.instrets[machine]} before"
            raise DivergenceError(machine, "instructions", what, where=where)
        found = difference(vm, expected)
        if found is not None:
            raise DivergenceError(machine, found.part, found.describe(), where=where)
    network = str(cluster.network_digest())
    if keyframe.network and network != keyframe.network:
        what = f"digest {network[:16]}, {keyframe.network[:16]} before"
        raise DivergenceError(None, "network", what, where=where)


def compare_with_moment(marks: Sequence[MachineMark], moment: Moment) -> None:
    """Raise DivergenceError unless the machines are as `moment` says."""
    for machine, (now, expected) in enumerate(zip(marks, moment.machines, strict=True)):
        if now.instret != expected.instret:
            what = f"{now.instret} retired here, {expected.instret} in the moment"
            raise DivergenceError(machine, "instructions", what, where=moment.brief)
        if now.digest != expected.digest:
            what = f"digest {now.digest} here, {expected.digest} in the moment"
            raise DivergenceError(machine, "state", what, where=moment.brief)


__all__ = ["MachineDifference", "compare_with_keyframe", "compare_with_moment", "difference", "parts_of"]
