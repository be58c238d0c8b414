"""A toy cluster with the interface of `chaoscontrol.cluster.SimulationController`.

Each machine is a small deterministic program: it works in bursts, halts until a timer, prints lines, echoes what is
typed. Everything that a machine of the engine promises holds for it too: exact stops, complete snapshots, digests in
parts, a console with dated lines, an input queue that can be full. It runs a few hundred thousand instructions a
second, so it suits tests of what is above the engine.
"""

import enum
import hashlib
import struct
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

from chaoscontrol.errors import UsageError
from chaoscontrol.registers import GPR_NAMES, DescriptorTable, Registers, Segment
from chaoscontrol.timetravel.sketch import SKETCH_BYTES, level_of

PAGE_BYTES = 4096
TIMER_NS = 20_000
BURST_INSNS = 120
CHARACTER_NS = 700
QUEUE_BYTES = 64
CODE = bytes.fromhex("554889e54883ec104889c74801d84989c0ff154a3b00000f1f4000c9c3") * 8


class StopKind(enum.Enum):
    INSTRET = 1
    VNS = 2
    CONSOLE = 3
    HALTED = 5
    SHUTDOWN = 6
    TRIPLE_FAULT = 7
    CANCELLED = 9


@dataclass(frozen=True)
class Stop:
    kind: StopKind
    instret: int
    vns: int
    detail: int = 0


@dataclass(frozen=True)
class Mark:
    offset: int
    vns: int
    instret: int


@dataclass(frozen=True)
class MachineConfig:
    memory_bytes: int = 4 * PAGE_BYTES
    has_agent_channel: bool = False
    machine_id: int = 0


@dataclass
class _State:
    """Everything that a snapshot holds."""

    seed: int
    instret: int = 0
    vns: int = 0
    mix: int = 0
    work_left: int = BURST_INSNS
    timer_ns: int = TIMER_NS
    halted: bool = False
    lines: int = 0
    sending: bytes = b""
    typed: bytes = b""
    queue: tuple[tuple[int, int], ...] = ()
    dead: str = ""
    total: int = 0
    last_sent: int = 0x0A
    pages: tuple[bytes, ...] = field(default_factory=lambda: tuple(bytes(PAGE_BYTES) for _ in range(4)))


