"""`cc-tui boot` and the headless demo on the included Linux, as processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from chaoscontrol import SimulationConfig, SimulationController, image_path

FIRST_LINE = "hello from cc-tui guest"
BOOT = [sys.executable, "-m", "cc_tui", "boot", "vmlinux", "hello"]


def run(*args: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*args], capture_output=True, text=True, timeout=120, check=False, **kwargs)  # type: ignore[call-overload]


def test_linux_boots_to_its_first_process() -> None:
    done = run(*BOOT, "--until", FIRST_LINE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[    0.000000] Linux version 6.1")
    assert done.stdout.endswith(FIRST_LINE)
    assert "the awaited text was printed after" in done.stderr


AS_NOBODY = """
import os, sys, zstandard
from pathlib import Path
from cc_tui import boot
# Python and the checkout may lie where nobody else may look: everything is loaded first, by a boot of its own.
assert boot.boot(kernel=sys.argv[1], initrd=sys.argv[2], until="Linux version", as_json=True) == 0
if os.getuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
assert os.getuid() != 0 and not os.access("/root", os.R_OK)
os.chdir("/")
sys.stdout.flush()
print()
sys.exit(boot.boot(kernel=sys.argv[1], initrd=sys.argv[2], until=sys.argv[3]))
"""


def test_a_boot_needs_no_privileges() -> None:
    """As a user who owns nothing and may open no device."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        files = [shutil.copy(image_path(name), directory) for name in ("vmlinux", "hello")]
        done = run(sys.executable, "-c", AS_NOBODY, *files, FIRST_LINE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(FIRST_LINE)


def test_a_boot_is_machine_0_of_a_cluster() -> None:
    report = json.loads(run(*BOOT, "--until", FIRST_LINE, "--json", "--seed", "5").stdout)
    files = {"kernel_path": image_path("vmlinux"), "initrd_path": image_path("hello")}
    with SimulationController(SimulationConfig(num_vms=2, seed=5, **files)) as cluster:
        stop = cluster.run_machine(0, console=FIRST_LINE)
        assert (stop.instret, stop.vns) == (report["instructions"], report["virtual_ns"])
        assert str(cluster.vms[0].digest()) == report["digest"]


def test_the_headless_demo_shows_the_same_future_twice() -> None:
    done = run(sys.executable, "-m", "cc_tui", "demo", stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "cc-tui demo: scenario raft, 3 machines, seed 0, tick 100 us"
    snapshot, back = (line.split()[-1] for line in lines if "snapshot at" in line or "back at" in line)
    first, second = (line.split()[-1] for line in lines if "then quiet" in line)
    assert "0 failed" in next(line for line in lines if "properties:" in line)
    assert snapshot == back != first == second
