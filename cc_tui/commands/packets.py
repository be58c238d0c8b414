"""The commands about packets in flight: which there are, and what if one were lost, late, doubled or another.

A packet is written SENDER#NUMBER>RECEIVER, as 0#57>1: frame 57 of vm0 on its way to vm1, numbers being those of
captures. An edit is an input of the branch that it is given on; in the past they branch first. A packet that was sent
in the tick under way cannot arrive before it ends, and is edited there.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from cc_tui.commands.engine import EngineCommand, refuse_machine
from cc_tui.commands.faults import give
from cc_tui.commands.language import (
    CommandError,
    format_about,
    format_duration,
    parse_bytes,
    parse_duration,
    parse_number,
)
from cc_tui.commands.reports import Look, hex_rows
from chaoscontrol.checksums import corrections
from chaoscontrol.in_flight import ArriveAt, CopyAt, Drop, Overwrite, PacketId
from chaoscontrol.packets import payload_at, read_packet
from chaoscontrol.timetravel import PacketInput, describe, format_seconds

if TYPE_CHECKING:
    from cc_tui.commands.bench import Bench
    from chaoscontrol.in_flight import PacketEdit, PacketInFlight
    from chaoscontrol.network import Network

_NAME = re.compile(r"(?:vm)?(\d{1,4})#(\d{1,19})(?:>(?:vm)?(\d{1,4})(?:\.(\d{1,9}))?)?")
_OFFSET = re.compile(r"data(?:\+(0x[0-9a-fA-F]{1,8}|\d{1,8}))?")
FORMS = (
    ("drop PACKET", "it never arrives"),
    ("delay PACKET TIME", "it arrives so much later"),
    ("delay PACKET to TIME", "it arrives at that virtual time, from here on"),
    ("copy PACKET [TIME]", "it arrives once more, so much later, or at the same time"),
    ("write PACKET OFFSET HEX [OFFSET HEX ...] [fix]",
     "its bytes become others from OFFSET on, counted from the Ethernet header, or as data, data+3 from its payload. "
     "fix: its IP, TCP, UDP and ICMP checksums are made right, else a receiver that looks drops it"),
)  # fmt: skip
EDITS = tuple(dict.fromkeys(form.split()[0] for form, _ in FORMS))


class PacketName(NamedTuple):
    """A packet as it was written."""

    src: int
    serial: int
    dst: int | None = None
    """None: it is on its way to one machine only."""
    copy: int = 0

    @classmethod
    def read(cls, text: str) -> PacketName:
        """Raises CommandError."""
        match = _NAME.fullmatch(text)
        if match is None:
            raise CommandError(f"not a packet: {text!r}", hint="write 0#57>1 for frame 57 of vm0 to vm1")
        src, serial, dst, copy = match.groups()
        return cls(int(src), int(serial), None if dst is None else int(dst), int(copy or 0))

    @property
    def text(self) -> str:
        if self.dst is None:
            return f"{self.src}#{self.serial}"
        return packet_word(PacketId(self.src, self.serial, self.dst, self.copy))

    def find(self, bench: Bench) -> PacketInFlight:
        """The packet that it names. Raises CommandError if that is not in flight."""
        for machine in (self.src, self.dst):
            refuse_machine(bench, machine)
        found = [
            one
            for one in _network(bench).in_flight()
            if (one.id.src, one.id.serial, one.id.copy) == (self.src, self.serial, self.copy)
            and self.dst in (None, one.id.dst)
        ]
        if not found:
            raise CommandError(f"no packet {self.text} is in flight", hint="`packets` lists those that are")
        if len(found) > 1:
            words = " or ".join(packet_word(one.id) for one in found)
            raise CommandError(f"{self.text} is on its way to several machines", hint=f"write {words}")
        return found[0]


def packet_word(packet: PacketId) -> str:
    """What PacketName.read reads."""
    copy = f".{packet.copy}" if packet.copy else ""
    return f"{packet.src}#{packet.serial}>{packet.dst}{copy}"


def _network(bench: Bench) -> Network:
    if bench.network is None or not any(vm.has_network for vm in bench.multiverse.machines):
        raise CommandError("the machines have no network", hint="use a scenario with one, as raft")
    return bench.network


def _line(packet: PacketInFlight, now_ns: int) -> str:
    left_ns = packet.arrival_vns - now_ns
    when = f"in {format_about(left_ns)}" if left_ns > 0 else "due"  # for one, because the machine is paused
    return f"{packet_word(packet.id):10} {format_seconds(packet.arrival_vns)} {when:9} {read_packet(packet.data)}"


def _row(packet: PacketInFlight) -> dict[str, object]:
    named = packet.id
    return {
        "packet": packet_word(named), "from": named.src, "to": named.dst, "serial": named.serial, "copy": named.copy,
        "arrival_vns": packet.arrival_vns, "bytes": len(packet.data), "text": str(read_packet(packet.data)),
        "foreseen": packet.foreseen, "payload_at": payload_at(packet.data), "hex": packet.data.hex(),
    }  # fmt: skip


# ---- looking ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShowPackets(Look):
    """The packets in flight at the cursor, all, those of one machine, or the bytes of one."""

    machine: int | None = None
    name: PacketName | None = None

    @property
    def text(self) -> str:
        if self.name is not None:
            return f"packets {self.name.text}"
        return "packets" if self.machine is None else f"packets vm{self.machine}"

    def run(self, bench: Bench) -> None:
        now_ns = bench.multiverse.position.vns
        if self.name is not None:
            packet = self.name.find(bench)
            begin = payload_at(packet.data)
            payload = "no payload" if begin is None else f"the payload begins at {begin}"
            bench.answer(
                [_line(packet, now_ns), f"{len(packet.data)} bytes, {payload}", *hex_rows(packet.data)], _row(packet)
            )
            return
        refuse_machine(bench, self.machine)
        found = [p for p in _network(bench).in_flight() if self.machine in (None, p.id.src, p.id.dst)]
        bench.answer([_line(p, now_ns) for p in found] or ["no packet is in flight"], list(map(_row, found)))


def read_packets_command(words: list[str]) -> ShowPackets:
    """`[VM|PACKET]`. Raises CommandError."""
    if not words:
        return ShowPackets()
    if "#" in words[0]:
        return ShowPackets(name=PacketName.read(words[0]))
    digits = words[0].removeprefix("vm")
    if not digits.isdecimal() or len(digits) > 4:
        raise CommandError(f"neither a machine nor a packet: {words[0]!r}", hint="write vm0, or 0#57>1")
    return ShowPackets(int(digits))


# ---- editing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EditPacket(EngineCommand):
    """The base of those that do something to a packet in flight."""

    moves: ClassVar[bool] = True
    scripted: ClassVar[bool] = False
    name: PacketName

    @abstractmethod
    def edit(self, packet: PacketInFlight, now_ns: int) -> PacketEdit:
        """What is done to it. Raises UsageError for what cannot be, before anything is changed."""

    def run(self, bench: Bench) -> None:
        packet = self.name.find(bench)
        if packet.foreseen:
            self.edit(packet, bench.multiverse.position.vns)
            bench.multiverse.step_ticks(1)
            bench.say(f"went on to {format_seconds(bench.multiverse.position.vns)} s, where it leaves its sender")
            packet = self.name.find(bench)
        edit = self.edit(packet, bench.multiverse.position.vns)
        whole = replace(self, name=PacketName(packet.id.src, packet.id.serial, packet.id.dst, packet.id.copy))
        given = PacketInput(packet.id, edit)
        give(bench, given, whole.text)
        bench.say(describe(given))


@dataclass(frozen=True, slots=True)
class DropPacket(EditPacket):
    """It never arrives."""

    @property
    def text(self) -> str:
        return f"packet drop {self.name.text}"

    def edit(self, packet: PacketInFlight, now_ns: int) -> PacketEdit:
        return Drop()


@dataclass(frozen=True, slots=True)
class DelayPacket(EditPacket):
    """It arrives later, or at a time."""

    ns: int
    absolute: bool = False
    """`ns` is when it arrives, not how much later."""

    @property
    def text(self) -> str:
        return f"packet delay {self.name.text} {'to ' if self.absolute else ''}{format_duration(self.ns)}"

    def edit(self, packet: PacketInFlight, now_ns: int) -> PacketEdit:
        at_ns = self.ns if self.absolute else packet.arrival_vns + self.ns
        return ArriveAt(_checked(at_ns, now_ns))


@dataclass(frozen=True, slots=True)
class CopyPacket(EditPacket):
    """It arrives once more."""

    later_ns: int = 0

    @property
    def text(self) -> str:
        later = f" {format_duration(self.later_ns)}" if self.later_ns else ""
        return f"packet copy {self.name.text}{later}"

    def edit(self, packet: PacketInFlight, now_ns: int) -> PacketEdit:
        return CopyAt(_checked(max(packet.arrival_vns, now_ns) + self.later_ns, now_ns))


def _checked(at_ns: int, now_ns: int) -> int:
    if not now_ns <= at_ns < 1 << 62:
        what = f"it cannot arrive at {format_seconds(at_ns)} s: here it is {format_seconds(now_ns)} s"
        raise CommandError(what, hint="give a time from here on, or go back first")
    return at_ns


class Offset(NamedTuple):
    """A place in a frame."""

    at: int
    in_payload: bool = False
    """It counts from where the payload begins."""

    @classmethod
    def read(cls, text: str) -> Offset:
        """`54`, `0x36`, `data`, `data+3`. Raises CommandError."""
        match = _OFFSET.fullmatch(text)
        return cls(parse_number(text)) if match is None else cls(parse_number(match[1] or "0"), True)

    @property
    def text(self) -> str:
        if not self.in_payload:
            return str(self.at)
        return f"data+{self.at}" if self.at else "data"

    def find(self, packet: PacketInFlight) -> int:
        """Bytes from the Ethernet header on. Raises CommandError for a packet without payload."""
        if not self.in_payload:
            return self.at
        begin = payload_at(packet.data)
        if begin is None:
            raise CommandError(
                f"{packet_word(packet.id)} has no payload", hint="count from the Ethernet header: 14, 34"
            )
        return begin + self.at


@dataclass(frozen=True, slots=True)
class WritePacket(EditPacket):
    """Bytes of it become others."""

    pieces: tuple[tuple[Offset, bytes], ...]
    fix: bool = False
    """Its checksums are made right."""

    @property
    def text(self) -> str:
        words = [word for offset, data in self.pieces for word in (offset.text, data.hex())]
        return " ".join(["packet write", self.name.text, *words, *(["fix"] if self.fix else [])])

    def edit(self, packet: PacketInFlight, now_ns: int) -> PacketEdit:
        edit = Overwrite(tuple((offset.find(packet), data) for offset, data in self.pieces))
        written = edit.over(packet.data)
        return Overwrite((*edit.pieces, *corrections(written))) if self.fix else edit


def read_packet_command(words: list[str], quantum_ns: int) -> EditPacket:
    """`drop|delay|copy|write PACKET ...`. Raises CommandError."""
    form = next((form for form, _ in FORMS if words and form.startswith(f"{words[0]} ")), None)
    if form is None:
        what = f"packet: {words[0]!r} is nothing that can be done" if words else "packet: something is missing"
        raise CommandError(what, hint=f"there are {', '.join(EDITS)}")
    match words:
        case ["drop", name]:
            return DropPacket(PacketName.read(name))
        case ["delay", name, "to", time]:
            return DelayPacket(PacketName.read(name), parse_duration(time, quantum_ns), True)
        case ["delay", name, time] if time != "to":
            return DelayPacket(PacketName.read(name), parse_duration(time, quantum_ns))
        case ["copy", name]:
            return CopyPacket(PacketName.read(name))
        case ["copy", name, time]:
            return CopyPacket(PacketName.read(name), parse_duration(time, quantum_ns))
        case ["write", name, *rest] if len(rest) > 1:
            fix = rest[-1] == "fix"
            pairs = rest[:-1] if fix else rest
            if len(pairs) % 2 == 0:
                pieces = tuple(
                    (Offset.read(at), parse_bytes(data)) for at, data in zip(pairs[::2], pairs[1::2], strict=True)
                )
                return WritePacket(PacketName.read(name), pieces, fix)
        case _:
            pass
    raise CommandError(f"packet {words[0]}: these are not its words", hint=f"usage: packet {form}")


__all__ = [
    "EDITS", "FORMS", "EditPacket", "PacketName", "ShowPackets", "packet_word", "read_packet_command",
    "read_packets_command",
]  # fmt: skip
