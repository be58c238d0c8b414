"""Multiverse, one behaviour at a time."""

import threading

import pytest
from toys.cluster import ToyCluster, ToyVm

from chaoscontrol.timetravel import (
    BranchError,
    CancelledError,
    ConsoleInput,
    DivergenceError,
    Moment,
    MomentError,
    Multiverse,
    PastError,
    Position,
    UnreachableError,
)


def make(count=2, **options) -> Multiverse:
    multiverse = {name: options.pop(name) for name in ("keyframe_insns", "density", "budget_bytes") if name in options}
    return Multiverse(ToyCluster(count, **options), **({"keyframe_insns": 1_000} | multiverse))


def console(multiverse: Multiverse, machine=0) -> bytes:
    return multiverse.consoles()[machine].read(0, multiverse.console_totals[machine])


# ---- inputs ---------------------------------------------------------------------------------------------------------


def test_inputs_need_the_end_of_a_branch():
    multiverse = make()
    multiverse.run_to(200_000)
    multiverse.step_ticks(-3)
    assert multiverse.head() is None
    multiverse.goto_end()
    assert multiverse.head() is not None


def test_a_head_expires_when_the_cursor_leaves_the_end():
    multiverse = make()
    multiverse.run_to(200_000)
    head = multiverse.head()
    multiverse.step_ticks(-1)
    with pytest.raises(PastError, match="not at its end"):
        head.give(ConsoleInput(0, b"x"))
    multiverse.goto_end()
    assert head.give(ConsoleInput(0, b"x")) is not None


def test_a_head_of_another_branch_has_expired():
    multiverse = make()
    head = multiverse.head()
    multiverse.fork("other")
    with pytest.raises(PastError):
        head.give(ConsoleInput(0, b"x"))


def test_an_input_for_no_machine_is_refused():
    with pytest.raises(PastError, match="no machine 7"):
        make().head().give(ConsoleInput(7, b"x"))


def test_what_does_not_fit_the_queue_is_not_recorded():
    multiverse = make()
    taken = multiverse.head().give(ConsoleInput(0, b"y" * 100))
    assert len(taken.input.data) == 64
    assert multiverse.head().give(ConsoleInput(0, b"z")) is None
    assert [given.input.data for given in multiverse.inputs()] == [b"y" * 64]


def test_typing_in_the_past_makes_another_future_and_leaves_the_first():
    multiverse = make()
    multiverse.run_to(300_000)
    end = multiverse.moment()
    multiverse.goto_time(100_000)
    multiverse.fork("other").give(ConsoleInput(1, b"hello\r"))
    multiverse.run_to(300_000)
    assert b"you said hello" in console(multiverse, 1)
    assert multiverse.moment().machines[1] != end.machines[1]
    assert multiverse.moment().machines[0] == end.machines[0]
    multiverse.goto(end)
    assert b"you said" not in console(multiverse, 1)


# ---- moments and branches -------------------------------------------------------------------------------------------


def test_a_moment_of_another_state_is_refused_by_name():
    multiverse = make()
    multiverse.run_to(100_000)
    moment = multiverse.moment()
    forged = Moment.parse(str(moment).replace(moment.machines[1].digest, "00000000"))
    multiverse.step_ticks(3)
    with pytest.raises(DivergenceError, match="machine 1 differs in state") as caught:
        multiverse.goto(forged)
    assert (caught.value.machine, caught.value.part) == (1, "state")
    assert multiverse.position == forged.position


def test_a_moment_with_other_instruction_counts_is_refused_by_name():
    multiverse = make()
    multiverse.run_to(100_000)
    text = str(multiverse.moment())
    with pytest.raises(DivergenceError, match="machine 0 differs in instructions"):
        multiverse.goto(Moment.parse(text.replace(f":{multiverse.instrets[0]}.", ":7.")))


def test_a_moment_of_another_cluster_is_refused():
    moment = make(1).moment()
    with pytest.raises(MomentError, match="cluster of 1"):
        make(2).goto(moment)


def test_a_moment_of_an_unknown_branch_is_refused():
    multiverse = make()
    with pytest.raises(BranchError, match="no branch 'b9'"):
        multiverse.goto(Moment("b9", Position(0), multiverse.moment().machines))


def test_a_moment_after_inputs_that_were_never_given_is_refused():
    multiverse = make()
    with pytest.raises(MomentError, match="never given"):
        multiverse.goto(Moment("main", Position(0, 1), multiverse.moment().machines))


@pytest.mark.parametrize("name", ["", "1st", "a b", "x" * 33, "café", "main"])
def test_bad_branch_names_are_refused(name):
    multiverse = make()
    with pytest.raises(BranchError):
        multiverse.fork(name)
    assert len(multiverse.branches()) == 1


