"""What one machine's console has sent on one branch: bytes, and where and when its lines begin.

A branch's log continues its parent's from the byte at which it left it. Logs only grow, by whoever drives the
cluster; other threads may read them at any time, because nothing that was appended ever changes. A reader at some
moment passes the number of bytes sent by then (`total`) and sees the console exactly as it was.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from chaoscontrol.timetravel.cluster_api import ConsoleMark


class ConsoleLog:
    """Bytes [0, total) of a console, with an index of its lines."""

    def __init__(self, parent: "ConsoleLog | None" = None, base: int = 0) -> None:
        self._parent = parent
        self._base = base
        """Bytes before this offset belong to the parent."""
        self._base_line = parent.lines_begun(base) if parent else 0
        """Lines that begin before `base`."""
        self._data = bytearray()
        self._offsets = array("Q")
        self._times = array("Q")

    @property
    def total(self) -> int:
        """Bytes known so far."""
        return self._base + len(self._data)

    def append(self, data: bytes | bytearray, marks: Sequence[ConsoleMark]) -> None:
        """Add the bytes at `total`, and the marks of the lines that begin in them."""
        self._data += data
        for mark in marks:
            # A reader looks lines up by offset, so the offset must be the last thing to appear.
            self._times.append(mark.vns)
            self._offsets.append(mark.offset)

    def read(self, start: int, end: int) -> bytes:
        """Bytes [start, end), clipped to what is known."""
        end = min(end, self.total)
        if start >= end:
            return b""
        own = bytes(self._data[max(start - self._base, 0) : max(end - self._base, 0)])
        if self._parent is None or start >= self._base:
            return own
        return self._parent.read(start, min(end, self._base)) + own

    def shared_with(self, other: "ConsoleLog") -> int:
        """How many first bytes the two have from a common ancestor; 0 for logs of different machines."""
        mine = list(self._lineage())
        for log, limit in other._lineage():
            for known, known_limit in mine:
                if log is known:
                    return min(limit, known_limit)
        return 0

    def _lineage(self) -> Iterator[tuple["ConsoleLog", int]]:
        """This log and its ancestors, each with the number of its first bytes that are also this one's."""
        log, limit = self, self.total
        while True:
            yield log, limit
            if log._parent is None:
                return
            log, limit = log._parent, min(limit, log._base)

    # ---- lines ---------------------------------------------------------------------------------------------------

    def lines_begun(self, total: int) -> int:
        """How many lines begin in the first `total` bytes."""
        if self._parent is not None and total <= self._base:
            return self._parent.lines_begun(total)
        return self._base_line + bisect_left(self._offsets, total)

    def line_start(self, line: int) -> int:
        """Offset of the first byte of line `line`, counted from 0; the total where there is no such line."""
        if self._parent is not None and line < self._base_line:
            return self._parent.line_start(line)
        own = line - self._base_line
        return self._offsets[own] if own < len(self._offsets) else self.total

    def line_vns(self, line: int) -> int:
        """Virtual time at which the first byte of line `line` was sent, nanoseconds. IndexError if there is none."""
        if self._parent is not None and line < self._base_line:
            return self._parent.line_vns(line)
        return self._times[line - self._base_line]

    def line_of(self, offset: int) -> int:
        """The line that the byte at `offset` is part of."""
        return max(self.lines_begun(offset + 1) - 1, 0)

    def line_bytes(self, line: int, total: int) -> bytes:
        """Line `line` with its line ending, as far as it had been sent when the console had sent `total` bytes."""
        start = self.line_start(line)
        if line + 1 < self.lines_begun(total):
            total = self.line_start(line + 1)
        return self.read(start, total)

    def lines_before(self, vns: int, total: int) -> int:
        """How many lines begin before virtual time `vns`, of those that begin in the first `total` bytes."""
        low, high = 0, self.lines_begun(total)
        while low < high:
            middle = (low + high) // 2
            if self.line_vns(middle) < vns:
                low = middle + 1
            else:
                high = middle
        return low

    # ---- searching ---------------------------------------------------------------------------------------------

    def find(self, pattern: bytes, start: int, end: int) -> int:
        """Lowest offset in [start, end) where `pattern` is whole, or -1."""
        end = min(end, self.total)
        if self._parent is not None and start < self._base:
            found = self._parent.find(pattern, start, min(end, self._base))
            if found >= 0:
                return found
            seam = max(start, self._base - len(pattern) + 1)
            found = self.read(seam, min(end, self._base + len(pattern) - 1)).find(pattern)
            if found >= 0:
                return seam + found
            start = self._base
        found = self._data.find(pattern, start - self._base, max(end - self._base, 0))
        return found if found < 0 else found + self._base

    def rfind(self, pattern: bytes, start: int, end: int) -> int:
        """Highest offset in [start, end) where `pattern` is whole, or -1."""
        end = min(end, self.total)
        found = -1
        if end > self._base:
            found = self._data.rfind(pattern, max(start - self._base, 0), end - self._base)
        if found >= 0:
            return found + self._base
        if self._parent is None or start >= self._base:
            return -1
        seam = max(start, self._base - len(pattern) + 1)
        found = self.read(seam, min(end, self._base + len(pattern) - 1)).rfind(pattern)
        if found >= 0:
            return seam + found
        return self._parent.rfind(pattern, start, min(end, self._base))


class MergedLines:
    """The lines of several consoles in the order in which they began: by virtual time, then by machine.

    Grows with the logs; `update` is cheap when nothing was added.
    """

    def __init__(self, logs: Sequence[ConsoleLog]) -> None:
        self._logs = logs
        self._taken = [0] * len(logs)
        self._times = array("Q")
        self._machines = array("H")
        self._lines = array("L")

    def update(self, totals: Sequence[int]) -> None:
        """Take in the lines that begin in the first `totals[machine]` bytes, the consoles at one virtual time."""
        fresh: list[tuple[int, int, int]] = []
        for machine, (log, total) in enumerate(zip(self._logs, totals, strict=True)):
            begun = max(log.lines_begun(total), self._taken[machine])
            fresh += [(log.line_vns(line), machine, line) for line in range(self._taken[machine], begun)]
            self._taken[machine] = begun
        for vns, machine, line in sorted(fresh):
            self._times.append(vns)
            self._machines.append(machine)
            self._lines.append(line)

    def count_before(self, vns: int) -> int:
        """How many lines begin before virtual time `vns`."""
        return bisect_left(self._times, vns)

    def entry(self, index: int) -> tuple[int, int, int]:
        """(virtual time, machine, line of that machine's log) of the line at `index`."""
        return self._times[index], self._machines[index], self._lines[index]

    def index(self, entry: tuple[int, int, int]) -> int:
        """Where the line (virtual time, machine, line) is; it must be there."""
        at = bisect_left(self._times, entry[0])
        while self.entry(at) != entry:
            at += 1
        return at
