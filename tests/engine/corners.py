"""Corners of the instruction set that random sequences reach rarely, as cases for test_corners.py.

A case is assembler text (Intel syntax) with initial registers; it runs on the soft CPU and on the host CPU, at CPL 3,
until INT3 behind it or the first exception, and everything architectural must be equal: registers, flags, x87, XMM,
MXCSR, memory, vector, error code. Flags that the SDM leaves undefined are named per case ("oszapc").

Memory: the regions of native/diff.h, filled with boundary-like values. Registers start as in `BASE`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

NEAR, ENV, DATA, STACK = 0x10100000, 0x10200000, 0xFFFFE000, 0x200000000000
MASK64 = (1 << 64) - 1

REGISTERS = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{i}" for i in range(8, 16)))
BASE = {
    "rax": 0x1122334455667788, "rcx": 0xFEDCBA9876543210, "rdx": 0x8000000080008080, "rbx": DATA + 0x1000,
    "rsp": STACK + 0x1000, "rbp": STACK + 0x1800, "rsi": NEAR + 0x800, "rdi": NEAR + 0x200,
    **{f"r{i}": (0x0101010101010101 * (i * 16 + 15 - i)) & MASK64 for i in range(8, 16)},
}  # fmt: skip

NAMES = {
    8: ("al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil", "r8b", "r9b"),
    16: ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "r8w", "r9w"),
    32: ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "r8d", "r9d"),
    64: ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9"),
}
PTR = {8: "byte ptr", 16: "word ptr", 32: "dword ptr", 64: "qword ptr", 80: "tbyte ptr", 128: "xmmword ptr"}
CF, PF, AF, ZF, SF, DF, OF = 1, 4, 0x10, 0x40, 0x80, 0x400, 0x800


VENDOR_RULES = (
    "either-operand", "any-part", "trap-at-int1", "push-before-target", "align-before-stack", "flags-of-last-iteration",
    "upper-halves-kept", "exchange", "another-nan", "low-half-first", "access-before-exception", "denormal-underflows",
    "top-kept", "low-part-stored", "offset-canonical", "returns-read-ahead",
)  # fmt: skip
"""The rules of native/diff_rules.c, in its order: where some vendor's processors differ, and how."""


@dataclass(frozen=True)
class Case:
    """One case. `registers` overrides BASE and names xmm0..15, mxcsr, fcw, fs, gs too."""

    text: str
    registers: dict[str, int] = field(default_factory=dict)
    flags: int = 0
    undefined: str = ""
    x87_undefined: str = ""
    """Condition bits C0 to C3 that are undefined, as digits."""
    vendors: tuple[str, ...] = ()
    """The VENDOR_RULES that may apply, on hosts of the vendors that each is for."""

    @property
    def name(self) -> str:
        values = " ".join(f"{k}={v:#x}" for k, v in self.registers.items())
        return f"{self.text.strip()} [{values} flags={self.flags:#x}]"


