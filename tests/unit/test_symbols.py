"""chaoscontrol.symbols.table and .elf: names of addresses and addresses of names."""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import pytest
import zstandard
from elf_images import Elf, bzimage
from hypothesis import given, settings
from hypothesis import strategies as st

from cc_tui.gdb.symbol_file import symbol_file
from chaoscontrol import Symbol, SymbolTable, UsageError, image_path, read_symbols
from chaoscontrol.symbols.elf import ElfImage

KERNEL = image_path("vmlinux-6.1.sym")


def test_the_kernels_symbols() -> None:
    table = read_symbols(KERNEL)
    assert table.address("startup_64") == 0xFFFF_FFFF_8100_0000
    assert len(table) > 20_000
    assert "schedule" in table.completions("schedul")
    assert [s.name for s in table.search("^do_syscall_64$")] == ["do_syscall_64"]
    assert not table.lookup("init_task")[0].is_code


def test_a_stripped_file_has_none_and_a_damaged_one_is_refused() -> None:
    assert len(read_symbols(Elf().build())) == 0
    with pytest.raises(UsageError, match="is not a readable ELF file"):
        read_symbols(b"nonsense")


def test_gdb_gets_a_file_that_it_can_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    elf = Elf().build()
    files = {"vmlinux": elf, "vmlinuz": bzimage(gzip.compress(elf)), "vmlinux.zst": zstandard.compress(elf)}
    for name, data in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        found = Path(symbol_file(str(path)))
        assert found.read_bytes() == elf
        assert (found == path) == (name == "vmlinux")


def test_an_address_is_in_the_symbol_whose_size_covers_it() -> None:
    table = SymbolTable(
        [
            Symbol("outer", 0x1000, 0x100),
            Symbol("label", 0x1010, 0),
            Symbol("inner", 0x1020, 0x10),
            Symbol("__alias", 0x2000, 0x20),
            Symbol("alias", 0x2000, 0x20),
            Symbol("aka", 0x2000, 0),
            Symbol("open", 0x3000, 0),
        ]
    )
    names = {
        0x0FFF: "",
        0x1000: "outer",
        0x1014: "outer+0x14",
        0x1024: "inner+0x4",
        0x1030: "outer+0x30",
        0x1100: "",
        0x2000: "alias",
        0x2008: "alias+0x8",
        0x2021: "",
        0x3040: "open+0x40",
        1 << 40: "",
    }
    assert {address: table.name(address) for address in names} == names


def test_symbols_of_one_name_are_all_found_and_a_shifted_table_moves_them() -> None:
    table = SymbolTable([Symbol("init", 0x20, 4), Symbol("init", 0x10, 4), Symbol("main", 0x30, 4)])
    assert [s.address for s in table.lookup("init")] == [0x10, 0x20]
    moved = table.shifted(0x5000)
    assert [s.address for s in moved.lookup("init")] == [0x5010, 0x5020]
    assert moved.name(0x5032) == "main+0x2"
    place = moved.find(0x5032)
    assert place is not None
    assert place.symbol.address == 0x5030
    assert moved.name(0x32) == ""


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), max_size=20), st.integers(0, 400))
def test_what_is_found_covers_the_address(spans: list[tuple[int, int]], address: int) -> None:
    table = SymbolTable([Symbol(f"s{i}", at, size) for i, (at, size) in enumerate(spans)])
    place = table.find(address)
    covering = [at for at, size in spans if at <= address < at + size]
    if covering:
        assert place is not None
        assert place.symbol.address + place.offset == address
        assert place.symbol.address == max(covering)
    elif place is not None:
        assert place.symbol.size == 0


def test_a_position_independent_program_by_its_mapping(tmp_path: Path) -> None:
    (tmp_path / "p.c").write_text("int value = 7; int main(void) { return value; }")
    subprocess.run(["gcc", "-pie", "-fPIE", "-o", "p", "p.c"], cwd=tmp_path, check=True)
    program = ElfImage(tmp_path / "p")
    assert program.is_relocatable
    text = next(s for s in program.segments if s.executable)
    base = 0x5555_5555_4000
    assert program.bias_of_mapping(base + (text.vaddr & ~0xFFF), text.file_offset & ~0xFFF) == base
    assert program.bias_of_mapping(base, 1 << 30) is None
    assert program.symbols.shifted(base).address("main") == base + (program.symbols.address("main") or 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1 << 14), st.integers(0, 255)), min_size=1, max_size=30))
def test_a_damaged_file_gives_symbols_or_a_usage_error(changes: list[tuple[int, int]]) -> None:
    data = bytearray(_small_program())
    for at, value in changes:
        data[at % len(data)] = value
    try:
        program = ElfImage(bytes(data))
        program.symbols.name(0x401000)
        _ = program.segments
        program.section(".eh_frame")
    except UsageError:
        pass


_PROGRAM: list[bytes] = []


def _small_program() -> bytes:
    """Headers and tables of a program, cached."""
    if not _PROGRAM:
        source = b"int main(void) { return 0; }"
        out = Path(__file__).resolve().parents[2] / "build" / "small-program"
        out.parent.mkdir(exist_ok=True)
        command = ["gcc", "-x", "c", "-nostdlib", "-static", "-e", "main", "-o", str(out), "-"]
        subprocess.run(command, input=source, check=True)
        _PROGRAM.append(out.read_bytes())
    return _PROGRAM[0]
