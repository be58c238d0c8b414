"""Help on commands as lines of text, for the REPL and for scripts."""

from __future__ import annotations

from textwrap import wrap

from cc_tui.commands.language import CommandError
from cc_tui.commands.registry import BY_NAME, SPECS

WIDTH = 100
_COLUMNS = 36


def help_lines(topic: str = "") -> list[str]:
    """All commands, or everything about one. Raises CommandError for one that is not there."""
    if not topic:
        lines = [line for spec in SPECS for line in _entry(spec.usage, spec.summary)]
        return [*lines, "", "help COMMAND says more; a line that ends with \\ goes on"]
    spec = BY_NAME.get(topic)
    if spec is None:
        raise CommandError(f"no command {topic!r}", hint="`help` lists them")
    lines = [spec.usage, *wrap(spec.summary, WIDTH, initial_indent="  ", subsequent_indent="  ")]
    if spec.aliases:
        lines.append(f"  also: {', '.join(spec.aliases)}")
    for form, about in spec.forms:
        lines += _entry(form, about)
    return [*lines, *([f"  example: {spec.example}"] if spec.example else [])]


def _entry(usage: str, summary: str) -> list[str]:
    about = wrap(summary, WIDTH - _COLUMNS) or [""]
    if len(usage) >= _COLUMNS - 2:
        return [f"  {usage}", *(f"{'':{_COLUMNS}}{line}" for line in about)]
    return [f"  {usage:{_COLUMNS - 2}}{about[0]}", *(f"{'':{_COLUMNS}}{line}" for line in about[1:])]


__all__ = ["help_lines"]
