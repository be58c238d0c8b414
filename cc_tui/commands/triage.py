"""The command `triage`: a report of a bug, to be read here or handed on. It changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cc_tui.commands.engine import EngineCommand, reason
from cc_tui.commands.language import CommandError, format_duration, quote
from chaoscontrol.triage import WINDOW_NS

if TYPE_CHECKING:
    from cc_tui.commands.bench import Bench

FORMATS = {"markdown": ".md", "json": ".json", "html": ".html"}
"""With what a file's name ends that is to have one."""


@dataclass(frozen=True, slots=True)
class Triage(EngineCommand):
    """All that is known of a bug, as an answer or into a file."""

    moves: ClassVar[bool] = True
    scripted: ClassVar[bool] = False
    number: int = 1
    form: str = "markdown"
    path: str | None = None
    window_ns: int = WINDOW_NS

    @property
    def text(self) -> str:
        words = ["triage", str(self.number), self.form]
        words += [] if self.path is None else [quote(self.path)]
        words += [] if self.window_ns == WINDOW_NS else ["within", format_duration(self.window_ns)]
        return " ".join(words)

    def run(self, bench: Bench) -> None:
        from cc_tui.triage.make import render, report_of  # ELF readers and templates, not needed to begin with

        report = report_of(bench, self.number, self.window_ns)
        text = render(report, self.form)
        if self.path is None:
            bench.answer(text.rstrip("\n").split("\n"), report.as_document())
            return
        try:
            Path(self.path).expanduser().write_text(text, encoding="utf-8")
        except (OSError, ValueError) as error:
            raise CommandError(reason(error), where=quote(self.path), hint="choose another file") from None
        bench.say(f"{self.path}: {report.severity}: {report.bug.name} at {report.moment.brief}")


def format_of(path: str) -> str | None:
    """The format that a file's name asks for."""
    return next((form for form, ending in FORMATS.items() if path.endswith(ending)), None)


__all__ = ["FORMATS", "Triage", "format_of"]