def boundaries(bits: int) -> tuple[int, ...]:
    top = 1 << bits
    return (0, 1, 2, top // 2 - 1, top // 2, top // 2 + 1, top - 2, top - 1, 0x5A5A5A5A5A5A5A5A % top)


def wide(value: int, bits: int, other: int = 0x7766554433221100) -> int:
    """`value` in the low bits of a register whose upper bits are something else."""
    return (other & ~((1 << bits) - 1) | value & ((1 << bits) - 1)) & MASK64


# ---- integer ----------------------------------------------------------------------------------------------------


def shifts() -> Iterator[Case]:
    some = (0, 1, 2, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 63, 64, 65, 255)
    for op, bits in itertools.product(("rol", "ror", "rcl", "rcr", "shl", "shr", "sar"), (8, 16, 32, 64)):
        for count in range(66) if op in ("rcl", "rcr") else some:
            for value in (1, (1 << bits) - 2, 0x5A5A5A5A5A5A5A5A % (1 << bits) | 1 << (bits - 1)):
                for flags in (0, CF | PF | AF | ZF | SF | OF):
                    masked = count & (63 if bits == 64 else 31)
                    undefined = "" if masked == 0 else "o" if masked > 1 else ""
                    if op in ("shl", "shr", "sar") and masked:
                        undefined += "a"
                    if op in ("shl", "shr") and masked >= bits:
                        undefined += "c"
                    registers = {"rax": wide(value, bits), "rcx": 0x1100 | count}
                    yield Case(f"{op} {NAMES[bits][0]}, cl", registers, flags, undefined)
                    if flags == 0 and count in some:
                        yield Case(f"{op} {NAMES[bits][0]}, {count}", registers, CF, undefined)
                        yield Case(f"mov [rbx+4], rax\n {op} {PTR[bits]} [rbx+4], cl", registers, AF, undefined)


def double_shifts() -> Iterator[Case]:
    for op, bits in itertools.product(("shld", "shrd"), (16, 32, 64)):
        for count in (0, 1, 2, 15, 16, 17, 20, 31, 32, 33, 47, 63, 64, 65):
            masked = count & (63 if bits == 64 else 31)
            if masked > bits:
                continue
            for a, b in ((1, (1 << bits) - 1), (1 << (bits - 1), 0), (0x5A5A5A5A5A5A5A5A, 0xC3C3C3C3C3C3C3C3)):
                undefined = "" if masked == 0 else "a" if masked == 1 else "oa"
                registers = {"rax": wide(a, bits), "rdx": wide(b, bits), "rcx": count}
                x, y = NAMES[bits][0], NAMES[bits][2]
                yield Case(f"{op} {x}, {y}, cl", registers, CF | OF, undefined)
                yield Case(f"{op} {x}, {y}, {count}", registers, 0, undefined)
                yield Case(f"mov [rbx+5], rax\n {op} {PTR[bits]} [rbx+5], {y}, cl", registers, CF, undefined)


def multiplications() -> Iterator[Case]:
    for bits in (8, 16, 32, 64):
        for a, b in itertools.product(boundaries(bits), repeat=2):
            for op in ("mul", "imul"):
                registers = {"rax": wide(a, bits), "rcx": wide(b, bits)}
                yield Case(f"{op} {NAMES[bits][1]}", registers, ZF | SF, "szap")
            if bits > 8:
                registers = {"rax": wide(a, bits), "rcx": wide(b, bits)}
                yield Case(f"imul {NAMES[bits][0]}, {NAMES[bits][1]}", registers, PF, "szap")
                yield Case(f"imul {NAMES[bits][0]}, {NAMES[bits][1]}, -128", registers, PF, "szap")


def divisions() -> Iterator[Case]:
    for bits in (8, 16, 32, 64):
        top = 1 << bits
        pairs = set(itertools.product(boundaries(bits), boundaries(bits)[1:]))
        for high, divisor in (*sorted(pairs), (0, 0), (top - 1, 0)):
            for low in (0, 1, top // 2, top - 1):
                if bits == 8:
                    registers = {"rax": wide(high << 8 | low, 16), "rcx": wide(divisor, 8)}
                else:
                    registers = {"rax": wide(low, bits), "rdx": wide(high, bits), "rcx": wide(divisor, bits)}
                yield Case(f"div {NAMES[bits][1]}", registers, 0, "oszapc")
                yield Case(f"idiv {NAMES[bits][1]}", registers, CF, "oszapc")


def bit_tests() -> Iterator[Case]:
    offsets = (0, 1, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 127, 1000, 0x3FFF, -1, -2, -8, -63, -64, -65, -1000, -0x4000)
    for op, bits in itertools.product(("bt", "bts", "btr", "btc"), (16, 32, 64)):
        for offset in offsets:
            registers = {"rcx": wide(offset, bits), "rbx": DATA + 0x1000}
            for prefix in ("", "lock ") if op != "bt" else ("",):
                yield Case(f"{prefix}{op} {PTR[bits]} [rbx], {NAMES[bits][1]}", registers, ZF | CF, "osap")
            yield Case(f"{op} {NAMES[bits][0]}, {NAMES[bits][1]}", registers, ZF, "osap")
            yield Case(f"{op} {PTR[bits]} [ebx+8], {NAMES[bits][1]}", registers, ZF, "osap")
        for far in (0x8000, 0x7FFF, 0x7FFFFFFF, 0x80000000, 1 << 63, (1 << 63) - 1):
            yield Case(f"{op} {PTR[bits]} [rbx], {NAMES[bits][1]}", {"rcx": far}, ZF, "osap")
        for immediate in (0, 15, 16, 17, 31, 32, 33, 63, 64, 127, 128, 255):
            yield Case(f"{op} {PTR[bits]} [rbx], {immediate}", {}, ZF, "osap")
            yield Case(f"{op} {NAMES[bits][0]}, {immediate}", {}, ZF, "osap")


def bit_scans() -> Iterator[Case]:
    for op, bits in itertools.product(("bsf", "bsr", "popcnt"), (16, 32, 64)):
        for value in (0, 1, 1 << (bits - 1), 3 << (bits - 3), (1 << bits) - 1):
            undefined = "osapc" if op != "popcnt" else ""
            registers = {"rcx": wide(value, bits)}
            yield Case(f"{op} {NAMES[bits][0]}, {NAMES[bits][1]}", registers, CF, undefined)
            yield Case(f"{op} {NAMES[bits][1]}, {NAMES[bits][1]}", registers, OF, undefined)
            yield Case(f"mov [rbx+3], rcx\n {op} {NAMES[bits][0]}, {PTR[bits]} [rbx+3]", registers, 0, undefined)


def exchanges() -> Iterator[Case]:
    for bits in (8, 16, 32, 64):
        a, c, d = NAMES[bits][0], NAMES[bits][1], NAMES[bits][2]
        for rax, target in itertools.product(boundaries(bits)[:5], repeat=2):
            for source in (0x99, (1 << bits) - 1):
                registers = {"rax": wide(rax, bits), "rcx": wide(target, bits), "rdx": wide(source, bits)}
                yield Case(f"cmpxchg {c}, {d}", registers, CF)
                yield Case(f"mov [rbx+1], rcx\n lock cmpxchg {PTR[bits]} [rbx+1], {d}", registers, OF)
        yield Case(f"mov [{'rbx'}], rax\n cmpxchg {PTR[bits]} [rbx], {a}")
        yield Case(f"cmpxchg {a}, {c}")
        yield Case(f"cmpxchg {c}, {a}")
        yield Case(f"cmpxchg {c}, {c}")
        # unequal: the destination is written back, so a read-only page faults
        yield Case(f"mov rbx, {DATA + 0x3000}\n cmpxchg {PTR[bits]} [rbx], {d}")
        yield Case(f"xadd {a}, {a}", {}, CF)
        yield Case(f"xadd {a}, {c}")
        yield Case(f"lock xadd {PTR[bits]} [rbx], {a}")
        yield Case(f"mov [rbx], rbx\n xadd {PTR[bits]} [rbx], {NAMES[bits][3]}")
        yield Case(f"xchg {a}, {a}")
        yield Case(f"xchg {c}, {a}")
        yield Case(f"xchg {PTR[bits]} [rbx], {a}")
        yield Case(f"xchg {PTR[bits]} [rbx], {NAMES[bits][3]}")
    yield Case("xadd ah, al")
    yield Case("xadd al, ah")
    yield Case("xchg ah, al")
    yield Case("cmpxchg ah, al")
    for code in (
        "90",
        "4890",
        "4190",
        "4990",
        "6690",
        "66 41 90",
        "f390",
        "f34190",
        "f34990",
        "66f34190",
        "f3f24190",
        "87c0",
        "4887c0",
        "6687c0",
        "4587c0",
    ):
        # PAUSE, whatever REX.B says, if F3 is the last of F2 and F3
        vendors = ("exchange",) if "f3" in code else ()
        yield Case(".byte " + ", ".join(f"0x{b:02x}" for b in bytes.fromhex(code)), vendors=vendors)
    for lock in ("", "lock "):
        for value in (0, 0x1122334455667788, 0xFFFFFFFF00000000):
            registers = {"rax": 0xAAAAAAAA55667788, "rdx": 0xBBBBBBBB11223344, "rcx": 5, "r8": value}
            yield Case(f"mov [rsi], r8\n xchg rbx, rsi\n mov r9, rbx\n {lock}cmpxchg8b [r9]", registers, CF | SF)
            registers = {"rax": 0x55667788, "rdx": value, "rcx": 5}
            yield Case(f"mov [rdi], rax\n mov [rdi+8], r9\n {lock}cmpxchg16b [rdi]", registers, CF | SF)
            yield Case(f"mov [rdi], rax\n mov [rdi+8], rdx\n {lock}cmpxchg16b [rdi]", registers, CF | SF)
    yield Case("cmpxchg16b [rdi+8]")


def moves() -> Iterator[Case]:
    yield from (Case(f".byte {code}") for code in (
        "0x63, 0xc1", "0x66, 0x63, 0xc1", "0x48, 0x63, 0xc1", "0x63, 0x03", "0x66, 0x63, 0x03", "0x66, 0x48, 0x63, 0xc1",
    ))  # fmt: skip
    for bits in (16, 32, 64):
        yield Case(f"movbe {NAMES[bits][0]}, [rbx+1]")
        yield Case(f"movbe [rbx+1], {NAMES[bits][0]}")
        for source in ("al", "ah", "ax", "eax", "rax"):
            source_bits = {"al": 8, "ah": 8, "ax": 16}.get(source, 32)
            if source in ("al", "ax") and bits > source_bits:
                yield Case(f"movzx {NAMES[bits][1]}, {source}")
                yield Case(f"movsx {NAMES[bits][1]}, {source}")
        if bits < 64:
            yield Case(f"lahf\n sahf\n movsx {NAMES[bits][1]}, ah", {}, CF | OF | ZF)
        for condition, flags in itertools.product(
            ("o", "c", "z", "s", "p", "l", "be", "nle"), (0, CF | OF | ZF | SF | PF)
        ):
            yield Case(f"cmov{condition} {NAMES[bits][0]}, {NAMES[bits][1]}", {}, flags)
            yield Case(f"cmov{condition} {NAMES[bits][0]}, {PTR[bits]} [rbx]", {}, flags)
            yield Case(f"cmov{condition} {NAMES[bits][0]}, {PTR[bits]} [rbx+0x100000]", {}, flags)
        yield Case(f"bswap {NAMES[max(bits, 32)][0]}")
    for flags in range(0x100):
        yield Case("sahf\n lahf", {"rax": flags << 8}, OF)
    for text in ("crc32 eax, cl", "crc32 eax, ch", "crc32 eax, cx", "crc32 eax, ecx", "crc32 rax, cl", "crc32 rax, rcx",
                 "crc32 eax, byte ptr [rbx]", "crc32 eax, word ptr [rbx]", "crc32 eax, dword ptr [rbx]",
                 "crc32 rax, byte ptr [rbx]", "crc32 rax, qword ptr [rbx]",
                 ".byte 0x66, 0xf2, 0x48, 0x0f, 0x38, 0xf1, 0xc1", ".byte 0x66, 0xf2, 0x0f, 0x38, 0xf0, 0xc1"):  # fmt: skip
        yield Case(text)
        yield Case(text, {"rax": MASK64, "rcx": 0})
    yield from (
        Case(f"mov {seg}:[rsi], rax\n mov rcx, {seg}:[esi+4]", {"fs": 0x100, "gs": 0x40}) for seg in ("fs", "gs")
    )
    for text in ("movnti [rbx+3], eax", "movnti [rbx+3], rax", "xlatb", "fs xlatb", "addr32 xlatb"):
        yield Case(text, {"rax": 0xFF, "fs": 8, "rbx": DATA + 0x1000})
    for offset in (0, 1, 0x7F, 0x80, 0xFF):
        yield Case("addr32 xlatb", {"rax": offset, "rbx": 0x100000000 + DATA + 0x1000})


def addresses() -> Iterator[Case]:
    for bits in (16, 32, 64):
        for ea in ("[eax+ecx*8+0x7fffffff]", "[rax+rcx*8-0x80000000]", "[eip+5]", "[rip-7]", "[esp+ecx]", "fs:[rax+1]",
                   "[r8d+r9d*2]", "[ebp*4]", "[0x7fffffff]", "[r13d]", "[r12]"):  # fmt: skip
            if "esp+ecx" in ea and bits == 64:
                yield Case(f"lea {NAMES[bits][2]}, {ea}", {"rsp": STACK + 0xFFFFFFFF})
            yield Case(f"lea {NAMES[bits][2]}, {ea}", {"fs": 0x1234})
    for disp in (-8, 0, 8):
        # 32-bit addresses wrap at 4 GiB
        yield Case(f"mov rax, [ecx+{0x100000000 - 0x100000000 + disp + 0x1000}]", {"rcx": 0xAAAA00000000 + DATA})
        yield Case(
            f"mov rax, [ecx+edx*2+{disp}]", {"rcx": DATA + 0x1000 - 2 * 0xFFFFFFF0 & 0xFFFFFFFF, "rdx": 0x1FFFFFFF0}
        )
        yield Case(f"mov rax, fs:[ecx+{disp}]", {"rcx": 0xFFFFFFFF, "fs": NEAR - 0xFFFFF000 & MASK64})
    yield Case("mov eax, [ecx]", {"rcx": 0x1_0000_0000 + NEAR + 0x10})
    yield Case("mov eax, dword ptr [ecx]", {"rcx": 0xFFFFFFFE})
    yield Case(".byte 0x67, 0xa1, 0, 0, 0x10, 0x10\n nop")  # MOV EAX, moffs32
    yield Case(".byte 0x67, 0x48, 0xa3, 8, 0, 0x10, 0x10\n nop")
    yield Case(".byte 0x64, 0x67, 0xa0, 8, 0, 0x10, 0x10\n nop", {"fs": 8})


def stack() -> Iterator[Case]:
    for text in (
        "push ax", "pop ax", "push 0x12", "push -1", "push 0x7fffffff", "push -0x80000000", "pushw -2", "pushw 0x8001",
        "push rsp", "pop rsp", "push sp", "pop sp", "push qword ptr [rsp]", "pop qword ptr [rsp]", "pop qword ptr [rsp+8]",
        "pop qword ptr [rsp-8]", "push qword ptr [rsp-8]", "push word ptr [rsp+2]", "pop word ptr [rsp+2]",
        "pop qword ptr [esp]", "pushf", "pushfw", "popf", "popfw", "push fs", "push gs",
        "pushw fs", "leave", "leavew", "ret 8", "pushw gs", "pushf\n pop rax", "popfw\n pushfw",
        ".byte 0x66, 0x48, 0x50", ".byte 0x66, 0x48, 0x58", ".byte 0x66, 0x48, 0x68, 1, 2, 3, 0x84", ".byte 0x48, 0x6a, 0x80",
        ".byte 0x66, 0x48, 0x6a, 0x80", ".byte 0x66, 0x48, 0x9c", ".byte 0x66, 0x48, 0xff, 0x30", ".byte 0x66, 0x48, 0x8f, 0x03",
        ".byte 0x66, 0x48, 0xc9", ".byte 0x66, 0x49, 0x50", ".byte 0x66, 0x41, 0x58", ".byte 0x66, 0x48, 0x0f, 0xa0",
        ".byte 0x66, 0x48, 0xc8, 8, 0, 1",
    ):  # fmt: skip
        yield Case(text, {"rbp": STACK + 0x1000}, CF | ZF | OF)
        yield Case(text, {"rsp": STACK + 0x1001, "rbp": STACK + 0xFFF}, CF | ZF | OF)
        yield Case(text, {"rsp": STACK, "rbp": STACK + 0x1FFC}, SF)  # pushes fault
        yield Case(text, {"rsp": STACK + 0x1FFC, "rbp": STACK}, SF)  # pops fault
    for size, level in itertools.product((0, 1, 8, 0x100, 0x7FFF, 0x8000, 0xFFFF), (0, 1, 2, 3, 8, 31, 32, 33, 0xFF)):
        for prefix in ("", "data16 "):
            yield Case(f"{prefix}enter {size}, {level}", {"rbp": STACK + 0x1800, "rsp": STACK + 0x1400})
            if level in (1, 2, 31):
                yield Case(f"{prefix}enter {size}, {level}", {"rbp": STACK + 0x80, "rsp": STACK + 0x1400})
                yield Case(f"{prefix}enter {size}, {level}", {"rbp": STACK + 0x1800, "rsp": STACK + 0x10})
    yield Case("enter 16, 3\n leave\n enter 8, 0\n leave")


def alignment() -> Iterator[Case]:
    """Alignment checks are on: POPF sets AC. A misaligned address that is not canonical is #GP or #SS all the same."""
    on = "push 0x40202\n popf\n "
    bad = 1 << 47
    for text in ("mov al, [rbx]", "mov ax, [rbx]", "mov eax, [rbx]", "mov rax, [rbx]", "mov [rbx], ax", "mov [rbx], rax",
                 "inc dword ptr [rbx]", "lock not qword ptr [rbx]", "xchg [rbx], rax", "bts dword ptr [rbx], eax", "sar word ptr [rbx], 3",
                 "push qword ptr [rbx]", "pop qword ptr [rbx]", "fld tbyte ptr [rbx]", "fstp qword ptr [rbx]", "fild word ptr [rbx]",
                 "fnstcw [rbx]", "fist dword ptr [rbx]", "movq mm0, [rbx]", "movsd xmm0, [rbx]", "addss xmm0, [rbx]",
                 "cmpxchg8b [rbx]", "mov rsi, rbx\n lodsq", "mov rdi, rbx\n stosd", "mov rbp, rbx\n mov rax, [rbp]",
                 "mov rbp, rbx\n leave", "mov rsp, rbx\n pop rax"):  # fmt: skip
        for at in (DATA + 0x800, bad, bad - 2, (1 << 63) - 8, MASK64 - bad - 7):
            for offset in (0, 1, 2, 4):
                yield Case(on + text, {"rbx": at + offset, "rcx": 3, "rax": 5}, 0, "oszapc", "0123")


def strings() -> Iterator[Case]:
    sizes = {"b": 1, "w": 2, "d": 4, "q": 8}
    for (suffix, size), flags, addr in itertools.product(sizes.items(), (0, DF, DF | ZF), ("", "addr32 ")):
        upper = 0x7700000000 if addr else 0
        vendors = ("flags-of-last-iteration", "either-operand", *(("upper-halves-kept",) if addr else ()))
        for op, prefixes in (("movs", ("", "rep ", "repne ")), ("stos", ("", "rep ", "repne ")), ("lods", ("", "rep ", "repne ")),
                             ("scas", ("", "repe ", "repne ")), ("cmps", ("", "repe ", "repne "))):  # fmt: skip
            for prefix, count in itertools.product(prefixes, (0, 1, 5, 0x100000003)):
                if count >> 32 and not addr:
                    continue
                registers = {"rcx": count, "rsi": upper + NEAR + 0x700, "rdi": upper + NEAR + 0x708}
                for seg in ("", "fs ") if op in ("movs", "lods", "cmps") or size == 4 else ("",):
                    yield Case(f"{seg}{addr}{prefix}{op}{suffix}", registers | {"fs": 0x20}, flags, vendors=vendors)
                if count == 5:
                    equal = registers | {"rdi": registers["rsi"], "rax": 0}
                    yield Case(f"{addr}{prefix}{op}{suffix}", equal, flags | ZF, vendors=vendors)
                    # the fault comes in the middle: the registers show how far it went
                    late = registers | {"rdi": upper + (NEAR + 2 * size if flags & DF else NEAR + 0x1000 - 2 * size)}
                    yield Case(f"{addr}{prefix}{op}{suffix}", late | {"rax": 0x55}, flags, vendors=vendors)
                    # and where the first iteration faults: which operand is looked at first, what is zero-extended
                    for rsi, rdi in itertools.product((NEAR + 0x1000, 1 << 47, NEAR), (NEAR + 0x2000, 1 << 63, NEAR)):
                        first = registers | {"rsi": rsi | upper, "rdi": rdi | upper, "rcx": count | upper << 4}
                        yield Case(f"{addr}{prefix}{op}{suffix}", first, flags, vendors=vendors)
    # the 32-bit index wraps to 0, which is not mapped
    kept = ("upper-halves-kept",)
    yield Case("addr32 rep stosb", {"rdi": 0x5_FFFF_FFFE, "rcx": 4}, vendors=kept)
    yield Case("addr32 rep movsb", {"rsi": 0x5_FFFF_FFFF, "rdi": NEAR, "rcx": 1}, vendors=kept)
    for op, size in itertools.product(("movs", "stos", "lods", "scas", "cmps"), "bwdq"):
        registers = {"rcx": 0x5_0000_0000, "rsi": 0x5_0000_0000 + NEAR, "rdi": 0x6_0000_0000 + NEAR}
        yield Case(f"addr32 repe {op}{size}", registers, CF, vendors=kept)
        yield Case(f"addr32 repne {op}{size}", registers, ZF, vendors=kept)
    yield Case("loop 1f\n inc rax\n 1:", {"rcx": 0})
    yield Case("addr32 loop 1f\n inc rax\n 1:", {"rcx": 0x5_0000_0001})
    yield Case("addr32 loop 1f\n inc rax\n 1:", {"rcx": 0x5_0000_0000})
    yield Case("jecxz 1f\n inc rax\n 1:", {"rcx": 0x5_0000_0000})
    yield Case("jrcxz 1f\n inc rax\n 1:", {"rcx": 0x5_0000_0000})
    for condition, flags in itertools.product(("e", "ne"), (0, ZF)):
        yield Case(f"loop{condition} 1f\n inc rax\n 1:", {"rcx": 2}, flags)
        yield Case(f"addr32 loop{condition} 1f\n inc rax\n 1:", {"rcx": 0x1_0000_0001}, flags)


# ---- SSE --------------------------------------------------------------------------------------------------------

F32 = (0, 0x80000000, 1, 0x80000001, 0x007FFFFF, 0x00800000, 0x3F800000, 0xBF800000, 0x3F000000, 0x3FC00000, 0x40200000,
       0x4EFFFFFF, 0x4F000000, 0xCF000000, 0xCF000001, 0x5EFFFFFF, 0x5F000000, 0xDF000000, 0xDF000001, 0x7F7FFFFF, 0x7F800000,
       0xFF800000, 0x7FC00000, 0x7F800001, 0xFFC12345)  # fmt: skip
F64 = (0, 1 << 63, 1, 0x000FFFFFFFFFFFFF, 0x0010000000000000, 0x3FF0000000000000, 0xBFF0000000000000, 0x3FE0000000000000,
       0x3FDFFFFFFFFFFFFF, 0x3FF8000000000000, 0x4004000000000000, 0x41DFFFFFFFC00000, 0x41DFFFFFFFE00000, 0x41E0000000000000,
       0xC1E0000000000000, 0xC1E0000000100000, 0xC1E0000000200000, 0x43DFFFFFFFFFFFFF, 0x43E0000000000000, 0xC3E0000000000000,
       0xC3E0000000000001, 0x36A0000000000000, 0x380FFFFFE0000000, 0x380FFFFFF0000000, 0x47EFFFFFE0000000, 0x47EFFFFFF0000000,
       0x7FEFFFFFFFFFFFFF, 0x7FF0000000000000, 0xFFF0000000000000, 0x7FF8000000000000, 0x7FF0000000000001,
       0xFFF8000000012345)  # fmt: skip
MXCSR = (*(0x1F80 | rounding << 13 for rounding in range(4)), 0x1F80 | 0x8000, 0x1F80 | 0x40, 0x1F80 | 0x8040)


def pack(values: Sequence[int], bits: int) -> int:
    return sum(v << i * bits for i, v in enumerate(values))


def conversions() -> Iterator[Case]:
    for mxcsr in MXCSR:
        for i, v in enumerate(F32):
            x = pack([v, F32[(i + 1) % len(F32)], F32[(i + 5) % len(F32)], F32[(i + 9) % len(F32)]], 32)
            registers = {"xmm1": x, "mxcsr": mxcsr, "xmm0": MASK64 << 64 | 0x1234}
            yield Case("cvtss2si eax, xmm1\n cvttss2si ecx, xmm1\n cvtss2si rdx, xmm1\n cvttss2si r8, xmm1", registers)
            yield Case(
                "cvtss2sd xmm0, xmm1\n cvtps2pd xmm2, xmm1\n cvtps2dq xmm3, xmm1\n cvttps2dq xmm4, xmm1", registers
            )
            yield Case("cvtps2dq xmm3, xmm1", registers | {"mxcsr": mxcsr & ~0x1000})
            for op in ("sqrtss", "sqrtps", "addss", "mulps", "minss", "maxps", "divps"):
                yield Case(
                    f"{op} xmm0, xmm1\n {op} xmm1, xmm2", registers | {"xmm2": pack([F32[i], 0x3F800000, v, 1], 32)}
                )
        for i, v in enumerate(F64):
            registers = {"xmm1": pack([v, F64[(i + 3) % len(F64)]], 64), "mxcsr": mxcsr, "xmm0": MASK64 << 64 | 0x1234}
            yield Case("cvtsd2si eax, xmm1\n cvttsd2si ecx, xmm1\n cvtsd2si rdx, xmm1\n cvttsd2si r8, xmm1", registers)
            yield Case(
                "cvtsd2ss xmm0, xmm1\n cvtpd2ps xmm2, xmm1\n cvtpd2dq xmm3, xmm1\n cvttpd2dq xmm4, xmm1", registers
            )
            yield Case("cvtsd2ss xmm0, xmm1", registers | {"mxcsr": mxcsr & ~0x1800})
            yield Case("cvtsd2ss xmm0, xmm1", registers | {"mxcsr": mxcsr & ~0x800})
            for op in ("sqrtsd", "addpd", "minpd", "maxsd", "divsd"):
                yield Case(f"{op} xmm0, xmm1\n {op} xmm1, xmm2", registers | {"xmm2": pack([F64[-i], v], 64)})
        for v in (
            0,
            1,
            0x7FFFFFFF,
            0x80000000,
            0xFFFFFFFF,
            0x1000001,
            0x1000003,
            1 << 63,
            (1 << 63) - 1,
            0x20000000000001,
            MASK64,
        ):
            registers = {"rax": v, "xmm1": v, "mxcsr": mxcsr, "xmm0": MASK64 << 64 | 7}
            yield Case("cvtsi2ss xmm0, eax\n cvtsi2sd xmm2, eax\n cvtsi2ss xmm3, rax\n cvtsi2sd xmm4, rax", registers)
            yield Case(
                "cvtdq2ps xmm0, xmm1\n cvtdq2pd xmm2, xmm1\n movq mm0, rax\n cvtpi2ps xmm3, mm0\n cvtpi2pd xmm4, mm0",
                registers,
            )


def roundings() -> Iterator[Case]:
    for mode, mxcsr in itertools.product(range(16), MXCSR):
        for i in range(0, len(F32), 4):
            registers = {"xmm1": pack((F32 + F32)[i : i + 4], 32), "mxcsr": mxcsr, "xmm0": MASK64 << 64 | 0x1234}
            yield Case(f"roundps xmm0, xmm1, {mode}\n roundss xmm1, xmm1, {mode}", registers)
        for i in range(0, len(F64), 2):
            registers = {"xmm1": pack(F64[i : i + 2], 64), "mxcsr": mxcsr, "xmm0": MASK64 << 64 | 0x1234}
            yield Case(f"roundpd xmm0, xmm1, {mode}\n roundsd xmm1, xmm1, {mode}", registers)
    for mode in range(16, 256, 16):
        yield Case(f"roundps xmm0, xmm1, {mode | 3}", {"xmm1": pack(F32[8:12], 32)})


def dot_products() -> Iterator[Case]:
    nan1, nan2, snan = 0x7FC00001, 0xFFC00002, 0x7F800003
    vectors = [
        (0x3F800000, 0x40000000, 0x40400000, 0x40800000), (nan1, nan2, 0x3F800000, 0x3F800000),
        (0x3F800000, snan, nan1, 0x7F800000), (0x7F800000, 0xFF800000, 0, 1), (0x7F7FFFFF, 0x7F7FFFFF, 0x80000000, 0x80000000),
        (0x3F800000, 0x3F800000, nan2, nan1), (0, 0, 0x7F800000, nan1), (1, 0x80000001, 0x00800000, 0x3F000000),
    ]  # fmt: skip
    for (a, b), imm in itertools.product(
        itertools.product(vectors, repeat=2), (0, 0x11, 0xF1, 0xFF, 0x31, 0xC2, 0x5A, 0xF0, 0x0F, 0x7E)
    ):
        yield Case(f"dpps xmm0, xmm1, {imm}", {"xmm0": pack(a, 32), "xmm1": pack(b, 32)}, vendors=("another-nan",))
    n1, n2, sn = 0x7FF8000000000001, 0xFFF8000000000002, 0x7FF0000000000003
    doubles = [
        (0x3FF0000000000000, 0x4000000000000000),
        (n1, n2),
        (sn, n1),
        (0x7FF0000000000000, 0xFFF0000000000000),
        (0, 1 << 63),
        (n2, 0),
    ]
    for (a, b), imm in itertools.product(
        itertools.product(doubles, repeat=2), (0, 0x11, 0x31, 0x33, 0x22, 0x13, 0xFF, 0x30)
    ):
        yield Case(f"dppd xmm0, xmm1, {imm}", {"xmm0": pack(a, 64), "xmm1": pack(b, 64)}, vendors=("another-nan",))
    for op in ("haddps", "hsubps", "addsubps"):
        for a, b in itertools.product(vectors, repeat=2):
            yield Case(f"{op} xmm0, xmm1", {"xmm0": pack(a, 32), "xmm1": pack(b, 32)})


def lanes() -> Iterator[Case]:
    x = {"xmm1": 0xF0E0D0C0B0A090807060504030201000, "xmm0": 0x00112233445566778899AABBCCDDEEFF}
    for imm in (0, 1, 2, 3, 4, 7, 8, 15, 16, 0x83, 0xFF):
        for text in ("pextrb rax, xmm1, {}", "pextrb byte ptr [rbx+1], xmm1, {}", "pextrw eax, xmm1, {}", "pextrw word ptr [rbx+1], xmm1, {}",
                     "pextrd eax, xmm1, {}", "pextrd dword ptr [rbx+1], xmm1, {}", "pextrq rax, xmm1, {}",
                     "pextrq qword ptr [rbx+1], xmm1, {}", "extractps eax, xmm1, {}", "extractps dword ptr [rbx+3], xmm1, {}",
                     "pinsrb xmm0, eax, {}", "pinsrb xmm0, byte ptr [rbx+1], {}", "pinsrw xmm0, eax, {}", "pinsrw xmm0, word ptr [rbx+1], {}",
                     "pinsrd xmm0, dword ptr [rbx+1], {}", "pinsrq xmm0, rax, {}", "pinsrq xmm0, qword ptr [rbx+1], {}",
                     "insertps xmm0, xmm1, {}", "insertps xmm0, dword ptr [rbx+5], {}", "psrldq xmm1, {}", "pslldq xmm1, {}",
                     "palignr xmm0, xmm1, {}", "movq mm0, rax\n movq mm1, rcx\n palignr mm0, mm1, {}", "pshufw mm0, [rbx], {}",
                     "psllw xmm0, {}", "psrad xmm0, {}", "psrlq xmm0, {}", "mpsadbw xmm0, xmm1, {}", "blendps xmm0, xmm1, {}",
                     ".byte 0x66, 0x48, 0x0f, 0x3a, 0x17, 0xc8, {}", ".byte 0x66, 0x48, 0x0f, 0x3a, 0x14, 0xc8, {}",
                     ".byte 0x66, 0x48, 0x0f, 0xc5, 0xc1, {}", ".byte 0x66, 0x48, 0x0f, 0xc4, 0xc1, {}"):  # fmt: skip
            yield Case(text.format(imm), x)
    for count in (0, 1, 15, 16, 17, 31, 32, 63, 64, 1 << 32, 1 << 63):
        for op in ("psllw", "psrlw", "psraw", "pslld", "psrld", "psrad", "psllq", "psrlq"):
            yield Case(f"{op} xmm1, xmm2", x | {"xmm2": count | 0xFF << 64})
            yield Case(f"movq mm0, rax\n movq mm1, rcx\n {op} mm0, mm1", {"rcx": count})
    for mask in (0, 0x80, 0x8000800080008000, 0x7F7F7F7F7F7F7F7F, 0x80FF80FF01020380, MASK64):
        registers = x | {"xmm2": mask | (mask ^ MASK64) << 64, "rcx": mask, "fs": 0x18}
        for prefix in ("", "fs ", "addr32 ", "fs addr32 "):
            yield Case(
                f"{prefix} maskmovdqu xmm1, xmm2",
                registers | {"rdi": NEAR + 0x203 + (0x500000000 if "addr32" in prefix else 0)},
            )
            yield Case(f"movq mm0, rax\n movq mm1, rcx\n {prefix} maskmovq mm0, mm1", registers | {"rdi": NEAR + 0x205})
    for offset, mask in itertools.product(range(0xFEF, 0x1012), (0, 0x80, 0x80 << 64, (1 << 128) - 1)):
        registers = x | {"xmm2": mask, "rdi": NEAR + offset, "rcx": mask & MASK64}
        yield Case("maskmovdqu xmm1, xmm2", registers, vendors=("low-half-first",))
        yield Case("movq mm0, rax\n movq mm1, rcx\n maskmovq mm0, mm1", registers)
    # the exception's vector and the transition to MMX of instructions that fault
    for text in ("movq [rbx], mm3", "movntq [rbx], mm3", "movd [rbx], mm3", "movq mm3, [rbx]", "paddb mm3, [rbx]",
                 "cvtps2pi mm3, [rbx]", "cvtpi2ps xmm3, [rbx]", "cvttpd2pi mm3, [rbx]", "maskmovq mm1, mm3"):  # fmt: skip
        for rbx in (NEAR + 0x1000, NEAR + 0xFFC, 1 << 47, DATA + 0x3000):
            registers = x | {"rbx": rbx, "rdi": rbx}
            yield Case(f"fld1\n fldpi\n {text}", registers, vendors=("top-kept",))
    for mxcsr in (0x1F80, 0x1F00, 0x1E80, 0x0F80):
        for text in ("cvtps2pi mm3, xmm2", "cvttpd2pi mm3, xmm2", "cvtpi2ps xmm3, mm0"):
            registers = {"xmm2": 0x7FF0000000000001_7F80000100000001, "mxcsr": mxcsr, "rax": 0x1234567}
            yield Case(f"movq mm0, rax\n emms\n fld1\n {text}", registers)
    for rsp in (0x1_0000_0000_0000 + 8, 1 << 47, (1 << 47) + 1):  # misaligned before non-canonical
        for text in (
            "movaps xmm0, [rsp]",
            "movaps [rsp], xmm0",
            "addps xmm0, [rsp]",
            "movups xmm0, [rsp]",
            "fxsave [rsp]",
        ):
            yield Case(text, {"rsp": rsp}, vendors=("align-before-stack",))
    for text in ("movntdqa xmm0, [rbx]", "movntdq [rbx], xmm1", "movntps [rbx+8], xmm1", "lddqu xmm0, [rbx+1]", "movaps xmm0, [rbx+1]",
                 "addps xmm0, [rbx+8]", "movq xmm0, xmm1", "movss xmm0, xmm1", "movss xmm0, [rbx]", "movsd xmm0, xmm1", "movsd xmm0, [rbx]",
                 "movhlps xmm0, xmm1", "movddup xmm0, [rbx]", "movd xmm0, eax", "movd xmm0, [rbx]", "movq2dq xmm0, mm0", "movdq2q mm0, xmm1",
                 "pcmpistri xmm0, [rbx+1], 0", "pmovsxbq xmm0, [rbx+3]", "pmovzxwq xmm0, [rbx+3]", "phminposuw xmm0, xmm1", "ptest xmm0, xmm1",
                 "pblendvb xmm1, xmm2", "blendvps xmm1, xmm2", "blendvpd xmm1, xmm2", "pshufb xmm0, xmm1"):  # fmt: skip
        yield Case(text, x, CF | OF)


def text_compares() -> Iterator[Case]:
    a = int.from_bytes(b"ab\0cdefgabcdabce", "little")
    b = int.from_bytes(b"abcab\0dabzz~\x80\xff..", "little")
    for imm in range(0, 128, 1):
        registers = {"xmm1": a, "xmm2": b, "rax": 5, "rdx": 12, "xmm0": MASK64}
        yield Case(f"pcmpistrm xmm1, xmm2, {imm}\n pcmpistri xmm2, xmm1, {imm}", registers, CF)
        yield Case(f"pcmpestrm xmm1, xmm2, {imm}\n pcmpestri xmm2, xmm1, {imm}", registers, CF)
    for la, lb in itertools.product(
        (0, 1, 8, 9, 16, 17, -1, -3, -16, -17, -(1 << 31), 0x80000000, 0x1_0000_0002, 1 << 63, (1 << 63) - 1), repeat=2
    ):
        registers = {"xmm1": a, "xmm2": b, "rax": la & MASK64, "rdx": lb & MASK64}
        for imm in (0x0C, 0x41, 0x18):
            yield Case(f"pcmpestri xmm1, xmm2, {imm}", registers)
            yield Case(f".byte 0x66, 0x48, 0x0f, 0x3a, 0x61, 0xca, {imm}", registers)
            yield Case(f".byte 0x66, 0x48, 0x0f, 0x3a, 0x60, 0xca, {imm}", registers)


# ---- x87 --------------------------------------------------------------------------------------------------------

STORES = ("fst dword ptr [rbx]", "fstp qword ptr [rbx]", "fstp tbyte ptr [rbx]", "fistp word ptr [rbx]", "fistp dword ptr [rbx]",
          "fistp qword ptr [rbx]", "fisttp word ptr [rbx]", "fisttp dword ptr [rbx]", "fisttp qword ptr [rbx]", "fbstp [rbx]",
          "fist word ptr [rbx]", "frndint")  # fmt: skip


def x87() -> Iterator[Case]:
    eight = "fninit\n" + "fld1\n" * 8
    controls = [0x37F, 0x37E, 0x340] + [
        0x37F & ~0x300 | pc << 8 | rc << 10 for pc, rc in itertools.product((0, 2, 3), range(4))
    ]
    for control in (0x37F, 0x37E):
        prepare = {"fcw": control}
        for text in (
            "fld1",
            "fldz",
            "fld st(3)",
            "fild dword ptr [rbx]",
            "fld tbyte ptr [rbx]",
            "fptan",
            "fsincos",
            "fxtract",
            "fld qword ptr [rbx]",
        ):
            undefined = "02" if text in ("fptan", "fsincos") else "023"
            yield Case(f"{eight}fldcw [rsp]\n{text}\n fnstsw ax", {**prepare, "rsp": STACK + 0x100}, 0, "", undefined)
            yield Case(eight + text + "\n fnstsw ax", prepare, 0, "", "023")  # overflow: C1 = 1
        for text in ("fadd st, st(1)", "fchs", "fabs", "fstp st(0)", "fst st(3)", "fxch st(1)", "fsqrt", "fscale", "fcom st(1)", "fucomi st, st(1)",
                     "fcomip st, st(1)", "fcompp", "ftst", "fxam", "fprem", "fprem1", "faddp st(1), st", "fcmovb st, st(1)", "fdivrp st(2), st",
                     "fxtract", "ficom word ptr [rbx]", *STORES):  # fmt: skip
            undefined = (
                ""
                if text in ("fcom st(1)", "fcompp", "ftst", "fxam", "fprem", "fprem1", "ficom word ptr [rbx]")
                else "023"
            )
            for load in ("", "fld1\n", "fld1\n fld1\n ffree st(0)\n", "fld1\n fld1\n ffree st(1)\n"):
                yield Case(f"{load}{text}", prepare, CF | ZF | OF, "", undefined)
                yield Case(f"{load}{text}\n fnstsw ax\n fwait", {"fcw": control}, 0, "", undefined)
    for control in controls:
        for top, mantissa in ((0x3FFF, 1 << 63), (0x3FFE, 1 << 63), (0x3FFE, (1 << 63) + 1), (0xBFFE, 3 << 62), (0x400D, 0xFFFF << 48),
                              (0x400E, 1 << 63), (0xC00E, 1 << 63), (0xC00E, 0x8000800000000000), (0x401D, MASK64), (0x401E, 1 << 63),
                              (0xC01E, 1 << 63), (0x403D, MASK64), (0x403E, 1 << 63), (0xC03E, 1 << 63), (0xC03E, (1 << 63) + 1),
                              (0x403A, 0xDE0B6B3A763FFFF0), (0x403A, 0xDE0B6B3A763FFFF8), (0x403A, 0xDE0B6B3A76400000),
                              (0xC03A, 0xDE0B6B3A763FFFFC), (0x3F80, 1 << 63), (0x3F69, 0x8000000000000001), (0x3F6A, 1 << 63), (0x407E, MASK64),
                              (0x407E, 0xFFFFFF0000000000), (0x43FE, MASK64), (0x3BCC, 1 << 63), (0x3C00, MASK64), (0, 1), (0, 1 << 63),
                              (0x8000, 0), (0x7FFF, 1 << 63), (0xFFFF, 1 << 63), (0x7FFF, 3 << 62), (0x7FFF, 5 << 61), (0x7FFF, 0), (0x7FFE, 1),
                              (1, 1)):  # fmt: skip
            load = "mov [rsi], rax\n mov word ptr [rsi+8], cx\n fld tbyte ptr [rsi]\n"
            for store in STORES:
                yield Case(f"{load}{store}\n fnstsw ax", {"fcw": control, "rax": mantissa, "rcx": top}, 0, "", "023")


def x87_faults() -> Iterator[Case]:
    """Stores that an unmasked exception suppresses, at addresses that fault; denormals that nothing is done to."""
    load = "mov [rsi], rax\n mov word ptr [rsi+8], cx\n fld tbyte ptr [rsi]\n"
    values = {
        "signalling": (0x7FFF, 1 << 63 | 1),
        "large": (0x7FFE, 1 << 63),
        "tiny": (2, 1 << 63),
        "half": (0x3FFE, 1 << 63 | 1),
    }
    stores = [s for s in STORES if s != "frndint"]
    vendors = ("access-before-exception", "low-part-stored")
    for store, fcw in itertools.product(stores, (0x37F, 0x340, 0x37E, 0x377, 0x36F, 0x35F)):
        for at in (
            NEAR + 0x1000,
            NEAR + 0xFFF,
            NEAR + 0xFFC,
            NEAR + 0xFF8,
            NEAR + 0xFF7,
            DATA + 0x3010,
            DATA + 0x2FFF,
            1 << 47,
        ):
            for top, mantissa in values.values():
                registers = {"fcw": fcw, "rbx": at, "rax": mantissa, "rcx": top}
                yield Case(f"{load}{store}", registers, 0, "", "023", vendors)
            yield Case(store, {"fcw": fcw, "rbx": at}, 0, "", "023", vendors)
    for op, (top, mantissa), other, fcw in itertools.product(
        ("fscale", "fprem", "fprem1"),
        ((0, 1), (0x8000, 1 << 62), (0, 1 << 63), (0, 1 << 63 | 5), (1, 1 << 63)),
        ((0, 0), (0x8000, 0), (0x3FFE, 1 << 63), (0xBFFE, 3 << 62), (0, 1), (0x7FFF, 1 << 63), (0xFFFF, 1 << 63),
         (0x3FFF, 1 << 63), (0xBFFF, 1 << 63), (0x4005, 1 << 63), (2, 1 << 63)),
        (0x37F, 0x36F, 0x32F, 0x30F, 0x36D),
    ):  # fmt: skip
        registers = {"fcw": fcw, "rcx": top, "rax": mantissa, "rdx": other[1], "r8": other[0]}
        first = "mov [rdi], rdx\n mov [rdi+8], r8w\n fld tbyte ptr [rdi]\n"
        yield Case(f"{first}{load}{op}", registers, 0, "", "023", ("denormal-underflows",))


def x87_state() -> Iterator[Case]:
    setup = "fld1\n fldpi\n fldz\n fldl2e\n ffree st(1)\n fld1\n fdiv st, st(3)\n"
    for text in ("fnstenv [rsi]", "fnsave [rsi]", "fnstenv [rdi]\n fldenv [rdi]", "fnsave [rdi]\n frstor [rdi]"):
        for operand in ("", "data16 "):
            registers = {"rsi": ENV + 0xA00 + (128 if operand else 0), "rdi": ENV + 0xA00 + (384 if operand else 256)}
            lines = "\n".join(operand + line.strip() for line in text.splitlines())
            yield Case(lines, registers, 0, "", "0123")
            yield Case(setup + lines, registers, 0, "", "0123")
            yield Case(setup + lines + "\n fld1\n fld1", registers, 0, "", "0123")
    for text in ("fxsave [rsi]", "fxsave64 [rsi]", "fxsave [rsi]\n fninit\n xorps xmm1, xmm1\n fxrstor [rsi]",
                 "fxsave64 [rsi]\n fninit\n xorps xmm9, xmm9\n fxrstor64 [rsi]", "fxsave [rsi+8]", "fxrstor [rsi+4]",
                 "fxsave [rsi]\n mov dword ptr [rsi+24], 0x10000\n fxrstor [rsi]", "fxsave [rsi]\n mov word ptr [rsi+2], 0xffff\n fxrstor [rsi]",
                 "fxsave [rsi]\n mov byte ptr [rsi+4], 0x55\n fxrstor [rsi]", "fxsave [rsi]\n mov word ptr [rsi], 0\n fxrstor [rsi]"):  # fmt: skip
        for prepare in ("", setup, "movq mm3, rax\n"):
            yield Case(prepare + text, {"rsi": ENV + 0x200, "xmm9": 0x1234, "xmm1": MASK64}, 0, "", "0123")
    for value in (0, 0x1F80, 0xFFFF, 0x1FFFF, 0x10000, 0x80000000, 0x7FFFFFFF, 0xFFC0):
        yield Case("mov [rbx], eax\n ldmxcsr [rbx]\n stmxcsr [rbx+4]", {"rax": value})
    for value in (0, 0x37F, 0xFFFF, 0x40, 0xF3F, 0x1000):
        yield Case("mov [rbx], eax\n fldcw [rbx]\n fnstcw [rbx+2]\n fnstsw ax", {"rax": value}, 0, "", "0123")
    for text in ("movq mm0, rax\n fnstsw ax\n fxsave [rsi]", "movq mm0, rax\n emms\n fxsave [rsi]", "fld1\n movq rcx, mm7\n fxsave [rsi]",
                 "fld1\n fldpi\n paddb mm6, mm7\n fnstenv [rdi]", "movq mm1, rax\n fstp tbyte ptr [rbx]"):  # fmt: skip
        yield Case(text, {"rsi": ENV + 0x200, "rdi": ENV + 0x800}, 0, "", "0123")


# ---- what is defined ----------------------------------------------------------------------------------------------

# Not here: F1 (INT1; a host that is a virtual machine may report it at the instruction) and 0F 0D with a register, #UD on
# AMD and a reserved NOP on Intel CPUs.
ENCODINGS = """
    f2660f3821c1 660ff3c1 66f20f6ec1 f20ffdc1 f30f54c1 f20f28c1 66f30f10c1 f3660f10c1 660f12c1 f30f13c1 0f12c1 f20f12c1 f30ffcc1
    0fff00 0fb900 0f0b 660f0b f30f0b 480f0b d6 06 0e 27 60 82c001 9a ea ce d4 f0 0f04 0f0a 0f0c 0f24c0 0f26c0 0f36 0f3e c6c801
    c7c801000000 fed0 fff8 8fc8 8de0 0fb2c0 0fb4c0 0fc3c0 0fc7c8 480fc7c8 f30fc70f f2480fc70f 660fc70f 0faef6 0faeef 0faee9 0faef9 0faeff
    0f18c0 0f19c0 0f1fc0 0f1ac0 0f1bc0 f30f1ec0 0f18e0 0f18f8 0f0d38 dcd0 dcd9 ddc9 ded1 dfc9 dfd1 dfd9 d9d8 d9d1 d9e2 d9ef dbe0
    dbe1 dbe4 dbe5 dbf8 ddf0 ded8 dfe1 dff8 dae8 daf0 f00108 f00101 f083f801 f0c3 f00fa308 f00fab01 f00fba2001 f00fba2801 f087c0 f0870f f08b07
    f0890f f00fc10f f00fb10f f00fc80f f6c801 f6c901 d0f0 c0f001 d2f0 6648 66f390 f2f390 f390 66f20fd0c1 66f30fe6c1 f20f6fc1 660f6fc1 f30f7fc1
    0f6cc1 0f6dc1 660f38f0c1 0f38f0c1 f20f38f0c1 66f20f38f1c1 f30f38f007 0f3a0fc108 660f3a0fc108 f20f3a0fc108 0f3a08c100 660f3a08c100 0f3810c1
    f20f70c11b f30f70c11b 660f70c11b f30fc4c100 0f77 660f77 f20f77 f30f77 0f71d001 0f71c001 660f73d801 0f73d801 f30fb8c1 f20fb8c1 f3f20fb8c1 f2f30fb8c1 66f3f20fb8c1 660fb8c1
    f20fbcc1 f20fbdc1 f20fc2c100 66f20fc2c100 0fd6c1 f30fd6c1 f20fd6c1 0fe6c1 0fe7c1 660fe7c1 0ff7c1 0ff707 f20ff007 f20ff0c1 0f50c1 0f5007 660fd7c1
    0fd707 f30f2ac1 66f30f2ac1 f30f2ec1 f20f2fc1 0fc6c100 f30fc6c100 480fc8 660fc8 66480fc8 8cf0 8cc0 8ec8 8ef8 440f20c0 0f20c8 440f21c0
    0f01f8 0f01ca 0f00f8 4840b001 66 2e3e64652690 c8000000 67e300 0f1a00 0f1b00 0f1e00 0f1cc8 0f1dd0
"""


def encodings() -> Iterator[Case]:
    for code in ENCODINGS.split():
        data = bytes.fromhex(code)
        yield Case(
            ".byte " + ", ".join(f"0x{b:02x}" for b in data),
            {"rdi": NEAR + 0x200, "rax": NEAR, "rcx": 0},
            0,
            "oszapc",
            "0123",
        )


GROUPS = {
    f.__name__: f
    for f in (shifts, double_shifts, multiplications, divisions, bit_tests, bit_scans, exchanges, moves, addresses, stack, alignment, strings,
              conversions, roundings, dot_products, lanes, text_compares, x87, x87_faults, x87_state, encodings)
}  # fmt: skip
