"""Compares the soft CPU's decoder with two independent ones, iced-x86 and capstone, in 64-bit mode.

Each decoder gives a *verdict* on some bytes: the instruction's length, or 0 for "undefined" (the CPU raises #UD, or #GP
for more than 15 bytes). The verdicts must be equal. iced-x86 follows the SDM for Intel CPUs that have everything, so
what is expected of us follows from it by one table: FEATURES, what the CPU profile offers, and HIDDEN, the few encodings
that mean something older where a feature is absent. capstone, derived from LLVM's disassembler, accepts and rejects
some encodings differently from the SDM; RULES names each such set by a predicate as narrow as the encoding allows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import capstone
import iced_x86

from chaoscontrol.native_library import decode_lengths

BYTES_MAX = 15
"""SDM vol. 2, 2.3.11: a longer instruction raises #GP."""

LEGACY_PREFIXES = frozenset(b"\x66\x67\xf0\xf2\xf3\x26\x2e\x36\x3e\x64\x65")

FEATURES = frozenset(
    getattr(iced_x86.CpuidFeature, name)
    for name in [
        "INTEL8086",
        "INTEL186",
        "INTEL286",
        "INTEL386",
        "INTEL486",
        "X64",
        "FPU",
        "FPU287",
        "FPU387",
        "CPUID",
        "CX8",
        "CMOV",
        "TSC",
        "MSR",
        "RDPMC",
        "SYSCALL",
        "FXSR",
        "MMX",
        "SSE",
        "SSE2",
        "SSE3",
        "SSSE3",
        "SSE4_1",
        "SSE4_2",
        "POPCNT",
        "MOVBE",
        "CMPXCHG16B",
        "CLFSH",
        "PREFETCHW",
        "MULTIBYTENOP",
        "PAUSE",
        "FSGSBASE",
        "SMAP",
    ]
)
"""What the profile of native/cpuid.c offers (PREFETCHW executes as a NOP on every 64-bit CPU, SDM vol. 2). SYSENTER and
SYSEXIT (SEP), RSM and VMX are not offered: #UD."""

HIDDEN: dict[str, str] = {
    "TZCNT": "F3 is ignored before BSF where BMI1 is absent (SDM vol. 2, TZCNT)",
    "LZCNT": "F3 is ignored before BSR where LZCNT is absent (SDM vol. 2, LZCNT)",
    "WBNOINVD": "F3 is ignored before WBINVD (SDM vol. 2, WBNOINVD)",
    "PREFETCHWT1": "0F 0D is a prefetch hint whatever its /digit",
    "PREFETCHIT0": "0F 18 /4 to /7 are reserved NOPs (SDM vol. 2, table A-6, group 16)",
    "PREFETCHIT1": "0F 18 /4 to /7 are reserved NOPs (SDM vol. 2, table A-6, group 16)",
    "CLDEMOTE": "0F 1C is a reserved NOP (SDM vol. 2, CLDEMOTE)",
    "RDSSPD": "0F 1E is a reserved NOP where CET is absent (SDM vol. 2, RDSSPD)",
    "RDSSPQ": "0F 1E is a reserved NOP where CET is absent (SDM vol. 2, RDSSPQ)",
    "ENDBR32": "0F 1E is a reserved NOP where CET is absent (SDM vol. 2, ENDBR32)",
    "ENDBR64": "0F 1E is a reserved NOP where CET is absent (SDM vol. 2, ENDBR64)",
}
"""Mnemonics of absent features whose encoding is an older instruction, of the same length, without them."""

HIDDEN_CODES = frozenset(getattr(iced_x86.Mnemonic, name) for name in HIDDEN)


@dataclass(frozen=True)
class Fields:
    """The parts of an instruction that rules look at."""

    prefixes: bytes
    rex: int
    map: int  # 0 one byte, 1: 0F, 2: 0F 38, 3: 0F 3A
    opcode: int
    modrm: int
    operands_at: int
    """Offset of the ModRM byte or immediate."""

    @property
    def digit(self) -> int:
        return (self.modrm >> 3) & 7

    @property
    def register(self) -> bool:
        return self.modrm >= 0xC0

    @property
    def mandatory(self) -> bool:
        """Is there a prefix that may select another instruction: 66, F2 or F3?"""
        return any(p in self.prefixes for p in b"\x66\xf2\xf3")


