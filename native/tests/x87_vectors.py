"""Reference values of the x87 transcendental functions, computed with mpmath to 400 bits.

    python x87_vectors.py write COUNT PROGRAM   x87_vectors.h on stdout: COUNT arguments of each function, which
                                                PROGRAM (test_x87) chooses
    python x87_vectors.py check COUNT PROGRAM   evaluates COUNT random arguments with PROGRAM; prints the largest errors
    python x87_vectors.py tables                compares soft/x87_tables.h with the constants it names

Needs mpmath. Exit status 1 if an error is above 0.50001 ulp or a table entry is wrong.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import mpmath
from mpmath import mp, mpf

mp.prec = 400  # mpmath itself reduces large arguments exactly

NAMES = {
    0xF0: "F2XM1",
    0xF1: "FYL2X",
    0xF2: "FPTAN",
    0xF3: "FPATAN",
    0xF9: "FYL2XP1",
    0xFB: "FSINCOS",
    0xFE: "FSIN",
    0xFF: "FCOS",
}
"""ModRM byte after D9; of FSINCOS the cosine is looked at."""


def real(sexp: int, mant: int) -> mpf:
    """The value of an 80-bit number."""
    value = mpmath.ldexp(mpf(mant), (sexp & 0x7FFF) - 16383 - 63)
    return -value if sexp & 0x8000 else value


def function(modrm: int, x: mpf, y: mpf) -> mpf:
    """The true value for ST0 = x, ST1 = y."""
    match modrm:
        case 0xF0:
            return mpmath.expm1(x * mpmath.log(2))
        case 0xF1:
            return y * mpmath.log(x, 2)
        case 0xF2:
            return mpmath.tan(x)
        case 0xF3:
            return mpmath.atan2(y, x)
        case 0xF9:
            return y * mpmath.log1p(x) / mpmath.log(2)
        case 0xFE:
            return mpmath.sin(x)
        case _:
            return mpmath.cos(x)


def split(value: mpf) -> tuple[int, int, int]:
    """Sign and exponent, 64-bit significand, and 32 bits more, truncated."""
    sign = 0x8000 if value < 0 else 0
    mantissa, exponent = mpmath.frexp(abs(value))
    bits = int(mpmath.floor(mpmath.ldexp(mantissa, 96)))
    return sign | (int(exponent) - 1 + 16383), bits >> 32, bits & 0xFFFFFFFF


def dumped(program: str, count: int) -> list[tuple[int, ...]]:
    """What PROGRAM evaluates: ModRM, x, y, result as hexadecimal fields."""
    text = subprocess.run([program, "dump", str(count)], capture_output=True, text=True, check=True).stdout
    return [tuple(int(field, 16) for field in line.split()) for line in text.splitlines()]


def write(count: int, program: str) -> None:
    print("/*\n * x87_vectors.h: values of the transcendental functions, written by x87_vectors.py: ST0, ST1,")
    print(" * and the true value's sign and exponent, significand, and 32 more bits.\n */")
    print("#ifndef CC_X87_VECTORS_H\n#define CC_X87_VECTORS_H\n\n#include <stdint.h>\n")
    print("typedef struct x87_vector { uint8_t modrm; uint16_t xe; uint64_t x; uint16_t ye; uint64_t y; uint16_t sexp;")
    print("                            uint64_t mant; uint32_t frac; } x87_vector;\n")
    print("static const x87_vector x87_vectors[] = {")
    for modrm, xe, x, ye, y, _, _ in dumped(program, count):
        value = function(modrm, real(xe, x), real(ye, y))
        if value == 0 or not 1 <= (split(value)[0] & 0x7FFF) < 0x7FFF:
            continue
        sexp, mant, frac = split(value)
        print(
            f"    {{0x{modrm:02x}, 0x{xe:04x}, 0x{x:016x}, 0x{ye:04x}, 0x{y:016x},"
            f" 0x{sexp:04x}, 0x{mant:016x}, 0x{frac:08x}}},"
        )
    print("};\n\n#endif")


def check(count: int, program: str) -> bool:
    worst: dict[int, mpf] = dict.fromkeys(NAMES, mpf(0))
    for modrm, xe, x, ye, y, re_, r in dumped(program, count):
        value = function(modrm, real(xe, x), real(ye, y))
        if value == 0 or not 1 <= (split(value)[0] & 0x7FFF) < 0x7FFF:
            continue
        _, exponent = mpmath.frexp(value)
        error = abs(real(re_, r) - value) / mpmath.ldexp(mpf(1), int(exponent) - 64)
        if error > worst[modrm]:
            worst[modrm] = error
    for modrm, error in worst.items():
        print(f"{NAMES[modrm]:8} {count} arguments, largest error {mpmath.nstr(error, 12)} ulp")
    return max(worst.values()) <= 0.50001


def tables() -> bool:
    text = (Path(__file__).parents[1] / "soft" / "x87_tables.h").read_text()
    ok = True

    def compare(name: str, got: int, value: mpf, bits: int, rounded: bool = True) -> None:
        nonlocal ok
        want = int(mpmath.floor(mpmath.ldexp(value, bits) + (mpf("0.5") if rounded else 0)))
        if got != want:
            ok = False
            print(f"{name}: {got:#x}, should be {want:#x}")

    def pairs(part: str) -> list[int]:
        return [int(h, 16) << 64 | int(lo, 16) for h, lo in re.findall(r"Q\((0x[0-9a-f]+), (0x[0-9a-f]+|0)\)", part)]

    def table(name: str) -> list[int]:
        match_ = re.search(rf"{name}\[\] = \{{(.*?)\}};", text, re.DOTALL)
        assert match_, name
        return pairs(match_[1])

    defines = dict(re.findall(r"#define (Q\w*) (Q\(.*?\))", text))
    for name, value, bits in (
        ("Q_ONE", mpf(1), 127),
        ("Q_SQRT2", mpmath.sqrt(2), 127),
        ("Q_HALF_PI", mp.pi / 2, 127),
        ("Q_LOG2_E", 1 / mpmath.log(2), 127),
        ("Q128_LN2", mpmath.log(2), 128),
    ):
        compare(name, pairs(defines[name])[0], value, bits)
    for k, entry in enumerate(table("inv_factorial")):
        compare(f"1/{k}!", entry, 1 / mpmath.factorial(k), 127)
    for k, entry in enumerate(table("inv_odd")):
        compare(f"1/{2 * k + 1}", entry, mpf(1) / (2 * k + 1), 127)
    for k, entry in enumerate(table("atan_32nds")):
        compare(f"atan({k}/32)", entry, mpmath.atan(mpf(k) / 32), 127)
    words = re.search(r"two_over_pi\[5\] = \{(.*?)\}", text, re.DOTALL)
    assert words
    number = sum(int(w, 16) << 64 * i for i, w in enumerate(re.findall(r"0x[0-9a-f]+", words[1])))
    compare("2/pi", number, 2 / mp.pi, 320, rounded=False)
    return ok


def main(argv: list[str]) -> int:
    if argv[1:] == ["tables"]:
        return 0 if tables() else 1
    if len(argv) == 4 and argv[1] == "write":
        write(int(argv[2]), argv[3])
        return 0
    if len(argv) == 4 and argv[1] == "check":
        return 0 if check(int(argv[2]), argv[3]) else 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
