"""The keys: which key carries out which command, under an id that the configuration file can remap.

gdb's rule: lower case goes forward, upper case goes back. Nothing is bound to ctrl+a, ctrl+b, ctrl+h, ctrl+i, ctrl+j,
ctrl+m or ctrl+shift+letter: tmux and terminals eat them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from textual.binding import Binding, BindingType

from chaoscontrol.errors import UsageError

EATEN = frozenset(f"ctrl+{letter}" for letter in "abhijm")
"""Keys that tmux, screen or the terminal itself do not pass on."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the main screen. `command` is a line of the command language; `!name` an action of the interface."""

    id: str
    keys: str
    command: str
    help: str
    group: str
    hint: str = ""
    """A word for the hint line, where HINTS and PINNED name it."""


KEYS: tuple[Key, ...] = (
    Key("time.step", "s,f10", "step", "a step forward", "Time", "step"),
    Key("time.step-back", "S", "reverse-step", "a step back", "Time"),
    Key("time.tick", "t", "tick", "one tick forward", "Time", "tick"),
    Key("time.tick-back", "T", "reverse-tick", "one tick back", "Time"),
    Key("time.insn", "i", "insn", "one instruction forward", "Time", "insn"),
    Key("time.insn-back", "I", "reverse-insn", "one instruction back", "Time"),
    Key("time.next", "n", "next", "to the next event", "Time", "event"),
    Key("time.next-back", "N", "reverse-next", "to the event before", "Time"),
    Key("time.continue", "c,f5", "continue", "on to the next landmark, or until something stops it", "Time", "go on"),
    Key("time.continue-back", "C", "reverse-continue", "back to the landmark before", "Time"),
    Key("time.goto", "g", "!prompt goto", "go to a moment, a time, a mark", "Time", "goto"),
    Key("run.toggle", "space", "!toggle", "run or pause", "Running", "run"),
    Key("run.faster", "greater_than_sign", "!speed 1", "run faster", "Running"),
    Key("run.slower", "less_than_sign", "!speed -1", "run slower", "Running"),
    Key("run.cancel", "escape", "!cancel", "stop what is under way; to the console's end; end a filter", "Running"),
    Key("run.interrupt", "ctrl+c", "!interrupt", "stop what is under way, or pause, as in gdb", "Running"),
    Key("history.branch", "b", "branch", "a branch from here", "Histories", "branch"),
    Key("fault.inject", "f", "!inject", "inject a fault; in the past this branches", "Histories", "fault"),
    Key("history.mark", "m", "mark", "mark this moment", "Histories", "mark"),
    Key("history.copy", "y", "copy", "copy this moment", "Histories"),
    Key("history.probe", "x", "!probe", "probe: run a command in a guest, in no history", "Histories"),
    Key("pane.search", "slash", "!search", "search the console in view, upwards; filter a list", "Panes", "search"),
    Key("pane.next", "tab", "!pane 1", "next pane", "Panes", "pane"),
    Key("pane.previous", "shift+tab", "!pane -1", "pane before", "Panes"),
    Key("pane.maximise", "z", "maximise", "the pane on the whole screen, and back", "Panes"),
    *(Key(f"pane.{at}", str(at % 10), f"!tab {at}", f"tab {at}", "Panes") for at in range(1, 11)),
    Key("app.command", "colon", "!prompt", "command line", "Program", "command"),
    Key("app.palette", "ctrl+p", "!palette", "every command, searchable", "Program"),
    Key("app.help", "question_mark", "help", "this help", "Program", "help"),
    Key("app.suspend", "ctrl+z", "!suspend", "to the shell for a while; fg comes back", "Program"),
    Key("app.quit", "q", "quit", "leave", "Program", "quit"),
)
"""Keys of the main screen."""

HINTS = (
    "time.step", "time.tick", "history.branch", "fault.inject", "time.goto", "pane.next", "time.next",
    "time.continue", "time.insn", "history.mark", "pane.search",
)  # fmt: skip
"""Keys for the hint line, the most useful first: as many as fit."""
PINNED = ("app.command", "app.help", "app.quit")
"""Keys at its right end, always."""


@dataclass(frozen=True, slots=True)
class PaneKey:
    """A key that means something in one kind of pane only. `action` is a method of the pane, without `action_`."""

    id: str
    keys: str
    action: str
    help: str


LINES_KEYS: tuple[PaneKey, ...] = (
    PaneKey("lines.up", "up,k", "select(-1)", "line above"),
    PaneKey("lines.down", "down,j", "select(1)", "line below"),
    PaneKey("lines.page-up", "pageup", "page(-1)", "page up"),
    PaneKey("lines.page-down", "pagedown", "page(1)", "page down"),
    PaneKey("lines.home", "home", "first", "first line"),
    PaneKey("lines.end", "end", "follow", "last line, and follow"),
)
"""Moving about in a console."""

