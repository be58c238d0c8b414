"""Registers that Linux on x86-64 has saved in memory: for interrupts and system calls, task switches and signals.

Known registers are a dict by DWARF's numbers; what is not in it is not known.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from .bases import KERNEL_HALF

if TYPE_CHECKING:
    from .space import Memory
    from .table import SymbolTable

GENERAL = ("rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", *(f"r{i}" for i in range(8, 16)))
"""By DWARF's numbers (System V ABI for AMD64, figure 3.36)."""
RIP = 16
NUMBERS = {name: number for number, name in enumerate((*GENERAL, "rip"))}
RCX, RBP, RSP = NUMBERS["rcx"], NUMBERS["rbp"], NUMBERS["rsp"]

Known = dict[int, int]

_INTERRUPTED = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"),
    *("orig_ax", "rip", "cs", "flags", "rsp", "ss"),
)
"""struct pt_regs (arch/x86/include/asm/ptrace.h)."""
INTERRUPTED_BYTES = 8 * len(_INTERRUPTED)
_SWITCHED = ("r15", "r14", "r13", "r12", "rbx", "rbp", "rip")
"""struct inactive_task_frame (arch/x86/include/asm/switch_to.h)."""
_SIGNALLED = (
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
    *("rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx", "rsp", "rip"),
)
"""struct sigcontext_64 (arch/x86/include/uapi/asm/sigcontext.h)."""
_CONTEXT_OFFSET = 40
"""Of it in struct ucontext."""
_SIGNAL_RETURNS = (b"\x48\xc7\xc0\x0f\0\0\0\x0f\x05", b"\xb8\x0f\0\0\0\x0f\x05")
"""`mov $15, %rax; syscall`: what signal handlers return to, as the C libraries have it."""

_KERNEL_CS, _USER_CS = 0x10, (0x23, 0x33)
_FLAGS_FIXED = 1 << 1
"""Bit 1 of RFLAGS is always set (SDM vol. 1, figure 3-8)."""
_SEARCH_WORDS = 64

ENTRY_SYMBOLS = ("ret_from_fork", "ret_from_fork_asm")
"""Entry code that is not in the section of it."""


def _read(memory: Memory, address: int, names: tuple[str, ...]) -> dict[str, int]:
    return dict(zip(names, struct.unpack(f"<{len(names)}Q", memory.read(address, 8 * len(names))), strict=True))


def _known(found: dict[str, int]) -> Known:
    return {NUMBERS[name]: value for name, value in found.items() if name in NUMBERS}


def interrupted(memory: Memory, address: int) -> Known | None:
    """What was interrupted, by the pt_regs at an address; None if there are none. Raises AddressError."""
    found = _read(memory, address, _INTERRUPTED)
    return _known(found) if _is_return(found["rip"], found["cs"], found["flags"]) else None


def nothing_interrupted(memory: Memory, address: int) -> bool:
    """Are the pt_regs there those of a kernel thread, which never was in user code?"""
    return not any(memory.read(address + 8 * _INTERRUPTED.index("rip"), 16))


def search_interrupted(memory: Memory, sp: int) -> Known | None:
    """RIP and RSP of what was interrupted, where the rest may not be saved yet: the nearest frame of the CPU's."""
    data = memory.read_up_to(sp, 8 * _SEARCH_WORDS)
    words = struct.unpack(f"<{len(data) // 8}Q", data[: len(data) & ~7])
    for at in range(len(words) - 4):
        address, selector, flags, stack, _ = words[at : at + 5]
        if _is_return(address, selector, flags):
            return {RIP: address, RSP: stack}
    return None


def _is_return(address: int, selector: int, flags: int) -> bool:
    if not flags & _FLAGS_FIXED or flags >> 22:
        return False
    return selector == _KERNEL_CS if address >= KERNEL_HALF else selector in _USER_CS and address >> 47 == 0


def switched(memory: Memory, sp: int) -> Known:
    """Of a thread that gave up the CPU with its stack at `sp`. Raises AddressError."""
    return _known(_read(memory, sp, _SWITCHED)) | {RSP: sp + 8 * len(_SWITCHED)}


def returns_from_signal(memory: Memory, address: int) -> bool:
    """Does the code there end a signal handler?"""
    return memory.read_up_to(address, 9).startswith(_SIGNAL_RETURNS)


def before_signal(memory: Memory, sp: int) -> Known:
    """What a signal handler interrupted that has just returned, with its stack at `sp`. Raises AddressError."""
    return _known(_read(memory, sp + _CONTEXT_OFFSET, _SIGNALLED))


class EntryCode:
    """Where the kernel's assembly is that interrupts, exceptions and system calls come by."""

    def __init__(self, symbols: SymbolTable) -> None:
        self._spans: list[tuple[int, int]] = []
        low, high = symbols.address("__entry_text_start"), symbols.address("__entry_text_end")
        if low is not None and high is not None:
            self._spans.append((low, high))
        for name in ENTRY_SYMBOLS:
            self._spans += [(symbol.address, symbol.address + max(symbol.size, 1)) for symbol in symbols.lookup(name)]

    def __contains__(self, address: int) -> bool:
        return any(low <= address < high for low, high in self._spans)


__all__ = [
    "GENERAL",
    "INTERRUPTED_BYTES",
    "RBP",
    "RCX",
    "RIP",
    "RSP",
    "EntryCode",
    "Known",
    "before_signal",
    "interrupted",
    "nothing_interrupted",
    "returns_from_signal",
    "search_interrupted",
    "switched",
]
