"""Systems of a person's own, as docs/own-systems.md has it: packed, booted, searched, and what was found lived through.

The example is an unmodified Redis of Debian. Its package redis-tools has the server's program, under other names,
without the service that redis-server would start on this host.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chaoscontrol.initramfs import read_newc

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(sys.executable).with_name("cc-tui")
SERVER = "redis-check-aof"
SCENARIO = "redis.toml"


def cc_tui(*args: str, cwd: Path, timeout: float = 200) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *args],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def paths(archive: Path) -> set[str]:
    return {entry.path for entry in read_newc(archive.read_bytes())}


def test_a_script_runs_with_the_interpreter_of_this_host(tmp_path: Path) -> None:
    (tmp_path / "sum.pl").write_text(
        '#!/usr/bin/perl\nmy $s = 0; $s += sqrt($_) for 1..100; printf "sum %.10f.\\n", $s;\n'
    )
    (tmp_path / "sum.pl").chmod(0o755)
    packed = cc_tui(
        "pack", "sum.cpio.zst", "--file", "/srv/sum=sum.pl", "--run", "/srv/sum; echo ends $?", cwd=tmp_path
    )
    assert packed.returncode == 0 and packed.stdout == "", packed.stderr
    said = packed.stderr.splitlines()
    assert said[0].startswith("sum.cpio.zst: ") and " files besides tools, " in said[0]
    assert said[1].startswith("a machine needs ") and len(said) == 2
    memory = f"{said[1].split()[3]}M"
    booted = cc_tui("boot", "vmlinux", "sum.cpio.zst", "--memory", memory, "--until", "ends 0", cwd=tmp_path)
    here = subprocess.run([str(tmp_path / "sum.pl")], capture_output=True, text=True, check=True).stdout
    assert booted.returncode == 0 and here.strip() in booted.stdout, booted.stdout[-2000:]


def test_a_program_that_is_process_one(tmp_path: Path) -> None:
    source = '#include <unistd.h>\nint main(void) { write(1, "alone\\n", 6); for (;;) pause(); }'
    static = ["musl-gcc", "-static", "-x", "c", "-", "-o", "alone"]
    subprocess.run(static, input=source, text=True, check=True, cwd=tmp_path)
    assert (
        cc_tui("pack", "alone.cpio", "--init", "alone", "--file", "/etc/motd=/dev/null", cwd=tmp_path).returncode == 2
    )
    (tmp_path / "motd").write_text("hi")
    packed = cc_tui("pack", "alone.cpio", "--init", "alone", "--file", "/etc/motd=motd", cwd=tmp_path)
    assert packed.returncode == 0, packed.stderr
    assert paths(tmp_path / "alone.cpio") == {"init", "etc", "etc/motd", "dev", "dev/console", "proc", "sys", "tmp"}
    booted = cc_tui("boot", "vmlinux", "alone.cpio", "--until", "alone", cwd=tmp_path)
    assert booted.returncode == 0, booted.stderr


def test_a_tree_does_not_replace_what_starts_the_machine(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "init").write_text("of a container")
    packed = cc_tui("pack", "out.cpio", "--tree", "/=files", cwd=tmp_path)
    assert packed.returncode == 0 and "out.cpio: /init is that of tools, not the tree's" in packed.stderr
    init = {entry.path: entry.data for entry in read_newc((tmp_path / "out.cpio").read_bytes())}["init"]
    assert init.startswith(b"\x7fELF")
    assert cc_tui("pack", "out.cpio", "--file", "/init=files/init", cwd=tmp_path).returncode == 0
    init = {entry.path: entry.data for entry in read_newc((tmp_path / "out.cpio").read_bytes())}["init"]
    assert init == b"of a container"


def test_the_same_files_make_the_same_archive(tmp_path: Path) -> None:
    for name in ("one.cpio", "other.cpio"):
        assert cc_tui("pack", name, "--program", "perl", "--run", "perl -v", cwd=tmp_path).returncode == 0
    assert (tmp_path / "one.cpio").read_bytes() == (tmp_path / "other.cpio").read_bytes()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--program", "no-such-program"], "/: there is no program 'no-such-program' in /usr/local/sbin, "),
        (["--program", "/etc/no/such"], "/: there is no file /etc/no/such; install what has it"),
        (["--file", "/x"], "--file '/x' is no pair; write GUEST=HOST, as /srv/data.bin=./data.bin"),
        (["--file", "/x=none"], "none: cannot be read: No such file or directory"),
        (["--tree", "/x=none"], "none: is no directory; give GUEST=DIRECTORY"),
        (["--root", "none", "--program", "sh"], "none: is no directory; give the root of a file system"),
        (["--init", "none"], "none: cannot be read: No such file or directory"),
        (["--init", "none", "--run", "x"], "--run needs the init that --init replaces; leave one of them out"),
    ],
)
def test_what_cannot_be_packed_is_said_in_one_line(tmp_path: Path, options: list[str], says: str) -> None:
    done = cc_tui("pack", "out.cpio", *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    done = cc_tui("pack", "no/such/out.cpio", cwd=tmp_path)
    assert done.returncode == 2 and "no/such/out.cpio: cannot be written: No such file" in done.stderr
    (tmp_path / "out.cpio").mkdir()
    done = cc_tui("pack", "out.cpio", cwd=tmp_path)
    assert done.returncode == 2 and "out.cpio: cannot be written: Is a directory" in done.stderr
    assert os.listdir(tmp_path) == ["out.cpio"]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, with its image."""
    server = shutil.which(SERVER)
    assert server, f"{SERVER} is needed (Debian: apt install redis-tools): .ci/run installs it"
    directory = tmp_path_factory.mktemp("examples") / "redis"
    shutil.copytree(ROOT / "examples" / "redis", directory)
    files = ["--file", f"/usr/bin/redis-server={server}", "--file", "/node.sh=node.sh"]
    packed = cc_tui("pack", "redis.cpio", *files, "--run", ". /node.sh", cwd=directory)
    assert packed.returncode == 0, packed.stderr
    return directory


