"""LinuxGuest: the tasks, processes and memory maps of a stopped Linux guest, read from its memory alone.

The guest does not help and does not notice. What its kernel's structures hold may be half written (the machine stops
between any two instructions) or hostile: every list and tree is bounded in length and depth, a pointer that leads
nowhere ends what it would have led to, and the result says so in its notes. Written for Linux 6.1 to 6.6 on x86-64:
processes' maps are a maple tree since 6.1. One LinuxGuest is for one moment: it reads the registers when it is made.
"""

from __future__ import annotations

import dataclasses
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from chaoscontrol.errors import AddressError

from .bases import IMAGE_BASE, KERNEL_HALF
from .space import PAGE_BYTES, AddressSpace, CachedMemory, Memory, PhysicalMemory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from chaoscontrol.registers import Registers

    from .layout import Layout
    from .table import SymbolTable

    class Machine(Protocol):
        """What is needed of a DeterministicVm."""

        def read_memory(self, address: int, size: int) -> bytes: ...
        def registers(self) -> Registers: ...


PTI_USER_TABLE = 1 << 12
"""With page table isolation this bit of CR3 tells the user's tables from the kernel's, which lie one page before."""
CR4_LA57 = 1 << 12
TASKS_MAX = 1 << 16
MAPS_MAX = 1 << 17
PATH_PARTS_MAX = 256
NAME_BYTES_MAX = 255
MAPLE_DEPTH_MAX = 16
COMM_BYTES = 16
THREAD_BYTES = 16384
"""THREAD_SIZE of x86-64: a kernel stack."""

_PF_KTHREAD = 0x0020_0000
_TASK_REPORT = 0x7F
_TASK_IDLE = 0x402
_STATES = ("R running", "S sleeping", "D disk sleep", "T stopped", "t traced", "X dead", "Z zombie", "P parked")
_VM_READ, _VM_WRITE, _VM_EXEC, _VM_SHARED = 1, 2, 4, 8


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """One thread, as the kernel schedules it."""

    address: int
    """Of its task_struct."""
    pid: int
    """What gettid() gives it."""
    tgid: int
    """What getpid() gives it."""
    parent: int
    """The process that started it, 0 for none."""
    name: str
    state: str
    """A letter as in ps, and a word: `S sleeping`."""
    cr3: int
    """Its page tables; 0 for kernel threads, which have none of their own, and after the process has ended."""
    kernel_stack: int
    """The lowest address of its kernel stack."""
    kernel_sp: int
    """Where its kernel stack stood when it last gave up the CPU."""
    is_kernel: bool
    is_current: bool
    mm: int
    """Address of its mm_struct, 0 for none."""


@dataclasses.dataclass(frozen=True, slots=True)
class TaskList:
    """Every thread, processes in the order they were started, a process's first thread first."""

    tasks: tuple[Task, ...]
    notes: tuple[str, ...] = ()
    """What could not be read: the list is partial then."""

    @property
    def processes(self) -> list[Task]:
        """The first thread of each process."""
        return [task for task in self.tasks if task.pid == task.tgid]

    def threads(self, tgid: int) -> list[Task]:
        return [task for task in self.tasks if task.tgid == tgid]

    def find(self, pid: int) -> Task | None:
        return next((task for task in self.tasks if task.pid == pid), None)

    @property
    def current(self) -> Task | None:
        return next((task for task in self.tasks if task.is_current), None)


@dataclasses.dataclass(frozen=True, slots=True)
class Mapping:
    """A piece of a process's address space, as in /proc/PID/maps."""

    start: int
    end: int
    flags: int
    """VM_* of include/linux/mm.h."""
    offset: int
    """In the file, in bytes."""
    device: int
    """major << 20 | minor, 0 without a file."""
    inode: int
    name: str
    """The file's path, `[heap]` and the like, or nothing."""

    @property
    def rights(self) -> str:
        bits = ((_VM_READ, "r", "-"), (_VM_WRITE, "w", "-"), (_VM_EXEC, "x", "-"), (_VM_SHARED, "s", "p"))
        return "".join(yes if self.flags & bit else no for bit, yes, no in bits)

    def __str__(self) -> str:
        """The line of /proc/PID/maps."""
        where = f"{self.start:08x}-{self.end:08x} {self.rights} {self.offset:08x}"
        line = f"{where} {self.device >> 20:02x}:{self.device & 0xFFFFF:02x} {self.inode} "
        return line.ljust(73) + self.name if self.name else line


@dataclasses.dataclass(frozen=True, slots=True)
class Maps:
    """A process's mappings, by address."""

    mappings: tuple[Mapping, ...]
    notes: tuple[str, ...] = ()

    def find(self, address: int) -> Mapping | None:
        return next((m for m in self.mappings if m.start <= address < m.end), None)


