"""The command language: every action of the program has a command, the same from a key, the `:` line or a script."""

from cc_tui.commands.bench import Answer, Bench, Notice
from cc_tui.commands.engine import EngineCommand, carry_out
from cc_tui.commands.language import CommandError
from cc_tui.commands.registry import BY_NAME, SPECS, Command, FrontendCommand, Spec, parse, parse_script

__all__ = [
    "BY_NAME",
    "SPECS",
    "Answer",
    "Bench",
    "Command",
    "CommandError",
    "EngineCommand",
    "FrontendCommand",
    "Notice",
    "Spec",
    "carry_out",
    "parse",
    "parse_script",
]