def test_moments_compare_along_a_shared_history():
    multiverse = make()
    multiverse.run_to(100_000)
    early = multiverse.moment()
    multiverse.run_to(300_000)
    late_main = multiverse.moment()
    multiverse.goto_time(200_000)
    multiverse.fork("b")
    multiverse.run_to(250_000)
    late_b = multiverse.moment()
    assert multiverse.compare(early, late_b) == -1
    assert multiverse.compare(late_b, early) == 1
    assert multiverse.compare(early, early) == 0
    with pytest.raises(MomentError, match="parted"):
        multiverse.compare(late_main, late_b)


def test_the_past_of_a_branch_is_also_its_own():
    multiverse = make()
    multiverse.run_to(200_000)
    multiverse.fork("b")
    multiverse.run_to(300_000)
    multiverse.goto_time(100_000)
    assert multiverse.branch.name == "b"
    assert multiverse.fork().branch == "b2"
    parent = multiverse.branch.parent
    assert (parent.branch, parent.position.vns) == ("main", 100_000)


# ---- machines that stop ---------------------------------------------------------------------------------------------


def stopped() -> Multiverse:
    multiverse = make()
    multiverse.head().give(ConsoleInput(0, b"off\r"))
    multiverse.run_to(100_000)
    return multiverse


def test_a_machine_that_stops_is_an_ending_and_the_others_go_on():
    multiverse = stopped()
    (ending,) = multiverse.endings()
    assert (ending.machine, ending.kind, ending.detail) == (0, "shutdown", 7)
    assert not multiverse.all_stopped
    before = multiverse.instrets
    multiverse.run_to(200_000)
    assert multiverse.instrets[0] == before[0]
    assert multiverse.instrets[1] > before[1]


def test_an_instruction_of_a_stopped_machine_cannot_be_reached():
    multiverse = stopped()
    with pytest.raises(UnreachableError, match="machine 0 stopped \\(shutdown\\)"):
        multiverse.step_insns(0, 1)
    multiverse.step_insns(0, -1)
    multiverse.step_insns(0, 1)


def test_time_passes_when_every_machine_has_stopped():
    multiverse = stopped()
    multiverse.head().give(ConsoleInput(1, b"crash\r"))
    multiverse.run_to(300_000)
    assert multiverse.all_stopped
    assert multiverse.position.vns == 300_000
    multiverse.goto_time(50_000)
    assert not multiverse.all_stopped
    multiverse.goto_end()
    assert multiverse.all_stopped
    multiverse.next_event()
    assert not multiverse.until(b"never")


# ---- events ---------------------------------------------------------------------------------------------------------


def test_events_forward_and_back_are_the_same():
    multiverse = make()
    multiverse.run_to(150_000)
    multiverse.head().give(ConsoleInput(1, b"hi\r"))
    multiverse.run_to(400_000)
    multiverse.goto_time(0)
    forward = []
    while multiverse.position < Position(390_000):
        multiverse.next_event()
        forward.append(multiverse.position)
    backward = [forward[-1]]
    while backward[-1].vns > 0:
        multiverse.previous_event()
        backward.append(multiverse.position)
    assert backward[::-1][1:] == forward
    assert Position(150_000) in forward


def test_an_event_is_where_a_line_has_just_ended():
    multiverse = make(1)
    for _ in range(4):
        multiverse.next_event()
        assert console(multiverse).endswith(b"\n")
        assert multiverse.at_end
        total = multiverse.console_totals[0]
        multiverse.step_insns(0, -1)
        assert multiverse.console_totals[0] == total - 1
        multiverse.goto_end()


def test_until_finds_a_text_across_segments():
    multiverse = make(1, quantum_ns=20)
    assert multiverse.until(b"toy machine 0, seed 1000")
    assert console(multiverse).endswith(b"seed 1000")
    assert multiverse.at_end


def test_until_gives_up_at_its_limit():
    multiverse = make()
    assert not multiverse.until(b"never", limit_vns=123_456)
    assert multiverse.position == Position(123_456)


# ---- keyframes ------------------------------------------------------------------------------------------------------


def test_snapshots_stay_few_and_are_dense_near_the_cursor():
    multiverse = make(1, keyframe_insns=100, density=8)
    multiverse.run_to(10_000_000)
    held = multiverse.branch.keyframes
    # Thinned geometrically: some per factor e of distance, not one per hundred instructions.
    assert 20 < held < 150
    assert multiverse.machines[0].instret > 40_000


def test_a_rewind_of_one_tick_repeats_little():
    multiverse = make(1, keyframe_insns=1_000)
    multiverse.run_to(10_000_000)
    vm = multiverse.machines[0]
    before = vm.instructions_run
    multiverse.step_ticks(-1)
    assert vm.instructions_run - before < 2_000


def test_the_memory_budget_thins_harder_and_is_kept():
    multiverse = make(1, keyframe_insns=100, density=32, budget_bytes=12 * 4096)
    multiverse.run_to(5_000_000)
    assert multiverse.branch.keyframes <= 12 + 16
    multiverse.goto_time(100)
    assert multiverse.position == Position(100)


