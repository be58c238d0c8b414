"""Turns the opcode table (forms_table.py) into the records that the differential test's generator draws from.

A *form* is one opcode with one operand size and one kind of ModRM operand (register or memory): the unit of coverage.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import forms_table

FLAG_BITS = {"c": 1, "p": 2, "a": 4, "z": 8, "s": 16, "o": 32, "d": 64}
REGISTERS = {"rax": 0, "rcx": 1, "rdx": 2, "rbx": 3, "rsp": 4, "rbp": 5, "rsi": 6, "rdi": 7}

# Operand kinds (native/diff.h, enum kind).
KINDS = ("none", "gpr8", "gpr", "mmx", "xmm", "sreg", "creg", "dreg", "st")
MEM_CLASSES = ("int", "f32", "f64", "f80", "bcd", "env", "state", "fx", "ptr", "i16", "i32", "i64")
SPECIALS = (
    "none",
    "stack",
    "jcc",
    "rdseg",
    "wrseg",
    "pushf",
    "popf",
    "string",
    "shift",
    "ret",
    "enter",
    "leave",
    "retf",
    "int3",
    "int",
    "iret",
    "xlat",
    "loop",
    "call",
    "jmp",
    "int1",
    "div",
    "calli",
    "jmpi",
    "farptr",
    "selector",
    "hint",
    "cmov",
    "setcc",
    "popseg",
    "bitmem",
    "shld",
    "wrbase",
    "lsel",
    "sti",
    "fenv",
    "fldcw",
    "approx",
    "fninit",
    "fstsw",
    "maskmov",
    "fx",
    "ldmxcsr",
    "nowild",
)
CLASSES = ("int", "x87", "mmx", "sse")

ATTR_LOCK, ATTR_UD, ATTR_GP, ATTR_NOREP = 1, 2, 4, 8
MOD_NONE, MOD_REG, MOD_MEM, MOD_FIXED, MOD_OPREG = range(5)

RECORD = struct.Struct("<BBBb hBB BBBB BBBB BBBB HBB BBBB HH 4x")

_MEM_CODES = {
    "f32": ("f32", 4),
    "f64": ("f64", 8),
    "f80": ("f80", 10),
    "i16": ("i16", 2),
    "i32": ("i32", 4),
    "i64": ("i64", 8),
    "bcd": ("bcd", 10),
    "fx": ("fx", 512),
}
_ALU = ("add", "or", "adc", "sbb", "and", "sub", "xor", "cmp")
_X87 = ("fadd", "fmul", "fcom", "fcomp", "fsub", "fsubr", "fdiv", "fdivr")
_SHIFT = ("rol", "ror", "rcl", "rcr", "shl", "shr", "sal", "sar")


@dataclass(frozen=True)
class Operand:
    """One explicit operand: where it is encoded, its kind, its sizes in bytes and how it is accessed."""

    place: str  # "reg", "rm", "opreg", "fixed", "imm", "moffs", "rel"
    kind: str = "none"
    size: int = 0
    mem_size: int = 0
    mem_class: str = "int"
    access: int = 1  # bit 0 read, bit 1 written
    only: str = ""  # "mem" or "reg" where ModRM.rm cannot be both


@dataclass(frozen=True)
class Form:
    """One opcode form; see `name` for the identity that the coverage table prints."""

    mnemonic: str
    spec: str
    map: int
    prefix: int
    opcode: int
    mod: int
    digit: int = -1
    fixed_modrm: int = -1
    size: int = 0
    d64: bool = False
    rexw: int = 0  # 0 free, 1 forced, 2 forbidden
    imm: int = 0
    special: str = "none"
    cls: str = "int"
    reg: Operand = field(default_factory=lambda: Operand("none", access=0))
    rm: Operand = field(default_factory=lambda: Operand("none", access=0))
    align: int = 1
    tested: int = 0
    modified: int = 0
    undefined: int = 0
    x87_undefined: int = 0
    attrs: int = 0
    implicit_writes: int = 0

    @property
    def name(self) -> str:
        where = {MOD_REG: " reg", MOD_MEM: " mem"}.get(self.mod, "")
        size = f" {self.size * 8}" if self.size else ""
        return f"{self.spec} {self.mnemonic}{where}{size}"

    def pack(self) -> bytes:
        """The record of native/diff.h, struct form."""
        mem = self.rm if self.mod == MOD_MEM or self.rm.place == "moffs" else Operand("none")
        return RECORD.pack(
            self.map, self.prefix, self.opcode, self.digit, self.fixed_modrm, self.mod, self.size,
            int(self.d64), self.rexw, self.imm, SPECIALS.index(self.special),
            CLASSES.index(self.cls), KINDS.index(self.reg.kind), self.reg.size, self.reg.access,
            KINDS.index(self.rm.kind), self.rm.size, self.rm.access, self.align,
            mem.mem_size, MEM_CLASSES.index(mem.mem_class), int(self.rm.place == "moffs"),
            self.tested, self.modified, self.undefined, self.x87_undefined, self.implicit_writes, self.attrs,
        )  # fmt: skip


def _flags(letters: str) -> int:
    return sum(FLAG_BITS[c] for c in letters)


def _size_of(code: str, osz: int) -> int:
    match code:
        case "b":
            return 1
        case "w":
            return 2
        case "d":
            return 4
        case "q":
            return 8
        case "v":
            return osz
        case "z":
            return min(osz, 4)
        case "y":
            return 8 if osz == 8 else 4
        case "x":
            return 16
        case _:
            raise ValueError(code)


def _operand(text: str, osz: int) -> Operand:
    """Parse one operand for one operand size."""
    access = 3 if "+" in text else 2 if "=" in text else 1
    text = text.replace("+", "").replace("=", "")
    text, _, content = text.partition(":")
    if text.startswith("AL"):
        return Operand("fixed", "gpr8", 1, access=access)
    if text.startswith("AX"):
        return Operand("fixed", "gpr", osz, access=access)
    letter, code = text[0], text[1:]
    if letter == "T":
        return Operand("rm", "st", 10, only="reg", access=3)
    if letter == "M":
        if code in _MEM_CODES:
            cls, size = _MEM_CODES[code]
            return Operand("rm", "none", 0, size, cls, access, "mem")
        if code == "env":
            return Operand("rm", "none", 0, 14 if osz == 2 else 28, "env", access, "mem")
        if code == "state":
            return Operand("rm", "none", 0, 94 if osz == 2 else 108, "state", access, "mem")
        if code == "p":
            return Operand("rm", "none", 0, osz + 2, "ptr", access, "mem")
        size = int(code) if code.isdigit() else _size_of(code, osz)
        return Operand("rm", "none", 0, size, content or "int", access, "mem")
    if letter in "VWU":
        mem = 16 if code in ("x", "") else int(code)
        place = "reg" if letter == "V" else "rm"
        return Operand(place, "xmm", 16, mem, content or "int", access, "reg" if letter == "U" else "")
    if letter in "PQN":
        place = "reg" if letter == "P" else "rm"
        return Operand(place, "mmx", 8, 8, content or "int", access, "reg" if letter == "N" else "")
    if letter in "SCD":
        return Operand("reg", {"S": "sreg", "C": "creg", "D": "dreg"}[letter], 8, access=access)
    if letter in "IJO":
        places = {"I": "imm", "J": "rel", "O": "moffs"}
        size = _size_of(code, osz)
        return Operand(places[letter], "none", size, size, access=access)
    size = _size_of(code[0], osz)
    mem_size = int(code[1:]) if code[1:] else size
    kind = "gpr8" if size == 1 else "gpr"
    place = {"E": "rm", "R": "rm", "G": "reg", "Z": "opreg"}[letter]
    return Operand(place, kind, size, mem_size, "int", access, "reg" if letter == "R" else "")


def _opcode(spec: str) -> dict[str, int]:
    """Map, mandatory prefix, opcode byte, digit and fixed ModRM of an opcode spec."""
    out = {"map": 0, "prefix": 0, "opcode": 0, "digit": -1, "fixed_modrm": -1, "opreg": 0}
    if "+r" in spec:
        out["opreg"] = 1
        spec = spec.replace("+r", "")
    if "=" in spec:
        spec, _, fixed = spec.partition("=")
        out["fixed_modrm"] = int(fixed, 16)
    if "/" in spec:
        spec, _, digit = spec.partition("/")
        out["digit"] = int(digit)
    parts = spec.split("_")
    if parts[0] in ("np", "66", "f2", "f3") and len(parts) > 1:
        # 0xff stands for "no prefix allowed", since 66, F2 or F3 would select another instruction.
        out["prefix"] = {"np": 0xFF, "66": 0x66, "f2": 0xF2, "f3": 0xF3}[parts.pop(0)]
    if len(parts) > 1:
        out["map"] = {"0f": 1, "0f38": 2, "0f3a": 3}[parts.pop(0)]
    out["opcode"] = int(parts[0], 16)
    return out


def _sizes(operands: list[str], d64: bool, rexw: int) -> list[int]:
    """Operand sizes (bytes) to expand a line into; [0] where the opcode has none."""
    codes: set[str] = set()
    for text in operands:
        bare = text.replace("+", "").replace("=", "").partition(":")[0]
        if bare.startswith(("AL", "AX")):
            codes.add(bare[2:])
        elif bare in ("Menv", "Mstate") or bare == "Mp":
            codes.add("z")
        elif bare == "v":
            codes.add("v")
        elif bare[0] == "J" or (bare[0] == "I" and bare[1:] in ("b", "w")):
            continue
        elif bare[0] not in "TVWUPQNSCD" and not (bare[0] == "M" and bare[1:] in _MEM_CODES):
            codes.add(bare[1:2] if bare[0] != "-" else bare[1:])
    if d64:
        return [2, 8]
    if rexw == 1:
        return [8]
    if "v" in codes:
        return [2, 4, 8]
    if "y" in codes:
        return [4, 8]
    if "z" in codes:
        return [2, 4]
    if "b" in codes:
        return [1]
    return [0]


def _expand_line(
    mnemonic: str, spec: str, operands: str, attrs: list[str]
) -> Iterator[tuple[str, str, str, list[str]]]:
    """Expand the table's abbreviations (alu, shift groups, jcc, fparith, simd, ...) into plain lines."""
    low = attrs[0] if attrs else ""
    if mnemonic == "alu":
        for i, name in enumerate(_ALU):
            extra = ["m:oszpc", "u:a"] if name in ("or", "and", "xor") else ["m:oszapc"]
            extra += ["t:c"] if name in ("adc", "sbb") else []
            ops = operands.replace("+", "") if name == "cmp" else operands
            extra += ["lock"] if ops.startswith("E") and "+" in ops else []
            yield name, f"{int(spec, 16) + i * 8:02x}", ops, extra
    elif mnemonic == "grp1":
        for i, name in enumerate(_ALU):
            extra = ["m:oszpc", "u:a"] if name in ("or", "and", "xor") else ["m:oszapc"]
            extra += ["t:c"] if name in ("adc", "sbb") else []
            ops = operands.replace("+", "") if name == "cmp" else operands
            yield name, spec.replace("/x", f"/{i}"), ops, extra + (["lock"] if name != "cmp" else [])
    elif mnemonic == "shift":
        for i, name in enumerate(_SHIFT):
            yield name, spec.replace("/x", f"/{i}"), operands, [*attrs, f"digit:{i}"]
    elif spec.endswith("x") and "/" not in spec:
        for i in range(16):
            yield f"{mnemonic}{i:x}", f"{spec[:-1]}{i:x}", operands, attrs
    elif mnemonic in ("x87a", "x87i", "x87r", "x87p"):
        for i, name in enumerate(_X87):
            if mnemonic in ("x87r", "x87p") and i in (2, 3):
                continue
            if mnemonic in ("x87r", "x87p") and i >= 4:
                name = _X87[i ^ 1]
            name += {"x87i": "i", "x87p": "p"}.get(mnemonic, "").replace("i", "")
            xu = "xu:-" if i in (2, 3) else "xu:023"
            yield ("fi" + name[1:] if mnemonic == "x87i" else name), spec.replace("/x", f"/{i}"), operands, [*attrs, xu]
    elif "/x" in spec:
        for i in range(8):
            yield mnemonic, spec.replace("/x", f"/{i}"), operands, attrs
    elif mnemonic == "fparith":
        unary = spec.endswith("51")
        for prefix, code in (("np", "Wx:f32"), ("66", "Wx:f64"), ("f3", "W4:f32"), ("f2", "W8:f64")):
            packed = code.startswith("Wx")
            yield (
                mnemonic,
                f"{prefix}_{spec}",
                f"Vx{'=' if unary and packed else '+'},{code}",
                ["al16"] if packed else [],
            )
    elif mnemonic == "simd":
        eq = "=" if low == "=" else "+"
        # The low-half MMX unpacks read 32 bits of memory (SDM: mm/m32).
        mmx_mem = "Qq"
        yield mnemonic, f"np_{spec}", f"Pq{eq},{mmx_mem}", (["mem:4"] if low == "low" else [])
        yield mnemonic, f"66_{spec}", f"Vx{eq},Wx", ["al16"]
    elif mnemonic == "simdsh":
        yield mnemonic, f"np_{spec}", "Nq+,Ib", []
        yield mnemonic, f"66_{spec}", "Ux+,Ib", []
    else:
        yield mnemonic, spec, operands, attrs


