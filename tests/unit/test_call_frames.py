"""Call frames, ORC, expressions and source lines: what is decoded is what pyelftools and gdb say."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from elftools.dwarf.callframe import FDE
from elftools.elf.elffile import ELFFile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chaoscontrol.errors import AddressError
from chaoscontrol.symbols import orc
from chaoscontrol.symbols.cfi import CallFrames, How
from chaoscontrol.symbols.dwarf_data import Cursor, DwarfError, evaluate
from chaoscontrol.symbols.elf import ElfImage
from chaoscontrol.symbols.lines import LineTable, is_end_of_path
from chaoscontrol.symbols.saved import NUMBERS, RBP, RIP, RSP
from chaoscontrol.symbols.space import Memory

SOURCE = """
static long twice(long n) { return n + n; }
__attribute__((noinline)) long work(long n, char *text) {
    char room[n];
    for (long i = 0; i < n; i++)
        room[i] = *(volatile char *)(text + i);
    if (n > 3)
        return work(n - 1, room) + twice(n);
    return room[0];
}
int main(void) {
    return (int)work(10, "abcdefghijkl");
}
"""
COMPILERS = {
    "gcc -O2": ["gcc", "-O2", "-g", "-nostdlib", "-static"],
    "gcc -O0, DWARF 4": ["gcc", "-O0", "-gdwarf-4", "-nostdlib", "-static"],
    "gcc, .debug_frame": ["gcc", "-O1", "-g", "-nostdlib", "-static", "-fno-asynchronous-unwind-tables"],
    "clang": [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl", "-O1", "-g", "-nostdlib",
              "-static"],
}  # fmt: skip


@pytest.fixture(scope="module", params=list(COMPILERS))
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("program")
    (directory / "work.c").write_text(SOURCE)
    flags = ["-e", "main", "-fno-stack-protector", "-o", "work", "work.c"]
    command = [*COMPILERS[request.param], *flags]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    return directory / "work"


def sections(image: ElfImage) -> list[tuple[str, CallFrames]]:
    found: list[tuple[str, CallFrames]] = []
    for name in (".eh_frame", ".debug_frame"):
        data = image.section(name)
        if data:
            address = image.section_address(name) or 0
            found.append((name, CallFrames(data, is_eh=name == ".eh_frame", address=address)))
    return found


HOW = {
    "UNDEFINED": How.UNDEFINED, "SAME_VALUE": How.SAME, "OFFSET": How.OFFSET, "VAL_OFFSET": How.VALUE_OFFSET,
    "REGISTER": How.REGISTER, "EXPRESSION": How.EXPRESSION, "VAL_EXPRESSION": How.VALUE_EXPRESSION,
}  # fmt: skip


def compare(path: Path) -> int:
    """Every row of every entry; how many there were."""
    image, compared = ElfImage(path), 0
    elf = ELFFile(io.BytesIO(image.data))
    dwarf: Any = elf.get_dwarf_info()
    for name, frames in sections(image):
        entries = dwarf.EH_CFI_entries() if name == ".eh_frame" else dwarf.CFI_entries()
        for entry in (entry for entry in entries if isinstance(entry, FDE)):
            for row in entry.get_decoded().table:
                found = frames.row(row["pc"])
                assert found is not None
                cfa = row["cfa"]
                if cfa.expr is None:
                    assert (found.cfa_register, found.cfa_offset) == (cfa.reg, cfa.offset)
                else:
                    assert found.cfa_code == bytes(cfa.expr)
                rules = {number: rule for number, rule in row.items() if isinstance(number, int)}
                assert {n: rule.how for n, rule in found.rules.items()} == {n: HOW[r.type] for n, r in rules.items()}
                for number, rule in found.rules.items():
                    if rule.how in (How.OFFSET, How.VALUE_OFFSET, How.REGISTER):
                        assert rule.number == rules[number].arg
                compared += 1
    return compared


def test_rows_are_those_of_pyelftools(program: Path) -> None:
    assert compare(program) > 5


def test_rows_of_a_whole_library() -> None:
    """The dynamic linker: assembly, signal frames, expressions."""
    assert compare(Path("/lib64/ld-linux-x86-64.so.2").resolve()) > 2000


def test_nothing_is_said_outside_of_functions(program: Path) -> None:
    for _, frames in sections(ElfImage(program)):
        spans = frames.spans()
        assert frames.row(spans[0][0] - 1) is None
        assert frames.row(spans[-1][1]) is None
        assert len(frames) == len(spans)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_entries_are_left_out_or_refused(data: st.DataObject) -> None:
    image = ElfImage(Path("/lib64/ld-linux-x86-64.so.2").resolve())
    section = image.section(".eh_frame")
    assert section is not None
    damaged = bytearray(section[:2048])
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, 2047), st.integers(0, 255)), max_size=20)):
        damaged[at] = value
    frames = CallFrames(bytes(damaged), is_eh=True, address=image.section_address(".eh_frame") or 0)
    for low, high in frames.spans():
        for address in (low, (low + high) // 2, high - 1):
            try:
                frames.row(address)
            except DwarfError:
                continue


# ---- expressions ----


class Words(Memory):
    """Memory of a few words."""

    size = 1 << 64

    def __init__(self, words: dict[int, int]) -> None:
        self._words = words

    def read(self, address: int, size: int) -> bytes:
        if address not in self._words:
            raise AddressError(f"{address:#x} is not mapped")
        return self._words[address].to_bytes(8, "little")[:size]

    def executable(self, address: int) -> bool:
        return True


def test_an_expression_as_the_plt_has_it() -> None:
    """DW_OP_breg7 8, breg16 0, lit15, and, lit11, ge, lit3, shl, plus: the linker's CFA of a PLT entry."""
    code = bytes([0x77, 8, 0x80, 0, 0x3F, 0x1A, 0x3B, 0x2A, 0x33, 0x24, 0x22])
    assert evaluate(code, {7: 0x1000, 16: 0x40100A}, Words({})) == 0x1008
    assert evaluate(code, {7: 0x1000, 16: 0x40100B}, Words({})) == 0x1010


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (b"\x08\xff", 0xFF), (b"\x09\xff", (1 << 64) - 1), (b"\x0d\xfe\xff\xff\xff", (1 << 64) - 2),
        (b"\x10\x80\x01", 128), (b"\x11\x7f", (1 << 64) - 1), (b"\x38\x32\x1c", 6),
        (b"\x38\x1f", (1 << 64) - 8), (b"\x32\x38\x16\x1c", 6), (b"\x31\x32\x33\x17\x1c\x1c", 4),
        (b"\x31\x32\x14\x22\x22", 4), (b"\x31\x32\x15\x01", 1), (b"\x31\x12\x22", 2), (b"\x32\x31\x13", 2),
        (b"\x77\x08\x06", 0x77), (b"\x77\x08\x94\x01", 0x77), (b"\x92\x07\x10", 0x1010), (b"\x39\x32\x1b", 4),
        (b"\x39\x1f\x32\x1b", 2**64 - 4), (b"\x39\x1f\x19", 9), (b"\x30\x20", (1 << 64) - 1),
        (b"\x31\x28\x01\x00\x30\x35", 5), (b"\x2f\x01\x00\x13\x36", 6),
        (b"\x03\x01\0\0\0\0\0\0\x80", 0x8000000000000001), (b"\x39\x34\x1d", 1), (b"\x96\x31", 1),
        (b"\x31\x23\x7f", 128), (b"\x38\x1f\x32\x26", (1 << 64) - 2), (b"\x38\x32\x25", 2),
        (b"\x3c\x3a\x27", 6), (b"\x3c\x33\x21", 15),
    ],
)  # fmt: skip
def test_operations_of_expressions(code: bytes, value: int) -> None:
    assert evaluate(code, {7: 0x1000}, Words({0x1008: 0x77})) == value


