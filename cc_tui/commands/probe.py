"""The command `probe`: what would a guest answer, had it been asked at this moment? Nobody ever asks it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cc_tui.commands.engine import EngineCommand, place_data, refuse_machine
from cc_tui.commands.language import quote
from chaoscontrol.agent import SHELL
from chaoscontrol.debug import ProbeResult, probe

if TYPE_CHECKING:
    from cc_tui.commands.bench import Bench


@dataclass(frozen=True, slots=True)
class Probe(EngineCommand):
    """Run a command in a guest, in a fork that is thrown away.

    Several words are a program and its arguments; a single one with blanks is for the guest's shell, if it has one.
    """

    moves: ClassVar[bool] = True
    scripted: ClassVar[bool] = False
    machine: int
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(["probe", f"vm{self.machine}", *map(quote, self.words)])

    @property
    def argv(self) -> tuple[str, ...]:
        """What is started."""
        only = self.words[0] if len(self.words) == 1 else ""
        return (SHELL, "-c", only) if any(map(str.isspace, only)) else self.words

    def run(self, bench: Bench) -> None:
        refuse_machine(bench, self.machine)
        before = bench.multiverse.moment()
        result = probe(bench.multiverse, self.machine, self.argv)
        after = bench.multiverse.moment()
        assert str(after) == str(before), "a probe leaves no trace"
        output = result.output.decode(errors="replace")
        lines = output.split("\n")
        lines = lines[:-1] if lines[-1] == "" else lines
        lines += ["(there was more output)"] if result.truncated else []
        data = {
            "machine": self.machine, "command": list(self.argv), "output": output, "truncated": result.truncated,
            "exited": result.exited, "status": result.status, "timed_out": result.timed_out, "took_ns": result.took_ns,
            "before": place_data(before), "after": place_data(after),
        }  # fmt: skip
        bench.answer([*lines, f"{_ending(result)} after {result.took_ns / 1e6:.6f} ms; still at {after}"], data)


def _ending(result: ProbeResult) -> str:
    if result.timed_out:
        return "killed when its time was over"
    return f"exit status {result.status}" if result.exited else f"ended by signal {result.status}"


__all__ = ["Probe"]