CONSOLE_KEYS: tuple[PaneKey, ...] = (
    PaneKey("console.enter", "enter", "enter", "type at the console; on a selected line: go to its moment"),
    PaneKey("console.attach", "a", "attach", "type at the console"),
    *LINES_KEYS,
)
MERGED_KEYS: tuple[PaneKey, ...] = (
    PaneKey("merged.enter", "enter", "enter", "go to the moment of the selected line"),
    *LINES_KEYS,
)
LIST_KEYS: tuple[PaneKey, ...] = (
    PaneKey("list.up", "up,k", "cursor_up", "entry above"),
    PaneKey("list.down", "down,j", "cursor_down", "entry below"),
    PaneKey("list.page-up", "pageup", "page_up", "page up"),
    PaneKey("list.page-down", "pagedown", "page_down", "page down"),
    PaneKey("list.home", "home", "first", "first entry"),
    PaneKey("list.end", "end", "last", "last entry"),
    PaneKey("list.enter", "enter", "select", "go there"),
)
_ZOOM_AND_HEAL: tuple[PaneKey, ...] = (
    PaneKey("faults.zoom-in", "plus,equals_sign", "zoom(1)", "half the time, around the cursor"),
    PaneKey("faults.zoom-out", "minus", "zoom(-1)", "twice the time"),
    PaneKey("faults.zoom-all", "w", "zoom(0)", "the whole line of history"),
    PaneKey("faults.heal", "h", "heal", "end every fault; in the past this branches"),
)
FAULTS_KEYS: tuple[PaneKey, ...] = (*LIST_KEYS, *_ZOOM_AND_HEAL)
BRANCHES_KEYS: tuple[PaneKey, ...] = (
    *LIST_KEYS,
    PaneKey("branches.delete", "d,delete", "delete", "delete it, and those that fork from it; asks first"),
    PaneKey("branches.rename", "r", "rename", "call it otherwise"),
    PaneKey("branches.note", "a", "annotate", "a note on it"),
)
NETWORK_KEYS: tuple[PaneKey, ...] = tuple(key for key in LIST_KEYS if key.id != "list.enter")
COVERAGE_KEYS: tuple[PaneKey, ...] = (
    PaneKey("coverage.previous", "left", "machine(-1)", "machine before, or all merged"),
    PaneKey("coverage.next", "right", "machine(1)", "next machine, or all merged"),
    PaneKey("coverage.since", "M", "baseline", "new is what comes after this moment; again: after the last rest"),
)
MACHINE_KEYS: tuple[PaneKey, ...] = (
    PaneKey("machine.previous", "left", "machine(-1)", "machine before"),
    PaneKey("machine.next", "right", "machine(1)", "next machine"),
)


def pane_bindings(keys: tuple[PaneKey, ...]) -> list[BindingType]:
    """For the BINDINGS of a pane."""
    return [Binding(key.keys, key.action, key.help, id=key.id) for key in keys]


def main_bindings() -> list[BindingType]:
    """For the BINDINGS of the main screen."""
    return [Binding(key.keys, f"key('{key.id}')", key.help, id=key.id) for key in KEYS]


BY_ID: dict[str, Key | PaneKey] = {
    key.id: key
    for keys in (KEYS, CONSOLE_KEYS, MERGED_KEYS, FAULTS_KEYS, BRANCHES_KEYS, COVERAGE_KEYS, MACHINE_KEYS)
    for key in keys
}


def check_remapping(keys: Mapping[str, object], where: str) -> dict[str, str]:
    """The `[keys]` table of the configuration as Textual wants it. Raises UsageError naming the entry."""
    out: dict[str, str] = {}
    for name, value in keys.items():
        if name not in BY_ID:
            near = [known for known in BY_ID if known.split(".")[0] == name.split(".")[0]] or sorted(
                {known.split(".")[0] + "..." for known in BY_ID}
            )
            raise UsageError(f"[keys] has no binding {name!r}", where=where, hint=f"known: {', '.join(near)}")
        if not isinstance(value, str) or not value.strip():
            raise UsageError(f"[keys] {name} is not a key", where=where, hint='write it as "f6" or "s,f10"')
        chosen = [key.strip() for key in value.split(",")]
        eaten = [key for key in chosen if key.lower() in EATEN]
        if eaten:
            raise UsageError(f"[keys] {name}: {eaten[0]} never arrives", where=where, hint="terminals use it")
        out[name] = ",".join(chosen)
    return out


_NAMES = {
    "space": "space", "slash": "/", "colon": ":", "question_mark": "?", "greater_than_sign": ">",
    "less_than_sign": "<", "plus": "+", "minus": "-", "equals_sign": "=",
    "escape": "esc", "pageup": "pgup", "pagedown": "pgdn", "up": "↑", "down": "↓",
    "left": "←", "right": "→", "shift+tab": "shift+tab", "ctrl+right_square_bracket": "ctrl+]",
}  # fmt: skip


def show_keys(keys: str) -> str:
    """Keys for a person: `s  F10`."""
    shown: list[str] = []
    for key in keys.split(","):
        name = _NAMES.get(key, key)
        shown.append(name.upper() if len(name) > 1 and name[0] == "f" and name[1:].isdecimal() else name)
    return " ".join(shown)
