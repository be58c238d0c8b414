"""native/build.py: which compiler it takes, what it rebuilds, and that machines with less still build and boot."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from flat_guests import ROOT, native_build

AS_INSTALLED = f"import sys; sys.path = [p for p in sys.path if p not in {(str(ROOT), str(ROOT / 'core'))}]; "
"""This environment without the checkout."""

USE = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("chaoscontrol._native", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
sys.modules["chaoscontrol._native"] = module
from chaoscontrol import DeterministicVm, VmConfig
from chaoscontrol import StopKind
with DeterministicVm(VmConfig(memory_bytes=4 << 20)) as vm:
    # mov ecx, 1000; 1: add rax, rcx; loop 1b; push rax; fild [rsp]; fsqrt; fistp [rsp]; pop rbx; hlt
    vm.load_flat(bytes.fromhex("b9e8030000 4801c8 e2fb 50 df2c24 d9fa df3c24 5b f4"))
    stop = vm.run()
    assert stop.kind is StopKind.HALTED, stop
    r = vm.registers()
    assert (r.rax, r.rbx) == (500500, 707), r
    snapshot = vm.snapshot()
    vm.restore(snapshot)
    print(vm.digest())
"""


def build_into(out: Path, **env: str) -> Path:
    return Path(run_build(out, **env).stdout.strip())


def run_build(out: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "native" / "build.py"), "--out", str(out), "--jobs", "2", *options],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def flat_guest_digest(binding: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", USE, str(binding)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.strip()


def empty_path(tmp_path: Path) -> str:
    """A PATH without any compiler."""
    (tmp_path / "bin").mkdir()
    return str(tmp_path / "bin")


@pytest.mark.timeout(600)
def test_without_a_c_compiler_ziglang_builds_a_library_that_runs_guests(tmp_path: Path) -> None:
    pytest.importorskip("ziglang")
    env = {"PATH": empty_path(tmp_path), "CC": ""}
    with_headers = build_into(tmp_path / "api", **env)
    # A machine without a compiler rarely has Python.h either.
    without_headers = build_into(tmp_path / "abi", CC_BUILD_NO_PYTHON_H="1", **env)
    assert with_headers.name == "_native.abi3.so"
    assert without_headers.name == "_native.py"
    mine = flat_guest_digest(build_into(tmp_path / "mine"))
    assert flat_guest_digest(with_headers) == flat_guest_digest(without_headers) == mine


def test_an_unchanged_tree_compiles_nothing(tmp_path: Path) -> None:
    # By the commands that it ran, not by the objects' times: other tests compile into the same directory meanwhile.
    assert "-shared" in run_build(tmp_path, "--verbose").stderr
    (ROOT / "native" / "machine.h").touch()  # the contents count, not the times
    assert run_build(tmp_path, "--verbose").stderr == ""


def test_a_compiler_that_fails_is_named_with_its_message(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "native" / "build.py"), "--out", str(tmp_path)],
        env={**os.environ, "CC": "/nonexistent/cc"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "native/build.py: the C compiler /nonexistent/cc does not run" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_cdef_is_the_header_without_its_preprocessor_lines() -> None:
    text = native_build().cdef()
    assert "cc_machine_new" in text
    assert "#include" not in text and "#if" not in text


@pytest.mark.long
def test_a_wheel_carries_the_library_and_the_images(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, timeout=600)
    (wheel,) = tmp_path.glob("cc_tui-*.whl")
    assert "cp311-abi3-linux" in wheel.name
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"chaoscontrol/_native.abi3.so", "chaoscontrol/py.typed", "cc_tui/cli.py"} <= names
    assert "chaoscontrol/images/manifest.json" in names
    assert any(name.startswith("chaoscontrol/images/vmlinux-") for name in names)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed"), "XDG_STATE_HOME": str(tmp_path)}
    program = AS_INSTALLED + "import chaoscontrol; print(chaoscontrol.image_path('vmlinux'))"
    python = [sys.executable, "-c"]
    done = subprocess.run([*python, program], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.startswith(str(tmp_path / "installed"))
    program = AS_INSTALLED + "sys.argv = ['cc-tui', 'demo']; from cc_tui.__main__ import main; main()"
    done = subprocess.run([*python, program], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "the same future twice" in done.stdout, "the scenario and its observer are there, too"
