"""Properties judged after the fact, on a guest whose every step is known, and on the recordings that are shipped."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import debug_guest as guest
import pytest

from cc_tui.check import check
from cc_tui.commands import Answer, Bench, CommandError
from cc_tui.commands.hindsight import read_check
from cc_tui.session import Session
from chaoscontrol import SimulationConfig, SimulationController
from chaoscontrol.debug import Breakpoint, Debugger, hindsight
from chaoscontrol.debug.hindsight import Judged, ask_at_hits
from chaoscontrol.events import EventKind
from chaoscontrol.faults import ProcessPause
from chaoscontrol.oracle import PropertyOracle, Verdict
from chaoscontrol.recording import Recorder, foretold_branches, load_recording, make_header, told_branches
from chaoscontrol.timetravel import CancelledError, ClusterWitness, FaultInput, MemoryInput, Multiverse, Position

RECORDINGS = Path(__file__).resolve().parents[2] / "recordings"
INSNS = 6_000
MS = 1_000_000
TWO_LEADERS = """
    def one_leader_a_term(event, memory):
        data = event.data
        if event.kind != "sdk" or data.message != "raft_leader":
            return None
        node, term = data.details["node"], data.details["term"]
        known = memory.setdefault(term, node)
        return known == node or f"nodes {known} and {node} both lead term {term}"
