"""Sessions recorded while somebody works in them: repeated in new processes, killed at any instant, out of room.

Each history is drawn from a number, and is another one each time: when things are typed depends on the host's clock. The
long tests print what they found.
"""

from __future__ import annotations

import collections
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from toys.crashes import with_small_files

from chaoscontrol.confidence import upper_bound
from chaoscontrol.random import Stream
from chaoscontrol.recording import RecordedBranch, Recording, load_recording, records
from chaoscontrol.recording.fields import Place
from chaoscontrol.recording.frame_file import FrameFile
from chaoscontrol.recording.frames import FrameKind
from chaoscontrol.recording.writer import FLUSH_S
from chaoscontrol.timetravel import ConsoleInput, PacketInput

ROOT = Path(__file__).resolve().parents[2]
LIVE = Path(__file__).with_name("live_history.py")
IMAGES = ("hello", "raft")
JOBS = 2
REMARKS = (records.BranchRenamed, records.BranchDeleted, records.Annotated, records.Remark)
ABOUT_BRANCHES = ("rename-branch", "annotate", "delete-branch")
LIFE_MS = 1200
"""How long a process records at most before it is killed."""


def run(*words: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=280, cwd=ROOT, check=False)


def said(done: subprocess.CompletedProcess[str]) -> Any:
    """Its last line, a JSON object."""
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def replayed(path: Path, *words: str) -> Any:
    """`cc-tui replay` in a new process: what it found, which is no difference."""
    found = said(run("-m", "cc_tui", "replay", path, "--json", *words))
    assert (found["equal"], found["differences"]) == (found["replays"], []), path
    return found["compared"]


def equal_to_all(compared: Any, recording: Recording) -> bool:
    """Was everything compared that was not deleted?"""
    found = counted(recording, recording.kept)
    names = ("branches", "inputs", "events", "checkpoints")
    return [compared[name] for name in names] == [found[name] for name in names]


def in_parallel(work: Callable[[int], collections.Counter[str]], numbers: Iterable[int]) -> collections.Counter[str]:
    """The sums of what they found."""
    with ThreadPoolExecutor(JOBS) as pool:
        return sum(pool.map(work, numbers), collections.Counter())


# ---- round trips -----------------------------------------------------------------------------------------------------


def round_trip(number: int, directory: Path) -> collections.Counter[str]:
    image = IMAGES[number % 2]
    path, copy = directory / f"{number}.ccrec", directory / f"{number}.copy.ccrec"
    live = said(run(LIVE, "live", image, str(number), path))
    found = collections.Counter({image: 1, "replayed": 1})
    with load_recording(path) as recording:
        recording.save(copy)
        place = some_place(recording, Stream(number, "checkpoint"))
        assert digest_at_end(recording, live["branch"]) == live["digest"]
        assert told_of_branches(recording) == {name: live[name] for name in ("branches", "marks")}
        assert equal_to_all(replayed(path), recording)
        found += counted(recording, recording.branches)
        found += collections.Counter({name: live["done"].get(name, 0) for name in ABOUT_BRANCHES})
    replayed(copy, "--checkpoint", place, "--ticks", "400")
    former = [f"goto {old}\nassert branch == {name}\n" for name, names, _ in live["branches"] for old in names]
    script = "".join([*former, f"goto {live['branch']}\nwhere\nbranches --json\nmarks --json\n"])
    opened = run("-m", "cc_tui", "--script", "-", copy, stdin=script)
    assert opened.returncode == 0, opened.stderr
    moment, branches, marks = opened.stdout.splitlines()
    assert moment == live["moment"]
    rows = json.loads(branches)["answer"]
    assert [[row["name"], row["former_names"], row["note"]] for row in rows] == live["branches"]
    assert {name: row["note"] for name, row in (json.loads(marks)["answer"]).items()} == {
        name: note for name, (_, _, note) in live["marks"].items()
    }
    again = said(run(LIVE, "again", image, str(number), path.with_suffix(".cc")))
    assert again == {name: live[name] for name in ("moment", "branches", "marks")}
    for name in (path, copy):
        name.unlink()
    return found


