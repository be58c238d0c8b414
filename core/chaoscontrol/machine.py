"""DeterministicVm: one machine over the native library.

Owns the lifetime of native objects and the translation of codes into values and exceptions. Promises that a run is a
pure function of its inputs: nothing here reads a clock, a random source or a thread's timing. It knows nothing of
kernels beyond handing them to loader.py, and nothing of clusters.

Times are virtual nanoseconds (vns) or retired instructions (instret); limits are absolute.
"""

from __future__ import annotations

import codecs
import os
import struct

from ._binding import ffi, lib, raise_native
from .config import DEVICES, VmConfig
from .errors import AddressError, EngineError, GuestError, UsageError
from .loader import COVERAGE_GPA
from .machine_faults import MachineFaults
from .machine_pages import MachinePages
from .pagestore import PageStore, Snapshot
from .values import ConsoleMark, Digest, PropertyCounts, RawEvent, Stats, Stop, StopKind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from ._native import CData
    from .disk import Disk
    from .edges import EdgeRecorder
    from .loader import BootFiles
    from .registers import Registers
    from .watches import Watch, WatchHit

NO_LIMIT = (1 << 64) - 1

GDT_GPA, GDT_BYTES = 0x500, 0x20
"""Where native/boot.c puts the GDT that a guest starts with."""

SLICE_INSNS = 1 << 24
"""How often run() comes back to Python, for ctrl+c and on_slice: ten or so times a second. Where the slices end is
invisible to the guest, since a run stops at exactly the asked instruction."""

PATTERN_BYTES_MAX = 255
CONSOLE_CHUNK_BYTES = 1 << 16
EVENT_CHUNK_BYTES = 1 << 16
_EVENT_HEAD = struct.Struct("<QQII")


