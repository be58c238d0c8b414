"""An unmodified database: SQLite, as this host's CPython has it, on ext4, through losses of power.

What it has committed is there after any loss of power, and the file is whole, where SQLite's documentation promises it;
where it does not (a rollback journal that is deleted, without synchronous=EXTRA), and on a disk that lies about its
flushes, it is not, and that shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import python_image

from chaoscontrol import DEFAULT_CMDLINE, DeterministicVm, PageStore, Snapshot, StopKind, VmConfig, image_path
from chaoscontrol.disk import CrashMode, DiskFaults
from chaoscontrol.errors import GuestError
from chaoscontrol.loader import read_source
from chaoscontrol.random import Stream

MS = 1_000_000
VNS_MAX = 20_000 * MS
SPAN_NS = 400 * MS
CRASHES = 5

PROGRAM = """
import os, sqlite3
def work(journal, synchronous):
    db = sqlite3.connect("/data/test.db", isolation_level=None)
    db.execute("PRAGMA synchronous=" + synchronous)
    (mode,) = db.execute("PRAGMA journal_mode=" + journal).fetchone()
    db.execute("CREATE TABLE IF NOT EXISTS log (n INTEGER PRIMARY KEY, body TEXT)")
    (whole,) = db.execute("PRAGMA integrity_check").fetchone()
    rows = db.execute("SELECT n, body FROM log ORDER BY n").fetchall()
    wrong = [n for i, (n, body) in enumerate(rows, 1) if n != i or body != f"entry {n} " * 50]
    print(f"{mode}: found {len(rows)}, {len(wrong)} wrong, {whole}", flush=True)
    n = len(rows)
    while True:
        n += 1
        db.execute("INSERT INTO log VALUES (?, ?)", (n, f"entry {n} " * 50))
        print(f"acked {n}.", flush=True)
if "MODE" in os.environ:  # not on the host, which only tells what is imported
    work(*os.environ["MODE"].split(","))
"""


@pytest.fixture(scope="module")
def image() -> bytes:
    return python_image.build(PROGRAM, [], {})


def boot(image: bytes, mode: str, disk: bytes, store: PageStore | None = None) -> tuple[DeterministicVm, int, str]:
    """A machine with the database open, how many entries it has found, and what else it said of them.

    mode: journal, synchronous. Raises GuestError where the database does not open.
    """
    vm = DeterministicVm(VmConfig(memory_bytes=128 << 20, seed=7, disk_bytes=len(disk)), store=store)
    vm.disk.write(0, disk)
    command = f"MODE={mode} {python_image.RUN}"
    vm.load_kernel(image_path("vmlinux"), image, cmdline=f'{DEFAULT_CMDLINE} quiet cc.run="{command}"')
    text = vm.run_until("acked", max_vns=VNS_MAX)
    said = re.search(r"(\w+): found (\d+), (.*?)\r\n", text)
    assert said is not None, text
    assert said[1] == mode.split(",")[0]
    return vm, int(said[2]), said[3]


@dataclass
class Running:
    """A machine that has just begun to write."""

    image: bytes
    mode: str
    vm: DeterministicVm
    begun: Snapshot

    def lives(self, faults: DiskFaults) -> Iterator[tuple[int, int, str]]:
        """What was acknowledged before a loss of power; what is found after it (-1: nothing opens), and how it is."""
        stream = Stream(3, "losses of power")
        modes = (CrashMode.LOSE_ALL, CrashMode.TORN, CrashMode.RANDOM)
        for number in range(CRASHES):
            self.vm.restore(self.begun)
            self.vm.disk.set_faults(faults)
            acked = acknowledged(self.vm, 50 * MS + stream.below(SPAN_NS))
            self.vm.disk.crash(modes[number % len(modes)], seed=number)
            try:
                again, found, said = boot(self.image, self.mode, self.vm.disk.read(0, self.vm.disk.size))
            except GuestError as error:
                yield acked, -1, error.what
            else:
                again.close()
                yield acked, found, said


@pytest.fixture(scope="module")
def run(image: bytes) -> Iterator[Callable[[str], Running]]:
    disk = bytes(read_source(image_path("disk"), "disk")[1])
    begun: dict[str, Running] = {}

    def in_mode(mode: str) -> Running:
        if mode not in begun:
            vm, found, said = boot(image, mode, disk, PageStore())
            assert (found, said) == (0, "0 wrong, ok")
            begun[mode] = Running(image, mode, vm, vm.snapshot())
        return begun[mode]

    yield in_mode
    for running in begun.values():
        running.vm.close()


def acknowledged(vm: DeterministicVm, for_ns: int) -> int:
    """The last entry that the console says is committed, after so long."""
    vm.take_serial_output()
    assert vm.run(vns=vm.vns + for_ns).kind is StopKind.VNS
    said = re.findall(r"acked (\d+)\.", vm.take_serial_output())
    assert len(said) > 3, "it works"
    return int(said[-1])


@pytest.mark.parametrize("mode", ["wal,full", "delete,extra"])
def test_what_was_committed_survives_any_loss_of_power(run: Callable[[str], Running], mode: str) -> None:
    for acked, found, said in run(mode).lives(DiskFaults()):
        assert said == "0 wrong, ok"
        assert found in (acked, acked + 1)


def test_a_deleted_journal_may_come_back_and_take_the_last_commit_with_it(run: Callable[[str], Running]) -> None:
    """SQLite's documentation of synchronous: only EXTRA syncs the directory of a journal that was deleted."""
    lost = 0
    for acked, found, said in run("delete,full").lives(DiskFaults()):
        assert said == "0 wrong, ok", "never damaged"
        assert found in (acked - 1, acked, acked + 1)
        lost += found < acked
    assert lost


@pytest.mark.parametrize("mode", ["wal,full", "delete,extra"])
def test_a_disk_that_lies_loses_what_was_committed(run: Callable[[str], Running], mode: str) -> None:
    for acked, found, said in run(mode).lives(DiskFaults(lost_flush_ppm=1_000_000)):
        assert found < acked or said != "0 wrong, ok"
