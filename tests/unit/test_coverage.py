"""The coverage model: classes of counts, merging, comparing, summaries and its serial form."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaoscontrol.coverage import CELLS, CLASSES, CoverageMap, Growth, Source
from chaoscontrol.errors import UsageError


def counters(**cells: int) -> bytes:
    data = bytearray(CELLS)
    for name, n in cells.items():
        data[int(name[1:])] = n
    return bytes(data)


cells = st.dictionaries(st.integers(0, CELLS - 1), st.integers(1, 255), max_size=30)
keys = st.tuples(st.sampled_from([Source.SDK, Source.USER, Source.KERNEL]), st.sampled_from(["", "raft", "größe"]))


@st.composite
def maps(draw: st.DrawFn) -> CoverageMap:
    made = CoverageMap()
    for (source, program), found in draw(st.lists(st.tuples(keys, cells), max_size=4)):
        made.add_counters(source, program, counters(**{f"c{i}": n for i, n in found.items()}))
    return made


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("1", 1, 1),
        ("2", 2, 2),
        ("3", 3, 3),
        ("4-7", 4, 7),
        ("8-15", 8, 15),
        ("16-31", 16, 31),
        ("32-127", 32, 127),
        ("128+", 128, 255),
    ],
)
def test_classes_of_counts(name: str, low: int, high: int) -> None:
    bit = CLASSES.index(name)
    for n in (low, high):
        made = CoverageMap()
        assert made.add_counters(Source.SDK, "", counters(c9=n)) == Growth(1, 1)
        assert made.bits(Source.SDK)[9] == 1 << bit
        assert made.stats(Source.SDK).classes == tuple(int(i == bit) for i in range(8))


def test_another_class_is_new_and_another_count_of_the_class_is_not() -> None:
    made = CoverageMap()
    assert made.add_counters(Source.USER, "raft", counters(c1=4, c65535=1)) == Growth(2, 2)
    assert not made.add_counters(Source.USER, "raft", counters(c1=7))
    assert made.add_counters(Source.USER, "raft", counters(c1=8)) == Growth(0, 1)
    assert made.edges == 2
    assert made.stats(Source.USER, "raft").bits == 3


def test_sources_and_programs_are_kept_apart() -> None:
    made = CoverageMap()
    for source, program in ((Source.KERNEL, ""), (Source.USER, "b"), (Source.USER, "a"), (Source.SDK, "")):
        assert made.add_counters(source, program, counters(c7=1)) == Growth(1, 1)
    assert list(made) == [(Source.SDK, ""), (Source.USER, "a"), (Source.USER, "b"), (Source.KERNEL, "")]
    assert list(made.only(Source.USER)) == [(Source.USER, "a"), (Source.USER, "b")]
    assert made.edges == 4


def test_a_map_without_edges_is_none() -> None:
    made = CoverageMap()
    assert not made.add_counters(Source.SDK, "", bytes(CELLS))
    assert made == CoverageMap()
    assert made.digest() == CoverageMap().digest()
    assert made.bits(Source.SDK) == bytes(CELLS)


def test_a_map_of_another_size_is_refused() -> None:
    with pytest.raises(UsageError, match="100 bytes"):
        CoverageMap().add_counters(Source.SDK, "", bytes(100))


@settings(deadline=None)
@given(maps(), maps())
def test_merging(a: CoverageMap, b: CoverageMap) -> None:
    one, two = a.copy(), b.copy()
    promised = a.new_edges(b)
    assert bool(promised) == a.has_new(b)
    assert one.merge(b) == promised
    two.merge(a)
    assert one == two
    assert one.digest() == two.digest()
    assert (one.digest() == a.digest()) == (one == a) == (not promised)
    assert not one.merge(b)
    assert not one.has_new(a)
    assert not one.has_new(b)
    assert one.edges == a.edges + promised.edges
    for key in one:
        assert one.bits(*key) == bytes(x | y for x, y in zip(a.bits(*key), b.bits(*key), strict=True))


@settings(deadline=None)
@given(maps())
def test_the_serial_form_is_exact(a: CoverageMap) -> None:
    data = a.to_bytes()
    assert CoverageMap.from_bytes(data) == a
    assert CoverageMap.from_bytes(data).to_bytes() == data
    assert len(data) < 200 + 12 * a.edges


@settings(deadline=None)
@given(maps(), st.integers(0, 10_000), st.integers(0, 255))
def test_damage_is_a_clear_error_or_another_map(a: CoverageMap, at: int, value: int) -> None:
    data = a.to_bytes()
    spoilt = bytearray(data)
    spoilt[at % len(data)] = value
    with contextlib.suppress(UsageError):
        assert CoverageMap.from_bytes(bytes(spoilt)).to_bytes() == spoilt
    for bad in (data[:-1], data + b"\0", b"", b"cccov\x02\0"):
        with pytest.raises(UsageError, match="coverage"):
            CoverageMap.from_bytes(bad)


def test_a_long_run_of_zero_bytes_in_a_file_takes_no_time() -> None:
    with pytest.raises(UsageError, match="damaged"):
        CoverageMap.from_bytes(b"cccov\x01" + b"\xff\xff\xff\x7f" + bytes(100))


def test_the_grid_shows_where_edges_are() -> None:
    made = CoverageMap()
    made.add_counters(Source.SDK, "", bytes([1]) * (CELLS // 4) + bytes(CELLS * 3 // 4))
    made.add_counters(Source.USER, "p", bytes(CELLS // 2) + bytes([9, 0]) * (CELLS // 4))
    assert made.grid(2, 2) == [[1, 0], [0.5, 0.5]]
    assert made.grid(2, 2, (Source.SDK, "")) == [[1, 0], [0, 0]]
    assert made.grid(1, 1, (Source.USER, "nobody")) == [[0]]
    rows = made.grid(7, 90)
    assert [len(row) for row in rows] == [90] * 7
    assert rows[0][0] == 1
    assert rows[3][0] == 0
    for shape in ((0, 5), (5, 0), (257, 256)):
        with pytest.raises(UsageError, match="grid"):
            made.grid(*shape)
