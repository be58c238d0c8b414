"""Build the SDK for programs on this host or in a guest image with a C library of its own.

    python3 -m guest.sdk.build OUT_DIR [--cc COMPILER]

Writes OUT_DIR/chaoscontrol.h, libchaoscontrol.a (link with it; musl or glibc, as COMPILER has), the same without an
operating system (libchaoscontrol-bare.a, compile with -DCC_SDK_FREESTANDING), cc-sdk, and libvoidstar.so (for
/usr/lib of an image whose programs use the Antithesis SDKs).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from guest.programs.build import SDK, directory, sdk_sources
from guest.toolchain import BuildError, run

VOIDSTAR = Path(__file__).resolve().parent / "voidstar"
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wshadow")
FLAGS = ("-std=gnu11", "-O2", "-g", "-march=x86-64", "-ffp-contract=off", "-fno-omit-frame-pointer", *WARNINGS)
BARE_SOURCES = ("bare.c", "calls.c", "coverage.c", "request.c", "text.c")
VOIDSTAR_SONAME = "libvoidstar.so"
WHOLE_LIBRARY_FLAGS = ("-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-z,nodelete")
"""nodelete: thread-local state of a library that is gone would be a dangling pointer."""


def build_archive(out: Path, cc: str, *, bare: bool = False) -> Path:
    """The static library. Raises BuildError."""
    archive = out / ("libchaoscontrol-bare.a" if bare else "libchaoscontrol.a")
    sources = [SDK / name for name in BARE_SOURCES] if bare else sdk_sources()
    special = ["-DCC_SDK_FREESTANDING", "-ffreestanding"] if bare else ["-fPIC"]
    with tempfile.TemporaryDirectory(prefix="guest-sdk-") as work:
        objects: list[str] = []
        for source in sources:
            objects.append(str(Path(work) / f"{source.stem}.o"))
            run([cc, *FLAGS, *special, "-c", str(source), "-o", objects[-1]])
        archive.unlink(missing_ok=True)
        run(["ar", "rcsD", str(archive), *objects])
    return archive


def build_voidstar(out: Path, cc: str, soname: str = VOIDSTAR_SONAME) -> Path:
    """The library of the five functions. Raises BuildError."""
    library = out / VOIDSTAR_SONAME
    sources = [str(path) for path in [*sorted(VOIDSTAR.glob("*.c")), *sdk_sources()]]
    flags = [*FLAGS, *WHOLE_LIBRARY_FLAGS, f"-I{SDK}", f"-Wl,-soname,{soname}"]
    run([cc, *flags, "-o", str(library), *sources])
    return library


def build_command(out: Path, cc: str) -> Path:
    """The program cc-sdk. Raises BuildError."""
    program = out / "cc-sdk"
    sources = [str(path) for path in [*sorted(directory("cc-sdk").glob("*.c")), *sdk_sources()]]
    run([cc, *FLAGS, f"-I{SDK}", "-o", str(program), *sources])
    return program


def build(out: Path, cc: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(SDK / "chaoscontrol.h", out / "chaoscontrol.h")
    build_archive(out, cc)
    build_archive(out, cc, bare=True)
    build_command(out, cc)
    build_voidstar(out, cc)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m guest.sdk.build", description="Build the SDK.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--cc", default="gcc", help="compiler (gcc, clang, musl-gcc)")
    options = parser.parse_args(arguments)
    try:
        build(options.out, options.cc)
    except (BuildError, OSError) as error:
        print(f"guest.sdk.build: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
