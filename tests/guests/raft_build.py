"""Host builds of the raft guest's parts: the pure core in its simulated cluster, and its C test programs."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from flat_guests import native_build

ROOT = Path(__file__).resolve().parents[2]
RAFT = ROOT / "guest" / "programs" / "raft"
FLAGS = ("-std=gnu11", "-g", "-Wall", "-Wextra", "-Werror", "-Wshadow")
SANITIZE = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
CORE = ("raft_core.c", "kv.c")
PROGRAMS = {
    "random_schedules": ("tests/random_schedules.c", "tests/sim.c", *CORE),
    "schedules": ("tests/schedules.c", "tests/sim.c", *CORE),
    "storage": ("tests/storage.c", "tests/fake_disk.c", "storage.c", "codec.c"),
    "units": ("tests/units.c", "codec.c", "config.c", *CORE),
    "raft": tuple(sorted(path.name for path in RAFT.glob("*.c"))),
}
LINK = {"storage": ("-Wl,--wrap=pread,--wrap=pwrite,--wrap=fdatasync",)}
"""What a program's disk is made of (tests/fake_disk.h)."""
SDK = ROOT / "guest" / "sdk" / "c"
SDK_WITHOUT_LINUX = "bare.c"
TIMEOUT_S = 120

if str(ROOT) not in sys.path:  # guest/ is a tool of the repository, not an installed package
    sys.path.insert(0, str(ROOT))


@functools.cache
def directory() -> Path:
    """Where this process's builds go; removed at its end."""
    keep = tempfile.TemporaryDirectory(prefix="raft-tests-")
    _alive.append(keep)
    return Path(keep.name)


_alive: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def program(name: str, variant: str) -> Path:
    """One of PROGRAMS, compiled: `release`, or `asan` with ASan and UBSan."""
    compiler = native_build().find_compiler()
    out = directory() / f"{name}-{variant}"
    flags = SANITIZE if variant == "asan" else ("-O2",)
    sources = [str(RAFT / source) for source in PROGRAMS[name]]
    if name == "raft":
        sources += sorted(str(path) for path in SDK.glob("*.c") if path.name != SDK_WITHOUT_LINUX)
    command = [*compiler.command, *FLAGS, *flags, *LINK.get(name, ()), f"-I{SDK}", "-o", str(out), *sources]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    return out


def output(*command: str | Path) -> str:
    """What a program printed; it must succeed."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def random_schedules(
    bug: str, runs: int, first: int, mode: str, *options: str, variant: str = "release"
) -> dict[str, Any]:
    """The summary of `runs` runs of the simulated cluster under random faults, seeds from `first` + 1."""
    text = output(program("random_schedules", variant), bug, str(runs), str(first), mode, *options)
    return json.loads(text)


def schedule(name: str, bug: str) -> dict[str, Any]:
    """What the checker found in a hand-written schedule."""
    return json.loads(output(program("schedules", "asan"), name, bug))
