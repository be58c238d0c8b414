"""A report as one HTML file: nothing is loaded from elsewhere, and nothing in it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cc_tui.console_text import safe_line
from cc_tui.triage import words
from cc_tui.triage.drawing import overview, sequence
from cc_tui.triage.elements import Element, el, to_html
from chaoscontrol.timetravel import format_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cc_tui.triage.elements import Child
    from chaoscontrol.triage.report import Causality, Happening, MachineFacts, Report


HOW_TO_READ = (
    "The last messages, downwards in time; every sending, arrival and event has a row of its own, so lengths say "
    "nothing about durations."
)
CHAIN = " Bold: the chain of messages that leads to the failing machine."


def render(report: Report) -> str:
    """The whole file."""
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", f"{report.bug.name} – cc-tui triage"),
    )
    body = el(
        "body",
        *_head(report),
        *_history(report),
        *_messages(report),
        *_timeline(report),
        *_machines(report),
        *_property(report),
        *_schedule(report),
        *_others(report),
        *_recipe(report),
        el(
            "footer",
            f"Made by cc-tui {report.origin.recipe.engine} from a history that happens again, exactly like this.",
        ),
    )
    page = to_html(el("html", head, body, lang="en"))
    # The style sheet is ours: written as text it would be escaped.
    return f"<!doctype html>\n{page}\n".replace("</head>", f"<style>\n{style}</style></head>", 1)


# ---- pieces ----------------------------------------------------------------------------------------------------------


def _section(title: str, *children: Child) -> list[Element]:
    return [el("section", el("h2", title), *children)]


def _table(head: Sequence[str], rows: Iterable[Element]) -> Element:
    top = el("thead", el("tr", *(el("th", name) for name in head)))
    return el("div", el("table", top, el("tbody", *rows)), class_="scroll")


def _row(*cells: tuple[str, str], class_: str = "") -> Element:
    """Cells as (text, class)."""
    return el("tr", *(el("td", text, class_=kind) for text, kind in cells), class_=class_)


def _who(vm: int) -> tuple[str, str]:
    return words.machine(vm), f"who vm{vm % 6}" if vm >= 0 else "who"


def _pre(lines: Iterable[str]) -> Element:
    """Lines of text; each is made safe by itself."""
    block = el("pre")
    for line in lines:
        block.append(el("span", line))
        block[-1].tail = "\n"
    return block


def _command(text: str) -> Element:
    block = el("code", class_="copy")
    block.text = "\n".join(map(safe_line, text.split("\n")))
    return block


def _details(summary: str, *children: Child, open_: bool = False) -> Element:
    found = el("details", el("summary", summary), *children)
    if open_:
        found.set("open", "open")
    return found


# ---- sections --------------------------------------------------------------------------------------------------------


def _head(report: Report) -> list[Child]:
    bug, moment, recipe = report.bug, report.moment, report.origin.recipe
    source = "" if report.origin.recording is None else f" of {report.origin.recording.name}"
    facts = [
        ("where", f"{words.machine(bug.at.vm)}, branch {bug.branch}"),
        ("time", f"{format_seconds(bug.at.vns)} s"),
        ("tick", str(moment.tick)),
        ("instruction", str(bug.at.instret) if bug.at.vm >= 0 else "—"),
        ("scenario", recipe.scenario or "—"),
        ("seed", str(recipe.seed)),
    ]
    rows = [el("div", el("dt", name), el("dd", text)) for name, text in facts]
    exact = el("div", el("dt", "exact moment, for goto"), el("dd", el("code", moment.text)), class_="wide")
    reproduction = report.origin.reproduction
    return [
        el(
            "div",
            el("span", str(report.severity), class_=f"badge {report.severity}"),
            el("span", report.severity_why),
            el("span", f"bug {bug.number}{source}"),
            class_="kicker",
        ),
        el("h1", bug.name),
        el("div", bug.details, class_="said") if bug.details else None,
        el("dl", *rows, exact, class_="facts"),
        *_section(
            "Reproduce",
            _command(reproduction.command),
            el("p", words.REPRODUCED, class_="faint"),
            _command(reproduction.look),
        ),
    ]  # fmt: skip


def _history(report: Report) -> list[Element]:
    text = (
        "Faults, and how much each machine said. "
        if report.faults
        else "How much each machine said; no fault had begun. "
    )
    return _section("The whole history", el("p", text, class_="faint"), el("div", overview(report), class_="scroll"))


def _messages(report: Report) -> list[Element]:
    causality = report.causality
    if causality is None:
        return []
    moment_vns = report.moment.vns
    drawing = sequence(report, causality)
    children: list[Child] = [el("p", words.causality_text(causality, moment_vns))]
    if not causality.judged_outside:
        children.append(_reaches(report, causality))
    if drawing is not None:
        children += [
            el("p", HOW_TO_READ + (CHAIN if report.bug.at.vm >= 0 else ""), class_="faint"),
            el("div", drawing, class_="scroll"),
        ]
    return _section("What led to it", *children)


def _reaches(report: Report, causality: Causality) -> Element:
    rows = [
        _row(_who(machine.vm), (words.reach_text(causality, machine.vm, report.moment.vns), "text"))
        for machine in report.machines
    ]
    return _table(("machine", "what can have had an effect"), rows)


def _timeline(report: Report) -> list[Element]:
    shown, earlier = report.timeline[-words.HAPPENINGS_SHOWN :], report.timeline[: -words.HAPPENINGS_SHOWN]
    children: list[Child] = [_happenings(shown, report.moment.vns)]
    if earlier:
        children.insert(0, _details(f"{len(earlier)} earlier ones", _happenings(earlier, report.moment.vns)))
    return _section("What happened", *children)


def _happenings(happenings: Iterable[Happening], moment_vns: int) -> Element:
    rows = [
        _row(
            (format_seconds(h.at.vns), "num"),
            (words.before(h.at.vns, moment_vns), "num"),
            _who(h.at.vm),
            (h.kind, "faint"),
            (h.text, "text mono"),
            class_="failed" if h.failed else "",
        )
        for h in happenings
    ]
    return _table(("time, s", "before", "machine", "", "what"), rows)


def _machines(report: Report) -> list[Element]:
    cards = [_card(machine, failing=machine.vm == report.bug.at.vm) for machine in report.machines]
    return _section("The machines at this moment", el("div", *cards, class_="cards"))


def _card(m: MachineFacts, *, failing: bool) -> Element:
    who = f"{m.process}, " if m.process else ""
    return el(
        "div",
        el("h3", f"vm{m.vm} {m.state}"),
        el("p", f"{who}{m.mode} mode, instruction {m.instret}", class_="state"),
        _pre(f"#{at} {frame.address:#018x} {frame.name}" for at, frame in enumerate(m.stack)),
        _details("Console", _pre(f"{format_seconds(line.vns)} {line.text}" for line in m.console), open_=failing),
        _details("Registers", _pre(f"{name:8} {value:#018x}" for name, value in m.registers.items())),
        class_=f"card vm{m.vm % 6}" + (" failing" if failing else ""),
    )


def _property(report: Report) -> list[Element]:
    history = report.property
    children: list[Child] = [el("p", f"Kind {history.kind}. {words.history_text(history)}")]
    if history.evaluations:
        rows = [
            _row((format_seconds(e.at.vns), "num"), _who(e.at.vm), ("held" if e.held else "broken", ""),
                 (str(e.evaluations), "num"), (e.details, "text mono"), class_="" if e.held else "failed")
            for e in history.evaluations
        ]  # fmt: skip
        children.append(_table(("time, s", "machine", "", "evaluation", "details"), rows))
    return _section("The property's history", *children)


def _schedule(report: Report) -> list[Element]:
    schedule = report.schedule
    children: list[Child] = [el("p", words.MINIMISED if schedule.minimised else words.NOT_MINIMISED, class_="faint")]
    if schedule.inputs:
        rows = [_row((format_seconds(h.at.vns), "num"), _who(h.at.vm), (h.text, "text mono")) for h in schedule.inputs]
        children.append(_table(("time, s", "machine", "given"), rows))
    for toml in (report.origin.recipe.schedule, *schedule.schedules):
        if toml:
            children.append(_details("Faults to come, as TOML", _pre(toml.splitlines())))
    return _section("The schedule", *children)


def _others(report: Report) -> list[Element]:
    if not report.others:
        return []
    rows = [
        _row((str(o.number), "num"), (f"{o.branch}@{format_seconds(o.at.vns)}", "num"), _who(o.at.vm), (o.name, "text"))
        for o in report.others
    ]
    return _section("Other bugs of this history", _table(("bug", "where", "machine", "property"), rows))


def _recipe(report: Report) -> list[Element]:
    rows = [_row((name, "faint"), (text, "text mono")) for name, text in words.recipe_rows(report)]
    return _section("The recipe", _table(("", ""), rows))


__all__ = ["render"]