def _hash(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


class ToyVm:
    """One machine. `ns_per_insn` as in the engine."""

    def __init__(self, number: int, seed: int, ns_per_insn: int = 1, lines_max: int = 1 << 30) -> None:
        self.config = MachineConfig(machine_id=number)
        self.ns_per_insn = ns_per_insn
        self.lines_max = lines_max
        self._cancel = threading.Event()
        self._out = bytearray()
        self._marks: list[Mark] = []
        self._log: list[str] = []
        self.instructions_run = 0
        """Work really done, replays included."""
        self.slowness_s = 0.0
        """Host seconds per thousand instructions, to make progress visible."""
        self.state = _State(seed=seed)
        self._say(b"toy machine %d, seed %d\r\n" % (number, seed))

    # ---- the program -----------------------------------------------------------------------------------------------

    def _say(self, line: bytes) -> None:
        self.state.sending += line

    def _interrupts(self) -> None:
        state = self.state
        while state.queue and state.queue[0][0] <= state.vns:
            byte = state.queue[0][1]
            state.queue = state.queue[1:]
            state.halted = False
            state.work_left = max(state.work_left, 30)
            self._typed(byte)
        if state.vns >= state.timer_ns:
            state.timer_ns = (state.vns // TIMER_NS + 1) * TIMER_NS
            state.halted = False
            state.work_left = max(state.work_left, BURST_INSNS)
            state.lines += 1
            if state.lines % 3 == 0 and state.lines <= self.lines_max:
                self._say(b"[%8d] beat %d mix %04x\r\n" % (state.vns, state.lines, state.mix & 0xFFFF))

    def _typed(self, byte: int) -> None:
        state = self.state
        if byte in b"\r\n":
            line, state.typed = state.typed, b""
            self._say(b"\r\n")
            if line == b"off":
                self._say(b"going down\r\n")
                state.dead = "SHUTDOWN"
            elif line == b"crash":
                state.dead = "TRIPLE_FAULT"
            elif line:
                self._say(b"you said %s\r\n" % line)
            return
        state.typed += bytes([byte])
        self._say(bytes([byte]))

    def _execute(self) -> int | None:
        """One instruction; the byte that it sent, if any."""
        state = self.state
        state.instret += 1
        self.instructions_run += 1
        sent_at = state.vns
        state.vns += self.ns_per_insn
        state.mix = (state.mix * 6364136223846793005 + state.seed + state.instret) & (1 << 64) - 1
        if state.instret % 50 == 0:
            page = state.mix >> 60 & 3
            data = bytearray(state.pages[page])
            data[state.mix >> 32 & 0xFFF] = state.mix & 0xFF
            state.pages = (*state.pages[:page], bytes(data), *state.pages[page + 1 :])
        if state.sending and state.instret % 2:
            byte, state.sending = state.sending[0], state.sending[1:]
            if state.last_sent == 0x0A or (state.last_sent == 0x0D and byte != 0x0A):
                self._marks.append(Mark(state.total, sent_at, state.instret - 1))
            state.last_sent = byte
            state.total += 1
            self._out.append(byte)
            return byte
        if not state.sending:
            state.work_left -= 1
            state.halted = state.work_left <= 0
        return None

    # ---- the engine's interface ------------------------------------------------------------------------------------

    @property
    def instret(self) -> int:
        return self.state.instret

    @property
    def vns(self) -> int:
        return self.state.vns

    @property
    def has_network(self) -> bool:
        return False

    @property
    def console_total(self) -> int:
        return self.state.total

    def _stop(self, kind: str, detail: int = 0) -> Stop:
        return Stop(StopKind[kind], self.state.instret, self.state.vns, detail)

    def run(self, *, instret: int | None = None, vns: int | None = None, console: bytes | str | None = None) -> Stop:
        pattern = console.encode() if isinstance(console, str) else console
        seen, state = bytearray(), self.state
        while True:
            if state.dead and not state.sending:
                return self._stop(state.dead, 7 if state.dead == "SHUTDOWN" else 0)
            if instret is not None and state.instret >= instret:
                return self._stop("INSTRET")
            if vns is not None and state.vns >= vns:
                return self._stop("VNS")
            if self._cancel.is_set():
                self._cancel.clear()
                return self._stop("CANCELLED")
            self._interrupts()
            if state.dead and not state.sending:
                continue
            if state.halted and not state.sending:
                wake = min([state.timer_ns, *(at for at, _ in state.queue[:1])])
                state.vns = wake if vns is None else min(wake, vns)
                continue
            if self.slowness_s and state.instret % 1000 == 0:
                time.sleep(self.slowness_s)
            byte = self._execute()
            if pattern is not None and byte is not None:
                seen.append(byte)
                if seen.endswith(pattern):
                    return self._stop("CONSOLE")

    def cancel(self) -> None:
        self._cancel.set()

    def console_input(self, data: bytes) -> int:
        state = self.state
        accepted = data[: QUEUE_BYTES - len(state.queue)]
        for byte in accepted:
            last = max([state.vns, *(at for at, _ in state.queue[-1:])])
            state.queue = (*state.queue, (last + CHARACTER_NS, byte))
        return len(accepted)

    def agent_send(self, data: bytes) -> int:
        return 0

    def take_serial_bytes(self) -> bytes:
        out = bytes(self._out)
        self._out.clear()
        return out

    def take_console_marks(self) -> list[Mark]:
        marks, self._marks = self._marks, []
        return marks

    def take_log(self) -> list[str]:
        log, self._log = self._log, []
        return log

    def note(self, line: str) -> None:
        """Log a line, as the engine does for what it does not know."""
        self._log.append(line)

    def digest(self) -> str:
        return _hash(self.cpu_digest(), self.device_digest(), *map(self.page_digest, range(4)))

    def cpu_digest(self) -> str:
        return _hash(self.state.instret, self.state.mix, self.state.work_left, self.state.halted)

    def device_digest(self) -> str:
        state = self.state
        return _hash(
            state.vns,
            state.timer_ns,
            state.lines,
            state.sending,
            state.typed,
            state.queue,
            state.dead,
            state.total,
            state.last_sent,
        )

    def page_digest(self, page: int) -> str:
        return _hash(self.state.pages[page])

    def page_area(self, page: int) -> tuple[str, int]:
        return "memory", page

    @property
    def page_count(self) -> int:
        return 4

    def page_sketch(self) -> bytes:
        sums = [0] * (SKETCH_BYTES // 4)
        for page in range(4):
            value = int(self.page_digest(page)[:8], 16)
            for table in range(3):
                at = 2 * (table * 12 + level_of(page, table))
                sums[at] = (sums[at] + value) % (1 << 32)
                sums[at + 1] = (sums[at + 1] + value * (page + 1)) % (1 << 32)
        return struct.pack(f"<{len(sums)}I", *sums)

    def registers_bytes(self) -> bytes:
        return self.registers().pack()

    def snapshot(self) -> _State:
        return replace(self.state)

    def restore(self, snapshot: _State) -> None:
        self.state = replace(snapshot)
        self._out.clear()
        self._marks.clear()

    # ---- looking ----------------------------------------------------------------------------------------------------

    def registers(self) -> Registers:
        state, flat = self.state, Segment(0x10, 0, 0xFFFFFFFF, 0xA09B)
        values: dict[str, Any] = {name: (state.mix * (at + 3)) & (1 << 64) - 1 for at, name in enumerate(GPR_NAMES)}
        names = (
            "cr0",
            "cr2",
            "cr3",
            "cr4",
            "cr8",
            "efer",
            "star",
            "lstar",
            "cstar",
            "sfmask",
            "kernel_gs_base",
            "sysenter_cs",
            "sysenter_esp",
            "sysenter_eip",
            "pat",
            "tsc_aux",
            "misc_enable",
            "tsc_offset",
            "fcw",
            "fsw",
            "ftw",
            "fop",
            "fip",
            "fdp",
            "mxcsr",
            "shadow",
            "nmi_blocked",
            "nmi_pending",
        )
        return Registers(
            **values, **dict.fromkeys(names, 0),
            **dict.fromkeys(("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"), flat),
            rip=0xFFFFFFFF81000000 + state.instret % 96, rflags=0x246, halted=int(state.halted),
            gdtr=DescriptorTable(0x500, 0x1F), idtr=DescriptorTable(0x520, 0xFFF),
            dr=(0,) * 8, st=(0,) * 8, xmm=(0,) * 16,
        )  # fmt: skip

    def read_memory(self, address: int, size: int, *, virtual: bool = False) -> bytes:
        if virtual:
            start = address - 0xFFFFFFFF81000000
            return CODE[start : start + size]
        return b"".join(self.state.pages)[address : address + size]


@dataclass(frozen=True)
class ToyConfig:
    quantum_ns: int = 10_000


class ToyStore:
    """Counts snapshots as if each held a page."""

    def __init__(self) -> None:
        self.held: set[int] = set()

    @property
    def bytes_held(self) -> int:
        return len(self.held) * PAGE_BYTES


class ToySnapshot:
    def __init__(self, store: ToyStore, machines: list[_State], vns: int) -> None:
        self.machines = machines
        self.vns = vns
        self._store = store
        store.held.add(id(self))

    def close(self) -> None:
        assert id(self) in self._store.held, "closed twice"
        self._store.held.discard(id(self))


class ToyCluster:
    """`count` machines whose seeds follow from `seed`."""

    def __init__(self, count: int = 2, *, seed: int = 1, quantum_ns: int = 10_000, **options: Any) -> None:
        self.config = ToyConfig(quantum_ns)
        self.store = ToyStore()
        self.vms = [ToyVm(number, seed * 1000 + number, **options) for number in range(count)]
        self._vns = 0
        self._cancelled = threading.Event()

    def run_to_vns(self, vns: int) -> bool:
        assert vns >= self._vns, "a cluster goes forward"
        for vm in self.vms:
            while not self._cancelled.is_set() and vm.run(vns=vns).kind is StopKind.CANCELLED:
                pass
        if self._cancelled.is_set():
            self._cancelled.clear()
            return False
        self._vns = vns
        return True

    def run_until(self, vns, *, machine, instret=None, console=None) -> Stop:
        vm = self.vms[machine]
        stop = vm.run(vns=vns, instret=instret, console=console)
        end = vns if stop.kind is StopKind.VNS or self.has_ended(machine) else min(vns, vm.vns)
        if stop.kind is StopKind.CANCELLED:
            return stop
        while not self.run_to_vns(max(end, self._vns)):
            if self._cancelled.is_set():
                return vm._stop("CANCELLED")
        return stop

    def has_ended(self, i: int) -> bool:
        state = self.vms[i].state
        return bool(state.dead) and not state.sending

    waits_for_setup = False

    def begin_due_faults(self) -> None:
        pass

    def next_fault_ns(self) -> int | None:
        return None

    def network_digest(self) -> str:
        return _hash(self._vns)

    def inject(self, fault, *, duration_ns=None) -> None:
        raise UsageError(f"toy machines have no {fault.kind()}")

    def set_schedule(self, schedule) -> None:
        raise UsageError("toy machines have no faults")

    def edit_packet(self, packet, edit) -> None:
        raise UsageError(f"{packet} is not in flight: toy machines have no network")

    def reseed(self, branch_seed: int) -> None:
        for vm in self.vms:
            vm.state.seed = branch_seed

    def snapshot_all(self) -> ToySnapshot:
        return ToySnapshot(self.store, [vm.snapshot() for vm in self.vms], self._vns)

    def restore_all(self, snapshot: ToySnapshot) -> None:
        assert id(snapshot) in self.store.held, "restored after it was closed"
        for vm, state in zip(self.vms, snapshot.machines, strict=True):
            vm.restore(state)
        self._vns = snapshot.vns

    def cancel(self) -> None:
        self._cancelled.set()
        for vm in self.vms:
            vm.cancel()

    def close(self) -> None:
        pass


__all__ = ["Mark", "Stop", "StopKind", "ToyCluster", "ToyVm"]
