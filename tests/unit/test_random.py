"""chaoscontrol.random: the cipher is RFC 8439's, and a stream's name decides everything."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaoscontrol.random import Stream, chacha20_block, derive_key, derive_seed, machine_seed

SEEDS = st.integers(0, 2**64 - 1)
LABELS = st.lists(st.one_of(st.text(max_size=30), st.integers(0, 2**64 - 1)), max_size=4)


@pytest.mark.parametrize(
    ("key", "counter", "nonce", "block"),
    [
        (  # section 2.3.2
            bytes(range(32)),
            1,
            "000000090000004a00000000",
            "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
            "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
        ),
        (  # appendix A.1, test vector 1
            bytes(32),
            0,
            "00" * 12,
            "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
            "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
        ),
        (  # appendix A.1, test vector 2
            bytes(32),
            1,
            "00" * 12,
            "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
            "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
        ),
        (  # appendix A.1, test vector 3
            bytes(31) + b"\1",
            1,
            "00" * 12,
            "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a"
            "8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
        ),
        (  # appendix A.1, test vector 5
            bytes(32),
            0,
            "00" * 11 + "02",
            "c2c64d378cd536374ae204b9ef933fcd1a8b2288b3dfa49672ab765b54ee27c7"
            "8a970e0e955c14f3a88e741b97c286f75f8fc299e8148362fa198a39531bed6d",
        ),
    ],
)
def test_block_function_gives_the_vectors_of_rfc_8439(key: bytes, counter: int, nonce: str, block: str) -> None:
    assert chacha20_block(key, counter, bytes.fromhex(nonce)).hex() == block


def test_stream_is_the_concatenation_of_its_blocks() -> None:
    key = derive_key(7, "disk", 3)
    expected = b"".join(chacha20_block(key, i, bytes(12)) for i in range(4))
    assert Stream(7, "disk", 3).read(256) == expected


@settings(max_examples=30)
@given(st.lists(st.integers(0, 200), max_size=6))
def test_how_a_stream_is_cut_does_not_matter(sizes: list[int]) -> None:
    stream, whole = Stream(1, "x"), Stream(1, "x")
    assert b"".join(stream.read(n) for n in sizes) == whole.read(sum(sizes))


@settings(max_examples=50)
@given(SEEDS, LABELS, SEEDS, LABELS)
def test_different_names_give_different_streams(seed: int, a: list[str | int], other: int, b: list[str | int]) -> None:
    if (seed, a) != (other, b):
        assert derive_key(seed, *a) != derive_key(other, *b)


def test_text_and_number_labels_never_meet() -> None:
    assert derive_key(0, 1) != derive_key(0, "\1" + "\0" * 7)
    assert derive_key(0, "ab", "c") != derive_key(0, "a", "bc") != derive_key(0, "abc")


def test_derivation_is_frozen() -> None:
    """Recordings rest on these values: a change of the derivation needs a new version of everything."""
    assert derive_key(0).hex() == "00" * 32
    assert derive_seed(42, "network") == 0x1DD825BF61950DF
    assert machine_seed(42, 0) == 0x393B7A6EB8930D43
    assert machine_seed(42, 1) == 0x76D7966AEF70688E


@settings(max_examples=50)
@given(SEEDS, st.integers(1, 2**64))
def test_below_stays_below(seed: int, n: int) -> None:
    assert 0 <= Stream(seed, "below").below(n) < n


def test_below_is_uniform() -> None:
    stream = Stream(3, "dice")
    counts = [0] * 6
    for _ in range(1200):
        counts[stream.below(6)] += 1
    assert all(150 < count < 250 for count in counts), counts