def test_an_unmodified_database_loses_what_it_does_not_flush(redis: Path) -> None:
    """Found by a search, kept, replayed, recorded; the same faults do not break the durable variant."""
    search = ["--seed", "1", "--stop-after", "1", "--time", "150s", "--workers", "1", "--output", "found", "--json"]
    done = cc_tui("--batch", "--scenario", f"{SCENARIO}/everysec", *search, cwd=redis)
    assert done.returncode == 1, done.stderr
    (broken,) = [p for p in json.loads(done.stdout)["properties"] if p["verdict"] == "failed"]
    assert broken["name"] == "an acknowledged write is kept"
    (schedule,) = (redis / "found").glob("failure-redis-everysec-*.toml")
    (recording,) = (redis / "found").glob("failure-redis-everysec-*.ccrec")
    again = cc_tui("--batch", "--replay", str(schedule), cwd=redis)
    assert again.returncode == 1 and "as recorded" in again.stdout, again.stderr
    fixed = cc_tui("--batch", "--replay", str(schedule), "--scenario", f"{SCENARIO}/always", cwd=redis)
    assert fixed.returncode == 0 and "nothing failed" in fixed.stdout, fixed.stderr
    replayed = cc_tui("replay", str(recording), "--bug", "1", cwd=redis)
    assert replayed.returncode == 0, replayed.stderr
    heading = cc_tui("info", str(recording), cwd=redis).stdout
    assert f"--batch --scenario {SCENARIO}/everysec --seed 1" in heading


def test_a_recording_finds_the_images_beside_it(redis: Path, tmp_path: Path) -> None:
    line = ["--scenario", SCENARIO, "--record", "look.ccrec", "--script", "look.cc"]
    (redis / "look.cc").write_text("step 300ms\nassert console vm0 contains mounted\n")
    assert cc_tui(*line, cwd=redis).returncode == 0
    refused = cc_tui("replay", str(shutil.copy(redis / "look.ccrec", tmp_path)), cwd=tmp_path)
    assert refused.returncode == 3 and "give the file with --image" in refused.stderr
    shutil.copy(redis / "redis.cpio", tmp_path)
    assert cc_tui("replay", "look.ccrec", cwd=tmp_path).returncode == 0
    assert cc_tui("replay", str(tmp_path / "look.ccrec"), cwd=ROOT).returncode == 0


def test_a_variant_that_a_scenario_file_has_not(redis: Path) -> None:
    done = cc_tui("--batch", "--scenario", f"{SCENARIO}/never", cwd=redis)
    assert done.returncode == 2
    assert "scenario redis has no variant 'never'; variants are: always, everysec" in done.stderr
