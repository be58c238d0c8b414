"""The debugger on guests that know the right answer: everything it says is compared with a single-stepped log."""

from __future__ import annotations

import pytest
from debug_guest import (
    ADD,
    AFTER_CALL,
    ARGUMENT,
    CALL,
    CODE,
    COPY,
    FILL,
    FUNCTION,
    LOAD,
    MAIN,
    MOVE,
    READ,
    RETURN,
    SAVE,
    STORE,
    SUM,
    TEXT,
    VARIABLE,
    WRITE,
    Log,
    close,
    make_debugger,
    single_step,
)

from chaoscontrol.debug import (
    Breakpoint,
    Condition,
    Debugger,
    WatchKind,
    Watchpoint,
    Who,
)
from chaoscontrol.errors import AddressError
from chaoscontrol.timetravel import CancelledError, Position, UnreachableError

INSNS = 12_000
SPACINGS = (1_500, 9_000, 2_000_000)
"""Work between keyframes, instructions: many, a few and none in what is walked here."""


@pytest.fixture(scope="module")
def log() -> Log:
    return single_step(INSNS)


@pytest.fixture(scope="module", params=SPACINGS)
def debugger(request: pytest.FixtureRequest):
    made = make_debugger(keyframe_insns=request.param, end_vns=INSNS)
    yield made
    close(made)


def stops_ahead(debugger: Debugger, conditions: list[Condition], count: int) -> list[int]:
    found: list[int] = []
    for _ in range(count):
        stop = debugger.forward(conditions, limit_vns=INSNS)
        if not stop.causes:
            break
        found.append(stop.position.vns)
    return found


def stops_behind(debugger: Debugger, conditions: list[Condition], count: int) -> list[int]:
    found: list[int] = []
    for _ in range(count):
        stop = debugger.backward(conditions)
        if not stop.causes:
            break
        found.append(stop.position.vns)
    return found


RANGES = [
    (VARIABLE, 8, WatchKind.WRITE, (WRITE,)),
    (VARIABLE, 8, WatchKind.READ, (READ,)),
    (VARIABLE, 8, WatchKind.ACCESS, (READ, WRITE)),
    (SUM + 3, 1, WatchKind.ACCESS, (READ, WRITE)),
    (TEXT + 2, 2, WatchKind.WRITE, (WRITE,)),
    (VARIABLE, 0x300, WatchKind.WRITE, (WRITE,)),
    (0x8FE0 - 16, 24, WatchKind.ACCESS, (READ, WRITE)),
    (0x1FF000, 8192, WatchKind.READ, (READ,)),
]


@pytest.mark.parametrize("physical", [False, True])
@pytest.mark.parametrize(("address", "size", "kind", "kinds"), RANGES)
def test_watchpoints_stop_at_every_access_of_the_log_either_way(
    debugger: Debugger, log: Log, address: int, size: int, kind: WatchKind, kinds: tuple[str, ...], physical: bool
) -> None:
    expected = sorted({access.instret for access in log.touching(address, size, *kinds)})
    watch: list[Condition] = [Watchpoint(0, address, size, kind, physical=physical)]
    end = debugger.multiverse.find_branch("main").end
    debugger.goto_time(0)
    assert stops_ahead(debugger, watch, 20) == expected[:20]
    debugger.goto_position(end)
    assert stops_behind(debugger, watch, 20) == expected[::-1][:20]
    debugger.goto_time(expected[7])
    assert stops_behind(debugger, watch, 20) == expected[:7][::-1], "the one at the cursor is not before it"


def test_a_hit_says_who_and_where(debugger: Debugger, log: Log) -> None:
    debugger.goto_time(INSNS)
    hit = debugger.backward([Watchpoint(0, SUM + 2, 2)]).hit
    write = log.touching(SUM, 8, WRITE)[-1]
    assert hit is not None
    assert (hit.rip, hit.who, hit.instret, hit.address, hit.va, hit.size) == (
        ADD,
        Who.INSTRUCTION,
        write.instret,
        SUM + 2,
        SUM,
        8,
    )
    assert hit.value == (3 * len(log.touching(SUM, 8, WRITE))).to_bytes(8, "little")


@pytest.mark.parametrize("address", [MAIN, STORE, FILL, FUNCTION, RETURN])
def test_breakpoints_stop_before_every_arrival_either_way(debugger: Debugger, log: Log, address: int) -> None:
    expected = [at for at in log.arrivals(address) if at > 0]
    at: list[Condition] = [Breakpoint(0, address)]
    debugger.goto_time(0)
    assert stops_ahead(debugger, at, 15) == expected[:15]
    assert debugger.rip(0) == address
    debugger.goto_time(INSNS)
    assert stops_behind(debugger, at, 15) == expected[::-1][:15]
    assert debugger.rip(0) == address


