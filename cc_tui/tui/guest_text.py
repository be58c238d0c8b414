"""Text that a guest made, in a row of a pane: names of properties, details, events.

It is as hostile as a console's output: escape sequences are removed, and so is every character that is not one to look
at, takes no cell of its own, or reorders what surrounds it. The result is one row of text, never markup.
"""

from rich.cells import cell_len, set_cell_size

from cc_tui.console_text import EscapeStripper
from cc_tui.tui.grid import shown_character

CHARACTERS_MAX = 4096
"""More of one text is not looked at."""


def plain(text: str, cells: int | None = None) -> str:
    """`text` as one safe row, cut with an ellipsis at `cells`."""
    text = text[:CHARACTERS_MAX]
    if not (text.isascii() and text.isprintable()):
        text = EscapeStripper().feed(text.encode("utf-8", "replace"))
        text = "".join(map(shown_character, " ".join(text.split())))
        text = "".join(character for character in text if cell_len(character) > 0)
    return text if cells is None else clip(text, cells)


def clip(text: str, cells: int) -> str:
    """A safe text cut at `cells`, with an ellipsis if something was cut."""
    if cell_len(text) <= cells:
        return text
    return set_cell_size(text, cells - 1).rstrip() + "…" if cells > 0 else ""


def wrap_plain(text: str, cells: int, rows: int) -> list[str]:
    """A guest's text in at most `rows` rows of at most `cells` cells, broken anywhere."""
    left = plain(text)
    out: list[str] = []
    while left and len(out) < rows:
        if len(out) == rows - 1:
            out.append(clip(left, cells))
            break
        taken = 0
        used = 0
        while taken < len(left) and used + cell_len(left[taken]) <= cells:
            used += cell_len(left[taken])
            taken += 1
        out.append(left[: max(taken, 1)])
        left = left[max(taken, 1) :]
    return out