def digest_at_end(recording: Recording, name: str) -> str:
    """The machines' digests at the end of a branch, one after the other; that may be where its parent has its end."""
    branch = recording.branch(name)
    owner = recording.owner(branch, branch.end)
    (last,) = [one for one in recording.checkpoints(owner) if one.position == branch.end]
    return ",".join(part.whole for part in last.parts)


def told_of_branches(recording: Recording) -> dict[str, Any]:
    """As `live_history` has it."""
    marks = {name: [*mark.position, mark.note] for name, mark in recording.marks.items()}
    return {"branches": [[b.name, list(b.former), b.note] for b in recording.kept], "marks": marks}


def some_place(recording: Recording, random: Stream) -> str:
    branch = recording.kept[random.below(len(recording.kept))]
    vns = branch.start.vns + random.below(max(branch.end.vns - branch.start.vns, 1))
    return f"{branch.name}@{vns / 1e9:.9f}"


def counted(recording: Recording, branches: list[RecordedBranch]) -> collections.Counter[str]:
    """What is in a recording on these branches."""
    inputs = [given.input for branch in branches for given in branch.inputs]
    return collections.Counter({
        "branches": len(branches), "inputs": len(inputs),
        "typed": sum(isinstance(one, ConsoleInput) for one in inputs),
        "edits of packets": sum(isinstance(one, PacketInput) for one in inputs),
        "events": sum(len(list(recording.events(branch))) for branch in branches),
        "packets": sum(len(list(recording.packets(branch))) for branch in branches),
        "checkpoints": sum(len(recording.checkpoints(branch)) for branch in branches),
        "remarks": remarks(recording),
        "virtual ms": sum(branch.end.vns - branch.start.vns for branch in branches) // 1_000_000,
    })  # fmt: skip


def remarks(recording: Recording) -> int:
    """Names, notes, marks and deletions of branches that were ever told."""
    file = FrameFile(recording.path)
    trees = [number for number, kind in enumerate(file.table.kinds) if kind == FrameKind.TREE]
    found = [record for number in trees for record in records.decode_tree(file.payload(number), Place("", 0))]
    file.close()
    return sum(isinstance(record, REMARKS) for record in found)


@pytest.mark.parametrize("number", [0, 1])
def test_a_live_session_is_repeated_in_new_processes(number: int, tmp_path: Path) -> None:
    assert round_trip(number, tmp_path)["replayed"] == 1


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_hundred_live_sessions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each whole, from a place in the middle after save and load, opened as a session, and from its script."""
    found = in_parallel(lambda number: round_trip(number, tmp_path), range(100, 200))
    assert found["replayed"] == 100
    assert min(found[name] for name in ("typed", "edits of packets", "packets", "events")) > 20
    assert min(found[name] for name in ABOUT_BRANCHES) > 3
    with capsys.disabled():
        print(f"\n100 of 100 live sessions are the same again: {told(found)};"
              f" fewer than {upper_bound(0, 100):.1%} differ, with 95 % confidence")  # fmt: skip


def told(found: collections.Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in found.items())


# ---- killed ----------------------------------------------------------------------------------------------------------


class Told(NamedTuple):
    """A line of a live recorder's log."""

    begun_ns: int
    what: str
    count: int


