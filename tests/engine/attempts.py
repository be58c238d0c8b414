"""Guests that try many instructions in turn, each with its outcome: the exception that it raised, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import qemu
from system_guest import DATA, RESUME, UCODE, Guest, Outcome, Trap, gate, stub

BOUNDS, STARTS = DATA + 0x8000, DATA + 0xA000
"""Log positions before each attempt, and addresses of the attempted instructions."""
USER_SLOT = 128
FELL_THROUGH = 0x81
"""The software interrupt by which a user attempt that raised nothing returns."""


@dataclass(frozen=True)
class Deviates:
    """QEMU 7.2 does not do what the SDM says; `because` tells what it does instead."""

    wanted: int | tuple[int, int] | None
    because: str


Expectation = int | tuple[int, int] | Deviates | None
"""Nothing, a vector, or a vector and its error code."""


@dataclass(frozen=True)
class Result:
    """What one attempt raised. `offset`: RIP in the frame, from the attempted instruction."""

    text: str
    trap: Trap | None
    offset: int
    traps: tuple[Trap, ...]

    @property
    def vector(self) -> int | None:
        return self.trap.vector if self.trap else None

    def __str__(self) -> str:
        if self.trap is None:
            return f"{self.text!r} -> nothing"
        return f"{self.text!r} -> vector {self.trap.vector} error {self.trap.error:#x} offset {self.offset}"


def split(attempt: str) -> tuple[str, str]:
    """An attempt is "instruction", or "preparation || instruction"."""
    setup, _, instruction = attempt.rpartition("||")
    return setup.strip(), instruction.strip()


def guest(
    attempts: Sequence[str], *, user: bool = False, prologue: str = "", flags: int = 0x202, **options: Any
) -> Guest:
    """A guest that tries each. `prologue` runs once, at CPL 0; `flags`: RFLAGS in user mode."""
    kernel = [prologue]
    slots: list[str] = []
    for i, attempt in enumerate(attempts):
        setup, instruction = split(attempt)
        kernel.append(f"mov rax, qword ptr [log_next]\n mov qword ptr [{BOUNDS + 8 * i}], rax\n RESUME_AT after_{i}")
        if user:
            kernel.append(f"TO_USER {UCODE + i * USER_SLOT}, {flags}")
            slots.append(f".org {i * USER_SLOT}\n {setup}\nat_{i}:\n {instruction}\n int {FELL_THROUGH}")
        else:
            kernel.append(f"lea rax, [rip + at_{i}]\n mov qword ptr [{STARTS + 8 * i}], rax\n xor eax, eax\n {setup}")
            kernel.append(f"at_{i}:\n {instruction}")
            # a trap (INT n) pushes the address behind, which is here
        kernel.append(f"after_{i}:\n mov rsp, qword ptr [resume_rsp]\n mov ax, 0x18\n mov ss, ax")
    kernel.append(f"mov rax, qword ptr [log_next]\n mov qword ptr [{BOUNDS + 8 * len(attempts)}], rax\n FINISH")
    policies = dict.fromkeys(range(256), RESUME) | options.pop("policies", {})
    if user:
        # the addresses of the instructions are known only to the assembler: a table of offsets at the end
        slots.append(f".org {len(attempts) * USER_SLOT}\nfirst:")
        slots += [
            f".long at_{i} - {i * USER_SLOT} - (first - {len(attempts) * USER_SLOT})" for i in range(len(attempts))
        ]
    # a known stack, whatever the attempt has done to RSP
    gates = {v: gate(stub(v), ist=1, dpl=3 if v in (3, 4) else 0) for v in range(32)} | options.pop("gates", {})
    return Guest("\n".join(kernel), "\n".join(slots), policies=policies, gates=gates, **options)


def results(attempts: Sequence[str], outcome: Outcome, *, user: bool = False) -> list[Result]:
    """The outcome of each attempt, in order."""
    assert outcome.gpr["rip"], "the guest ended"
    bounds = [outcome.u64(BOUNDS + 8 * i) for i in range(len(attempts) + 1)]
    first = bounds[0]
    found: list[Result] = []
    for i, attempt in enumerate(attempts):
        traps = tuple(outcome.traps[(bounds[i] - first) // 96 : (bounds[i + 1] - first) // 96])
        trap = traps[0] if traps else None
        if user:
            if trap is not None and trap.vector == FELL_THROUGH:
                trap = None
            offset = 0 if trap is None else trap.rip - (UCODE + i * USER_SLOT)
        else:
            offset = 0 if trap is None else trap.rip - outcome.u64(STARTS + 8 * i)
        found.append(Result(attempt, trap, offset, traps))
    return found


def expect(attempts: Sequence[tuple[str, Expectation]], run: Any, *, user: bool = False, **options: Any) -> None:
    """Try each and compare: None nothing, a vector, or (vector, error code). The frame must point at the instruction."""
    texts = [text for text, _ in attempts]
    found = results(texts, run(guest(texts, user=user, **options)), user=user)
    wrong: list[str] = []
    for result, (_, wanted) in zip(found, attempts, strict=True):
        if isinstance(wanted, Deviates):
            if run is qemu.run:
                continue
            wanted = wanted.wanted
        vector, error = wanted if isinstance(wanted, tuple) else (wanted, None)
        if run is qemu.run and error is not None and error & 2 and vector in (11, 13):
            error = (error & ~7) << 1 | error & 7  # QEMU 7.2 reports vector * 16 for gates of the IDT
        ok = result.vector == vector and (error is None or (result.trap is not None and result.trap.error == error))
        software = split(result.text)[1].startswith("int") or vector in (1, 3)
        if result.trap is not None and not user and not software and result.offset != 0:
            ok = False
        if not ok:
            wrong.append(f"{result}, expected {wanted}")
    assert not wrong, "\n".join(wrong)