def test_the_last_of_several_breakpoints_is_where_going_back_stops(debugger: Debugger, log: Log) -> None:
    debugger.conditions = [Breakpoint(0, STORE), Watchpoint(0, ARGUMENT), Breakpoint(0, MOVE), Breakpoint(0, CODE + 1)]
    expected = sorted(
        {*log.arrivals(STORE), *log.arrivals(MOVE), *(a.instret for a in log.touching(ARGUMENT, 8, WRITE))}
    )
    debugger.goto_time(INSNS)
    back = [debugger.reverse_continue().position.vns for _ in range(9)]
    assert back == expected[::-1][:9]
    ahead = [debugger.continue_().position.vns for _ in range(8)]
    assert ahead == back[::-1][1:]
    debugger.conditions = []


def test_a_breakpoint_in_the_middle_of_an_instruction_is_never_met(debugger: Debugger) -> None:
    debugger.goto_time(100)
    assert not debugger.forward([Breakpoint(0, STORE + 1)], limit_vns=INSNS).causes
    assert debugger.position.vns == INSNS
    assert not debugger.backward([Breakpoint(0, STORE + 1)]).causes
    assert debugger.position == Position(0)


def test_other_processes_and_other_machines_do_not_count(debugger: Debugger) -> None:
    debugger.goto_time(50)
    other = debugger.cr3(0) + 0x1000
    assert not debugger.forward([Breakpoint(0, STORE, cr3=other), Breakpoint(1, STORE + 0x40000)], limit_vns=999).causes
    debugger.goto_time(50)
    assert debugger.forward([Breakpoint(0, STORE, cr3=debugger.cr3(0))], limit_vns=999).causes


def test_run_to_and_back(debugger: Debugger, log: Log) -> None:
    debugger.goto_time(5_000)
    ahead = min(at for at in log.arrivals(SAVE) if at > 5_000)
    behind = max(at for at in log.arrivals(SAVE) if at < 5_000)
    assert debugger.run_to(0, SAVE).position.vns == ahead
    debugger.goto_time(5_000)
    assert debugger.reverse_run_to(0, SAVE).position.vns == behind


def test_steps_are_instructions_of_the_log(debugger: Debugger, log: Log) -> None:
    debugger.goto_time(3_000)
    for at in range(3_000, 3_060):
        assert debugger.rip(0) == log.rips[at]
        debugger.step(0)
    for at in range(3_059, 2_980, -1):
        debugger.reverse_step(0)
        assert (debugger.rip(0), debugger.position.vns) == (log.rips[at], at)
    debugger.reverse_step(0, 80)
    assert debugger.rip(0) == log.rips[2_901]
    with pytest.raises(UnreachableError):
        debugger.reverse_step(0, 2_902)


def test_finish_ends_behind_the_call_and_reverse_finish_at_it(debugger: Debugger, log: Log) -> None:
    arrival = log.arrivals(SAVE)[20]
    debugger.goto_time(arrival)
    frame = log.rsps[arrival] + 8  # one register was pushed
    stop = debugger.finish(0, CALL + 5, frame)
    assert stop.position.vns == log.arrivals(RETURN)[20] + 1
    debugger.goto_time(arrival)
    stop = debugger.reverse_finish(0, CALL + 5, frame)
    assert (debugger.rip(0), stop.position.vns) == (CALL, log.arrivals(CALL)[20])


def test_a_range_is_left_forward_and_back_with_calls_stepped_over(debugger: Debugger, log: Log) -> None:
    start = log.arrivals(STORE)[30]
    left = log.arrivals(FILL)[30]
    debugger.goto_time(start)
    assert debugger.step_range(0, STORE, FILL).position.vns == left
    debugger.goto_time(start)
    assert debugger.step_range(0, STORE, FILL, over=False).position.vns == log.arrivals(FUNCTION)[30]
    debugger.goto_time(left - 1)
    assert debugger.reverse_step_range(0, STORE, FILL).position.vns == start - 1
    debugger.goto_time(left - 1)
    assert debugger.reverse_step_range(0, AFTER_CALL, FILL).position.vns == log.arrivals(RETURN)[30] + 1 + 10
    debugger.goto_time(log.arrivals(SAVE)[30])
    assert debugger.step_range(0, FUNCTION, RETURN + 1).position.vns == log.arrivals(RETURN)[30] + 1


def test_who_wrote_is_the_last_write_of_the_log_and_where_it_was_copied_from(debugger: Debugger, log: Log) -> None:
    moved = log.touching(COPY, 8, WRITE)[11]
    stored = [access for access in log.touching(VARIABLE, 8, WRITE) if access.instret < moved.instret][-1]
    debugger.goto_time(moved.instret + 5)
    copy, source = debugger.when_written(0, COPY, 8)
    assert (copy.rip, copy.instret, copy.position.vns, copy.gpa) == (MOVE, moved.instret, moved.instret, COPY)
    assert copy.read is not None
    assert (copy.read.gpa, copy.read.rip, copy.read.instret) == (VARIABLE, MOVE, moved.instret - 1)
    assert (source.rip, source.instret, source.gpa, source.read) == (STORE, stored.instret, VARIABLE, None)
    assert debugger.position.vns == moved.instret + 5, "it is a question, no movement"


