"""What differs between two moments: edits of which every byte is known, and a guest that goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flat_guests import ORIGIN, assemble
from hypothesis import given
from hypothesis import strategies as st
from sessions import refused
from test_edits import COUNTING

from cc_tui.commands import Answer, parse
from cc_tui.session import Session
from chaoscontrol import DeterministicVm, SimulationConfig, SimulationController, VmConfig
from chaoscontrol.errors import AddressError, UsageError
from chaoscontrol.oracle import PropertyOracle
from chaoscontrol.registers import PACKED_BYTES, unpack
from chaoscontrol.timetravel import ClusterWitness
from chaoscontrol.timetravel.sketch import SKETCH_BYTES, differing, level_of

ROOT = Path(__file__).resolve().parents[2]
MEMORY = 16 << 20


@pytest.fixture
def session() -> Iterator[Session]:
    config = SimulationConfig(num_vms=2, vm_config=VmConfig(memory_bytes=MEMORY, disk_bytes=1 << 20, network=True))
    cluster = SimulationController(config)
    for vm in cluster.vms:
        vm.load_flat(assemble(COUNTING))
    with Session(cluster, ClusterWitness(cluster, PropertyOracle())) as made:
        yield made


def ask(session: Session, line: str) -> tuple[tuple[str, ...], Any]:
    found: list[Answer] = []
    session.subscribe(lambda event: found.append(event) if isinstance(event, Answer) else None)
    session.execute(line)
    return found[-1].lines, json.loads(json.dumps(found[-1].data))


def test_every_edit_is_found_and_nothing_else(session: Session) -> None:
    session.execute("step 30us")
    session.execute("branch edited")
    session.execute("write 0 phys:0x800ffe 0102030405")
    session.execute("write 0 phys:0xa00000 ff")
    session.execute("set 1 r9 0x1234")
    session.execute("set 1 xmm3 0x80000000000000000000000000000000")
    here = session.view.moment
    lines, data = ask(session, "diff main@30us")
    assert session.view.moment == here
    first, second = data["machines"]
    assert first["ranges"] == [
        {"area": "memory", "first": 0x800, "count": 2}, {"area": "memory", "first": 0xA00, "count": 1},
    ]  # fmt: skip
    assert [(page["page"], page["offset"], page["b"][:4]) for page in first["first"]] == [
        (0x800, 0xFFE, "0102"), (0x801, 0, "0304"), (0xA00, 0, "ff00"),
    ]  # fmt: skip
    assert (first["registers"], first["devices"], first["console"]) == ({}, False, None)
    assert second["registers"] == {"r9": ["0x0", "0x1234"], "xmm3": ["0x0", hex(1 << 127)]}
    assert (second["ranges"], data["network"], data["links"]) == ([], False, [])
    assert "    0x800ffe: 00 00 → 01 02" in lines
    # The other way round, and as named places.
    _, turned = ask(session, "diff edited main@30us")
    assert turned["machines"][1]["registers"]["r9"] == ["0x1234", "0x0"]
    assert ask(session, "diff edited edited")[0][1:] == ("nothing differs",)


def test_what_a_guest_does_is_what_differs(session: Session) -> None:
    session.execute("step 60us")
    _, data = ask(session, "diff 30us 60us")
    (page,) = data["machines"][0]["first"]
    total = ORIGIN + 72
    assert (page["area"], page["page"], page["offset"] & ~7) == ("memory", total >> 12, total & 0xFF8)
    assert set(data["machines"][0]["registers"]) <= {"rip", "rbx", "rflags"}
    assert data["machines"][0]["instret"] == [30_000, 60_000]
    assert data["machines"][0]["registers"]["rbx"] == [hex(10_000), hex(20_000)]


def test_disk_and_links_differ_where_they_were_changed(session: Session) -> None:
    session.execute("step 10us")
    session.execute("branch other")
    cluster = session._cluster
    session.execute("inject network_latency target=1 latency_ns=7000000 peer=0 direction=in")
    session.execute("step 1us")
    _, data = ask(session, "diff main@10us other")
    (link,) = data["links"]
    assert (link["src"], link["dst"]) == (0, 1)
    assert {value["name"] for value in link["values"]} == {"latency_ns"}
    assert data["network"]
    vm = cluster.vms[0]
    before = vm.page_digests()
    vm.disk.write(3 * 4096 + 5, b"x")
    (page,) = [at for at in range(vm.page_count) if vm.page_digests()[at * 16 :][:16] != before[at * 16 :][:16]]
    assert vm.page_area(page) == ("disk", 3)
    assert vm.page_bytes(page)[5:6] == b"x"


def test_two_consoles_part_at_a_byte() -> None:
    script = (
        'expect "guest> " within 5s\nbranch one\ntype 0 "echo same1\\r"\nstep 100ms\n'
        'goto main\nbranch two\ntype 0 "echo same2\\r"\nstep 100ms\ndiff one two --json\nps\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "cc_tui", "repl"], input=script, capture_output=True, text=True, timeout=240, cwd=ROOT,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done
    data = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))["answer"]
    (machine,) = data["machines"]
    console = machine["console"]
    assert (console["a"], console["b"]) == ("guest> echo same1", "guest> echo same2")
    assert (console["a_more"], console["b_more"]) > (len("1\r\nsame1"), 0)
    assert any(page["where"] for page in machine["first"]), "some page is somebody's"


def test_mistakes_are_one_line(session: Session) -> None:
    assert "no such place" in refused(session, "diff nowhere start")
    assert "no branch" in refused(session, "diff start none@1")
    assert "something is missing" in refused(session, "diff")
    with pytest.raises(UsageError, match="too much"):
        parse("diff a b c")
    command = parse("diff 1s +5ms")
    assert command is not None
    assert parse(command.text) == command


# ---- pages and sketches ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vm() -> Iterator[DeterministicVm]:
    with DeterministicVm(VmConfig(memory_bytes=MEMORY, disk_bytes=1 << 20)) as made:
        made.load_flat(assemble(COUNTING))
        made.run(instret=1000)
        yield made


def test_areas_follow_each_other(vm: DeterministicVm) -> None:
    areas = [vm.page_area(page) for page in range(vm.page_count)]
    assert areas[: MEMORY // 4096] == [("memory", page) for page in range(MEMORY // 4096)]
    assert areas[-256:] == [("disk", block) for block in range(256)]
    assert list(dict.fromkeys(area for area, _ in areas)) == ["memory", "properties", "disk cache", "disk"]
    assert len(vm.page_digests()) == 16 * vm.page_count
    assert vm.page_digests()[0x100 * 16 :][:16][::-1].hex() == str(vm.page_digest(0x100))
    with pytest.raises(AddressError):
        vm.page_area(vm.page_count)
    with pytest.raises(UsageError):
        vm.page_bytes(vm.page_count)


def test_registers_as_bytes_are_the_registers(vm: DeterministicVm) -> None:
    registers = vm.registers()
    assert registers.pack() == vm.registers_bytes()
    assert len(registers.pack()) == PACKED_BYTES
    assert unpack(registers.pack())["rip"] == registers.rip
    assert unpack(registers.pack())["cs.base"] == registers.cs.base


PAGES = st.lists(st.integers(0, MEMORY // 4096 - 1), min_size=0, max_size=400, unique=True)


@given(PAGES)
def test_a_sketch_names_pages_that_differ(vm: DeterministicVm, pages: list[int]) -> None:
    before, snapshot = vm.page_sketch(), vm.snapshot()
    try:
        for page in pages:
            vm.write_memory(page * 4096 + 9, bytes([vm.read_memory(page * 4096 + 9, 1)[0] ^ 0x55]))
        found = differing(before, vm.page_sketch(), vm.page_count)
        assert set(found.pages) <= set(pages)
        assert found.complete == (set(found.pages) == set(pages))
        if found.complete:
            assert found.about == len(pages)
        elif len(pages) > 40:
            assert len(pages) / 8 <= found.about <= len(pages) * 8
    finally:
        vm.restore(snapshot)
        snapshot.close()
    assert vm.page_sketch() == before, "it goes back with the machine"


def test_one_page_that_differs_is_always_named(vm: DeterministicVm) -> None:
    before = vm.page_sketch()
    assert len(before) == SKETCH_BYTES
    assert differing(before, before, vm.page_count) == ((), 0, True)
    for page in range(0, MEMORY // 4096, 7):
        old = vm.read_memory(page * 4096, 2)
        vm.write_memory(page * 4096, b"\x13\x37" if old != b"\x13\x37" else b"\0\0")
        assert differing(before, vm.page_sketch(), vm.page_count) == ((page,), 1, True)
        vm.write_memory(page * 4096, old)
    assert vm.page_sketch() == before


def test_levels_halve() -> None:
    for table in range(3):
        levels = [level_of(page, table) for page in range(20_000)]
        assert 9_500 < levels.count(0) < 10_500
        assert 4_600 < levels.count(1) < 5_400
        assert max(levels) == 11