@pytest.mark.parametrize(
    "code", [b"", b"\x22", b"\x75\x00", b"\x30\x06", b"\x30\x30\x1b", b"\x2f\xfd\xff", b"\xff", b"\x08"]
)
def test_what_cannot_be_computed_is_refused(code: bytes) -> None:
    with pytest.raises(DwarfError):
        evaluate(code, {7: 0x1000}, Words({}))


@given(st.binary(max_size=60))
def test_any_expression_ends(code: bytes) -> None:
    with contextlib.suppress(DwarfError):
        assert 0 <= evaluate(code, dict.fromkeys(range(17), 0x1000), Words({0x1000: 0x1000})) < 1 << 64


@given(st.integers(0, (1 << 64) - 1))
def test_numbers_of_variable_length(value: int) -> None:
    encoded, rest = bytearray(), value
    while True:
        encoded.append(rest & 0x7F | (0x80 if rest >> 7 else 0))
        rest >>= 7
        if not rest:
            break
    assert Cursor(bytes(encoded)).uleb() == value
    with pytest.raises(DwarfError):
        Cursor(b"\xff" * 11).uleb()


# ---- ORC ----


def orc_bytes(*entries: tuple[int, int, int, int, int, int, int]) -> tuple[bytes, bytes, int]:
    """.orc_unwind_ip and .orc_unwind of (address, sp offset, bp offset, sp base, bp base, kind, end)."""
    base = 0xFFFF_FFFF_8200_0000
    distances = b"".join(struct.pack("<i", entry[0] - base - 4 * i) for i, entry in enumerate(entries))
    packed = (
        struct.pack("<hhH", sp, bp, sp_base | bp_base << 4 | kind << 8 | end << 10)
        for _, sp, bp, sp_base, bp_base, kind, end in entries
    )
    return distances, b"".join(packed), base


