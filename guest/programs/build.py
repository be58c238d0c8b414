"""Build a guest program: every C file of its directory, linked statically with musl, the same bytes everywhere.

    python3 -m guest.programs.build NAME OUT_DIR

Writes OUT_DIR/NAME (what the guest runs) and OUT_DIR/NAME.sym (symbols and DWARF line tables for the debugger).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from guest.toolchain import BuildError, require_packages, run

HERE = Path(__file__).resolve().parent
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


def inputs(name: str) -> list[Path]:
    """The files of this repository that decide what the program is."""
    return sorted([*(HERE / name).glob("*.c"), *(HERE / name).glob("*.h")])


def build(name: str, out: Path) -> None:
    """Compile guest/programs/NAME and leave NAME and NAME.sym in `out`."""
    require_packages()
    sources = [path.name for path in inputs(name) if path.suffix == ".c"]
    if not sources:
        raise BuildError(f"{HERE / name}: no C files")
    out.mkdir(parents=True, exist_ok=True)
    full = out / f"{name}.full"
    # Sources are named relative to their directory, and the directory's own name is mapped away: line tables then
    # say where a file is in the repository, not where the repository is.
    prefix = f"-ffile-prefix-map={HERE / name}=guest/programs/{name}"
    run(["musl-gcc", *FLAGS, prefix, "-o", str(full.resolve()), *sources], cwd=HERE / name)
    run(["objcopy", "--strip-all", str(full), str(out / name)])
    run(["objcopy", "--only-keep-debug", str(full), str(out / f"{name}.sym")])
    full.unlink()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m guest.programs.build", description="Build a guest program.")
    parser.add_argument("name", help="a directory below guest/programs")
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
