"""LineTable: which line of which source file an address is of, and where a line's code is.

From .debug_line, versions 2 to 5, which pyelftools decodes. A compilation unit is decoded when an address in it, or a
file of its, is first asked for. A damaged unit has no lines, and is told in notes.
"""

from __future__ import annotations

import functools
import itertools
import posixpath
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

from chaoscontrol.record import Record

from .elf import FILE_FAULTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .elf import ElfImage

ROWS_MAX = 4_000_000
"""Of one unit."""


class SourceLine(Record):
    """A line of a source file."""

    file: str
    """As the compiler was given it, with the directory that it ran in if it is relative to that."""
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class LineSpan(Record):
    """Consecutive code of one line: [low, high)."""

    source: SourceLine
    low: int
    high: int
    is_statement: bool
    """The compiler recommends `low` to stop at."""


class _Row(NamedTuple):
    """From an address on it is this line; line 0: it is none."""

    address: int
    file: int
    line: int
    is_statement: bool


class _Unit:
    """One compilation unit, decoded when it is wanted."""

    def __init__(self, dwarf: Any, unit: Any) -> None:
        self._program: Any = dwarf.line_program_for_CU(unit)
        self._directory = _text(unit, "DW_AT_comp_dir")

    @functools.cached_property
    def files(self) -> list[str]:
        """Paths, by the numbers that rows have."""
        if self._program is None:
            return []
        header = self._program.header
        folders = [entry.decode(errors="replace") for entry in header["include_directory"]]
        is_old = header["version"] < 5
        if is_old:  # there 0 is the directory of the compilation, and no file
            folders.insert(0, self._directory)
        names = [""] if is_old else []
        for entry in header["file_entry"]:
            folder = folders[entry["dir_index"]] if entry["dir_index"] < len(folders) else ""
            names.append(_joined(self._directory, folder, entry["name"].decode(errors="replace")))
        return names

    @functools.cached_property
    def rows(self) -> list[_Row]:
        """By address; where one sequence of code ends and no other begins there is a row of line 0."""
        found: list[_Row] = []
        for entry in self._program.get_entries() if self._program is not None else ():
            state = entry.state
            # Code of no line (0) counts to the line before it, as gdb has it.
            if state is not None and (state.line or state.end_sequence) and len(found) < ROWS_MAX:
                line = 0 if state.end_sequence else state.line
                found.append(_Row(state.address, state.file, line, bool(state.is_stmt)))
        # A sequence's end comes before what begins there. Of several rows of one address the last one counts to which
        # the compiler recommends to stop, if there is any: the others are of inlined calls, or lead nowhere.
        found.sort(key=lambda row: (row.address, row.line != 0))
        groups = (list(group) for _, group in itertools.groupby(found, key=lambda row: row.address))
        return [next((row for row in reversed(group) if row.is_statement and row.line), group[-1]) for group in groups]

    @functools.cached_property
    def addresses(self) -> list[int]:
        return [row.address for row in self.rows]

    def line_beginnings(self) -> Iterator[_Row]:
        """Of consecutive rows of one line the first that is recommended to stop at, or just the first."""
        for _, group in itertools.groupby(self.rows, key=lambda row: (row.file, row.line)):
            rows = list(group)
            if rows[0].line:
                yield next((row for row in rows if row.is_statement), rows[0])

    def source(self, row: _Row) -> SourceLine | None:
        return SourceLine(self.files[row.file], row.line) if row.line and row.file < len(self.files) else None


