"""EdgeRecorder: a machine's recording of branch edges, and where a Linux guest says whose code runs.

Owns the translation between values and the native library's structures (native/soft/edges.c counts). docs/coverage.md
says what an edge is; coverage.py what is made of the counters.
"""

from __future__ import annotations

from ._binding import ffi, lib
from .errors import UsageError
from .record import Record
from .symbols.bases import IMAGE_BASE, LINEAR_BASE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ._native import CData
    from .machine import DeterministicVm
    from .symbols.table import Symbol

_TASK_BYTES_MAX = 16384
_NAME_BYTES = lib.CC_TASK_NAME_BYTES


class EdgeRecorder:
    """Starts and stops recording, and reads the counters. The guest cannot tell.

    The counters are the host's and in no snapshot: restoring leaves them, running a stretch again adds to them.
    """

    def __init__(self, use: Callable[[], CData], check: Callable[[int], None]) -> None:
        self._use = use
        self._check = check

    def record(
        self, *, kernel: bool = False, user: bool = False, programs: Sequence[str] = (), tasks: TaskLayout | None = None
    ) -> None:
        """Starts, changes or (without arguments) stops recording; counters stay.

        programs: names as `ps` shows them, cut to 15 bytes; empty: every program. tasks: where the guest kernel says
        which one runs, from find_tasks(); without it all user code is one program named "". Raises UsageError for more
        than 64 programs, and EngineError on KVM.
        """
        names = b"".join(name.encode()[: _NAME_BYTES - 1].ljust(_NAME_BYTES, b"\0") for name in programs)
        what = (lib.CC_EDGES_KERNEL if kernel else 0) | (lib.CC_EDGES_USER if user or programs else 0)
        guest = ffi.NULL
        if tasks is not None:
            guest = ffi.new("cc_edges_guest *")
            guest.current_gpa, guest.name_offset = tasks.current_gpa, tasks.name_offset
            guest.linear_base, guest.image_base = tasks.linear_base, tasks.image_base
        self._check(lib.cc_edges_set(self._use(), what, guest, ffi.from_buffer(names), len(programs)))

    def stop(self) -> None:
        """Stops recording; counters stay."""
        self.record()

    def maps(self) -> list[tuple[str | None, bytes]]:
        """65536 counters by program name (None: the kernel), programs in the order of their first appearance."""
        native = self._use()
        name, counters = ffi.new("char[]", _NAME_BYTES), ffi.new("uint8_t[]", lib.CC_EDGES_BYTES)
        found: list[tuple[str | None, bytes]] = []
        for i in range(lib.cc_edges_maps(native)):
            self._check(lib.cc_edges_read(native, i, name, counters))
            program = ffi.string(name, _NAME_BYTES).decode(errors="replace") if i else None
            found.append((program, ffi.buffer(counters)[:]))
        return found

    def clear(self) -> None:
        """Sets the counters to 0 and forgets the programs seen."""
        lib.cc_edges_clear(self._use())


class TaskLayout(Record):
    """Where a Linux guest says which program runs: the pointer to the current task, and the name in the task."""

    current_gpa: int
    name_offset: int
    linear_base: int = LINEAR_BASE
    image_base: int = IMAGE_BASE


def find_tasks(vm: DeterministicVm, kernel_symbols: Iterable[Symbol]) -> TaskLayout:
    """The layout in a machine that has a kernel in memory, booted or not, from the kernel's symbols.

    The first task is in the image and is called "swapper", which gives the name's offset: no debug information is
    needed. For kernels without SMP; raises UsageError for others.
    """
    wanted = {s.name: s.address for s in kernel_symbols if s.name in ("current_task", "init_task")}
    ends = {name: address - IMAGE_BASE for name, address in wanted.items()}
    if len(ends) != 2 or not all(0 <= at <= vm.config.memory_bytes - _TASK_BYTES_MAX for at in ends.values()):
        raise UsageError(
            "the kernel's symbols do not say where its current task is",
            hint="give the symbols of this kernel, built without SMP",
        )
    offset = vm.read_memory(ends["init_task"], _TASK_BYTES_MAX).find(b"swapper")
    if offset < 0:
        raise UsageError("the first task is not where the symbols say", hint="give the symbols of this very kernel")
    return TaskLayout(ends["current_task"], offset)