class DeterministicVm(MachineFaults, MachinePages):
    """One machine: RAM, a vCPU, devices and a console.

    A machine may be used by one thread at a time; calling it while another thread runs it raises EngineError, cancel()
    excepted. Different machines are independent, also when they share a page store.
    """

    def __init__(self, config: VmConfig | None = None, *, store: PageStore | None = None) -> None:
        self.config = config or VmConfig()
        self.store = store or PageStore()
        self._native: CData = None
        self._running = False
        self._cancel_asked = False
        self._loaded = False
        self._until = ffi.new("cc_until *")
        self._stop = ffi.new("cc_stop *")
        self._digest = ffi.new("cc_digest *")
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        out = ffi.new("cc_machine **")
        error = ffi.new("char[512]")
        code = lib.cc_machine_new(_native_config(self.config), self.store.retain_native(), out, error, 512)
        if code != lib.CC_OK:
            self.store.release_native()
            raise_native(code, ffi.string(error).decode())
        self._native = out[0]

    # ---- life ----

    def close(self) -> None:
        """Frees the machine, its snapshots excepted; does nothing the second time."""
        if self._running:
            raise EngineError("the machine is running in another thread", hint="cancel() it first")
        native, self._native = self._native, None
        if native is not None:
            lib.cc_machine_free(native)
            self.store.release_native()

    def __del__(self) -> None:
        if getattr(self, "_native", None) is not None:
            self.close()

    def __enter__(self) -> DeterministicVm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def use_native(self) -> CData:
        """The native machine, for the cluster. Raises EngineError while a run is in progress."""
        return self._use()

    def lend_native(self) -> None:
        """A cluster runs the machine from now until take_back_native()."""
        self._use()
        self._running = True

    def take_back_native(self) -> None:
        """The cluster's run has ended."""
        self._running = False

    def _use(self) -> CData:
        if self._running:
            raise EngineError("the machine is running in another thread", hint="wait for its run to return")
        if self._native is None:
            raise EngineError("the machine is closed")
        return self._native

    def _check(self, code: int) -> None:
        if code != lib.CC_OK:
            raise_native(code, ffi.string(lib.cc_error(self._native)).decode(errors="replace"))

    # ---- guests ----

    def load_kernel(
        self,
        kernel: str | os.PathLike[str] | bytes,
        initrd: str | os.PathLike[str] | bytes | None = None,
        cmdline: str | None = None,
    ) -> None:
        """Places an ELF vmlinux and an initramfs in memory and sets the state of its 64-bit entry point.

        Files may be zstd-compressed. cmdline replaces the configuration's. Raises UsageError for files that cannot be
        booted, and on a machine that has run or been loaded already.
        """
        from . import loader

        self.load_boot_files(loader.read_boot_files(kernel, initrd), cmdline)

    def load_boot_files(self, files: BootFiles, cmdline: str | None = None) -> None:
        """load_kernel() with files that were read and checked once for many machines."""
        from . import loader, random

        native = self._use()
        if self._loaded:
            raise UsageError("the machine has a guest already", hint="create another machine for another kernel")
        line = self.config.cmdline if cmdline is None else cmdline
        line = " ".join((line, *loader.device_words(self.config.virtio_devices)))
        rng_seed = random.Stream(self.config.seed, "guest-kernel-rng").read(32)
        boot = loader.plan_boot(files, line, self.config.memory_bytes, rng_seed)
        for gpa, data in boot.pieces:
            self._check(lib.cc_write_phys(native, gpa, ffi.from_buffer(data), len(data)))
        self._check(lib.cc_enter_long_mode(native, boot.entry, boot.rsi, boot.rsp, boot.tables_gpa))
        self._loaded = True

    def load_flat(
        self,
        image: bytes,
        *,
        gpa: int = 0x100000,
        entry: int | None = None,
        stack: int = 0x8FF0,
        tables: int = 0x9000,
    ) -> None:
        """Places raw 64-bit code at `gpa` and starts it at `entry` (default: gpa) with RSP = `stack`.

        CPL 0; the first 4 GiB identity-mapped (writable, executable, user-accessible) by 6 pages at `tables`; GDT at
        0x500; interrupts off; SSE and x87 on. HLT ends it. May be called again: memory outside the image, and the
        devices, then keep their state. Raises AddressError where something lies outside the memory.
        """
        native = self._use()
        _check_range(gpa, len(image), self.config.memory_bytes)
        for name, at in (("entry", entry), ("stack", stack), ("tables", tables)):
            if at is not None and not 0 <= at < 1 << 64:
                raise UsageError(f"{name} cannot be {at:#x}", hint="give a 64-bit address")
        for what, start, size in (("page tables", tables, 0x6000), ("GDT", GDT_GPA, GDT_BYTES)):
            if gpa < start + size and start < gpa + len(image):
                hint = "move one of them" if start == tables else "move the image"
                raise UsageError(
                    f"the image at {gpa:#x}, {len(image)} bytes, covers the {what} at {start:#x}", hint=hint
                )
        self._check(lib.cc_write_phys(native, gpa, ffi.from_buffer(image), len(image)))
        self._check(lib.cc_enter_long_mode(native, gpa if entry is None else entry, 0, stack, tables))
        self._loaded = True

    # ---- running ----

    def run(
        self,
        *,
        instret: int | None = None,
        vns: int | None = None,
        exits: int | None = None,
        console: bytes | str | None = None,
        hypercall: bool = False,
        coverage: bool = False,
        watch: bool = False,
        on_slice: Callable[[], None] | None = None,
    ) -> Stop:
        """Runs until the first of the absolute limits or the asked events, or until the guest stops by itself.

        console: a literal text of at most 255 bytes, looked for in output sent from now on. watch: stop at what
        set_watches() names; an instruction that the run begins at does not stop it. on_slice is called several times a
        second and may take output or read state. Without limits and events it runs until the guest stops or
        cancel() is called. Raises EngineError if the engine cannot go on.
        """
        native = self._use()
        if console is not None:
            self.set_console_pattern(console)
        until = self._until
        until.vns = run_limit("vns", vns)
        until.exits = run_limit("exits", exits)
        end = run_limit("instret", instret)
        until.stop_at = (
            (lib.CC_AT_CONSOLE if console is not None else 0)
            | (lib.CC_AT_HYPERCALL if hypercall else 0)
            | (lib.CC_AT_COVERAGE if coverage else 0)
            | (lib.CC_AT_WATCH if watch else 0)
        )
        if watch:
            lib.cc_watch_pass(native)
        while True:
            until.instret = min(end, lib.cc_instret(native) + SLICE_INSNS)
            stop = self._run_native(native)
            if stop.kind is StopKind.CANCELLED and not self._cancel_asked:
                continue  # KVM lets go of a guest that does not exit, so that Python can handle ctrl+c
            if stop.kind is StopKind.CANCELLED:
                self._cancel_asked = False
            if stop.kind is not StopKind.INSTRET or stop.instret >= end:
                return stop
            if on_slice is not None:
                on_slice()

    def _run_native(self, native: CData) -> Stop:
        self._running = True
        try:
            code = lib.cc_run(native, self._until, self._stop)
        finally:
            self._running = False
        self._check(code)
        raw = self._stop
        return Stop(StopKind(raw.kind), raw.instret, raw.vns, raw.detail)

    def set_console_pattern(self, pattern: bytes | str) -> None:
        """The literal text of at most 255 bytes that a run may stop at, looked for in output sent from now on."""
        native = self._use()
        data = pattern.encode() if isinstance(pattern, str) else pattern
        if not 1 <= len(data) <= PATTERN_BYTES_MAX:
            raise UsageError(
                f"a console pattern of {len(data)} bytes", hint=f"give 1 to {PATTERN_BYTES_MAX} bytes of literal text"
            )
        self._check(lib.cc_console_pattern(native, data, len(data)))

    def step(self, n: int = 1) -> Stop:
        """Runs n instructions; virtual time that passes while the guest is halted counts none."""
        return self.run(instret=self.instret + n)

    def run_until(self, pattern: bytes | str, *, max_vns: int | None = None) -> str:
        """Runs until the console shows `pattern`; returns the output not taken before, up to and including it.

        max_vns: absolute virtual time at which to give up. Raises GuestError if the run ends otherwise; the output is
        then still to be taken.
        """
        stop = self.run(vns=max_vns, console=pattern)
        if stop.kind is StopKind.CONSOLE:
            return self.take_serial_output()
        shown = pattern if isinstance(pattern, str) else pattern.decode(errors="replace")
        raise GuestError(f"{stop} before it printed {shown!r}", hint="see its console output")

    def run_bounded(self, exits: int) -> tuple[int, bool]:
        """Runs for at most `exits` exits. Returns how many there were, and whether the guest halted for good."""
        start = self.exit_count()
        stop = self.run(exits=start + exits)
        return self.exit_count() - start, stop.kind is StopKind.HALTED

    def cancel(self) -> None:
        """From any thread: the current run, or the next one, returns with CANCELLED within about a millisecond."""
        if self._native is not None:
            self._cancel_asked = True
            lib.cc_cancel(self._native)

    # ---- the moment ----

    @property
    def instret(self) -> int:
        """Instructions retired since the start."""
        return lib.cc_instret(self._use())

    @property
    def vns(self) -> int:
        """Virtual nanoseconds since the start."""
        return lib.cc_vns(self._use())

    def virtual_tsc(self) -> int:
        """What RDTSC would give the guest now."""
        return lib.cc_tsc(self._use())

    def exit_count(self) -> int:
        """Port and MMIO accesses, halts and interrupts since the start."""
        return self.stats().exits

    def stats(self) -> Stats:
        """All counters."""
        raw = ffi.new("cc_stats *")
        lib.cc_get_stats(self._use(), raw)
        return Stats(*(getattr(raw, name) for name in Stats.__match_args__))

    # ---- devices ----

    @property
    def disk(self) -> Disk:
        """Its disk. Raises UsageError if it has none."""
        from .disk import Disk

        if not self.config.disk_bytes:
            raise UsageError("the machine has no disk", hint="give its configuration disk_bytes")
        return Disk(self._use, self._check)

    def reseed(self, branch: int) -> None:
        """Another future from here on: all random streams of the machine start anew, by this 64-bit number."""
        if not 0 <= branch < 1 << 64:
            raise UsageError(f"the branch {branch} is not a 64-bit number", hint="give one from 0 to 2^64 - 1")
        lib.cc_reseed(self._use(), branch)

    def set_link(self, up: bool) -> None:
        """The network device's carrier, which the guest sees; without it nothing passes. Raises UsageError."""
        self._check(lib.cc_net_set_link(self._use(), up))

    def set_balloon(self, pages: int) -> None:
        """Asks the guest to give up so many pages of 4 KiB; 0 gives all back. Raises UsageError."""
        if not 0 <= pages <= self.config.memory_bytes >> 12:
            raise UsageError(f"a balloon of {pages} pages", hint=f"give 0 to {self.config.memory_bytes >> 12}")
        self._check(lib.cc_balloon_set(self._use(), pages))

    @property
    def balloon_pages(self) -> int:
        """Pages that the guest has given up."""
        return lib.cc_balloon_pages(self._use())

    def agent_send(self, data: bytes) -> int:
        """Queues bytes for the guest agent (/dev/hvc0); returns how many fitted."""
        return lib.cc_agent_send(self._use(), data, len(data))

    # ---- console and log ----

    @property
    def console_total(self) -> int:
        """Bytes that the guest has transmitted since its start."""
        return lib.cc_console_total(self._use())

    def take_console(self) -> tuple[int, bytes]:
        """The console output not taken yet, and the offset of its first byte in all output since the start."""
        native = self._use()
        buffer = ffi.new(f"uint8_t[{CONSOLE_CHUNK_BYTES}]")
        offset = ffi.new("uint64_t *")
        size = lib.cc_console_take(native, buffer, CONSOLE_CHUNK_BYTES, offset)
        first = offset[0]
        chunks = [ffi.buffer(buffer, size)[:]]
        while size == CONSOLE_CHUNK_BYTES:
            size = lib.cc_console_take(native, buffer, CONSOLE_CHUNK_BYTES, offset)
            chunks.append(ffi.buffer(buffer, size)[:])
        return first, b"".join(chunks)

    def take_serial_bytes(self) -> bytes:
        """The console output not taken yet."""
        return self.take_console()[1]

    def take_serial_output(self) -> str:
        """The console output not taken yet as text; bytes that are not UTF-8 become U+FFFD."""
        return self._decoder.decode(self.take_console()[1])

    def take_console_marks(self) -> list[ConsoleMark]:
        """When each line not reported yet began."""
        native = self._use()
        marks: list[ConsoleMark] = []
        raw = ffi.new("cc_console_mark[256]")
        while True:
            count = lib.cc_console_take_marks(native, raw, 256)
            marks.extend(ConsoleMark(raw[i].offset, raw[i].vns, raw[i].instret) for i in range(count))
            if count < 256:
                return marks

    def console_input(self, data: bytes | str) -> int:
        """Queues bytes for the guest's serial port; returns how many fitted."""
        raw = data.encode() if isinstance(data, str) else data
        return lib.cc_console_input(self._use(), raw, len(raw))

    def take_log(self) -> list[str]:
        """The engine's notes not taken yet, a line each: unimplemented opcodes, unknown MSRs and the like."""
        native = self._use()
        buffer = ffi.new("char[65536]")
        lines: list[str] = []
        while size := lib.cc_log_take(native, buffer, 65536):
            lines += ffi.buffer(buffer, size)[:].decode(errors="replace").splitlines()
        return lines

    # ---- the guest SDK ----

    def take_raw_events(self) -> tuple[list[RawEvent], int]:
        """What happened since the last call, oldest first, and how many records were dropped because nobody took any.

        Running over the same stretch again reports the same again. events.py reads the payloads.
        """
        native = self._use()
        buffer = ffi.new("uint8_t[]", EVENT_CHUNK_BYTES)
        lost = ffi.new("uint64_t *")
        taken: list[RawEvent] = []
        dropped = 0
        while size := lib.cc_events_take(native, buffer, EVENT_CHUNK_BYTES, lost):
            dropped += lost[0]
            data = ffi.buffer(buffer, size)[:]
            at = 0
            while at < size:
                vns, instret, kind, length = _EVENT_HEAD.unpack_from(data, at)
                at += _EVENT_HEAD.size
                taken.append(RawEvent(vns, instret, kind, data[at : at + length]))
                at += length + 7 & ~7
        return taken, dropped

    def properties(self) -> list[PropertyCounts]:
        """The guest's properties up to this moment, in the order of their first mention."""
        native = self._use()
        found: list[PropertyCounts] = []
        raw = ffi.new("cc_property[256]")
        while count := lib.cc_properties(native, len(found), raw, 256):
            for p in raw[0:count]:
                text = ffi.new("char[]", max(p.text_size, 1))
                size = lib.cc_properties_text(native, p.text_at, text, p.text_size)
                found.append(
                    PropertyCounts(
                        p.id,
                        p.command,
                        ffi.buffer(text, size)[:].decode(errors="replace"),
                        p.passes,
                        p.fails,
                        None if p.first_pass_vns == NO_LIMIT else (p.first_pass_vns, p.first_pass_instret),
                        None if p.first_fail_vns == NO_LIMIT else (p.first_fail_vns, p.first_fail_instret),
                    )
                )
        return found

    @property
    def setup_vns(self) -> int | None:
        """When the guest said setup_complete (or force_setup_complete() did); None: not yet."""
        vns = lib.cc_setup_vns(self._use())
        return None if vns == NO_LIMIT else vns

    def force_setup_complete(self) -> None:
        """Says setup_complete in the guest's place; does nothing the second time."""
        lib.cc_force_setup_complete(self._use())

    @property
    def coverage_active(self) -> bool:
        """Whether the guest has said that its coverage map is in use."""
        return lib.cc_coverage_active(self._use())

    # ---- coverage (docs/coverage.md) ----

    def read_coverage_bitmap(self) -> bytes:
        """The 65536 saturating counters of the guest SDK; they mean something while coverage_active."""
        return self.read_memory(COVERAGE_GPA, lib.CC_EDGES_BYTES)

    def clear_coverage_bitmap(self) -> None:
        """Zeroes them. They are guest memory, so this changes the machine's state, as an input does."""
        self.write_memory(COVERAGE_GPA, bytes(lib.CC_EDGES_BYTES))

    @property
    def edges(self) -> EdgeRecorder:
        """Records branch edges of the guest's code while it runs."""
        from .edges import EdgeRecorder

        return EdgeRecorder(self._use, self._check)

    # ---- breakpoints and watchpoints ----

    def set_watches(self, watches: Sequence[Watch]) -> None:
        """Replaces what is watched; empty: nothing. What was met and not taken is forgotten. Raises UsageError."""
        from . import watches as native_watches

        self._check(native_watches.set_watches(self._use(), watches))

    def take_watch_hits(self) -> tuple[list[WatchHit], int]:
        """What was met since the last call, in order, and how many between the oldest and the newest are missing."""
        from . import watches as native_watches

        return native_watches.take_hits(self._use())

    def watch_hit(self) -> WatchHit | None:
        """What the last stop with StopKind.WATCH was for."""
        from . import watches as native_watches

        return native_watches.last_hit(self._use())

    # ---- snapshots ----

    def snapshot(self) -> Snapshot:
        """The complete state now. Costs what changed since the last one. Raises BudgetError."""
        out = ffi.new("cc_snapshot **")
        self._check(lib.cc_snapshot_take(self._use(), out))
        return Snapshot(out[0], self.store, self.config)

    def restore(self, snapshot: Snapshot) -> None:
        """Makes the machine what it was at the snapshot, of this or of an equally configured machine of its store."""
        native = self._use()
        self._check(lib.cc_snapshot_restore(native, snapshot.use_native()))
        self._loaded = True
        self._decoder.reset()

    def fork(self) -> DeterministicVm:
        """An independent machine in the same state, sharing the page store."""
        snapshot = self.snapshot()
        try:
            other = DeterministicVm(self.config, store=self.store)
            other.restore(snapshot)
            return other
        finally:
            snapshot.close()

    @property
    def dirty_pages(self) -> int:
        """Pages written since the last snapshot or restore."""
        return lib.cc_dirty_pages(self._use())

    # ---- registers and memory ----

    def registers(self) -> Registers:
        """All registers, as a value."""
        from .registers import Registers

        raw = ffi.new("cc_regs *")
        lib.cc_get_regs(self._use(), raw)
        return Registers.from_native(raw)

    def registers_bytes(self) -> bytes:
        """The same, as registers.LAYOUT says: quick to take, to be read when somebody wants to know."""
        raw = ffi.new("cc_regs *")
        lib.cc_get_regs(self._use(), raw)
        return ffi.buffer(raw)[:]

    def set_registers(self, registers: Registers) -> None:
        """Sets all registers. Raises UsageError for values that do not fit, and for a state that no guest can run in:
        outside long mode, RIP not canonical, reserved bits in MXCSR. Control registers may hold what MOV would refuse.
        """
        raw = ffi.new("cc_regs *")
        native = self._use()
        registers.to_native(raw)
        self._check(lib.cc_set_regs(native, raw))

    def read_memory(self, address: int, size: int, *, virtual: bool = False) -> bytes:
        """Guest memory by physical address, or by virtual address through the current page tables.

        Raises AddressError where it is not mapped, or outside the memory.
        """
        native = self._use()
        _check_range(address, size, self.config.memory_bytes)
        buffer = ffi.new(f"uint8_t[{max(size, 1)}]")
        read = lib.cc_read_virt if virtual else lib.cc_read_phys
        self._check(read(native, address, buffer, size))
        return ffi.buffer(buffer, size)[:]

    def write_memory(self, address: int, data: bytes, *, virtual: bool = False) -> None:
        """Writes guest memory; permissions are ignored. Raises AddressError."""
        native = self._use()
        _check_range(address, len(data), self.config.memory_bytes)
        write = lib.cc_write_virt if virtual else lib.cc_write_phys
        self._check(write(native, address, ffi.from_buffer(data), len(data)))

    def translate(self, address: int) -> int:
        """The physical address of a virtual one. Raises AddressError where it is not mapped."""
        _check_range(address, 1, self.config.memory_bytes)
        out = ffi.new("uint64_t *")
        self._check(lib.cc_translate(self._use(), address, out))
        return out[0]

    def set_cache_sizes(self, *, tlb_bits: int, code_cache_kib: int) -> None:
        """Changes the host-side caches; the guest cannot notice. Raises UsageError for sizes out of range."""
        self._check(lib.cc_set_cache_sizes(self._use(), tlb_bits, code_cache_kib))

    def __repr__(self) -> str:
        if self._native is None:
            return "<DeterministicVm closed>"
        return f"<DeterministicVm {self.config.machine_id} instret={lib.cc_instret(self._native)}>"


