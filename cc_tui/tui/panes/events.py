"""The events pane: what happened on the cursor's line of history. Choosing an entry goes to its moment.

Every kind has a letter: i an input, b a fork, m a mark, ! a machine that stopped or a property that was broken, e an
event that a guest sent, a fault's own letter where it begins and ends, · a line of a machine's own log.

What the picture knows is sorted anew for each; what the guests sent, which may be a great deal, is indexed once and
merged with it an entry at a time.
"""

from bisect import bisect_left, bisect_right
from typing import NamedTuple

from cc_tui.commands.language import quote
from cc_tui.commands.place import exact_place
from cc_tui.session import SessionView
from cc_tui.tui.event_index import EventIndex, letter_of
from cc_tui.tui.guest_text import plain
from cc_tui.tui.keymap import LIST_KEYS, pane_bindings
from cc_tui.tui.panes.branches import input_text, seconds
from cc_tui.tui.panes.faults import place_of
from cc_tui.tui.panes.listing import Listing
from cc_tui.tui.rows import Line
from chaoscontrol.events import Event
from chaoscontrol.protocol import SdkEvent
from chaoscontrol.timetravel import ConsoleInput, GivenInput, Position, typed_lines

LOG_LINES_MAX = 2000
"""Lines of the machines' own logs that are shown, the latest."""
LOG_LETTER = "·"


class Entry(NamedTuple):
    """One event; entries sort by time."""

    at: Position
    letter: str
    text: str
    way: tuple[str, ...] = ()
    """Command lines that lead there, where its position does not say it all."""


def _typed(group: list[GivenInput]) -> Entry:
    text = input_text(group)
    if isinstance(group[0].input, ConsoleInput):
        machine, _, line = text.partition(" ")
        text = f"{machine} typed {line}"
    return Entry(group[0].at, "i", text)


def landmarks(view: SessionView) -> list[Entry]:
    """What was done to the cursor's line of history and what stopped on it, the earliest first."""
    found = [_typed(group) for group in typed_lines(view.inputs)]
    for branch in view.branches:
        if branch.parent is not None and view.on_line(branch.parent.branch, branch.start):
            found.append(Entry(branch.start, "b", f"branch {branch.name}{_about(branch.note)}"))
    for name, moment in view.marks.items():
        if view.on_line(moment.branch, moment.position):
            found.append(Entry(moment.position, "m", f"mark {name}{_about(view.mark_notes.get(name, ''))}"))
    found += [Entry(Position(ending.vns), "!", f"vm{ending.machine} {ending.kind}") for ending in view.endings]
    return sorted(found)


def _about(note: str) -> str:
    return f": {note}" if note else ""


def entries(view: SessionView) -> list[Entry]:
    """Everything that the picture itself tells of, the earliest first."""
    found = landmarks(view)
    for vns, machine, text in view.log[-LOG_LINES_MAX:]:
        found.append(Entry(Position(vns), LOG_LETTER, f"vm{machine} {text}"))
    for span in view.cluster.faults:
        way = (f"goto {quote(place_of(view, span.begin_ns))}",)
        begins = "begins: " if span.fault.LASTS else ""
        found.append(Entry(Position(span.begin_ns), span.fault.LETTER, f"{begins}{span.fault}", way))
        if span.end_ns is not None and span.fault.LASTS:
            way = (f"goto {quote(place_of(view, span.end_ns))}",)
            found.append(Entry(Position(span.end_ns), span.fault.LETTER, f"ends: {span.fault}", way))
    for failure in view.cluster.failures:
        at = failure.at
        who = f"vm{at.vm} " if at.vm >= 0 else ""
        text = f"{who}broke {failure.name}  {failure.details}"
        found.append(Entry(Position(at.vns), "!", text, _exactly(at.vm, at.instret)))
    return sorted(found)


def _exactly(machine: int, instret: int) -> tuple[str, ...]:
    return (f"vm {machine}", f"goto {instret}i") if machine >= 0 else ()


