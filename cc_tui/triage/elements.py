"""HTML and SVG as trees: text is escaped by the library that writes them, and control characters never get in."""

from __future__ import annotations

from typing import TypeAlias
from xml.etree import ElementTree

from cc_tui.console_text import safe_line

Element: TypeAlias = ElementTree.Element
Child: TypeAlias = Element | str | None


def el(tag: str, *children: Child, **attributes: str | float) -> Element:
    """An element. Of attributes' names a `_` at the end falls away, others become `-`; children None are left out."""
    found = ElementTree.Element(
        tag, {name.rstrip("_").replace("_", "-"): _number(value) for name, value in attributes.items()}
    )
    last: Element | None = None
    for child in children:
        if isinstance(child, str):
            text = safe_line(child)
            if last is None:
                found.text = (found.text or "") + text
            else:
                last.tail = (last.tail or "") + text
        elif child is not None:
            found.append(child)
            last = child
    return found


def _number(value: str | float) -> str:
    return safe_line(value) if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def to_html(element: Element) -> str:
    """As HTML: what has no end tag there gets none."""
    return ElementTree.tostring(element, encoding="unicode", method="html")


__all__ = ["Child", "Element", "el", "to_html"]
