"""The network pane: every direction between two machines, how it is at the cursor and what became of its frames.

What is not normal has a glyph: ! nothing passes, ~ something is wrong with it.
"""

from rich.style import Style

from cc_tui.commands.language import format_about
from cc_tui.commands.packets import packet_word
from cc_tui.pictures import LinkView
from cc_tui.session import SessionView
from cc_tui.tui.keymap import NETWORK_KEYS, pane_bindings
from cc_tui.tui.panes.listing import Listing
from cc_tui.tui.panes.properties import short
from cc_tui.tui.rows import Line
from cc_tui.tui.theme import is_dark, machine_colour
from chaoscontrol.in_flight import PacketInFlight
from chaoscontrol.packets import read_packet

WIDE_COLUMNS = 72
"""From so many cells on, jitter and bandwidth have columns."""
MATRIX_MACHINES_MAX = 8
ENDS_CELLS = 12
FOOT_LINES = 3
"""About the selected direction; its packets in flight are above them."""


def share_text(ppm: int) -> str:
    """Parts per million as a percentage: `5%`, `0.01%`."""
    return f"{ppm / 10_000:.3g}%"


def bandwidth_text(bps: int) -> str:
    """Bits per second: `1.5Mb/s`; `-` where nothing limits it."""
    return f"{short(bps)}b/s" if bps else "-"


class NetworkPane(Listing):
    """See the module."""

    NAME = "network"
    ABOUT = (
        "Every direction of every link at the cursor: up or DOWN, delay, jitter, chance of loss, bandwidth, and frames "
        "delivered and lost since the start. ! nothing passes, ~ not as it is when nothing is wrong. Below, where "
        "there is room: the packets in flight on the selected one, as `packets` names them and `packet` edits them."
    )
    PANE_KEYS = NETWORK_KEYS
    BINDINGS = pane_bindings(NETWORK_KEYS)
    ROWS_MIN = 8
    WEIGHT = 2
    ABSENT = "no network: fewer than two machines have a network device"

    def show(self, view: SessionView) -> None:
        """Show the links as they are in this picture."""
        old, new = None if self.view is None else self.view.cluster, view.cluster
        changed = old is None or (old.links, old.in_flight) != (new.links, new.in_flight)
        self.view = view
        if changed:
            self.changed()

    @property
    def _links(self) -> tuple[LinkView, ...]:
        return () if self.view is None else self.view.cluster.links

    def entry_count(self) -> int:
        return len(self._links)

    # ---- all links --------------------------------------------------------------------------------------------------

    def draw_head(self, width: int, rows: int) -> list[Line]:
        if not self._links or rows < 1:
            return []
        odd = [link for link in self._links if not link.normal]
        down = sum(1 for link in odd if link.params.down)
        flying = 0 if self.view is None else len(self.view.cluster.in_flight)
        about = f"{len(self._links)} directions, {down} down, {len(odd) - down} impaired, {flying} in flight"
        lines = [self.line((about, "quiet" if not odd else "foreground"))]
        lines += self._matrix(rows - len(lines) - 2 - len(self._links), width)
        if rows > len(lines):
            wide = f"{'jitter':>8}{'bandwidth':>11}" if width >= WIDE_COLUMNS else ""
            title = (
                f"  {'from → to':<{ENDS_CELLS}}{'state':<6}{'delay':>7}{wide}{'loss':>7}{'delivered':>11}{'lost':>7}"
            )
            lines.append(self.line((title, "quiet")))
        return lines

    def _matrix(self, rows: int, width: int) -> list[Line]:
        """Senders down, receivers across; only if there is more room than the list needs."""
        machines = sorted({link.src for link in self._links})
        if not 3 <= len(machines) <= MATRIX_MACHINES_MAX or rows < len(machines) + 1 or width < 6 * len(machines) + 8:
            return []
        by_ends = {(link.src, link.dst): link for link in self._links}
        lines = [self.line(("      → ", "quiet"), *((f"vm{dst}".ljust(6), "quiet") for dst in machines))]
        for src in machines:
            row = self.line((f"  vm{src}".ljust(8), "quiet"))
            for dst in machines:
                link = by_ends.get((src, dst))
                text, name = ("", "quiet") if link is None else _state(link)
                row.append(f"{text:<6}", self.colour(name))
            lines.append(row)
        return lines

    # ---- one link ---------------------------------------------------------------------------------------------------

    def draw_entry(self, index: int, width: int) -> Line:
        link = self._links[index]
        params, counters = link.params, link.counters
        state, name = _state(link)
        row, value = Line(), self.colour("quiet" if link.normal else "foreground")
        row.append("! " if params.down else "  " if link.normal else "~ ", self.colour(name, bold=True))
        self._ends(row, link)
        row.append(f"{state:<6}", self.colour(name, bold=params.down))
        row.append(f"{format_about(params.latency_ns):>7}", value)
        if width >= WIDE_COLUMNS:
            row.append(f"{format_about(params.jitter_ns):>8}{bandwidth_text(params.bandwidth_bps):>11}", value)
        row.append(f"{share_text(params.loss_ppm):>7}", value)
        row.append(f"{short(counters.delivered):>11}", self.colour("foreground"))
        row.append(f"{short(counters.lost):>7}", self.colour("accent" if counters.lost else "quiet"))
        return row

    def _ends(self, row: Line, link: LinkView) -> None:
        begun, dark = row.cells, is_dark(self)
        row.append(f"vm{link.src}", Style(color=machine_colour(link.src, dark=dark)))
        row.append(" → ", self.colour("quiet"))
        row.append(f"vm{link.dst}", Style(color=machine_colour(link.dst, dark=dark)))
        row.pad_to(begun + ENDS_CELLS)

    def draw_foot(self, width: int, rows: int) -> list[Line]:
        if self.selected is None or rows < 1:
            return []
        link = self._links[self.selected]
        p, c = link.params, link.counters
        first = (
            f"jitter {format_about(p.jitter_ns)}  duplicated {share_text(p.duplicate_ppm)}  "
            f"corrupted {share_text(p.corrupt_ppm)}  reordered {share_text(p.reorder_ppm)}"
        )
        second = (
            f"bandwidth {bandwidth_text(p.bandwidth_bps) if p.bandwidth_bps else 'unlimited'}  sent {short(c.sent)}  "
            f"duplicated {short(c.duplicated)}  corrupted {short(c.corrupted)}  reordered {short(c.reordered)}"
        )
        third = (
            f"lost {short(c.lost)}: down {short(c.lost_down)}, by chance {short(c.lost_random)}, "
            f"queue {short(c.lost_queue)}, receiver {short(c.lost_receiver)}"
        )
        flights = [self._flight(packet) for packet in self._in_flight(link)[: max(rows - FOOT_LINES, 0)]]
        return [*flights, *(self.line((text, "quiet")) for text in (third, first, second))]

    def _in_flight(self, link: LinkView) -> list[PacketInFlight]:
        packets = () if self.view is None else self.view.cluster.in_flight
        return [packet for packet in packets if (packet.id.src, packet.id.dst) == (link.src, link.dst)]

    def _flight(self, packet: PacketInFlight) -> Line:
        """A packet on its way, as the command line names it."""
        now_ns = 0 if self.view is None else self.view.position.vns
        left = format_about(max(packet.arrival_vns - now_ns, 0))
        return self.line((f"{packet_word(packet.id)} in {left} ", "accent"), read_packet(packet.data).summary)


def _state(link: LinkView) -> tuple[str, str]:
    """A word for a link, and its colour."""
    if link.params.down:
        return "DOWN", "error"
    return ("up", "primary") if link.normal else ("~ up", "accent")