def killed(number: int, directory: Path) -> collections.Counter[str]:
    image, random = IMAGES[number % 2], Stream(number, "kills")
    path, log = directory / f"{number}.ccrec", directory / f"{number}.log"
    command = [sys.executable, str(LIVE), "live", image, str(number), str(path), str(log)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as live:
        while not log.exists() or not log.stat().st_size:
            assert live.poll() is None, "it ended by itself"
            time.sleep(0.002)
        time.sleep(random.below(LIFE_MS * 1000) / 1e6)
        live.kill()
        killed_ns = time.monotonic_ns()
        assert live.wait() == -9, "it ended by itself"
    with load_recording(path) as recording:
        found, torn = counted(recording, recording.branches), recording.damage is not None
    lost_ns, before_kill_ns = what_is_lost(read_log(log), found, killed_ns)
    assert lost_ns < FLUSH_S * 1e9, f"kill {number}: something told {lost_ns / 1e6} ms before is not in the file"
    with load_recording(path) as recording:
        assert equal_to_all(replayed(path), recording)
    for name in (path, log):
        name.unlink()
    return collections.Counter({
        image: 1, "killed": 1, "torn ends": int(torn), "that lost nothing": int(lost_ns == 0),
        "digests replayed": found["checkpoints"], "events replayed": found["events"],
        f"lost {lost_ns // 1000}": 1, f"before {before_kill_ns // 1000}": 1,
    })  # fmt: skip


def read_log(log: Path) -> list[Told]:
    lines = [line.split() for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [Told(int(ns), what, int(count)) for ns, what, count in lines]


def what_is_lost(log: list[Told], found: collections.Counter[str], killed_ns: int) -> tuple[int, int]:
    """How long before its last sign of life, and before the kill, the recorder was told the oldest thing that the file
    lacks; 0 if it lacks nothing. Inputs, branches and what is said of them are never lost."""
    oldest_ns = None
    for what in ("branches", "inputs", "remarks", "events", "packets", "checkpoints"):
        count = 0
        for told in log:
            count += told.count if told.what == what else 0
            if count > found[what]:
                assert what not in ("branches", "inputs", "remarks"), (
                    f"{what}: {count} were told, {found[what]} are in the file"
                )
                oldest_ns = told.begun_ns if oldest_ns is None else min(oldest_ns, told.begun_ns)
                break
    if oldest_ns is None:
        return 0, 0
    return log[-1].begun_ns - oldest_ns, killed_ns - oldest_ns


@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_session_is_repeated_to_its_last_digest(number: int, tmp_path: Path) -> None:
    assert killed(number, tmp_path)["killed"] == 1


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_two_hundred_killed_sessions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = in_parallel(lambda number: killed(number, tmp_path), range(200, 400))
    assert found["killed"] == 200
    lost, before = (
        max(int(name.split()[1]) for name in found if name.startswith(kind)) / 1000 for kind in ("lost ", "before ")
    )
    counts = collections.Counter({name: n for name, n in found.items() if not name.startswith(("lost ", "before "))})
    with capsys.disabled():
        print(f"\n200 kills: {told(counts)}; what was lost was told at most {lost:.1f} ms before the last sign of life,"
              f" {before:.1f} ms before the kill")  # fmt: skip


# ---- out of room -----------------------------------------------------------------------------------------------------


def full_disk(number: int, directory: Path) -> collections.Counter[str]:
    image, random = IMAGES[number % 2], Stream(number, "full")
    path, limit = directory / f"{number}.ccrec", 4000 + random.below(24_000)
    command = [sys.executable, str(LIVE), "live", image, str(number), str(path)]
    done = subprocess.run(
        with_small_files(limit, command), capture_output=True, text=True, timeout=280, cwd=ROOT, check=False
    )
    live = said(done)
    # What nobody looks at any more, because the session is being closed, is said by the program.
    lines = [line.removeprefix("cc-tui: error: ") for line in done.stderr.splitlines()]
    stopped = [line for line in lines if "recording has stopped" in line]
    assert path.stat().st_size <= limit
    with load_recording(path) as recording:
        assert recording.damage is None, "the file ends with its last whole frame"
        found, whole = counted(recording, recording.kept), recording.end is not None
        assert not whole or digest_at_end(recording, live["branch"]) == live["digest"]
    assert (stopped == []) == whole
    if not whole:
        assert stopped == [f"{path}: recording has stopped: File too large; what is in the file so far is whole"]
    assert replayed(path)["checkpoints"] == found["checkpoints"]
    return collections.Counter({image: 1, "went on": 1, "stopped recording": int(not whole)})


@pytest.mark.parametrize("number", [0, 1])
def test_a_session_goes_on_when_the_disk_is_full(number: int, tmp_path: Path) -> None:
    assert full_disk(number, tmp_path)["went on"] == 1


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_forty_full_disks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = in_parallel(lambda number: full_disk(number, tmp_path), range(400, 440))
    assert found["went on"] == 40
    assert found["stopped recording"] > 10
    with capsys.disabled():
        print(f"\n40 sessions with a small disk: {told(found)}; every file is whole and was replayed")
