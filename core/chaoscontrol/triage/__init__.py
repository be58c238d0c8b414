"""Triage: what is known of one bug, collected from its history. Who shows it is elsewhere."""

from chaoscontrol.triage.collect import WINDOW_NS, Bug, TriageEngine, bugs, find_bug, known_by, position_of
from chaoscontrol.triage.origin import recipe_of, recording_file
from chaoscontrol.triage.report import VERSION, Origin, Recipe, Report, Reproduction, Severity

__all__ = [
    "VERSION",
    "WINDOW_NS",
    "Bug",
    "Origin",
    "Recipe",
    "Report",
    "Reproduction",
    "Severity",
    "TriageEngine",
    "bugs",
    "find_bug",
    "known_by",
    "position_of",
    "recipe_of",
    "recording_file",
]