TEXT = 0xFFFF_FFFF_8100_0000
STACK = 0xFFFF_C900_0000_1000


def test_orc_entries_are_found_and_carried_out() -> None:
    table = orc.OrcTable(
        *orc_bytes(
            (TEXT, 8, 0, orc.Base.SP, orc.Base.UNDEFINED, orc.Kind.CALL, 0),
            (TEXT + 1, 16, -16, orc.Base.SP, orc.Base.PREVIOUS_SP, orc.Kind.CALL, 0),
            (TEXT + 4, 16, -16, orc.Base.BP, orc.Base.PREVIOUS_SP, orc.Kind.CALL, 0),
            (TEXT + 0x20, 0, 0, orc.Base.UNDEFINED, orc.Base.UNDEFINED, orc.Kind.CALL, 0),
            (TEXT + 0x40, 0, 0, orc.Base.SP, orc.Base.UNDEFINED, orc.Kind.REGS, 0),
            (TEXT + 0x60, 0, 0, orc.Base.SP, orc.Base.UNDEFINED, orc.Kind.REGS_PARTIAL, 0),
            (TEXT + 0x80, 8, 0, orc.Base.SP_INDIRECT, orc.Base.UNDEFINED, orc.Kind.CALL, 0),
            (TEXT + 0xA0, 0, 0, orc.Base.SP, orc.Base.UNDEFINED, orc.Kind.CALL, 1),
        )
    )
    assert len(table) == 8
    assert table.find(TEXT - 1) is None
    assert table.find(TEXT + 0x30) is None

    def step(address: int, known: dict[int, int], words: dict[int, int]) -> tuple[dict[int, int], bool] | None:
        entry = table.find(address)
        assert entry is not None
        return orc.caller(entry, {RIP: address, **known}, Words(words))

    assert step(TEXT, {RSP: STACK, RBP: 7}, {STACK: 11}) == ({RIP: 11, RSP: STACK + 8, RBP: 7}, False)
    pushed = {STACK: 7, STACK + 8: 11}
    expected = {RIP: 11, RSP: STACK + 16, RBP: 7}
    assert step(TEXT + 1, {RSP: STACK}, pushed) == (expected, False)
    assert step(TEXT + 5, {RSP: 0, RBP: STACK}, pushed) == (expected, False)
    assert step(TEXT + 5, {RSP: 0}, pushed) is None
    moved = {STACK: STACK + 0x100, STACK + 0x100: 11}
    assert step(TEXT + 0x80, {RSP: STACK}, moved) == ({RIP: 11, RSP: STACK + 0x108}, False)
    last = table.find(TEXT + 0xA0)
    assert last is not None and last.is_end


class Bytes(Memory):
    """Memory of some bytes at an address."""

    size = 1 << 64

    def __init__(self, address: int, data: bytes) -> None:
        self._address, self._data = address, data

    def read(self, address: int, size: int) -> bytes:
        at = address - self._address
        if not 0 <= at <= len(self._data) - size:
            raise AddressError(f"{address:#x} is not mapped")
        return self._data[at : at + size]


