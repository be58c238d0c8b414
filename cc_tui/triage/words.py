"""Words that every form of a report uses: times, machines, the sentences about what is known and what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaoscontrol.config import format_bytes
from chaoscontrol.timetravel import format_seconds

if TYPE_CHECKING:
    from chaoscontrol.triage.report import Causality, Message, PropertyHistory, Report

HAPPENINGS_SHOWN = 24
"""The last ones of the timeline; JSON has all."""


def machine(vm: int) -> str:
    """`vm0`, or the cluster."""
    return "cluster" if vm < 0 else f"vm{vm}"


def span(ns: int) -> str:
    """A length of time with three or four digits: `27.1 ms`."""
    for unit, unit_ns in (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)):
        if ns >= unit_ns:
            return f"{ns / unit_ns:.4g} {unit}"
    return f"{ns} ns"


def before(vns: int, moment_vns: int) -> str:
    """How far before the moment: `-27.1 ms`."""
    return "0" if vns >= moment_vns else f"\N{MINUS SIGN}{span(moment_vns - vns)}"


def until(end_ns: int | None) -> str:
    """When a fault ended."""
    return "still in effect" if end_ns is None else f"{format_seconds(end_ns)} s"


def message_text(message: Message) -> str:
    """What a message says, as far as that is known."""
    return message.meaning or message.summary


def history_text(history: PropertyHistory) -> str:
    """One sentence about how a property stood."""
    if not history.passes and not history.fails:
        return "It was not evaluated by this moment."
    held = f"held {history.passes} times" if history.passes else "never held"
    broke = f"was broken {history.fails} times" if history.fails != 1 else "was broken once"
    return f"By this moment it {held} and {broke}."


def reach_text(causality: Causality, vm: int, moment_vns: int) -> str:
    """What of a machine can have had an effect."""
    reach = causality.reaches[vm]
    if reach is None:
        return "nothing that it did in this window"
    if reach >= moment_vns:
        return "everything up to the failure"
    return f"what it did up to {format_seconds(reach)} s ({before(reach, moment_vns)})"


def causality_text(causality: Causality, moment_vns: int) -> str:
    """What the messages were taken from, and what that proves."""
    window = span(moment_vns - causality.from_vns)
    text = (
        f"Of the last {window}, {causality.in_past} frames happened before the failure and {causality.lost} were lost. "
    )
    if causality.missed:
        text += f"{causality.missed} more found no room, so this is not all. "
    if causality.judged_outside:
        return text + "The property is judged over what all machines report, so all that they did before counts."
    return text + "What did not happen before it, by the order that messages make, cannot have caused it."


def recipe_rows(report: Report) -> list[tuple[str, str]]:
    """What the history is made from."""
    recipe, recording = report.origin.recipe, report.origin.recording
    rows: list[tuple[str, str]] = []
    if recording is not None:
        rows.append(("recording", f"{recording.name}, {recording.size} bytes, SHA-256 {recording.sha256}"))
    rows += [("scenario", recipe.scenario)] if recipe.scenario else []
    rows += [
        ("made by", recipe.made_by),
        ("engine", f"{recipe.engine}, vCPU {recipe.vcpu}"),
        ("machines", f"{recipe.machines} with {format_bytes(recipe.memory_bytes)}, tick {span(recipe.quantum_ns)}"),
        ("seed", str(recipe.seed)),
    ]
    return rows + [(image.role, f"{image.name}, {image.size} bytes, SHA-256 {image.sha256}") for image in recipe.images]


REPRODUCED = (
    "It lives through the history again, compares every digest and event on the way, and ends with 0 when the bug is "
    "back. To look around at the moment:"
)
"""Between the two commands of a Reproduction."""
NOT_MINIMISED = "Nobody has tried to leave anything out: this schedule has not been minimised."
MINIMISED = "Everything that is not needed for the bug was taken out."
"""About ScheduleFacts.minimised."""