class LinuxGuest:
    """A stopped machine that runs a Linux kernel, whose symbols and layout are given."""

    def __init__(self, machine: Machine, memory_bytes: int, symbols: SymbolTable, layout: Layout) -> None:
        """Never raises for what the guest's memory holds: notes says if no kernel was found in it."""
        self.registers = machine.registers()
        self.physical = CachedMemory(PhysicalMemory(machine, memory_bytes))
        self.layout = layout
        self.levels = 5 if self.registers.cr4 & CR4_LA57 else 4
        self.notes: tuple[str, ...] = ()
        self.bias = self._find_bias(symbols)
        self.symbols = symbols.shifted(self.bias) if self.bias else symbols
        """The kernel's symbols at their addresses in this guest."""
        self.kernel: Memory = self._find_kernel_space()
        """The kernel's own view of virtual memory."""

    # ---- where things are ----

    def _find_bias(self, symbols: SymbolTable) -> int:
        """How far the kernel moved itself (KASLR): LSTAR holds its system call entry, once it has booted so far."""
        entry = symbols.address("entry_SYSCALL_64")
        lstar = self.registers.lstar
        if not entry or lstar < IMAGE_BASE or (lstar - entry) % PAGE_BYTES:
            return 0
        return lstar - entry

    def _find_kernel_space(self) -> Memory:
        """The page tables through which the first task is where the symbols say."""
        init = self.symbols.address("init_task")
        if init is None:
            self.notes = ("the symbols have no init_task: they are of no Linux kernel",)
            return AddressSpace(self.physical, self.registers.cr3, levels=self.levels)
        top = self.symbols.address("init_top_pgt") or self.symbols.address("swapper_pg_dir") or IMAGE_BASE
        for cr3 in (self.registers.cr3, self.registers.cr3 & ~PTI_USER_TABLE, top - IMAGE_BASE):
            space = AddressSpace(self.physical, cr3, levels=self.levels)
            try:
                name = space.read(init + self.layout("task_struct", "comm"), 7)
            except AddressError:
                continue
            if name == b"swapper":
                return space
        self.notes = ("no kernel of these symbols is up: the first task is not where they say",)
        return AddressSpace(self.physical, self.registers.cr3, levels=self.levels)

    def space(self, task: Task) -> Memory:
        """The address space of a process; of a kernel thread, the kernel's."""
        return AddressSpace(self.physical, task.cr3, levels=self.levels) if task.cr3 else self.kernel

    # ---- tasks ----

    def current_address(self) -> int | None:
        """The task_struct of the running task."""
        for name in ("current_task", "pcpu_hot"):  # the latter since 6.2, its first member
            for symbol in self.symbols.lookup(name):
                address = symbol.address
                if address - self.bias < KERNEL_HALF:  # an offset into the CPU's own area: a kernel with SMP
                    bases = (self.registers.gs.base, self.registers.kernel_gs_base)
                    address += max(bases) - self.bias
                try:
                    return self.kernel.u64(address % (1 << 64))
                except AddressError:
                    continue
        return None

    def current_name(self) -> str:
        """What ps calls the running task; empty if that cannot be read."""
        address = self.current_address()
        try:
            return "" if address is None else self._name(address)
        except AddressError:
            return ""

    def current(self) -> Task | None:
        """The running task; None if it cannot be read."""
        address = self.current_address()
        try:
            return None if address is None else self._task(address, address)
        except AddressError:
            return None

    def _name(self, task: int) -> str:
        text = self.kernel.read(task + self.layout("task_struct", "comm"), COMM_BYTES)
        return text.partition(b"\0")[0].decode(errors="replace")

    def tasks(self) -> TaskList:
        """All threads of all processes, kernel threads included; the idle task (pid 0) first."""
        init = self.symbols.address("init_task")
        if self.notes or init is None:
            return TaskList((), self.notes)
        at = self.layout
        notes: list[str] = []
        found: dict[int, Task] = {}
        current = self.current_address()

        def take(address: int) -> None:
            try:
                found[address] = self._task(address, current)
            except AddressError as e:
                notes.append(f"the task at {address:#x} cannot be read: {e.what}")

        take(init)
        leaders = self._list(init + at("task_struct", "tasks"), at("task_struct", "tasks"), notes, "the list of tasks")
        for leader in leaders:
            if leader not in found:
                take(leader)
            try:
                head = self.kernel.u64(leader + at("task_struct", "signal")) + at("signal_struct", "thread_head")
            except AddressError as e:
                notes.append(f"the threads of the task at {leader:#x} cannot be read: {e.what}")
                continue
            what = f"the list of threads of the task at {leader:#x}"
            for thread in self._list(head, at("task_struct", "thread_node"), notes, what):
                if len(found) >= TASKS_MAX:
                    break
                if thread not in found:
                    take(thread)
        if current is not None and current not in found:
            take(current)  # it runs, and is in no list: it is being started, or ends
        return TaskList(tuple(found.values()), tuple(notes))

    def _list(self, head: int, offset: int, notes: list[str], what: str) -> Iterator[int]:
        """The structures that a list_head links, given that of its owner; `offset`: of the link in a structure."""
        seen = {head}
        link = head
        while True:
            try:
                link = self.kernel.u64(link)
            except AddressError as e:
                notes.append(f"{what} breaks off after {len(seen) - 1}: {e.what}")
                return
            if link == head:
                return
            if link in seen or len(seen) > TASKS_MAX:
                notes.append(f"{what} does not end: it turns in a circle" if link in seen else f"{what} is too long")
                return
            seen.add(link)
            yield (link - offset) % (1 << 64)

    def _task(self, address: int, current: int | None) -> Task:
        at, memory = self.layout, self.kernel
        data = memory.read(address, at.size("task_struct"))

        def u64(member: str) -> int:
            return int.from_bytes(data[at("task_struct", member) :][:8], "little")

        def u32(member: str) -> int:
            return int.from_bytes(data[at("task_struct", member) :][:4], "little")

        mm, parent, name = u64("mm"), 0, data[at("task_struct", "comm") :][:COMM_BYTES]
        with suppress(AddressError):
            parent = memory.u32(u64("real_parent") + at("task_struct", "tgid"))
        return Task(
            address=address,
            pid=u32("pid"),
            tgid=u32("tgid"),
            parent=parent,
            name=name.partition(b"\0")[0].decode(errors="replace"),
            state=state_name(u32("__state"), u32("exit_state")),
            cr3=self._cr3(mm) if mm else 0,
            kernel_stack=u64("stack"),
            kernel_sp=u64("thread.sp"),
            is_kernel=bool(u32("flags") & _PF_KTHREAD),
            is_current=address == current,
            mm=mm,
        )

    def _cr3(self, mm: int) -> int:
        """The physical address of a process's top page table; 0 if it cannot be read."""
        try:
            top = self.kernel.u64(mm + self.layout("mm_struct", "pgd"))
            return self.kernel.translate(top).physical if isinstance(self.kernel, AddressSpace) else 0
        except AddressError:
            return 0

    # ---- maps ----

    def maps(self, task: Task) -> Maps:
        """The mappings of a process; none for a kernel thread."""
        if not task.mm:
            return Maps((), ("it has no address space of its own",))
        notes: list[str] = []
        mappings: list[Mapping] = []
        try:
            root = self.kernel.u64(task.mm + self.layout("mm_struct", "mm_mt") + self.layout("maple_tree", "ma_root"))
            limits = _Limits(*(self._mm(task.mm, name) for name in ("start_brk", "brk", "start_stack")))
        except AddressError as e:
            return Maps((), (f"its mm_struct at {task.mm:#x} cannot be read: {e.what}",))
        for area in self._maple_entries(root, notes):
            if len(mappings) >= MAPS_MAX:
                notes.append(f"there are more than {MAPS_MAX} mappings")
                break
            try:
                mappings.append(self._mapping(area, limits))
            except AddressError as e:
                notes.append(f"the mapping at {area:#x} cannot be read: {e.what}")
        mappings.sort(key=lambda m: m.start)
        return Maps(tuple(mappings), tuple(notes))

    def _mm(self, mm: int, member: str) -> int:
        return self.kernel.u64(mm + self.layout("mm_struct", member))

    def _mapping(self, area: int, limits: _Limits) -> Mapping:
        at, memory = self.layout, self.kernel
        start, end, flags, page, file, ops, private = (
            memory.u64(area + at("vm_area_struct", member))
            for member in ("vm_start", "vm_end", "vm_flags", "vm_pgoff", "vm_file", "vm_ops", "vm_private_data")
        )
        if not file:
            name = self._special_name(ops, private) or limits.name(start, end)
            return Mapping(start, end, flags, 0, 0, 0, name)
        device = inode = 0
        with suppress(AddressError):
            node = memory.u64(file + at("file", "f_inode"))
            inode = memory.u64(node + at("inode", "i_ino"))
            device = memory.u32(memory.u64(node + at("inode", "i_sb")) + at("super_block", "s_dev"))
        return Mapping(start, end, flags, page * PAGE_BYTES, device, inode, self.file_path(file))

    def _special_name(self, ops: int, private: int) -> str:
        """`[vdso]` and the like (mm/mmap.c, special_mapping_name)."""
        if not ops or ops != self.symbols.address("special_mapping_vmops"):
            return ""
        try:
            return self.kernel.text(self.kernel.u64(private + self.layout("vm_special_mapping", "name")), 64)
        except AddressError:
            return ""

    def file_path(self, file: int) -> str:
        """The path of an open file (fs/d_path.c), `?` for what cannot be read of it."""
        at, memory = self.layout, self.kernel
        parts: list[str] = []
        deleted = ""
        try:
            entry = memory.u64(file + at("file", "f_path.dentry"))
            mount = memory.u64(file + at("file", "f_path.mnt")) - at("mount", "mnt")
            parent = memory.u64(entry + at("dentry", "d_parent"))
            if parent != entry and not memory.u64(entry + at("dentry", "d_hash.pprev")):
                deleted = " (deleted)"
            for _ in range(PATH_PARTS_MAX):
                root = memory.u64(mount + at("mount", "mnt") + at("vfsmount", "mnt_root"))
                parent = memory.u64(entry + at("dentry", "d_parent"))
                if entry in (root, parent):
                    above = memory.u64(mount + at("mount", "mnt_parent"))
                    if above == mount or entry != root:
                        break
                    entry, mount = memory.u64(mount + at("mount", "mnt_mountpoint")), above
                    continue
                parts.append(memory.text(memory.u64(entry + at("dentry", "d_name.name")), NAME_BYTES_MAX))
                entry = parent
            else:
                parts.append("?")
        except AddressError:
            parts.append("?")
        return "/" + "/".join(reversed(parts)) + deleted

    # ---- maple trees (lib/maple_tree.c, Documentation/core-api/maple_tree.rst) ----

    def _maple_entries(self, root: int, notes: list[str]) -> Iterator[int]:
        """The pointers that a maple tree holds, by key."""
        if root & 3 != 2 or root <= 4096:
            if root & 3 == 0 and root:
                yield root  # a single entry at key 0
            return
        budget = [2 * MAPS_MAX]
        yield from self._maple_node(root, 0, (1 << 64) - 1, 0, budget, notes)
        if budget[0] < 0:
            notes.append("the tree of its mappings does not end")

    def _maple_node(
        self, pointer: int, low: int, high: int, depth: int, budget: list[int], notes: list[str]
    ) -> Iterator[int]:
        """Nodes are 256 bytes; a pointer's low byte says what kind the node is (include/linux/maple_tree.h)."""
        budget[0] -= 1
        if budget[0] < 0:
            return
        kind, node = pointer >> 3 & 15, pointer & ~0xFF
        if depth > MAPLE_DEPTH_MAX or kind not in (1, 2, 3):
            notes.append(f"the tree of its mappings has no node at {pointer:#x}")
            return
        name, pivots = ("ma64", 9) if kind == 3 else ("mr64", 15)
        try:
            data = self.kernel.read(node, 256)
        except AddressError as e:
            notes.append(f"the tree of its mappings breaks off: {e.what}")
            return
        ends = struct.unpack_from(f"<{pivots}Q", data, self.layout("maple_node", f"{name}.pivot"))
        slots = struct.unpack_from(f"<{pivots + 1}Q", data, self.layout("maple_node", f"{name}.slot"))
        for i, slot in enumerate(slots):
            end = ends[i] if i < pivots else high
            if (end == 0 and i > 0) or end > high:
                end = high  # the node is not full: this is its last slot
            if slot and kind == 1 and slot & 3 == 0:
                yield slot
            elif slot and kind != 1:
                yield from self._maple_node(slot, low, end, depth + 1, budget, notes)
            if end >= high:
                return
            low = end + 1


class _Limits:
    """Where a process's heap and first stack are."""

    def __init__(self, start_brk: int, brk: int, start_stack: int) -> None:
        self._heap, self._stack = (start_brk, brk), start_stack

    def name(self, start: int, end: int) -> str:
        """fs/proc/task_mmu.c, show_map_vma()."""
        if start <= self._heap[1] and end >= self._heap[0]:
            return "[heap]"
        return "[stack]" if start <= self._stack <= end else ""


def state_name(state: int, exit_state: int) -> str:
    """fs/proc/array.c, get_task_state()."""
    if state == _TASK_IDLE:
        return "I idle"
    at = ((state | exit_state) & _TASK_REPORT).bit_length()
    return _STATES[at] if at < len(_STATES) else "P parked"