"""


@pytest.fixture(scope="module")
def log() -> guest.Log:
    return guest.single_step(INSNS)


@pytest.fixture
def debugger() -> Iterator[Debugger]:
    made = guest.make_debugger(keyframe_insns=700, end_vns=INSNS)
    yield made
    guest.close(made)


def bench_of(debugger: Debugger) -> Bench:
    return Bench(debugger.multiverse, 5_000, lambda _: None)


def judged(debugger: Debugger, words: str) -> list[Judged]:
    return read_check(words.split(), 5_000).judge(bench_of(debugger))


# ---- at addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [guest.STORE, guest.FILL, guest.FUNCTION, guest.CODE, guest.RETURN])
def test_every_hit_is_looked_at_once_where_single_stepping_finds_it(
    debugger: Debugger, log: guest.Log, address: int
) -> None:
    point, vm = Breakpoint(0, address), debugger.vms[0]
    for _ in range(2):  # the second time there are keyframes where the hits are
        here = debugger.multiverse.moment()
        (found,) = ask_at_hits(
            debugger, ["main"], [point], lambda: hindsight.Answer(True, hex(vm.registers().rip))
        ).values()
        assert [one.position for one in found] == [Position(at) for at in log.arrivals(address)]
        assert [one.at.instret for one in found] == log.arrivals(address)
        assert {one.answer.details for one in found} == {hex(address)}
        assert debugger.multiverse.moment() == here


def test_conditions_over_registers_and_memory(debugger: Debugger, log: guest.Log) -> None:
    stores = log.arrivals(guest.STORE)  # the n-th stores n; before it the variable is n - 1
    (one,) = judged(debugger, f"always memory vm0 {guest.VARIABLE:#x} u64 < 20 at {guest.STORE:#x}")
    assert (one.result.passes, one.result.fails) == (20, len(stores) - 20)
    assert one.example == Position(stores[0])
    assert one.counterexample == Position(stores[20])
    assert one.result.details == "it is 0x14"
    (one,) = judged(debugger, f"never register vm0 rax == 7 at {guest.STORE:#x}")
    assert (one.counterexample, one.result.fails) == (Position(stores[6]), 1)
    (one,) = judged(debugger, f"sometimes not register vm0 rax != 7 at {guest.STORE:#x} vm0")
    assert (one.example, one.result.passes) == (Position(stores[6]), 1)
    (one,) = judged(debugger, f"always register vm0 rax == 1 at {guest.CODE + 0x999:#x}")
    assert one.result.verdict is Verdict.UNREACHED


def test_the_counterexample_can_be_gone_to(debugger: Debugger) -> None:
    (one,) = judged(debugger, f"always register vm0 rax < 30 at {guest.LOAD:#x}")
    assert one.counterexample is not None
    debugger.goto_position(one.counterexample)
    assert debugger.rip(0) == guest.LOAD
    assert debugger.vms[0].registers().value("rax") == 30


def test_branches_share_what_they_have_in_common(debugger: Debugger, log: guest.Log) -> None:
    multiverse, stores = debugger.multiverse, log.arrivals(guest.STORE)
    fork_at, moved = stores[9], 0
    multiverse.goto_time(fork_at)  # exactly where the tenth is about to be executed
    head = multiverse.fork("other")
    head.give(MemoryInput(0, guest.SUM, (1 << 40).to_bytes(8, "little")))
    multiverse.run_to(4_000)
    here = multiverse.moment()

    def count() -> None:
        nonlocal moved
        moved += 1

    multiverse.watch(count)
    main, other = judged(
        debugger, f"never memory vm0 {guest.SUM:#x} u64 > 0x10000000000 at {guest.STORE:#x} on main,other"
    )
    assert multiverse.moment() == here
    assert moved
    assert (main.branch, main.result.verdict, main.result.hits) == ("main", Verdict.PASSED, len(stores))
    assert (other.branch, other.result.verdict) == ("other", Verdict.FAILED)
    assert other.result.passes == 10, "the tenth is looked at once, before anything was added"
    assert other.result.hits == len([at for at in stores if at < 4_000])
    assert other.counterexample == Position(stores[10])
    everything = judged(debugger, f"never memory vm0 {guest.SUM:#x} u64 > 0x10000000000 at {guest.STORE:#x} on all")
    assert everything == [main, other]


def test_python_is_asked_of_the_machine(debugger: Debugger, log: guest.Log, tmp_path: Path) -> None:
    rules = tmp_path / "rules.py"
    rules.write_text(
        textwrap.dedent(f"""
        def copied(vm):
            variable = int.from_bytes(vm.read_memory({guest.VARIABLE}, 8), "little")
            rcx = vm.registers().value("rcx")
            if variable % 2:
                return None
            return rcx == variable and variable < 10 or f"{{rcx}} of {{variable}}"
    """)
    )
    (one,) = judged(debugger, f"{rules}:copied at {guest.SAVE:#x}")
    saves = log.arrivals(guest.SAVE)  # the n-th saves n
    assert one.counterexample == Position(saves[9])
    assert one.result.details == "10 of 10"
    assert (one.result.passes, one.result.hits) == (4, len(saves) // 2)


def test_cancelling_leaves_the_cursor_where_it_was(debugger: Debugger) -> None:
    multiverse = debugger.multiverse
    multiverse.goto_time(2_345)
    here = multiverse.moment()
    multiverse.watch(multiverse.cancel)
    with pytest.raises(CancelledError):
        judged(debugger, f"always register vm0 rax < 30 at {guest.LOAD:#x}")
    multiverse.watch(lambda: None)
    assert multiverse.moment() == here
    assert not multiverse.at_end


def test_a_machine_that_is_not_there_is_refused(debugger: Debugger) -> None:
    with pytest.raises(CommandError, match="there is no machine 5"):
        judged(debugger, "always register vm0 rax == 1 at 0x10 vm5")


# ---- recordings ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "rules.py"
    path.write_text(textwrap.dedent(TWO_LEADERS))
    return path


def path_of(name: str) -> str:
    return str(RECORDINGS / f"raft-{name}.ccrec")


def test_a_property_written_now_fails_where_the_recordings_own_did(rules: Path) -> None:
    with load_recording(path_of("double-vote")) as recording:
        (told,) = told_branches(recording)
        (own,) = [failure for failure in recording.branches[0].failures if "across nodes" in failure.name]
    (one,) = read_check([f"{rules}:one_leader_a_term"], 1).judge_told(told)
    assert one.result.verdict is Verdict.FAILED
    assert one.result.counterexample == own.at
    assert one.result.details == own.details
    (again,) = read_check([f"never {rules}:one_leader_a_term".split()[-1]], 1).judge_told(told)
    assert again == one


@pytest.mark.parametrize("name", ["election", "partition"])
def test_it_holds_where_nothing_is_wrong(rules: Path, name: str) -> None:
    with load_recording(path_of(name)) as recording:
        (told,) = told_branches(recording)
    (one,) = read_check([f"{rules}:one_leader_a_term"], 1).judge_told(told)
    assert one.result.verdict is Verdict.PASSED
    assert one.result.passes == (1 if name == "election" else 2)


def test_the_raft_observer_itself_can_be_told_a_recording() -> None:
    observer = RECORDINGS.parent / "guest" / "programs" / "raft" / "properties.py"
    with load_recording(path_of("leader-no-stepdown")) as recording:
        (told,) = told_branches(recording)
        own = {failure.name: failure for failure in recording.branches[0].failures}
    failed = {
        one.result.name: one.result
        for one in read_check([f"{observer}:RaftProperties"], 1).judge_told(told)
        if one.result.verdict is Verdict.FAILED
    }
    assert failed
    for name, result in failed.items():
        assert (result.counterexample, result.details) == (own[name].at, own[name].details)


def test_the_command_knows_what_the_logs_know_without_running_anything(rules: Path) -> None:
    from cc_tui.opening import open_recorded

    opened = open_recorded(path_of("double-vote"), attended=False)
    answers: list[Answer] = []
    with opened.session as session:
        session.subscribe(lambda event: answers.append(event) if isinstance(event, Answer) else None)
        session.execute(f"check {rules}:one_leader_a_term")
        session.execute("assert not check never console any contains 'not so'")
        session.execute("assert check always console any matches .* on all")
        assert sum(session.view.instrets) == 0
        (answer,) = answers
        assert isinstance(answer.data, dict)
        (row,) = answer.data["branches"]
        session.execute(f"goto {row['counterexample']['place']}")
        assert session.view.position.vns == row["counterexample"]["vns"]
        session.execute("assert event sdk contains raft_leader")
        # The cursor is at the second leader's claim, in the middle of what is judged later.
        session.execute(f"check {rules}:one_leader_a_term")
        assert answers[1].data == answer.data


def test_several_recordings_have_one_exit_code(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = path_of("election"), path_of("double-vote")
    assert check([good], [f"{rules}:one_leader_a_term"], as_json=True) == 0
    assert check([good, bad], [f"{rules}:one_leader_a_term"], as_json=True) == 1
    rows = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [row["verdict"] for row in rows] == ["passed", "passed", "failed"]
    assert [row["file"] for row in rows] == [good, good, bad]
    # Something that must happen sometimes has to happen in one of them.
    assert check([good, bad], ["sometimes", "console", "any", "contains", "not so"]) == 0
    assert check([good], ["sometimes", "console", "any", "contains", "not so"]) == 1
    assert f'{good}: sometimes console any contains "not so"\n  unreached main: 0 for' in capsys.readouterr().out


def test_the_shell_takes_the_property_after_dashes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cc_tui", "check", path_of("election")]
    done = subprocess.run(
        [*command, "--", "always", "register", "vm0", "rip", "==", "1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "where to look is missing" in done.stderr
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "write it after --" in done.stderr
    words = ["always", "register", "vm0", "rdi", "!=", "0", "at", "tcp_sendmsg"]
    done = subprocess.run([*command, "--json", "--", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (branch,) = json.loads(done.stdout)["branches"]
    assert branch["passes"] > 10


def test_what_a_live_branch_has_not_judged_yet_is_looked_at_as_well() -> None:
    cluster = SimulationController(SimulationConfig(num_vms=1, vm_config=guest.CONFIG))
    cluster.vms[0].load_flat(guest.assemble(guest.GUEST))
    with Session(cluster, ClusterWitness(cluster, PropertyOracle([])), attended=False) as session:
        session.execute("step 1ms")
        session.execute("inject process_pause target=0 for=1ms")
        session.execute("step 500us")
        session.execute("assert check sometimes event fault contains pause")
        session.execute("goto 100us")
        session.execute("assert check sometimes event fault contains pause")
        session.execute("assert not check sometimes event fault contains ends")
        session.execute("assert time == 100us")


def test_a_recording_tells_of_every_branch_what_was_known_of_it(tmp_path: Path) -> None:
    config = SimulationConfig(num_vms=1, vm_config=guest.CONFIG)
    path = tmp_path / "live.ccrec"
    with SimulationController(config) as cluster:
        cluster.vms[0].load_flat(guest.assemble(guest.GUEST))
        multiverse = Multiverse(cluster, ClusterWitness(cluster, PropertyOracle([])))
        with Recorder(path, make_header(config)) as recorder:
            multiverse.observe(recorder)
            for vns in (10 * MS, 60 * MS, 100 * MS):
                multiverse.run_to(vns)
                head = multiverse.head()
                assert head is not None
                head.give(FaultInput(ProcessPause(0), MS))
            multiverse.run_to(150 * MS)
            multiverse.goto_time(61 * MS)
            multiverse.fork("early").give(FaultInput(ProcessPause(0), MS))
            multiverse.run_to(75 * MS)
            recorder.finish(multiverse)
        live = [multiverse.told(name) for name in ("main", "early")]
    times = [[event.vns // MS for event in told.events if event.kind is EventKind.FAULT] for told in live]
    assert times == [[10, 11, 60, 61, 100, 101], [10, 11, 60, 61, 61, 62]]
    with load_recording(path) as recording:
        assert told_branches(recording) == live
        foretold = foretold_branches(recording)
    with SimulationController(config) as cluster:
        cluster.vms[0].load_flat(guest.assemble(guest.GUEST))
        opened = Multiverse(cluster, ClusterWitness(cluster, PropertyOracle([])))
        opened.foretell(foretold)
        assert [opened.told(name) for name in ("main", "early")] == live
        assert opened.position == Position(0)
        assert sum(opened.instrets) == 0
