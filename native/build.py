"""Builds native/ into the Python package, and the native test programs.

Owns: the choice of compiler, the flags, the list of units, the object cache. Promises: an output is replaced only by a
complete one, so running processes keep what they loaded; an object is recompiled only when its source, a header it
includes, its flags or the compiler changed. Knows nothing of the venv or of make.

    python native/build.py                         chaoscontrol/_native in the checkout (release)
    python native/build.py --variant asan --out D  the same with ASan and UBSan, in directory D
    python native/build.py --tests                 every native/tests/test_*.c; prints the programs' paths
    python native/build.py --objects               compile only: needs no package, so set-up does it while pip works

The binding is cffi in API mode, which needs Python.h. Where the headers are not installed (Debian without python3-dev)
the same library is bound in cffi's out-of-line ABI mode: slower per call, otherwise equal.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import fcntl
import hashlib
import importlib.util
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

NATIVE = Path(__file__).resolve().parent
ROOT = NATIVE.parent
BUILD = ROOT / "build" / "native"
PACKAGE = ROOT / "core" / "chaoscontrol"
HEADER = NATIVE / "include" / "cc.h"
EXPORTS = NATIVE / "exports.h"
SOURCE_DIRS = ("soft", ".", "devices", "net", "kvm")
"""The units that take longest to compile come first."""

WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Werror")
COMMON = (
    "-std=gnu11",
    "-g1",
    "-fPIC",
    "-pthread",
    "-D_GNU_SOURCE=",  # exports.h is included before any unit could define it
    "-fvisibility=hidden",  # calls inside the library stay direct; exports.h makes the public header's names visible
    "-ffp-contract=off",  # a fused multiply-add would round differently from the guest's two instructions
    "-fno-math-errno",
)
"""Flags of every unit in every variant."""

VARIANTS: dict[str, tuple[str, ...]] = {
    "release": ("-O2",),
    # Tail calls are not guaranteed with sanitizers: CC_TRAMPOLINE makes the interpreter return to a loop instead.
    "asan": (
        "-O1",
        "-DCC_TRAMPOLINE",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-fno-omit-frame-pointer",
    ),
}

_SCALAR = ("-fno-tree-slp-vectorize",)
UNIT_FLAGS: dict[str, tuple[str, ...]] = {
    "soft/branch.c": _SCALAR,
    "soft/int_alu.c": _SCALAR,
    "soft/int_mov.c": _SCALAR,
    "soft/int_mul.c": _SCALAR,
    "soft/int_shift.c": _SCALAR,
    "soft/string.c": _SCALAR,
}
"""Further release flags of single units, by path under native/: only where a benchmark showed the gain.

The integer handlers store two lazy-flag words side by side; merging them into one vector store costs more moves than
it saves.
"""


class BuildError(Exception):
    """The build cannot go on; the text is for a person."""


@dataclasses.dataclass(frozen=True)
class Compiler:
    """A C compiler: its command line and a text that changes when the compiler does."""

    command: tuple[str, ...]
    identity: str

    @property
    def is_clang(self) -> bool:
        return "clang" in self.identity


def _find_command() -> tuple[str, ...]:
    if os.environ.get("CC"):
        return tuple(shlex.split(os.environ["CC"]))
    for name in ("cc", "gcc", "clang"):
        path = shutil.which(name)
        if path:
            return (path,)
    if importlib.util.find_spec("ziglang") is None:
        _install_ziglang()
    return (sys.executable, "-m", "ziglang", "cc")


def _install_ziglang() -> None:
    """Installs the pinned ziglang wheel beside this Python: it is the C compiler for machines that have none."""
    pin = re.search(r'"(ziglang==[0-9.]+)"', (ROOT / "pyproject.toml").read_text())
    assert pin, "pyproject.toml pins ziglang"
    print(f"no C compiler found: installing {pin[1]} (about 100 MB), which contains one", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", pin[1]], check=False)
    if done.returncode != 0:
        raise BuildError(f"no C compiler, and {pin[1]} could not be installed; install gcc or clang, or set CC")


def find_compiler() -> Compiler:
    """$CC, else cc, gcc or clang from PATH, else the ziglang wheel.

    Raises BuildError when none works.
    """
    command = _find_command()
    try:
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise BuildError(f"the C compiler {shlex.join(command)} does not run: {e}; set CC to one that does") from e
    if done.returncode != 0:
        raise BuildError(f"the C compiler {shlex.join(command)} does not run: {done.stderr.strip()[:200]}")
    if "ziglang" in command:
        # Zig would otherwise compile for the CPU it runs on; the library must run on every x86-64 host.
        command = (*command, "-mcpu=x86_64")
    return Compiler(command, shlex.join(command) + "\n" + done.stdout)


def sources() -> list[Path]:
    """Every C file of the library, in a fixed order."""
    return [path for name in SOURCE_DIRS for path in sorted((NATIVE / name).glob("*.c"))]


def test_sources() -> list[Path]:
    """Every native test program's main file."""
    return sorted((NATIVE / "tests").glob("test_*.c"))


