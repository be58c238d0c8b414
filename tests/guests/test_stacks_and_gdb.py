"""Debian's gdb, connected to the same moment, finds the same frames where it has call frame information."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from stack_guest import LIBRARIES, StackGuest, boot

from cc_tui.gdb.machine import MachineTarget
from cc_tui.gdb.packets import PacketStream
from cc_tui.gdb.server import GdbServer, listen
from cc_tui.gdb.symbol_file import symbol_file
from chaoscontrol import image_path

WALK = """python
frame = gdb.newest_frame()
while frame:
    if frame.type() in (gdb.NORMAL_FRAME, gdb.SIGTRAMP_FRAME):
        print("frame", hex(frame.pc()), frame.name())
    frame = frame.older()
"""
STOPS = {
    "nested": ("leaf",),
    "recursion": ("recurse", "leaf"),
    "library": ("compare", "leaf"),
    "signal": ("handler", "leaf"),
    "prologue": ("inner",),
}


class Seen(NamedTuple):
    address: int
    name: str


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackGuest]:
    made = boot("glibc-O2-pie", tmp_path_factory.mktemp("gdb"))
    with made.cluster:
        yield made


def frames_of_gdb(guest: StackGuest, directory: Path, *files: str) -> list[Seen]:
    """What gdb says of the stack where the machine is, with these commands to read files before."""
    assert shutil.which("gdb"), "gdb is needed: .ci/run installs it"
    script = directory / "walk.gdb"
    with listen(0) as listener:
        port = listener.getsockname()[1]
        # What the host may have of the libraries' own debug information is not looked at.
        lines = ["set confirm off", "set backtrace past-main on", "set debug-file-directory /nowhere", *files]
        script.write_text("\n".join([*lines, f"target remote :{port}", WALK, "end", "disconnect", ""]))
        gdb = subprocess.Popen(
            ["gdb", "-q", "-nx", "-batch", "-x", str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            listener.settimeout(200)
            connection, _ = listener.accept()
            with connection:
                target = MachineTarget(guest.debugger.multiverse, 0, 100_000)
                server = threading.Thread(target=GdbServer(target, PacketStream(connection)).serve, daemon=True)
                server.start()
                out, err = gdb.communicate(timeout=250)
                server.join(20)
        finally:
            gdb.kill()
    found = [line.split() for line in out.splitlines() if line.startswith("frame ")]
    assert found, out + err
    return [Seen(int(address, 16), name) for _, address, name in found]


@pytest.mark.parametrize("stop", list(STOPS))
def test_frames_of_a_program_are_those_of_gdb(guest: StackGuest, tmp_path: Path, stop: str) -> None:
    stack = guest.run_to(*STOPS[stop])
    reader = guest.reader()
    assert reader.linux is not None
    modules = {module.name: module for module in reader.process(reader.linux.current()).modules.loaded()}
    files = [f"symbol-file -o {modules['/init'].bias:#x} {guest.image.parent / 'init'}"]
    files += [f"add-symbol-file {path} -o {modules[path].bias:#x}" for path in LIBRARIES if path in modules]
    found = frames_of_gdb(guest, tmp_path, *files)
    assert [frame.address for frame in found] == [frame.address for frame in stack]
    named = [(seen.name, frame.symbol) for seen, frame in zip(found, stack, strict=True) if frame.source is not None]
    assert [name for name, _ in named] == [symbol for _, symbol in named]


def test_frames_of_the_kernel_are_those_of_gdb(guest: StackGuest, tmp_path: Path) -> None:
    guest.run_to("say")
    for name in ("vfs_write", "uart_write"):
        stack = guest.go_on_to(f"{name}@kernel")
        found = frames_of_gdb(guest, tmp_path, f"symbol-file {symbol_file(image_path('vmlinux'))}")
        kernel = [frame for frame in stack if not frame.is_user]
        # The entry code has no call frame information: there gdb guesses.
        assert [frame.address for frame in found[: len(kernel)]] == [frame.address for frame in kernel]
        names = [seen.name.partition(".")[0] for seen in found[: len(kernel)]]
        assert names == [frame.symbol.partition(".")[0] for frame in kernel]
        assert kernel[-1].symbol == "entry_SYSCALL_64"