def test_a_copy_through_a_register_is_followed(debugger: Debugger, log: Log) -> None:
    saved = log.touching(ARGUMENT, 8, WRITE)[13]
    debugger.goto_time(saved.instret)
    hops = debugger.when_written(0, ARGUMENT, 8)
    assert [hop.rip for hop in hops] == [SAVE, STORE]
    assert hops[0].read is not None
    assert hops[0].read.rip == LOAD


@pytest.mark.parametrize("at", [2_000, 2_001, 2_007, 2_040])
def test_every_byte_knows_its_last_writer(debugger: Debugger, log: Log, at: int) -> None:
    debugger.goto_time(at)
    for address in (VARIABLE, SUM + 7, ARGUMENT + 4, TEXT, TEXT + 4, TEXT + 5, COPY + 1):
        written = [access for access in log.touching(address, 1, WRITE) if access.instret <= at]
        hops = debugger.when_written(0, address, 1, follow=False)
        assert [(hop.instret, hop.rip) for hop in hops] == [(a.instret, a.rip) for a in written[-1:]]


def test_unmapped_addresses_are_one_line(debugger: Debugger) -> None:
    with pytest.raises(AddressError):
        debugger.when_written(0, 1 << 40, 8)


def test_nothing_changes_the_history() -> None:
    plain, used = make_debugger(end_vns=INSNS), make_debugger(end_vns=INSNS, keyframe_insns=4_000)
    try:
        end = plain.multiverse.moment()
        used.conditions = [Watchpoint(0, VARIABLE, 4096, WatchKind.ACCESS), Breakpoint(1, CODE, 4096)]
        for _ in range(30):
            used.reverse_continue()
        used.when_written(0, COPY, 8)
        for _ in range(10):
            used.continue_()
        used.multiverse.goto_end()
        assert used.multiverse.moment() == end
    finally:
        close(plain)
        close(used)


def test_what_continuing_reaches_first_is_the_end_of_what_is_known() -> None:
    debugger = make_debugger()
    try:
        stop = debugger.forward([Breakpoint(0, STORE)])
        assert debugger.multiverse.at_end, "nothing after the stop has become known"
        assert debugger.multiverse.find_branch("main").end == stop.position
    finally:
        close(debugger)


def test_interrupt_handlers_are_reached_at_the_moment_before_the_interrupt() -> None:
    """The first instruction of an interrupt's handler has no position of its own: it stands for the interrupt."""
    debugger = make_debugger(end_vns=3_300_000, keyframe_insns=500_000)
    try:
        debugger.goto_time(0)
        timer = debugger.vms[1]
        first = debugger.forward([Watchpoint(1, 0x201000)])
        assert first.hit is not None
        handler = first.hit.rip - 4  # push rax; inc r15
        debugger.goto_time(0)
        stops = [debugger.forward([Breakpoint(1, handler)], limit_vns=3_200_000) for _ in range(3)]
        assert [stop.hit is not None and stop.hit.after_interrupt for stop in stops] == [True] * 3
        writes = []
        for stop in stops:
            debugger.goto_position(stop.position)
            assert timer.registers().rip != handler
            writes.append(debugger.forward([Watchpoint(1, 0x201000)]).position.vns)
        assert [write - stop.position.vns for write, stop in zip(writes, stops, strict=True)] == [3, 3, 3]
        back = [debugger.backward([Breakpoint(1, handler)]).position for _ in range(3)]
        assert back[::-1] == [stop.position for stop in stops]
        frames = debugger.forward([Watchpoint(1, timer.registers().rsp - 64, 64)], limit_vns=3_200_000)
        assert frames.hit is not None
        assert frames.hit.who is Who.CPU
        # Where it is met is right behind the interrupt, which has no position either.
        assert timer.registers().rip == handler + 1
        assert frames.hit.rsp == timer.registers().rsp
        assert debugger.backward([Breakpoint(1, handler)]).position.vns == frames.position.vns - 1
    finally:
        close(debugger)


def test_cancelling_a_search_stays_or_comes_back() -> None:
    debugger = make_debugger(end_vns=2_000_000, keyframe_insns=100_000)
    try:
        before = debugger.multiverse.moment()
        seen: list[int] = []

        def stop(vns: int) -> None:
            seen.append(vns)
            if len(seen) == 5:
                debugger.cancel()

        with pytest.raises(CancelledError):
            debugger.backward([Breakpoint(0, CODE + 1)], progress=stop)
        assert debugger.multiverse.moment() == before
        assert len(seen) >= 5
        debugger.goto_time(0)
        seen.clear()
        with pytest.raises(CancelledError):
            debugger.forward([Breakpoint(0, CODE + 1)], progress=stop)
        debugger.multiverse.goto(before)
    finally:
        close(debugger)
