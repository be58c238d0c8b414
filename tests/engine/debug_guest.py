"""A guest whose every access to memory is known, and the log of them that single-stepping gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from flat_guests import MIB, TIMER, assemble

from chaoscontrol import DeterministicVm, SimulationConfig, SimulationController, VmConfig
from chaoscontrol.debug import Debugger
from chaoscontrol.registers import Registers
from chaoscontrol.timetravel import Multiverse

CONFIG = VmConfig(memory_bytes=8 * MIB)
CODE = 0x100000
VARIABLE, SUM, ARGUMENT, TEXT, COPY = 0x200000, 0x200008, 0x200010, 0x200100, 0x200200
READ, WRITE = "read", "write"

MAIN, STORE, LOAD, CALL, AFTER_CALL = (CODE + at for at in (0x20, 0x30, 0x40, 0x50, 0x60))
FILL, ADD, MOVE, FUNCTION, SAVE, RETURN = (CODE + at for at in (0x70, 0x80, 0xA0, 0x100, 0x110, 0x130))

GUEST = """
    mov rbx, 0x200000
    xor eax, eax
    cld
.org 0x20, 0x90
main:
    inc rax
.org 0x30, 0x90
    mov [rbx], rax
.org 0x40, 0x90
    mov rcx, [rbx]
.org 0x50, 0x90
    call function
.org 0x60, 0x90
    lea rdi, [rbx + 0x100]
    mov ecx, 5
.org 0x70, 0x90
    rep stosb
.org 0x80, 0x90
    add qword ptr [rbx + 8], 3
.org 0x90, 0x90
    mov rsi, rbx
    lea rdi, [rbx + 0x200]
.org 0xa0, 0x90
    movsq
.org 0xb0, 0x90
    jmp main
.org 0x100, 0x90
function:
    push rcx
.org 0x110, 0x90
    mov [rbx + 0x10], rcx
.org 0x120, 0x90
    pop rcx
.org 0x130, 0x90
    ret
"""

ACCESSES: dict[int, Callable[[Registers], list[tuple[str, int, int]]]] = {
    STORE: lambda r: [(WRITE, VARIABLE, 8)],
    LOAD: lambda r: [(READ, VARIABLE, 8)],
    CALL: lambda r: [(WRITE, r.rsp - 8, 8)],
    FILL: lambda r: [(WRITE, r.rdi, 1)],
    ADD: lambda r: [(READ, SUM, 8), (WRITE, SUM, 8)],
    MOVE: lambda r: [(READ, r.rsi, 8), (WRITE, r.rdi, 8)],
    FUNCTION: lambda r: [(WRITE, r.rsp - 8, 8)],
    SAVE: lambda r: [(WRITE, ARGUMENT, 8)],
    CODE + 0x120: lambda r: [(READ, r.rsp, 8)],
    RETURN: lambda r: [(READ, r.rsp, 8)],
}
"""What the instruction at an address does to memory, by the registers before it: kind, address, size."""


class Access(NamedTuple):
    """One access, as single-stepping shows it."""

    instret: int
    """Instructions retired with the one that made it: where a watchpoint stops. With 1 ns each it is the time as well."""
    rip: int
    kind: str
    address: int
    size: int


class Log(NamedTuple):
    """Everything that the guest did."""

    rips: list[int]
    """Of instruction number i, which is executed after i have retired."""
    rsps: list[int]
    accesses: list[Access]

    def touching(self, address: int, size: int, *kinds: str) -> list[Access]:
        """Accesses of these kinds that touch these bytes."""
        return [
            access
            for access in self.accesses
            if access.kind in kinds and access.address < address + size and address < access.address + access.size
        ]

    def arrivals(self, address: int) -> list[int]:
        """When the instruction there was about to be executed; the iterations of a REP are one arrival."""
        return [
            at
            for at, rip in enumerate(self.rips)
            if rip == address and not (at and self.rips[at - 1] == rip and rip == FILL)
        ]


def single_step(insns: int) -> Log:
    """Runs the guest alone, one instruction at a time."""
    log = Log([], [], [])
    with DeterministicVm(CONFIG) as vm:
        vm.load_flat(assemble(GUEST))
        for at in range(insns):
            registers = vm.registers()
            log.rips.append(registers.rip)
            log.rsps.append(registers.rsp)
            for kind, address, size in ACCESSES.get(registers.rip, lambda _: [])(registers):
                log.accesses.append(Access(at + 1, registers.rip, kind, address, size))
            vm.step()
    return log


def make_debugger(*, keyframe_insns: int = 2_000_000, end_vns: int = 0) -> Debugger:
    """Machine 0 runs the guest, machine 1 one with timer interrupts; known up to `end_vns`."""
    cluster = SimulationController(SimulationConfig(num_vms=2, vm_config=CONFIG, quantum_ns=5_000, threads=1))
    cluster.vms[0].load_flat(assemble(GUEST))
    cluster.vms[1].load_flat(assemble(TIMER))
    multiverse = Multiverse(cluster, keyframe_insns=keyframe_insns)
    multiverse.run_to(end_vns)
    return Debugger(multiverse)


def close(debugger: Debugger) -> None:
    """Frees the machines."""
    debugger.multiverse._driver._cluster.close()  # pyright: ignore[reportPrivateUsage]
