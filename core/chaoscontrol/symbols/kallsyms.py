"""The symbols that a kernel carries for itself (CONFIG_KALLSYMS): all there is in a stripped vmlinux or a bzImage.

Nothing says where its tables are, so they are looked for by what they must look like; each find is checked against the
others, and what does not fit together is no find. The tables are written by scripts/kallsyms.c of the kernel's source:

    num_syms, names, markers, token_table, token_index   in this order; other tables may stand between
    offsets, relative_base                               before these, or after them (Linux 6.4 and later)

A name is a row of tokens, each an index into the token table; its first character is the symbol's type, as in nm(1).
"""

from __future__ import annotations

import re
import struct
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

from .table import Symbol

if TYPE_CHECKING:
    from collections.abc import Sequence

TOKENS = 256
GROUP = 256
"""Symbols from one marker to the next."""
SYMBOLS_MAX = 1 << 20
ALIGNMENT = 8
KERNEL_BASE_MIN = 0xFFFF_FFFF_8000_0000
CODE_TYPES = frozenset("tTwW")
TYPES = frozenset(b"%c" % letter for letter in b"aAbBdDnNrRtTvVwW")
NAMES_BYTES_MAX = 16 << 20
"""What lies between num_syms and token_table, at most."""
_DIGITS = re.compile(b"".join(b"%d\0" % digit for digit in range(10)))
"""Digits are tokens of their own, one after another."""
_INDEX = struct.Struct(f"<{TOKENS}H")
_BIG = 0x80
"""A length of two bytes: names of more than 127 tokens, since Linux 6.1."""


class _Names(NamedTuple):
    """The names and where what surrounds them lies in the file."""

    names: list[bytes]
    """With their types."""
    begin: int
    """Of num_syms."""
    end: int
    """Behind token_index."""


def read_kallsyms(data: bytes) -> list[Symbol]:
    """The symbols of a kernel's file; none if there are none, or they are of a form that is not known."""
    for match in _DIGITS.finditer(data):
        table = _tokens_around(data, match.start())
        if table is None:
            continue
        found = _names_before(data, *table)
        if found is None:
            continue
        addresses = _addresses_of(data, found)
        if addresses is not None:
            return [
                Symbol(name[1:].decode(errors="replace"), address, 0, chr(name[0]) in CODE_TYPES)
                for name, address in zip(found.names, addresses, strict=True)
                if len(name) > 1
            ]
    return []


def _aligned(at: int) -> int:
    return -(-at // ALIGNMENT) * ALIGNMENT


def _tokens_around(data: bytes, digits: int) -> tuple[list[bytes], int, int] | None:
    """The tokens of the table that holds the digits at an offset, where it begins, and where its index ends."""
    begin = digits
    for _ in range(ord("0")):
        begin = data.rfind(b"\0", max(begin - 512, 0), begin - 1) + 1
        if begin <= 0:
            return None
    tokens: list[bytes] = []
    at = begin
    for _ in range(TOKENS):
        end = data.find(b"\0", at, at + 512)
        if end < 0:
            return None
        tokens.append(data[at:end])
        at = end + 1
    index = _aligned(at)
    if index + _INDEX.size > len(data):
        return None
    offsets = [0, *accumulate(len(token) + 1 for token in tokens[:-1])]
    return (tokens, begin, index + _INDEX.size) if list(_INDEX.unpack_from(data, index)) == offsets else None


def _names_before(data: bytes, tokens: Sequence[bytes], table: int, end: int) -> _Names | None:
    """The names before a token table: what stands where the number of symbols would is tried, the nearest first."""
    low = _aligned(max(table - NAMES_BYTES_MAX, 0))
    words = memoryview(data)[low : table // ALIGNMENT * ALIGNMENT].cast("Q")
    firsts = {index for index, token in enumerate(tokens) if token[:1] in TYPES}
    for word in range(len(words) - 1, -1, -1):
        if GROUP < words[word] <= SYMBOLS_MAX:
            begin = low + word * ALIGNMENT
            names = _expanded(data, tokens, firsts, begin + ALIGNMENT, table, words[word])
            if names is not None:
                return _Names(names, begin, end)
    return None


def _expanded(
    data: bytes, tokens: Sequence[bytes], firsts: set[int], begin: int, end: int, count: int
) -> list[bytes] | None:
    """So many names from an offset on, if each begins with a type and the markers that follow say where they are."""
    rows: list[bytes] = []
    markers: list[int] = []
    at = begin
    for number in range(count):
        if number % GROUP == 0:
            markers.append(at - begin)
        if at + 2 > end:
            return None
        length = data[at]
        at += 1
        if length & _BIG:
            length = length & (_BIG - 1) | data[at] << 7
            at += 1
        if not length or data[at] not in firsts:
            return None
        rows.append(data[at : at + length])
        at += length
    told = data[_aligned(at) : _aligned(at) + 4 * len(markers)]
    if told != struct.pack(f"<{len(markers)}I", *markers):
        return None
    return [b"".join(map(tokens.__getitem__, row)) for row in rows]


def _addresses_of(data: bytes, found: _Names) -> list[int] | None:
    """Addresses of all names, from the offsets before or behind them."""
    count = len(found.names)
    size = _aligned(4 * count)
    before = found.begin - 8 - size, found.begin - 8
    behind = _aligned(found.end), _aligned(found.end) + size
    for offsets_at, base_at in (before, behind):
        if offsets_at < 0 or base_at + 8 > len(data):
            continue
        (base,) = struct.unpack_from("<Q", data, base_at)
        if base < KERNEL_BASE_MIN:
            continue
        offsets = struct.unpack_from(f"<{count}i", data, offsets_at)
        # On kernels for several CPUs an offset that is not negative is the address itself, that of a per-CPU variable.
        several = sum(offset < 0 for offset in offsets) > count // 2
        addresses = [offset if offset >= 0 else base - 1 - offset for offset in offsets]
        if not several:
            addresses = [base + (offset & 0xFFFF_FFFF) for offset in offsets]
        if all(a <= b for a, b in pairwise(addresses)):
            return addresses
    return None


__all__ = ["read_kallsyms"]
