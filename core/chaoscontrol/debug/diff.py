"""What differs between two moments of a cluster's histories, part by part: as values, for whoever shows them.

A picture is taken at each moment: registers, the digest of every page, processes, consoles, links. Where pages differ,
the first bytes are looked up afterwards. Nothing is changed, and the cursor comes back to where it was.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple, cast

from chaoscontrol.errors import AddressError
from chaoscontrol.machine_pages import DIGEST_BYTES, PAGE_BYTES
from chaoscontrol.registers import unpack
from chaoscontrol.symbols.bases import IMAGE_BASE
from chaoscontrol.symbols.space import AddressSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from chaoscontrol.machine import DeterministicVm
    from chaoscontrol.network import LinkCounters, LinkParams, Network
    from chaoscontrol.symbols.linux import LinuxGuest
    from chaoscontrol.timetravel import ConsoleLog, Moment, Multiverse

PAGES_LOOKED_AT = 16
"""Of each area of each machine, the pages whose first differing bytes are told."""
BYTES_SHOWN = 16
USER_PAGES_MAX = 1 << 16
"""Mapped pages of processes that are gone through to find out whose a page is."""
_CHUNK_BYTES = 256 * DIGEST_BYTES


@dataclasses.dataclass(frozen=True, slots=True)
class ValueDiff:
    """A named number that is not the same."""

    name: str
    a: int
    b: int


@dataclasses.dataclass(frozen=True, slots=True)
class PageRange:
    """Pages that follow each other, all of which differ."""

    area: str
    """Of chaoscontrol.machine_pages.AREAS."""
    first: int
    """Number in the area: of the memory it is the physical address / 4096, of the disk the block of 4096 bytes."""
    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class PageDiff:
    """The first difference in a page."""

    area: str
    page: int
    offset: int
    """Of the first byte that differs, in the page."""
    a: bytes
    """What stands from there on, at most BYTES_SHOWN bytes."""
    b: bytes
    where: str
    """Whose it is: a symbol of the kernel, or a process and its mapping; empty if that is not known."""


@dataclasses.dataclass(frozen=True, slots=True)
class ProcessDiff:
    """A process that is not the same, or there at one of the moments only."""

    pid: int
    name: str
    a: str | None
    """Its state; None: it is not there."""
    b: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class ConsoleDiff:
    """What two consoles have sent: the same up to a byte, then each goes on in its way."""

    common: int
    """Bytes."""
    line: int
    """The line in which they part, from 1."""
    a: str
    """That line at the first moment, as far as it had been sent; empty if nothing more had been."""
    b: str
    a_more: int
    """Bytes sent beyond the common ones."""
    b_more: int


@dataclasses.dataclass(frozen=True, slots=True)
class MachineDiff:
    """One machine at both moments."""

    vm: int
    instret: tuple[int, int]
    stopped: tuple[bool, bool]
    registers: tuple[ValueDiff, ...]
    devices: bool
    """Do their registers and queues differ?"""
    ranges: tuple[PageRange, ...]
    pages: tuple[PageDiff, ...]
    processes: tuple[ProcessDiff, ...]
    console: ConsoleDiff | None

    @property
    def equal(self) -> bool:
        """Is it in the same state at both?"""
        found = (self.registers, self.devices, self.ranges, self.processes, self.console)
        return not any(found) and self.instret[0] == self.instret[1] and self.stopped[0] == self.stopped[1]


@dataclasses.dataclass(frozen=True, slots=True)
class LinkDiff:
    """One direction between two machines."""

    src: int
    dst: int
    values: tuple[ValueDiff, ...]
    """Parameters and counters."""


@dataclasses.dataclass(frozen=True, slots=True)
class Diff:
    """What differs."""

    a: Moment
    b: Moment
    machines: tuple[MachineDiff, ...]
    network: bool
    """Does what is in no machine differ: links, their random numbers, the time?"""
    links: tuple[LinkDiff, ...]

    @property
    def equal(self) -> bool:
        """Is nothing different?"""
        return not self.network and all(machine.equal for machine in self.machines)


class _Machine(NamedTuple):
    """A machine in a picture."""

    instret: int
    stopped: bool
    registers: bytes
    devices: str
    pages: bytes
    processes: dict[int, tuple[str, str]]
    """By pid: name and state."""
    console: ConsoleLog
    total: int


class _Picture(NamedTuple):
    moment: Moment
    machines: list[_Machine]
    network: str
    links: dict[tuple[int, int], dict[str, int]]


class Comparer:
    """Compares moments of `multiverse`. guest_of: the Linux in a machine, None where there is none to be read."""

    def __init__(
        self, multiverse: Multiverse, *, network: Network | None, guest_of: Callable[[int], LinuxGuest | None]
    ) -> None:
        self._multiverse = multiverse
        self._network = network
        self._guest_of = guest_of

    @property
    def _vms(self) -> Sequence[DeterministicVm]:
        return cast("Sequence[DeterministicVm]", self._multiverse.machines)

    def diff(self, go_to_a: Callable[[], None], go_to_b: Callable[[], None]) -> Diff:
        """What differs between two places, which the functions go to. Raises ChaosControlError."""
        with self._multiverse.excursion():
            return self._diff(go_to_a, go_to_b)

    def _diff(self, go_to_a: Callable[[], None], go_to_b: Callable[[], None]) -> Diff:
        go_to_a()
        a = self._picture()
        go_to_b()
        b = self._picture()
        # Nothing is known of a and b but how to go there: bytes are read at each when it is known which.
        differing = [
            list(differing_pages(one.pages, other.pages)) for one, other in zip(a.machines, b.machines, strict=True)
        ]
        looked_at = [self._first_of_areas(vm, pages) for vm, pages in enumerate(differing)]
        owners = [self._owners(vm, pages) for vm, pages in enumerate(looked_at)]
        bytes_b = [self._read(vm, pages) for vm, pages in enumerate(looked_at)]
        if any(looked_at):
            self._multiverse.goto(a.moment)
        bytes_a = [self._read(vm, pages) for vm, pages in enumerate(looked_at)]
        machines = tuple(
            _machine_diff(
                vm,
                a.machines[vm],
                b.machines[vm],
                tuple(_ranges(map(self._vms[vm].page_area, differing[vm]))),
                tuple(
                    _page_diff(*self._vms[vm].page_area(page), bytes_a[vm][page], bytes_b[vm][page], owners[vm])
                    for page in looked_at[vm]
                ),
            )
            for vm in range(len(a.machines))
        )
        links = tuple(
            LinkDiff(*link, values) for link in a.links if (values := _value_diffs(a.links[link], b.links[link]))
        )
        return Diff(a.moment, b.moment, machines, a.network != b.network, links)

    # ---- looking ----

    def _picture(self) -> _Picture:
        multiverse = self._multiverse
        machines = [
            _Machine(
                vm.instret,
                at in multiverse.stopped,
                vm.registers_bytes(),
                str(vm.device_digest()),
                vm.page_digests(),
                self._processes(at),
                multiverse.consoles()[at],
                vm.console_total,
            )
            for at, vm in enumerate(self._vms)
        ]
        return _Picture(multiverse.moment(), machines, str(multiverse.network_digest), self._links())

    def _processes(self, vm: int) -> dict[int, tuple[str, str]]:
        guest = self._guest_of(vm)
        return {} if guest is None else {task.pid: (task.name, task.state) for task in guest.tasks().processes}

    def _links(self) -> dict[tuple[int, int], dict[str, int]]:
        if self._network is None:
            return {}
        return {
            (link.src, link.dst): {**_numbers(link.params), **_numbers(link.counters)} for link in self._network.links()
        }

    def _read(self, vm: int, pages: Iterable[int]) -> dict[int, bytes]:
        return {page: self._vms[vm].page_bytes(page) for page in pages}

    def _first_of_areas(self, vm: int, pages: Iterable[int]) -> list[int]:
        """The first PAGES_LOOKED_AT of each area."""
        found: list[int] = []
        count: dict[str, int] = {}
        for page in pages:
            area, _ = self._vms[vm].page_area(page)
            count[area] = count.get(area, 0) + 1
            if count[area] <= PAGES_LOOKED_AT:
                found.append(page)
        return found

    def _owners(self, vm: int, pages: Sequence[int]) -> Callable[[int], str]:
        """What is at a physical address on one of the pages."""
        guest = self._guest_of(vm)
        mapped: dict[int, tuple[str, int]] = {}
        if guest is not None:
            mapped = _mapped(guest, set(pages))

        def name(address: int) -> str:
            if guest is None:
                return ""
            if address // PAGE_BYTES in mapped:
                what, virtual = mapped[address // PAGE_BYTES]
                return f"{what} {virtual + address % PAGE_BYTES:#x}"
            return guest.symbols.name(IMAGE_BASE + address)

        return name


def _mapped(guest: LinuxGuest, wanted: set[int]) -> dict[int, tuple[str, int]]:
    """Whose pages these are: what maps each, and its virtual address there."""
    found: dict[int, tuple[str, int]] = {}
    looked = 0
    for task in guest.tasks().processes:
        if not task.cr3:
            continue
        space = guest.space(task)
        assert isinstance(space, AddressSpace), "it has page tables"
        for mapping in guest.maps(task).mappings:
            for virtual in range(mapping.start, mapping.end, PAGE_BYTES):
                looked += 1
                if looked > USER_PAGES_MAX:
                    return found
                try:
                    page = space.translate(virtual).physical // PAGE_BYTES
                except AddressError:
                    continue
                if page in wanted:
                    found.setdefault(page, (f"{task.name}[{task.pid}] {mapping.name}".rstrip(), virtual))
    return found


# ---- comparing -------------------------------------------------------------------------------------------------------


def differing_pages(a: bytes, b: bytes) -> Iterator[int]:
    """Numbers of the pages whose digests differ."""
    for chunk in range(0, len(a), _CHUNK_BYTES):
        one, other = a[chunk : chunk + _CHUNK_BYTES], b[chunk : chunk + _CHUNK_BYTES]
        if one != other:
            for at in range(0, len(one), DIGEST_BYTES):
                if one[at : at + DIGEST_BYTES] != other[at : at + DIGEST_BYTES]:
                    yield (chunk + at) // DIGEST_BYTES


def _ranges(pages: Iterable[tuple[str, int]]) -> Iterator[PageRange]:
    last: PageRange | None = None
    for area, page in pages:
        if last is not None and (area, page) == (last.area, last.first + last.count):
            last = dataclasses.replace(last, count=last.count + 1)
        else:
            if last is not None:
                yield last
            last = PageRange(area, page, 1)
    if last is not None:
        yield last


def _page_diff(area: str, page: int, a: bytes, b: bytes, owner: Callable[[int], str]) -> PageDiff:
    at = next(at for at, (one, other) in enumerate(zip(a, b, strict=True)) if one != other)
    where = owner(page * PAGE_BYTES + at) if area == "memory" else ""
    return PageDiff(area, page, at, a[at : at + BYTES_SHOWN], b[at : at + BYTES_SHOWN], where)


def _machine_diff(
    vm: int, a: _Machine, b: _Machine, ranges: tuple[PageRange, ...], pages: tuple[PageDiff, ...]
) -> MachineDiff:
    registers = () if a.registers == b.registers else _value_diffs(unpack(a.registers), unpack(b.registers))
    processes = tuple(
        ProcessDiff(pid, name, None if one is None else one[1], None if other is None else other[1])
        for pid in sorted({*a.processes, *b.processes})
        for one, other in ((a.processes.get(pid), b.processes.get(pid)),)
        for name in ((other or one or ("", ""))[0],)
        if one != other
    )
    return MachineDiff(
        vm,
        (a.instret, b.instret),
        (a.stopped, b.stopped),
        registers,
        a.devices != b.devices,
        ranges,
        pages,
        processes,
        console_diff(a.console, a.total, b.console, b.total),
    )


def _value_diffs(a: dict[str, int], b: dict[str, int]) -> tuple[ValueDiff, ...]:
    return tuple(ValueDiff(name, a[name], b[name]) for name in a if a[name] != b[name])


def _numbers(params: LinkParams | LinkCounters) -> dict[str, int]:
    return {name: int(value) for name, value in dataclasses.asdict(params).items()}


def console_diff(a: ConsoleLog, a_total: int, b: ConsoleLog, b_total: int) -> ConsoleDiff | None:
    """Where what two consoles have sent parts; None if it is the same."""
    common = min(a_total, b_total, a.shared_with(b)) if a is not b else min(a_total, b_total)
    one, other = a.read(common, a_total), b.read(common, b_total)
    same = next((at for at, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), min(len(one), len(other)))
    common += same
    if common == a_total == b_total:
        return None
    line = a.lines_begun(common) - (a.read(common - 1, common) not in (b"", b"\n"))
    texts = [
        log.read(log.line_start(line), total).split(b"\n")[0].decode(errors="replace").rstrip("\r")
        for log, total in ((a, a_total), (b, b_total))
    ]
    return ConsoleDiff(common, line + 1, texts[0], texts[1], a_total - common, b_total - common)


__all__ = [
    "Comparer",
    "ConsoleDiff",
    "Diff",
    "LinkDiff",
    "MachineDiff",
    "PageDiff",
    "PageRange",
    "ProcessDiff",
    "ValueDiff",
    "console_diff",
    "differing_pages",
]
