"""The host programs that building a guest needs: which package brings each, their versions, how they are run.

Promise: a build sees nothing of the person who starts it. Every command runs with the system's own search path and
a fixed environment, so that another compiler, locale, time zone or user name cannot change the result.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

COMPILER = "gcc-12"
"""Named with its version: what `gcc` means is the host's business."""
COMMAND_SECONDS_MAX = 3600
"""A kernel takes minutes; an hour means that something waits for input."""
ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
    "TZ": "UTC",
    # musl-gcc is a wrapper that calls this one.
    "REALGCC": COMPILER,
    # What the kernel writes into its banner instead of now, who and where.
    "KBUILD_BUILD_TIMESTAMP": "Wed Jan  1 00:00:00 UTC 2025",
    "KBUILD_BUILD_USER": "cc-tui",
    "KBUILD_BUILD_HOST": "guest",
    "KBUILD_BUILD_VERSION": "1",
    # What mke2fs writes into a superblock instead of now, and no defaults of the host's: 2025-01-01 00:00:00 UTC.
    "E2FSPROGS_FAKE_TIME": "1735689600",
    "MKE2FS_CONFIG": "/dev/null",
}

PROGRAM_PACKAGES: Mapping[str, str] = {
    COMPILER: COMPILER,
    "ld": "binutils",
    "objcopy": "binutils",
    "make": "make",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "patch": "patch",
    "perl": "perl",
    "tar": "tar",
    "xz": "xz-utils",
    "musl-gcc": "musl-tools",
    "busybox": "busybox-static",
    "mke2fs": "e2fsprogs",
}
FILE_PACKAGES: Mapping[str, str] = {
    "/usr/src/linux-source-6.1.tar.xz": "linux-source-6.1",
    "/usr/include/gelf.h": "libelf-dev",
    "/usr/include/linux/sockios.h": "linux-libc-dev",
}
BUSYBOX_PACKAGE = "busybox-static"
DISK_PACKAGE = "e2fsprogs"
KERNEL_PACKAGE = "linux-source-6.1"
VERSIONED_PACKAGES = (COMPILER, "binutils", "musl-dev", "libc6-dev")
"""Packages whose version may change the bytes of an image."""


class BuildError(Exception):
    """An image that cannot be built, said in one line, with what to do about it."""


def require_packages() -> None:
    """Raise BuildError naming every Debian package that is missing."""
    path = ENVIRONMENT["PATH"]
    missing = {package for program, package in PROGRAM_PACKAGES.items() if shutil.which(program, path=path) is None}
    missing |= {package for file, package in FILE_PACKAGES.items() if not Path(file).exists()}
    if missing:
        raise BuildError(f"missing packages; run: apt-get install --no-install-recommends {' '.join(sorted(missing))}")


def package_version(package: str) -> str:
    """The installed version of a Debian package."""
    return run(["dpkg-query", "--show", "--showformat=${Version}", package]).strip()


def compiler_banners() -> dict[str, str]:
    """The first line of `--version` of the tools that make the bytes."""
    return {program: run([program, "--version"]).splitlines()[0] for program in (COMPILER, "ld")}


def run(command: Sequence[str], *, cwd: Path | None = None, log: Path | None = None) -> str:
    """Run to the end and return standard output. Raises BuildError with the last line the command wrote.

    With `log`, all output is appended to that file, and the error says where it is.
    """
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=dict(ENVIRONMENT),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]}: {error}") from error
    if log is not None:
        with log.open("a") as file:
            file.write(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}")
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        where = "" if log is None else f" (all of it: {log})"
        raise BuildError(f"{command[0]} failed: {lines[-1]}{where}")
    return done.stdout
