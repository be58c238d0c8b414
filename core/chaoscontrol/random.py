"""Random streams: ChaCha20 keyed per purpose, all from one seed.

Owns the derivation: a stream is named by the seed and a path of labels, so that no two purposes ever share one, and
the order in which streams are created does not matter. Promises that the same name gives the same stream in every
process and version. Never use anything else where a value can reach guest state.

The cipher is RFC 8439's, section 2.4, with a zero nonce. Keys are derived with the cipher alone, so that native code
can do the same: from the seed down the labels, each key is the start of a block of the one before it.
"""

from __future__ import annotations

import struct

_CONSTANTS = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)
_MASK32 = 0xFFFFFFFF

Label = str | int


def _quarter_round(x: list[int], a: int, b: int, c: int, d: int) -> None:
    """RFC 8439, 2.1."""
    for into, add, mix, left in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        x[into] = (x[into] + x[add]) & _MASK32
        word = x[mix] ^ x[into]
        x[mix] = (word << left | word >> (32 - left)) & _MASK32


def chacha20_block(key: bytes, counter: int, nonce: bytes) -> bytes:
    """The 64-byte block function of RFC 8439, 2.3: 32-byte key, 32-bit counter, 12-byte nonce."""
    assert len(key) == 32 and len(nonce) == 12 and 0 <= counter <= _MASK32
    start = [*_CONSTANTS, *struct.unpack("<8I", key), counter, *struct.unpack("<3I", nonce)]
    x = list(start)
    for _ in range(10):
        for i in range(4):
            _quarter_round(x, i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            _quarter_round(x, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<16I", *((a + b) & _MASK32 for a, b in zip(x, start, strict=True)))


def derive_key(seed: int, *labels: Label) -> bytes:
    """The 32-byte key of the stream named by a 64-bit seed and a path of labels: texts or 64-bit integers.

    A label is a kind byte, the length, and the data, in 12-byte nonces. The kind is never 0 and the length comes first,
    so no label's nonces begin another's, and none is a nonce of a stream's own blocks.
    """
    assert 0 <= seed < 1 << 64
    key = seed.to_bytes(32, "little")
    for label in labels:
        kind, data = (b"s", label.encode()) if isinstance(label, str) else (b"i", label.to_bytes(8, "little"))
        code = kind + bytes((len(data),)) + data
        for start in range(0, len(code), 12):
            key = chacha20_block(key, 0, code[start : start + 12].ljust(12, b"\0"))[:32]
    return key


def derive_seed(seed: int, *labels: Label) -> int:
    """A 64-bit seed for one purpose: the start of the stream of that name."""
    return Stream(seed, *labels).u64()


def machine_seed(seed: int, machine: int) -> int:
    """The seed of a cluster's machine of that index."""
    return derive_seed(seed, "vm", machine)


class Stream:
    """An endless stream of random bytes for one purpose."""

    def __init__(self, seed: int, *labels: Label) -> None:
        self._key = derive_key(seed, *labels)
        self._blocks = 0
        self._rest = b""

    def read(self, size: int) -> bytes:
        """The next `size` bytes."""
        parts = [self._rest]
        have = len(self._rest)
        while have < size:
            # The nonce continues the 32-bit block counter.
            nonce = (self._blocks >> 32).to_bytes(12, "little")
            parts.append(chacha20_block(self._key, self._blocks & _MASK32, nonce))
            self._blocks += 1
            have += 64
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]

    def u64(self) -> int:
        """A uniform 64-bit integer."""
        return int.from_bytes(self.read(8), "little")

    def below(self, n: int) -> int:
        """A uniform integer from 0 to n - 1, n at most 2^64, without modulo bias."""
        assert 0 < n <= 1 << 64
        limit = (1 << 64) - (1 << 64) % n
        while True:
            value = self.u64()
            if value < limit:
                return value % n
