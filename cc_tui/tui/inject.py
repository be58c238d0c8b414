"""The form that injects a fault: a searchable list of kinds, then the fields of the chosen one.

It gives a line of the command language, so what it does is in the session's script like everything else.
"""

import inspect
from dataclasses import dataclass, field
from typing import ClassVar

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from cc_tui.fault_fields import DURATION, FaultField, fields_of, inject_line, make_fault, read_duration
from cc_tui.tui.option_list import SizelessList
from cc_tui.tui.theme import app_of
from chaoscontrol.faults import FAULTS, Fault, FaultError

ROWS_MAX = 1 + max(len(fields_of(kind)) for kind in FAULTS.values())
"""Rows for fields, the duration's included."""
NAME_CELLS = 20


@dataclass(slots=True)
class FormMemory:
    """What was written last in this session, by kind of fault."""

    kind: str = ""
    texts: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])


def about(kind: type[Fault]) -> str:
    """What a kind of fault does, in one line."""
    text = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
    return f"{text} (guest agent)" if kind.NEEDS_AGENT else text


def search(text: str) -> list[str]:
    """The kinds of fault that match a text: one of that letter first, then by name, then by what they do."""
    words = text.strip().lower().replace("_", " ").split()

    def rank(name: str) -> int | None:
        kind = FAULTS[name]
        plain = name.replace("_", " ")
        if text.strip() == kind.LETTER:
            return 0
        if all(word in plain for word in words):
            return 1
        return 2 if all(word in f"{plain} {about(kind).lower()}" for word in words) else None

    ranked = [(found, at, name) for at, name in enumerate(FAULTS) if (found := rank(name)) is not None]
    return [name for _, _, name in sorted(ranked)]


class _FieldInput(Input):
    """The text of one field; where its values can be counted, left and right go through them."""

    choices: tuple[str, ...] = ()

    def on_key(self, event: events.Key) -> None:
        if self.choices and event.key in ("left", "right"):
            event.stop()
            event.prevent_default()
            at = self.choices.index(self.value) if self.value in self.choices else -1
            self.value = self.choices[(at + (1 if event.key == "right" else -1)) % len(self.choices)]
            self.cursor_position = len(self.value)


