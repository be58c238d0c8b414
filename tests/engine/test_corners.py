"""Issue "Correct" (a): corners of single instructions, the soft CPU against the host CPU (the tables are corners.py)."""

from __future__ import annotations

import itertools
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import corners
import differential
import flat_guests
import forms
import pytest
from elftools.elf.elffile import ELFFile

CODE_VA = 0x10000000
CODE_OFF = 0x100
CODE_MAX = 1024
FAILURES_SHOWN = 20


@pytest.fixture(scope="module")
def programs() -> Iterator[differential.Programs]:
    missing = differential.missing_cpu_flags()
    assert not missing, f"this host's CPU lacks {', '.join(missing)}: it cannot be compared with"
    yield differential.build()


def assemble_all(texts: Sequence[str]) -> list[bytes]:
    """Machine code of each text."""
    lines = [".intel_syntax noprefix", ".text"]
    for i, text in enumerate(texts):
        lines += [f"case{i}:", text]
    lines.append(f"case{len(texts)}:")
    compiler = flat_guests.native_build().find_compiler()
    with tempfile.TemporaryDirectory() as tmp:
        source, out = Path(tmp) / "cases.s", Path(tmp) / "cases.o"
        source.write_text("\n".join(lines) + "\n")
        done = subprocess.run(
            [*compiler.command, "-c", str(source), "-o", str(out)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[:4000]
        with out.open("rb") as f:
            elf = ELFFile(f)
            code = elf.get_section_by_name(".text").data()
            symbols = {s.name: s["st_value"] for s in elf.get_section_by_name(".symtab").iter_symbols()}
    starts = [symbols[f"case{i}"] for i in range(len(texts) + 1)]
    return [code[a:b] for a, b in itertools.pairwise(starts)]


def record(case: corners.Case, code: bytes) -> bytes:
    """The case as native/diff_main.c's struct written."""
    assert len(code) < CODE_MAX
    registers = corners.BASE | case.registers
    fx = bytearray(512)
    struct.pack_into("<H", fx, 0, registers.get("fcw", 0x37F))
    struct.pack_into("<I", fx, 24, registers.get("mxcsr", 0x1F80))
    for i in range(16):
        value = registers.get(f"xmm{i}", 0x0F1E2D3C4B5A69788796A5B4C3D2E1F0 ^ i)
        fx[160 + 16 * i : 176 + 16 * i] = value.to_bytes(16, "little")
    out = struct.pack("<16Q", *(registers[name] for name in corners.REGISTERS))
    out += struct.pack("<4Q", CODE_VA + CODE_OFF, case.flags | 0x202, registers.get("fs", 0), registers.get("gs", 0))
    out += fx + struct.pack("<2I", CODE_OFF, len(code) + 1) + (code + b"\xcc").ljust(CODE_MAX, b"\0")
    flags = sum(forms.FLAG_BITS[c] for c in case.undefined)
    vendors = sum(1 << corners.VENDOR_RULES.index(name) for name in case.vendors)
    return out + struct.pack("<2B2xI", flags, sum(1 << int(c) for c in case.x87_undefined), vendors)


@pytest.mark.timeout(900)  # builds the engine
@pytest.mark.parametrize("group", corners.GROUPS)
def test_corners(programs: differential.Programs, group: str, tmp_path: Path) -> None:
    cases = list(corners.GROUPS[group]())
    texts = sorted({case.text for case in cases})
    code = dict(zip(texts, assemble_all(texts), strict=True))
    path = tmp_path / "cases"
    path.write_bytes(b"".join(record(case, code[case.text]) for case in cases))
    result = differential.run_cases(programs, path)
    assert not result.complaints, "\n".join(result.complaints)
    lines = [f"{len(result.failures)} of {len(cases)} cases differ:"]
    for failure in result.failures[:FAILURES_SHOWN]:
        case = cases[int(failure.head.split()[1])]
        lines += [f"{case.name}  ({code[case.text].hex()})", *(f"    {line}" for line in failure.lines)]
    assert not result.failures, "\n".join(lines)
    assert result.done == len(cases)
    assert tuple(result.rules) == corners.VENDOR_RULES
    print({name: count for name, count in result.rules.items() if count})
