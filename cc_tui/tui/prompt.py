"""The command line: one row that takes the hints' place while something is written into it."""

from collections.abc import Callable

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input, Static

from cc_tui.commands import BY_NAME
from cc_tui.commands.completion import Names, suggest
from cc_tui.tui.theme import app_of

HISTORY_MAX = 200
USAGE_PERCENT = 60
"""Share of the row that the description of a command may take; a longer one is cut down to its usage."""


class _Completion(Suggester):
    """Suggests the rest of a word."""

    def __init__(self, prompt: "Prompt") -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._prompt = prompt

    async def get_suggestion(self, value: str) -> str | None:
        if not value:
            return None
        prefix = self._prompt.prefix
        line = suggest(f"{prefix}{value}", self._prompt.names())
        return None if line is None else line.removeprefix(prefix)


class Prompt(Horizontal):
    """`:` for a command, `goto`, `/` for a search."""

    class Entered(Message):
        """A command line was written."""

        def __init__(self, line: str) -> None:
            super().__init__()
            self.line = line

    class Closed(Message):
        """The prompt was left; keys go to the panes again."""

    def __init__(self, names: Callable[[], Names]) -> None:
        """`names`: what there is to complete."""
        super().__init__(id="prompt")
        self.prefix = ""
        """What is written before the text to make a command of it."""
        self._one_word = False
        """Is all of the text one word, whatever is in it?"""
        self.names = names
        self._history: list[str] = []
        self._back = 0

    def compose(self) -> ComposeResult:
        yield Static(":", id="prompt-label", markup=False)
        yield Input(id="prompt-input", compact=True, suggester=_Completion(self), select_on_focus=False)
        yield Static("", id="prompt-usage", markup=False)

    @property
    def _input(self) -> Input:
        return self.query_one("#prompt-input", Input)

    def open(self, kind: str, text: str = "", *, one_word: bool = False) -> None:
        """Show it with `text` in it, to be taken or typed over.

        `kind` is empty for a command line, or the command that the text belongs to. `one_word`: what is written is one
        word of it, blanks and all, and may be empty.
        """
        self.prefix, self._one_word = f"{kind} " if kind else "", one_word
        self.query_one("#prompt-label", Static).update({"": " :", "find": " /"}.get(kind, f" {kind}:"))
        self._back = 0
        self._input.value = text
        self._input.action_select_all()
        self.query_one("#prompt-usage", Static).update(self._usage(""))
        self.display = True
        self.screen.set_focus(self._input)

    def close(self) -> None:
        self.display = False
        self.screen.post_message(self.Closed())

    def _usage(self, value: str) -> str:
        """How the command that is being written goes on."""
        name = (self.prefix or value).split(" ")[0]
        spec = BY_NAME.get(name)
        if spec is None:
            return ""
        whole = f"{spec.usage}  {spec.summary} "
        return whole if len(whole) <= app_of(self).size.width * USAGE_PERCENT // 100 else f"{spec.usage} "

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.query_one("#prompt-usage", Static).update(self._usage(event.value))

    def _enter(self) -> None:
        value = self._input.value.strip()
        self.close()
        if self.prefix == "find ":
            self.screen.post_message(self.Entered(f"find {_word(value)}" if value else "find"))
        elif value or self._one_word:
            line = f"{self.prefix}{_word(value) if self._one_word else value}"
            self._history = [*(old for old in self._history if old != line), line][-HISTORY_MAX:]
            self.screen.post_message(self.Entered(line))

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape" or (event.key == "backspace" and not self._input.value):
            event.stop()
            event.prevent_default()
            self.close()
        elif event.key == "enter":
            event.stop()
            event.prevent_default()
            self._enter()
        elif event.key in ("up", "down") and not self.prefix:
            event.stop()
            event.prevent_default()
            self._recall(1 if event.key == "up" else -1)
        elif event.key == "tab":
            event.stop()
            event.prevent_default()
            self._complete()

    def _complete(self) -> None:
        # What is shown to be taken may be about what was written before.
        line = suggest(f"{self.prefix}{self._input.value}", self.names()) if self._input.value else None
        if line is not None:
            self._input.value = line.removeprefix(self.prefix)
        self._input.cursor_position = len(self._input.value)

    def _recall(self, by: int) -> None:
        self._back = min(max(self._back + by, 0), len(self._history))
        self._input.value = self._history[-self._back] if self._back else ""
        self._input.cursor_position = len(self._input.value)


def _word(value: str) -> str:
    """The whole text as one quoted word."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
