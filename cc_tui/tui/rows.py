"""Line: a row of a pane that draws itself, without going through Textual's content layout.

Laying out a rich text costs a millisecond or two a pane, at every step; pieces of a row with their styles cost next
to nothing.
"""

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip


class Line:
    """Pieces of text with styles, from left to right."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self.cells = 0
        """Width so far."""

    def append(self, text: str, style: Style | None = None) -> None:
        """Add a piece; nothing that could end the row is in it."""
        if text:
            self._segments.append(Segment(text, style))
            self.cells += cell_len(text)

    def extend(self, other: "Line") -> None:
        """Add another line's pieces."""
        self._segments += other._segments
        self.cells += other.cells

    def pad_to(self, cells: int) -> None:
        """Blanks up to a width."""
        self.append(" " * (cells - self.cells))

    def truncate(self, cells: int) -> None:
        """Cut at a width, with an ellipsis if something was cut."""
        if self.cells <= cells:
            return
        kept: list[Segment] = []
        room = max(cells - 1, 0)
        for text, style, _ in self._segments:
            piece = text if cell_len(text) <= room else set_cell_size(text, room)
            kept.append(Segment(piece, style))
            room -= cell_len(piece)
            if room <= 0:
                break
        self._segments = [*kept, Segment("…", kept[-1].style if kept else None)]
        self.cells = cells

    def strip(self, width: int, base: Style) -> Strip:
        """The row as Textual wants it, `width` cells on the pane's own style."""
        return Strip(self._segments, self.cells).adjust_cell_length(width).apply_style(base)