class InjectForm(ModalScreen[str]):
    """See the module. Gives the command line, or nothing."""

    BINDINGS: ClassVar = [
        Binding("escape", "leave", "leave"),
        Binding("down,tab", "next", "next"),
        Binding("up,shift+tab", "previous", "previous"),
        Binding("pagedown", "page(1)", "page down"),
        Binding("pageup", "page(-1)", "page up"),
    ]
    AUTO_FOCUS = "#inject-search"

    def __init__(self, memory: FormMemory, *, machines: int, focus: int, where: str, forks: bool) -> None:
        """`where`: the moment, for the title; `forks`: injecting makes a branch first."""
        super().__init__()
        self._memory = memory
        self._machines, self._focus = machines, focus
        self._where = f"at {where}" + ("; in the past, so on a new branch" if forks else "")
        self._found = list(FAULTS)
        self._kind: type[Fault] | None = None
        """The kind whose fields are shown."""
        self._fields: list[FaultField | None] = []
        """What each row is about; None: the duration."""

    def compose(self) -> ComposeResult:
        with Vertical(id="inject-box"):
            yield Static(id="inject-title", markup=False)
            yield Input(id="inject-search", compact=True, placeholder="search: a letter, a name, what it does")
            yield SizelessList(id="inject-kinds", compact=True)
            for at in range(ROWS_MAX):
                with Horizontal(id=f"inject-row-{at}", classes="inject-row"):
                    yield Static(classes="inject-name", markup=False)
                    yield _FieldInput(classes="inject-input", compact=True, select_on_focus=False)
                    yield Static(classes="inject-hint", markup=False)
            yield Static(id="inject-line", markup=False)
            yield Static(id="inject-foot", markup=False)

    def on_mount(self) -> None:
        self.query_one("#inject-kinds", OptionList).can_focus = False
        self._show_kinds()

    # ---- the list of kinds ------------------------------------------------------------------------------------------

    def _show_kinds(self) -> None:
        self._kind = None
        self.query_one("#inject-box").remove_class("-fields")
        self._title(Text("Inject a fault", "bold"))
        for row in self.query(".inject-row"):
            row.display = False
        self.query_one("#inject-line").display = False
        self.query_one("#inject-kinds").display = True
        box = self.query_one("#inject-search", Input)
        box.display = True
        self._foot("↑ ↓ choose   enter its fields   esc leaves")
        self._list(search(box.value), self._memory.kind)
        self.set_focus(box)

    def _title(self, what: Text) -> None:
        quiet = app_of(self).theme_variables["quiet"]
        self.query_one("#inject-title", Static).update(Text.assemble(what, (f"  {self._where}", quiet)))

    def _foot(self, text: str) -> None:
        self.query_one("#inject-foot", Static).update(text)

    def _list(self, found: list[str], highlighted: str) -> None:
        self._found = found
        kinds = self.query_one("#inject-kinds", OptionList)
        colours = app_of(self).theme_variables
        options: list[Option] = []
        for name in found:
            line = Text(no_wrap=True, overflow="ellipsis")
            line.append(f" {FAULTS[name].LETTER} ", f"bold {colours['accent']}")
            line.append(f"{name:<{NAME_CELLS}}", colours["foreground"])
            line.append(about(FAULTS[name]), colours["quiet"])
            options.append(Option(line))
        kinds.set_options(options or [Option(Text(" no kind of fault matches", colours["quiet"]), disabled=True)])
        if found:
            kinds.highlighted = found.index(highlighted) if highlighted in found else 0

    # ---- the fields of one ------------------------------------------------------------------------------------------

    def _show_fields(self, name: str) -> None:
        kind = self._kind = FAULTS[name]
        self._memory.kind = name
        self.query_one("#inject-box").add_class("-fields")
        colours = app_of(self).theme_variables
        self._title(Text.assemble((f"{kind.LETTER} ", f"bold {colours['accent']}"), (name, "bold")))
        self.query_one("#inject-search").display = False
        self.query_one("#inject-kinds").display = False
        self.query_one("#inject-line").display = True
        self._fields = [*fields_of(kind), *([None] if kind.LASTS else [])]
        known = self._memory.texts.get(name, {})
        for at in range(ROWS_MAX):
            row = self.query_one(f"#inject-row-{at}")
            row.display = at < len(self._fields)
            if at < len(self._fields):
                self._fill(row, self._fields[at], known)
        self._foot(f"{about(kind)}\n↑ ↓ field, above them: kinds   ← → choice   enter injects   esc leaves")
        if self._fields:
            self.set_focus(self._input(0))
        else:
            self.set_focus(None)
        self._check()

    def _fill(self, row: object, about_field: FaultField | None, known: dict[str, str]) -> None:
        assert isinstance(row, Horizontal), "fields stand in rows"
        name = DURATION if about_field is None else about_field.name
        if about_field is None:
            initial, hint, choices = "", "500ms, 2s; nothing: until healed", ()
        else:
            initial = about_field.initial(self._machines, self._focus)
            hint, choices = about_field.allowed(self._machines), about_field.choices(self._machines)
        row.query_one(".inject-name", Static).update(name)
        row.query_one(".inject-hint", Static).update(hint)
        box = row.query_one(_FieldInput)
        box.choices = choices
        box.value = known.get(name, initial)
        box.cursor_position = len(box.value)

    def _input(self, at: int) -> _FieldInput:
        return self.query_one(f"#inject-row-{at}", Horizontal).query_one(_FieldInput)

    def _texts(self) -> dict[str, str]:
        return {
            DURATION if about_field is None else about_field.name: self._input(at).value
            for at, about_field in enumerate(self._fields)
        }

    def _line(self) -> str:
        """The command line that the fields say. Raises FaultError."""
        assert self._kind is not None, "a kind is chosen"
        texts = self._texts()
        fault = make_fault(self._kind, texts, self._machines)
        return inject_line(fault, read_duration(self._kind, texts.get(DURATION, "")))

    def _check(self) -> str:
        """Show the command, or what is wrong with it; gives the command."""
        colours, shown = app_of(self).theme_variables, self.query_one("#inject-line", Static)
        try:
            line = self._line()
        except FaultError as error:
            hint = f"; {error.hint}" if error.hint else ""
            shown.update(Text(f"✗ {error.what}{hint}", colours["error"]))
            return ""
        shown.update(Text(f": {line}", colours["primary"]))
        return line

    # ---- keys -------------------------------------------------------------------------------------------------------

    def on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            self._enter()

    def _enter(self) -> None:
        if self._kind is not None:
            self._inject()
            return
        highlighted = self.query_one("#inject-kinds", OptionList).highlighted
        if highlighted is not None and highlighted < len(self._found):
            self._show_fields(self._found[highlighted])

    @on(Input.Changed)
    def _changed(self, message: Input.Changed) -> None:
        message.stop()
        if self._kind is not None:
            self._check()
        elif message.input.id == "inject-search":
            self._list(search(message.value), self._memory.kind if not message.value else "")

    @on(OptionList.OptionSelected)
    def _chosen(self, message: OptionList.OptionSelected) -> None:
        message.stop()
        self._show_fields(self._found[message.option_index])

    def _inject(self) -> None:
        assert self._kind is not None, "a kind is chosen"
        line = self._check()
        if line:
            self._memory.texts[self._kind.kind()] = self._texts()
            self.dismiss(line)

    def action_leave(self) -> None:
        self.dismiss("")

    def action_next(self) -> None:
        self._move(1)

    def action_previous(self) -> None:
        self._move(-1)

    def action_page(self, pages: int) -> None:
        if self._kind is None:
            kinds = self.query_one("#inject-kinds", OptionList)
            (kinds.action_page_down if pages > 0 else kinds.action_page_up)()

    def _move(self, by: int) -> None:
        if self._kind is None:
            kinds = self.query_one("#inject-kinds", OptionList)
            (kinds.action_cursor_down if by > 0 else kinds.action_cursor_up)()
            return
        inputs = [self._input(at) for at in range(len(self._fields))]
        at = next((at for at, box in enumerate(inputs) if box.has_focus), 0)
        if at + by < 0 or not inputs:
            self._show_kinds()
        else:
            self.set_focus(inputs[min(at + by, len(inputs) - 1)])


__all__ = ["FormMemory", "InjectForm", "about", "search"]
