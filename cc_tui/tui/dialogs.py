"""What covers the panes for a moment: help, what a command found out, questions."""

from textwrap import wrap
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from cc_tui.commands import BY_NAME, SPECS
from cc_tui.commands.bench import unsaved_text
from cc_tui.console_text import safe_line
from cc_tui.tui.keymap import CONSOLE_KEYS, KEYS, MERGED_KEYS, PaneKey, show_keys
from cc_tui.tui.panes.side import SIDE_PANES
from cc_tui.tui.theme import app_of

HELP_COLUMNS_MAX = 104
KEY_COLUMNS = 12
COMMAND_COLUMNS = 26

_PANES: dict[str, tuple[str, tuple[PaneKey, ...], str]] = {
    "console": (
        "Console", CONSOLE_KEYS,
        "The serial console of one machine, as it is at the cursor. While it takes keys (KEYS → vm in the status), "
        "everything goes to the guest except ctrl+] and escape, which end it. Typing lets time run; in the past it "
        r'makes a branch first. An escape for the guest: type 0 "\e".',
    ),
    "all": ("All consoles", MERGED_KEYS, "The lines of all consoles by the virtual time at which they began."),
    **{pane.NAME: (pane.NAME.capitalize(), pane.PANE_KEYS, pane.ABOUT) for pane in SIDE_PANES},
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
                yield Static(id="help-text")
            yield Static(" ↑ ↓ scroll   esc closes", id="help-foot")

    def on_resize(self) -> None:
        # Wrapped by hand: a table of this size takes a quarter of a second to lay out.
        width = min(app_of(self).size.width * 92 // 100, HELP_COLUMNS_MAX) - 6
        page = _Page(width, app_of(self).theme_variables)
        if self._topic in BY_NAME:
            self._one_command(page, self._topic)
        else:
            self._pane_keys(page)
            self._all_keys(page)
            self._commands(page)
        self.query_one("#help-text", Static).update(page.text)

    def action_close(self) -> None:
        self.dismiss(None)

    def action_scroll(self, by: int) -> None:
        self.query_one("#help-scroll", VerticalScroll).scroll_relative(y=by, animate=False)

    # ---- contents ---------------------------------------------------------------------------------------------------

    def _keys(self, key_id: str, keys: str) -> str:
        return show_keys(self._remapped.get(key_id, keys))

    def _pane_keys(self, page: "_Page") -> None:
        title, keys, about = _PANES.get(self._pane, _PANES["console"])
        page.heading(title)
        page.paragraph(about)
        for key in keys:
            page.entry(KEY_COLUMNS, self._keys(key.id, key.keys), key.help, key.id)

    def _all_keys(self, page: "_Page") -> None:
        group = ""
        for key in KEYS:
            if key.id.startswith("pane.") and key.id[5:].isdecimal() and key.id != "pane.1":
                continue
            if key.group != group:
                group = key.group
                page.heading(group)
            if key.id == "pane.1":
                page.entry(KEY_COLUMNS, "1 … 9, 0", "the tab of that number, 0 the tenth", "pane.1 …")
            else:
                page.entry(KEY_COLUMNS, self._keys(key.id, key.keys), key.help, key.id)

    def _commands(self, page: "_Page") -> None:
        page.heading("Commands, after : or in a script")
        for spec in SPECS:
            page.entry(COMMAND_COLUMNS, spec.usage, spec.summary, spec.example)

    def _one_command(self, page: "_Page", name: str) -> None:
        spec = BY_NAME[name]
        page.heading(spec.usage)
        page.paragraph(spec.summary)
        if spec.aliases:
            page.entry(KEY_COLUMNS, "also", ", ".join(spec.aliases), "")
        if spec.example:
            page.entry(KEY_COLUMNS, "example", spec.example, "")
        if spec.forms:
            page.heading("Where")
        for form, form_about in spec.forms:
            page.entry(COMMAND_COLUMNS, form, form_about, "")


class _Page:
    """Help as lines of at most `width` cells."""

    def __init__(self, width: int, colours: dict[str, str]) -> None:
        self.text = Text()
        self._width = max(width, 40)
        self._colours = colours

    def heading(self, title: str) -> None:
        self.text.append(f"{chr(10) if self.text else ''}{title}\n", f"bold {self._colours['accent']}")

    def paragraph(self, about: str) -> None:
        self.text.append("\n".join(wrap(about, self._width)) + "\n\n", self._colours["quiet"])

    def entry(self, column: int, key: str, about: str, note: str) -> None:
        """A key or command, what it does, and something dim behind it."""
        lines = wrap(about, self._width - column) or [""]
        gap = " " * (column - len(key)) if len(key) < column else f"\n{' ' * column}"
        self.text.append(f"{key}{gap}", f"bold {self._colours['primary']}")
        self.text.append(f"\n{' ' * column}".join(lines), self._colours["foreground"])
        if note and len(lines[-1]) + len(note) + column + 2 <= self._width:
            self.text.append(f"  {note}", self._colours["dim"])
        self.text.append("\n")


class AnswerScreen(ModalScreen[None]):
    """What a command found out, where one line does not hold it."""

    BINDINGS: ClassVar = [Binding("escape,q,enter", "close", "close")]

    def __init__(self, lines: tuple[str, ...]) -> None:
        super().__init__()
        self._lines = lines

    def compose(self) -> ComposeResult:
        with Vertical(id="answer-box"):
            with VerticalScroll(id="answer-scroll"):
                yield Static("\n".join(map(safe_line, self._lines)), markup=False)
            yield Static(" ↑ ↓ scroll   esc closes", id="help-foot")

    def on_mount(self) -> None:
        self.set_focus(self.query_one("#answer-scroll"))

    def action_close(self) -> None:
        self.dismiss(None)


class ConfirmScreen(ModalScreen[str]):
    """Asked before a command that cannot be taken back. Gives its line, or nothing."""

    BINDINGS: ClassVar = [
        Binding("y,enter", "answer(True)", "yes"),
        Binding("escape,n,q", "answer(False)", "no"),
    ]

    def __init__(self, question: str, line: str) -> None:
        super().__init__()
        self._question, self._line = question, line

    def compose(self) -> ComposeResult:
        key = f"bold {app_of(self).theme_variables['primary']}"
        with Vertical(classes="question-box"):
            yield Static(Text(self._question, "bold"))
            yield Static(Text.assemble(("y", key), " yes   ", ("esc", key), " no"), classes="question-keys")

    def action_answer(self, yes: bool) -> None:
        self.dismiss(self._line if yes else "")


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
        what = unsaved_text(self._inputs)
        with Vertical(classes="question-box"):
            yield Static(Text.assemble(("Leave cc-tui?\n\n", "bold"), f"Of this session {what} not saved."))
            yield Static(
                Text.assemble(("s", key), " save a script first   ", ("q", key), " leave   ", ("esc", key), " stay"),
                classes="question-keys",
            )

    def action_answer(self, answer: str) -> None:
        self.dismiss(answer)
