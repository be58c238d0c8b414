"""Registers: the complete architectural state of one vCPU, as a value.

Owns the mapping between the native structure cc_regs and names. Layouts are those of the Intel SDM.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from .errors import UsageError

GPR_NAMES = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{i}" for i in range(8, 16)))
"""General registers in the order of their encoding (SDM vol. 2, table 2-4)."""

SEGMENT_NAMES = ("es", "cs", "ss", "ds", "fs", "gs")
"""Segment registers in the order of their encoding."""

_SCALARS = (
    *("rip", "rflags", "cr0", "cr2", "cr3", "cr4", "cr8", "efer"),
    *("star", "lstar", "cstar", "sfmask", "kernel_gs_base", "sysenter_cs", "sysenter_esp", "sysenter_eip"),
    *("pat", "tsc_aux", "misc_enable", "tsc_offset"),
    *("fcw", "fsw", "ftw", "fop", "fip", "fdp", "mxcsr"),
    *("halted", "shadow", "nmi_blocked", "nmi_pending"),
)

_MASK64 = (1 << 64) - 1
_SEGMENTS = (*SEGMENT_NAMES, "ldtr", "tr")
_PAD = ""
LAYOUT: tuple[tuple[str, int], ...] = (
    *((name, 8) for name in (*GPR_NAMES, "rip", "rflags")),
    *((f"{name}.{part}" if part else _PAD, size) for name in _SEGMENTS for part, size in (
        ("base", 8), ("limit", 4), ("attr", 4), ("selector", 2), (_PAD, 6))),
    *((f"{name}.{part}" if part else _PAD, size) for name in ("gdtr", "idtr") for part, size in (
        ("base", 8), ("limit", 2), (_PAD, 6))),
    *((name, 8) for name in ("cr0", "cr2", "cr3", "cr4", "cr8", *(f"dr{at}" for at in range(8)), "efer")),
    *((name, 8) for name in ("star", "lstar", "cstar", "sfmask", "kernel_gs_base")),
    *((name, 8) for name in ("sysenter_cs", "sysenter_esp", "sysenter_eip", "pat", "tsc_aux", "misc_enable")),
    ("tsc_offset", 8),
    *((f"x87.r{at}" if size == 10 else _PAD, size) for at in range(8) for size in (10, 6)),
    *((name, 2) for name in ("fcw", "fsw", "ftw", "fop")),
    *((name, 8) for name in ("fip", "fdp")),
    *((f"xmm{at}", 16) for at in range(16)),
    ("mxcsr", 4),
    *((name, 1) for name in ("halted", "shadow", "nmi_blocked", "nmi_pending")),
)  # fmt: skip
"""The bytes of a `cc_regs` (native/include/cc.h): names and sizes in order, little-endian; what has none is padding."""
PACKED_BYTES = sum(size for _, size in LAYOUT)


def unpack(data: bytes) -> dict[str, int]:
    """Every register by a name of its own, unsigned, from PACKED_BYTES as LAYOUT says."""
    found: dict[str, int] = {}
    at = 0
    for name, size in LAYOUT:
        if name:
            found[name] = int.from_bytes(data[at : at + size], "little")
        at += size
    return found


_BASES = {"fs_base": "fs", "gs_base": "gs"}
EDITABLE: dict[str, int] = {
    **dict.fromkeys(GPR_NAMES, 64),
    **dict.fromkeys(("rip", "rflags", "cr0", "cr2", "cr3", "cr4", "cr8", "efer", "kernel_gs_base", *_BASES), 64),
    **dict.fromkeys(("fcw", "fsw", "ftw", "fop"), 16),
    **dict.fromkeys(("fip", "fdp"), 64),
    "mxcsr": 32,
    **dict.fromkeys((f"xmm{i}" for i in range(16)), 128),
    **dict.fromkeys((f"st{i}" for i in range(8)), 80),
}
"""Registers that have a value by name and are set by name, with their width in bits. ST0 to ST7 are in stack order."""


def check_register(name: str, value: int = 0) -> None:
    """Raises UsageError unless there is such a register in EDITABLE, and it can hold the value."""
    if name not in EDITABLE:
        raise UsageError(f"no register {name!r}", hint=f"there are {', '.join(EDITABLE)}")
    if not 0 <= value < 1 << EDITABLE[name]:
        raise UsageError(f"{name} cannot be {value:#x}", hint=f"it has {EDITABLE[name]} bits")


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """A segment register with its hidden part (SDM vol. 3, 3.4.3).

    attr: the descriptor's access byte in bits 0-7, its flags nibble in bits 12-15; bit 16: unusable.
    """

    selector: int
    base: int
    limit: int
    attr: int


@dataclasses.dataclass(frozen=True, slots=True)
class DescriptorTable:
    """GDTR or IDTR: linear base address and limit in bytes minus one."""

    base: int
    limit: int


@dataclasses.dataclass(frozen=True, slots=True)
class Registers:
    """All registers of a vCPU. Integers are unsigned, tsc_offset excepted."""

    rax: int
    rcx: int
    rdx: int
    rbx: int
    rsp: int
    rbp: int
    rsi: int
    rdi: int
    r8: int
    r9: int
    r10: int
    r11: int
    r12: int
    r13: int
    r14: int
    r15: int
    rip: int
    rflags: int
    es: Segment
    cs: Segment
    ss: Segment
    ds: Segment
    fs: Segment
    gs: Segment
    ldtr: Segment
    tr: Segment
    gdtr: DescriptorTable
    idtr: DescriptorTable
    cr0: int
    cr2: int
    cr3: int
    cr4: int
    cr8: int
    dr: tuple[int, ...]
    """DR0 to DR7; 4 and 5 are unused."""
    efer: int
    star: int
    lstar: int
    cstar: int
    sfmask: int
    kernel_gs_base: int
    sysenter_cs: int
    sysenter_esp: int
    sysenter_eip: int
    pat: int
    tsc_aux: int
    misc_enable: int
    tsc_offset: int
    """Signed; added to the TSC that follows from virtual time."""
    st: tuple[int, ...]
    """The x87 data registers R0 to R7 (physical order) as 80-bit integers: sign and exponent in bits 64-79."""
    fcw: int
    fsw: int
    ftw: int
    """The full 16-bit tag word, two bits per physical register; 3 is empty (SDM vol. 1, 8.1.7)."""
    fop: int
    fip: int
    fdp: int
    xmm: tuple[int, ...]
    """XMM0 to XMM15 as 128-bit integers."""
    mxcsr: int
    halted: int
    shadow: int
    """Interrupts are blocked for one instruction: 1 after STI, 2 after MOV SS or POP SS."""
    nmi_blocked: int
    nmi_pending: int

    @property
    def mm(self) -> tuple[int, ...]:
        """MM0 to MM7: the significands of the x87 registers (SDM vol. 1, 9.2)."""
        return tuple(value & _MASK64 for value in self.st)

    @property
    def st_stack(self) -> tuple[int, ...]:
        """ST(0) to ST(7): the x87 registers in stack order."""
        top = self.fsw >> 11 & 7
        return tuple(self.st[(top + i) & 7] for i in range(8))

    def replace(self, **changes: Any) -> Registers:
        """A copy with the named registers changed. General registers are taken modulo 2^64."""
        return dataclasses.replace(self, **changes)

    def edit(self, name: str, value: int) -> Registers:
        """A copy with the register of EDITABLE that is called so set. Raises UsageError."""
        check_register(name, value)
        if name in _BASES:
            segment = dataclasses.replace(getattr(self, _BASES[name]), base=value)
            return dataclasses.replace(self, **{_BASES[name]: segment})
        if name.startswith("xmm"):
            return dataclasses.replace(self, xmm=_with(self.xmm, int(name[3:]), value))
        if name.startswith("st") and name[2:].isdecimal():
            return dataclasses.replace(self, st=_with(self.st, (self.fsw >> 11) + int(name[2:]) & 7, value))
        return self.replace(**{name: value})

    def check(self) -> None:
        """Raises UsageError for a value that its register cannot hold; general registers are taken modulo 2^64."""
        for name, several, count in (("dr", self.dr, 8), ("st", self.st, 8), ("xmm", self.xmm, 16)):
            if len(several) != count:
                raise UsageError(f"{len(several)} registers {name}", hint=f"give {count}")
        values = self._values()
        for name, size in LAYOUT:
            low = -(1 << 63) if name == "tsc_offset" else 0
            if name and name not in GPR_NAMES and not low <= values[name] < (1 << 8 * size) + low:
                raise UsageError(f"{name} cannot be {values[name]:#x}", hint=f"it has {8 * size} bits")

    def pack(self) -> bytes:
        """As LAYOUT says; `unpack` gives them their names."""
        values = self._values()
        return b"".join(
            (values[name] & (1 << 8 * size) - 1).to_bytes(size, "little") if name else bytes(size)
            for name, size in LAYOUT
        )

    def _values(self) -> dict[str, int]:
        """By the names of LAYOUT."""
        values: dict[str, int] = {name: getattr(self, name) for name in (*GPR_NAMES, *_SCALARS)}
        for name in (*_SEGMENTS, "gdtr", "idtr"):
            whole = getattr(self, name)
            values |= {f"{name}.{field.name}": getattr(whole, field.name) for field in dataclasses.fields(whole)}
        for name, several in (("dr", self.dr), ("x87.r", self.st), ("xmm", self.xmm)):
            values |= {f"{name}{at}": value for at, value in enumerate(several)}
        return values

    def value(self, name: str) -> int:
        """The register of EDITABLE that is called so. Raises UsageError."""
        check_register(name)
        if name in _BASES:
            return getattr(self, _BASES[name]).base
        if name.startswith("xmm"):
            return self.xmm[int(name[3:])]
        if name.startswith("st"):
            return self.st_stack[int(name[2:])]
        return getattr(self, name)

    @classmethod
    def from_native(cls, raw: Any) -> Registers:
        """From a `cc_regs *`."""
        values: dict[str, Any] = {name: getattr(raw, name) for name in _SCALARS}
        values.update(zip(GPR_NAMES, raw.gpr, strict=True))
        for name, segment in zip(SEGMENT_NAMES, raw.seg, strict=True):
            values[name] = _segment(segment)
        return cls(
            **values,
            ldtr=_segment(raw.ldtr),
            tr=_segment(raw.tr),
            gdtr=DescriptorTable(raw.gdtr.base, raw.gdtr.limit),
            idtr=DescriptorTable(raw.idtr.base, raw.idtr.limit),
            dr=tuple(raw.dr),
            st=tuple(r.sexp << 64 | r.mant for r in raw.st),
            xmm=tuple(r.q[1] << 64 | r.q[0] for r in raw.xmm),
        )

    def to_native(self, raw: Any) -> None:
        """Into a `cc_regs *`. Raises UsageError as check() does."""
        self.check()
        for name in _SCALARS:
            setattr(raw, name, getattr(self, name))
        for i, name in enumerate(GPR_NAMES):
            raw.gpr[i] = getattr(self, name) & _MASK64
        for i, name in enumerate(SEGMENT_NAMES):
            _set_segment(raw.seg[i], getattr(self, name))
        _set_segment(raw.ldtr, self.ldtr)
        _set_segment(raw.tr, self.tr)
        for target, table in ((raw.gdtr, self.gdtr), (raw.idtr, self.idtr)):
            target.base, target.limit = table.base, table.limit
        for i in range(8):
            raw.dr[i] = self.dr[i]
            raw.st[i].mant, raw.st[i].sexp = self.st[i] & _MASK64, self.st[i] >> 64 & 0xFFFF
        for i in range(16):
            raw.xmm[i].q[0], raw.xmm[i].q[1] = self.xmm[i] & _MASK64, self.xmm[i] >> 64 & _MASK64


def _with(values: tuple[int, ...], at: int, value: int) -> tuple[int, ...]:
    return (*values[:at], value, *values[at + 1 :])


def _segment(raw: Any) -> Segment:
    return Segment(raw.selector, raw.base, raw.limit, raw.attr)


def _set_segment(raw: Any, segment: Segment) -> None:
    raw.selector, raw.base, raw.limit, raw.attr = segment.selector, segment.base, segment.limit, segment.attr