def split(code: bytes) -> Fields:
    """The fields of `code`, which may be undefined but not all prefixes."""
    at, rex = 0, 0
    while code[at] in LEGACY_PREFIXES or code[at] & 0xF0 == 0x40:
        rex = code[at] if code[at] & 0xF0 == 0x40 else 0
        at += 1
        if at == len(code):
            return Fields(bytes(b for b in code if b in LEGACY_PREFIXES), rex, 0, 0, 0, at)
    prefixes = bytes(b for b in code[:at] if b in LEGACY_PREFIXES)
    padded = code + bytes(4)
    opcode_map = 0
    if padded[at] == 0x0F:
        opcode_map = {0x38: 2, 0x3A: 3}.get(padded[at + 1], 1)
        at += 1 if opcode_map == 1 else 2
    return Fields(prefixes, rex, opcode_map, padded[at], padded[at + 1], at + 1)


class Iced:
    """iced-x86's verdicts on one buffer, and what it would say of changed bytes."""

    def __init__(self, data: bytes) -> None:
        self._decoder = iced_x86.Decoder(64, data)
        self.insn = iced_x86.Instruction()

    def at(self, offset: int) -> int:
        """The length at `offset`, 0 if undefined; `insn` is the instruction."""
        self._decoder.position = offset
        self._decoder.ip = 0
        self._decoder.decode_out(self.insn)
        return self.insn.len if self.insn.code else 0


def offered(insn: iced_x86.Instruction) -> bool:
    """Does the CPU profile execute this instruction, or an older one of the same encoding?"""
    return FEATURES.issuperset(insn.cpuid_features()) or insn.mnemonic in HIDDEN_CODES


def without(code: bytes, dropped: bytes) -> bytes:
    """`code` with the legacy prefixes in `dropped` left out."""
    at = 0
    while at < len(code) and (code[at] in LEGACY_PREFIXES or code[at] & 0xF0 == 0x40):
        at += 1
    return bytes(b for b in code[:at] if b not in dropped) + code[at:]


def _defined_without(code: bytes, dropped: bytes) -> bool:
    return bool(Iced((without(code, dropped) + bytes(BYTES_MAX))[:BYTES_MAX]).at(0))


@dataclass(frozen=True)
class Rule:
    """A set of encodings on which capstone departs from the SDM. A rule never excuses iced-x86 or us."""

    name: str
    why: str
    defined: bool
    """What the SDM says of the encodings: a defined instruction or not."""
    accepted: bool
    """Does capstone accept them? When both are true, it gives another length."""
    applies: Callable[[Fields, bytes], bool]


