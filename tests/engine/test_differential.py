"""Issue "Correct" (a): the soft CPU against the host CPU, by random instruction sequences."""

from __future__ import annotations

from collections.abc import Iterator

import differential
import pytest

SEED = 20_001


@pytest.fixture(scope="module")
def programs() -> Iterator[differential.Programs]:
    missing = differential.missing_cpu_flags()
    assert not missing, f"this host's CPU lacks {', '.join(missing)}: it cannot be compared with"
    yield differential.build()


def check(result: differential.Result) -> None:
    text = "\n\n".join(differential.describe(failure) for failure in result.failures)
    assert not result.failures, f"{len(result.failures)} cases differ:\n{text}"
    assert not result.complaints, "\n".join(result.complaints)
    # a case is invalid when merging branches leaves a tested flag undefined: rare, or the generator is broken
    assert result.invalid * 200 <= result.done


@pytest.mark.timeout(900)  # builds the engine
def test_sequences(programs: differential.Programs) -> None:
    result = differential.run(programs, SEED, 0, 20_000)
    print(differential.coverage_table(result))
    check(result)
    assert not differential.never_hit(result)


def test_approximations(programs: differential.Programs) -> None:
    """RCPPS, RSQRTPS and x87 transcendentals: vendors differ in the last digits, so compared within error bounds."""
    result = differential.run(programs, SEED, 0, 20_000, ["--approx"])
    check(result)
    assert not differential.never_hit(result, approx=True)


@pytest.mark.parametrize(
    "options",
    [["--step", "1"], ["--step", "3"], ["--no-fuse"], ["--tlb", "4", "--cache", "64"]],
    ids=lambda options: "".join(options),
)
def test_ways_of_running(programs: differential.Programs, options: list[str]) -> None:
    """Single-stepping, instruction fusion and cache sizes must not change results."""
    check(differential.run(programs, SEED + 1, 0, 3_000, options))


def test_runner_is_deterministic(programs: differential.Programs) -> None:
    """The native side against itself: what it reports must depend on the case alone."""
    check(differential.run(programs, SEED + 2, 0, 3_000, ["--native-only"]))


@pytest.mark.timeout(900)
def test_sanitized() -> None:
    """The engine under ASan and UBSan."""
    check(differential.run(differential.build("asan"), SEED + 3, 0, 3_000))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(4))
def test_a_million_sequences(programs: differential.Programs, part: int) -> None:
    result = differential.run(programs, SEED + 100, part * 300_000, 300_000)
    check(result)
    assert not differential.never_hit(result)
