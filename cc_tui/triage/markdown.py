"""A report as Markdown, for an issue on GitHub.

What guests have said stands in code spans and blocks: it can then neither mention people, nor link, nor break a table.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cc_tui.console_text import safe_line
from cc_tui.triage import words
from chaoscontrol.timetravel import format_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chaoscontrol.triage.report import Causality, Happening, MachineFacts, Report

MESSAGES_SHOWN = 20


def render(report: Report) -> str:
    """The whole report."""
    lines = [
        *_head(report),
        *_reproduction(report),
        *_property(report),
        *_faults(report),
        *_timeline(report),
        *_machines(report),
        *([] if report.causality is None else _causality(report, report.causality)),
        *_schedule(report),
        *_others(report),
        *_recipe(report),
    ]
    return "\n".join(lines) + "\n"


# ---- text that may be anything ---------------------------------------------------------------------------------------


def _code(text: str) -> str:
    """As a code span, on one line."""
    text = safe_line(text).strip() or " "
    ticks = "`" * (_longest_ticks(text) + 1)
    pad = " " if "`" in text[:1] + text[-1:] else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def _longest_ticks(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _block(lines: Iterable[str], language: str = "text") -> list[str]:
    safe = [safe_line(line) for line in lines]
    fence = "`" * max(_longest_ticks("\n".join(safe)) + 1, 3)
    return [f"{fence}{language}", *safe, fence, ""]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *cells)] + [""]


def _details(summary: str, lines: Sequence[str]) -> list[str]:
    return [f"<details><summary>{summary}</summary>", "", *lines, "</details>", ""]


# ---- sections --------------------------------------------------------------------------------------------------------


def _head(report: Report) -> list[str]:
    bug, moment = report.bug, report.moment
    return [
        f"# {_code(bug.name)}",
        "",
        f"**{report.severity.upper()}**: {report.severity_why}, in **{words.machine(bug.at.vm)}** at "
        f"**{format_seconds(bug.at.vns)} s** (tick {moment.tick}, branch {_code(bug.branch)}).",
        "",
        *(_block([bug.details]) if bug.details else []),
        f"Exact moment: {_code(moment.text)}",
        "",
    ]


def _reproduction(report: Report) -> list[str]:
    return [
        "## Reproduce",
        "",
        *_command(report.origin.reproduction.command),
        words.REPRODUCED,
        "",
        *_command(report.origin.reproduction.look),
    ]


def _command(text: str) -> list[str]:
    return ["```sh", *text.split("\n"), "```", ""]


def _property(report: Report) -> list[str]:
    history = report.property
    lines = ["## Property", "", f"Kind {_code(history.kind)}. {words.history_text(history)}", ""]
    if history.evaluations:
        rows = [
            (format_seconds(e.at.vns), words.machine(e.at.vm), "held" if e.held else "**broken**", str(e.evaluations),
             _code(e.details) if e.details else "")
            for e in history.evaluations
        ]  # fmt: skip
        lines += _table(("time, s", "machine", "", "evaluation", "details"), rows)
    return lines


def _faults(report: Report) -> list[str]:
    if not report.faults:
        return ["## Faults", "", "None had begun.", ""]
    rows = [
        (f.letter, _code(f.text), format_seconds(f.begin_ns), words.until(f.end_ns) if f.end_ns != f.begin_ns else "")
        for f in report.faults
    ]
    return ["## Faults", "", *_table(("", "fault", "from, s", "to"), rows)]


def _timeline(report: Report) -> list[str]:
    shown = report.timeline[-words.HAPPENINGS_SHOWN :]
    return ["## What happened", "", *_happenings(shown, report.moment.vns)]


def _happenings(happenings: Iterable[Happening], moment_vns: int) -> list[str]:
    rows = [
        (format_seconds(h.at.vns), words.before(h.at.vns, moment_vns), words.machine(h.at.vm), h.kind,
         ("**!** " if h.failed else "") + _code(h.text))
        for h in happenings
    ]  # fmt: skip
    return _table(("time, s", "before", "machine", "", "what"), rows)


def _machines(report: Report) -> list[str]:
    lines = ["## Machines at this moment", ""]
    for machine in report.machines:
        lines += _machine(machine)
    return lines


def _machine(m: MachineFacts) -> list[str]:
    who = f", {_code(m.process)}" if m.process else ""
    registers = [f"{name:8} {value:#018x}" for name, value in m.registers.items()]
    return [
        f"### vm{m.vm}: {m.state}{who}, {m.mode} mode, instruction {m.instret}",
        "",
        *_block([f"#{at} {frame.address:#018x} {frame.name}" for at, frame in enumerate(m.stack)]),
        *_details("Console", _block(f"{format_seconds(line.vns)} {line.text}" for line in m.console)),
        *_details("Registers", _block(registers)),
    ]


def _causality(report: Report, causality: Causality) -> list[str]:
    moment_vns = report.moment.vns
    lines = ["## Causality", "", words.causality_text(causality, moment_vns), ""]
    if not causality.judged_outside:
        reaches = [(f"vm{m.vm}", words.reach_text(causality, m.vm, moment_vns)) for m in report.machines]
        lines += _table(("machine", "what can have had an effect"), reaches)
    vms = range(len(report.machines)) if report.bug.at.vm < 0 else (report.bug.at.vm,)
    for vm in vms:
        if causality.chains[vm]:
            lines += [f"The chain of messages that leads to vm{vm}, the last one first:", ""]
            lines += _messages(causality, causality.chains[vm], moment_vns)
    shown = range(len(causality.messages))[-MESSAGES_SHOWN:]
    return lines + _details(f"The last {len(shown)} messages", _messages(causality, shown, moment_vns))


def _messages(causality: Causality, places: Iterable[int], moment_vns: int) -> list[str]:
    rows = [
        (words.before(m.sent_vns, moment_vns), f"vm{m.src} → vm{m.dst}", m.fate, _code(words.message_text(m)),
         f"{m.payload_bytes} bytes")
        for m in (causality.messages[place] for place in places)
    ]  # fmt: skip
    return _table(("sent", "way", "", "message", ""), rows)


def _schedule(report: Report) -> list[str]:
    schedule = report.schedule
    lines = ["## Schedule", "", words.MINIMISED if schedule.minimised else words.NOT_MINIMISED, ""]
    if schedule.inputs:
        rows = [(format_seconds(h.at.vns), words.machine(h.at.vm), _code(h.text)) for h in schedule.inputs]
        lines += _table(("time, s", "machine", "given"), rows)
    for toml in (report.origin.recipe.schedule, *schedule.schedules):
        lines += _details("Faults to come, as TOML", _block(toml.splitlines(), "toml")) if toml else []
    return lines


def _others(report: Report) -> list[str]:
    if not report.others:
        return []
    rows = [
        (
            str(other.number),
            f"{other.branch}@{format_seconds(other.at.vns)}",
            words.machine(other.at.vm),
            _code(other.name),
        )
        for other in report.others
    ]
    return ["## Other bugs of this history", "", *_table(("bug", "where", "machine", "property"), rows)]


def _recipe(report: Report) -> list[str]:
    rows = [(name, _code(text)) for name, text in words.recipe_rows(report)]
    return ["## Recipe", "", *_table(("", ""), rows)]


__all__ = ["render"]