class LineTable:
    """The lines of one file. Addresses are the file's."""

    def __init__(self, image: ElfImage) -> None:
        self._image = image
        self.notes: list[str] = []
        """What could not be read."""

    @functools.cached_property
    def _units(self) -> list[tuple[_Unit, list[tuple[int, int]]]]:
        """The units, and [low, high) of their code."""
        found: list[tuple[_Unit, list[tuple[int, int]]]] = []
        try:
            if self._image.section(".debug_line") is None or self._image.section(".debug_info") is None:
                return []
            dwarf = self._image.elf.get_dwarf_info()
            for unit in dwarf.iter_CUs():
                found.append((_Unit(dwarf, unit), _spans(dwarf, unit)))
        except FILE_FAULTS as e:
            self.notes.append(f"{self._image.name}: not all source lines can be read ({type(e).__name__}: {e})")
        return found

    def find(self, address: int) -> SourceLine | None:
        """The line that the instruction at an address is of."""
        span = self.span(address)
        return None if span is None else span.source

    def span(self, address: int) -> LineSpan | None:
        """The line at an address, with all of its code that is around it without a gap."""
        for unit in self._units_at(address):
            at = bisect_right(unit.addresses, address) - 1
            source = unit.source(unit.rows[at]) if at >= 0 else None
            if source is None:
                continue
            first = last = at
            rows = unit.rows
            while first > 0 and rows[first - 1].line == source.line and rows[first - 1].file == rows[at].file:
                first -= 1
            while last + 1 < len(rows) and rows[last + 1].line == source.line and rows[last + 1].file == rows[at].file:
                last += 1
            high = rows[last + 1].address if last + 1 < len(rows) else rows[last].address + 1
            return LineSpan(source, rows[first].address, high, rows[first].is_statement)
        return None

    def _units_at(self, address: int) -> Iterator[_Unit]:
        for unit, spans in self._units:
            if any(low <= address < high for low, high in spans) and self._decoded(unit):
                yield unit

    def _decoded(self, unit: _Unit) -> bool:
        try:
            return bool(unit.files and unit.addresses)
        except FILE_FAULTS as e:
            note = f"{self._image.name}: source lines are damaged ({type(e).__name__}: {e})"
            if note not in self.notes:
                self.notes.append(note)
            return False

    def statements(self, file: str, line: int) -> list[tuple[int, SourceLine]]:
        """Where the code of a line begins, by address; of a line without code, that of the next one that has some.

        file: the end of a path, `main.c` or `raft/main.c`. A line may have several places: in inlined functions, or
        in loops.
        """
        found: list[tuple[int, SourceLine]] = []
        best: tuple[int, bool] | None = None
        for unit, _ in self._units:
            if not self._decoded(unit):
                continue
            wanted = {number for number, name in enumerate(unit.files) if is_end_of_path(file, name)}
            for row in unit.line_beginnings() if wanted else ():
                key = row.line, not row.is_statement
                if row.file not in wanted or row.line < line or (best is not None and key > best):
                    continue
                if key != best:
                    best, found = key, []
                source = unit.source(row)
                if source is not None:
                    found.append((row.address, source))
        return sorted(found, key=lambda place: place[0])


def is_end_of_path(end: str, path: str) -> bool:
    """Is a path named by its last parts?"""
    end = posixpath.normpath(end)
    return path == end or path.endswith(f"/{end.lstrip('/')}")


def _spans(dwarf: Any, unit: Any) -> list[tuple[int, int]]:
    """The code of a unit (DWARF 5, 2.17)."""
    attributes = unit.get_top_DIE().attributes
    low = attributes["DW_AT_low_pc"].value if "DW_AT_low_pc" in attributes else 0
    if "DW_AT_ranges" in attributes:
        spans: list[tuple[int, int]] = []
        base = low
        ranges = dwarf.range_lists().get_range_list_at_offset(attributes["DW_AT_ranges"].value, unit)
        for entry in ranges:
            if hasattr(entry, "base_address"):
                base = entry.base_address
            elif getattr(entry, "is_absolute", False):
                spans.append((entry.begin_offset, entry.end_offset))
            else:
                spans.append((base + entry.begin_offset, base + entry.end_offset))
        return spans
    if "DW_AT_high_pc" not in attributes:
        return []
    high = attributes["DW_AT_high_pc"]
    return [(low, high.value if high.form == "DW_FORM_addr" else low + high.value)]


def _text(unit: Any, name: str) -> str:
    attribute = unit.get_top_DIE().attributes.get(name)
    return "" if attribute is None else attribute.value.decode(errors="replace")


def _joined(*parts: str) -> str:
    return posixpath.normpath(posixpath.join(*parts))
