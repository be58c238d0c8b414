"""chaoscontrol.symbols.kallsyms: the names that a stripped kernel carries, against those of its linker."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaoscontrol import image_path, read_symbols
from chaoscontrol.images import kernel_symbols_path
from chaoscontrol.loader import read_source
from chaoscontrol.symbols.kallsyms import GROUP, read_kallsyms

BASE = 0xFFFF_FFFF_8100_0000
TOKENS = [chr(number) if 0x30 <= number < 0x7F else f"t{number:02x}" for number in range(256)]
"""As in a kernel: what is printable stands for itself, most of the others for parts of names."""


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def tables(
    symbols: list[tuple[str, str, int]], *, behind: bool = False, several: bool = True, between: int = 0
) -> bytes:
    """What scripts/kallsyms.c would write of (type, name, address). `behind`: as since Linux 6.4; `several`: CPUs."""
    names, markers = bytearray(), []
    for number, (kind, name, _) in enumerate(symbols):
        if number % GROUP == 0:
            markers.append(len(names))
        row = (kind + name).encode("ascii")
        length = len(row)
        names += bytes([length]) if length < 0x80 else bytes([length & 0x7F | 0x80, length >> 7])
        names += row
    table = b"".join(token.encode() + b"\0" for token in TOKENS)
    index, at = [], 0
    for token in TOKENS:
        index.append(at)
        at += len(token) + 1
    if several:
        offsets = [address if address < BASE else BASE - 1 - address for _, _, address in symbols]
    else:
        offsets = [address - BASE for _, _, address in symbols]
    where = padded(struct.pack(f"<{len(offsets)}i", *offsets)) + struct.pack("<Q", BASE)
    parts = [
        b"" if behind else where,
        struct.pack("<Q", len(symbols)),
        padded(bytes(names)),
        padded(struct.pack(f"<{len(markers)}I", *markers)),
        bytes(between),
        padded(table),
        padded(struct.pack("<256H", *index)),
        where if behind else b"",
    ]
    return b"".join(map(padded, parts))


def some_symbols(count: int, *, per_cpu: int = 0) -> list[tuple[str, str, int]]:
    found = [("A", f"per_cpu_{number}", number * 16) for number in range(per_cpu)]
    long = "x" * 150
    found += [("tTdDbBrRW"[n % 9], f"symbol_{n}" + long * (n % 100 == 7), BASE + n * 24) for n in range(count)]
    return found


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("between", [0, 3 * 1024])
@pytest.mark.parametrize(("several", "per_cpu"), [(True, 0), (True, 40), (False, 0)])
@pytest.mark.parametrize("count", [257, 512, 1025])
def test_what_the_build_of_linux_writes_is_read(
    count: int, behind: bool, between: int, several: bool, per_cpu: int
) -> None:
    symbols = some_symbols(count, per_cpu=per_cpu)
    data = b"\x90" * 4096 + tables(symbols, behind=behind, several=several, between=between) + b"\xcc" * 5000
    found = read_kallsyms(data)
    assert [(s.name, s.address) for s in found] == [(name, address) for _, name, address in symbols]
    assert [s.is_code for s in found] == [kind in "tTwW" for kind, _, _ in symbols]


def test_the_included_kernel_says_the_same_as_its_symbol_file() -> None:
    _, data = read_source(image_path("vmlinux"), "kernel")
    linked = {(s.name, s.address) for s in read_symbols(kernel_symbols_path(image_path("vmlinux"))).symbols}
    carried = read_kallsyms(bytes(data))
    assert len(carried) > 10_000
    assert {(s.name, s.address) for s in carried} <= linked
    assert {"schedule", "start_kernel", "do_exit"} <= {s.name for s in carried if s.is_code}


def test_a_stripped_kernel_has_these_as_its_symbols() -> None:
    stripped = read_symbols(image_path("vmlinux"))
    named = read_symbols(kernel_symbols_path(image_path("vmlinux")))
    assert stripped.address("do_exit") == named.address("do_exit") is not None
    place = stripped.find(named.address("do_exit") + 5)
    assert place is not None and str(place) == "do_exit+0x5"


@pytest.mark.parametrize("data", [b"", bytes(5000), b"".join(b"%d\0" % digit for digit in range(10)) * 100])
def test_other_files_have_none(data: bytes) -> None:
    assert read_kallsyms(data) == []


GOOD = b"\x90" * 512 + tables(some_symbols(600, per_cpu=10)) + bytes(600)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255), st.integers(0, len(GOOD)))
@settings(max_examples=400)
def test_damage_gives_other_names_or_none_and_never_an_error(at: int, flip: int, end: int) -> None:
    damaged = bytearray(GOOD)
    damaged[at] ^= flip
    for data in (bytes(damaged), GOOD[:end]):
        assert len(read_kallsyms(data)) in (0, 610)
