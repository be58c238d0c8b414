"""CPU time from the command to the hello guest's first line: `cc-tui boot` against QEMU, in pairs A B A B.

What is counted is user and system time of the whole process: Python's start, loading the images (inflated by an earlier
run and kept, see chaoscontrol.image_cache), and the kernel's boot, against QEMU's start, its firmware and the same
kernel's boot. Both write the console to a pipe. QEMU gets the same kernel (inflated beforehand), initramfs, command
line and memory, no network and no default devices, and is killed when the line has come.

QEMU's default CPU has a local APIC, which our machine has not, and Linux measures the APIC's timer in a busy loop of
some 240 ms. With one nanosecond per instruction that loop is most of the boot. So the comparison is also made
without an APIC: then both run about the same instructions, and that ratio is the one that says something.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zstandard
from figures import median, ms, show_table

from chaoscontrol import DEFAULT_CMDLINE, image_path

PAIRS = int(os.environ.get("CC_BENCH_PAIRS", "7"))
LINE = b"hello from cc-tui guest"
QEMU = "qemu-system-x86_64"
SECONDS_MAX = 120
ICOUNT = ("-icount", "shift=0,sleep=off")
NO_APIC = ("-cpu", "qemu64,-apic,-x2apic")

Images = tuple[str, str]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """Kernel and initramfs, not compressed."""
    inflated = []
    for name in ("vmlinux", "hello"):
        path = tmp_path_factory.mktemp("images") / name
        data = Path(image_path(name)).read_bytes()
        path.write_bytes(zstandard.ZstdDecompressor().decompressobj().decompress(data))
        inflated.append(str(path))
    return inflated[0], inflated[1]


def cpu_seconds(command: list[str], ends: bytes | None) -> float:
    """User and system time of a process that runs until it ends, or until it has printed `ends` and is killed."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    output, begun, usage = b"", time.monotonic(), None
    try:
        while ends is None or ends not in output:
            data = os.read(process.stdout.fileno(), 1 << 16)
            output += data
            assert data or ends is None, output[-2000:]
            if not data:
                break
            assert time.monotonic() - begun < SECONDS_MAX, output[-2000:]
        if ends is None:
            _, status, usage = os.wait4(process.pid, 0)
            assert os.waitstatus_to_exitcode(status) == 0
    finally:
        if usage is None:
            process.kill()
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
    return usage.ru_utime + usage.ru_stime


def cc_tui_seconds() -> float:
    program = Path(sys.executable).with_name("cc-tui")
    return cpu_seconds([str(program), "boot", "vmlinux", "hello", "--until", LINE.decode()], None)


def qemu_seconds(images: Images, options: tuple[str, ...]) -> float:
    machine = "-machine microvm -accel tcg -m 256 -no-user-config -nodefaults -nic none -display none -serial stdio"
    files = ["-kernel", images[0], "-initrd", images[1], "-append", DEFAULT_CMDLINE]
    return cpu_seconds([QEMU, *machine.split(), *files, *options], LINE)


COMPARISONS = [
    ("-icount shift=0,sleep=off, no APIC", (*ICOUNT, *NO_APIC), None),
    ("plain TCG, no APIC", NO_APIC, None),
    ("plain TCG", (), None),
    ("-icount shift=0,sleep=off", ICOUNT, 0.25),
]


@pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"needs {QEMU} (Debian: apt install qemu-system-x86)")
@pytest.mark.parametrize(("name", "options", "ratio_max"), COMPARISONS, ids=[c[0] for c in COMPARISONS])
def test_boot_against_qemu(images: Images, name: str, options: tuple[str, ...], ratio_max: float | None) -> None:
    cc_tui_seconds()  # byte code and page cache
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(PAIRS):
        ours.append(cc_tui_seconds())
        theirs.append(qemu_seconds(images, options))
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    rows = [
        ("cc-tui boot", ms(median(ours)), ms(min(ours)), ms(max(ours))),
        (f"QEMU {name}", ms(median(theirs)), ms(min(theirs)), ms(max(theirs))),
        ("cc-tui / QEMU", *(f"{value:.4f}" for value in (median(ratios), min(ratios), max(ratios)))),
    ]
    show_table(f"CPU time to the first line, {PAIRS} pairs", ("", "median", "least", "most"), rows)
    assert ratio_max is None or median(ratios) <= ratio_max


LOAD = """
from chaoscontrol import DeterministicVm, image_path
vm = DeterministicVm()
vm.load_kernel(image_path("vmlinux"), image_path("hello"))
"""
STAGES = {
    "Python": "pass",
    "and imports": "import cc_tui.__main__, cc_tui.boot, chaoscontrol.loader, chaoscontrol.image_cache",
    "and the images": LOAD,
}


def test_where_a_boot_spends() -> None:
    """CPU time of processes that stop earlier and earlier on the way to the first line."""
    rows = []
    for name, text in STAGES.items():
        times = [cpu_seconds([sys.executable, "-c", text], None) for _ in range(PAIRS)]
        rows.append((name, ms(median(times)), ms(min(times)), ms(max(times))))
    times = [cc_tui_seconds() for _ in range(PAIRS)]
    rows.append(("all of cc-tui boot", ms(median(times)), ms(min(times)), ms(max(times))))
    show_table("CPU time of a process that goes as far as ...", ("", "median", "least", "most"), rows)
