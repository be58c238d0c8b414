"""SidePane: what the main screen asks of a pane beside the consoles.

A pane is one module: a widget that says its name, help, keys and rows, draws what it finds in a SessionView, and asks
for things by posting command lines. It never sees the session or the engine. To add one, write the module and name
it in `panes/side.py`; tabs, layout, help and the palette follow from there.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from textual.message import Message
from textual.widget import Widget
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from cc_tui.session import SessionView
from cc_tui.tui.keymap import LIST_KEYS, PaneKey
from cc_tui.tui.option_list import SizelessList

# A mixin of widgets: Textual reads styles off the first of a widget's bases, so it is none itself.
_Base = Widget if TYPE_CHECKING else object


class Ask(Message):
    """A pane wants a line of the command language carried out; if there is a question, once a person has said yes."""

    def __init__(self, line: str, question: str = "") -> None:
        super().__init__()
        self.line, self.question = line, question


class Fill(Message):
    """A pane wants a person to write the last word of a command: all of what is written is that word."""

    def __init__(self, start: str, word: str) -> None:
        """`start`: what comes before the word; `word`: what it is to begin with."""
        super().__init__()
        self.start, self.word = start, word


class SidePane(_Base):
    """See the module."""

    NAME: ClassVar[str]
    """What `view` calls it, its widget's id and its title."""
    ABOUT: ClassVar[str]
    """A sentence or two for the help."""
    PANE_KEYS: ClassVar[tuple[PaneKey, ...]]
    ROWS_MIN: ClassVar[int] = 5
    """Rows, with its frame, below which it is not worth showing beside others."""
    WEIGHT: ClassVar[int] = 1
    """Its share of the rows that are left over."""
    FILTERS: ClassVar[bool] = False
    """Does `find` show only what holds a text, rather than search the console?"""
    pattern: str = ""
    """The text that entries must hold to be shown, if it filters."""

    def show(self, view: SessionView) -> None:
        """Show things as they are in this picture. Called for every picture while the pane is in view."""
        raise NotImplementedError

    def filter(self, text: str) -> None:
        """Show only what holds `text`; everything, if it is empty."""

    def hints(self, view: SessionView) -> list[tuple[str, str]]:
        """Keys of its own for the hint line while it has the focus: (keys, what they do)."""
        return []


class ListPane(SidePane, SizelessList):
    """A pane that is a list; choosing an entry goes to its place."""

    PANE_KEYS = LIST_KEYS

    def __init__(self) -> None:
        super().__init__(id=self.NAME, compact=True, classes="side-pane")

    def place(self, index: int) -> str:
        """What `goto` takes for an entry."""
        raise NotImplementedError

    def replace(self, options: Iterable[Option], highlighted: int | None) -> None:
        """Show other entries."""
        self.set_options(options)
        if highlighted is not None and highlighted < self.option_count:
            self.highlighted = highlighted

    def hints(self, view: SessionView) -> list[tuple[str, str]]:
        return [("enter", "go there")] if self.option_count else []

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        message.stop()
        self.screen.post_message(Ask(f"goto {self.place(message.option_index)}"))


__all__ = ["Ask", "Fill", "ListPane", "SidePane"]
