"""What one machine's console has sent on one branch: bytes, and where and when its lines begin.

A branch's log continues its parent's from the byte at which it left it. Logs only grow, by whoever drives the
cluster; other threads may read them at any time, because nothing that was appended ever changes. A reader at some
moment passes the number of bytes sent by then (`total`) and sees the console exactly as it was.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from heapq import merge
from typing import NamedTuple

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
        self._redrawn_offsets = array("Q")
        self._redrawn_times = array("Q")
        """Where lines were written anew after a carriage return."""

    @property
    def total(self) -> int:
        """Bytes known so far."""
        return self._base + len(self._data)

    def append(self, data: bytes | bytearray, marks: Sequence[ConsoleMark]) -> None:
        """Add the bytes at `total`, and the marks of the lines that begin or are written anew in them."""
        self._data += data
        for mark in marks:
            begins = self.read(mark.offset - 1, mark.offset) in (b"", b"\n")
            # A reader looks lines up by offset, so the offset must be the last thing to appear.
            (self._times if begins else self._redrawn_times).append(mark.vns)
            (self._offsets if begins else self._redrawn_offsets).append(mark.offset)

    def read(self, start: int, end: int) -> bytes:
        """Bytes [start, end), clipped to what is known."""
        end = min(end, self.total)
        if start < 0 or start >= end:
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

    def lines_ended(self, total: int) -> int:
        """How many lines have ended in the first `total` bytes; the one after them is empty or still open."""
        begun = self.lines_begun(total)
        return begun if self.read(total - 1, total) in (b"", b"\n") else begun - 1

    def line_date(self, line: int, total: int) -> int:
        """When what line `line` shows was written: it began then, or was last written anew, within `total` bytes."""
        start, end = self.line_start(line), min(self.line_start(line + 1), total)
        log = self
        while True:
            at = bisect_left(log._redrawn_offsets, end) - 1
            if at >= 0 and log._redrawn_offsets[at] > start:
                return log._redrawn_times[at]
            if log._parent is None or log._base <= start:
                return self.line_vns(line)
            log, end = log._parent, min(end, log._base)

    def lines_before(self, vns: int, total: int) -> int:
        """How many lines are dated before virtual time `vns`, of those that have ended in the first `total` bytes."""
        return bisect_left(range(self.lines_ended(total)), vns, key=lambda line: self.line_date(line, total))

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


class Entry(NamedTuple):
    """A line among those of all consoles."""

    vns: int
    """Its date: when what it shows was written."""
    machine: int
    line: int
    """Its number in the machine's log."""


class MergedLines:
    """The ended lines of several consoles by their dates, then by machine. Grows with the logs."""

    def __init__(self, logs: Sequence[ConsoleLog]) -> None:
        self._logs = logs
        self._taken = [0] * len(logs)
        self._entries: list[Entry] = []

    def update(self, totals: Sequence[int]) -> None:
        """Take in the lines that have ended in the first `totals[machine]` bytes, and were not there before."""
        fresh: list[Entry] = []
        for machine, (log, total) in enumerate(zip(self._logs, totals, strict=True)):
            ended = max(log.lines_ended(total), self._taken[machine])
            fresh += [Entry(log.line_date(line, total), machine, line) for line in range(self._taken[machine], ended)]
            self._taken[machine] = ended
        fresh.sort()
        if fresh and self._entries and fresh[0] < self._entries[-1]:
            # A line that was begun long ago has ended only now.
            self._entries = list(merge(self._entries, fresh))
        else:
            self._entries += fresh

    def at(self, vns: int, totals: Sequence[int]) -> "MergedView":
        """The lines as they were at virtual time `vns`, when the consoles had sent `totals`; taken in before."""
        end = bisect_left(self._entries, (vns,))
        hidden: list[int] = []
        still_open: list[Entry] = []
        for machine, (log, total) in enumerate(zip(self._logs, totals, strict=True)):
            line = log.lines_ended(total)
            if line < self._taken[machine]:
                # It has an entry already, made when it ended, which is later than now.
                index = bisect_left(self._entries, Entry(log.line_date(line, log.total), machine, line))
                hidden += [index] if index < end else []
            if line < log.lines_begun(total):
                still_open.append(Entry(log.line_date(line, total), machine, line))
        return MergedView(self._entries, end, sorted(hidden), still_open)


class MergedView:
    """The lines of several consoles at one moment: the ended ones by date, then those still open by machine."""

    def __init__(self, entries: list[Entry], end: int, hidden: list[int], still_open: list[Entry]) -> None:
        self._entries, self._end, self._hidden, self._open = entries, end, hidden, still_open

    @property
    def ended(self) -> int:
        """How many of the lines have ended; the others come after them."""
        return self._end - len(self._hidden)

    def __len__(self) -> int:
        return self.ended + len(self._open)

    def __getitem__(self, index: int) -> Entry:
        if index >= self.ended:
            return self._open[index - self.ended]
        for hidden in self._hidden:
            index += index >= hidden
        return self._entries[index]

    def index(self, entry: Entry) -> int:
        """Where a line is that is in view."""
        if entry in self._open:
            return self.ended + self._open.index(entry)
        at = bisect_left(self._entries, entry)
        return at - bisect_left(self._hidden, at)
