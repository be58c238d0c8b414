"""The oracle on a real Linux: what its kernel prints when it is in trouble, its end, its silence, its assertions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from linux_pair import MS, SECOND, LinuxPair

from chaoscontrol import StopKind
from chaoscontrol.events import Event, EventReader
from chaoscontrol.faults import ClockJump, CpuSlowdown
from chaoscontrol.oracle import (
    At,
    Check,
    ConsoleSometimes,
    HostProperty,
    NoGuestEnds,
    Progress,
    PropertyOracle,
    PropertyResult,
    Verdict,
    kernel_properties,
)
from chaoscontrol.protocol import SdkEvent

DIVIDE_BY_ZERO = bytes.fromhex("31c9 31d2 f7f1")
FOR_EVER = bytes.fromhex("ebfe")


@pytest.fixture(scope="module")
def booted() -> Iterator[LinuxPair]:
    pair = LinuxPair.boot()
    yield pair
    pair.cluster.close()


class Watched:
    """The pair with an oracle that sees everything from now on."""

    def __init__(self, pair: LinuxPair, *properties: HostProperty) -> None:
        self.pair = pair.reset()
        pair.sh(0, "dmesg -n 7")  # troubles on the console
        self.oracle = PropertyOracle(properties)
        self.reader = EventReader(pair.cluster)
        self.reader.discard()

    def type(self, line: str) -> None:
        self.pair.type(0, line)

    def look(self, ns: int) -> dict[str, PropertyResult]:
        """Lets time pass; how the properties stand then."""
        self.pair.go(ns)
        events = self.reader.read()
        self.oracle.feed(events, self.pair.vns)
        report = self.oracle.report([vm.properties() for vm in self.pair.cluster.vms])
        return {result.name: result for result in report.results}


def spoil(pair: LinuxPair, function: str, code: bytes) -> None:
    """Replaces the beginning of a function of machine 0's kernel."""
    address = int(pair.sh(0, f"grep -w {function} /proc/kallsyms").split()[0], 16)
    pair.cluster.vms[0].write_memory(address, code, virtual=True)


def failed(found: dict[str, PropertyResult]) -> set[str]:
    return {name for name, result in found.items() if result.verdict is Verdict.FAILED}


def test_a_panic_and_the_end_that_follows(booted: LinuxPair) -> None:
    watched = Watched(booted, *kernel_properties(), NoGuestEnds())
    assert failed(watched.look(SECOND)) == set()
    watched.type("echo c > /proc/sysrq-trigger")
    found = watched.look(SECOND)
    assert failed(found) == {"no kernel panic", "no guest ends by itself"}
    panic, end = found["no kernel panic"], found["no guest ends by itself"]
    assert "Kernel panic - not syncing: sysrq triggered crash" in panic.details
    assert panic.counterexample and end.counterexample and panic.counterexample < end.counterexample
    stop = booted.cluster.stops[0]
    assert stop and stop.kind is StopKind.RESET
    assert end.counterexample == At(stop.vns, 0, stop.instret)


def test_a_trap_in_the_kernel_is_an_oops_whatever_it_is_called(booted: LinuxPair) -> None:
    watched = Watched(booted, *kernel_properties())
    spoil(booted, "__x64_sys_sethostname", DIVIDE_BY_ZERO)
    watched.type("hostname x")
    found = watched.look(SECOND)
    assert "no kernel oops" in failed(found)
    assert "divide error: 0000 [#1]" in found["no kernel oops"].details


def test_a_soft_lockup(booted: LinuxPair) -> None:
    watched = Watched(booted, *kernel_properties())
    spoil(booted, "__x64_sys_sethostname", FOR_EVER)
    watched.type("hostname x")
    booted.go(SECOND)
    booted.schedule((MS, CpuSlowdown(0, 200), None))  # a busy virtual minute is long in coming
    found = watched.look(40 * SECOND)
    assert failed(found) == {"no soft lockup"}
    assert "soft lockup - CPU#0 stuck for" in found["no soft lockup"].details


def test_silence_and_what_must_be_said(booted: LinuxPair) -> None:
    watched = Watched(booted, Progress(2 * SECOND), ConsoleSometimes("^at last"))
    watched.type("for i in 1 2 3; do echo $i; sleep 1; done; sleep 5; echo at last")
    found = watched.look(4 * SECOND)
    assert failed(found) == set() and found["console says '^at last'"].verdict is Verdict.UNREACHED
    found = watched.look(5 * SECOND)
    silence = found["progress every 2 virtual seconds"]
    assert silence.verdict is Verdict.FAILED and silence.fails == 1
    assert found["console says '^at last'"].verdict is Verdict.PASSED


def test_a_failure_has_the_very_moment_of_its_request(booted: LinuxPair) -> None:
    watched = Watched(booted)
    watched.type("cc-sdk always small true; cc-sdk always small false; cc-sdk sometimes never false")
    start = booted.cluster.snapshot_all()
    found = watched.look(SECOND)
    assert failed(found) == {"small"} and found["never"].verdict is Verdict.UNREACHED
    small = found["small"]
    assert (small.passes, small.fails) == (1, 1)
    assert small.example and small.counterexample and small.example < small.counterexample
    booted.cluster.restore_all(start)
    # One instruction earlier it has not failed; with it, it has.
    stop = booted.cluster.run_until(None, machine=0, instret=small.counterexample.instret)
    assert stop.vns == small.counterexample.vns
    assert [p.fails for p in booted.cluster.vms[0].properties() if p.message == "small" and p.command == 1] == [0]
    booted.cluster.run_until(None, machine=0, instret=small.counterexample.instret + 1)
    assert [p.fails for p in booted.cluster.vms[0].properties() if p.message == "small" and p.command == 1] == [1]


def test_a_callable_sees_what_guests_send(booted: LinuxPair) -> None:
    def terms_grow(event: Event, memory: dict[str, object]) -> bool | str | None:
        if not isinstance(event.data, SdkEvent) or event.data.message != "term":
            return None
        last, now = memory.get("last", 0), event.data.details.get("n")
        memory["last"] = now
        return True if isinstance(now, int) and isinstance(last, int) and now > last else f"{now} after {last}"

    watched = Watched(booted, Check("terms grow", terms_grow))
    watched.type("""for n in 1 2 5 4; do cc-sdk send-event term "{\\"n\\":$n}"; done""")
    found = watched.look(SECOND)
    assert failed(found) == {"terms grow"}
    assert found["terms grow"].details == "4 after 5" and found["terms grow"].passes == 3


def test_a_jump_of_the_clock_is_no_trouble(booted: LinuxPair) -> None:
    watched = Watched(booted, *kernel_properties(), NoGuestEnds())
    booted.schedule((MS, ClockJump(0, 86_400 * SECOND), None), (SECOND, ClockJump(0, -172_800 * SECOND), None))
    assert failed(watched.look(5 * SECOND)) == set()
