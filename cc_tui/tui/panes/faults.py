"""The faults pane: every fault of the cursor's line of history, drawn over time and as a list. Enter goes to one.

The drawing has a row for each machine and one for the network; it shows the whole line, or a part around the cursor.
"""

import inspect

from cc_tui.commands.language import quote
from cc_tui.session import SessionView
from cc_tui.tui.guest_text import clip, plain, wrap_plain
from cc_tui.tui.keymap import FAULTS_KEYS, pane_bindings
from cc_tui.tui.panes.branches import seconds
from cc_tui.tui.panes.listing import Listing
from cc_tui.tui.panes.pane import Ask
from cc_tui.tui.rows import Line
from cc_tui.tui.timeline import FAILURE, NETWORK_ROW, SPAN, Glyph, Window, draw, rows_of, window_around
from chaoscontrol.faults import FaultSpan
from chaoscontrol.timetravel import format_seconds

SPAN_NS_MIN = 1_000
"""The drawing shows no less than this."""
LABEL_CELLS = 5
CELLS_MIN = 10


def place_of(view: SessionView, vns: int) -> str:
    """A time of the cursor's branch as `goto` takes it."""
    return f"{view.branch.name}@{format_seconds(vns)}"


class FaultsPane(Listing):
    """See the module."""

    NAME = "faults"
    ABOUT = (
        "Every fault of this line of history. Above, over time: each begins with its letter and goes on as ~, a "
        "partition is [===], a one-way partition [>>>], a failed property !. Below, as a list: ● in effect at the "
        "cursor, ○ over, dim and · still to come. Enter goes to where a fault begins; f injects one."
    )
    PANE_KEYS = FAULTS_KEYS
    BINDINGS = pane_bindings(FAULTS_KEYS)
    ROWS_MIN = 12
    WEIGHT = 3
    FILTERS = True
    ABSENT = "no faults on this line of history; f injects one"

    def __init__(self) -> None:
        super().__init__()
        self._shown: list[FaultSpan] = []
        self._reached: object = None
        self._zoom = 0

    def show(self, view: SessionView) -> None:
        """Show the faults as they are in this picture."""
        self.view = view
        self.filtered()
        begun = sum(1 for span in self._shown if span.begin_ns <= view.position.vns)
        state = (view.branch.name, begun)
        moved, self._reached = state != self._reached, state
        self.changed(max(begun - 1, 0) if moved else None)

    def filtered(self) -> None:
        faults = () if self.view is None else self.view.cluster.faults
        self._shown = [span for span in faults if self.matches(plain(str(span.fault)))]

    def hints(self, view: SessionView) -> list[tuple[str, str]]:
        active = any(span.active_at(view.position.vns) for span in view.cluster.faults)
        return [*super().hints(view), *([("h", "heal")] if active else []), ("+ -", "zoom")]

    def action_zoom(self, by: int) -> None:
        end_ns = 0 if self.view is None else max(self.view.known_end.vns, self.view.position.vns)
        closest = max((end_ns // SPAN_NS_MIN).bit_length() - 1, 0)
        self._zoom = min(max(self._zoom + by, 0), closest) if by else 0
        self.changed()

    def action_heal(self) -> None:
        self.post_message(Ask("heal"))

    # ---- the list ---------------------------------------------------------------------------------------------------

    def entry_count(self) -> int:
        return len(self._shown)

    def way_to(self, index: int) -> list[str]:
        if self.view is None:
            return []
        return [f"goto {quote(place_of(self.view, self._shown[index].begin_ns))}"]

    def draw_entry(self, index: int, width: int) -> Line:
        assert self.view is not None, "drawn with a picture only"
        span, now = self._shown[index], self.view.position.vns
        future, active = span.begin_ns > now, span.active_at(now)
        text, quiet = ("dim", "dim") if future else ("foreground", "quiet")
        row = Line()
        row.append(f"{span.number:>2} ", self.colour(quiet))
        row.append("● " if active else "· " if future else "○ ", self.colour("accent" if active else quiet))
        row.append(f"{span.fault.LETTER} ", self.colour("dim" if future else "accent", bold=not future))
        row.append(f"{seconds(span.begin_ns):>9}", self.colour(text))
        row.append(f"{until(span):<11}", self.colour(text))
        row.append(plain(str(span.fault)), self.colour(text))
        return row

    def draw_foot(self, width: int, rows: int) -> list[Line]:
        if self.selected is None or self.view is None or rows < 2:
            return []
        span = self._shown[self.selected]
        lines = [
            self.line((text, "foreground")) for text in wrap_plain(str(span.fault), width, max(min(rows - 1, 2), 1))
        ]
        about = (inspect.getdoc(type(span.fault)) or "").splitlines()[0]
        return [*lines, self.line((clip(about, width), "quiet"))]

    # ---- the drawing ------------------------------------------------------------------------------------------------

    def draw_head(self, width: int, rows: int) -> list[Line]:
        view = self.view
        assert view is not None, "drawn with a picture only"
        machines, cells = len(view.instrets), width - LABEL_CELLS
        # It may have half of the pane; machines without a fault go first when that is not enough.
        wanted = [NETWORK_ROW, *range(machines)]
        room = min(rows, max((rows + 3) * 3 // 5, machines + 2 if rows >= machines + 7 else 0)) - 1
        if len(wanted) > room:
            named = {row for span in view.cluster.faults for row in rows_of(span, machines)}
            wanted = [row for row in wanted if row in named or row == NETWORK_ROW][: max(room, 0)]
        if not wanted or cells < CELLS_MIN or not view.cluster.faults:
            return []
        end_ns = max(view.known_end.vns, view.position.vns, 1)
        window = window_around(view.position.vns, end_ns, self._zoom, cells)
        return [self._scale(view, window), *(self._row(view, row, window) for row in wanted)]

    def _scale(self, view: SessionView, window: Window) -> Line:
        """The times at both ends and the cursor between them."""
        begin, end, cursor = seconds(window.begin_ns), seconds(window.end_ns), window.cell(view.position.vns)
        row = self.line((" " * LABEL_CELLS, "quiet"))
        if cursor > len(begin):
            row.append(begin, self.colour("quiet"))
        row.pad_to(LABEL_CELLS + cursor)
        row.append("◆" if view.at_end else "◇", self.colour("primary" if view.at_end else "past", bold=True))
        if cursor < window.cells - len(end) - 1:
            row.pad_to(LABEL_CELLS + window.cells - len(end))
            row.append(end, self.colour("quiet"))
        return row

    def _row(self, view: SessionView, number: int, window: Window) -> Line:
        """What happened to one machine, or to the network and what no machine is named for."""
        spans = [span for span in view.cluster.faults if number in rows_of(span, len(view.instrets))]
        failures = [failure for failure in view.cluster.failures if failure.at.vm == number]
        glyphs, cursor = draw(spans, failures, window), window.cell(view.position.vns)
        label = "net" if number == NETWORK_ROW else f"vm{number}"
        row = self.line((f"{label:<{LABEL_CELLS}}", "quiet"))
        for at in range(window.cells):
            character, name = self._cell(glyphs.get(at), at, cursor)
            row.append(character, self.colour(name))
        return row

    def _cell(self, glyph: Glyph | None, at: int, cursor: int) -> tuple[str, str]:
        future = at > cursor
        if glyph is None:
            return ("│" if at == cursor else "·"), "primary" if at == cursor else "faint"
        if glyph.rank == FAILURE:
            return glyph.character, "error"
        return glyph.character, "dim" if future else "quiet" if glyph.rank == SPAN else "accent"


def until(span: FaultSpan) -> str:
    """When a fault ends, behind when it begins."""
    if span.end_ns is None:
        return "→healed"
    return "" if span.end_ns == span.begin_ns else f"→{seconds(span.end_ns)}"
