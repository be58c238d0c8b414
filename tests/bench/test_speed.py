"""Guest instructions per second of CPU time, engine only: kernel boot, Linux user code, and loops in flat guests.

A second is one of this process's CPU time in vm.run(), nothing around it. An iteration of a REP string instruction
counts as one instruction and goes by pages, so REP loops are shown apart: their rate says nothing of other code.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from engine.flat_guests import start
from figures import clocked, median, show_table

from chaoscontrol import DeterministicVm, image_path

ROUNDS = int(os.environ.get("CC_BENCH_ROUNDS", "7"))
LOOP_INSNS = 100_000_000
LINE = "hello from cc-tui guest"

MIXED = """
    # 13 or 14 instructions a turn: arithmetic, two loads, two stores, a branch that is taken every second time.
    mov rbx, 0x200000
    mov r8, 0x9e3779b97f4a7c15
    xor eax, eax
1:  mov rcx, [rbx + rax * 8]
    add rcx, r8
    mov [rbx + rax * 8], rcx
    mov rdx, rcx
    shr rdx, 7
    xor r9, rdx
    mov esi, [rbx + rax * 8 + 2048]
    lea rdi, [rsi + rdx * 4]
    mov [rbx + rax * 8 + 4096], edi
    inc eax
    and eax, 255
    test al, 1
    jz 1b
    jmp 1b
"""
ALU = """
    # 8 instructions a turn on registers only.
    mov rax, 1
1:  mov rdx, rax
    shr rdx, 12
    xor rax, rdx
    lea rcx, [rax + rax * 4]
    add rbx, rcx
    rol rax, 25
    dec rsi
    jnz 1b
    jmp 1b
"""
COPY = """
    # 64 KiB by 32 bytes and 12 instructions a turn: loads, stores, two additions, a comparison, a branch.
2:  mov rsi, 0x200000
    mov rdi, 0x300000
    lea r9, [rsi + 0x10000]
1:  mov rax, [rsi]
    mov rbx, [rsi + 8]
    mov rcx, [rsi + 16]
    mov rdx, [rsi + 24]
    mov [rdi], rax
    mov [rdi + 8], rbx
    mov [rdi + 16], rcx
    mov [rdi + 24], rdx
    add rsi, 32
    add rdi, 32
    cmp rsi, r9
    jne 1b
    jmp 2b
"""
CALLS = """
    # Fibonacci by recursion: calls, returns, pushes and pops.
2:  mov edi, 20
    call fib
    jmp 2b
fib:
    cmp edi, 2
    jb 1f
    push rbx
    mov ebx, edi
    lea edi, [rbx - 1]
    call fib
    lea edi, [rbx - 2]
    mov ebx, eax
    call fib
    add eax, ebx
    pop rbx
    ret
1:  mov eax, edi
    ret
"""
REP_MOVSQ = """
2:  mov rsi, 0x200000
    mov rdi, 0x300000
    mov ecx, 8192
    rep movsq
    jmp 2b
"""
SSE = """
    # 8 instructions a turn: double arithmetic in XMM registers and memory.
    mov rbx, 0x200000
    mov eax, 3
    cvtsi2sd xmm0, rax
    sqrtsd xmm1, xmm0
1:  movsd xmm2, [rbx]
    mulsd xmm2, xmm1
    addsd xmm2, xmm0
    divsd xmm2, xmm0
    movsd [rbx], xmm2
    movapd xmm3, xmm2
    dec rsi
    jnz 1b
    jmp 1b
"""
LOOPS = {
    "mixed ALU, load, store, branch": MIXED,
    "ALU on registers": ALU,
    "memcpy by 32 bytes": COPY,
    "calls and returns": CALLS,
    "SSE2 double": SSE,
}


def row(name: str, rates: list[float]) -> tuple[str, str, str, str]:
    return (name, *(f"{value / 1e6:.0f}" for value in (median(rates), min(rates), max(rates))))


def loop_rates(text: str) -> list[float]:
    """Instructions per second of a flat guest that loops for ever, warm."""
    with start(text) as vm:
        vm.step(1_000_000)
        return [LOOP_INSNS / clocked(lambda: vm.step(LOOP_INSNS))[0] for _ in range(ROUNDS)]


def boot_rates() -> list[float]:
    """Kernel to the first line; the code cache is cold each time."""
    rates: list[float] = []
    for _ in range(ROUNDS):
        with DeterministicVm() as vm:
            vm.load_kernel(image_path("vmlinux"), image_path("hello"))
            cpu_s, _ = clocked(lambda: vm.run(console=LINE))
            rates.append(vm.instret / cpu_s)
    return rates


def spin_rates() -> list[float]:
    """`spin 10`: xorshift64* in C under Linux, timer ticks included."""
    rates: list[float] = []
    with DeterministicVm() as vm:
        vm.load_kernel(image_path("vmlinux"), image_path("hello"))
        vm.run_until("guest> ")
        for _ in range(ROUNDS):
            vm.console_input("spin 10\r")
            begun = vm.instret
            cpu_s, _ = clocked(lambda: vm.run(console="million rounds"))
            rates.append((vm.instret - begun) / cpu_s)
    return rates


def test_speed() -> None:
    boot, spin = boot_rates(), spin_rates()
    loops = {name: loop_rates(text) for name, text in LOOPS.items()}
    rows = [row("kernel boot to the first line", boot), row("hello: spin 10 under Linux", spin)]
    rows += [row(f"loop: {name}", rates) for name, rates in loops.items()]
    rows.append(row("loop: REP MOVSQ, iterations", loop_rates(REP_MOVSQ)))
    heads = ("million guest instructions per CPU second", "median", "least", "most")
    show_table(f"Speed, {ROUNDS} rounds", heads, rows)


PROFILED = f"""
from chaoscontrol import DeterministicVm, image_path
for _ in range(20):
    with DeterministicVm() as vm:
        vm.load_kernel(image_path("vmlinux"), image_path("hello"))
        vm.run(console={LINE!r})
"""
SYMBOLS_SHOWN = 25


def test_where_the_time_goes(tmp_path: Path) -> None:
    """Functions by their share of user time in 20 boots, images included. perf sees tail-called handlers by name."""
    data = str(tmp_path / "perf.data")
    record = ["perf", "record", "-q", "-e", "task-clock:u", "-o", data, sys.executable, "-c", PROFILED]
    try:
        done = subprocess.run(record, capture_output=True, text=True, timeout=300, check=False)
    except FileNotFoundError:
        pytest.skip("needs perf (Debian: apt install linux-perf)")
    if done.returncode:
        pytest.skip(f"perf cannot record here: {done.stderr.strip()[:200]}")
    report = ["perf", "report", "--stdio", "-q", "-i", data, "--no-children", "-F", "overhead,dso,symbol"]
    text = subprocess.run(report, capture_output=True, text=True, timeout=300, check=False).stdout
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    print("\nWhere 20 boots spend their time: share, object, function")
    print("\n".join(lines[:SYMBOLS_SHOWN]))
    assert lines
