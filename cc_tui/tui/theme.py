"""Colours: a dark and a light theme, a colour per machine, and how cells of guest consoles look.

The palette is Okabe and Ito's, made to be told apart by colour-blind people: blue and orange carry meaning, red and
green never stand against each other. Nothing is said by colour alone.
"""

from functools import cache, lru_cache
from typing import Any, cast

from rich.color import Color
from rich.color_triplet import ColorTriplet
from rich.style import Style
from textual.app import App
from textual.dom import DOMNode
from textual.theme import Theme

from cc_tui.tui import grid

DARK = Theme(
    name="dark",
    dark=True,
    primary="#56b4e9",
    secondary="#8fa3b8",
    accent="#e69f00",
    warning="#e69f00",
    error="#ee8866",
    success="#56b4e9",
    foreground="#d7dde4",
    background="#14181d",
    surface="#1a1f26",
    panel="#232a33",
    variables={
        "footer-background": "#14181d",
        "input-selection-background": "#56b4e9 35%",
        "quiet": "#7d8a98",
        "dim": "#5d6976",
        "faint": "#3a444f",
        "past": "#cc79a7",
        "selection": "#1d3b50",
    },
)
LIGHT = Theme(
    name="light",
    dark=False,
    primary="#0072b2",
    secondary="#52606d",
    accent="#b35900",
    warning="#a65200",
    error="#a83a00",
    success="#0072b2",
    foreground="#1d252d",
    background="#fbfaf7",
    surface="#f2f0eb",
    panel="#e4e1da",
    variables={
        "footer-background": "#fbfaf7",
        "input-selection-background": "#0072b2 25%",
        "quiet": "#67727d",
        "dim": "#8b939b",
        "faint": "#c9c6be",
        "past": "#93357a",
        "selection": "#cbe1ef",
    },
)
THEMES = {theme.name: theme for theme in (DARK, LIGHT)}

_MACHINES_DARK = ("#56b4e9", "#e69f00", "#cc79a7", "#f0e442", "#9ad0f5", "#f5c26b", "#e3b0cd", "#c7c7c7")
_MACHINES_LIGHT = ("#0072b2", "#b35900", "#93357a", "#6b6300", "#2f5d8a", "#8a5a12", "#6e2f5e", "#555555")

_ANSI_DARK = (
    0x3A444F, 0xEE8866, 0x44BB99, 0xE6C229, 0x77AADD, 0xCC79A7, 0x66CCDD, 0xD7DDE4,
    0x7D8A98, 0xFFAA88, 0x66DDBB, 0xF0E442, 0x99CCFF, 0xE8A0C8, 0x99E5EE, 0xFFFFFF,
)  # fmt: skip
_ANSI_LIGHT = (
    0x1D252D, 0xA83A00, 0x00705A, 0x7A6200, 0x0060A0, 0x93357A, 0x006E80, 0x5A646E,
    0x4A545E, 0xC04A10, 0x00806A, 0x8A7000, 0x0072B2, 0xA8458E, 0x007E90, 0x8A949E,
)  # fmt: skip


def app_of(node: DOMNode) -> App[Any]:
    """The application that a widget or screen belongs to; Textual leaves its type open."""
    return cast("App[Any]", node.app)  # pyright: ignore[reportUnknownMemberType]


def is_dark(node: DOMNode) -> bool:
    """Is the dark theme in use?"""
    return app_of(node).current_theme.dark


def machine_colour(machine: int, *, dark: bool) -> str:
    """The colour of a machine in tabs, tags and borders."""
    colours = _MACHINES_DARK if dark else _MACHINES_LIGHT
    return colours[machine % len(colours)]


def variable_style(node: DOMNode, name: str, *, background: str | None = None, bold: bool = False) -> Style:
    """A style from names of the theme's variables."""
    colours = app_of(node).theme_variables
    return Style(
        color=colours[name].split()[0], bgcolor=colours[background].split()[0] if background else None, bold=bold
    )


@cache
def _palette(dark: bool) -> tuple[int, ...]:
    """xterm's 256 colours with the first 16 legible on our backgrounds."""
    ansi = _ANSI_DARK if dark else _ANSI_LIGHT
    levels = (0, 95, 135, 175, 215, 255)
    cube = [red << 16 | green << 8 | blue for red in levels for green in levels for blue in levels]
    return (*ansi, *cube, *((8 + 10 * at) * 0x010101 for at in range(24)))


def _colour(code: int, *, dark: bool) -> Color | None:
    if code == grid.DEFAULT_COLOUR:
        return None
    value = code & 0xFFFFFF if code & grid.RGB else _palette(dark)[code]
    return Color.from_triplet(ColorTriplet(value >> 16, value >> 8 & 0xFF, value & 0xFF))


@lru_cache(maxsize=4096)
def cell_style(attributes: grid.Attributes, dark: bool) -> Style:
    """The look of a cell; colours left to the default are the pane's."""
    flags = attributes.flags
    return Style(
        color=_colour(attributes.foreground, dark=dark),
        bgcolor=_colour(attributes.background, dark=dark),
        bold=bool(flags & grid.BOLD) or None,
        dim=bool(flags & grid.DIM) or None,
        italic=bool(flags & grid.ITALIC) or None,
        underline=bool(flags & grid.UNDERLINE) or None,
        reverse=bool(flags & grid.REVERSE) or None,
        conceal=bool(flags & grid.CONCEAL) or None,
        strike=bool(flags & grid.STRIKE) or None,
    )