def cdef() -> str:
    """The public header's declarations, as cffi takes them."""
    text = HEADER.read_text()
    start, end = text.index("/* [cdef-begin] */"), text.index("/* [cdef-end] */")
    return text[start:end]


def python_include() -> Path | None:
    """The directory of Python.h, or None where the headers are not installed."""
    if os.environ.get("CC_BUILD_NO_PYTHON_H"):
        return None  # for the test of the ABI binding
    path = Path(sysconfig.get_paths()["include"])
    return path if (path / "Python.h").is_file() else None


class Builder:
    """One build of one variant with one compiler; objects live in build/native/<variant>-<compiler>/."""

    def __init__(self, variant: str, compiler: Compiler, jobs: int, verbose: bool = False) -> None:
        self.variant = variant
        self.compiler = compiler
        self.jobs = jobs
        self.verbose = verbose
        tag = hashlib.sha256(compiler.identity.encode()).hexdigest()[:10]
        self.dir = BUILD / f"{variant}-{tag}"
        self.obj = self.dir / "obj"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds this build directory against other builds of the same variant (parallel test workers)."""
        self.obj.mkdir(parents=True, exist_ok=True)
        with (self.dir / "lock").open("w") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            yield

    def flags(self, source: Path) -> list[str]:
        # gcc makes every dispatch a jump. clang does not where a handler's local had its address taken, and refuses
        # musttail between functions of different types, so a guest could exhaust the stack: the loop instead.
        dispatch = ["-DCC_TRAMPOLINE"] if self.compiler.is_clang and self.variant == "release" else []
        own = UNIT_FLAGS.get(str(source.relative_to(NATIVE)), ()) if source.is_relative_to(NATIVE) else ()
        return [*COMMON, *VARIANTS[self.variant], *dispatch, *(own if self.variant == "release" else ())]

    def run(self, args: Sequence[str]) -> None:
        if self.verbose:
            print(shlex.join(args), file=sys.stderr, flush=True)
        done = subprocess.run(args, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BuildError(f"{shlex.join(args)}\n{done.stdout}{done.stderr}")

    def compile(self, source: Path, extra: Sequence[str] = (), generated: bool = False) -> Path:
        """Compiles one unit if it changed; returns the object's path."""
        relative = source.relative_to(NATIVE) if source.is_relative_to(NATIVE) else Path(source.name)
        out = self.obj / str(relative).replace("/", "__").replace(".c", ".o")
        flags = [*self.flags(source), *extra, f"-I{NATIVE}"]
        if not generated:
            flags += [*WARNINGS, "-include", str(EXPORTS)]
        stamp = out.with_suffix(".json")
        wanted = json.dumps(flags)
        if out.exists() and _up_to_date(stamp, wanted):
            return out
        stamp.unlink(missing_ok=True)
        deps = out.with_suffix(".d")
        self.run([*self.compiler.command, *flags, "-MD", "-MF", str(deps), "-c", str(source), "-o", str(out)])
        files = _dependencies(deps.read_text())
        stamp.write_text(json.dumps({"flags": wanted, "files": {name: _hash(Path(name)) for name in files}}))
        return out

    def prepare(self) -> None:
        """Compiles the library's units ahead of their use."""
        with self.locked():
            self.objects()

    def objects(self) -> list[Path]:
        """Compiles the library's units, in parallel."""
        units = sources()
        if not units:
            raise BuildError(f"no C sources under {NATIVE}")
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            return list(pool.map(self.compile, units))

    def link(self, objects: Sequence[Path], out: Path, shared: bool) -> None:
        """Links objects into a shared library or a program, replacing `out` in one step."""
        key = hashlib.sha256()
        for path in objects:
            key.update(path.name.encode() + b"\0" + path.read_bytes())
        stamp = self.dir / (hashlib.sha256(str(out).encode()).hexdigest()[:16] + ".link")
        if out.exists() and stamp.exists() and stamp.read_text() == key.hexdigest():
            return
        out.parent.mkdir(parents=True, exist_ok=True)
        sanitize = [flag for flag in VARIANTS[self.variant] if flag.startswith("-fsanitize")]
        with tempfile.TemporaryDirectory(dir=out.parent) as tmp:
            made = Path(tmp) / out.name
            kind = ["-shared"] if shared else []
            self.run([*self.compiler.command, *kind, *sanitize, "-pthread", *map(str, objects), "-o", str(made)])
            made.replace(out)
        stamp.write_text(key.hexdigest())

    def extension(self, out_dir: Path) -> Path:
        """Builds the Python binding into out_dir; returns the file that `import` finds."""
        include = python_include()
        with self.locked():
            if include is None:
                return self._abi_binding(out_dir)
            generated = self._generate("_native", "#include <include/cc.h>\n", ".c")
            objects = [*self.objects(), self.compile(generated, ["-w", f"-I{include}"], generated=True)]
            out = out_dir / "_native.abi3.so"
            self.link(objects, out, shared=True)
            (out_dir / "_native.py").unlink(missing_ok=True)
            return out

    def _abi_binding(self, out_dir: Path) -> Path:
        generated = self._generate("_native", None, ".py")
        library = out_dir / "_native_library.so"
        self.link(self.objects(), library, shared=True)
        tail = (
            "\nimport os as _os\n"
            'lib = ffi.dlopen(_os.path.join(_os.path.dirname(_os.path.abspath(__file__)), "_native_library.so"))\n'
        )
        out = out_dir / "_native.py"
        _write_if_changed(out, generated.read_text() + tail)
        (out_dir / "_native.abi3.so").unlink(missing_ok=True)
        return out

    def _generate(self, name: str, source: str | None, suffix: str) -> Path:
        """Runs cffi on the public header, when it changed; returns the generated file."""
        out = self.dir / f"{name}{suffix}"
        key = hashlib.sha256((cdef() + repr(source) + Path(__file__).read_text()).encode()).hexdigest()
        stamp = out.with_suffix(suffix + ".key")
        if out.exists() and stamp.exists() and stamp.read_text() == key:
            return out
        import cffi  # here: an up-to-date build does not pay for it
        from cffi import recompiler

        ffi = cffi.FFI()
        ffi.cdef(cdef())
        ffi.set_source(f"chaoscontrol.{name}", source)
        with contextlib.redirect_stdout(io.StringIO()):
            if source is None:
                recompiler.make_py_source(ffi, f"chaoscontrol.{name}", str(out))
            else:
                recompiler.make_c_source(ffi, f"chaoscontrol.{name}", source, str(out))
        stamp.write_text(key)
        return out

    def test_program(self, source: Path) -> Path:
        """Builds one native test program; returns its path.

        The library is linked as an archive, so a test may bring its own version of a unit that it replaces.
        """
        with self.locked():
            archive = self.archive(self.objects())
            out = self.dir / source.stem
            self.link([self.compile(source), archive], out, shared=False)
            return out

    def archive(self, objects: Sequence[Path]) -> Path:
        """The engine as a static library, for programs that link with it. Call with the directory locked."""
        out = self.dir / "libcc.a"
        if out.exists() and all(path.stat().st_mtime_ns < out.stat().st_mtime_ns for path in objects):
            return out
        out.unlink(missing_ok=True)
        ziglang = "ziglang" in self.compiler.command
        archiver = [*self.compiler.command[: self.compiler.command.index("cc")], "ar"] if ziglang else ["ar"]
        self.run([*archiver, "rcs", str(out), *map(str, objects)])
        return out


def _dependencies(text: str) -> list[str]:
    """The files of a makefile rule written by -MD (no path of ours contains a blank)."""
    return text.replace("\\\n", " ").split(":", 1)[1].split()


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _up_to_date(stamp: Path, wanted: str) -> bool:
    try:
        known = json.loads(stamp.read_text())
        return known["flags"] == wanted and all(_hash(Path(name)) == h for name, h in known["files"].items())
    except (OSError, ValueError, KeyError):
        return False


def _write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="build native/", allow_abbrev=False)
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="release")
    parser.add_argument("--out", type=Path, default=PACKAGE, help="directory for the Python binding")
    parser.add_argument("--tests", action="store_true", help="build the native test programs instead")
    parser.add_argument("--objects", action="store_true", help="compile the library's units and link nothing")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args(argv)
    try:
        builder = Builder(options.variant, find_compiler(), options.jobs, options.verbose)
        if options.objects:
            builder.prepare()
        elif options.tests:
            for source in test_sources():
                print(builder.test_program(source))
        else:
            print(builder.extension(options.out.resolve()))
    except BuildError as e:
        print(f"native/build.py: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
