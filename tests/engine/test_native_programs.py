"""The C test programs of native/tests, as released and with ASan and UBSan; Python's tests on the sanitized library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from flat_guests import ROOT, native_build

PROGRAMS = sorted((ROOT / "native" / "tests").glob("test_*.c"))
JOBS = 2
TIMEOUT_S = 280

FEWER = {("test_sse", "release"): "20", ("test_sse", "asan"): "8"}
"""Rounds of random cases in the default tests, of the 40 that the program makes by itself."""

SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "abort_on_error=1:detect_leaks=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}


def builder(variant: str):
    build = native_build()
    compiler = build.find_compiler()
    if variant == "asan" and "ziglang" in compiler.command:
        pytest.skip("the ziglang wheel has no sanitizer runtime")
    return build.Builder(variant, compiler, JOBS)


@pytest.mark.parametrize("variant", ["release", "asan"])
@pytest.mark.parametrize("source", PROGRAMS, ids=lambda path: path.stem)
def test_native_program(source: Path, variant: str) -> None:
    rounds = FEWER.get((source.stem, variant))
    check(source, variant, [] if rounds is None else [rounds])


@pytest.mark.long
@pytest.mark.parametrize(("name", "variant"), FEWER)
def test_native_program_whole(name: str, variant: str) -> None:
    check(ROOT / "native" / "tests" / f"{name}.c", variant, [])


def check(source: Path, variant: str, arguments: list[str]) -> None:
    """Runs one to its end."""
    program = builder(variant).test_program(source)
    done = subprocess.run(
        [str(program), *arguments],
        env={**os.environ, **SANITIZER_OPTIONS},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}"


def test_the_python_tests_of_the_engine_run_clean_on_the_sanitized_library(tmp_path: Path) -> None:
    """The binding is replaced before chaoscontrol is imported; the sanitizer's runtime has to come first of all."""
    made = builder("asan").extension(tmp_path)
    if made.suffix != ".so":
        pytest.skip("without Python.h the binding is loaded by path")
    compiler = native_build().find_compiler()
    runtime = [
        subprocess.run([*compiler.command, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
        for name in (["libclang_rt.asan-x86_64.so"] if compiler.is_clang else ["libasan.so", "libubsan.so"])
    ]
    preload = ":".join(done.stdout.strip() for done in runtime)
    tests = [str(ROOT / "tests" / "engine" / name) for name in ("test_machine.py", "test_snapshots.py")]
    program = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('chaoscontrol._native', {str(made)!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "sys.modules['chaoscontrol._native'] = module\n"
        "import pytest\n"
        f"sys.exit(pytest.main(['-q', '-x', '-p', 'no:cacheprovider', '-p', 'no:xdist', *{tests!r}]))\n"
    )
    env = {
        **os.environ,
        **SANITIZER_OPTIONS,
        # Python itself leaks by design, and its allocator would hide ours.
        "ASAN_OPTIONS": "abort_on_error=1:detect_leaks=0",
        "PYTHONMALLOC": "malloc",
        "LD_PRELOAD": preload,
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