def entry_of(event: Event) -> Entry:
    """The entry of an event of the log."""
    text = event.text
    if isinstance(event.data, SdkEvent):
        data = event.data
        what = "broke " if data.failed else "" if data.message else data.command.name.lower()
        text = f"vm{event.vm} {what}{data.message}  {data.json}"
    return Entry(Position(event.vns), letter_of(event), text, _exactly(event.vm, event.instret))


class EventPane(Listing):
    """A list of events; those that the cursor has not reached are dim."""

    NAME = "events"
    ABOUT = (
        "What happened on this line of history: i an input, b a branch, m a mark, ! a machine that stopped or a "
        "property that was broken, e an event that a guest sent, a fault's letter where it begins and ends, ? a fault "
        "that could not be applied, · a line of a machine's own log. Enter goes there, for what a machine did to the "
        "exact instruction, for an input to just before it. / shows those that hold a text."
    )
    ROWS_MIN = 6
    WEIGHT = 2
    FILTERS = True
    ABSENT = "nothing has happened on this line of history yet"
    BINDINGS = pane_bindings(LIST_KEYS)

    def __init__(self) -> None:
        super().__init__()
        self._known: list[Entry] = []
        """What the picture tells of."""
        self._ranks: list[int] = []
        """Where those are among all."""
        self._index: EventIndex | None = None
        self._index_key: object = None
        """What decides which events are in the index."""
        self._indexed = 0
        """Events of the index that lie before the cursor."""
        self._current = 0
        """Entries that the cursor has reached."""
        self._shown: object = None

    def show(self, view: SessionView) -> None:
        """Show the events as they are in this picture."""
        self.view = view
        self.filtered()

    def filtered(self) -> None:
        view = self.view
        if view is None:
            return
        cluster = view.cluster
        listed = {(failure.at.vns, failure.at.vm, failure.name) for failure in cluster.failures}
        known = [entry for entry in entries(view) if self.matches(plain(entry.text))]
        key = (self.pattern, frozenset(listed))
        if self._index is None or self._index.log is not cluster.events or key != self._index_key:
            self._index_key = key
            self._index = EventIndex(cluster.events, lambda event: self._wanted(event, listed))
        indexed = self._index.update(cluster.events_total)
        if not self._index.knows(cluster.events_total):
            self.call_later(self.filtered)
        reached = bisect_right(known, view.position, key=lambda entry: entry.at)
        state = (view.branch.name, reached, self.pattern, indexed, known)
        if state == self._shown:
            return
        self._shown, self._known, self._indexed = state, known, indexed
        # Of one instant the guests' events come first: what the person did there was done to a machine at rest.
        times = self._index.times
        self._ranks = [at + bisect_right(times, entry.at.vns, hi=indexed) for at, entry in enumerate(known)]
        self._current = reached + indexed
        self.changed(max(self._current - 1, 0))

    def _wanted(self, event: Event, listed: set[tuple[int, int, str]]) -> bool:
        data = event.data
        if isinstance(data, SdkEvent) and data.failed and (event.vns, event.vm, data.message) in listed:
            return False
        return not self.pattern or self.matches(plain(entry_of(event).text))

    def entry(self, index: int) -> Entry:
        """The entry at a place in the whole list."""
        before = bisect_left(self._ranks, index)
        if before < len(self._ranks) and self._ranks[before] == index:
            return self._known[before]
        assert self._index is not None, "what is not known is indexed"
        return entry_of(self._index.events[index - before])

    def entry_count(self) -> int:
        return len(self._known) + self._indexed

    def way_to(self, index: int) -> list[str]:
        entry = self.entry(index)
        if entry.way or self.view is None:
            return list(entry.way)
        return [f"goto {quote(exact_place(self.view.branch.name, entry.at))}"]

    def draw_entry(self, index: int, width: int) -> Line:
        entry, reached = self.entry(index), index < self._current
        row = Line()
        row.append(f"{seconds(entry.at.vns):>11} ", self.colour("quiet" if reached else "faint"))
        letter = "error" if entry.letter == "!" else "primary"
        row.append(f"{entry.letter} ", self.colour(letter if reached else "faint"))
        row.append(plain(entry.text), self.colour("foreground" if reached else "quiet"))
        return row
