"""The properties pane: the assertion log. Failed properties first, then those never reached, then those that hold.

How a property stands is said by a glyph and a word, never by colour alone. Names and details are the guest's.
"""

from cc_tui.commands.language import quote
from cc_tui.pictures import Failure
from cc_tui.session import SessionView
from cc_tui.tui.guest_text import clip, plain, wrap_plain
from cc_tui.tui.keymap import LIST_KEYS, pane_bindings
from cc_tui.tui.panes.branches import seconds
from cc_tui.tui.panes.faults import place_of
from cc_tui.tui.panes.listing import Listing
from cc_tui.tui.rows import Line
from chaoscontrol.oracle import At, PropertyResult, Verdict

KIND_COLUMNS = 70
"""From so many cells on, the kind has a column."""
DETAIL_ROWS_MAX = 6
_ORDER = (Verdict.FAILED, Verdict.UNREACHED, Verdict.PASSED)
_WORDS = {Verdict.FAILED: ("!", "FAILED"), Verdict.UNREACHED: ("○", "unreached"), Verdict.PASSED: ("✓", "held")}
_KINDS = {"always_or_unreachable": "always/unr."}


def short(count: int) -> str:
    """A count in at most five cells: `870`, `12k`, `3.2M`."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return str(count)


class PropertiesPane(Listing):
    """See the module."""

    NAME = "properties"
    ABOUT = (
        "The assertion log: every property as it stands at the cursor, ! FAILED, ○ unreached or ✓ held, with how "
        "often it passed and failed. Enter goes to the exact moment of the first counterexample, where one held to "
        "its first example. One that fails later on this line says when. / shows those that hold a text."
    )
    BINDINGS = pane_bindings(LIST_KEYS)
    ROWS_MIN = 10
    WEIGHT = 3
    FILTERS = True
    ABSENT = "no properties yet: the guests have stated none, and the scenario has none"

    def __init__(self) -> None:
        super().__init__()
        self._shown: list[PropertyResult] = []
        self._later: dict[str, Failure] = {}
        """Failures after the cursor, by the property's name."""

    def show(self, view: SessionView) -> None:
        """Show the properties as they stand in this picture."""
        if self.view is not None and view.cluster == self.view.cluster and view.position == self.view.position:
            self.view = view
            return
        looked_at = None if self.selected is None else _key(self._shown[self.selected])
        self.view = view
        self.filtered()
        known = {_key(result): index for index, result in enumerate(self._shown)}
        self.changed(known.get(looked_at) if looked_at is not None and self.has_focus else 0)

    def filtered(self) -> None:
        if self.view is None:
            return
        cluster, now = self.view.cluster, self.view.position.vns
        self._later = {failure.name: failure for failure in reversed(cluster.failures) if failure.at.vns > now}
        found = [result for result in cluster.properties if self.matches(plain(result.name))]
        self._shown = sorted(found, key=self._order)

    def _order(self, result: PropertyResult) -> tuple[int, bool, At]:
        at = result.counterexample or At(0, 0, 0)
        return _ORDER.index(result.verdict), result.name not in self._later, at

    # ---- the list ---------------------------------------------------------------------------------------------------

    def entry_count(self) -> int:
        return len(self._shown)

    def _moment(self, result: PropertyResult) -> At | None:
        """Where it was broken first, will be, or held first."""
        if result.counterexample is not None:
            return result.counterexample
        later = self._later.get(result.name)
        return later.at if later is not None else result.example

    def way_to(self, index: int) -> list[str]:
        at = self._moment(self._shown[index])
        return [] if at is None or self.view is None else way_to(self.view, at)

    def draw_head(self, width: int, rows: int) -> list[Line]:
        if self.view is None or not self.view.cluster.properties or rows < 1:
            return []
        verdicts = [result.verdict for result in self.view.cluster.properties]
        row = Line()
        for verdict in _ORDER:
            count, (glyph, word) = verdicts.count(verdict), _WORDS[verdict]
            name = "quiet" if not count else self._colour(verdict)
            row.append(f"{glyph} {count} {word.lower()}  ", self.colour(name))
        if self._later:
            row.append(f"{len(self._later)} to fail", self.colour("quiet"))
        return [row]

    def _colour(self, verdict: Verdict) -> str:
        return {Verdict.FAILED: "error", Verdict.UNREACHED: "accent", Verdict.PASSED: "primary"}[verdict]

    def draw_entry(self, index: int, width: int) -> Line:
        result = self._shown[index]
        verdict, later = result.verdict, self._later.get(result.name)
        glyph, word = _WORDS[verdict]
        row = Line()
        row.append(f"{glyph} {word:<10}", self.colour(self._colour(verdict), bold=verdict is Verdict.FAILED))
        if width >= KIND_COLUMNS:
            row.append(f"{_KINDS.get(result.kind, result.kind):<12}", self.colour("quiet"))
        row.append(f"{short(result.passes):>5}/{short(result.fails):<5}", self.colour("quiet"))
        at = result.counterexample if verdict is Verdict.FAILED else later.at if later is not None else None
        word = "!" if width < KIND_COLUMNS else "at " if verdict is Verdict.FAILED else "fails at "
        when = "" if at is None else f" {word}{seconds(at.vns)}"
        room = max(width - row.cells - len(when), 0)
        row.append(plain(result.name, room), self.colour("foreground"))
        row.pad_to(width - len(when))
        row.append(when, self.colour("error" if verdict is Verdict.FAILED else "quiet"))
        return row

    # ---- the selected one -------------------------------------------------------------------------------------------

    def draw_foot(self, width: int, rows: int) -> list[Line]:
        if self.selected is None or rows < 3:
            return []
        result = self._shown[self.selected]
        rows = min(rows, DETAIL_ROWS_MAX)
        lines = [self.line(("─" * width, "faint"))]
        lines += [self.line((text, "foreground")) for text in wrap_plain(result.name, width, 1 if rows < 5 else 2)]
        about = f"{result.kind}: {result.passes:,} passed, {result.fails:,} failed"
        lines.append(self.line((clip(about, width), "quiet")))
        later = self._later.get(result.name)
        for word, at in (("broken first", result.counterexample), ("to be broken", later and later.at),
                         ("first held", result.example)):  # fmt: skip
            if at is not None:
                lines.append(self.line((clip(f"{word} {_where(at)}", width), "quiet")))
                break
        details = result.details or (later.details if later is not None else "")
        lines += [self.line((text, "foreground")) for text in wrap_plain(details, width, max(rows - len(lines), 0))]
        return lines[:rows]


def way_to(view: SessionView, at: At) -> list[str]:
    """The command lines that lead to an evaluation: exactly, if a machine is named."""
    if at.vm >= 0:
        return [f"vm {at.vm}", f"goto {at.instret}i"]
    return [f"goto {quote(place_of(view, at.vns))}"]


def _where(at: At) -> str:
    return f"at {seconds(at.vns)}" + (f" by vm{at.vm}, instruction {at.instret:,}" if at.vm >= 0 else "")


def _key(result: PropertyResult) -> tuple[str, str]:
    return result.name, result.kind
