"""OrcTable: unwinding of kernels that were built with CONFIG_UNWINDER_ORC, by their own tables.

Layout and meaning: Linux 6.1, arch/x86/include/asm/orc_types.h, orc_lookup.h and arch/x86/kernel/unwind_orc.c. From
6.4 on the tables are others, and have a section .orc_header: they are not read.
"""

from __future__ import annotations

import enum
import struct
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from .dwarf_data import MASK64
from .saved import INTERRUPTED_BYTES, NUMBERS, RBP, RIP, RSP, Known, interrupted

if TYPE_CHECKING:
    from .elf import ElfImage
    from .space import Memory

_ENTRY = struct.Struct("<hhH")
_IRET_BYTES = 40
"""RIP, CS, RFLAGS, RSP and SS, which the CPU pushes: the end of pt_regs."""


class Base(enum.IntEnum):
    """ORC_REG_*: what an offset counts from."""

    UNDEFINED = 0
    PREVIOUS_SP = 1
    DX = 2
    DI = 3
    BP = 4
    SP = 5
    R10 = 6
    R13 = 7
    BP_INDIRECT = 8
    SP_INDIRECT = 9


_REGISTERS = {
    Base.DX: NUMBERS["rdx"], Base.DI: NUMBERS["rdi"], Base.BP: RBP, Base.SP: RSP, Base.R10: NUMBERS["r10"],
    Base.R13: NUMBERS["r13"], Base.BP_INDIRECT: RBP, Base.SP_INDIRECT: RSP,
}  # fmt: skip


class Kind(enum.IntEnum):
    """ORC_TYPE_*: what is found at the previous stack pointer."""

    CALL = 0
    REGS = 1
    REGS_PARTIAL = 2


class OrcEntry(NamedTuple):
    """struct orc_entry."""

    sp_offset: int
    bp_offset: int
    sp_base: int
    bp_base: int
    kind: int
    is_end: bool


class OrcTable:
    """The tables of one kernel. Addresses are the file's."""

    def __init__(self, addresses: bytes, entries: bytes, base: int) -> None:
        """.orc_unwind_ip, which is loaded at `base`, and .orc_unwind."""
        count = min(len(addresses) // 4, len(entries) // _ENTRY.size)
        distances = struct.unpack(f"<{count}i", addresses[: 4 * count])
        self._addresses = [base + 4 * i + distance & MASK64 for i, distance in enumerate(distances)]
        self._entries = entries

    def __len__(self) -> int:
        return len(self._addresses)

    def find(self, address: int) -> OrcEntry | None:
        """What holds at an address; None where nothing is known."""
        at = bisect_right(self._addresses, address) - 1
        if at < 0:
            return None
        sp_offset, bp_offset, bits = _ENTRY.unpack_from(self._entries, at * _ENTRY.size)
        found = OrcEntry(sp_offset, bp_offset, bits & 15, bits >> 4 & 15, bits >> 8 & 3, bool(bits >> 10 & 1))
        return found if found.is_end or found.sp_base != Base.UNDEFINED else None


def orc_table(image: ElfImage) -> OrcTable | None:
    """The tables of a kernel's file; None if it has none, or some of another version. Raises UsageError."""
    if image.section(".orc_header") is not None:
        return None
    addresses, entries = image.section(".orc_unwind_ip"), image.section(".orc_unwind")
    if not addresses or not entries:
        return None
    return OrcTable(addresses, entries, image.section_address(".orc_unwind_ip") or 0)


def caller(entry: OrcEntry, known: Known, memory: Memory) -> tuple[Known, bool] | None:
    """The caller's registers, and whether it was interrupted; None where they are not known. Raises AddressError."""
    number = _REGISTERS.get(Base(entry.sp_base)) if entry.sp_base <= Base.SP_INDIRECT else None
    if number is None or number not in known:
        return None
    sp = known[number]
    if entry.sp_base == Base.SP_INDIRECT:
        sp = memory.u64(sp) + entry.sp_offset
    elif entry.sp_base == Base.BP_INDIRECT:
        sp = memory.u64(sp + entry.sp_offset & MASK64)
    else:
        sp += entry.sp_offset
    sp &= MASK64
    if entry.kind == Kind.REGS:
        found = interrupted(memory, sp)
        return None if found is None else (found, True)
    if entry.kind == Kind.REGS_PARTIAL:
        found = interrupted(memory, sp - INTERRUPTED_BYTES + _IRET_BYTES & MASK64)
        return None if found is None else ({number: found[number] for number in (RIP, RSP)}, True)
    result: Known = {RIP: memory.u64(sp - 8 & MASK64), RSP: sp}
    if entry.bp_base == Base.PREVIOUS_SP:
        result[RBP] = memory.u64(sp + entry.bp_offset & MASK64)
    elif entry.bp_base == Base.BP and RBP in known:
        result[RBP] = memory.u64(known[RBP] + entry.bp_offset & MASK64)
    elif entry.bp_base == Base.UNDEFINED and RBP in known:
        result[RBP] = known[RBP]
    return result, False
