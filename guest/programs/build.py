"""Build a guest program: every C file of its directory, linked statically with musl, the same bytes everywhere.

    python3 -m guest.programs.build NAME OUT_DIR

NAME is a directory below guest/programs, `agent` or `cc-sdk`. A program that includes the SDK's header is compiled
together with the SDK. Writes OUT_DIR/NAME (what the guest runs) and OUT_DIR/NAME.sym (symbols and DWARF line tables
for the debugger).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from guest.toolchain import BuildError, require_packages, run

HERE = Path(__file__).resolve().parent
GUEST = HERE.parent
ROOT = GUEST.parent
FLAGS = (
    "-std=gnu11",
    "-O2",
    "-g",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-static",
    "-no-pie",
    # x86-64 without extensions: what every CPU profile has.
    "-march=x86-64",
    # A fused multiply-add rounds once where two instructions round twice.
    "-ffp-contract=off",
    # The debugger walks the stack of a guest program by its frame pointers.
    "-fno-omit-frame-pointer",
    "-fno-ident",
    "-Wl,--build-id=none",
)


ELSEWHERE = {"agent": GUEST / "agent", "cc-sdk": GUEST / "sdk" / "sh"}
"""Programs that are more than examples have a place of their own."""
KERNEL_HEADERS = {
    "linux": "/usr/include/linux",
    "asm": "/usr/include/x86_64-linux-gnu/asm",
    "asm-generic": "/usr/include/asm-generic",
}
SDK = GUEST / "sdk" / "c"
SDK_WITHOUT_LINUX = "bare.c"
"""The SDK's channel for programs without an operating system."""


def directory(name: str) -> Path:
    return ELSEWHERE.get(name, HERE / name)


def sdk_sources() -> list[Path]:
    """The C files of the SDK for Linux programs."""
    return sorted(path for path in SDK.glob("*.c") if path.name != SDK_WITHOUT_LINUX)


def inputs(name: str) -> list[Path]:
    """The files of this repository that decide what the program is."""
    own = sorted([*directory(name).glob("*.c"), *directory(name).glob("*.h")])
    return [*own, *sdk_sources(), *sorted(SDK.glob("*.h"))] if _uses_sdk(own) else own


def _uses_sdk(own: list[Path]) -> bool:
    headers = ('#include "chaoscontrol.h"', '#include "wire.h"')
    return any(header in path.read_text() for path in own for header in headers)


def _kernel_headers(out: Path) -> Path:
    """A directory with the kernel's own headers (linux/, asm/), which musl's do not include, and nothing of glibc's."""
    headers = out / "kernel-headers"
    headers.mkdir(exist_ok=True)
    for name, directory_of in KERNEL_HEADERS.items():
        if not (headers / name).is_symlink():
            (headers / name).symlink_to(directory_of)
    return headers


def build(name: str, out: Path) -> None:
    """Compile a program and leave NAME and NAME.sym in `out`."""
    require_packages()
    sources = [path.relative_to(ROOT).as_posix() for path in inputs(name) if path.suffix == ".c"]
    if not sources:
        raise BuildError(f"{directory(name)}: no C files")
    out.mkdir(parents=True, exist_ok=True)
    full = out / f"{name}.full"
    headers = _kernel_headers(out)
    # Sources are named relative to the repository, and its own place is mapped away: line tables then say where a file
    # is in it, not where it is.
    flags = [*FLAGS, f"-ffile-prefix-map={ROOT}=.", f"-I{SDK.relative_to(ROOT)}"]
    flags += ["-idirafter", str(headers.resolve()), f"-ffile-prefix-map={headers.resolve()}=/usr/include"]
    run(["musl-gcc", *flags, "-o", str(full.resolve()), *sources], cwd=ROOT)
    run(["objcopy", "--strip-all", str(full), str(out / name)])
    run(["objcopy", "--only-keep-debug", str(full), str(out / f"{name}.sym")])
    full.unlink()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m guest.programs.build", description="Build a guest program.")
    parser.add_argument("name", help="a directory below guest/programs, agent or cc-sdk")
    parser.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    try:
        build(options.name, options.out)
    except (BuildError, OSError) as error:
        print(f"guest.programs.build: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
