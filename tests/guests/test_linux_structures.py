"""chaoscontrol.symbols.linux and .space on a real guest: what it reads is what the guest says itself."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chaoscontrol import (
    DEFAULT_CMDLINE,
    AddressError,
    DeterministicVm,
    SymbolTable,
    UsageError,
    VmConfig,
    image_path,
    read_symbols,
)
from chaoscontrol.edges import find_tasks
from chaoscontrol.symbols.btf import Btf
from chaoscontrol.symbols.elf import ElfImage
from chaoscontrol.symbols.layout import Layout, layout_of
from chaoscontrol.symbols.linux import MAPS_MAX, TASKS_MAX, LinuxGuest
from chaoscontrol.symbols.space import AddressSpace, Memory, search

SCRIPT = (
    "sleep 1111 & mkdir /tmp/m; mount -t tmpfs none /tmp/m; cp /bin/busybox /tmp/m; /tmp/m/busybox sleep 1222 & "
    "usleep 50000; rm /tmp/m/busybox; SECRET=needle-in-a-haystack sleep 1333 & usleep 50000; "
    "for p in /proc/[0-9]*; do echo STAT $(cat $p/stat); done; "
    "for p in $(pidof sleep busybox) 1; do echo MAPS $p; cat /proc/$p/maps; done; echo the end of it; sleep 9; echo"
)


class Booted(NamedTuple):
    vm: DeterministicVm
    text: str
    guest: LinuxGuest


@pytest.fixture(scope="module")
def kernel_layout() -> Layout:
    return layout_of(ElfImage(image_path("vmlinux")))


@pytest.fixture(scope="module")
def kernel_symbols() -> SymbolTable:
    return read_symbols(image_path("vmlinux-6.1.sym"))


@pytest.fixture(scope="module")
def booted(kernel_layout: Layout, kernel_symbols: SymbolTable) -> Iterator[Booted]:
    with DeterministicVm(VmConfig()) as vm:
        line = f'{DEFAULT_CMDLINE} quiet cc.run="{SCRIPT}"'
        vm.load_kernel(image_path("vmlinux"), image_path("tools"), cmdline=line)
        text = vm.run_until("the end of it\r\n", max_vns=9_000_000_000).replace("\r", "")
        vm.run(vns=vm.vns + 20_000_000)
        yield Booted(vm, text, LinuxGuest(vm, vm.config.memory_bytes, kernel_symbols, kernel_layout))


def test_every_process_is_listed_as_in_proc(booted: Booted) -> None:
    found = booted.guest.tasks()
    assert found.notes == ()
    said = {
        (int(pid), re.sub("(kworker/.*?)-.*", r"\1", name), int(parent))  # /proc adds what a worker did last
        for pid, name, parent in re.findall(r"^STAT (\d+) \((.*?)\) \S (\d+)", booted.text, re.MULTILINE)
    }
    assert len(said) > 15
    listed = {(t.pid, t.name, t.parent) for t in found.processes if t.pid}
    # The shell's `cat`s have come and gone, and `sleep 9` has come.
    assert {entry for entry in said - listed if not re.match("cat|sh", entry[1])} == set()
    assert [name for _, name, _ in sorted(listed - said)] == ["sleep"]
    states = {t.name: t.state for t in found.tasks}
    assert states["init"] == "S sleeping"
    assert states["mm_percpu_wq"] == "I idle"


def test_kernel_threads_have_no_memory_of_their_own(booted: Booted) -> None:
    for task in booted.guest.tasks().tasks:
        assert task.is_kernel == (task.cr3 == 0)
        if task.is_kernel:
            assert booted.guest.maps(task).mappings == ()


def test_maps_are_those_of_proc(booted: Booted) -> None:
    tasks = booted.guest.tasks()
    blocks = re.split(r"^MAPS (\d+)\n", booted.text, flags=re.MULTILINE)[1:]
    said = {int(pid): lines for pid, lines in zip(blocks[::2], blocks[1::2], strict=True)}
    names: list[str] = []
    for pid, lines in said.items():
        task = tasks.find(pid)
        if task is None:
            continue  # a subshell that has ended since
        names.append(task.name)
        maps = booted.guest.maps(task)
        assert maps.notes == ()
        assert [str(m) for m in maps.mappings] == [li for li in lines.splitlines() if re.match("[0-9a-f]+-", li)]
    assert sorted(names) == ["busybox", "init", "sh", "sleep", "sleep"]
    assert "/tmp/m/busybox (deleted)" in booted.text


def test_who_runs_is_who_coverage_says(booted: Booted, kernel_symbols: SymbolTable, kernel_layout: Layout) -> None:
    where = find_tasks(booted.vm, kernel_symbols.symbols)
    assert where.name_offset == kernel_layout("task_struct", "comm")
    assert booted.guest.physical.u64(where.current_gpa) == booted.guest.current_address()
    current = booted.guest.tasks().current
    assert current is not None
    assert booted.guest.current_name() == current.name


def test_memory_of_a_process_that_does_not_run(booted: Booted) -> None:
    tasks = booted.guest.tasks()
    owner = None
    for task in tasks.tasks:
        if task.name != "sleep" or task.is_current:
            continue
        space = booted.guest.space(task)
        stack = next(m for m in booted.guest.maps(task).mappings if m.name == "[stack]")
        found = search(space, b"SECRET=needle-in-a-haystack\0", stack.start, stack.end)
        assert found.complete
        if found.addresses:
            owner = task
            assert space.text(found.addresses[0]) == "SECRET=needle-in-a-haystack"
            assert isinstance(space, AddressSpace)
            physical = space.translate(found.addresses[0]).physical
            assert physical in search(booted.guest.physical, b"SECRET=needle-in-a-haystack\0").addresses
    assert owner is not None


def test_the_machines_own_translation_agrees(booted: Booted) -> None:
    space = AddressSpace(booted.guest.physical, booted.vm.registers().cr3)
    sizes = set[int]()
    for region in space.regions(0, 1 << 64):
        address = region.start + (region.end - region.start) // 2
        found = space.translate(address)
        sizes.add(found.page_bytes)
        assert found.physical == booted.vm.translate(address)
        assert (found.writable, found.user, found.executable) == (region.writable, region.user, region.executable)
    assert sizes == {4096, 2 << 20}
    with pytest.raises(AddressError, match="not mapped"):
        space.translate(0x10)
    with pytest.raises(AddressError, match="canonical"):
        space.translate(1 << 50)


def test_a_search_can_be_watched_and_cancelled(booted: Booted) -> None:
    progress: list[tuple[int, int]] = []
    found = search(booted.guest.physical, b"\0" * 64, most=3, on_progress=lambda *p: progress.append(p))
    assert len(found.addresses) == 3
    assert not found.complete
    whole = search(booted.guest.physical, b"no such text anywhere\x01\x02", on_progress=lambda *p: progress.append(p))
    assert whole.complete
    assert progress[-1] == (booted.guest.physical.size, booted.guest.physical.size)
    steps = iter([False, False, True])
    stopped = search(booted.guest.physical, b"no such text anywhere\x01\x02", cancelled=lambda: next(steps))
    assert stopped.note == f"cancelled at {2 << 20:#x}"
    with pytest.raises(UsageError):
        search(booted.guest.physical, b"")


def test_reading_changes_nothing(booted: Booted) -> None:
    before = booted.vm.digest()
    for task in booted.guest.tasks().tasks:
        booted.guest.maps(task)
    search(booted.guest.kernel, b"swapper", 0xFFFF_FFFF_8000_0000)
    assert booted.vm.digest() == before


def test_a_match_across_pages_that_are_apart_in_memory(booted: Booted) -> None:
    space = booted.guest.kernel
    assert isinstance(space, AddressSpace)
    text = booted.guest.symbols.address("_text") or 0
    expected = text + 3 * 4096 - 7
    assert expected in search(space, space.read(expected, 40), text, text + (1 << 20)).addresses


def test_before_the_kernel_is_up_there_is_a_note(kernel_layout: Layout, kernel_symbols: SymbolTable) -> None:
    with DeterministicVm(VmConfig(memory_bytes=64 << 20)) as vm:
        vm.load_flat(b"\xf4")
        guest = LinuxGuest(vm, vm.config.memory_bytes, kernel_symbols, kernel_layout)
        assert guest.tasks().tasks == ()
        assert "no kernel of these symbols is up" in guest.tasks().notes[0]


class Damaged:
    """The booted machine's memory with some words of the kernel's structures overwritten."""

    def __init__(self, vm: DeterministicVm, words: dict[int, int]) -> None:
        self._vm = vm
        self._words = words
        self.registers = vm.registers

    def read_memory(self, address: int, size: int) -> bytes:
        data = bytearray(self._vm.read_memory(address, size))
        for at, value in self._words.items():
            for i in range(8):
                if 0 <= at + i - address < size:
                    data[at + i - address] = value >> 8 * i & 0xFF
        return bytes(data)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_hostile_structures_give_a_partial_list_with_a_note(
    booted: Booted, kernel_symbols: SymbolTable, kernel_layout: Layout, data: st.DataObject
) -> None:
    guest = booted.guest
    tasks = guest.tasks().tasks
    assert isinstance(guest.kernel, AddressSpace)
    pointers = [t.address for t in tasks] + [t.mm for t in tasks if t.mm]
    values = st.one_of(st.integers(0, (1 << 64) - 1), st.sampled_from(pointers), st.just(0))
    members = ("tasks", "thread_node", "signal", "mm", "comm", "real_parent", "pid")
    words: dict[int, int] = {}
    for _ in range(data.draw(st.integers(1, 6))):
        task = data.draw(st.sampled_from(tasks))
        if task.mm and data.draw(st.booleans()):
            at = task.mm + data.draw(st.sampled_from([0, 8, 48, 256]))
        else:
            at = task.address + kernel_layout("task_struct", data.draw(st.sampled_from(members)))
        value = data.draw(values)
        if data.draw(st.booleans()) and value in pointers:
            value += kernel_layout("task_struct", "tasks")
        words[guest.kernel.translate(at).physical] = value
    hostile = LinuxGuest(Damaged(booted.vm, words), booted.vm.config.memory_bytes, kernel_symbols, kernel_layout)
    found = hostile.tasks()
    assert len(found.tasks) >= 1 or found.notes
    for task in found.tasks:
        hostile.maps(task)


class Noise(Memory):
    """Readable everywhere; every word is one of a few, by its address and a seed: pointers lead to more of the same."""

    size = 1 << 64

    def __init__(self, seed: int, words: list[int]) -> None:
        self._seed = seed
        self._words = words
        self.reads = 0

    def read(self, address: int, size: int) -> bytes:
        self.reads += 1
        first = address & ~7
        hashes = (((at + self._seed) * 0x9E3779B97F4A7C15 >> 40) for at in range(first, address + size, 8))
        data = b"".join(self._words[value % len(self._words)].to_bytes(8, "little") for value in hashes)
        return data[address - first :][:size]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 32), words=st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=12))
def test_a_kernel_of_random_words_gives_an_end_and_bounded_work(
    booted: Booted, kernel_symbols: SymbolTable, kernel_layout: Layout, seed: int, words: list[int]
) -> None:
    guest = LinuxGuest(booted.vm, booted.vm.config.memory_bytes, kernel_symbols, kernel_layout)
    # Pointers of the kinds that are followed: to anything, and to nodes of a maple tree of each kind.
    pointers = [0xFFFF_8880_0012_3400, 0xFFFF_8880_0045_6800 | 1 << 3 | 2, 0xFFFF_8880_0078_9A00 | 3 << 3 | 2]
    noise = guest.kernel = Noise(seed, [*words, *pointers])
    found = guest.tasks()
    assert found.tasks
    assert len(found.tasks) <= TASKS_MAX + 1
    reads = noise.reads
    for task in found.tasks[:3]:
        maps = guest.maps(task)
        assert len(maps.mappings) <= MAPS_MAX
    assert noise.reads > reads or not any(task.mm for task in found.tasks[:3])


BTF_C = """
struct inner { long a; int b; };
typedef struct inner inner_t;
struct outer {
    char first;
    union { int one; struct { short two; short three; }; };
    const inner_t nested;
    unsigned bits : 3;
    void *last;
} outer;
"""


def test_layouts_from_btf_are_the_compilers(tmp_path: Path) -> None:
    (tmp_path / "t.c").write_text(BTF_C)
    subprocess.run(["gcc", "-gbtf", "-c", "-o", "t.o", "t.c"], cwd=tmp_path, check=True)
    section = ElfImage(tmp_path / "t.o").section(".BTF")
    assert section is not None
    found = Btf(section).layouts(["outer", "no_such"])
    expected = {
        "": 40,
        "first": 0,
        "one": 4,
        "two": 4,
        "three": 6,
        "nested": 8,
        "nested.a": 8,
        "nested.b": 16,
        "last": 32,
    }
    assert found == {"outer": expected}
    with pytest.raises(UsageError, match=r"outer\.none"):
        Layout(found, "test")("outer", "none")
    with pytest.raises(UsageError, match="cannot be read"):
        Btf(section[:30])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_damaged_btf_is_a_usage_error(data: bytes) -> None:
    head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(data), 0, len(data))
    try:
        Btf(head + data).layouts(["", "task_struct"])
    except UsageError as e:
        assert e.where == ".BTF"


def test_the_table_has_all_that_is_read(kernel_layout: Layout) -> None:
    assert kernel_layout.missing() == []
    assert kernel_layout.origin == "vmlinux-6.1.layout.json"
    with pytest.raises(UsageError, match="layout of its structures is not known"):
        layout_of(ElfImage(image_path("vmlinux-6.1.sym")))
