"""Programs inside a real machine: what they say through the SDKs is what the machine counted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import antithesis.assertions  # noqa: E402
import python_image  # noqa: E402

from chaoscontrol import (  # noqa: E402
    DEFAULT_CMDLINE,
    DeterministicVm,
    VmConfig,
    image_path,
    initramfs,
)
from guest import toolchain  # noqa: E402
from guest.programs.build import SDK, sdk_sources  # noqa: E402
from guest.sdk import build as sdk  # noqa: E402

VNS_MAX = 20_000_000_000
ALWAYS, SOMETIMES, REACHABLE, UNREACHABLE, CATALOG = 1, 2, 3, 4, 5
HYPERCALL_LOCK_GPA = 0xFE01C
NATIVE = Path(__file__).resolve().parent / "native"


def ran(initrd: bytes | str, command: str) -> tuple[str, dict[tuple[str, int], tuple[int, int]]]:
    """The console up to the program's end, and passes and fails by message and command."""
    with DeterministicVm(VmConfig()) as vm:
        vm.load_kernel(image_path("vmlinux"), initrd, cmdline=f'{DEFAULT_CMDLINE} quiet cc.run="{command}"')
        text = vm.run_until("exited with status", max_vns=VNS_MAX)
        return text, {(p.message, p.command): (p.passes, p.fails) for p in vm.properties()}


def test_a_shell_script_is_heard() -> None:
    text, counts = ran(
        image_path("tools"),
        "for i in 1 2 3; do cc-sdk always small -- test $i -lt 3; cc-sdk sometimes big -- test $i -gt 2; done; "
        "cc-sdk unreachable bad; cc-sdk random 10; cc-sdk random 10; cc-sdk random 10; cc-sdk setup-complete",
    )
    assert counts["small", ALWAYS] == (2, 1)
    assert counts["big", SOMETIMES] == (1, 2)
    assert counts["bad", UNREACHABLE] == (0, 1)
    numbers = [int(line) for line in text.splitlines() if line.strip().isdigit()]
    assert len(numbers) == 3
    assert all(0 <= number < 10 for number in numbers)


def test_nothing_is_lost_in_a_crowd(tmp_path: Path) -> None:
    """Processes, threads, signal handlers and deaths share one page: every call arrives once and whole."""
    program = tmp_path / "crowd"
    sources = [NATIVE / "crowd_program.c", *sdk_sources()]
    flags = ["-static", "-no-pie", "-std=gnu11", "-O2", *sdk.WARNINGS, f"-I{SDK}"]
    toolchain.run(["musl-gcc", *flags, "-o", str(program), *map(str, sources)])
    with DeterministicVm(VmConfig()) as vm:
        vm.load_kernel(image_path("vmlinux"), initramfs.bootable(program.read_bytes()), cmdline=DEFAULT_CMDLINE)
        assert vm.run_until("failed", max_vns=VNS_MAX).endswith("finished, 0 failed")
        counts = {(p.message, p.command): (p.passes, p.fails) for p in vm.properties() if p.command != CATALOG}
        assert vm.read_memory(HYPERCALL_LOCK_GPA, 4) == bytes(4)
    assert counts["process", ALWAYS] == (3 * 499, 3)
    assert counts["thread", ALWAYS] == (6 * 499, 6)
    assert counts["alarm", SOMETIMES][0] > 0
    assert counts["victim", SOMETIMES][1] > 30
    assert counts["at last", REACHABLE] == (1, 0)
    assert {message for message, _ in counts} == {"process", "thread", "alarm", "victim", "at last"}


PYTHON = """
import os, sys
import chaoscontrol_sdk as cc
if cc.inside_machine():
    for child in range(3):
        if os.fork() == 0:
            for i in range(50):
                cc.always(i != child, f"child {child}", {"i": i})
            os._exit(0)
    for _ in range(3):
        os.wait()
    cc.sometimes_greater_than(cc.random(), 0, "random is something")
    cc.reachable("chosen " + cc.choice(["a"]))
    print("edges", cc.coverage_init("script", 2))
    cc.record_edge(1)
    cc.setup_complete({"children": 3})
"""


@pytest.fixture(scope="module")
def python_sdk_image() -> bytes:
    return python_image.build(PYTHON, [ROOT / "guest" / "sdk" / "python"], {})


def test_processes_of_a_python_program_are_all_heard(python_sdk_image: bytes) -> None:
    text, counts = ran(python_sdk_image, python_image.RUN)
    assert "edges True" in text, text
    assert [counts[f"child {child}", ALWAYS] for child in range(3)] == [(49, 1)] * 3
    assert counts["random is something", SOMETIMES] == (1, 0)
    assert counts["chosen a", REACHABLE] == (1, 0)


ANTITHESIS = """
from antithesis.assertions import always, reachable, sometimes, unreachable
from antithesis.lifecycle import setup_complete
from antithesis.random import get_random
for i in range(3):
    always(i < 2, "i is small", {"i": i})
sometimes(True, "it works", {})
reachable("here", {})
unreachable("not here", {})
setup_complete({})
print("random", get_random() != get_random())
"""


def test_the_unmodified_antithesis_package_reaches_the_machine(tmp_path: Path) -> None:
    site = Path(antithesis.assertions.__file__).resolve().parents[1]
    (metadata,) = site.glob("antithesis-*.dist-info/METADATA")
    library = sdk.build_voidstar(tmp_path, "gcc")
    extra = {
        "usr/lib/libvoidstar.so": library,
        f"{python_image.SITE}/{metadata.parent.name}/METADATA": metadata,
    }
    text, counts = ran(python_image.build(ANTITHESIS, [site], extra), python_image.RUN)
    assert "random True" in text, text
    # Its SDK reports the first pass and the first failure of an assertion, no more.
    assert counts["i is small", ALWAYS] == (1, 1)
    assert counts["it works", SOMETIMES] == (1, 0)
    assert counts["here", REACHABLE] == (1, 0)
    assert counts["not here", UNREACHABLE] == (0, 1)