RULES: tuple[Rule, ...] = (
    # ---- undefined, accepted by capstone -----------------------------------------------------------------------------
    Rule(
        "lock",
        "LOCK is only for read-modify-write instructions with a memory destination, otherwise #UD (SDM vol. 2, LOCK)",
        False, True, lambda f, code: 0xF0 in f.prefixes,
    ),
    Rule(
        "too-long",
        "instructions of the rules undefined-modrm and near-branch-66 that have more than 15 bytes",
        False, True,
        lambda f, code: f.map == 1 and (f.opcode in (0xFF, 0xB9) or f.opcode & 0xF0 == 0x80)
        and 0xF0 not in f.prefixes and _defined_without(code, f.prefixes.replace(b"\x66", b"")),
    ),
    Rule(
        "no-prefix",
        "instructions marked NP in the SDM (vol. 2, 3.1.1.1) are undefined with 66, F2 or F3",
        False, True, lambda f, code: f.map > 0
        and f.mandatory
        and (_defined_without(code, b"\x66\xf2\xf3") or _defined_without(code, b"\x66")),
    ),
    Rule(
        "control-registers",
        "CR1, CR5 to CR7 and CR9 to CR15 do not exist: #UD (SDM vol. 2, MOV control registers)",
        False, True,
        lambda f, code: f.map == 1 and f.opcode in (0x20, 0x22) and f.digit | (f.rex & 4) << 1 not in (0, 2, 3, 4, 8),
    ),
    Rule(
        "debug-registers",
        "DR8 to DR15 do not exist: #UD (SDM vol. 2, MOV debug registers)",
        False, True, lambda f, code: f.map == 1 and f.opcode in (0x21, 0x23) and bool(f.rex & 4),
    ),
    Rule(
        "load-cs",
        "MOV cannot load CS: #UD (SDM vol. 2, MOV)",
        False, True, lambda f, code: f.map == 0 and f.opcode == 0x8E and f.digit == 1,
    ),
    Rule(
        "vex",
        "AVX, AVX-512 and XOP are not offered: their prefixes are #UD in 64-bit mode (SDM vol. 2, 2.3.1, 2.7)",
        False, True,
        lambda f, code: f.map == 0 and (f.opcode in (0xC4, 0xC5, 0x62) or (f.opcode == 0x8F and f.digit != 0)),
    ),
    Rule(
        "two-mandatory-prefixes",
        "F2 or F3 takes precedence over 66 wherever 66 stands (SDM vol. 2, 2.1.2); capstone also decodes 66's opcode",
        False, True,
        lambda f, code: f.map > 0 and 0x66 in f.prefixes and _defined_without(code, b"\xf2\xf3"),
    ),
    Rule(
        "last-repeat-prefix",
        "of F2 and F3 the last one counts (executed in test_corners.py); capstone takes either",
        False, True,
        lambda f, code: f.map > 0 and 0xF2 in f.prefixes and 0xF3 in f.prefixes
        and (_defined_without(code, b"\xf2") or _defined_without(code, b"\xf3")),
    ),
    Rule(
        "absent",
        "a VIA PadLock, 3DNow!, MOVDIR64B, VMX or SVM form that iced-x86 does not know or defines more narrowly",
        False, True,
        lambda f, code: (f.map == 1 and f.opcode in (0x0F, 0x78, 0x79, 0xA6, 0xA7)) or (f.map == 2 and f.opcode == 0xF8),
    ),
    # ---- defined, rejected by capstone -----------------------------------------------------------------------------
    Rule(
        "reserved-nop",
        "0F 0D and 0F 18 to 0F 1F are reserved NOPs or hints in all forms (SDM vol. 2, tables A-3 and A-6)",
        True, False, lambda f, code: f.map == 1 and (f.opcode == 0x0D or 0x18 <= f.opcode <= 0x1F),
    ),
    Rule(
        "x87-aliases",
        "DC D0-DF, DD C8-CF, DE D0-D7 and DF C8-DF are aliases of other x87 instructions on every CPU (executed in "
        "test_differential.py)",
        True, False,
        lambda f, code: f.map == 0 and f.register
        and (f.opcode, f.digit) in ((0xDC, 2), (0xDC, 3), (0xDD, 1), (0xDE, 2), (0xDF, 1), (0xDF, 2), (0xDF, 3)),
    ),
    Rule(
        "fences",
        "LFENCE, MFENCE and SFENCE ignore ModRM.rm (SDM vol. 2, table A-6, group 15)",
        True, False, lambda f, code: f.map == 1 and f.opcode == 0xAE and f.register and f.digit >= 5,
    ),
    Rule(
        "two-mandatory-prefixes",
        "F2 or F3 takes precedence over 66 wherever 66 stands (SDM vol. 2, 2.1.2); capstone rejects some orders",
        True, False,
        lambda f, code: f.map > 0 and 0x66 in f.prefixes and (0xF2 in f.prefixes or 0xF3 in f.prefixes),
    ),
    Rule(
        "rep-ignored",
        "F2 and F3 are ignored before BSF, BSR, MOVSXD and PAUSE with 66 (SDM vol. 2, 2.1.1); capstone knows them as "
        "parts of other encodings only",
        True, False,
        lambda f, code: (0xF2 in f.prefixes or 0xF3 in f.prefixes)
        and (f.map, f.opcode) in ((1, 0xBC), (1, 0xBD), (0, 0x63), (0, 0x90)),
    ),
    Rule(
        "movsxd-67",
        "67 before MOVSXD selects 32-bit addresses, as everywhere (SDM vol. 2, 2.2.1.3)",
        True, False, lambda f, code: f.map == 0 and f.opcode == 0x63 and 0x67 in f.prefixes,
    ),
    # ---- defined, of another length ----------------------------------------------------------------------------------
    Rule(
        "undefined-modrm",
        "UD0 and UD1 have a ModRM byte (SDM vol. 2, UD)",
        True, True, lambda f, code: f.map == 1 and f.opcode in (0xFF, 0xB9),
    ),
    Rule(
        "near-branch-66",
        "66 does not shorten the displacement of a near branch in 64-bit mode on Intel CPUs (SDM vol. 2, Jcc, JMP, CALL)",
        True, True,
        lambda f, code: 0x66 in f.prefixes
        and ((f.map == 1 and f.opcode & 0xF0 == 0x80) or (f.map == 0 and f.opcode in (0xE8, 0xE9))),
    ),
    Rule(
        "ret-immediate",
        "the immediate of RET has 16 bits whatever the operand size (SDM vol. 2, RET)",
        True, True, lambda f, code: f.map == 0 and f.opcode in (0xC2, 0xCA),
    ),
    Rule(
        "ret-immediate",
        "as above, where the longer immediate passes 15 bytes: that of RET has 16 bits whatever the operand size (SDM vol. 2, RET)",
        True, False, lambda f, code: f.map == 0 and f.opcode in (0xC2, 0xCA),
    ),
)  # fmt: skip