def run_limit(name: str, value: int | None) -> int:
    """An absolute limit of a run as the native library takes it; None: no limit. Raises UsageError."""
    if value is None:
        return NO_LIMIT
    if not 0 <= value <= NO_LIMIT:
        raise UsageError(f"a run cannot end at {name} {value}", hint="give 0 to 2^64 - 1")
    return value


def _check_range(address: int, size: int, memory_bytes: int) -> None:
    """What does not fit the native types at all; the native library checks the rest."""
    if not 0 <= address < 1 << 64 or not 0 <= size <= memory_bytes:
        raise AddressError(f"{size} bytes at {address:#x} are not in the machine's memory")


def _native_config(config: VmConfig) -> CData:
    raw = ffi.new("cc_config *")
    lib.cc_config_default(raw)
    values = {
        "ram_bytes": config.memory_bytes,
        "seed": config.seed,
        "ns_per_insn": config.cpu.ns_per_insn,
        "tsc_khz": config.cpu.tsc_khz,
        "rtc_epoch_s": config.rtc_epoch_s,
        "cpu_profile": config.cpu.profile,
        "vcpu": lib.CC_VCPU_KVM if config.vcpu == "kvm" else lib.CC_VCPU_SOFT,
        "machine_id": config.machine_id,
        "devices": sum(1 << DEVICES.index(name) for name in config.virtio_devices),
        "disk_bytes": config.disk_bytes,
        "tlb_bits": config.tlb_bits,
        "code_cache_kib": config.code_cache_kib,
    }
    for name, value in values.items():
        if value is None:
            continue
        try:
            setattr(raw, name, value)
        except OverflowError:
            raise UsageError(f"{name} cannot be {value}: out of range") from None
    return raw


__all__ = [
    "ConsoleMark",
    "DeterministicVm",
    "Digest",
    "PageStore",
    "Snapshot",
    "Stats",
    "Stop",
    "StopKind",
]
