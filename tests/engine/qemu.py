"""Runs a system guest under QEMU (TCG) and reads its end state through the gdb stub.

The machine starts in a 64 KiB BIOS of our own that enters protected mode and jumps to a loader in low memory, which
establishes exactly the state in which the soft CPU starts the same guest.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import socket
import struct
import subprocess
import tempfile
from pathlib import Path

from flat_guests import assemble
from system_guest import (
    CODE,
    FINISH,
    GDT,
    IDT,
    KEPT,
    LOG,
    LOG_END,
    STACK,
    TABLES,
    TSS_SEL,
    VARS,
    Guest,
    Outcome,
    parse_log,
)

BINARY = "qemu-system-x86_64"
LOADER = 0xC00
TIMEOUT_S = 60
CPU = "max,-la57,-x2apic"


@functools.cache
def _bios() -> bytes:
    """Real-mode code at 0xF0000, reset vector at 0xFFFF0: to protected mode with the guest's GDT."""
    code = bytes.fromhex(
        "fa"  # cli
        "662e0f01160000"  # lgdtd cs:[end of the code], filled in below
        "0f20c0 0c01 0f22c0"  # CR0.PE = 1
        "66ea"  # ljmpl 0x08:LOADER
    ) + struct.pack("<IH", LOADER, 8)
    code = code[:6] + struct.pack("<H", len(code)) + code[8:] + struct.pack("<HI", 0xFF, GDT)
    return code.ljust(0xFFF0, b"\xf4") + b"\xe9\x0d\x00" + bytes(13)


def _loader(guest: Guest) -> bytes:
    """32-bit code at LOADER: tables, EFER, paging, then 64-bit code: IDT, TR, registers."""
    names = ("rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi", *(f"r{i}" for i in range(8, 16)))
    loads = "\n".join(f"mov {name}, {guest.registers.get(name, 0):#x}" for name in names)
    text = f"""
        .code32
        mov ax, 0x18
        mov ds, eax
        mov es, eax
        mov fs, eax
        mov gs, eax
        mov ss, eax
        mov eax, {guest.cr4:#x}
        mov cr4, eax
        mov ecx, 0xc0000080
        mov eax, {guest.efer & ~0x400:#x}
        xor edx, edx
        wrmsr
        mov eax, {TABLES:#x}
        mov cr3, eax
        mov eax, {guest.cr0:#x}
        mov cr0, eax
        .byte 0xea
        .long {LOADER} + 0x60
        .word 0x10
        .org 0x60
        .code64
        lidt [rip + idt_pointer]
        mov eax, {TSS_SEL}
        ltr ax
        fninit
        mov rsp, {guest.registers.get("rsp", STACK):#x}
        push 2
        popfq
        {loads}
        jmp qword ptr [rip + entry]
    idt_pointer:
        .word 0xfff
        .quad {IDT}
    entry:
        .quad {CODE}
    """
    return assemble(text)


class GdbClient:
    """As much of the gdb remote protocol as is needed: breakpoints, continue, registers, memory."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect(path)
        self.buffer = b""

    def close(self) -> None:
        self.socket.close()

    def _byte(self) -> bytes:
        while not self.buffer:
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionError("QEMU closed the gdb connection")
            self.buffer = data
        first, self.buffer = self.buffer[:1], self.buffer[1:]
        return first

    def receive(self) -> str:
        """The payload of the next packet, acknowledged."""
        while self._byte() != b"$":
            pass
        payload = b""
        while (b := self._byte()) != b"#":
            payload += b
        self._byte()
        self._byte()
        self.socket.sendall(b"+")
        return payload.decode("latin-1")

    def command(self, text: str) -> str:
        raw = text.encode()
        self.socket.sendall(b"$" + raw + b"#" + f"{sum(raw) & 0xFF:02x}".encode())
        return self.receive()

    def memory(self, address: int, size: int) -> bytes:
        out = b""
        while len(out) < size:
            chunk = min(1024, size - len(out))
            reply = self.command(f"m{address + len(out):x},{chunk:x}")
            assert not reply.startswith("E"), f"QEMU cannot read {address + len(out):#x}: {reply}"
            out += bytes.fromhex(reply)
        return out

    def registers(self) -> dict[str, int]:
        """General registers, RIP and RFLAGS: the first 140 bytes of gdb's amd64 layout."""
        raw = bytes.fromhex(self.command("g")[:280])
        names = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{i}" for i in range(8, 16)), "rip")
        values = dict(zip(names, struct.unpack_from("<17Q", raw), strict=True))
        values["rflags"] = struct.unpack_from("<I", raw, 136)[0]
        return values


def run(guest: Guest) -> Outcome:
    """Run to FINISH under QEMU. Raises AssertionError with QEMU's words where it cannot."""
    binary = shutil.which(BINARY)
    assert binary, f"{BINARY} is not installed, and these tests compare with it (Debian: apt install qemu-system-x86)"
    with tempfile.TemporaryDirectory(prefix="cc-qemu-") as tmp:
        directory = Path(tmp)
        (directory / "bios").write_bytes(_bios())
        # one file per page range: the loader device writes each at reset
        image: dict[int, bytearray] = {}
        for address, data in [*guest.image(), (LOADER, _loader(guest))]:
            offset = 0
            while offset < len(data):
                page = (address + offset) & ~0xFFF
                at = address + offset - page
                part = data[offset : offset + 4096 - at]
                image.setdefault(page, bytearray(4096))[at : at + len(part)] = part
                offset += len(part)
        runs: list[tuple[int, bytearray]] = []
        for page in sorted(image):
            if runs and runs[-1][0] + len(runs[-1][1]) == page:
                runs[-1][1].extend(image[page])
            else:
                runs.append((page, bytearray(image[page])))
        command = [
            binary, "-accel", "tcg", "-machine", "pc", "-cpu", CPU, "-m", "64", "-nodefaults", "-display", "none",
            "-no-reboot", "-bios", str(directory / "bios"), "-S", "-gdb", f"unix:{directory / 'gdb'},server=on,wait=off",
        ]  # fmt: skip
        for address, data in runs:
            name = directory / f"{address:x}"
            name.write_bytes(data)
            command += ["-device", f"loader,file={name},addr={address:#x},force-raw=on"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            try:
                return _drive(str(directory / "gdb"), process)
            finally:
                process.kill()


def _drive(path: str, process: subprocess.Popen[str]) -> Outcome:
    for _ in range(TIMEOUT_S * 50):
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            client = GdbClient(path)
            break
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
            assert process.stderr is not None
            raise AssertionError(f"QEMU ended with {process.returncode}: {process.stderr.read().strip()}")
    else:
        raise AssertionError("QEMU does not open its gdb socket")
    try:
        client.command("qSupported")
        assert client.command(f"Z1,{FINISH:x},1") == "OK"
        reply = client.command("c")
        assert reply.startswith(("T05", "S05")), f"QEMU stopped with {reply}"
        registers = client.registers()
        assert registers["rip"] == FINISH, f"QEMU stopped at {registers['rip']:#x}"
        end = struct.unpack("<Q", client.memory(VARS + 24, 8))[0]
        log = client.memory(LOG, max(0, min(end, LOG_END) - LOG))
        kept = {address: client.memory(address, size) for address, size in KEPT}
        return Outcome(parse_log(log, end), registers, kept)
    finally:
        client.close()