# ---- replays that differ --------------------------------------------------------------------------------------------


class Leaky(ToyVm):
    """A machine that can be made to do something else at an instruction."""

    leak_at = -1
    leak = staticmethod(lambda state: None)

    def _execute(self):
        byte = super()._execute()
        if self.state.instret == self.leak_at:
            self.leak(self.state)
        return byte


def leaky() -> tuple[Multiverse, Leaky]:
    cluster = ToyCluster(2)
    cluster.vms[1] = Leaky(1, 2001)
    multiverse = Multiverse(cluster, keyframe_insns=500)
    multiverse.run_to(400_000)
    return multiverse, cluster.vms[1]


def test_a_register_that_differs_is_named():
    multiverse, vm = leaky()
    vm.leak_at, vm.leak = 1_000, lambda state: setattr(state, "mix", state.mix ^ 1)
    multiverse.goto_time(0)
    with pytest.raises(DivergenceError) as caught:
        multiverse.run_to(400_000)
    assert (caught.value.machine, caught.value.part) == (1, "registers")
    assert multiverse.position == Position(0)


def test_a_device_that_differs_is_named():
    multiverse, vm = leaky()
    vm.leak_at, vm.leak = 1_000, lambda state: setattr(state, "typed", b"q")
    multiverse.goto_time(0)
    with pytest.raises(DivergenceError) as caught:
        multiverse.run_to(400_000)
    assert (caught.value.machine, caught.value.part) == (1, "devices")


def test_a_page_that_differs_is_named():
    multiverse, vm = leaky()

    def spoil(state):
        state.pages = (*state.pages[:2], b"\xff" * 4096, *state.pages[3:])

    vm.leak_at, vm.leak = 1_000, spoil
    multiverse.goto_time(0)
    with pytest.raises(DivergenceError) as caught:
        multiverse.run_to(400_000)
    assert (caught.value.machine, caught.value.part) == (1, "page 0x2")


def test_a_console_that_differs_is_named_with_its_byte():
    multiverse, vm = leaky()
    first = multiverse.consoles()[1].read(0, 4)
    assert first == b"toy "
    vm.leak_at, vm.leak = 1, lambda state: setattr(state, "sending", b"TOY" + state.sending[3:])
    multiverse.goto_time(0)
    with pytest.raises(DivergenceError, match=r"byte [0-3] differs") as caught:
        multiverse.run_to(400_000)
    assert (caught.value.machine, caught.value.part) == (1, "console")


# ---- the engine keeps a bounded part of the console -----------------------------------------------------------------


class Forgetful(ToyVm):
    """Keeps the last bytes only, as the engine does with a flood."""

    def take_serial_bytes(self):
        return super().take_serial_bytes()[-40:]


def test_a_flood_of_output_is_taken_in_smaller_pieces():
    flooded, plain = ToyCluster(1), make(1)
    flooded.vms[0] = Forgetful(0, 1000)
    multiverse = Multiverse(flooded, keyframe_insns=1_000_000)
    multiverse.run_to(300_000)
    plain.run_to(300_000)
    assert console(multiverse) == console(plain)


# ---- cancelling -----------------------------------------------------------------------------------------------------


def test_a_run_is_cancelled_from_another_thread_at_a_valid_position():
    cluster = ToyCluster(2)
    multiverse = Multiverse(cluster, keyframe_insns=1_000)
    for vm in cluster.vms:
        vm.slowness_s = 0.02
    timer = threading.Timer(0.2, multiverse.cancel)
    timer.start()
    with pytest.raises(CancelledError):
        multiverse.run_to(1_000_000_000)
    timer.join()
    vns = multiverse.position.vns
    assert 0 < vns < 1_000_000_000
    assert multiverse.at_end
    plain = make()
    plain.run_to(vns)
    assert plain.moment() == multiverse.moment()


def test_coming_back_ends_although_whoever_watches_cancels_every_time():
    """Leaving cc-tui during its first second did so, and never left."""
    multiverse = make(keyframe_insns=1 << 40)
    multiverse.run_to(1_000_000)
    driver = multiverse._driver
    driver._span_ns = 1  # so that it takes several segments
    calls = []

    def cancel():
        calls.append(multiverse.position)
        assert len(calls) < 50, "coming back never ends"
        multiverse.cancel()

    multiverse.watch(cancel)
    driver.come_back(driver.record, Position(500_000))
    assert multiverse.position == Position(500_000)
    assert not calls
    multiverse.run_to(500_001)
    assert calls, "it is called again afterwards"


def test_a_cancel_that_came_before_is_forgotten():
    multiverse = make()
    multiverse.cancel()
    multiverse.run_to(50_000)
    multiverse.cancel()
    multiverse.step_insns(0, -1)
    multiverse.cancel()
    multiverse.next_event()
