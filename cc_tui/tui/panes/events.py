"""The events pane: what happened on the cursor's line of history. Choosing an entry goes to its moment.

Every kind has a letter: i an input, b a fork, m a mark, ! a machine that stopped, l a line of a machine's own log.
"""

from typing import NamedTuple

from rich.text import Text
from textual.widgets.option_list import Option

from cc_tui.commands.language import quote
from cc_tui.commands.place import exact_place
from cc_tui.session import SessionView
from cc_tui.tui.keymap import LIST_KEYS, pane_bindings
from cc_tui.tui.panes.branches import input_text, seconds
from cc_tui.tui.panes.pane import ListPane
from cc_tui.tui.theme import app_of
from chaoscontrol.timetravel import GivenInput, Position, typed_lines

ENTRIES_MAX = 2000


class Entry(NamedTuple):
    """One event; entries sort by time."""

    at: Position
    letter: str
    text: str


def _typed(group: list[GivenInput]) -> Entry:
    return Entry(group[0].at, "i", input_text(group))


def entries(view: SessionView) -> list[Entry]:
    """The events of the cursor's line of history, the earliest first."""
    found = [_typed(group) for group in typed_lines(view.inputs)]
    for branch in view.branches:
        if branch.parent is not None and view.on_line(branch.parent.branch, branch.start):
            found.append(Entry(branch.start, "b", f"branch {branch.name}"))
    for name, moment in view.marks.items():
        if view.on_line(moment.branch, moment.position):
            found.append(Entry(moment.position, "m", f"mark {name}"))
    found += [Entry(Position(ending.vns), "!", f"vm{ending.machine} {ending.kind}") for ending in view.endings]
    found += [Entry(Position(vns), "l", f"vm{machine} {text}") for vns, machine, text in view.log]
    return sorted(found)[-ENTRIES_MAX:]


class EventPane(ListPane):
    """A list of events; those that the cursor has not reached are dim."""

    NAME = "events"
    ABOUT = (
        "What happened on this line of history: i an input, b a branch, m a mark, ! a machine that stopped, l a line "
        "of a machine's own log. Enter goes to just before it."
    )
    ROWS_MIN = 6
    WEIGHT = 2
    BINDINGS = pane_bindings(LIST_KEYS)

    def __init__(self) -> None:
        super().__init__()
        self._shown: object = None
        self._entries: list[Entry] = []
        self._branch = ""

    def show(self, view: SessionView) -> None:
        """Show the events as they are in this picture."""
        found = entries(view)
        reached = sum(1 for entry in found if entry.at <= view.position)
        state = (view.branch.name, reached, found)
        if state == self._shown:
            return
        self._shown, self._entries, self._branch = state, found, view.branch.name
        options = [Option(self._prompt(entry, at < reached)) for at, entry in enumerate(found)]
        self.replace(options, reached - 1 if reached else None)

    def place(self, index: int) -> str:
        return quote(exact_place(self._branch, self._entries[index].at))

    def _prompt(self, entry: Entry, reached: bool) -> Text:
        colours = app_of(self).theme_variables
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f"{seconds(entry.at.vns):>11} ", colours["quiet"] if reached else colours["faint"])
        letter = colours["warning"] if entry.letter == "!" else colours["primary"]
        text.append(f"{entry.letter} ", letter if reached else colours["faint"])
        text.append(entry.text, "" if reached else colours["quiet"])
        return text
