"""Making a report of what a bench has before it, and the commands by which others see the bug again."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from cc_tui.commands.language import quote
from cc_tui.commands.place import exact_place
from cc_tui.diagnostics import PROGRAM
from cc_tui.triage import html, markdown
from chaoscontrol.errors import UsageError
from chaoscontrol.scenario import load_describer
from chaoscontrol.triage import Bug, Origin, Report, Reproduction, TriageEngine, known_by, recording_file

if TYPE_CHECKING:
    from cc_tui.about import About
    from cc_tui.commands.bench import Bench
    from chaoscontrol.timetravel import Moment


def render(report: Report, form: str) -> str:
    """The report as `markdown`, `json` or `html`."""
    match form:
        case "markdown":
            return markdown.render(report)
        case "html":
            return html.render(report)
        case _:
            return json.dumps(report.as_document(), ensure_ascii=True, indent=1) + "\n"


def report_of(bench: Bench, number: int, window_ns: int) -> Report:
    """The report of a bug of the bench's history; the cursor stays where it is. Raises ChaosControlError."""
    about = bench.about
    if about is None:
        raise UsageError("nobody could repeat it: what this session's cluster was made from is not known")
    recording = None if about.path is None else recording_file(about.path)

    def origin(bug: Bug, moment: Moment) -> Origin:
        return Origin(about.recipe(), recording, _reproduction(bench, about, bug, moment))

    return TriageEngine(
        bench.multiverse,
        origin,
        files=bench.files(),
        network=bench.network,
        meaning_of=None if about.observer is None else load_describer(about.observer),
    ).triage(number, window_ns=window_ns)


def _reproduction(bench: Bench, about: About, bug: Bug, moment: Moment) -> Reproduction:
    branch = bench.multiverse.find_branch(bug.branch)
    for number, (name, failure) in enumerate(about.recorded if about.path is not None else (), 1):
        if failure == bug.failure and name in (branch.name, *branch.former):
            path, there = shlex.quote(about.path or ""), replace(moment, branch=name)  # as the recording calls it
            return Reproduction(
                f"{PROGRAM} replay {path} --bug {number}", f"{PROGRAM} open {path} --at {shlex.quote(str(there))}"
            )
    script = bench.script.text(bench.heading).rstrip("\n")
    known = exact_place(bug.branch, known_by(bench.multiverse, bug))
    check = f"goto {moment}\ngoto {known}\nassert property {quote(bug.failure.name)} failed"
    return Reproduction(_heredoc(bench, f"{script}\n{check}"), _heredoc(bench, f"{script}\ngoto {moment}\nwhere"))


def _heredoc(bench: Bench, script: str) -> str:
    """The command line that opened the session, with a script to carry out."""
    return f"{PROGRAM} --script -{bench.heading.removeprefix(PROGRAM)} <<'END'\n{script}\nEND"


__all__ = ["render", "report_of"]