def _build(mnemonic: str, spec: str, operands: str, attrs: list[str], cls: str) -> Iterator[Form]:
    op = _opcode(spec)
    values = dict(a.split(":", 1) for a in attrs if ":" in a)
    d64 = "d64" in attrs
    rexw = 1 if "w1" in attrs else 2 if "w0" in attrs else 0
    names = [] if operands == "-" else operands.split(",")
    xu = values.get("xu", "")
    attr_bits = (
        (ATTR_LOCK if "lock" in attrs else 0) | (ATTR_UD if "ud" in attrs else 0)
        | (ATTR_GP if "gp" in attrs else 0) | (ATTR_NOREP if "norep" in attrs else 0)
    )  # fmt: skip
    for size in _sizes(names, d64, rexw):
        ops = [_operand(n, size) for n in names if n[0] != "-" and n != "v"]
        reg = next((o for o in ops if o.place == "reg"), Operand("none", access=0))
        rm = next((o for o in ops if o.place in ("rm", "moffs")), Operand("none", access=0))
        imm = sum(o.size for o in ops if o.place in ("imm", "rel"))
        fixed = next((o for o in ops if o.place == "fixed"), None)
        opreg = next((o for o in ops if o.place == "opreg"), None)
        implicit = sum(1 << REGISTERS[r] for r in values.get("w", "").split(",") if r)
        if fixed is not None and fixed.access & 2:
            implicit |= 1
        this_cls = cls
        kinds = {o.kind for o in ops}
        if cls == "sse" and "mmx" in kinds:
            this_cls = "mmx"
        form = Form(
            mnemonic=mnemonic, spec=spec, map=op["map"], prefix=op["prefix"], opcode=op["opcode"], mod=MOD_NONE,
            digit=op["digit"], fixed_modrm=op["fixed_modrm"], size=size, d64=d64, rexw=rexw, imm=imm,
            special=values.get("sp", "none"), cls="x87" if "x87" in attrs else this_cls, reg=reg, rm=rm,
            align=16 if "al16" in attrs else 1, tested=_flags(values.get("t", "")), modified=_flags(values.get("m", "")),
            undefined=_flags(values.get("u", "")), attrs=attr_bits, implicit_writes=implicit,
            x87_undefined=sum(1 << int(c) for c in xu if c.isdigit()) | (0x80 if xu else 0),
        )  # fmt: skip
        if op["fixed_modrm"] >= 0:
            yield replace(form, mod=MOD_FIXED)
        elif op["opreg"]:
            assert opreg is not None
            yield replace(form, mod=MOD_OPREG, rm=opreg)
        elif rm.place != "rm":
            yield form
        else:
            if rm.only != "mem":
                yield replace(form, mod=MOD_REG)
            if rm.only != "reg":
                mem = replace(rm, mem_size=int(values["mem"])) if "mem" in values else rm
                yield replace(form, mod=MOD_MEM, rm=mem)


def all_forms() -> list[Form]:
    """Every form of the table, in the table's order; the index is the form's number in the generator."""
    forms: list[Form] = []
    for text, cls in ((forms_table.INTEGER, "int"), (forms_table.X87, "x87"), (forms_table.SSE, "sse")):
        for raw in text.splitlines():
            line = raw.strip()
            if not line or line.startswith("#"):
                continue
            mnemonic, spec, *rest = re.split(r"\s+", line)
            operands, attrs = (rest[0], rest[1:]) if rest else ("-", [])
            for m, s, o, a in _expand_line(mnemonic, spec, operands, attrs):
                forms.extend(_build(m, s, o, a, cls))
    return forms


def pack_forms(forms: list[Form]) -> bytes:
    """The file that the generator reads: magic, record size, count, records."""
    return struct.pack("<4sII", b"CCF1", RECORD.size, len(forms)) + b"".join(f.pack() for f in forms)
