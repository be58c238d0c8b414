"""The branch pane: the tree of histories. Choosing one goes to its end."""

from rich.text import Text
from textual.widgets.option_list import Option

from cc_tui.commands.language import bytes_to_text, quote
from cc_tui.session import SessionView
from cc_tui.tui.keymap import LIST_KEYS, pane_bindings
from cc_tui.tui.panes.pane import ListPane
from cc_tui.tui.theme import app_of
from chaoscontrol.timetravel import Branch, ConsoleInput, GivenInput, describe, typed_lines

TYPED_CELLS = 28


def typed_text(inputs: tuple[GivenInput, ...]) -> str:
    """What was typed first on a branch, for recognising it."""
    if not inputs:
        return ""
    text = input_text(typed_lines(inputs)[0])
    return text[: TYPED_CELLS - 1] + "…" if len(text) > TYPED_CELLS else text


def input_text(group: list[GivenInput]) -> str:
    """One line for what a person would call one input."""
    typed = [given.input.data for given in group if isinstance(given.input, ConsoleInput)]
    first = group[0].input
    if isinstance(first, ConsoleInput):
        return f"vm{first.machine} {quote(bytes_to_text(b''.join(typed)))}"
    return describe(first)


def tree(branches: tuple[Branch, ...]) -> list[tuple[str, Branch]]:
    """Branches in the order of a tree, each with the lines drawn before its name."""
    children: dict[str | None, list[Branch]] = {}
    for branch in branches:
        children.setdefault(branch.parent.branch if branch.parent else None, []).append(branch)
    out: list[tuple[str, Branch]] = []

    def add(branch: Branch, prefix: str, connector: str) -> None:
        out.append((prefix + connector, branch))
        below = sorted(children.get(branch.name, []), key=lambda child: child.start)
        inner = prefix + {"": "", "├─ ": "│  ", "└─ ": "   "}[connector]
        for at, child in enumerate(below):
            add(child, inner, "└─ " if at == len(below) - 1 else "├─ ")

    for root in children.get(None, []):
        add(root, "", "")
    return out


def seconds(vns: int) -> str:
    """A time for a narrow column: microseconds are enough to tell moments apart."""
    return f"{vns // 1_000_000_000}.{vns % 1_000_000_000 // 1000:06}"


class BranchPane(ListPane):
    """A list drawn as a tree."""

    NAME = "branches"
    ABOUT = "The tree of histories, each with its span; enter goes to the end of one."
    BINDINGS = pane_bindings(LIST_KEYS)

    def __init__(self) -> None:
        super().__init__()
        self._shown: object = None
        self._names: list[str] = []
        self._branch = ""

    def show(self, view: SessionView) -> None:
        """Show the tree as it is in this picture."""
        # Ends move all the time while running; that alone is not worth a new list more often than it can be read.
        ends = tuple((branch.end.vns // (1_000_000 if view.running else 1), branch.endings) for branch in view.branches)
        state = (view.branch.name, view.running, ends, tuple(len(branch.inputs) for branch in view.branches))
        if state == self._shown:
            return
        self._shown = state
        # The cursor's branch is highlighted until another is looked at; that one stays wherever the tree puts it.
        moved, self._branch = view.branch.name != self._branch, view.branch.name
        looked_at = None if moved or self.highlighted is None else self._names[self.highlighted]
        drawn = tree(view.branches)
        self._names = [branch.name for _, branch in drawn]
        wanted = looked_at if looked_at in self._names else self._branch
        options = [Option(self._prompt(prefix, branch, view), id=branch.name) for prefix, branch in drawn]
        self.replace(options, self._names.index(wanted))

    def place(self, index: int) -> str:
        return self._names[index]

    def _prompt(self, prefix: str, branch: Branch, view: SessionView) -> Text:
        colours = app_of(self).theme_variables
        here = branch.name == view.branch.name
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(prefix, colours["faint"])
        text.append("● " if here else "○ ", colours["primary"] if here else colours["quiet"])
        text.append(branch.name, f"bold {colours['primary']}" if here else "")
        text.append(f"  {seconds(branch.start.vns)} → {seconds(branch.end.vns)}", colours["quiet"])
        typed = typed_text(branch.inputs)
        if typed:
            text.append(f"  {typed}", colours["foreground"])
        for ending in branch.endings:
            text.append(f"  ! vm{ending.machine} {ending.kind}", colours["warning"])
        return text
