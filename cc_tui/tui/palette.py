"""The palette: every command and every pane in one list, found by a word of its name or of what it does.

Textual has one too, but it searches in the background and leaves in its own time, so keys that come with its own would
go astray.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, NamedTuple

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.fuzzy import Matcher
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from cc_tui.tui.option_list import SizelessList
from cc_tui.tui.theme import app_of

TITLE_CELLS = 26


class Entry(NamedTuple):
    """Something to choose."""

    title: str
    help: str
    callback: Callable[[], None]


def search(entries: Iterable[Entry], text: str) -> list[Entry]:
    """The entries that match a text: those whose name begins with it first, then by name, by help, by letters."""
    text = text.strip().lower()
    words, matcher = text.split(), Matcher(text)

    def rank(entry: Entry) -> int | None:
        title = entry.title.lower()
        if title.startswith(text):
            return 0
        if all(word in title for word in words):
            return 1
        if all(word in f"{title} {entry.help.lower()}" for word in words):
            return 2
        return 3 if matcher.match(title.split()[0]) > 0 else None

    ranked = [(found, at, entry) for at, entry in enumerate(entries) if (found := rank(entry)) is not None]
    return [entry for _, _, entry in sorted(ranked, key=lambda found: found[:2])]


class Palette(ModalScreen[Entry]):
    """See the module. Gives the entry that was chosen, or nothing."""

    BINDINGS: ClassVar = [
        Binding("escape,ctrl+p", "leave", "leave"),
        Binding("down,tab", "list('cursor_down')", "next"),
        Binding("up,shift+tab", "list('cursor_up')", "previous"),
        Binding("pagedown", "list('page_down')", "page down"),
        Binding("pageup", "list('page_up')", "page up"),
    ]
    AUTO_FOCUS = "#palette-search"

    def __init__(self, entries: Sequence[Entry]) -> None:
        super().__init__()
        self._entries = entries
        self._found: list[Entry] = []

    def compose(self) -> ComposeResult:
        with Vertical(id="palette-box"):
            yield Input(id="palette-search", compact=True, placeholder="search: a name, what it does")
            yield SizelessList(id="palette-list", compact=True)
            yield Static(" ↑ ↓ choose   enter does it   esc leaves", id="palette-foot", markup=False)

    def on_mount(self) -> None:
        self.query_one("#palette-list", OptionList).can_focus = False
        self._list("")

    def _list(self, text: str) -> None:
        self._found = search(self._entries, text)
        shown = self.query_one("#palette-list", OptionList)
        colours = app_of(self).theme_variables
        options: list[Option] = []
        for entry in self._found:
            line = Text(no_wrap=True, overflow="ellipsis")
            line.append(f" {entry.title:<{TITLE_CELLS}}  ", colours["foreground"])
            line.append(entry.help, colours["quiet"])
            options.append(Option(line))
        shown.set_options(options or [Option(Text(" no command matches", colours["quiet"]), disabled=True)])
        shown.highlighted = 0 if options else None

    def on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            highlighted = self.query_one("#palette-list", OptionList).highlighted
            if highlighted is not None:
                self.dismiss(self._found[highlighted])

    @on(Input.Changed)
    def _changed(self, message: Input.Changed) -> None:
        message.stop()
        self._list(message.value)

    @on(OptionList.OptionSelected)
    def _chosen(self, message: OptionList.OptionSelected) -> None:
        message.stop()
        self.dismiss(self._found[message.option_index])

    def action_leave(self) -> None:
        self.dismiss(None)

    def action_list(self, action: str) -> None:
        getattr(self.query_one("#palette-list", OptionList), f"action_{action}")()


__all__ = ["Entry", "Palette", "search"]
