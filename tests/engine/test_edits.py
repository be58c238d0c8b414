"""What a person writes into memory and registers: inputs of a branch, exact at every replay, and commands for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flat_guests import ORIGIN, assemble
from sessions import refused

from cc_tui.session import Session
from chaoscontrol import SimulationConfig, SimulationController, VmConfig
from chaoscontrol.errors import AddressError, UsageError
from chaoscontrol.oracle import PropertyOracle
from chaoscontrol.registers import EDITABLE
from chaoscontrol.timetravel import ClusterWitness, MemoryInput, RegisterInput

# rbx counts; what is added each time is in memory, after the code.
COUNTING = """
1:  add rbx, [rip + step]
    mov [rip + total], rbx
    jmp 1b
    .balign 64
step: .quad 1
total: .quad 0
"""
STEP = ORIGIN + 64
US = 1000


@pytest.fixture
def session() -> Iterator[Session]:
    cluster = SimulationController(SimulationConfig(num_vms=2, vm_config=VmConfig(memory_bytes=16 << 20)))
    for vm in cluster.vms:
        vm.load_flat(assemble(COUNTING))
    with Session(cluster, ClusterWitness(cluster, PropertyOracle())) as made:
        yield made


def rbx(session: Session, machine: int = 0) -> int:
    return session._multiverse.machines[machine].registers().rbx


def test_another_value_in_memory_makes_another_future(session: Session) -> None:
    session.execute("step 300us")
    plain, moment = rbx(session), session.view.moment
    assert plain == 100 * US, "one round is three instructions"
    session.execute("goto 150us")
    session.execute(f"write 0 {STEP:#x} 0300")
    assert session.view.branch.name == "b1", "in the past it branches"
    session.execute("goto 300us")
    assert (rbx(session), rbx(session, 1)) == (50 * US + 3 * 50 * US, plain), "the other machine is as it was"
    changed = session.view.moment
    session.execute("goto 10us")
    session.execute("goto b1@300us")
    assert session.view.moment == changed
    session.execute(f"goto {moment}")
    assert rbx(session) == plain, "the branch that it left is as it was"


def test_another_register_makes_another_future(session: Session) -> None:
    session.execute("step 30us")
    session.execute("set 1 rbx 1000000")
    session.execute("step 30us")
    assert (rbx(session), rbx(session, 1)) == (20 * US, 1_000_000 + 10 * US)
    end = session.view.moment
    session.execute("goto 29us")
    assert rbx(session, 1) < 10 * US
    session.execute(f"goto {end}")


def test_a_session_with_edits_is_a_script_that_repeats_it(session: Session) -> None:
    session.execute("step 30us")
    session.execute(f"write 0 {STEP + 4092:#x} 0102030405060708")
    session.execute("set 0 xmm7 0xffffffffffffffffffffffffffffffff")
    session.execute("step 30us")
    moment, script = session.view.moment, session.script()
    memory = session._multiverse.machines[0].read_memory(STEP + 4092, 8)
    assert memory == bytes(range(1, 9)), "over the end of a page"
    cluster = SimulationController(SimulationConfig(num_vms=2, vm_config=VmConfig(memory_bytes=16 << 20)))
    for vm in cluster.vms:
        vm.load_flat(assemble(COUNTING))
    with Session(cluster, ClusterWitness(cluster, PropertyOracle())) as again:
        again.run_script(script)
        assert again.view.moment == moment
        assert again._multiverse.machines[0].registers().xmm[7] == (1 << 128) - 1


@pytest.mark.parametrize("name", sorted(EDITABLE))
def test_a_register_that_is_set_holds_the_value(session: Session, name: str) -> None:
    multiverse = session._multiverse
    registers = multiverse.machines[0].registers()
    assert registers.edit(name, 0).edit(name, 1) == registers.edit(name, 1)
    with pytest.raises(UsageError, match="bits"):
        registers.edit(name, 1 << EDITABLE[name])
    if name in ("cr0", "cr4", "efer", "cr3", "rip"):
        return  # the least change of these is another machine, or none that can be
    head = multiverse.head()
    assert head is not None
    value = {"rflags": 0x202, "fcw": 0x27F, "ftw": 0xFFFD}.get(name, 1)  # bits that are fixed, and tags that follow
    assert head.give(RegisterInput(0, name, value)) is not None
    assert multiverse.machines[0].registers() == registers.edit(name, value)


def test_what_cannot_be_written_changes_nothing(session: Session) -> None:
    head = session._multiverse.head()
    assert head is not None
    before = session._multiverse.moment()
    for given, error in (
        (MemoryInput(0, 16 << 20, b"x"), AddressError),
        (MemoryInput(0, (16 << 20) - 1, b"xy"), AddressError),
        (RegisterInput(0, "rax", -1), UsageError),
        (RegisterInput(0, "cr9", 1), UsageError),
        (RegisterInput(0, "cr0", 0), UsageError),
    ):
        with pytest.raises(error):
            head.give(given)
        assert session._multiverse.moment() == before


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("write 0 0x1000 9", "not bytes: '9'"),
        ("write 0 here 90", "not a number: 'here'"),
        ("write 0 phys:0x1000000 90", "outside of the memory of vm0"),
        ("write 0 0xffff800000000000 90", "not mapped"),
        ("write 7 0x1000 90", "there is no machine 7"),
        ("set 0 eax 1", "no register 'eax'; there are rax, "),
        ("set 0 mxcsr 0x100000000", "it has 32 bits"),
        ("set 0 cr0 0", "long mode only"),
        ("packets", "the machines have no network; use a scenario with one, as raft"),
        ("packet drop 0#1>1", "the machines have no network"),
    ],
)
def test_bad_input_is_one_line(session: Session, line: str, says: str) -> None:
    assert says in refused(session, line)
