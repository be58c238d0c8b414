"""`cc-tui --batch` as a user runs it: the console script, in processes of their own, with real workers.

The system under test is two machines with the hello image; an NMI makes their kernels complain, so a scenario that may
inject NMIs and forbids that complaint has a bug that a few milliseconds find. The raft searches are long ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest
from toys.crashes import with_small_files

SCRIPT = Path(sys.executable).with_name("cc-tui")
PROBE = """
name = "probe"
[machines]
count = 2
memory_mib = 32
initrd = "hello"
[setup]
console = "all 14 checks passed"
[phases]
chaos_ms = 100
settle_ms = 20
[faults]
process_pause = true
inject_nmi = {nmi}
[console]
never = ["NMI received"]
sometimes = ["hello from", "snark"]
"""
BEGUN_CPU_S = 0.5
FOR_EVER = ["--ticks", "1_000_000_000".replace("_", "")]
"""Chaos of a day: no branch ends while a test looks at it."""
HOST_FIELDS = {"workers", "wall_seconds", "branches_per_second"}


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("scenarios")
    texts = {
        "fails": PROBE.format(nmi="true"),
        "holds": PROBE.format(nmi="false"),
        "unready": PROBE.format(nmi="true").replace("all 14 checks passed", "snark") + "# never said",
    }
    texts["unready"] = texts["unready"].replace("[setup]", "[setup]\ntimeout_ms = 200")
    for name, text in texts.items():
        (directory / f"{name}.toml").write_text(text)
    return {name: str(directory / f"{name}.toml") for name in texts}


def command(*args: str) -> list[str]:
    return [str(SCRIPT), "--batch", *args]


def batch(*args: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*args), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
    )


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, says: str) -> None:
    assert (done.returncode, done.stdout) == (code, ""), done
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("cc-tui: error: "), done.stderr
    assert says in done.stderr, done.stderr


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition, timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def long_search(*args: str):
    """A search that does not end by itself, once its two workers run."""
    process = subprocess.Popen(
        command(*args, *FOR_EVER, "--workers", "2"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: len(children(process.pid)) == 2)
        # A process that has only just begun has no branch yet; one that has worked for half a second has.
        wait_until(lambda: all(cpu_s(worker) > BEGUN_CPU_S for worker in children(process.pid)))
        yield process, children(process.pid)
    finally:
        process.kill()
        process.communicate()


# ---- what is found ---------------------------------------------------------------------------------------------------


def test_nothing_failed(scenarios: dict[str, str]) -> None:
    done = batch("--scenario", scenarios["holds"], "--rounds", "2", "--branches", "2", "--workers", "1")
    assert done.returncode == 0, done
    assert "probe: 4 branches of 2 machines, seed 0: 0.5 virtual seconds" in done.stdout
    assert "never   console says 'snark' (sometimes): it was never true" in done.stdout
    assert re.search(
        r"passed  console says 'hello from' \(sometimes\): 8 hits, first vm0 0\.0\d+ s of branch 0", done.stdout
    )
    assert done.stdout.endswith("nothing failed, 6 held\n")
    assert "probe: seed 0, 2 machines, 0.1 s of 1 kinds of faults and 0.02 s of quiet a branch" in done.stderr


def test_workers_do_not_matter(scenarios: dict[str, str], tmp_path: Path) -> None:
    found, files, recordings = [], [], []
    for workers in ("1", "2"):
        out = tmp_path / workers
        args = ["--branches", "8", "--rounds", "1", "--seed", "3", "--json", "--output", str(out)]
        done = batch("--scenario", scenarios["fails"], *args, "--workers", workers)
        assert done.returncode == 1, done
        summary = json.loads(done.stdout)
        assert summary == json.loads((out / "summary.json").read_text())
        assert summary["workers"] == int(workers) and summary["branches"] == 8
        for failure in summary["failures"]:
            files.append(Path(failure.pop("file")).read_text().replace(str(out), "OUT"))
            recorded = failure.pop("recording")
            recordings.append(None if recorded is None else Path(recorded).read_bytes())
        found.append({name: value for name, value in summary.items() if name not in HOST_FIELDS})
    assert found[0] == found[1]
    half = len(files) // 2
    assert recordings[:half] == recordings[half:] and recordings[0] is not None
    assert files[:half] == files[half:] and half == found[0]["failing_branches"] > 1
    assert len({failure["digest"] for failure in found[0]["failures"]}) == half
    other = batch("--scenario", scenarios["fails"], "--branches", "8", "--rounds", "1", "--seed", "4", "--json")
    assert json.loads(other.stdout)["failures"] != found[0]["failures"]


def test_a_failure_in_every_form(scenarios: dict[str, str], tmp_path: Path) -> None:
    args = ["--scenario", scenarios["fails"], "--stop-after", "2", "--workers", "1", "--output", str(tmp_path)]
    done = batch(*args, "--json", "--junit", str(tmp_path / "junit.xml"))
    assert done.returncode == 1, done
    summary = json.loads(done.stdout)
    assert (summary["ended_by"], summary["failing_branches"], len(summary["failures"])) == ("failures", 2, 2)
    assert summary["never_reached"] == ["console says 'snark'"]
    (nmi,) = (p for p in summary["properties"] if p["verdict"] == "failed")
    assert nmi["name"] == "console never says 'NMI received'" and nmi["failed_branches"] == 2
    assert nmi["counterexample"]["branch"] == summary["failures"][0]["branch"]
    assert "NMI received" in nmi["details"]
    assert done.stderr.count("console never says 'NMI received' at vm") == 2, "each is said when it is found"

    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("failures"), suite.get("skipped")) == ("1", "1")
    cases = {case.get("name"): case for case in suite}
    assert len(cases) == len(summary["properties"]) == int(suite.get("tests", ""))
    failure = cases[nmi["name"]].find("failure")
    assert failure is not None and "NMI received" in (failure.text or "")

    text = batch(*args)
    assert text.returncode == 1
    first = Path(summary["failures"][0]["file"])
    assert f"again: cc-tui --batch --replay {first}" in text.stdout
    assert "FAILED  console never says 'NMI received' (unreachable): in 2 of" in text.stdout
    assert "inject_nmi" in text.stdout and text.stdout.endswith("2 failing branches; ended by --stop-after\n")


def test_every_bug_has_a_recording_that_shows_it_again(scenarios: dict[str, str], tmp_path: Path) -> None:
    args = ["--scenario", scenarios["fails"], "--stop-after", "1", "--workers", "1"]
    for where, more in ((tmp_path / "out", ["--output", str(tmp_path / "out")]), (tmp_path / "cc-tui/recordings", [])):
        done = subprocess.run(
            command(*args, *more), capture_output=True, text=True, timeout=120, check=False,
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        )  # fmt: skip
        (path,) = where.glob("failure-probe-s0-b*.ccrec")
        assert f"again: cc-tui replay {path}\n" in done.stdout, done
        again = subprocess.run(
            [str(SCRIPT), "replay", str(path)], capture_output=True, text=True, timeout=120, check=False
        )
        assert (again.returncode, again.stderr) == (0, ""), again
        assert "FAILED main vm" in again.stdout and "console never says 'NMI received'" in again.stdout
        assert path.stat().st_size < 100_000


def test_a_full_disk_costs_the_files_and_not_what_was_found(scenarios: dict[str, str], tmp_path: Path) -> None:
    """Found by a search on a full disk: its summary was not printed, and the failure not in it."""
    asked = [
        "--scenario",
        scenarios["fails"],
        "--stop-after",
        "2",
        "--output",
        str(tmp_path),
        "--workers",
        "1",
        "--json",
    ]
    done = subprocess.run(
        with_small_files(500, command(*asked)),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done
    found = json.loads(done.stdout)
    assert len(found["failures"]) == found["failing_branches"] == 2
    assert all(failure["file"] is None for failure in found["failures"])
    said = [line for line in done.stderr.splitlines() if line.startswith("cc-tui: error: ")]
    assert sum("cannot be kept: " in line for line in said) == 2
    assert sum("cannot be recorded: " in line for line in said) == 2
    assert said[-1].endswith("summary.json: cannot be written: File too large")
    assert list(tmp_path.iterdir()) == []


# ---- again -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def failure(scenarios: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("found")
    done = batch("--scenario", scenarios["fails"], "--stop-after", "1", "--output", str(out), "--workers", "1")
    assert done.returncode == 1, done
    (path,) = out.glob("failure-probe-s0-b*.toml")
    return path


def test_a_failure_happens_again(failure: Path, scenarios: dict[str, str]) -> None:
    digest = tomllib.loads(failure.read_text())["branch"]["digest"]
    done = batch("--replay", str(failure))
    assert done.returncode == 1 and done.stderr == ""
    assert done.stdout.startswith("FAILED  console never says 'NMI received' at vm")
    assert done.stdout.endswith(f"digest {digest}, as recorded\n")
    as_json = batch("--replay", str(failure), "--json", "--scenario", scenarios["fails"])
    found = json.loads(as_json.stdout)
    assert as_json.returncode == 1 and found["same"] and found["digest"] == digest
    assert [f["name"] for f in found["failures"]] == ["console never says 'NMI received'"]


def test_another_end_is_an_error_and_another_scenario_a_question(failure: Path, tmp_path: Path) -> None:
    edited = tmp_path / "edited.toml"
    edited.write_text(re.sub(r'branch_seed = "\d+"', 'branch_seed = "1"', failure.read_text()))
    done = batch("--replay", str(edited))
    assert done.returncode == 3 and "the branch ended differently" in done.stderr, done
    mended = tmp_path / "mended.toml"
    mended.write_text(PROBE.format(nmi="true").replace("NMI received", "no such line"))
    done = batch("--replay", str(failure), "--scenario", str(mended))
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("nothing failed, digest ")


@pytest.mark.parametrize(
    ("pattern", "replacement", "says"),
    [
        (r"\[branch\]", "[bench]", "no failure file: there is no [branch]"),
        (r"(?s)\[schedule\].*", "", "no failure file: there is no [schedule]"),
        (r'origin = "branch"', "", "[schedule] origin cannot be 'setup'; give origin = \"branch\""),
        (r"vms = 2", "vms = 0", "[branch] vms cannot be 0; give a whole number from 1 to 256"),
        (r"vms = 2", 'vms = "2"', "[branch] vms cannot be '2'"),
        (r"vms = 2\n", "", "[branch] vms is missing"),
        (r'seed = "0"', "seed = 0", "[branch] seed cannot be 0; give a text of a number"),
        (r'seed = "0"', 'seed = "99999999999999999999"', "[branch] seed cannot be"),
        (r'digest = "..', 'digest = "', "[branch] digest cannot be"),
        (r'kind = "inject_nmi"', 'kind = "fire"', "there is no fault 'fire'; kind is one of"),
        (r"target = \d", "target = 7", "there is no machine 7; machines are 0 to 1"),
        (r'at = "', 'at = "-', "at cannot be negative"),
        (r"scenario = .*", 'scenario = "nothing"', "there is no scenario 'nothing'"),
        (r"quantum_ns = \d+", "quantum_ns = 5", "[branch] quantum_ns cannot be 5; give a whole number from 1000"),
        (r"chaos_ns = ", "chaos_ns = -", "[branch] chaos_ns cannot be -"),
    ],
)
def test_damage_is_named(failure: Path, tmp_path: Path, pattern: str, replacement: str, says: str) -> None:
    from cc_tui.batch.options import BatchOptions
    from cc_tui.batch.run import run_batch
    from chaoscontrol.errors import UsageError

    damaged = tmp_path / "damaged.toml"
    text = re.sub(pattern, replacement, failure.read_text())
    assert text != failure.read_text()
    damaged.write_text(text)
    with pytest.raises(UsageError) as caught:
        run_batch(BatchOptions(replay=str(damaged)))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_none(failure: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.toml"
    torn.write_bytes(failure.read_bytes()[:-4])
    assert_one_line(batch("--replay", str(torn)), 2, f"{torn}: not TOML")
    torn.write_bytes(b"\xff\xfe")
    assert_one_line(batch("--replay", str(torn)), 2, f"{torn}: not TOML")
    assert_one_line(batch("--replay", str(tmp_path / "none")), 2, "No such file or directory; give a failure file")


# ---- limits and ends -------------------------------------------------------------------------------------------------


def test_a_time_limit(scenarios: dict[str, str]) -> None:
    long = ["--scenario", scenarios["holds"], *FOR_EVER, "--time", "2s", "--workers", "1"]
    done = batch(*long, "--rounds", "1")
    assert done.returncode == 4 and done.stdout.endswith("nothing failed, 0 held; ended by the time limit\n"), done
    assert batch(*long).returncode == 4, "no branch came to its end, so nothing can be said"


def test_machines_that_do_not_get_ready(scenarios: dict[str, str]) -> None:
    done = batch("--scenario", scenarios["unready"], "--workers", "2")
    assert (done.returncode, done.stdout) == (4, "")
    last = done.stderr.splitlines()[-1]
    assert "did not say 'snark' on its console within 0.2 virtual seconds; the last line was: vm" in last


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_search_says_what_it_found(scenarios: dict[str, str], tmp_path: Path, how: int) -> None:
    with long_search("--scenario", scenarios["holds"], "--json", "--output", str(tmp_path)) as (process, workers):
        process.send_signal(how)
        stdout, stderr = process.communicate(timeout=30)
        assert process.returncode == 130, stderr
        assert json.loads(stdout)["ended_by"] == "interrupted" and "Traceback" not in stderr
        assert json.loads(stdout) == json.loads((tmp_path / "summary.json").read_text())
        assert not any(is_running(worker) for worker in workers)


def test_ctrl_c_at_a_terminal_reaches_the_workers_too(scenarios: dict[str, str]) -> None:
    """The terminal sends SIGINT to the whole process group."""
    process = subprocess.Popen(
        command("--scenario", scenarios["holds"], *FOR_EVER, "--workers", "2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: len(children(process.pid)) == 2)
    workers = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130 and stdout.endswith("interrupted\n"), stderr
    assert stderr.count("\n") == 1, "the line that says what is searched"
    assert not any(is_running(worker) for worker in workers)


def test_a_worker_that_dies_is_an_error(scenarios: dict[str, str]) -> None:
    with long_search("--scenario", scenarios["holds"]) as (process, workers):
        os.kill(workers[1], signal.SIGKILL)
        stdout, stderr = process.communicate(timeout=30)
        assert process.returncode == 3 and stdout == "", stderr
        assert stderr.splitlines()[1:] == ["cc-tui: error: a worker was ended by signal 9 in branch 1"]
        assert not any(is_running(worker) for worker in workers)


def test_no_worker_outlives_a_killed_search(scenarios: dict[str, str]) -> None:
    with long_search("--scenario", scenarios["holds"]) as (process, workers):
        process.kill()
        process.wait(timeout=30)
        wait_until(lambda: not any(is_running(worker) for worker in workers))


def test_progress_on_a_terminal_is_one_line(scenarios: dict[str, str], tmp_path: Path) -> None:
    mine, theirs = pty.openpty()
    summary = tmp_path / "summary.json"
    with summary.open("w") as file:
        process = subprocess.Popen(
            command("--scenario", scenarios["fails"], "--time", "4s", "--rounds", "1000", "--workers", "1", "--json"),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=theirs,
        )
    os.close(theirs)
    shown, end = b"", time.monotonic() + 60
    while time.monotonic() < end:  # a terminal that nobody reads takes a few KiB only, and then the program waits
        if select.select([mine], [], [], 0.1)[0]:
            try:
                shown += os.read(mine, 1 << 16)
            except OSError:  # all that had it open have closed it
                break
    os.close(mine)
    process.wait(timeout=20)
    stdout = summary.read_text()
    assert json.loads(stdout)["ended_by"] == "time"
    assert process.returncode == 1, "what failed is said, limit or not"
    rewritten = [
        piece
        for piece in shown.decode().split("\r")
        if re.match(r"probe: \d+ of 50000 branches, \d+ failing, \d s", piece)
    ]
    assert rewritten and shown.decode().endswith(("\r", "\r\n")), "nothing of the line stays"
    assert not any(piece.startswith("\n") for piece in rewritten)


# ---- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "--batch needs --scenario: a .toml file, or one of raft"),
        (["--scenario", "nothing"], "there is no scenario 'nothing'; give a .toml file, or one of: raft"),
        (["--scenario", "raft/nothing"], "scenario raft has no variant 'nothing'; variants are: none, fig8_commit"),
        (["--scenario", "missing.toml"], "missing.toml: No such file or directory"),
        (["--scenario", "raft", "--ticks", "0"], "--ticks cannot be 0; give 1 or more"),
        (["--scenario", "raft", "--ticks", "1" + "0" * 18], "--ticks cannot be 1000000000000000000; give at most"),
        (["--scenario", "raft", "--workers", "0"], "--workers cannot be 0; give 1 or more"),
        (["--scenario", "raft", "--workers", "257"], "--workers cannot be 257; give 1 to 256"),
        (["--scenario", "raft", "--branches", "-1"], "--branches cannot be -1; give 1 or more"),
        (["--scenario", "raft", "--rounds", "none"], "'none' is not a valid integer"),
        (["--scenario", "raft", "--stop-after", "0"], "--stop-after cannot be 0; give 1 or more"),
        (["--scenario", "raft", "--time", "0s"], "--time cannot be 0; give more, as 600s"),
        (["--scenario", "raft", "--time", "10"], "'10' is not a time; write it as 5s"),
        (["--scenario", "raft", "--vms", "0"], "a cluster of 0 machines; give 1 to 256"),
        (["--scenario", "raft", "--quantum", "1ns"], "a tick of 1 ns; give 1us to 1000s"),
        (["--scenario", "raft", "--kernel", "vmlinux"], "--kernel cannot be given with a scenario"),
        (["--scenario", "raft", "--output", "/dev/null/x"], "/dev/null/x: Not a directory; give --output a directory"),
        (
            ["--scenario", "raft", "--junit", "/nonexistent/j.xml"],
            "/nonexistent/j.xml: cannot be written: No such file",
        ),
    ],
)
def test_options_that_cannot_be(options: list[str], says: str) -> None:
    assert_one_line(batch(*options), 2, says)


@pytest.mark.parametrize(
    ("pattern", "replacement", "says"),
    [
        ('"probe"', "probe", "not TOML: "),
        ('"hello"', '"no-such-image"', "[machines] initrd: there is no guest image 'no-such-image'"),
        ("count = 2", 'count = "two"', "[machines] count cannot be 'two'; give a whole number from 1 to 256"),
        ("memory_mib = 32", "memory_mib = 0", "[machines] memory_mib cannot be 0"),
        ("chaos_ms = 100", "chaos_ms = -5", "[phases] chaos_ms cannot be -5; give a whole number from 1"),
        ("process_pause = true", "fire = true", "[faults] has no field 'fire'; use network, process, clock"),
        ("process_pause = true\ninject_nmi = true", "", "scenario probe names no faults to search with"),
        (r"\Z", '[[fault]]\nkind = "fire"\nat = 1', "fault 1: there is no fault 'fire'; kind is one of network_"),
        (r"\Z", '[[fault]]\nkind = "disk_full"\ntarget = 2\nat = 1', "there is no machine 2; machines are 0 to 1"),
        (r"\Z", '[[fault]]\nkind = "heal_all"\nat = "-1 ms"', "at cannot be negative, as in '-1 ms'"),
        (
            r"\Z",
            '[[fault]]\nkind = "process_pause"\ntarget = 0\nat = 1\nfor = "-2 s"',
            "for cannot be negative, as in '-2 s'",
        ),
        (
            r"\Z",
            '[[fault]]\nkind = "network_partition"\nside_a = [0, 1]\nside_b = [1]\nat = 1',
            "machine 1 is on both sides; side_a and side_b must not overlap",
        ),
        (r"\Z", '[properties]\nobserver = "nowhere:Class"', "the observer 'nowhere:Class' cannot be loaded"),
    ],
)
def test_scenarios_that_cannot_be(tmp_path: Path, pattern: str, replacement: str, says: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(re.sub(pattern, replacement, PROBE.format(nmi="true"), count=1))
    assert_one_line(batch("--scenario", str(path)), 2, says)
