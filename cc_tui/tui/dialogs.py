"""What covers the panes for a moment: help, and the question before leaving."""

from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from cc_tui.commands import BY_NAME, SPECS
from cc_tui.tui.keymap import (
    CONSOLE_KEYS,
    KEYS,
    LIST_KEYS,
    MACHINE_KEYS,
    MERGED_KEYS,
    PaneKey,
    show_keys,
)
from cc_tui.tui.theme import app_of

_PANES: dict[str, tuple[str, tuple[PaneKey, ...], str]] = {
    "console": (
        "Console", CONSOLE_KEYS,
        "The serial console of one machine, as it is at the cursor. While it takes keys (KEYS → vm in the status), "
        "everything goes to the guest except ctrl+] and escape, which end it. Typing lets time run; in the past it "
        r'makes a branch first. An escape for the guest: type 0 "\e".',
    ),
    "all": ("All consoles", MERGED_KEYS, "The lines of all consoles by the virtual time at which they began."),
    "machine": (
        "Machine", MACHINE_KEYS,
        "Registers and code of the machine in focus at the cursor; what changed since the last picture stands out.",
    ),
    "branches": ("Branches", LIST_KEYS, "The tree of histories, each with its span; enter goes to the end of one."),
    "events": (
        "Events", LIST_KEYS,
        "What happened on this line of history: i an input, b a branch, m a mark, ! a machine that stopped, l a line "
        "of a machine's own log. Enter goes to just before it.",
    ),
}  # fmt: skip


class HelpScreen(ModalScreen[None]):
    """Keys of the focused pane first, then all keys, then all commands."""

    BINDINGS: ClassVar = [
        Binding("escape,q,question_mark,enter", "close", "close"),
        Binding("up,k", "scroll(-1)", "up"),
        Binding("down,j", "scroll(1)", "down"),
        Binding("pageup", "scroll(-12)", "page up"),
        Binding("pagedown,space", "scroll(12)", "page down"),
    ]

    def __init__(self, pane: str, topic: str, remapped: dict[str, str]) -> None:
        super().__init__()
        self._pane = "console" if pane.isdecimal() or pane == "grid" else pane
        self._topic = topic
        self._remapped = remapped

    def compose(self) -> ComposeResult:
        with Vertical(id="help-box"):
            with VerticalScroll(id="help-scroll", can_focus=False):
                if self._topic in BY_NAME:
                    yield Static(self._one_command(self._topic))
                else:
                    yield Static(self._pane_keys())
                    yield Static(self._all_keys())
                    yield Static(self._commands())
            yield Static(" ↑ ↓ scroll   esc closes", id="help-foot")

    def action_close(self) -> None:
        self.dismiss(None)

    def action_scroll(self, by: int) -> None:
        self.query_one("#help-scroll", VerticalScroll).scroll_relative(y=by, animate=False)

    # ---- contents ---------------------------------------------------------------------------------------------------

    def _colours(self) -> dict[str, str]:
        return app_of(self).theme_variables

    def _heading(self, table: Table, title: str) -> None:
        table.add_row("", "")
        table.add_row(Text(title, f"bold {self._colours()['accent']}"), "")

    def _table(self, width: int = 12) -> Table:
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(no_wrap=True, width=width, style=f"bold {self._colours()['primary']}")
        table.add_column(ratio=1)
        return table

    def _keys(self, key_id: str, keys: str) -> str:
        return show_keys(self._remapped.get(key_id, keys))

    def _pane_keys(self) -> Table:
        title, keys, about = _PANES.get(self._pane, _PANES["console"])
        table = self._table()
        table.add_row(Text(title, f"bold {self._colours()['accent']}"), Text(about, self._colours()["quiet"]))
        for key in keys:
            self._key_row(table, self._keys(key.id, key.keys), key.help, key.id)
        return table

    def _key_row(self, table: Table, keys: str, text: str, key_id: str) -> None:
        table.add_row(keys, Text.assemble(text, (f"  {key_id}", self._colours()["dim"])))

    def _all_keys(self) -> Table:
        table, group = self._table(), ""
        for key in KEYS:
            if key.id.startswith("pane.") and key.id[5:].isdecimal() and key.id != "pane.1":
                continue
            if key.group != group:
                group = key.group
                self._heading(table, group)
            keys, text = self._keys(key.id, key.keys), key.help
            if key.id == "pane.1":
                keys, text = "1 … 9", "the tab of that number"
            self._key_row(table, keys, text, key.id)
        return table

    def _commands(self) -> Table:
        table = self._table(26)
        self._heading(table, "Commands, after : or in a script")
        for spec in SPECS:
            text = Text(spec.summary)
            if spec.example:
                text.append(f"   {spec.example}", self._colours()["quiet"])
            table.add_row(spec.usage, text)
        return table

    def _one_command(self, name: str) -> Table:
        spec = BY_NAME[name]
        table = self._table(26)
        table.add_row(spec.usage, spec.summary)
        if spec.aliases:
            table.add_row("also", ", ".join(spec.aliases))
        if spec.example:
            table.add_row("example", spec.example)
        return table


class LeaveScreen(ModalScreen[str]):
    """Asked only if something would be lost. Gives `leave`, `save` or nothing."""

    BINDINGS: ClassVar = [
        Binding("s", "answer('save')", "save"),
        Binding("q,l", "answer('leave')", "leave"),
        Binding("escape,n", "answer('')", "stay"),
    ]

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self._inputs = inputs

    def compose(self) -> ComposeResult:
        colours = app_of(self).theme_variables
        key = f"bold {colours['primary']}"
        what = "an input or branch is" if self._inputs == 1 else f"{self._inputs} inputs and branches are"
        with Vertical(id="leave-box"):
            yield Static(Text.assemble(("Leave cc-tui?\n\n", "bold"), f"Of this session {what} not saved yet."))
            yield Static(
                Text.assemble(("s", key), " save a script first   ", ("q", key), " leave   ", ("esc", key), " stay"),
                id="leave-keys",
            )

    def action_answer(self, answer: str) -> None:
        self.dismiss(answer)