def test_orc_leads_out_of_interrupts() -> None:
    saved = [*range(100, 115), 115, TEXT + 0x500, 0x10, 0x246, STACK + 0x800, 0x18]
    memory = Bytes(STACK, struct.pack("<21Q", *saved))
    whole = orc.OrcEntry(0, 0, orc.Base.SP, orc.Base.UNDEFINED, orc.Kind.REGS, False)
    found = orc.caller(whole, {RSP: STACK}, memory)
    assert found is not None and found[1]
    assert found[0][RIP] == TEXT + 0x500
    assert found[0][RSP] == STACK + 0x800
    assert found[0][NUMBERS["r15"]] == 100
    assert found[0][NUMBERS["rdi"]] == 114
    partial = orc.OrcEntry(0, 0, orc.Base.SP, orc.Base.UNDEFINED, orc.Kind.REGS_PARTIAL, False)
    found = orc.caller(partial, {RSP: STACK + 128}, memory)
    assert found == ({RIP: TEXT + 0x500, RSP: STACK + 0x800}, True)


# ---- source lines ----


def lines_by_gdb(program: Path, addresses: list[int]) -> list[int]:
    """The source line of each address; 0: of none."""
    script = f"python for at in {addresses}: print('line', gdb.find_pc_line(at).line)"
    command = ["gdb", "-q", "-nx", "-batch", str(program), "-ex", script]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [int(line.split()[1]) for line in said.splitlines() if line.startswith("line ")]


def test_lines_are_those_of_gdb(program: Path) -> None:
    image = ElfImage(program)
    table = LineTable(image)
    spans = [image.symbols.lookup(name)[0] for name in ("work", "main")]
    addresses = [a for symbol in spans for a in range(symbol.address, symbol.address + symbol.size)]
    sources = [table.find(address) for address in addresses]
    found = [0 if source is None else source.line for source in sources]
    assert found == lines_by_gdb(program, addresses)
    assert {source.file.rpartition("/")[2] for source in sources if source is not None} == {"work.c"}
    assert table.notes == []


def test_code_of_a_line_is_found_back(program: Path) -> None:
    table = LineTable(ElfImage(program))
    lines = SOURCE.splitlines()
    for text in ("return work(n - 1", "return (int)work"):
        number = next(at for at, line in enumerate(lines, 1) if text in line)
        places = table.statements("work.c", number)
        assert places
        for address, source in places:
            assert source.line == number
            span = table.span(address)
            assert span is not None
            assert span.source == source
            assert span.low <= address < span.high
    assert table.statements("other.c", 1) == []
    assert table.statements("work.c", 1000) == []
    # A line without code is the next one that has some.
    (first, *_) = table.statements("work.c", 11)
    assert first[1].line in (11, 12)


def test_files_are_named_by_the_end_of_their_path() -> None:
    assert is_end_of_path("main.c", "guest/raft/main.c")
    assert is_end_of_path("raft/main.c", "/src/raft/main.c")
    assert is_end_of_path("./main.c", "main.c")
    assert not is_end_of_path("ain.c", "main.c")
    assert not is_end_of_path("raft/main.c", "main.c")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1 << 14), st.integers(0, 255)), min_size=1, max_size=30))
@example([(441, 0)])  # no operations in an instruction: pyelftools divides by them
def test_damaged_lines_are_noted(changes: list[tuple[int, int]]) -> None:
    image = ElfImage(_LINES.read_bytes() if _LINES.exists() else b"")
    at = image.data.index(image.section(".debug_line") or b"?")
    data = bytearray(image.data)
    for offset, value in changes:
        data[at + offset % len(image.section(".debug_line") or b"?")] = value
    table = LineTable(ElfImage(bytes(data)))
    main = image.symbols.address("main") or 0
    table.find(main)
    table.statements("work.c", 3)


_LINES = Path(__file__).resolve().parents[2] / "build" / "program-with-lines"


@pytest.fixture(scope="module", autouse=True)
def program_with_lines() -> None:
    _LINES.parent.mkdir(exist_ok=True)
    source = _LINES.with_name("work.c")
    source.write_text(SOURCE)
    subprocess.run(
        ["gcc", "-O1", "-g", "-nostdlib", "-static", "-e", "main", "-o", str(_LINES), str(source)], check=True
    )
