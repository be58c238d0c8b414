"""Flat guests for the tests: assembled from text with the compiler that builds native/, cached by text.

`assemble` takes GNU assembler syntax, Intel flavour, to be run at 0x100000.
"""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from elftools.elf.elffile import ELFFile

from chaoscontrol import DeterministicVm, PageStore, VmConfig

ROOT = Path(__file__).resolve().parents[2]
ORIGIN = 0x100000
MIB = 1 << 20


@functools.cache
def native_build() -> ModuleType:
    """native/build.py as a module."""
    spec = importlib.util.spec_from_file_location("native_build", ROOT / "native" / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("native_build", module)
    spec.loader.exec_module(module)
    return module


@functools.cache
def assemble(text: str) -> bytes:
    """Machine code of an assembler text; every reference must be to the text itself."""
    compiler = native_build().find_compiler()
    with tempfile.TemporaryDirectory() as tmp:
        source, out = Path(tmp) / "guest.s", Path(tmp) / "guest.o"
        source.write_text(f".intel_syntax noprefix\n.text\n{text}\n")
        done = subprocess.run(
            [*compiler.command, "-c", str(source), "-o", str(out)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        with out.open("rb") as f:
            elf = ELFFile(f)
            relocations = elf.get_section_by_name(".rela.text")
            assert relocations is None or relocations.num_relocations() == 0, "the guest refers outside itself"
            return elf.get_section_by_name(".text").data()


def start(
    text: str, *, store: PageStore | None = None, memory_bytes: int = 16 * MIB, **config: object
) -> DeterministicVm:
    """A machine about to execute an assembler text."""
    vm = DeterministicVm(VmConfig(memory_bytes=memory_bytes, **config), store=store)  # type: ignore[arg-type]
    vm.load_flat(assemble(text))
    return vm


PRINT = """
    mov dx, 0x3f8
    lea rsi, [rip + message]
1:  lodsb
    test al, al
    jz 2f
    out dx, al
    jmp 1b
2:
"""
"""Sends the zero-terminated text at `message` to COM1."""

COUNTER = """
    # Works for ever on registers and memory, with string instructions and stores all over 64 KiB.
    mov rbx, 0x200000
    xor eax, eax
1:  inc rax
    imul rcx, rax, 0x10001
    and ecx, 0xfff8
    mov [rbx + rcx], rax
    lea rdi, [rbx + 0x20000]
    mov ecx, 37
    rep stosq
    lea rsi, [rbx + 0x20000]
    lea rdi, [rbx + 0x30000]
    mov ecx, 100
    rep movsb
    jmp 1b
"""

PATCHER = """
    # Writes to an instruction from afar, then right before it, entered in turns by RET, by a jump and by falling through.
    lea rsi, [rip + body]
    mov r8, 1
1:  imul eax, eax, 1103515245
    add eax, 12345
    inc rcx
    mov dword ptr [rip + patched + 1], ecx
    test cl, 3
    jz body
    test cl, 1
    jz 2f
    push rsi
    ret
2:  nop
body:
    mov dword ptr [rip + patched + 1], eax
patched:
    mov edx, 0x11111111
    add rbp, rdx
    rol rbp, 7
    jmp 1b
"""

TIMER = """
    # Counts timer interrupts at about 1 kHz while computing or, every other time, while halted.
    lea rax, [rip + handler]
    mov rbx, 0x300000             # IDT
    mov ecx, 0x20 * 16
    mov word ptr [rbx + rcx], ax
    mov word ptr [rbx + rcx + 2], 0x10
    mov byte ptr [rbx + rcx + 4], 0
    mov byte ptr [rbx + rcx + 5], 0x8e
    shr rax, 16
    mov word ptr [rbx + rcx + 6], ax
    mov dword ptr [rbx + rcx + 8], 0
    sub rsp, 16
    mov word ptr [rsp], 0xfff
    mov [rsp + 2], rbx
    lidt [rsp]
    mov al, 0x11                  # PIC: ICW1..4, vectors from 0x20
    out 0x20, al
    mov al, 0x20
    out 0x21, al
    mov al, 4
    out 0x21, al
    mov al, 1
    out 0x21, al
    mov al, 0xfe                  # only IRQ 0
    out 0x21, al
    mov al, 0x34                  # PIT channel 0, rate generator, 1193 clocks
    out 0x43, al
    mov al, 0xa9
    out 0x40, al
    mov al, 4
    out 0x40, al
    xor r15d, r15d
    mov r14, 0x200000
    sti
1:  test r15, 1
    jz 2f
    hlt
    jmp 1b
2:  inc r13
    mov rdi, r14
    mov ecx, 50
    mov rax, r13
    rep stosd
    jmp 1b
handler:
    push rax
    inc r15
    mov [r14 + 0x1000], r15
    mov al, 0x20
    out 0x20, al
    pop rax
    iretq
"""
