"""Build the guest kernel from Debian's source package: the same bytes wherever it is built.

    python3 -m guest.kernel.build OUT_DIR [--work DIR] [--jobs N]

Writes OUT_DIR/vmlinux (what boots: no symbols) and OUT_DIR/vmlinux.sym (what a debugger reads: the symbol table and
the call frames, no code). The tree is built inside itself, so every path the compiler sees is relative.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

from guest.toolchain import COMPILER, BuildError, require_packages, run

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "config"
PATCHES = tuple(sorted((HERE / "patches").glob("*.patch")))
TARBALL = Path("/usr/src/linux-source-6.1.tar.xz")
TREE = "linux-source-6.1"
"""The one directory in the tarball."""
DEBUG_SECTIONS_DROPPED = ("info", "abbrev", "str", "aranges", "rnglists", "line", "line_str")
"""What -g1 writes besides .debug_frame. Line tables would make the symbols four times as large."""


def inputs() -> list[Path]:
    """The files of this repository that decide what the kernel is."""
    return [CONFIG, *PATCHES]


def build(out: Path, work: Path, jobs: int) -> None:
    """Unpack, patch, configure, compile below `work`; leave vmlinux and vmlinux.sym in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    # CONFIG_DEBUG_INFO stays off and so does the unwinder of the kernel, whose tables cost a quarter of the boot: call
    # frames (-g1) let the debugger unwind from outside, and change no code.
    vmlinux = link_vmlinux(work, jobs, debug="-g1")
    run(["objcopy", "--strip-all", str(vmlinux), str(out / "vmlinux")])
    drop = [f"--remove-section=.debug_{name}" for name in DEBUG_SECTIONS_DROPPED]
    run(["objcopy", "--only-keep-debug", *drop, str(vmlinux), str(out / "vmlinux.sym")])


def link_vmlinux(work: Path, jobs: int, debug: str) -> Path:
    """The path of the unstripped vmlinux, built below `work` with a compiler option that changes no code."""
    require_packages()
    work.mkdir(parents=True, exist_ok=True)
    log = work / "build.log"
    tree = work / TREE
    if tree.exists():
        raise BuildError(f"{tree} exists; a build starts from an empty directory")
    run(["tar", "--extract", "--file", str(TARBALL), "--directory", str(work)], log=log)
    for patch in PATCHES:
        run(["patch", "--strip=1", "--batch", "--fuzz=0", f"--input={patch}"], cwd=tree, log=log)
    # The compiler notes where it was run; the map makes that a fixed name.
    flags = f"KCFLAGS={debug} -fdebug-prefix-map={tree.resolve()}={TREE}"
    make = ["make", f"--jobs={jobs}", f"CC={COMPILER}", f"HOSTCC={COMPILER}", flags]
    run([*make, "tinyconfig"], cwd=tree, log=log)
    with (tree / ".config").open("a") as file:
        file.write(CONFIG.read_text())
    run([*make, "olddefconfig"], cwd=tree, log=log)
    check_config(CONFIG.read_text(), (tree / ".config").read_text())
    run([*make, "vmlinux"], cwd=tree, log=log)
    return tree / "vmlinux"


def check_config(asked: str, got: str) -> None:
    """Raise BuildError if an option of the fragment was lost: Kconfig silently drops what has unmet needs."""
    settings = _settings(got)
    for option, value in _settings(asked).items():
        if settings.get(option, "n") != value:
            raise BuildError(f"{option}: asked for {value}, Kconfig says {settings.get(option, 'n')}")


def _settings(text: str) -> dict[str, str]:
    settings: dict[str, str] = {}
    for line in text.splitlines():
        if match := re.fullmatch(r"(CONFIG_\w+)=(.*)", line):
            settings[match[1]] = match[2]
        elif match := re.fullmatch(r"# (CONFIG_\w+) is not set", line):
            settings[match[1]] = "n"
    return settings


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m guest.kernel.build", description="Build the guest kernel.")
    parser.add_argument("out", type=Path, help="where vmlinux and vmlinux.sym go")
    parser.add_argument("--work", type=Path, help="build there and leave the tree (2 GB) for inspection")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    try:
        if options.work is not None:
            build(options.out, options.work, options.jobs)
        else:
            with tempfile.TemporaryDirectory(prefix="guest-kernel-") as work:
                build(options.out, Path(work), options.jobs)
    except (BuildError, OSError) as error:
        print(f"guest.kernel.build: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
