"""The branch pane: the tree of histories. Choosing one goes to its end; deleting, renaming and notes."""

from rich.text import Text
from textual.widgets.option_list import Option

from cc_tui.commands.language import bytes_to_text, quote
from cc_tui.session import SessionView
from cc_tui.tui.guest_text import plain
from cc_tui.tui.keymap import BRANCHES_KEYS, pane_bindings
from cc_tui.tui.panes.pane import Ask, Fill, ListPane
from cc_tui.tui.theme import app_of
from chaoscontrol.timetravel import Branch, ConsoleInput, GivenInput, describe, typed_lines

TYPED_CELLS = 28
NAMES_ASKED = 6
"""Of branches that would be deleted with another: so many are named in the question."""


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


def descendants(drawn: list[Branch], name: str) -> list[str]:
    """Which branches of a tree fork from one, or from one that does."""
    found: list[str] = []
    for branch in drawn:
        if branch.parent is not None and branch.parent.branch in (name, *found):
            found.append(branch.name)
    return found


def seconds(vns: int) -> str:
    """A time for a narrow column: microseconds are enough to tell moments apart."""
    return f"{vns // 1_000_000_000}.{vns % 1_000_000_000 // 1000:06}"


class BranchPane(ListPane):
    """A list drawn as a tree."""

    NAME = "branches"
    ABOUT = (
        "The tree of histories, each with its span, its note and what was typed first; enter goes to the end of one. "
        "Moments keep their meaning when a branch is renamed; the name of a deleted one is not given again."
    )
    PANE_KEYS = BRANCHES_KEYS
    BINDINGS = pane_bindings(BRANCHES_KEYS)

    def __init__(self) -> None:
        super().__init__()
        self._shown: object = None
        self._branches: list[Branch] = []
        """In the order of the list."""
        self._branch = ""

    def show(self, view: SessionView) -> None:
        """Show the tree as it is in this picture."""
        # Ends move all the time while running; that alone is not worth a new list more often than it can be read.
        ends = tuple((branch.end.vns // (1_000_000 if view.running else 1), branch.endings) for branch in view.branches)
        about = tuple((branch.name, branch.note, len(branch.inputs)) for branch in view.branches)
        state = (view.branch.name, view.running, ends, about)
        if state == self._shown:
            return
        self._shown = state
        # The cursor's branch is highlighted until another is looked at; that one stays wherever the tree puts it.
        here = view.branch
        moved, self._branch = self._branch not in (here.name, *here.former), here.name
        looked_at = None if moved else self._looked_at
        drawn = tree(view.branches)
        self._branches = [branch for _, branch in drawn]
        options = [Option(self._prompt(prefix, branch, view), id=branch.name) for prefix, branch in drawn]
        self.replace(options, self._place_of(self._branch if looked_at is None else looked_at.name))

    @property
    def _looked_at(self) -> Branch | None:
        return None if self.highlighted is None else self._branches[self.highlighted]

    def _place_of(self, name: str) -> int:
        """Where a branch is in the list that is or was called so; if it is gone, where it was."""
        known = (at for at, branch in enumerate(self._branches) if name in (branch.name, *branch.former))
        return next(known, min(self.highlighted or 0, len(self._branches) - 1))

    def place(self, index: int) -> str:
        return self._branches[index].name

    # ---- keys -------------------------------------------------------------------------------------------------------

    def hints(self, view: SessionView) -> list[tuple[str, str]]:
        # Short words: all of them fit a line of 80 cells.
        return [("enter", "visit"), ("d", "delete"), ("r", "rename"), ("a", "note")]

    def action_delete(self) -> None:
        branch = self._looked_at
        if branch is None:
            return
        children = descendants(self._branches, branch.name)
        line = f"delete-branch {branch.name}{' all' if children else ''}"
        if branch.parent is None or self._branch in (branch.name, *children):
            self.post_message(Ask(line))  # which says why it cannot be
            return
        more = f" and {len(children) - NAMES_ASKED} more" if len(children) > NAMES_ASKED else ""
        also = f", and what forks from it: {', '.join(children[:NAMES_ASKED])}{more}" if children else ""
        self.post_message(Ask(line, f"Delete branch {branch.name}{also}?"))

    def action_rename(self) -> None:
        if self._looked_at is not None:
            self.post_message(Fill(f"rename-branch {self._looked_at.name}", self._looked_at.name))

    def action_annotate(self) -> None:
        if self._looked_at is not None:
            self.post_message(Fill(f"annotate {self._looked_at.name}", self._looked_at.note))

    # ---- drawing ----------------------------------------------------------------------------------------------------

    def _prompt(self, prefix: str, branch: Branch, view: SessionView) -> Text:
        colours = app_of(self).theme_variables
        here = branch.name == view.branch.name
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(prefix, colours["faint"])
        text.append("● " if here else "○ ", colours["primary"] if here else colours["quiet"])
        text.append(branch.name, f"bold {colours['primary']}" if here else "")
        text.append(f"  {seconds(branch.start.vns)} → {seconds(branch.end.vns)}", colours["quiet"])
        if branch.note:
            text.append(f"  {plain(branch.note)}", colours["accent"])
        typed = typed_text(branch.inputs)
        if typed:
            text.append(f"  {typed}", colours["foreground"])
        for ending in branch.endings:
            text.append(f"  ! vm{ending.machine} {ending.kind}", colours["warning"])
        return text
