"""The tools image on the engine: init's choices, and cc-sdk writing the hypercall page of a real machine."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from chaoscontrol import DEFAULT_CMDLINE, DeterministicVm, VmConfig, image_path  # noqa: E402

VNS_MAX = 3_000_000_000
HYPERCALL_GPA = 0xFE000


def booted(append: str) -> DeterministicVm:
    vm = DeterministicVm(VmConfig())
    vm.load_kernel(image_path("vmlinux"), image_path("tools"), cmdline=f"{DEFAULT_CMDLINE} quiet {append}")
    return vm


def test_a_command_of_the_kernel_command_line_runs_and_ends_the_machine() -> None:
    with booted('cc.node=2 cc.nodes=3 cc.run="echo node $CC_NODE of $CC_NODES; ping -c1 127.0.0.1; exit 5"') as vm:
        text = vm.run_until("exited with status 5", max_vns=VNS_MAX)
        assert "node 2 of 3" in text
        assert "1 packets received, 0% packet loss" in text


def test_a_program_that_a_signal_ended_starts_again() -> None:
    with booted('cc.respawn=50 cc.run="echo first; [ -e /tmp/x ] && exit 0; touch /tmp/x; kill -9 $$"') as vm:
        text = vm.run_until("exited with status 0", max_vns=VNS_MAX)
        assert text.count("first") >= 2
        assert "killed by signal 9 (Killed)" in text


def test_without_a_command_there_is_a_shell_with_a_terminal() -> None:
    with booted("") as vm:
        vm.run_until("/ # ", max_vns=VNS_MAX)
        vm.console_input("sleep 1000\r")
        vm.run(vns=vm.vns + 200_000_000)
        vm.console_input("\x03")
        vm.run_until("/ # ", max_vns=VNS_MAX)
        vm.console_input("echo status $?\r")
        assert "status 130" in vm.run_until("/ # ", max_vns=VNS_MAX)


@pytest.mark.parametrize("command", ["always", "sometimes"])
def test_cc_sdk_reaches_the_hypercall_page(command: str) -> None:
    with booted(f'cc.run="cc-sdk inside && cc-sdk {command} the-message -- true && echo said"') as vm:
        vm.run_until("said", max_vns=VNS_MAX)
        page = vm.read_memory(HYPERCALL_GPA, 4096)
    number, flags, _, length = struct.unpack_from("<BBxxIH", page)
    assert number == {"always": 1, "sometimes": 2}[command]
    assert flags == 1
    assert page[0x19] == 2
    assert page[0x1C:0x20] == bytes(4), "the lock was not given back"
    payload = page[0x20 : 0x20 + length]
    (message_len,) = struct.unpack_from("<H", payload)
    assert payload[2 : 2 + message_len] == b"the-message"
    assert payload[2 + message_len :] == bytes(2)  # no details