@dataclass
class Comparison:
    """What a comparison found."""

    compared: int = 0
    defined: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    """How often each rule excused capstone."""
    hidden: Counter[str] = field(default_factory=Counter)
    """How often an instruction of an absent feature was executed as an older one."""
    failures: list[str] = field(default_factory=list)


_capstone = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)


def _capstone_length(code: bytes) -> int:
    for insn in _capstone.disasm_lite(code, 0, 1):
        return insn[1]
    return 0


def compare(data: bytes, stride: int = 1, failures_max: int = 50) -> Comparison:
    """Compare the verdicts on the instructions at every `stride`-th byte of `data`."""
    out = Comparison()
    ours_at = decode_lengths(data, stride)
    iced = Iced(data)
    for i, ours in enumerate(ours_at):
        at = i * stride
        code = data[at : at + BYTES_MAX]
        known = iced.at(at)
        theirs = _capstone_length(code)
        out.compared += 1
        out.defined += ours > 0
        if ours == known == theirs != 0 and FEATURES.issuperset(iced.insn.cpuid_features()):
            continue
        expected = known if known and offered(iced.insn) else 0
        if expected and iced.insn.mnemonic in HIDDEN_CODES:
            out.hidden[_mnemonic(iced.insn)] += 1
        excuse = None
        # an instruction of an absent feature: both know it, and we must not
        agreed = theirs == expected or (theirs == known and not expected)
        if not agreed:
            fields = split(code)
            excuse = next(
                (
                    r.name
                    for r in RULES
                    if r.defined == (expected > 0) and r.accepted == (theirs > 0) and r.applies(fields, code)
                ),
                None,
            )
            if excuse:
                out.rules[excuse] += 1
        if (ours != expected or not (agreed or excuse)) and len(out.failures) < failures_max:
            out.failures.append(f"{code.hex()}: ours {ours}, iced-x86 {known} ({iced.insn}), capstone {theirs}")
    return out


def _mnemonic(insn: iced_x86.Instruction) -> str:
    return next(name for name in HIDDEN if getattr(iced_x86.Mnemonic, name) == insn.mnemonic)
