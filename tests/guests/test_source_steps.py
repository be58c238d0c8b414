"""Moving by frames and by source lines on a real guest, whose source says where it leads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stack_guest import StackGuest, boot, line_of

from chaoscontrol.errors import UsageError
from chaoscontrol.symbols.code_places import loaded_modules, places_of_line, places_of_symbol
from chaoscontrol.symbols.frames import FoundBy
from chaoscontrol.timetravel import Position


@pytest.fixture(scope="module", params=["musl-O0", "glibc-O2-pie"])
def guest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackGuest]:
    made = boot(request.param, tmp_path_factory.mktemp(request.param))
    with made.cluster:
        yield made


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackGuest]:
    """Not optimised: every line has its code, in order."""
    made = boot("musl-O0", tmp_path_factory.mktemp("plain"))
    with made.cluster:
        yield made


def where(guest: StackGuest) -> tuple[str, int]:
    """The function and the line that the machine is at."""
    frame = guest.debugger.stack(0).frames[0]
    return frame.symbol, frame.source.line if frame.source is not None else 0


# ---- frames ----


def test_finish_stops_where_the_call_returns(guest: StackGuest) -> None:
    stack = guest.run_to("leaf")
    for level in range(4):
        guest.run_to("leaf")
        guest.debugger.calls(0).finish(level)
        registers = guest.debugger.vms[0].registers()
        assert (registers.rip, registers.rsp) == (stack.frames[level + 1].address, stack.frames[level + 1].sp)


def test_finish_of_one_of_several_recursive_calls(guest: StackGuest) -> None:
    """Deeper calls return to the same address before."""
    stack = guest.run_to("recurse", "recurse", "recurse")
    assert [frame.symbol for frame in stack][:4] == ["recurse", "recurse", "recurse", "round_of_calls"]
    guest.debugger.calls(0).finish()
    registers = guest.debugger.vms[0].registers()
    assert (registers.rip, registers.rsp) == (stack.frames[1].address, stack.frames[1].sp)
    assert registers.rax == 6, "1 + 2 + 3"
    after = guest.debugger.stack(0)
    assert [frame.address for frame in after] == [frame.address for frame in stack.frames[1:]]


def test_reverse_finish_goes_to_the_call(guest: StackGuest) -> None:
    for level in range(4):
        stack = guest.run_to("recurse", "leaf")
        guest.debugger.calls(0).reverse_finish(level)
        registers = guest.debugger.vms[0].registers()
        assert registers.rsp == stack.frames[level + 1].sp
        assert guest.debugger.vms[0].read_memory(registers.rip, 1, virtual=True) == b"\xe8", "CALL"
        assert registers.rip + 5 == stack.frames[level + 1].address


def test_finish_and_its_reverse_meet(guest: StackGuest) -> None:
    guest.run_to("inner")
    here = guest.debugger.position
    guest.debugger.calls(0).reverse_finish()
    guest.debugger.step(0)
    assert guest.debugger.position == here


def test_out_of_a_signal_handler(guest: StackGuest) -> None:
    stack = guest.run_to("handler")
    at = next(level for level, frame in enumerate(stack.frames) if frame.found_by is FoundBy.SIGNAL)
    interrupted = stack.frames[at]
    guest.debugger.calls(0).finish(at - 1)
    registers = guest.debugger.vms[0].registers()
    assert (registers.rip, registers.rsp) == (interrupted.address, interrupted.sp)
    guest.run_to("handler")
    guest.debugger.calls(0).reverse_finish()
    registers = guest.debugger.vms[0].registers()
    assert registers.cs.selector & 3 == 3
    assert registers.rsp == interrupted.sp
    assert registers.rip + 2 == interrupted.address, "the system call whose end delivered it"


def test_out_of_a_system_call(guest: StackGuest) -> None:
    guest.run_to("say")
    stack = guest.go_on_to("vfs_write@kernel")
    entry = next(level for level, frame in enumerate(stack.frames) if frame.is_user) - 1
    user = stack.frames[entry + 1]
    here = guest.debugger.position
    guest.debugger.calls(0).finish(entry)
    registers = guest.debugger.vms[0].registers()
    assert (registers.rip, registers.rsp) == (user.address, user.sp)
    assert registers.rax == len("round\n")
    guest.debugger.goto_position(here)
    guest.debugger.calls(0).reverse_finish(entry)
    registers = guest.debugger.vms[0].registers()
    assert (registers.rip + 2, registers.rsp) == (user.address, user.sp)
    guest.debugger.goto_position(here)
    guest.debugger.calls(0).finish(1)
    assert guest.debugger.rip(0) == stack.frames[2].address


def test_out_of_an_interrupt(guest: StackGuest) -> None:
    stack = guest.run_to("irq_enter_rcu@kernel")
    at = next(level for level, frame in enumerate(stack.frames) if frame.found_by is FoundBy.INTERRUPT)
    interrupted = stack.frames[at]
    here = guest.debugger.position
    guest.debugger.calls(0).finish(at - 1)
    registers = guest.debugger.vms[0].registers()
    assert (registers.rip, registers.rsp) == (interrupted.address, interrupted.sp)
    guest.debugger.goto_position(here)
    guest.debugger.calls(0).reverse_finish(at - 1)
    registers = guest.debugger.vms[0].registers()
    assert (registers.rip, registers.rsp) == (interrupted.address, interrupted.sp)


def test_there_is_no_way_out_of_the_first_frame(guest: StackGuest) -> None:
    stack = guest.run_to("leaf")
    with pytest.raises(UsageError, match="returns to nothing that is known"):
        guest.debugger.calls(0).finish(len(stack) - 1)
    with pytest.raises(UsageError, match="there is no frame 99"):
        guest.debugger.calls(0).reverse_finish(99)


# ---- lines ----


def steps(guest: StackGuest, count: int, *, over: bool) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for _ in range(count):
        assert guest.debugger.line_steps(0).forward(over=over).hit is not None
        found.append(where(guest))
    return found


OUTER = [line_of("outer calls inner") - 1, line_of("outer calls inner"), line_of("after inner")]


def test_lines_over_calls(plain: StackGuest) -> None:
    plain.run_to("outer")
    found = steps(plain, 5, over=True)
    # Nothing of the line is left to do where outer returns to.
    after = ("round_of_calls", line_of("calls recurse"))
    assert found == [*(("outer", line) for line in OUTER), ("outer", OUTER[-1] + 1), after]


def test_lines_into_calls(plain: StackGuest) -> None:
    plain.run_to("outer")
    begin = line_of("in leaf") - 1
    assert steps(plain, 8, over=False) == [
        *(("outer", line) for line in OUTER[:2]),
        ("inner", line_of("inner calls leaf") - 1),
        ("inner", line_of("inner calls leaf")),
        *(("leaf", begin + at) for at in range(3)),
        ("inner", line_of("after leaf")),
    ]


def test_a_recursive_call_is_stepped_over(plain: StackGuest) -> None:
    stack = plain.run_to("recurse", "recurse")
    lines = steps(plain, 4, over=True)
    assert lines[-1] == ("recurse", line_of("after going deeper"))
    assert len(plain.debugger.stack(0)) == len(stack)


def test_code_without_lines_is_passed(plain: StackGuest) -> None:
    """qsort and raise have none; what they call back has."""
    plain.run_to("compare")
    plain.debugger.calls(0).finish()
    assert where(plain)[1] == 0
    plain.debugger.line_steps(0).forward(over=True)
    assert where(plain) == ("round_of_calls", line_of("raises"))
    plain.run_to("say")
    plain.go_on_to("vfs_write@kernel")
    plain.debugger.line_steps(0).backward(over=True)
    assert where(plain) == ("say", line_of("says"))


@pytest.mark.parametrize(("over", "count"), [(True, 2), (False, 7)])
def test_lines_back_are_the_lines_forward(guest: StackGuest, over: bool, count: int) -> None:
    guest.run_to("outer")
    begins: list[tuple[Position, int]] = [(guest.debugger.position, guest.debugger.rip(0))]
    reader = guest.reader()
    for _ in range(count):
        assert guest.debugger.line_steps(0).forward(over=over).hit is not None
        rip = guest.debugger.rip(0)
        span = reader.line_at(rip)
        assert span is not None
        if span.low == rip and span.is_statement:  # not where a call has returned to
            begins.append((guest.debugger.position, rip))
    back: list[tuple[Position, int]] = []
    while not back or back[-1][0] > begins[0][0]:
        guest.debugger.line_steps(0).backward(over=over)
        back.append((guest.debugger.position, guest.debugger.rip(0)))
    here = begins[-1][0] if len(begins) == count + 1 else back[0][0]
    assert back == [at for at in reversed(begins) if at[0] < here or at[0] == back[0][0]]
    assert len(back) >= count - 1


# ---- places ----


def test_places_of_lines_and_functions(guest: StackGuest) -> None:
    guest.debugger.goto_position(guest.begin)
    loaded = list(loaded_modules(guest.reader()))
    line = line_of("outer calls inner")
    (place,) = places_of_line(loaded, "stack_program.c", line)
    assert place.source is not None
    assert place.process is not None
    assert (place.source.line, place.module, place.process.name) == (line, "/init", "init")
    guest.debugger.run_to(0, place.address, cr3=place.process.cr3)
    assert where(guest) == ("outer", line)
    (leaf,) = places_of_symbol(loaded, "leaf")
    assert leaf.address == guest.address("leaf")
    assert [found.module for found in places_of_symbol(loaded, "vfs_write")] == ["kernel"]
    assert places_of_symbol(loaded, "main", "init")[0].address == guest.address("main")
    assert places_of_symbol(loaded, "main", "kernel") == []
    assert places_of_line(loaded, "no_such_file.c", 1) == []
